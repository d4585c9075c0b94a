"""The product: inputs, labels and a card, in one file that is readable without Potstill."""

import copy
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from potstill.core import InputSpec, Normalization, Store, Stored, Whitening
from potstill.errors import PotstillError
from potstill.native import loaded
from potstill.notebook import MOST_CLASSES, MOST_PICTURES, facts, shelf
from potstill.storage.card import FIRST, FORMAT, SIZES, card_text, plain, read_card
from potstill.storage.contents import SHARED, WHITENING, Contents, coded_size, file_bytes, read_contents, write_contents
from potstill.storage.files import read_tensors, write_tensors
from potstill.store import Float

__all__ = ["FORMAT", "MAX_BYTES", "Distilled", "checked", "item_bytes", "load", "save", "stored_tensors"]

MAX_BYTES = 8 * 2**30
RATE = "student/lr"
"""The learning rate of students, where a method learned it."""
MOST_CODED = 2**20
"""Bytes of a set up to which its entropy-coded size stands on its card: a second or three of computing."""


def item_bytes(
    shape: Sequence[int], soft_classes: int | None = None, per_item: int = 1, *, weighs: bool = False
) -> int:
    """Stored bytes of one item with its labels: float32 values of ``shape``; 8 bytes for a class, 4·k for a row of k.

    Args:
        shape: of one stored item, without the batch axis.
        soft_classes: k where labels are rows.
        per_item: inputs that decode from one item; each has a label.
        weighs: each has a weight, of 4 bytes.
    """
    return 4 * math.prod(shape) + per_item * ((8 if soft_classes is None else 4 * soft_classes) + 4 * weighs)


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


