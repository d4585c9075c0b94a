"""The product: inputs, labels and a card, in one file that is readable without Potstill."""

import copy
import math
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from potstill._util.input_limits import Limits, check_limit, limits
from potstill._util.notebook_repr import MAX_CLASSES, MAX_IMAGES, image_rows, titled_table
from potstill._util.outputs import check_output
from potstill.codecs import Float
from potstill.core import Codec, Encoded, Inputs, InputSpec, Normalization, Task, Whitening
from potstill.core.nested import named_tensors, num_samples, sample, tensor_names, tree_map
from potstill.dataset_file.files import read_tensors, write_tensors
from potstill.dataset_file.metadata import (
    BYTE_KEYS,
    FIRST,
    FORMAT,
    input_from_json,
    input_to_json,
    is_classification,
    metadata_text,
    parse_metadata,
    scores_to_json,
    task_from_json,
    task_to_json,
    to_json,
)
from potstill.dataset_file.payload_io import (
    SHARED,
    WHITENING,
    Contents,
    bytes_by_part,
    decode_contents,
    encode_contents,
    entropy_coded_size,
)
from potstill.dataset_file.replacing import describe_conflict
from potstill.dataset_file.shared_decoders import DecoderSource
from potstill.dataset_file.validate import (
    LEARNED_LR,
    check_content,
    check_extras,
    check_labels,
    check_learned,
    check_scores,
)
from potstill.errors import PotstillError
from potstill.functional.label_simplex import to_probabilities
from potstill.native import loaded_kernels
from potstill.tasks import Classification

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "Distilled",
    "format_shape",
    "item_bytes",
    "load",
    "save",
    "stored_tensors",
    "to_stored_form",
    "validated_set",
]

MAX_BYTES = Limits().set_bytes
MOST_CODED = 2**20
"""Bytes of a set up to which its entropy-coded size stands on its card: a second or three of computing."""


def item_bytes(
    shape: Sequence[int], soft_classes: int | None = None, per_item: int = 1, *, weighted: bool = False
) -> int:
    """Stored bytes of one item with its labels: float32 values of ``shape``; 8 bytes for a class, 4·k for a row of k.

    Args:
        shape: of one stored item, without the batch axis.
        soft_classes: k where labels are rows.
        per_item: inputs that decode from one item; each has a label.
        weighs: each has a weight, of 4 bytes.
    """
    return 4 * math.prod(shape) + per_item * ((8 if soft_classes is None else 4 * soft_classes) + 4 * weighted)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _first_sizes(
    inputs: Tensor, labels: Tensor, payload: Mapping[str, Tensor], whitening: Whitening | None, weights: Tensor | None
) -> dict[str, int]:
    """The bytes on a card of the first format: of all that training needs, in 32 bits, a payload in place of the
    decoded inputs that lie beside it there, without the index and, in the total, without the whitening."""
    shared = [t for name, t in payload.items() if name.startswith(SHARED)]
    own = [t for name, t in payload.items() if not name.startswith(SHARED)]
    sizes = {"inputs": sum(map(_size, own or [inputs])), "labels": _size(labels), "decoder": sum(map(_size, shared))}
    if weights is not None:
        sizes["weights"] = _size(weights)
    sizes["total"] = sum(sizes.values())
    if whitening is not None:
        sizes["whitening"] = sum(_size(getattr(whitening, n)) for n in WHITENING)
    return sizes


