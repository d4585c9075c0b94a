"""Normalization of a set, to and from its metadata."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization, Whitening
from potstill.dataset_file.metadata import input_from_json
from potstill.dataset_file.validate import WHITENING
from potstill.errors import PotstillError

__all__ = ["is_same", "normalization_to_json", "read_normalization", "to_float32"]


def normalization_to_json(normalization: Normalization) -> dict[str, Any]:
    """Return the metadata's ``normalization``; the whitening's tensors are named, not included."""
    w = normalization.whitening
    return {
        "mean": _shortest(normalization.mean),
        "std": _shortest(normalization.std),
        "whitening": None if w is None else {part: f"whitening/{part}" for part in WHITENING} | {"unit": w.unit_norm},
        **(
            {"parts": {name: normalization_to_json(part) for name, part in normalization.parts.items()}}
            if normalization.parts
            else {}
        ),
    }


def _shortest(row: Tensor) -> list[float]:
    """Return the numbers with the fewest digits that float32 reads as these."""
    values = row.tolist()
    short = [float(str(value)) for value in row.float().numpy()]
    read = torch.tensor(short, dtype=torch.float32).tolist()
    return [s if r == v else v for s, r, v in zip(short, read, values, strict=True)]


def is_same(a: Normalization, b: Normalization) -> bool:
    """Return whether two normalizations have equal values."""
    w, v = a.whitening, b.whitening
    same = normalization_to_json(a) == normalization_to_json(b)
    return same and (w is None or all(torch.equal(getattr(w, name), getattr(v, name)) for name in WHITENING))


def to_float32(normalization: Normalization) -> Normalization:
    """Return it in float32 on the CPU, in the memory order that a file gives: another order has other last bits."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().float().contiguous()

    w = normalization.whitening
    if w is not None:
        w = Whitening(convert(w.mean), convert(w.matrix), convert(w.inverse), w.unit_norm)
    parts = {name: to_float32(part) for name, part in normalization.parts.items()}
    return Normalization(convert(normalization.mean), convert(normalization.std), w, parts)


def read_normalization(path: Path, metadata: Mapping[str, Any], tensors: dict[str, Tensor]) -> Normalization:
    """Return the normalization that the metadata describes; takes the whitening out of ``tensors``.

    Raises:
        PotstillError: the metadata describe none, or the whitening's tensors do not fit it.
    """
    return _normalization(path, metadata["normalization"], input_from_json(metadata["input"]), tensors)


def _normalization(path: Path, described: Any, spec: InputSpec, tensors: dict[str, Tensor]) -> Normalization:
    shape, inner = spec.shape, dict(spec.parts)
    if not isinstance(described, dict):
        raise PotstillError(f"{path}: its normalization must have a mean and a std; get the file again")
    rows = [described.get("mean"), described.get("std")]
    try:
        if not all(isinstance(row, list) and all(type(v) in (int, float) for v in row) for row in rows):
            raise ValueError("no list of numbers")
        mean, std = (torch.tensor([float(v) for v in row or ()], dtype=torch.float32) for row in rows)
        if len(mean) != len(std):
            raise ValueError("not as many")
    except (ValueError, OverflowError) as error:
        raise PotstillError(
            f"{path}: its normalization needs a mean and a positive std for each of {shape[:1]} channels"
        ) from error
    whitening = None
    if (w := described.get("whitening")) is not None:
        d = math.prod(shape)
        parts = [tensors.pop(f"whitening/{n}", None) for n in WHITENING]
        valid = [p for p in parts if p is not None and p.dtype == torch.float32]
        named = isinstance(w, dict) and all(w.get(n) == f"whitening/{n}" for n in WHITENING)
        named = named and isinstance(w.get("unit"), bool)
        if not named or [tuple(p.shape) for p in valid] != [(d,), (d, d), (d, d)]:
            raise PotstillError(f"{path}: its whitening tensors are missing, named otherwise or not for {d} values")
        whitening = Whitening(valid[0], valid[1], valid[2], unit_norm=w["unit"])
    parts = described.get("parts", {})
    if not isinstance(parts, dict) or not set(parts) <= set(inner):
        raise PotstillError(f"{path}: its normalization has parts that its input lacks; get the file again")
    return Normalization(
        mean, std, whitening, {name: _normalization(path, part, inner[name], {}) for name, part in parts.items()}
    )
