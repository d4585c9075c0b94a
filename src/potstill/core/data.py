"""Data contracts: inputs, batches, normalization, real data sources and splits.

Shapes: n samples, m indexed samples, k classes, (c, h, w) an image, d features.
"""

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, overload, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "Batch",
    "DecodeContext",
    "InputSpec",
    "Inputs",
    "Metrics",
    "Normalization",
    "Payload",
    "Release",
    "SampleSum",
    "SeriesData",
    "Source",
    "Space",
    "Splits",
    "Whitening",
]

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""One tensor (images, rows of a table), or tensors by name (a table's columns, an image and its caption)."""


Payload: TypeAlias = Mapping[str, Tensor]
"""Tensors by name that a parametrization stores and an optimiser updates."""


Metrics: TypeAlias = Mapping[str, float]
"""Values to log by name."""


Space = Literal["model", "data"]
"""``model``: normalised, as networks see inputs. ``data``: the data's own units, such as pixels in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples along the first axis of every tensor.

    ``x`` is normalised where it comes from `Source.fetch`. ``y`` has the targets in the task's form: int64 classes
    (n,), soft labels (n, k) that sum to 1, real values (n, t), pair numbers (n,), or padded rows (n, most, …) where
    their number differs by sample (`potstill.tasks.RaggedTask`). ``columns``: further values by name, such as weights
    or groups.
    """

    x: Inputs
    y: Tensor | None
    columns: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class SampleSum:
    """A sum over samples and their number; sums of disjoint parts add up."""

    total: Tensor
    count: int

    def __add__(self, other: "SampleSum") -> "SampleSum":
        return SampleSum(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """Mean over the samples."""
        return self.total / self.count


Release: TypeAlias = Callable[[str, SampleSum], SampleSum]
"""Function that every sum over real samples passes before a method sees it: the place for noise, clients, accounting.

It gets the query (``class NAME`` with the statistic's name, or ``gradient class NAME PARAMETER``) and the sum over this
machine's samples, and returns what the method sees.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Kind, shape and units of one input.

    Inputs with several tensors have one spec for each name in ``parts``, and the shape (). The kinds of such parts are
    those of single tensors, ``categories`` (int64 codes (d,)) and ``words`` (int64 word numbers of any length).

    A part is ragged where its first axis differs by sample: ``words``, and shapes that begin with -1, such as (-1, d)
    for the nodes of a graph. It is stored as ``NAME/values`` (all samples one after the other) and ``NAME/offsets``
    (n,), the start of each sample. Its values are float32, or int64 codes where it has ``levels``.
    """

    kind: str
    shape: tuple[int, ...]
    units: str = "pixels in [0,1]"
    horizontal_flip: bool = True
    """Images keep their class when they are flipped left to right. False for digits."""
    columns: tuple[str, ...] = ()
    """Column names of a table, where they are known."""
    levels: tuple[int, ...] = ()
    """Number of codes in each column of ``categories`` and of ragged codes; vocabulary size of ``words``."""
    parts: tuple[tuple[str, "InputSpec"], ...] = ()
    """Name and spec of each tensor; empty for a single tensor."""
    frames: tuple[int, ...] = ()
    """Rows and columns of equal tiles where an image holds the frames of a clip, row by row in the order of time; empty
    for others."""

    @property
    def ragged(self) -> bool:
        """True where the first axis differs by sample."""
        return self.kind == "words" or self.shape[:1] == (-1,)

    @property
    def num_values(self) -> int:
        """Number of values in one input, over all parts of a fixed size (ragged ones do not count)."""
        if self.parts:
            return sum(part.num_values for _, part in self.parts if not part.ragged)
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeContext:
    """Facts that decoders of parametrizations and codecs may use, all of which a reader of the file has too."""

    input: InputSpec
    """Kind, shape and units of one decoded input."""
    classes: tuple[str, ...] = ()
    """Class names in label order; empty for tasks without classes."""
    assets: Mapping[str, Payload] = field(default_factory=dict)
    """Tensors of each asset that the decoder uses, by asset name, on the device of the values."""
    horizon: int = 0
    """Values of a series that follow each window and are its targets; 0: inputs are no windows to forecast from."""
    forecast_variables: int = 0
    """Variables of a series that are its targets, the first ones; 0: all."""
    normalization: "Normalization | None" = None
    """Map from data units to model space, for a decoder that needs it; ``None``: inputs are in data units."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one decoded input."""
        return self.input.shape


@dataclass(frozen=True, slots=True)
class Whitening:
    """Linear map on flattened inputs, ``z = (u - mean) @ matrix``; ``inverse`` undoes ``matrix``.

    ``unit_norm``: every sample first gets zero mean and unit L2 norm (KIP and its successors). This cannot be undone:
    ``inverse`` then leads back to the unit-norm sample.
    """

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "d d"]
    inverse: Float[Tensor, "d d"]
    unit_norm: bool = False


@dataclass(frozen=True, slots=True)
class Normalization:
    """Map from data units to model space: ``(x - mean) / std`` along axis 1, then the whitening if there is one.

    ``mean`` and ``std`` have one entry per channel (images) or column (tables), fitted on the training split.
    """

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    whitening: Whitening | None = None
    parts: Mapping[str, "Normalization"] = field(default_factory=dict)
    """Normalization by name, for inputs with several tensors; names without one (codes, words) stay unchanged."""

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self.mean.to(x).reshape(shape), self.std.to(x).reshape(shape)

    @overload
    def apply(self, x: Tensor) -> Tensor:
        """Map data units (n, …) to model space; same shape, differentiable."""

    @overload
    def apply(self, x: Inputs) -> Inputs:
        """Map data units (n, …) to model space; same shape, differentiable."""

    def apply(self, x: Inputs) -> Inputs:
        """Map data units (n, …) to model space; same shape, differentiable."""
        if not isinstance(x, Tensor):
            return {name: self.parts[name].apply(t) if name in self.parts else t for name, t in x.items()}
        mean, std = self._affine(x)
        x = (x - mean) / std
        if (w := self.whitening) is not None:
            flat = x.flatten(1)
            if w.unit_norm:
                flat = flat - flat.mean(1, keepdim=True)
                flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
            x = ((flat - w.mean.to(x)) @ w.matrix.to(x)).reshape(x.shape)
        return x

    @overload
    def invert(self, z: Tensor) -> Tensor:
        """Map model space (n, …) back to data units."""

    @overload
    def invert(self, z: Inputs) -> Inputs:
        """Map model space (n, …) back to data units."""

    def invert(self, z: Inputs) -> Inputs:
        """Map model space (n, …) back to data units."""
        if not isinstance(z, Tensor):
            return {name: self.parts[name].invert(t) if name in self.parts else t for name, t in z.items()}
        mean, std = self._affine(z)
        if (w := self.whitening) is not None:
            z = (z.flatten(1) @ w.inverse.to(z) + w.mean.to(z)).reshape(z.shape)
        return z * std + mean

    def to(self, device: torch.device | str) -> "Normalization":
        """Return a copy with its tensors on ``device``."""
        w = self.whitening
        white = w and replace(w, mean=w.mean.to(device), matrix=w.matrix.to(device), inverse=w.inverse.to(device))
        parts = {name: n.to(device) for name, n in self.parts.items()}
        return Normalization(self.mean.to(device), self.std.to(device), white, parts)


@runtime_checkable
class SeriesData(Protocol):
    """`Source` of windows of one series, whose points can be read in stretches."""

    @property
    def series(self) -> Float[Tensor, "T v"]:
        """All points in data units, on the source's device."""
        ...

    def stretches(self, length: int, /) -> Int[Tensor, " m"]:
        """Return the first points of all stretches of ``length`` points whose every window is of this source."""
        ...


@runtime_checkable
class Source(Protocol):
    """Real data of one split, read by index."""

    @property
    def name(self) -> str: ...
    @property
    def input(self) -> InputSpec: ...
    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; empty for tasks without classes."""
        ...

    @property
    def normalization(self) -> Normalization: ...
    @property
    def labels(self) -> Int[Tensor, " n"]:
        """int64 class of every sample, on the CPU; 0 for tasks without classes."""
        ...

    @property
    def device(self) -> torch.device: ...
    @property
    def content_hash(self) -> str:
        """Hex digest of inputs, labels and class names: equal data have equal hashes."""
        ...

    def __len__(self) -> int: ...
    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        """Return the samples at ``index`` (int64, any device), inputs normalised, on ``device``."""
        ...

    def raw(self, index: Int[Tensor, " m"], /) -> Inputs:
        """Return the inputs at ``index`` in data units (float32; pixels in [0, 1]), on ``device``."""
        ...

    def to(self, device: torch.device | str, /) -> "Source": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Real data as a training split and a test split, with notes on what the loader decided.

    `potstill.load_data` makes them. A method never sees ``test``: only evaluation protocols read it.

    Examples:
        >>> splits = potstill.load_data("digits")
        >>> splits.train.input.shape, splits.test is None
        ((1, 8, 8), False)
    """

    train: Source
    """Training split."""
    test: Source | None
    """Test split; ``None``: the data have none."""
    notes: tuple[str, ...] = ()
    """Decisions of the loader, a sentence each."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """Options of `potstill.load_data` that differ from their defaults, for the metadata of a set."""
    files: tuple[str, ...] = ()
    """Paths that were read, so that they are never written over."""

    def __repr__(self) -> str:
        return "\n".join([f"train: {self.train!r}", f"test: {self.test!r}", *(f"note: {n!r}" for n in self.notes)])

    def _repr_html_(self) -> str:
        parts = (getattr(p, "_repr_html_", lambda p=p: html.escape(repr(p)))() for p in (self.train, self.test))
        return "".join(f"<div>{part}</div>" for part in (*parts, *(html.escape(repr(n)) for n in self.notes)))