class Distilled(Dataset[tuple[Any, Tensor]]):
    """A distilled set: a ``Dataset`` of (input, label), the input normalised as the set's students expect it.

    An input with names is a mapping of them; words are one tensor (length,) under the name of their part.

    Attributes:
        payload: what the parametrization decodes from; empty where the inputs are all there is.
        learned: what was learned beside inputs and labels, float32 by name: ``student/lr``.
        card: what it is made of, how, and what it weighs (JSON).
        normalization: data units to model space.
        tensors: what the file holds, by name; their bytes are those on the card.
        path: the file that it was read from; ``None`` of one that was made here.
        files: paths of what it was made of, which it is never written over.
    """

    def __init__(
        self,
        inputs: Inputs | None,
        labels: Tensor,
        card: Mapping[str, Any],
        *,
        normalization: Normalization,
        payload: Mapping[str, Tensor] | None = None,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        learned: Mapping[str, Tensor] | None = None,
        captions: tuple[str, ...] = (),
        scores: Tensor | None = None,
        tensors: Mapping[str, Tensor],
        missing: str = "",
    ) -> None:
        self._inputs, self._labels, self._index, self._weights = inputs, labels, index, weights
        self._captions, self._scores, self._missing = captions, scores, missing
        self.tensors: dict[str, Tensor] = dict(tensors)
        self.payload: Mapping[str, Tensor] = MappingProxyType(dict(payload or {}))
        self.learned: Mapping[str, Tensor] = MappingProxyType(dict(learned or {}))
        self.metadata: dict[str, Any] = dict(card)
        self.normalization = normalization
        self.path: Path | None = None
        self.files: tuple[str, ...] = ()
        self._model_space: Any = None if inputs is None else normalization.apply(inputs)

    @classmethod
    def build(
        cls,
        inputs: Inputs,
        labels: Tensor,
        *,
        method: str,
        config: Mapping[str, Any],
        seed: int,
        ipc: int,
        classes: Sequence[str],
        input: InputSpec,
        normalization: Normalization,
        training: Mapping[str, Any],
        source: Mapping[str, Any],
        outcome: Mapping[str, Any],
        cost: Mapping[str, Any],
        payload: Mapping[str, Tensor] | None = None,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        learned: Mapping[str, Tensor] | None = None,
        captions: Sequence[str] = (),
        task: Task | None = None,
        extra: Mapping[str, Any] | None = None,
        store: Codec | None = None,
        packed: Mapping[str, Encoded] | None = None,
        decoder: Mapping[str, Any] | None = None,
        shared: Mapping[str, Mapping[str, Tensor]] | None = None,
        decoded: bool = False,
        coded: bool = True,
        scores: bool = False,
    ) -> "Distilled":
        """A set with its card filled in, as ``load`` reads it back: what the store loses is lost already.

        Args:
            inputs: (n, …) in data units. Where a payload is given with its decoder, what the payload decodes to.
            labels: the task's targets: int64 classes, or rows that sum to 1; real values, numbers of pairs.
            payload: what the inputs decode from; names that begin with ``decoder/`` are shared by all items.
            weights: how much each input counts.
            learned: what was learned beside them; ``student/lr`` becomes ``training.learned_lr`` of the card.
            captions: a text for people for each input.
            task: what is to be learned; ``None``: the classes.
            extra: further JSON for the card. Numbers that are not finite become ``None``, as JSON has none.
            store: how values are written; float32 by default.
            packed: payload that is packed already, by its name.
            decoder: ``parametrization``, a registered name with its settings, and the ``space`` (model, data) that it
                decodes to. Without it decoded inputs lie in the file beside the payload.
            shared: what the card's decoder says that it decodes by, by the asset's name; not in the file.
            decoded: write them there in any case, for readers that have no decoder.
            scores: ``labels`` are float rows (n, k) in units in which a hard label is one-hot − 1/k; of the set that
                is made, ``labels`` are the nearest probabilities, and ``scores`` what was given.
            coded: say on the card how many bytes the tensors would take entropy-coded, where they are not too many.

        Raises:
            PotstillError: inputs, labels, weights or what was learned break the format (not finite, not as many, rows
                that do not sum to 1, scores of another number of classes, a rate that is none).
            TypeError: the card is given something that is not JSON.
        """
        inputs = to_stored_form(inputs, input)
        labels = labels.detach().cpu()
        labels = (labels.float() if labels.is_floating_point() else labels.long()).contiguous()
        payload = {name: t.detach().cpu().contiguous() for name, t in (payload or {}).items()}
        index = None if index is None else index.detach().cpu().long()
        weights = None if weights is None else weights.detach().cpu().float().contiguous()
        learned = {name: t.detach().cpu().float().contiguous() for name, t in (learned or {}).items()}
        training = {**training, **({"learned_lr": learned[LEARNED_LR].tolist()} if LEARNED_LR in learned else {})}
        normalization = _stored_normalization(normalization)
        if len(set(classes)) != len(classes):
            raise PotstillError("this set: a class name stands there twice; give each class its own name")
        task = task or Classification(k=len(classes))
        if scores:
            check_scores("this set", labels, num_samples(inputs), len(classes))
        check_content("this set", inputs, to_probabilities(labels) if scores else labels, input, len(classes), task)
        check_extras("this set", inputs, len(labels), payload, index, weights, normalization)
        if captions and len(captions) != len(labels):
            raise PotstillError(f"this set: {len(labels)} inputs need as many captions, but there are {len(captions)}")
        check_learned("this set", learned, training)
        card = {
            **(extra or {}),
            "format": FORMAT,
            "method": method,
            "config": config,
            "seed": seed,
            "ipc": ipc,
            "classes": list(classes),
            "task": task_to_json(task),
            "input": input_to_json(input),
            "normalization": _said(normalization),
            "training": training,
            "source": source,
            "outcome": outcome,
            "decoder": None if not payload or decoder is None else dict(decoder),
            "cost": cost,
            **({"labels": scores_to_json(len(classes))} if scores else {}),
            "versions": {
                "potstill": version("potstill"), "torch": torch.__version__, "python": platform.python_version(),
                "kernels": loaded_kernels(),
            },
        }  # fmt: skip
        tensors, said = encode_contents(
            inputs, labels, classes=len(classes) if is_classification(card) else None, store=store or Float(),
            normalization=normalization, input=input, payload=payload, packed=packed or {}, index=index,
            weights=weights, learned=learned, decoder=decoder, decoded_too=decoded, captions=captions,
            scores=scores,
        )  # fmt: skip
        sizes = bytes_by_part(tensors)
        if coded and sizes["total"] <= MOST_CODED:
            sizes["coded"] = entropy_coded_size(tensors, said)
        card = to_json({**card, "store": {**card.get("store", {}), **said}, "bytes": sizes})
        # What is in memory is what a reader of the file gets.
        got = decode_contents(dict(tensors), card, normalization, 2**62, shared or None)
        if got.inputs is None:
            raise PotstillError(f"this set: {got.missing}")
        check_content("this set", got.inputs, got.labels, input, len(classes), task)
        card["space"] = _space(got.inputs, input)
        return cls(
            got.inputs, got.labels, card, normalization=normalization, payload=got.payload, index=got.index,
            weights=got.weights, learned=got.learned, captions=got.captions, scores=got.scores,
            tensors=tensors,
        )  # fmt: skip

    # What is read from the tensors of the file cannot be set beside them: saving would not know of it.
    @property
    def inputs(self) -> Any:
        """float32 (n, …) in data units (pixels around [0,1]), as a reader of the file gets them; or such tensors, codes
        and words (`potstill.core.nested`) with names.

        Raises:
            PotstillError: what they decode by is not on this machine.
        """
        self._whole()
        return self._inputs

    def _whole(self) -> None:
        if self._missing:
            raise PotstillError(self._missing)

    @property
    def labels(self) -> Tensor:
        """The task's targets: int64 classes (n,) or float32 rows (n, k) that sum to 1; real values (n, t), numbers of
        pairs (n,). Of a set with `scores`: the nearest probabilities to scores + 1/k, which cross-entropy reads."""
        return self._labels

    @property
    def scores(self) -> Tensor | None:
        """float32 (n, k), where labels are real numbers in units in which a hard label is one-hot − 1/k (the targets of
        ridge regression): as they are; else ``None``."""
        return self._scores

    @property
    def captions(self) -> tuple[str, ...]:
        """A text for people for each input, such as a picture's caption; empty where there are none."""
        return self._captions

    @property
    def task(self) -> Task:
        """What is to be learned.

        Raises:
            PotstillError: this machine has no such task.
        """
        if (task := task_from_json(self.metadata)) is None:
            raise PotstillError(
                f"no task {self.metadata['task']['name'][:80]!r} is registered here; install what has it"
            )
        return task

    @property
    def is_classification(self) -> bool:
        """Whether the targets are classes, or rows of their probabilities."""
        return is_classification(self.metadata)

    @property
    def has_soft_labels(self) -> bool:
        """Whether the targets are rows of probabilities of classes."""
        return self.is_classification and self.labels.is_floating_point()

    @property
    def index(self) -> Tensor | None:
        """int64 (n,), which samples of the source these are, or ``None`` for synthetic ones."""
        return self._index

    @property
    def weights(self) -> Tensor | None:
        """float32 (n,), how much each counts in a training loss, in the method's own units: finite, at least 0, not all
        0; or ``None``: all alike."""
        return self._weights

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int) -> tuple[Any, Tensor]:
        """(input, label) number ``item``, the input in model space: ready to train on. Weights: see `weighted`."""
        self._whole()
        return sample(self._model_space, item), self.labels[item]

    def __repr__(self) -> str:
        kind = "real" if self.index is not None else "synthetic"
        source, method = self.metadata["source"].get("name"), self.metadata["method"]
        return f"Distilled({len(self)} {kind} inputs of {source!r} by {method!r})"

    def _repr_html_(self) -> str:
        spec, cost = self.metadata["input"], self.metadata.get("cost", {})
        in_classes = (
            f" in {len(self.classes):,} classes" if self.is_classification else f" ({self.metadata['task']['name']})"
        )
        rows: list[tuple[str, object]] = [
            ("made of", self.metadata["source"].get("name")),
            ("by", self.metadata["method"]),
            ("inputs", f"{len(self):,} of {format_shape(self.input)}{in_classes}"),
            ("bytes", f"{self.metadata['bytes']['total']:,}"),
            ("steps", f"{cost['steps']:,} in {cost['seconds']:,.0f} s" if {"steps", "seconds"} <= cost.keys() else "?"),
        ]
        shown = titled_table(repr(self), rows)
        if spec["kind"] != "image" or not self.is_classification or self._missing:
            return shown
        hard = self.hard_labels
        first = (torch.where(hard == c)[0][:MAX_IMAGES] for c in range(min(MAX_CLASSES, len(self.classes))))
        by_class = zip(self.classes, first, strict=False)
        return shown + image_rows((name, list(self.inputs[index].numpy())) for name, index in by_class)

    @property
    def is_selection(self) -> bool:
        """Whether these are samples of the source (a selection), not synthetic ones."""
        return self.index is not None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(self.metadata["classes"])

    @property
    def input(self) -> InputSpec:
        """What one input is."""
        return input_from_json(self.metadata["input"])

    @property
    def sample_weight(self) -> Tensor | None:
        """The weights over their mean, float32 (n,): a factor of each sample's loss; ``None`` if there are none."""
        return None if self.weights is None else (self.weights.double() / self.weights.double().mean()).float()

    def with_weights(self) -> Dataset[tuple[Any, ...]]:
        """A ``Dataset`` of (input, label, weight), weights with mean 1: all 1 where the set has none."""
        self._whole()
        weight = torch.ones(len(self)) if (found := self.sample_weight) is None else found
        if isinstance(self._model_space, Tensor):
            return TensorDataset(self._model_space, self.labels, weight)
        return _Weighted(self, weight)

    @property
    def hard_labels(self) -> Tensor:
        """int64 (n,): the class, or the likeliest class of a row; 0 where there are no classes."""
        if not self.is_classification:
            return torch.zeros(len(self), dtype=torch.int64)
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels

    def model_space(self) -> Any:
        """All inputs as students see them (n, …)."""
        self._whole()
        return self._model_space

    def to_dict(self) -> dict[str, Any]:
        """A copy of the card: JSON values only."""
        return copy.deepcopy(self.metadata)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the set to ``path``; see ``save``."""
        return save(self, path, force=force)

    def to_pandas(self) -> Any:
        """The rows of a table as a ``pandas.DataFrame``, like the one that the set was made of.

        The columns of the source in their order and types (a category is the nearest one, dates are dates, numbers are
        rounded where the source held whole ones), then the labels by their names or the targets; where there are any,
        ``soft_label`` (a row of probabilities in the order of `classes`), ``scores`` and ``weight``.

        Raises:
            PotstillError: the set holds no rows of a table, or pandas is not installed.
        """
        from potstill.exporters.table_rows import to_pandas

        return to_pandas(self)

    def to_hf(self, path: str | Path, *, license: str | None = None) -> Path:
        """A Hugging Face data set in a new folder ``path``: ``datasets.load_dataset`` reads it, without Potstill.

        ``license`` is an identifier of the Hub's, such as ``cc-by-4.0``: usually that of the data it was made of. See
        ``potstill.exporters.hugging_face``.

        Raises:
            PotstillError: the path is taken or cannot be written.
        """
        from potstill.exporters.hugging_face import to_hf

        return to_hf(self, path, license=license)

    def push_to_hub(
        self, repo: str, *, license: str | None = None, private: bool = True, token: str | None = None, api: Any = None
    ) -> str:
        """Publish that folder as the data set ``repo`` (``USER/NAME``) of the Hugging Face Hub, and return its address.

        Args:
            license: what others may do with it; a set that is not private needs one.
            token: the Hub's, else that of ``hf auth login``.
            api: what talks to the Hub, by default ``huggingface_hub.HfApi``.

        Raises:
            PotstillError: there is no licence, or the Hub refuses or cannot be reached.
        """
        from potstill.exporters.hugging_face import push_to_hub

        return push_to_hub(self, repo, license=license, private=private, token=token, api=api)


class _Weighted(Dataset[tuple[Any, ...]]):
    """(input, label, weight) of inputs with names."""

    def __init__(self, held: Distilled, weight: Tensor) -> None:
        self._held, self._weight = held, weight

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, item: int) -> tuple[Any, ...]:
        return *self._held[item], self._weight[item]


def _plain(tensor: Tensor) -> Tensor:
    """As a file has it: float32 or int64, on the CPU."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor.long()).contiguous()


