"""The distilled set: inputs, labels and metadata, in one file that is readable without Potstill."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from potstill._util.notebook_repr import MAX_CLASSES, MAX_IMAGES, sample_rows, titled_table
from potstill._util.outputs import check_output, read_json_object
from potstill._util.run_record import (
    check_record_output,
    history_path,
    is_record,
    join_record,
    read_record,
    split_record,
    write_record,
)
from potstill.core import InputSpec, Normalization, Task
from potstill.core.nested import OFFSETS, sample
from potstill.data.text_encoder import TextEncoder
from potstill.dataset_file.files import write_atomic
from potstill.dataset_file.labeller_io import StoredLabeller
from potstill.dataset_file.metadata import input_from_json, is_classification, task_from_json
from potstill.dataset_file.packed_tensors import set_file
from potstill.dataset_file.replacing import describe_conflict
from potstill.dataset_file.values import Contents
from potstill.errors import PotstillError
from potstill.kinds import get_kind

__all__ = ["Distilled", "format_shape", "item_bytes", "write_set"]


def item_bytes(
    shape: Sequence[int], soft_classes: int | None = None, per_item: int = 1, *, weighted: bool = False
) -> int:
    """Return the bytes of one stored item with its labels, uncompressed: float32 values, 8 bytes for a class.

    Args:
        shape: of one stored item, without the batch axis.
        soft_classes: k, where labels are rows of k float32; ``None``: classes.
        per_item: inputs that decode from one item; each has a label.
        weighted: each has a weight, of 4 bytes.
    """
    return 4 * math.prod(shape) + per_item * ((8 if soft_classes is None else 4 * soft_classes) + 4 * weighted)


class Distilled(Dataset[tuple[Any, Tensor]]):
    """A distilled set: a torch ``Dataset`` of (input, label), the input normalised as the set's students expect it.

    `potstill.distill`, `potstill.load` and `potstill.import_set` make it. An input with names is a mapping of tensors;
    words are one tensor (length,) under the name of their part.

    Attributes:
        payload: tensors that the parametrization decodes; empty where the inputs are stored themselves.
        learned: tensors learned besides inputs and labels, float32 by name: ``student/lr``.
        metadata: method, data, codec and bytes of the set (JSON), without the record of its run.
        normalization: data units to model space.
        tensors: all tensors of the file by name; their bytes are those in the metadata.
        path: file that the set was read from; ``None``: it was made in memory.
        files: paths that the set was made from; saving never writes over them.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=2, progress=None)
        >>> small
        Distilled(20 real inputs of 'digits' by 'herding')
        >>> inputs, labels = next(iter(torch.utils.data.DataLoader(small, batch_size=20)))
        >>> tuple(inputs.shape), labels.dtype
        ((20, 1, 8, 8), torch.int64)
    """

    def __init__(
        self,
        contents: Contents,
        metadata: Mapping[str, Any],
        *,
        normalization: Normalization,
        tensors: Mapping[str, Tensor],
        missing_from: str = "",
    ) -> None:
        if contents.missing and missing_from:
            contents = replace(contents, missing=f"{missing_from}: {contents.missing}")
        self._contents = contents
        self.tensors: dict[str, Tensor] = dict(tensors)
        self.payload: Mapping[str, Tensor] = MappingProxyType(dict(contents.payload))
        self.learned: Mapping[str, Tensor] = MappingProxyType(dict(contents.learned))
        self.metadata: dict[str, Any]
        self.metadata, record = split_record(metadata)
        self._record: dict[str, Any] | None = record
        self._digest: str | None = None
        self.normalization = normalization
        self.path: Path | None = None
        self.files: tuple[str, ...] = ()
        self._model_space: Any = None if contents.inputs is None else normalization.apply(contents.inputs)

    # Read-only: saving would not know of tensors that are set on the object.
    @property
    def inputs(self) -> Any:
        """float32 (n, …) in data units (pixels around [0, 1]), as a reader of the file gets them; or such tensors,
        codes and words by name (`potstill.core.nested`).

        Raises:
            PotstillError: the shared decoder is not on this machine.
        """
        self._require_inputs()
        return self._contents.inputs

    def _require_inputs(self) -> None:
        if self._contents.missing:
            raise PotstillError(self._contents.missing)

    @property
    def labels(self) -> Tensor:
        """Targets: int64 classes (n,) or float32 rows (n, k) that sum to 1; real values (n, t), numbers of pairs (n,);
        padded rows (n, most, …) where their number differs by item (`potstill.tasks.target_mask` finds the targets).

        Of a set with `scores`: the nearest probabilities to scores + 1/k, for cross-entropy.
        """
        return self._contents.labels

    @property
    def scores(self) -> Tensor | None:
        """float32 (n, k) in units in which a hard label is one-hot − 1/k (targets of ridge regression), or ``None``."""
        return self._contents.scores

    @property
    def captions(self) -> tuple[str, ...]:
        """Text of each item, such as an image's caption, or a real text; empty where there are none."""
        return self._contents.captions

    @property
    def encoder(self) -> TextEncoder | None:
        """Encoder of texts: ``small.encoder.encode(texts)`` gives vectors as inputs of the set are, in data units;
        ``None``: inputs are no texts, or a user's own function made them."""
        return self._contents.encoder

    @property
    def labeller(self) -> StoredLabeller | None:
        """Small network in the file that labels views of the inputs (`training_samples`); ``None``: it has none."""
        return self._contents.labeller

    @property
    def index(self) -> Tensor | None:
        """int64 (n,), samples of the source that were selected; ``None``: the inputs are synthetic."""
        return self._contents.index

    @property
    def weights(self) -> Tensor | None:
        """float32 (n,), weights in a training loss in the method's own units: finite, at least 0, not all 0; or
        ``None``: all alike."""
        return self._contents.weights

    @property
    def record(self) -> dict[str, Any]:
        """Record of the run in the shape of the metadata: ``history``, ``choice``, ``codec.auto``, ``nearest_texts``,
        ``source.notes``.

        Of a set from a file it is read at the first use, from ``NAME.history.json`` beside it. Empty: there
        is none, or that file is of another set, which a warning says.

        Raises:
            PotstillError: the file is damaged or of another format.
        """
        if self._record is None:
            assert self.path is not None
            self._record = read_record(self.path, self._digest)
        return self._record

    @record.setter
    def record(self, record: Mapping[str, Any]) -> None:
        self._record = dict(record)

    def read_record_from(self, path: Path, digest: str | None) -> None:
        """Take the record from beside a file at the first use, unless the set has one already.

        Args:
            path: file of the set.
            digest: ``sha256`` in that file; ``None``: it has none, and no record is taken.
        """
        self.path, self._digest = path, digest
        self._record = self._record or None

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """Numbers of the run by step (``step``, ``seconds``, ``loss`` …); empty: none are known."""
        return tuple(self.record.get("history", ()))

    @property
    def choice(self) -> Mapping[str, Any] | None:
        """Candidates of ``auto``, and its decision; ``None``: it is not known, or another method made the set."""
        return self.record.get("choice")

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on what the loader and the run decided; empty: none are known."""
        return tuple(self.record.get("source", {}).get("notes", ()))

    @property
    def nearest_texts(self) -> tuple[str, ...]:
        """Real caption nearest to each learned text, as the run noted them; empty: texts are real, or none is known."""
        return tuple(map(str, self.record.get("nearest_texts", ())))

    @property
    def task(self) -> Task:
        """The task that the targets belong to.

        Raises:
            PotstillError: this machine has no such task.
        """
        if (task := task_from_json(self.metadata)) is None:
            name = self.metadata["task"]["name"][:80]
            raise PotstillError(f"no task {name!r} is registered here; install the package that has it")
        return task

    @property
    def is_classification(self) -> bool:
        """True where targets are classes or rows of their probabilities."""
        return is_classification(self.metadata)

    @property
    def has_soft_labels(self) -> bool:
        """True where labels are rows of class probabilities."""
        return self.is_classification and self.labels.is_floating_point()

    @property
    def has_ragged_targets(self) -> bool:
        """True where the number of targets differs by item."""
        return f"labels{OFFSETS}" in self.metadata["codec"]["tensors"]

    @property
    def is_selection(self) -> bool:
        """True where the inputs are samples of the source (a coreset), not synthetic."""
        return self.index is not None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(self.metadata["classes"])

    @property
    def input(self) -> InputSpec:
        """Kind, shape and units of one input."""
        return input_from_json(self.metadata["input"])

    @property
    def sample_weight(self) -> Tensor | None:
        """float32 (n,), weights over their mean: a factor of each sample's loss; ``None``: no weights."""
        return None if self.weights is None else (self.weights.double() / self.weights.double().mean()).float()

    @property
    def hard_labels(self) -> Tensor:
        """int64 (n,): class, or most likely class of a row; 0 where there are no classes."""
        if not self.is_classification:
            return torch.zeros(len(self), dtype=torch.int64)
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int) -> tuple[Any, Tensor]:
        """Return (input, label) number ``item``, the input in model space. For weights see `with_weights`."""
        self._require_inputs()
        return sample(self._model_space, item), self.labels[item]

    def model_space(self) -> Any:
        """Return all inputs (n, …) as students see them: normalised, and whitened where the set is."""
        self._require_inputs()
        return self._model_space

    def training_samples(self, samples: int | None = None) -> tuple[Any, Tensor]:
        """Return inputs in model space and targets to train on.

        Of a set with a `labeller` they are views of its inputs (crops, flips, CutMix) and the labeller's probabilities
        for them, the same for every reader: train on them as they are, without further augmentation. Of other sets
        they are `model_space` and `labels`.

        Args:
            samples: number of views. Default: as the file says. Of other sets it has no effect.

        Returns:
            Inputs (m, …), and targets (m,) or (m, k).

        Examples:
            >>> small = potstill.distill("digits", "herding", ipc=2, progress=None)
            >>> x, y = small.training_samples()
            >>> tuple(x.shape), y.dtype
            ((20, 1, 8, 8), torch.int64)
        """
        self._require_inputs()
        if self.labeller is None:
            return self._model_space, self.labels
        return self.labeller.label(self._model_space, len(self.classes), samples)

    def count_training_samples(self) -> int:
        """Return the number of `training_samples`, without making them."""
        return len(self) if self.labeller is None else max(len(self), self.labeller.samples)

    def with_weights(self) -> Dataset[tuple[Any, ...]]:
        """Return a ``Dataset`` of (input, label, weight), weights with mean 1: all 1 where the set has none."""
        self._require_inputs()
        weight = torch.ones(len(self)) if self.sample_weight is None else self.sample_weight
        if isinstance(self._model_space, Tensor):
            return TensorDataset(self._model_space, self.labels, weight)
        return _WeightedDataset(self, weight)

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the metadata with the record of the run: JSON values only."""
        return join_record(self.metadata, self.record)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the set as one safetensors file, atomically. Equal sets with equal metadata give equal bytes.

        The record of its run, where there is one, is written beside it as ``NAME.history.json``.

        Args:
            path: where the file is written.
            force: replace any file there; by default only a set of the same run is replaced.

        Returns:
            The path.

        Raises:
            PotstillError: the file cannot be written, or another file is there; nothing is changed then.
        """
        path = check_output(path, reads=self.files, force=force, found=lambda at: describe_conflict(at, self.metadata))
        if self.record:
            check_record_output(path, self.files, force=force, run=self.metadata.get("run_digest"))
        write_set(path, self.tensors, self.metadata, self.record)
        return path

    def __repr__(self) -> str:
        kind = "real" if self.is_selection else "synthetic"
        source, method = self.metadata["source"].get("name"), self.metadata["method"]
        return f"Distilled({len(self)} {kind} inputs of {source!r} by {method!r})"

    def _repr_html_(self) -> str:
        spec, cost = self.metadata["input"], self.metadata.get("cost", {})
        groups = (
            f" in {len(self.classes):,} classes" if self.is_classification else f" ({self.metadata['task']['name']})"
        )
        rows: list[tuple[str, object]] = [
            ("made of", self.metadata["source"].get("name")),
            ("by", self.metadata["method"]),
            ("inputs", f"{len(self):,} of {format_shape(self.input)}{groups}"),
            ("bytes", f"{self.metadata['bytes']['total']:,}"),
            ("steps", f"{cost['steps']:,} in {cost['seconds']:,.0f} s" if {"steps", "seconds"} <= cost.keys() else "?"),
        ]
        html = titled_table(repr(self), rows)
        draw = get_kind(spec["kind"]).draw
        if draw is None or self.input.parts or not self.is_classification or self._contents.missing:
            return html
        hard = self.hard_labels
        first = (torch.where(hard == c)[0][:MAX_IMAGES] for c in range(min(MAX_CLASSES, len(self.classes))))
        by_class = zip(self.classes, first, strict=False)
        return html + sample_rows(((name, list(self.inputs[index].numpy())) for name, index in by_class), draw)


def write_set(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Write the file of a set or selection, each atomically: first the record of its run, then the set.

    A record there of the set that is replaced is removed where this one has none.

    Raises:
        PotstillError: one of them cannot be written.
    """
    digest, content = set_file(path, tensors, metadata)
    if record:
        write_record(path, record, digest, metadata.get("run_digest"))
    replaced = not record and path.exists()
    write_atomic(path, *content)
    if replaced and is_record(read_json_object(beside := history_path(path))):
        beside.unlink(missing_ok=True)


class _WeightedDataset(Dataset[tuple[Any, ...]]):
    """(input, label, weight) of inputs with names."""

    def __init__(self, distilled: Distilled, weight: Tensor) -> None:
        self._distilled, self._weight = distilled, weight

    def __len__(self) -> int:
        return len(self._distilled)

    def __getitem__(self, item: int) -> tuple[Any, ...]:
        return *self._distilled[item], self._weight[item]


def format_shape(spec: InputSpec) -> str:
    """Return the shape of an input for people: ``1×28×28``, ``image 3×32×32 and text``."""
    if spec.parts:
        words = [f"{name} {'×'.join(map(str, part.shape))}".strip() for name, part in spec.parts]
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return "×".join(map(str, spec.shape))
