"""Encoders of texts: functions from texts to vectors of one size, in which methods optimise and students learn.

A representation (`potstill.data.text_representations`) is fitted on training texts alone; an encoder is the result. Its
tensors are stored in a set's file, so that a reader encodes new texts as the set's own were.
"""

import hashlib
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from potstill._util.progress import Callback
from potstill.core import InputSpec, Normalization
from potstill.errors import PotstillError

__all__ = [
    "MOST_SIZE", "TOKENS", "HashedEncoder", "OwnEncoder", "Representation", "TextEncoder", "WordEncoder",
    "encode_inputs", "encoded_spec", "note_wordless", "text_normalization", "text_part", "weighted_counts",
]  # fmt: skip

TOKENS = r"(?u)\b\w\w+\b"
"""Words of two characters or more, as scikit-learn splits them."""
MOST_SIZE = 1 << 16
"""Numbers of a vector, at most."""
_AT_ONCE = 4096


@runtime_checkable
class TextEncoder(Protocol):
    """Function from texts to vectors, with the state that a reader needs to repeat it."""

    @property
    def name(self) -> str:
        """Representation with its settings, such as ``latent:size=64,words=4096``."""
        ...

    @property
    def size(self) -> int:
        """Numbers of one vector."""
        ...

    @property
    def is_stored(self) -> bool:
        """True if its tensors and its name are enough to encode texts."""
        ...

    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        """Return one vector for each text; a text without a known word gives zeros."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """Return its state by name."""
        ...


@runtime_checkable
class Representation(Protocol):
    """Settings of an encoder that is not fitted."""

    @property
    def name(self) -> str: ...
    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> TextEncoder:
        """Return the encoder fitted on training texts.

        Args:
            texts: of the training part.
            progress: callback ``progress(name, done, total)`` where it takes long.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Encoder:
    """Common parts of built-in encoders."""

    name: str
    size: int

    @property
    def is_stored(self) -> bool:
        return True

    @abstractmethod
    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        """Return one vector for each text."""

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of name and state."""
        found = hashlib.sha256(f"{self.name} {self.size}".encode())
        for name, tensor in sorted(self.tensors().items()):
            found.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.size} numbers)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Encoder) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WordEncoder(_Encoder):
    """Sum of word vectors, weighted by TF-IDF and of length 1; the vectors are whole numbers of 8 bits."""

    words: tuple[str, ...]
    """Vocabulary in the order of ``components``."""
    idf: Float32[Tensor, " v"]
    components: Tensor
    """Word vectors, int8 (v, d)."""
    scale: Float32[Tensor, " d"]
    """Value of one step of each number."""

    @classmethod
    def of(
        cls, name: str, words: Sequence[str], idf: Float32[Tensor, " v"], vectors: Float[Tensor, "v d"]
    ) -> "WordEncoder":
        """Return the encoder with these word vectors, rounded to 8 bits a number."""
        x = vectors.double().numpy()
        scale = np.maximum(np.abs(x).max(0) / 127, 1e-12).astype(np.float32)
        steps = np.rint(x / scale.astype(np.float64)).clip(-127, 127).astype(np.int8)
        return cls(
            name=name, size=x.shape[1], words=tuple(words), idf=idf,
            components=torch.from_numpy(np.ascontiguousarray(steps)), scale=torch.from_numpy(scale),
        )  # fmt: skip

    @cached_property
    def _counter(self) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(vocabulary={w: i for i, w in enumerate(self.words)}, token_pattern=TOKENS)

    @cached_property
    def _directions(self) -> Any:
        return self.components.double().numpy() * self.scale.double().numpy()

    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        idf = self.idf.numpy()
        parts = [
            _unit_rows(weighted_counts(self._counter.transform(texts[i : i + _AT_ONCE]), idf) @ self._directions)
            for i in range(0, len(texts), _AT_ONCE)
        ]
        found = np.concatenate(parts) if parts else np.zeros((0, self.size))
        return torch.from_numpy(found.astype(np.float32))

    def tensors(self) -> Mapping[str, Tensor]:
        listed = zlib.compress("\n".join(self.words).encode(), 9)
        return {
            "words": torch.frombuffer(bytearray(listed), dtype=torch.uint8), "idf": self.idf,
            "components": self.components, "scale": self.scale,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HashedEncoder(_Encoder):
    """Words counted in ``size`` cells by a hash with a sign, each text of length 1."""

    @cached_property
    def _hasher(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(n_features=self.size, token_pattern=TOKENS)

    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        if not texts:
            return torch.zeros(0, self.size)
        return torch.from_numpy(self._hasher.transform(texts).toarray().astype(np.float32))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class OwnEncoder(_Encoder):
    """A user's function from a list of texts to an array (n, d). It is in no file."""

    function: Callable[[list[str]], Any]

    @property
    def is_stored(self) -> bool:
        return False

    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        found = self.function(list(texts))
        x = torch.as_tensor(np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found))
        if x.ndim != 2 or len(x) != len(texts) or x.shape[1] != self.size or not x.is_floating_point():
            raise PotstillError(
                f"encode must return an array of real numbers ({len(texts)}, {self.size}), not {x.dtype} of "
                f"{list(x.shape)}; correct it"
            )
        if not bool(torch.isfinite(x).all()):
            row = int((~torch.isfinite(x).all(1)).nonzero()[0, 0])
            raise PotstillError(f"encode returns a number that is not finite for text {row + 1}; correct it")
        return x.float().contiguous()