def to_stored_form(inputs: Inputs, spec: InputSpec) -> Inputs:
    """As a file has them: float32 or int64, on the CPU, parts in the order of ``spec``."""
    made: Inputs = tree_map(_plain, inputs)
    return made if isinstance(made, Tensor) else {n: made[n] for n in (*tensor_names(spec), *made) if n in made}


def format_shape(spec: InputSpec) -> str:
    """The shape of an input for people: ``1×28×28``, ``image 3×32×32 and text``."""
    if spec.parts:
        said = [f"{name} {'×'.join(map(str, part.shape))}".strip() for name, part in spec.parts]
        return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    return "×".join(map(str, spec.shape))


def _space(inputs: Inputs, spec: InputSpec) -> str:
    """``pixels`` in [0,1]; ``unclamped``: optimised ones leave it; clamping would change what was distilled."""
    kinds = {"": spec.kind, **{name: part.kind for name, part in spec.parts}}
    pictures = [x for name, x in named_tensors(inputs).items() if kinds.get(name) == "image"]
    if not pictures:
        return "raw"
    return "pixels" if all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in pictures) else "unclamped"


def _said(n: Normalization) -> dict[str, Any]:
    """What the card says of a normalization."""
    w = n.whitening
    return {
        "mean": n.mean.tolist(),
        "std": n.std.tolist(),
        "whitening": None if w is None else {part: f"whitening/{part}" for part in WHITENING} | {"unit": w.unit_norm},
        **({"parts": {name: _said(part) for name, part in n.parts.items()}} if n.parts else {}),
    }


