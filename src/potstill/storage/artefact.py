"""The product: decoded inputs, labels and a card, in one file that is readable without Potstill."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from potstill.core import InputSpec, Normalization, Whitening
from potstill.errors import PotstillError
from potstill.storage.files import read_tensors, write_tensors

__all__ = ["FORMAT", "Distilled", "item_bytes", "load", "save"]

FORMAT = "potstill/1"
MAX_BYTES = 8 * 2**30
MAX_CARD = 16 * 2**20
_KEYS: dict[str, type | tuple[type, ...]] = {
    "method": str, "config": dict, "seed": int, "ipc": int, "classes": list, "input": dict, "normalization": dict,
    "training": dict, "source": dict, "outcome": dict, "bytes": dict, "cost": dict, "versions": dict,
}  # fmt: skip
_WHITENING = ("mean", "matrix", "inverse")


def item_bytes(shape: Sequence[int], soft_classes: int | None = None) -> int:
    """Stored bytes of one input of ``shape`` in float32 with its label: 8 for a class, 4·k for a row of k."""
    return 4 * math.prod(shape) + (8 if soft_classes is None else 4 * soft_classes)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class Distilled(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set: a ``Dataset`` of (input, label), the input normalised as the set's students expect it.

    Attributes:
        inputs: float32 (n, …) in data units (pixels around [0,1]), as stored.
        labels: int64 classes (n,) or float32 rows (n, k) that sum to 1.
        payload: what the parametrization decodes from, in model space; empty where the inputs are all there is.
        index: int64 (n,), which samples of the source these are, or ``None`` for synthetic ones.
        card: what it is made of, how, and what it weighs (JSON).
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
    ) -> None:
        self.inputs, self.labels, self.index = inputs, labels, index
        self.payload: dict[str, Tensor] = dict(payload or {})
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
        extra: Mapping[str, Any] | None = None,
    ) -> "Distilled":
        """A set with its card filled in.

        Args:
            inputs: (n, …) in data units.
            labels: int64 classes, or rows that sum to 1.
            extra: further JSON for the card.

        Raises:
            PotstillError: inputs or labels break the format (not finite, not as many, rows that do not sum to 1).
        """
        inputs = inputs.detach().cpu().float().contiguous()
        labels = labels.detach().cpu()
        labels = labels.float() if labels.is_floating_point() else labels.long()
        _check_content("this set", inputs, labels, len(classes))
        if (w := normalization.whitening) is not None:
            # A matrix of another memory order multiplies to other last bits: use the order that the file gives back.
            w = Whitening(w.mean.contiguous(), w.matrix.contiguous(), w.inverse.contiguous(), w.unit)
            normalization = Normalization(normalization.mean, normalization.std, w)
        stored = _extra_tensors(normalization, payload or {}, index)
        sizes = {
            "inputs": _size(inputs), "labels": _size(labels), "decoder": sum(_size(t) for t in stored.values()),
        }  # fmt: skip
        space = "pixels" if input.kind == "image" else "raw"
        if input.kind == "image" and (float(inputs.min()) < 0 or float(inputs.max()) > 1):
            space = "unclamped"  # optimised pixels leave [0,1]; clamping them would change what was distilled
        card = {
            **(extra or {}),
            "format": FORMAT,
            "method": method,
            "config": dict(config),
            "seed": seed,
            "ipc": ipc,
            "classes": list(classes),
            "input": {"kind": input.kind, "shape": list(input.shape), "units": input.units},
            "space": space,
            "normalization": {
                "mean": normalization.mean.tolist(),
                "std": normalization.std.tolist(),
                "whitening": None if w is None else {n: f"whitening/{n}" for n in _WHITENING} | {"unit": w.unit},
            },
            "training": dict(training),
            "source": dict(source),
            "outcome": dict(outcome),
            "bytes": {**sizes, "total": sum(sizes.values())},
            "cost": dict(cost),
            "versions": {
                "potstill": version("potstill"), "torch": torch.__version__, "python": platform.python_version(),
            },
        }  # fmt: skip
        card = json.loads(json.dumps(card))  # what is in memory is what a reader of the file gets
        return cls(inputs, labels, card, normalization=normalization, payload=payload, index=index)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """(input, label) number ``item``, the input in model space: ready to train on."""
        return self._model_space[item], self.labels[item]

    def __repr__(self) -> str:
        kind = "real" if self.index is not None else "synthetic"
        return f"Distilled({len(self)} {kind} inputs of {self.card['source'].get('name')} by {self.card['method']})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(self.card["classes"])

    @property
    def input(self) -> InputSpec:
        """What one input is."""
        i = self.card["input"]
        return InputSpec(kind=i["kind"], shape=tuple(i["shape"]), units=i.get("units", ""))

    @property
    def hard_labels(self) -> Tensor:
        """int64 (n,): the class, or the likeliest class of a row."""
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels

    def model_space(self) -> Tensor:
        """All inputs as students see them (n, …)."""
        return self._model_space

    def save(self, path: str | Path) -> Path:
        """Write the set to ``path``; see ``save``."""
        return save(self, path)


def _extra_tensors(
    normalization: Normalization, payload: Mapping[str, Tensor], index: Tensor | None
) -> dict[str, Tensor]:
    """What is stored beside inputs and labels: payload, whitening, index."""
    stored = {f"payload/{name}": tensor for name, tensor in payload.items()}
    if (w := normalization.whitening) is not None:
        stored |= {f"whitening/{n}": getattr(w, n) for n in _WHITENING}
    if index is not None:
        stored["index"] = index.long()
    return stored


def save(distilled: Distilled, path: str | Path) -> Path:
    """Write a set as one safetensors file, beside and renamed. Equal sets with equal cards give equal bytes.

    Raises:
        PotstillError: it cannot be written; nothing is changed then.
    """
    path = Path(path)
    tensors = {"inputs": distilled.inputs, "labels": distilled.labels}
    tensors |= _extra_tensors(distilled.normalization, distilled.payload, distilled.index)
    write_tensors(path, tensors, {"card": json.dumps(distilled.card, sort_keys=True, ensure_ascii=False)})
    return path


def load(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Distilled:
    """Read a set. Nothing in the file is run, and nothing in it is believed before it is checked.

    Args:
        max_bytes: refuse larger files.

    Raises:
        PotstillError: the file is missing, cut off, foreign, of a newer format, or contradicts itself: one line.
    """
    path = Path(path)
    if not path.exists():
        raise PotstillError(f"{path}: no such file")
    if path.is_dir():
        raise PotstillError(f"{path}: a distilled set is one .safetensors file, but this is a folder")
    tensors, metadata = read_tensors(path, max_bytes)
    card = _card(path, metadata)
    if missing := [n for n in ("inputs", "labels") if n not in tensors]:
        raise PotstillError(f"{path}: holds no tensor {missing[0]!r}; it is not a distilled set")
    inputs, labels = tensors["inputs"], tensors["labels"]
    if inputs.dtype != torch.float32 or labels.dtype not in (torch.int64, torch.float32):
        raise PotstillError(
            f"{path}: inputs must be float32 and labels int64 or float32, not {inputs.dtype} and {labels.dtype}"
        )
    shape = card["input"].get("shape")
    if list(inputs.shape[1:]) != shape:
        raise PotstillError(f"{path}: the card says inputs of shape {shape}, but they are {list(inputs.shape[1:])}")
    _check_content(str(path), inputs, labels, len(card["classes"]))
    index = tensors.get("index")
    if index is not None and (index.dtype != torch.int64 or index.shape != inputs.shape[:1]):
        raise PotstillError(f"{path}: index must be one int64 for each of {len(inputs)} inputs; get the file again")
    payload = {n.removeprefix("payload/"): t for n, t in tensors.items() if n.startswith("payload/")}
    return Distilled(
        inputs,
        labels,
        card,
        normalization=_normalization(path, card["normalization"], tensors, inputs),
        payload=payload,
        index=index,
    )


def _check_content(what: str, inputs: Tensor, labels: Tensor, classes: int) -> None:
    if inputs.ndim < 2 or len(inputs) == 0 or inputs[0].numel() == 0:
        raise PotstillError(f"{what}: at least one input with values is required, but inputs are {list(inputs.shape)}")
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


def _card(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("card")
    if text is None:
        raise PotstillError(f"{path}: a safetensors file without a card; only files that potstill saved are sets")
    if len(text) > MAX_CARD:
        raise PotstillError(f"{path}: its card has {len(text):,} characters, more than {MAX_CARD:,}; it is refused")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: its card is not JSON; get the file again") from error
    if not isinstance(card, dict):
        raise PotstillError(f"{path}: its card must be a JSON object; get the file again")
    written = card.get("format")
    if written != FORMAT:
        newer = isinstance(written, str) and written.startswith("potstill/")
        hint = "upgrade potstill to read it" if newer else "only files that potstill saved are sets"
        raise PotstillError(f"{path}: its format is {str(written)[:40]!r}, but this version reads {FORMAT!r}; {hint}")
    for key, kind in _KEYS.items():
        if not isinstance(card.get(key), kind) or isinstance(card.get(key), bool):
            raise PotstillError(f"{path}: its card lacks a valid {key!r}; get the file again")
    if not card["classes"] or not all(isinstance(c, str) for c in card["classes"]):
        raise PotstillError(f"{path}: the card's classes must be names; get the file again")
    if not isinstance(card["input"].get("kind"), str):
        raise PotstillError(f"{path}: the card's input lacks its kind; get the file again")
    return card


def _normalization(path: Path, said: Mapping[str, Any], tensors: Mapping[str, Tensor], inputs: Tensor) -> Normalization:
    mean, std = said.get("mean"), said.get("std")
    numbers = [v for part in (mean, std) if isinstance(part, list) for v in part]
    fits = isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)
    fits = fits and len(mean or ()) in (1, inputs.shape[1])
    if not fits or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers) or min(std or [0]) <= 0:
        raise PotstillError(
            f"{path}: the card's normalization needs a mean and a positive std for each of {inputs.shape[1]} channels"
        )
    whitening = None
    if (w := said.get("whitening")) is not None:
        parts = [tensors.get(f"whitening/{n}") for n in _WHITENING]
        d = inputs[0].numel()
        shapes = ((d,), (d, d), (d, d))
        if not isinstance(w, dict) or any(
            p is None or tuple(p.shape) != s or p.dtype != torch.float32 or not bool(torch.isfinite(p).all())
            for p, s in zip(parts, shapes, strict=True)
        ):
            raise PotstillError(f"{path}: its whitening tensors are missing or of another size than {d} values")
        m, matrix, inverse = (p for p in parts if p is not None)
        whitening = Whitening(m, matrix, inverse, unit=bool(w.get("unit")))
    return Normalization(torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32), whitening)
