"""The in-memory source, and the fit of its normalization."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float32, Int, Shaped
from torch import Tensor

from potstill.core import Batch, Inputs, InputSpec, Normalization, Task
from potstill.core.nested import device_of, index, named_tensors, num_samples, tree_map
from potstill.core.nested import to_device as elsewhere
from potstill.data.arrays import canonicalize_inputs, encode_labels
from potstill.data.attributes import Attribute, select_attribute
from potstill.data.columns import batch_columns
from potstill.data.graph import NodeGraph
from potstill.data.interactions import Interactions
from potstill.data.repr import describe_source, source_html
from potstill.data.table_encoding import Column
from potstill.data.text_encoder import TextEncoder, encode_inputs, encoded_spec, text_part
from potstill.errors import PotstillError
from potstill.tasks import is_ragged, split_targets

__all__ = ["TensorSource", "checked_normalization", "count_pixels", "fit_normalization", "normalization_of_counts"]

_VALUES = 2**19  # values that are converted at a time, so that a large uint8 set is never held in float as a whole
_KEPT = (torch.uint8, torch.float32, torch.int64)
_FLAT = 1e-6  # a channel or column with a smaller spread counts as constant


def split_chunks(inputs: Shaped[Tensor, "n ..."]) -> Iterator[Tensor]:
    """Yield views of ``inputs`` of about half a million values each, in order."""
    return iter(torch.split(inputs, max(1, _VALUES // max(1, inputs[:1].numel()))))


def to_data_units(stored: Tensor) -> Tensor:
    """Convert stored inputs to float32 in data units: uint8 pixels become [0, 1], floats stay as they are."""
    return stored.float().div_(255) if stored.dtype == torch.uint8 else stored


def fit_normalization(inputs: Inputs) -> Normalization:
    """Return the mean and population standard deviation per channel or column of ``inputs``, in data units.

    Args:
        inputs: (n, c, …) uint8 pixels or float32 values, n ≥ 1; give the training part only. Of inputs with names,
            those tensors that are pixels or values.

    Returns:
        float32 ``mean`` and ``std`` (c,). A constant channel or column (std below 1e-6) gets std 1, so it becomes 0.
    """
    if not isinstance(inputs, Tensor):
        parts = {name: fit_normalization(t) for name, t in inputs.items() if t.dtype != torch.int64}
        return Normalization(torch.zeros(0), torch.ones(0), parts=parts)
    if inputs.dtype == torch.uint8:
        pixels = torch.zeros(inputs.shape[1], 256, dtype=torch.int64)
        for x in split_chunks(inputs):
            pixels += count_pixels(x)
        return normalization_of_counts(pixels)
    over = tuple(d for d in range(inputs.ndim) if d != 1)
    count = inputs.numel() // inputs.shape[1]
    # Two passes in float64: the one-pass formula cancels badly for columns far from zero.
    mean = sum((to_data_units(x).double().sum(over) for x in split_chunks(inputs)), torch.zeros(())) / count
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    centred = ((to_data_units(x).double() - mean.reshape(shape)).square().sum(over) for x in split_chunks(inputs))
    std = (sum(centred, torch.zeros(())) / count).sqrt()
    std = torch.where(std < _FLAT, torch.ones_like(std), std)
    return Normalization(mean.float().cpu(), std.float().cpu())


def count_pixels(x: Tensor) -> Tensor:
    """Return how often each value occurs in each channel of uint8 pixels (n, c, …): int64 (c, 256)."""
    return torch.stack([torch.bincount(x[:, c].flatten().int(), minlength=256) for c in range(x.shape[1])]).cpu()


def normalization_of_counts(counts: Tensor) -> Normalization:
    """Return mean and population standard deviation of pixels, in data units, from whole numbers (c, 256) alone, so
    that they do not depend on the order in which pixels are read."""
    values = torch.arange(256).float().div_(255).double()
    part = counts.double() / counts.sum(1, keepdim=True)
    mean = part @ values
    std = (part * (values - mean[:, None]).square()).sum(1).sqrt()
    std = torch.where(std < _FLAT, torch.ones_like(std), std)
    return Normalization(mean.float(), std.float())


def checked_normalization(normalization: Normalization | None, channels: int, name: str) -> Normalization | None:
    """Return a given normalization if it is for that many channels or columns.

    Raises:
        PotstillError: it is not.
    """
    if normalization is None or len(normalization.mean) == channels:
        return normalization
    raise PotstillError(
        f"{name}: inputs have {channels} channels or columns, but the given normalization is for "
        f"{len(normalization.mean)}; give one that fits, or leave normalization out"
    )


def normalize_inplace(x: Tensor, normalization: Normalization) -> Tensor:
    """Apply ``normalization`` with the same bits as its ``apply``, in the memory of ``x`` unless it whitens."""
    if normalization.whitening is not None:
        return normalization.apply(x)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x.sub_(normalization.mean.to(x).reshape(shape)).div_(normalization.std.to(x).reshape(shape))


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorSource:
    """Samples of one split in memory, stored compactly and normalised when fetched.

    Legend: n samples, c channels, h w an image, d columns.

    Raises:
        PotstillError: tensors of other types, lengths that differ, or labels outside of the classes.

    Examples:
        >>> images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
        >>> source = potstill.TensorSource.make(images, ["cat", "dog"] * 10, name="pets")
        >>> source.classes, source.fetch(torch.tensor([0, 1])).y.tolist()
        (('cat', 'dog'), [0, 1])
    """

    name: str
    """Name of the data in the metadata."""
    input: InputSpec
    """Kind, shape and units of an input."""
    classes: tuple[str, ...]
    """Class names in label order."""
    normalization: Normalization
    """Data units to model space."""
    inputs: Inputs
    """(n, c, h, w) or (n, d) as stored: uint8 pixels (0 … 255 stands for 0 … 1) or float32 in data units; or several
    such tensors with names, and int64 codes and words among them."""
    labels: Int[Tensor, " n"]
    """int64 in [0, number of classes), on the CPU; all 0 where there are no classes."""
    task: Task | None = None
    """The learning task; ``None``: classification."""
    targets: Tensor | None = None
    """Targets of the task (n, …), on the CPU, if they are not the labels. Of a task whose targets differ in number by
    sample: padded rows, as `potstill.tasks.pad_targets` makes them."""
    places: Int[Tensor, " n"] | None = None
    """Position of each sample among the files or rows that were read; ``None``: unknown."""
    names: tuple[str, ...] = ()
    """Name of each sample (its file), if known; else empty."""
    texts: tuple[str, ...] = ()
    """Text of each sample of image-text pairs, and of texts; else empty."""
    encoder: TextEncoder | None = None
    """Encoder of texts, whose vectors are the inputs; ``None``: inputs are no texts."""
    graph: NodeGraph | None = None
    """The graph whose nodes the samples are (``places`` says which); ``None``: samples are no nodes."""
    interactions: Interactions | None = None
    """Items that users met (``places`` says which user a sample is); ``None``: samples are no users."""
    groups: Int[Tensor, " n"] | None = None
    """Group number of each sample, kept together by splits; ``None``: no groups."""
    attribute: Attribute | None = None
    """Attribute of each sample (sex, colour, hospital), which splits ignore; ``None``: read without one."""
    weights: Float32[Tensor, " n"] | None = None
    """Weight of each sample, on the CPU; ``None``: equal weights."""
    columns: tuple[Column, ...] = ()
    """Table columns with their kinds and training statistics; empty for other kinds."""
    label_column: tuple[str, str] | None = None
    """Name and type of a table's label or target column."""

    def __post_init__(self) -> None:
        known = (torch.uint8, torch.float32) if isinstance(self.inputs, Tensor) else _KEPT
        for part in named_tensors(self.inputs).values():
            if part.dtype not in known:
                raise PotstillError(f"{self.name}: inputs must be stored as uint8 or float32, not {part.dtype}")
        if self.labels.dtype != torch.int64 or self.labels.device.type != "cpu" or self.labels.ndim != 1:
            found = f"{self.labels.dtype} of shape {tuple(self.labels.shape)} on {self.labels.device}"
            raise PotstillError(f"{self.name}: labels must be int64 (n,) on the CPU, not {found}")
        several = {"inputs": num_samples(self.inputs)}
        for what, values in (
            ("targets", self.targets), ("groups", self.groups), ("weights", self.weights),
            ("attributes", self.attribute),
        ):  # fmt: skip
            several[what] = len(self.labels if values is None else values)
        for what, many in several.items():
            if many != len(self.labels):
                raise PotstillError(f"{self.name}: {many} {what} but {len(self.labels)} labels; give one each")
        if is_ragged(self.task):
            try:
                split_targets(self.labels if self.targets is None else self.targets)
            except ValueError as error:
                raise PotstillError(f"{self.name}: {error}") from error
        if isinstance(self.inputs, Tensor) and tuple(self.inputs.shape[1:]) != self.input.shape:
            raise PotstillError(
                f"{self.name}: inputs have shape {tuple(self.inputs.shape[1:])}, the spec says {self.input.shape}"
            )
        groups = max(1, len(self.classes)) if self.task is not None else len(self.classes)
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < groups:
            low, high = int(self.labels.min()), int(self.labels.max())
            raise PotstillError(
                f"{self.name}: labels go from {low} to {high}, but there are {len(self.classes)} classes; "
                f"number them 0 … {len(self.classes) - 1}"
            )

    @classmethod
    def make(
        cls,
        inputs: Any,
        labels: Any,
        classes: tuple[str, ...] | list[str] | None = None,
        name: str = "arrays",
        kind: str | None = None,
        normalization: Normalization | None = None,
    ) -> "TensorSource":
        """Make a source from NumPy arrays or tensors.

        Args:
            inputs: (n, h, w), (n, h, w, c), (n, c, h, w) or (n, d); uint8 pixels, other integers, or floats.
            labels: n classes: integers, strings or booleans.
            classes: class names in label order. Default: the sorted labels.
            name: name of the data in the metadata.
            kind: ``"image"`` or ``"table"``. Any other kind leaves the shape as it is. Default: by the number of axes.
            normalization: data units to model space. Default: fitted on ``inputs``.

        Returns:
            The source.

        Raises:
            PotstillError: values that are not finite, lengths that differ, labels that are no classes.
        """
        stored, _, spec, _ = canonicalize_inputs(inputs, None, kind=kind, name=name)
        y, _, names, _ = encode_labels(labels, None, classes=None if classes is None else tuple(classes), name=name)
        if len(stored) != len(y):
            raise PotstillError(f"{name}: {len(stored)} inputs but {len(y)} labels; give one label for each input")
        if len(stored) == 0:
            raise PotstillError(f"{name}: there are no samples; give at least one")
        return cls(
            name=name,
            input=spec,
            classes=names,
            normalization=normalization or fit_normalization(stored),
            inputs=stored,
            labels=y,
        )

    @property
    def device(self) -> torch.device:
        """Device of the inputs and of fetched batches."""
        return device_of(self.inputs)

    @cached_property
    def content_hash(self) -> str:
        """Return the SHA-256 of stored inputs, targets, class names and spec (not of name or normalization)."""
        held = named_tensors(self.inputs)
        kinds = str(held[""].dtype) if "" in held else {name: str(t.dtype) for name, t in held.items()}
        spec = [self.input.kind, self.input.shape, self.input.units, kinds, self.classes, len(self)]
        digest = hashlib.sha256(json.dumps(spec).encode())
        digest.update((self.labels if self.targets is None else self.targets).contiguous().numpy().data)
        if self.encoder is not None:  # vectors of another machine may have other last bits
            digest.update(json.dumps([self.encoder.name, self.texts]).encode())
            if not (text := text_part(self.input)):
                return digest.hexdigest()
            held = {name: t for name, t in held.items() if name != text}
        if self.graph is not None and self.places is not None:  # as products of sparse matrices may have
            digest.update(self.graph.content_hash.encode())
            digest.update(self.places.contiguous().numpy().data)
            return digest.hexdigest()
        if self.interactions is not None and self.places is not None:
            digest.update(json.dumps([self.interactions.content_hash, self.input.columns]).encode())
            digest.update(self.places.contiguous().numpy().data)
            return digest.hexdigest()
        for tensor in held.values():
            for part in split_chunks(tensor):
                digest.update(part.cpu().contiguous().flatten().numpy().data)
        return digest.hexdigest()

    @cached_property
    def _targets(self) -> Tensor:
        return (self.labels if self.targets is None else self.targets).to(self.device)

    def __repr__(self) -> str:
        return describe_source(self)

    def _repr_html_(self) -> str:
        return source_html(self, pictures=True)

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, at: Int[Tensor, " m"], /) -> Batch:
        """Return the samples at some positions: inputs in model space, targets, and the columns that the source has.

        Args:
            at: positions (m,), int64, on any device.

        Returns:
            A batch of m samples on ``device``.
        """
        at = at.to(self.device)
        columns = batch_columns(self, at, self.device)
        return Batch(self.normalization.apply(self.raw(at)), self._targets.index_select(0, at), columns)

    def raw(self, at: Int[Tensor, " m"], /) -> Any:
        """Return the inputs at some positions in data units (float32; pixels in [0, 1]).

        Args:
            at: positions (m,), int64, on any device.

        Returns:
            Inputs (m, …) on ``device``, or such tensors by name.
        """
        return tree_map(to_data_units, index(self.inputs, at))

    def to(self, device: torch.device | str, /) -> "TensorSource":
        """Return the same source with inputs and normalization on another device; labels stay on the CPU.

        Args:
            device: the device.

        Returns:
            A new source.
        """
        return replace(self, inputs=elsewhere(self.inputs, device), normalization=self.normalization.to(device))

    def encoded_by(self, encoder: TextEncoder, /) -> "TensorSource":
        """Return the same texts as vectors of another encoder.

        Args:
            encoder: fitted on other texts, such as those that a set was made of.

        Returns:
            A new source.
        """
        x = elsewhere(encode_inputs(encoder, self, self.input), self.device)
        return replace(self, inputs=x, input=encoded_spec(self.input, encoder.size), encoder=encoder)

    def subset(self, at: Int[Tensor, " m"], /) -> "TensorSource":
        """Return the samples at some positions as a source with the same classes and normalization.

        Args:
            at: positions (m,), int64.

        Returns:
            A new source of m samples.
        """
        at = at.cpu()
        return replace(
            self,
            inputs=index(self.inputs, at),
            labels=self.labels.index_select(0, at),
            targets=None if self.targets is None else self.targets.index_select(0, at),
            places=None if self.places is None else self.places[at],
            names=tuple(self.names[i] for i in at.tolist()) if self.names else (),
            groups=None if self.groups is None else self.groups[at],
            attribute=select_attribute(self.attribute, at),
            weights=None if self.weights is None else self.weights[at],
            texts=tuple(self.texts[i] for i in at.tolist()) if self.texts else (),
        )