def text_normalization(x: Float32[Tensor, "n d"]) -> Normalization:
    """Return the normalization of vectors of texts: one factor for all, so that angles between texts stay.

    Standardising each number would raise the directions that say least.
    """
    square = float(x.double().square().mean())
    return Normalization(torch.zeros(x.shape[1]), torch.full((x.shape[1],), max(square, 1e-12) ** 0.5))


@runtime_checkable
class HasTexts(Protocol):
    """Samples with their texts."""

    @property
    def inputs(self) -> Any: ...
    @property
    def texts(self) -> tuple[str, ...]: ...


def text_part(spec: InputSpec) -> str:
    """Return the part of pairs that is a text as a vector; empty where there is none, or inputs are one tensor."""
    return next((name for name, part in spec.parts if part.kind == "text"), "")


def encode_inputs(encoder: TextEncoder, samples: HasTexts, spec: InputSpec) -> Any:
    """Return the inputs with their texts as vectors of ``encoder``: all of them, or one part of pairs."""
    vectors, part = encoder.encode(samples.texts), text_part(spec)
    return {**samples.inputs, part: vectors} if part else vectors


def note_wordless(vectors: Any, name: str) -> list[str]:
    """Return a note on training texts whose vectors are zeros: no word of them is known.

    Args:
        vectors: of the training texts; of pairs by part, which are not looked at.
        name: of the data.

    Raises:
        PotstillError: all are zeros.
    """
    if not isinstance(vectors, Tensor):
        return []
    count = int((vectors == 0).all(1).sum())
    if count == len(vectors):
        raise PotstillError(
            f"{name}: texts must have words of two letters or more, and these have none; give an encode of your own "
            "(in Python)"
        )
    said = "have no word that the representation knows; their vectors are zeros"
    return [f"{name}: {count:,} of {len(vectors):,} training texts {said}"] if count else []


def encoded_spec(spec: InputSpec, size: int) -> InputSpec:
    """Return the spec of inputs whose texts are vectors of ``size`` numbers."""
    if not (part := text_part(spec)):
        return replace(spec, shape=(size,))
    return replace(spec, parts=tuple((n, replace(p, shape=(size,)) if n == part else p) for n, p in spec.parts))


def weighted_counts(counts: Any, idf: npt.NDArray[np.float32]) -> Any:
    """Return (1 + ln count) · idf of each word, rows of length 1, as a sparse float64 matrix."""
    weighted = counts.astype(np.float64)
    weighted.sort_indices()
    weighted.data = (1 + np.log(weighted.data)) * idf.astype(np.float64)[weighted.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    weighted.data /= np.repeat(np.where(length > 0, length, 1), np.diff(weighted.indptr))
    return weighted


def _unit_rows(x: Any) -> Any:
    length = np.sqrt((x * x).sum(1, keepdims=True))
    return x / np.where(length > 1e-9, length, 1)
