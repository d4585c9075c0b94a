"""Representations of texts: vectors of one size, in which methods optimise and students learn.

``latent``: word counts weighted by TF-IDF, then the leading directions of their matrix (latent semantic analysis).
``hashed``: words counted in a fixed number of cells, which needs no state. Or a user's own function.
A representation is fitted on training texts alone; an encoder is the result. Its tensors are stored in a set's file,
so that a reader encodes new texts as the set's own were.
"""

import hashlib
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32
from torch import Tensor

from potstill.core import InputSpec, Normalization
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "FittedRepresentation", "Hashed", "HashedEncoder", "Latent", "LatentEncoder", "OwnEncoder", "OwnRepresentation",
    "Representation", "TextEncoder", "encode_inputs", "encoded_spec", "encoder_from_tensors",
    "parse_representation", "text_normalization", "text_part",
]  # fmt: skip

TOKENS = r"(?u)\b\w\w+\b"
"""Words of two characters or more, as scikit-learn splits them."""
MOST_SIZE, MOST_WORDS = 1 << 16, 1 << 20
_MOST_VOCABULARY = 1 << 26
"""Bytes of a vocabulary that is read from a file."""
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
    def fit(self, texts: Sequence[str], /) -> TextEncoder:
        """Return the encoder fitted on training texts."""
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
class LatentEncoder(_Encoder):
    """TF-IDF and the leading directions of latent semantic analysis, in whole numbers of 8 bits."""

    words: tuple[str, ...]
    """Vocabulary in the order of ``components``."""
    idf: Float32[Tensor, " v"]
    components: Tensor
    """int8 (v, d)."""
    scale: Float32[Tensor, " d"]
    """Value of one step of each direction."""

    @cached_property
    def _counter(self) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(vocabulary={w: i for i, w in enumerate(self.words)}, token_pattern=TOKENS)

    @cached_property
    def _directions(self) -> Any:
        return self.components.double().numpy() * self.scale.double().numpy()

    def encode(self, texts: Sequence[str], /) -> Float32[Tensor, "n d"]:
        parts = [
            _unit_rows(_weighted(self._counter.transform(texts[i : i + _AT_ONCE]), self.idf.numpy()) @ self._directions)
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


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Latent semantic analysis of TF-IDF (scikit-learn's ``TruncatedSVD``), each text of length 1.

    Raises:
        PotstillError: a setting out of its range.
    """

    size: int = 64
    """Leading directions, at most."""
    words: int = 4096
    """Words of the vocabulary, at most: the most frequent of those in two texts or more."""

    def __post_init__(self) -> None:
        _check_range("latent", "size", self.size, MOST_SIZE)
        _check_range("latent", "words", self.words, MOST_WORDS)

    @property
    def name(self) -> str:
        return f"latent:size={self.size},words={self.words}"

    def fit(self, texts: Sequence[str], /) -> LatentEncoder:
        """Return the encoder of these training texts.

        Raises:
            PotstillError: the texts have fewer than two words in common.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import CountVectorizer

        for least in (2, 1):  # of a handful of texts no word may stand in two
            counter = CountVectorizer(token_pattern=TOKENS, min_df=least, max_features=self.words)
            try:
                counts = counter.fit_transform(texts)
            except ValueError:  # an empty vocabulary
                continue
            if counts.shape[1] >= 2:
                break
        else:
            raise PotstillError(
                "texts must have words of two letters or more, and these have fewer than two such words; give an "
                "encode of your own (in Python)"
            )
        present = np.asarray((counts > 0).sum(0)).ravel()
        idf = (np.log((1 + len(texts)) / (1 + present)) + 1).astype(np.float32)
        size = min(self.size, counts.shape[1] - 1, max(1, len(texts) - 1))
        weighted = _weighted(counts, idf)
        directions = TruncatedSVD(size, random_state=0, n_iter=7).fit(weighted).components_
        scale = np.maximum(np.abs(directions).max(1) / 127, 1e-12).astype(np.float32)
        steps = np.rint(directions / scale[:, None].astype(np.float64)).clip(-127, 127).astype(np.int8)
        return LatentEncoder(
            name=self.name, size=size, words=tuple(counter.get_feature_names_out().tolist()),
            idf=torch.from_numpy(idf), components=torch.from_numpy(np.ascontiguousarray(steps.T)),
            scale=torch.from_numpy(scale),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """Words counted in cells by a hash (scikit-learn's ``HashingVectorizer``): no state, so no bytes in a file.

    Raises:
        PotstillError: a setting out of its range.
    """

    size: int = 1024
    """Cells."""

    def __post_init__(self) -> None:
        _check_range("hashed", "size", self.size, MOST_SIZE)

    @property
    def name(self) -> str:
        return f"hashed:size={self.size}"

    def fit(self, texts: Sequence[str], /) -> HashedEncoder:
        return HashedEncoder(name=self.name, size=self.size)


@dataclass(frozen=True, kw_only=True)
class OwnRepresentation:
    """A user's function; its size is that of its first vectors."""

    function: Callable[[list[str]], Any]
    label: str = field(default="")
    """Its name in the metadata; empty: the function's."""

    @property
    def name(self) -> str:
        return f"own:{self.label or getattr(self.function, '__name__', type(self.function).__name__)}"

    def fit(self, texts: Sequence[str], /) -> OwnEncoder:
        found = self.function(list(texts[:2]))
        shape = tuple(getattr(found, "shape", ())) or np.asarray(found).shape
        if len(shape) != 2 or shape[0] != len(texts[:2]) or not 1 <= shape[1] <= MOST_SIZE:
            raise PotstillError(
                f"encode must return one row of 1 to {MOST_SIZE:,} numbers for each text, not {list(shape)} for "
                f"{len(texts[:2])} texts; correct it"
            )
        return OwnEncoder(name=self.name, size=shape[1], function=self.function)


@dataclass(frozen=True, kw_only=True)
class FittedRepresentation:
    """An encoder that was fitted before, on other texts."""

    encoder: TextEncoder

    @property
    def name(self) -> str:
        return self.encoder.name

    def fit(self, texts: Sequence[str], /) -> TextEncoder:
        return self.encoder


_FORMS: dict[str, Any] = {"latent": Latent, "hashed": Hashed}


def parse_representation(spelled: str | None) -> Latent | Hashed:
    """Return the representation ``NAME`` or ``NAME:setting=value,…``; ``None``: ``latent``.

    Raises:
        PotstillError: no such name or setting, or a value that is no whole number.
    """
    name, _, settings = (spelled or "latent").partition(":")
    if name not in _FORMS:
        raise unknown_name("representation", name, _FORMS)
    known = {f.name for f in fields(_FORMS[name])}
    values = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in known or not value.isdecimal():
            raise PotstillError(
                f"representation {name} has whole numbers for {' and '.join(sorted(known))}, not {setting[:40]!r}; "
                f'for example `representation="{name}:size=128"`'
            )
        values[key] = int(value[:12])
    representation: Latent | Hashed = _FORMS[name](**values)
    return representation


def encoder_from_tensors(name: object, size: int, tensors: Mapping[str, Tensor]) -> LatentEncoder | HashedEncoder:
    """Return the encoder in a file, checked.

    Args:
        name: as the metadata have it.
        size: numbers of one input of the set.

    Raises:
        PotstillError: it is of another form, or its tensors do not fit each other.
    """
    damaged = PotstillError("its text encoder is damaged or of another form; get the file again")
    if not isinstance(name, str) or name.partition(":")[0] not in _FORMS:
        raise damaged
    form = parse_representation(name[:200])
    if isinstance(form, Hashed):
        if tensors or size != form.size:
            raise damaged
        return form.fit(())
    if set(tensors) != {"words", "idf", "components", "scale"}:
        raise damaged
    listed, idf, components, scale = (tensors[n] for n in ("words", "idf", "components", "scale"))
    types = (torch.uint8, torch.float32, torch.int8, torch.float32)
    if tuple(t.dtype for t in (listed, idf, components, scale)) != types or listed.ndim != 1 or components.ndim != 2:
        raise damaged
    unpacked = zlib.decompressobj()
    try:
        words = tuple(unpacked.decompress(listed.numpy().tobytes(), _MOST_VOCABULARY).decode().split("\n"))
    except (zlib.error, UnicodeDecodeError):
        raise damaged from None
    if not unpacked.eof:
        raise damaged
    shapes = (tuple(idf.shape), tuple(components.shape), tuple(scale.shape))
    finite = all(bool(torch.isfinite(t).all()) for t in (idf, scale))
    if shapes != ((len(words),), (len(words), size), (size,)) or not finite or len(set(words)) != len(words):
        raise damaged
    return LatentEncoder(name=form.name, size=size, words=words, idf=idf, components=components, scale=scale)


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


def encoded_spec(spec: InputSpec, size: int) -> InputSpec:
    """Return the spec of inputs whose texts are vectors of ``size`` numbers."""
    if not (part := text_part(spec)):
        return replace(spec, shape=(size,))
    return replace(spec, parts=tuple((n, replace(p, shape=(size,)) if n == part else p) for n, p in spec.parts))


def _check_range(name: str, setting: str, value: int, most: int) -> None:
    if not 2 <= value <= most:
        raise PotstillError(f"representation {name}: {setting} must be from 2 to {most:,}, not {value:,}")


def _weighted(counts: Any, idf: npt.NDArray[np.float32]) -> Any:
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
