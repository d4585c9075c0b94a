"""Representations of texts, which are fitted on training texts alone; an encoder is the result.

``latent``: word counts weighted by TF-IDF, then the leading directions of their matrix (latent semantic analysis).
``tokens``: word vectors that a small network learns of these texts.
``hashed``: words counted in a fixed number of cells, which needs no state. Or a user's own function.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from potstill._util.progress import Callback
from potstill.data.text_encoder import (
    MOST_SIZE,
    TOKENS,
    HashedEncoder,
    OwnEncoder,
    Representation,
    TextEncoder,
    WordEncoder,
    weighted_counts,
)
from potstill.data.token_network import TokenNetwork
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "FittedRepresentation", "Hashed", "Latent", "OwnRepresentation", "Tokens", "encoder_from_tensors",
    "parse_representation",
]  # fmt: skip

MOST_WORDS = 1 << 20
_MOST_VOCABULARY = 1 << 26
"""Bytes of a vocabulary that is read from a file."""


@dataclass(frozen=True, kw_only=True)
class _Vocabulary:
    """The most frequent words of training texts."""

    words: tuple[str, ...]
    idf: Float32[Tensor, " v"]
    """ln((1 + texts) / (1 + texts with the word)) + 1."""
    counts: Any
    """Sparse matrix (texts, words)."""

    @classmethod
    def of(cls, texts: Sequence[str], most: int) -> "_Vocabulary":
        """Return the words of two texts or more; of a handful of texts all.

        Raises:
            PotstillError: there are fewer than two.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        for least in (2, 1):  # of a handful of texts no word may stand in two
            counter = CountVectorizer(token_pattern=TOKENS, min_df=least, max_features=most)
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
        return cls(words=tuple(counter.get_feature_names_out().tolist()), idf=torch.from_numpy(idf), counts=counts)


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

    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> WordEncoder:
        """Return the encoder of these training texts.

        Raises:
            PotstillError: the texts have fewer than two words in common.
        """
        from sklearn.decomposition import TruncatedSVD

        vocabulary = _Vocabulary.of(texts, self.words)
        size = min(self.size, len(vocabulary.words) - 1, max(1, len(texts) - 1))
        weighted = weighted_counts(vocabulary.counts, vocabulary.idf.numpy())
        directions = TruncatedSVD(size, random_state=0, n_iter=7).fit(weighted).components_
        return WordEncoder.of(self.name, vocabulary.words, vocabulary.idf, torch.from_numpy(directions.T.copy()))


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Word vectors of a small network that learns these texts without labels (`potstill.data.token_network`).

    Raises:
        PotstillError: a setting out of its range.
    """

    size: int = 64
    """Numbers of a word, and of a text."""
    words: int = 4096
    """Words of the vocabulary, as of `Latent`."""
    updates: int = 1000
    """Updates of the network: the limit of its time, about 15 s on one core for the defaults."""

    def __post_init__(self) -> None:
        _check_range("tokens", "size", self.size, MOST_SIZE)
        _check_range("tokens", "words", self.words, MOST_WORDS)
        _check_range("tokens", "updates", self.updates, 1 << 20)

    @property
    def name(self) -> str:
        return f"tokens:size={self.size},words={self.words},updates={self.updates}"

    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> WordEncoder:
        """Return the encoder of these training texts.

        Raises:
            PotstillError: the texts have fewer than two words in common, or the work is too much.
        """
        vocabulary = _Vocabulary.of(texts, self.words)
        network = TokenNetwork(size=self.size, updates=self.updates)
        vectors = network.fit(vocabulary.counts, vocabulary.idf, progress)
        return WordEncoder.of(self.name, vocabulary.words, vocabulary.idf, vectors)


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

    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> HashedEncoder:
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

    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> OwnEncoder:
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

    def fit(self, texts: Sequence[str], /, progress: Callback | None = None) -> TextEncoder:
        return self.encoder


_FORMS: dict[str, Any] = {"latent": Latent, "tokens": Tokens, "hashed": Hashed}


def parse_representation(spelled: str | None) -> Representation:
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
            *most, last = sorted(known)
            raise PotstillError(
                f"representation {name} has whole numbers for {', '.join(most)}{' and ' if most else ''}{last}, not "
                f'{setting[:40]!r}; for example `representation="{name}:size=128"`'
            )
        values[key] = int(value[:12])
    representation: Representation = _FORMS[name](**values)
    return representation


def encoder_from_tensors(name: object, size: int, tensors: Mapping[str, Tensor]) -> WordEncoder | HashedEncoder:
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
    return WordEncoder(name=form.name, size=size, words=words, idf=idf, components=components, scale=scale)


def _check_range(name: str, setting: str, value: int, most: int) -> None:
    if not 2 <= value <= most:
        raise PotstillError(f"representation {name}: {setting} must be from 2 to {most:,}, not {value:,}")