def _stored_normalization(normalization: Normalization) -> Normalization:
    """Float32 on the CPU, in the memory order that a file gives back: another order multiplies to other last bits."""

    def stored(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().float().contiguous()

    w = normalization.whitening
    if w is not None:
        w = Whitening(stored(w.mean), stored(w.matrix), stored(w.inverse), w.unit_norm)
    parts = {name: _stored_normalization(part) for name, part in normalization.parts.items()}
    return Normalization(stored(normalization.mean), stored(normalization.std), w, parts)


def stored_tensors(distilled: Distilled) -> dict[str, Tensor]:
    """All tensors of the file by name."""
    return dict(distilled.tensors)


def save(distilled: Distilled, path: str | Path, *, force: bool = False) -> Path:
    """Write a set as one safetensors file, beside and renamed. Equal sets with equal cards give equal bytes.

    Args:
        force: replace whatever file is there. Without it a set of the same run is replaced, and nothing else.

    Raises:
        PotstillError: it cannot be written, or something else is there; nothing is changed then.
    """
    path = check_output(
        path, reads=distilled.files, force=force, found=lambda at: describe_conflict(at, distilled.metadata)
    )
    write_tensors(path, stored_tensors(distilled), {"card": metadata_text(distilled.metadata)})
    return path


def load(path: str | Path, *, max_bytes: int | None = None, decoder: DecoderSource | None = None) -> Distilled:
    """Read a set. Nothing in the file is run, and nothing in it is believed before it is checked.

    A set that decodes by an asset which is not on this machine has labels and a card, and says so where its inputs are
    asked for.

    Args:
        decoder: the file of the asset that it decodes by, or by its name files and tensors; else it is looked for in
            the cache. Its hash must be the one on the card.
        max_bytes: refuse larger files; ``None``: as the limit ``set_bytes`` says.

    Raises:
        PotstillError: the file is missing, cut off, foreign, of a newer format, or contradicts itself: one line.
    """
    path = Path(path)
    if max_bytes is None:
        max_bytes = limits().set_bytes
        with suppress(OSError, ValueError):  # what is no path is refused below
            check_limit("set_bytes", os.path.getsize(path), str(path))
    tensors, metadata = read_tensors(path, max_bytes)
    card = parse_metadata(path, metadata)
    said = card.get("decoder")
    if decoder is not None and not (isinstance(said, dict) and said.get("assets")):
        raise PotstillError(f"{path}: decodes by no asset, but a decoder is given; leave it out")
    small = validated_set(path, card, tensors, max_bytes, decoder)
    small.path = path
    return small


def validated_set(
    path: Path, card: dict[str, Any], tensors: dict[str, Tensor], max_bytes: int = MAX_BYTES,
    decoder: DecoderSource | None = None,
) -> Distilled:  # fmt: skip
    """The set of a card and the tensors of its file, once they fit each other.

    Raises:
        PotstillError: they contradict each other.
    """
    held, spec = dict(tensors), input_from_json(card["input"])
    normalization = normalization_of(path, card, tensors)
    try:
        task = task_from_json(card)
        first = card["format"] == FIRST
        got = _first(tensors) if first else decode_contents(tensors, card, normalization, max_bytes, decoder)
    except PotstillError as error:
        raise PotstillError(f"{path}: {error}") from error
    n, k = len(got.labels) if got.labels.ndim else 0, len(card["classes"])
    if got.inputs is None:
        check_labels(str(path), got.labels, n, k, task)
    else:
        check_content(str(path), got.inputs, got.labels, spec, k, task)
    if tensors:
        raise PotstillError(
            f"{path}: tensor {min(tensors)[:80]!r} is not of format {card['format']}; get the file again"
        )
    check_extras(str(path), got.inputs, len(got.labels), got.payload, got.index, got.weights, normalization)
    check_learned(str(path), got.learned, card["training"])
    w = normalization.whitening
    sizes = _first_sizes(held["inputs"], got.labels, got.payload, w, got.weights) if first else bytes_by_part(held)
    if any(card["bytes"].get(n) != sizes.get(n) for n in {*BYTE_KEYS, *sizes}):
        raise PotstillError(
            f"{path}: the card says {card['bytes']['total']:,} bytes, but what is stored takes {sizes['total']:,} "
            f"({', '.join(f'{n} {sizes[n]:,}' for n in BYTE_KEYS[:3])}); get the file again"
        )
    return Distilled(
        got.inputs, got.labels, card, normalization=normalization, payload=got.payload, index=got.index,
        weights=got.weights, learned=got.learned, captions=got.captions, scores=got.scores, tensors=held,
        missing=f"{path}: {got.missing}" if got.missing else "",
    )  # fmt: skip


def _first(tensors: dict[str, Tensor]) -> Contents:
    """What a file of the first format holds: everything as it is, decoded inputs beside a payload."""
    if missing := [n for n in ("inputs", "labels") if n not in tensors]:
        raise PotstillError(f"holds no tensor {missing[0]!r}; it is not a distilled set")
    inputs, labels = tensors.pop("inputs"), tensors.pop("labels")
    if inputs.dtype != torch.float32 or labels.dtype not in (torch.int64, torch.float32):
        raise PotstillError(
            f"inputs must be float32 and labels int64 or float32, not {inputs.dtype} and {labels.dtype}"
        )
    payload = {n.removeprefix("payload/"): tensors.pop(n) for n in sorted(tensors) if n.startswith("payload/")}
    index, weights = tensors.pop("index", None), tensors.pop("weights", None)
    return Contents(inputs=inputs, labels=labels, payload=payload, index=index, weights=weights, learned={})


def normalization_of(path: Path, card: Mapping[str, Any], tensors: dict[str, Tensor]) -> Normalization:
    """The normalization that the card describes; takes the whitening out of ``tensors``.

    Raises:
        PotstillError: it describes none, or the whitening's tensors do not fit it.
    """
    return _normalization(path, card["normalization"], input_from_json(card["input"]), tensors)


def _normalization(path: Path, said: Any, spec: InputSpec, tensors: dict[str, Tensor]) -> Normalization:
    shape, inner = spec.shape, dict(spec.parts)
    if not isinstance(said, dict):
        raise PotstillError(f"{path}: the card's normalization must say a mean and a std; get the file again")
    rows = [said.get("mean"), said.get("std")]
    try:
        if not all(isinstance(row, list) and all(type(v) in (int, float) for v in row) for row in rows):
            raise ValueError("no list of numbers")
        mean, std = (torch.tensor([float(v) for v in row or ()], dtype=torch.float32) for row in rows)
        if len(mean) != len(std):
            raise ValueError("not as many")
    except (ValueError, OverflowError) as error:
        raise PotstillError(
            f"{path}: the card's normalization needs a mean and a positive std for each of {shape[:1]} channels"
        ) from error
    whitening = None
    if (w := said.get("whitening")) is not None:
        d = math.prod(shape)
        parts = [tensors.pop(f"whitening/{n}", None) for n in WHITENING]
        found = [p for p in parts if p is not None and p.dtype == torch.float32]
        named = isinstance(w, dict) and all(w.get(n) == f"whitening/{n}" for n in WHITENING)
        named = named and isinstance(w.get("unit"), bool)
        if not named or [tuple(p.shape) for p in found] != [(d,), (d, d), (d, d)]:
            raise PotstillError(f"{path}: its whitening tensors are missing, named otherwise or not for {d} values")
        whitening = Whitening(found[0], found[1], found[2], unit_norm=w["unit"])
    parts = said.get("parts", {})
    if not isinstance(parts, dict) or not set(parts) <= set(inner):
        raise PotstillError(f"{path}: the card's normalization has parts that its input lacks; get the file again")
    return Normalization(
        mean, std, whitening, {name: _normalization(path, part, inner[name], {}) for name, part in parts.items()}
    )
