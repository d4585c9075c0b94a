"""The values that a distilled set is built from: contents, schema, provenance and encoding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from potstill.codecs.exact import Float
from potstill.core import Codec, Encoded, Inputs, InputSpec, Normalization, Task
from potstill.data.text_encoder import TextEncoder
from potstill.dataset_file.labeller_io import StoredLabeller

__all__ = ["Contents", "Encoding", "Provenance", "Schema"]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Tensors and captions of a set, n items in all."""

    inputs: Inputs | None
    """float32 (n, …) in data units; of inputs with names also int64 codes and words. ``None``: see ``missing``."""
    labels: Tensor
    """Targets of the task: int64 classes (n,), rows (n, k) that sum to 1, real values, numbers of pairs, or padded rows
    (n, most, …) where their number differs by item. Where there are ``scores``, the nearest probabilities to them,
    whatever is given here."""
    payload: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that the inputs decode from; those under ``decoder/`` are shared by all items."""
    index: Tensor | None = None
    """int64 (n,): samples of the source, for a selection."""
    weights: Tensor | None = None
    """float32 (n,): weight of each item in a training loss."""
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors learned besides inputs and labels; ``student/lr`` becomes ``training.learned_lr`` of the metadata."""
    captions: tuple[str, ...] = ()
    """Text of each item, for people; empty: none."""
    scores: Tensor | None = None
    """float32 (n, k) in units in which a hard label is one-hot − 1/k (targets of ridge regression)."""
    encoder: TextEncoder | None = None
    """Encoder of texts, whose vectors are the inputs; ``None``: inputs are no texts, or a user's own function made
    them."""
    labeller: StoredLabeller | None = None
    """Network that labels views of the inputs; ``None``: there is none."""
    missing: str = ""
    """Message about the shared decoder that is not on this machine; empty: nothing is missing."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Classes, kind of input, normalization and task of a set."""

    classes: tuple[str, ...]
    """Class names in label order; empty: the task has no classes."""
    input: InputSpec
    normalization: Normalization
    """Data units to model space."""
    task: Task | None = None
    """``None``: classification into ``classes``."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a set: JSON values for its metadata. Numbers that are not finite become ``None``, as JSON has none."""

    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    ipc: int
    """Items per class, of the largest class; without classes, items in all."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the method prescribes for training on the set."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Name, samples and content hash of the data."""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the metadata."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Codec and decoder of a set."""

    codec: Codec = field(default_factory=Float)
    encoded: Mapping[str, Encoded] = field(default_factory=dict)
    """Payload tensors that are encoded already, by their names."""
    decoder: Mapping[str, Any] | None = None
    """``parametrization`` that decodes the payload, a registered name with its settings, and the ``space`` (model,
    data) that it decodes to. ``None``: decoded inputs are written beside the payload."""
    assets: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Shared tensors that the decoder needs, by the asset's name; they are not written."""
    include_decoded: bool = False
    """Write decoded inputs beside the payload even if there is a decoder."""
    entropy_coding: bool = True
    """Write codes as arithmetic-coded streams where those are smaller (`potstill.codecs.bitstream`)."""