class Distilled(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set: a ``Dataset`` of (input, label), the input normalised as the set's students expect it.

    Attributes:
        payload: what the parametrization decodes from; empty where the inputs are all there is.
        learned: what was learned beside inputs and labels, float32 by name: ``student/lr``.
        card: what it is made of, how, and what it weighs (JSON).
        normalization: data units to model space.
        tensors: what the file holds, by name; their bytes are those on the card.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        card: Mapping[str, Any],
        *,
        normalization: Normalization,
        payload: Mapping[str, Tensor] | None = None,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        learned: Mapping[str, Tensor] | None = None,
        tensors: Mapping[str, Tensor],
    ) -> None:
        self._inputs, self._labels, self._index, self._weights = inputs, labels, index, weights
        self.tensors: dict[str, Tensor] = dict(tensors)
        self.payload: Mapping[str, Tensor] = MappingProxyType(dict(payload or {}))
        self.learned: Mapping[str, Tensor] = MappingProxyType(dict(learned or {}))
        self.card: dict[str, Any] = dict(card)
        self.normalization = normalization
        self._model_space = normalization.apply(inputs)

    @classmethod
    def build(
        cls,
        inputs: Tensor,
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
        extra: Mapping[str, Any] | None = None,
        store: Store | None = None,
        packed: Mapping[str, Stored] | None = None,
        decoder: Mapping[str, str] | None = None,
        decoded: bool = False,
        coded: bool = True,
    ) -> "Distilled":
        """A set with its card filled in, as ``load`` reads it back: what the store loses is lost already.

        Args:
            inputs: (n, …) in data units. Where a payload is given with its decoder, what the payload decodes to.
            labels: int64 classes, or rows that sum to 1.
            payload: what the inputs decode from; names that begin with ``decoder/`` are shared by all items.
            weights: how much each input counts.
            learned: what was learned beside them; ``student/lr`` becomes ``training.learned_lr`` of the card.
            extra: further JSON for the card. Numbers that are not finite become ``None``, as JSON has none.
            store: how values are written; float32 by default.
            packed: payload that is packed already, by its name.
            decoder: ``parametrization``, a registered name with its settings, and the ``space`` (model, data) that it
                decodes to. Without it decoded inputs lie in the file beside the payload.
            decoded: write them there in any case, for readers that have no decoder.
            coded: say on the card how many bytes the tensors would take entropy-coded, where they are not too many.

        Raises:
            PotstillError: inputs, labels, weights or what was learned break the format (not finite, not as many, rows
                that do not sum to 1, a rate that is none).
            TypeError: the card is given something that is not JSON.
        """
        inputs = inputs.detach().cpu().float().contiguous()
        labels = labels.detach().cpu()
        labels = (labels.float() if labels.is_floating_point() else labels.long()).contiguous()
        payload = {name: t.detach().cpu().contiguous() for name, t in (payload or {}).items()}
        index = None if index is None else index.detach().cpu().long()
        weights = None if weights is None else weights.detach().cpu().float().contiguous()
        learned = {name: t.detach().cpu().float().contiguous() for name, t in (learned or {}).items()}
        training = {**training, **({"learned_lr": learned[RATE].tolist()} if RATE in learned else {})}
        normalization = _as_stored(normalization)
        if len(set(classes)) != len(classes):
            raise PotstillError("this set: a class name stands there twice; give each class its own name")
        _check_content("this set", inputs, labels, tuple(input.shape), len(classes))
        _check_rest("this set", inputs, payload, index, weights, normalization)
        _check_learned("this set", learned, training)
        w = normalization.whitening
        card = {
            **(extra or {}),
            "format": FORMAT,
            "method": method,
            "config": config,
            "seed": seed,
            "ipc": ipc,
            "classes": list(classes),
            "input": _described(input),
            "normalization": {
                "mean": normalization.mean.tolist(),
                "std": normalization.std.tolist(),
                "whitening": None if w is None else {n: f"whitening/{n}" for n in WHITENING} | {"unit": w.unit},
            },
            "training": training,
            "source": source,
            "outcome": outcome,
            "decoder": None if not payload or decoder is None else dict(decoder),
            "cost": cost,
            "versions": {
                "potstill": version("potstill"), "torch": torch.__version__, "python": platform.python_version(),
                "kernels": loaded(),
            },
        }  # fmt: skip
        tensors, said = write_contents(
            inputs, labels, classes=len(classes), store=store or Float(), normalization=normalization,
            image=input.kind == "image", payload=payload, packed=packed or {}, index=index, weights=weights,
            learned=learned, decoder=decoder, decoded_too=decoded,
        )  # fmt: skip
        sizes = file_bytes(tensors)
        if coded and sizes["total"] <= MOST_CODED:
            sizes["coded"] = coded_size(tensors, said)
        card = plain({**card, "store": {**card.get("store", {}), **said}, "bytes": sizes})
        # What is in memory is what a reader of the file gets.
        got = read_contents(dict(tensors), card, normalization, 2**62)
        _check_content("this set", got.inputs, got.labels, tuple(input.shape), len(classes))
        card["space"] = _space(got.inputs, input.kind)
        return cls(
            got.inputs, got.labels, card, normalization=normalization, payload=got.payload, index=got.index,
            weights=got.weights, learned=got.learned, tensors=tensors,
        )  # fmt: skip

    # What is read from the tensors of the file cannot be set beside them: saving would not know of it.
    @property
    def inputs(self) -> Tensor:
        """float32 (n, …) in data units (pixels around [0,1]), as a reader of the file gets them."""
        return self._inputs

    @property
    def labels(self) -> Tensor:
        """int64 classes (n,) or float32 rows (n, k) that sum to 1."""
        return self._labels

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
        return len(self.inputs)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """(input, label) number ``item``, the input in model space: ready to train on. Weights: see `weighted`."""
        return self._model_space[item], self.labels[item]

    def __repr__(self) -> str:
        kind = "real" if self.index is not None else "synthetic"
        return f"Distilled({len(self)} {kind} inputs of {self.card['source'].get('name')!r} by {self.card['method']!r})"

    def _repr_html_(self) -> str:
        spec, cost = self.card["input"], self.card.get("cost", {})
        rows: list[tuple[str, object]] = [
            ("made of", self.card["source"].get("name")),
            ("by", self.card["method"]),
            ("inputs", f"{len(self):,} of {'×'.join(map(str, spec['shape']))} in {len(self.classes):,} classes"),
            ("bytes", f"{self.card['bytes']['total']:,}"),
            ("steps", f"{cost['steps']:,} in {cost['seconds']:,.0f} s" if {"steps", "seconds"} <= cost.keys() else "?"),
        ]
        shown = facts(repr(self), rows)
        if spec["kind"] != "image":
            return shown
        hard = self.hard_labels
        first = (torch.where(hard == c)[0][:MOST_PICTURES] for c in range(min(MOST_CLASSES, len(self.classes))))
        by_class = zip(self.classes, first, strict=False)
        return shown + shelf((name, list(self.inputs[index].numpy())) for name, index in by_class)

    @property
    def selected(self) -> bool:
        """Whether these are samples of the source (a selection), not synthetic ones."""
        return self.index is not None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(self.card["classes"])

    @property
    def input(self) -> InputSpec:
        """What one input is."""
        i = self.card["input"]
        columns = i.get("columns")
        return InputSpec(
            kind=i["kind"],
            shape=tuple(i["shape"]),
            units=i.get("units", ""),
            mirrored=i.get("mirrored") is not False,
            columns=tuple(map(str, columns)) if isinstance(columns, list) else (),
        )

    @property
    def sample_weight(self) -> Tensor | None:
        """The weights over their mean, float32 (n,): a factor of each sample's loss; ``None`` if there are none."""
        return None if self.weights is None else (self.weights.double() / self.weights.double().mean()).float()

    def weighted(self) -> TensorDataset:
        """A ``Dataset`` of (input, label, weight), weights with mean 1: all 1 where the set has none."""
        weight = self.sample_weight
        return TensorDataset(self._model_space, self.labels, torch.ones(len(self)) if weight is None else weight)

    @property
    def hard_labels(self) -> Tensor:
        """int64 (n,): the class, or the likeliest class of a row."""
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels

    def model_space(self) -> Tensor:
        """All inputs as students see them (n, …)."""
        return self._model_space

    def to_dict(self) -> dict[str, Any]:
        """A copy of the card: JSON values only."""
        return copy.deepcopy(self.card)

    def save(self, path: str | Path) -> Path:
        """Write the set to ``path``; see ``save``."""
        return save(self, path)


def _space(inputs: Tensor, kind: str) -> str:
    """``pixels`` in [0,1]; ``unclamped``: optimised ones leave it; clamping would change what was distilled."""
    if kind != "image":
        return "raw"
    return "pixels" if float(inputs.min()) >= 0 and float(inputs.max()) <= 1 else "unclamped"


def _described(input: InputSpec) -> dict[str, Any]:
    """What the card says of an input."""
    said: dict[str, Any] = {"kind": input.kind, "shape": input.shape, "units": input.units}
    if input.kind == "image":
        said["mirrored"] = input.mirrored
    return said | ({"columns": list(input.columns)} if input.columns else {})


def _as_stored(normalization: Normalization) -> Normalization:
    """Float32 on the CPU, in the memory order that a file gives back: another order multiplies to other last bits."""

    def stored(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().float().contiguous()

    w = normalization.whitening
    if w is not None:
        w = Whitening(stored(w.mean), stored(w.matrix), stored(w.inverse), w.unit)
    return Normalization(stored(normalization.mean), stored(normalization.std), w)


def stored_tensors(distilled: Distilled) -> dict[str, Tensor]:
    """All tensors of the file by name."""
    return dict(distilled.tensors)


def save(distilled: Distilled, path: str | Path) -> Path:
    """Write a set as one safetensors file, beside and renamed. Equal sets with equal cards give equal bytes.

    Raises:
        PotstillError: it cannot be written; nothing is changed then.
    """
    path = Path(path)
    write_tensors(path, stored_tensors(distilled), {"card": card_text(distilled.card)})
    return path


def load(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Distilled:
    """Read a set. Nothing in the file is run, and nothing in it is believed before it is checked.

    Args:
        max_bytes: refuse larger files.

    Raises:
        PotstillError: the file is missing, cut off, foreign, of a newer format, or contradicts itself: one line.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, max_bytes)
    return checked(path, read_card(path, metadata), tensors, max_bytes)


def checked(path: Path, card: dict[str, Any], tensors: dict[str, Tensor], max_bytes: int = MAX_BYTES) -> Distilled:
    """The set of a card and the tensors of its file, once they fit each other.

    Raises:
        PotstillError: they contradict each other.
    """
    held = dict(tensors)
    shape = tuple(card["input"]["shape"])
    normalization = normalization_of(path, card, tensors)
    try:
        got = _first(tensors) if card["format"] == FIRST else read_contents(tensors, card, normalization, max_bytes)
    except PotstillError as error:
        raise PotstillError(f"{path}: {error}") from error
    _check_content(str(path), got.inputs, got.labels, shape, len(card["classes"]))
    if tensors:
        raise PotstillError(
            f"{path}: tensor {min(tensors)[:80]!r} is not of format {card['format']}; get the file again"
        )
    _check_rest(str(path), got.inputs, got.payload, got.index, got.weights, normalization)
    _check_learned(str(path), got.learned, card["training"])
    w = normalization.whitening
    first = card["format"] == FIRST
    sizes = _first_sizes(got.inputs, got.labels, got.payload, w, got.weights) if first else file_bytes(held)
    if any(card["bytes"].get(n) != sizes.get(n) for n in {*SIZES, *sizes}):
        raise PotstillError(
            f"{path}: the card says {card['bytes']['total']:,} bytes, but what is stored takes {sizes['total']:,} "
            f"({', '.join(f'{n} {sizes[n]:,}' for n in SIZES[:3])}); get the file again"
        )
    return Distilled(
        got.inputs, got.labels, card, normalization=normalization, payload=got.payload, index=got.index,
        weights=got.weights, learned=got.learned, tensors=held,
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


def _check_content(what: str, inputs: Tensor, labels: Tensor, shape: tuple[int, ...], classes: int) -> None:
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise PotstillError(f"{what}: at least one input with values is required, but inputs are {list(inputs.shape)}")
    if tuple(inputs.shape[1:]) != shape:
        raise PotstillError(
            f"{what}: the card says inputs of shape {list(shape)}, but they are {list(inputs.shape[1:])}"
        )
    if labels.ndim not in (1, 2) or len(labels) != len(inputs):
        raise PotstillError(f"{what}: {len(inputs)} inputs need as many labels, but labels are {list(labels.shape)}")
    if not bool(torch.isfinite(inputs).all()):
        raise PotstillError(f"{what}: inputs must be finite, but some are NaN or infinite; distil it again")
    if labels.is_floating_point():
        sums = labels.sum(1) if labels.ndim == 2 else labels
        right = labels.ndim == 2 and labels.shape[1] == classes and bool((labels >= 0).all())
        if not right or not bool(((sums - 1).abs() <= 1e-4).all()):
            raise PotstillError(f"{what}: soft labels must be rows of {classes} probabilities that sum to 1")
    elif labels.ndim != 1 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise PotstillError(f"{what}: labels must be in 0…{classes - 1}, one for each input")


def _finite(tensor: Tensor) -> bool:
    if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        tensor = tensor.float()
    return bool(torch.isfinite(tensor).all())


def _check_rest(
    what: str, inputs: Tensor, payload: Mapping[str, Tensor], index: Tensor | None, weights: Tensor | None,
    normalization: Normalization,
) -> None:  # fmt: skip
    if bad := [name for name, tensor in payload.items() if not _finite(tensor)]:
        raise PotstillError(f"{what}: payload {bad[0][:80]!r} must be finite, but some of it is NaN or infinite")
    if index is not None and (index.dtype != torch.int64 or index.shape != inputs.shape[:1] or int(index.min()) < 0):
        raise PotstillError(f"{what}: index must be one int64 ≥ 0 for each of {len(inputs)} inputs")
    if weights is not None:
        fits = weights.dtype == torch.float32 and weights.shape == inputs.shape[:1] and _finite(weights)
        if not fits or float(weights.min()) < 0 or float(weights.max()) <= 0:
            raise PotstillError(
                f"{what}: weights must be one finite float32 ≥ 0 for each of {len(inputs)} inputs, and not all 0"
            )
    mean, std, channels = normalization.mean, normalization.std, inputs.shape[1]
    fits = mean.ndim == 1 and mean.shape == std.shape and len(mean) in (1, channels)
    if not fits or not _finite(mean) or not _finite(std) or not bool((std > 0).all()):
        raise PotstillError(f"{what}: normalization needs a mean and a positive std for each of {channels} channels")
    if (w := normalization.whitening) is not None:
        d = inputs[0].numel()
        for name, shape in zip(WHITENING, ((d,), (d, d), (d, d)), strict=True):
            tensor: Tensor = getattr(w, name)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or not _finite(tensor):
                raise PotstillError(f"{what}: its whitening tensors are not finite float32 for {d} values")
    if not _finite(normalization.apply(inputs)):
        raise PotstillError(f"{what}: its normalization takes the inputs beyond what float32 holds")


def _check_learned(what: str, learned: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
    if bad := [name for name, tensor in learned.items() if not _finite(tensor)]:
        raise PotstillError(f"{what}: learned {bad[0][:80]!r} must be finite, but some of it is NaN or infinite")
    if (rate := learned.get(RATE)) is not None:
        if rate.ndim or float(rate) <= 0:
            raise PotstillError(f"{what}: learned {RATE!r} must be one number above 0, but it is {rate.tolist()!s:.60}")
        if training.get("learned_lr") != rate.item():
            raise PotstillError(
                f"{what}: its learned rate is {rate.item()}, but the card's training.learned_lr is "
                f"{training.get('learned_lr')!s:.60}; get the file again"
            )


def normalization_of(path: Path, card: Mapping[str, Any], tensors: dict[str, Tensor]) -> Normalization:
    """The normalization that the card describes; takes the whitening out of ``tensors``.

    Raises:
        PotstillError: it describes none, or the whitening's tensors do not fit it.
    """
    said, shape = card["normalization"], tuple(card["input"]["shape"])
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
        whitening = Whitening(found[0], found[1], found[2], unit=w["unit"])
    return Normalization(mean, std, whitening)
