"""A set as integers for devices without Python: a C header, or NumPy arrays of the same integers.

Inputs are affine integers of model space, ``scale * (q - zero)``, of 8 bits or 4. A value in data units enters model
space as ``(value - mean) / std``. Labels are class numbers, or rows of 8 bits that are divided by their sum.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Integer, UInt8
from numpy.typing import NDArray
from torch import Tensor

from potstill._util.html import plain_line
from potstill.core import Normalization
from potstill.core.nested import single_tensor
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.files import write_atomic
from potstill.errors import PotstillError

__all__ = [
    "HEADER_MARK", "INTEGER_BITS", "IntegerSet", "c_header", "pack_integers", "to_integers", "write_header",
    "write_integer_arrays",
]  # fmt: skip

INTEGER_BITS = (8, 4)
"""Bits of a value."""
HEADER_MARK = "Made by Potstill: a small training set for C."
"""Text in the first line of every header, by which an earlier one is recognised."""
_LINE = 24
"""Numbers of a line."""


@dataclass(frozen=True, kw_only=True)
class IntegerSet:
    """Inputs and labels as integers, with what turns them into numbers again."""

    inputs: NDArray[Any]
    """int8 (n, values); of 4 bits, uint8 with two values in a byte, the first in its lower half."""
    labels: NDArray[Any]
    """Class numbers (n,), uint8 or uint16; or rows (n, k), uint8."""
    scale: Float32[np.ndarray, " s"]
    """One for all values, or one for each channel."""
    zero: Int32[np.ndarray, " s"]
    mean: Float32[np.ndarray, " c"]
    """Mean of each channel, in data units."""
    std: Float32[np.ndarray, " c"]
    weights: Float32[np.ndarray, " n"] | None
    """Factors of the samples' losses, mean 1; ``None``: all 1."""
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    """Shape of an input, channels first."""
    bits: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values(self) -> int:
        """Values of an input."""
        return int(np.prod(self.shape))

    @property
    def bytes(self) -> int:
        """Bytes on the device: inputs, scales, labels and weights. Mean, std and names are not counted."""
        arrays = (self.inputs, self.labels, self.scale, self.zero)
        return sum(a.nbytes for a in arrays) + (0 if self.weights is None else self.weights.nbytes)

    def decoded_inputs(self) -> Float32[np.ndarray, "n values"]:
        """Return the inputs in model space, as the device computes them."""
        q = self.inputs
        if self.bits == 4:
            both = np.stack([q & 15, q >> 4], 1).reshape(-1)
            q = both[: len(self) * self.values].reshape(len(self), self.values)
        each = self.values // len(self.scale)
        scale, zero = np.repeat(self.scale, each), np.repeat(self.zero, each)
        x: Float32[np.ndarray, "n values"] = scale * (q.astype(np.int32) - zero).astype(np.float32)
        return x

    def decoded_labels(self) -> Float32[np.ndarray, "n k"]:
        """Return rows of probabilities."""
        if self.labels.ndim == 1:
            one_hot: Float32[np.ndarray, "n k"] = np.eye(len(self.classes), dtype=np.float32)[self.labels]
            return one_hot
        rows: Float32[np.ndarray, "n k"] = self.labels.astype(np.float32)
        rows /= rows.sum(1, keepdims=True)
        return rows


def to_integers(distilled: Distilled, bits: int = 8) -> IntegerSet:
    """Return a distilled set as integers.

    Args:
        bits: of an input value: 8 or 4.

    Raises:
        PotstillError: its inputs are no single tensor, it has no classes, or its inputs are whitened.
    """
    if distilled.input.parts or not isinstance(distilled.inputs, Tensor) or not distilled.inputs.is_floating_point():
        parts = ", ".join(name for name, _ in distilled.input.parts) or distilled.input.kind
        raise PotstillError(
            f"a set of integers holds inputs of one tensor of numbers, but this set holds {parts}; export it with "
            '`to="npz"`'
        )
    if not distilled.is_classification or distilled.has_ragged_targets:
        raise PotstillError(
            f"a set of integers has classes, but this set is for task {distilled.metadata['task']['name']}; export it "
            'with `to="npz"`'
        )
    return pack_integers(
        single_tensor(distilled.model_space(), "a set of integers"), distilled.labels, distilled.normalization,
        distilled.classes, bits, weights=distilled.sample_weight,
    )  # fmt: skip


def pack_integers(
    x: Float[Tensor, "n *shape"], y: Tensor, normalization: Normalization, classes: Sequence[str], bits: int = 8, *,
    weights: Float[Tensor, " n"] | None = None,
) -> IntegerSet:  # fmt: skip
    """Return inputs and labels as integers.

    Args:
        x: inputs in model space.
        y: classes (n,), or rows of probabilities (n, k).
        normalization: data units to model space.
        classes: names.
        bits: of an input value: 8 or 4.
        weights: of the samples, mean 1.

    Raises:
        PotstillError: bits that there are none of, one class, a whitened space, or values that are not finite.
    """
    if bits not in INTEGER_BITS:
        raise PotstillError(f"a set of integers has 8 or 4 bits a value, not {bits}; give one of these")
    if len(classes) < 2:
        raise PotstillError(f"a set of integers has two classes or more, but this set has {len(classes)}; give another")
    if normalization.whitening is not None:
        raise PotstillError(
            "a set of integers needs inputs that are normalised by channel, but those of this set are whitened by a "
            "matrix, which no small device holds; distil without whitening"
        )
    values = x.detach().cpu().float().numpy()
    if not np.isfinite(values).all():
        raise PotstillError("a set of integers holds finite values, but this set has others; distil again")
    flat = values.reshape(len(values), values.shape[1] if values.ndim > 2 else 1, -1).astype(np.float64)
    low, high = (-128, 127) if bits == 8 else (0, 15)
    least, most = flat.min((0, 2)), flat.max((0, 2))
    span = most - least
    scale = np.where(span > 0, span / (high - low), np.where(least == 0, 1.0, np.abs(least))).astype(np.float32)
    step = scale.astype(np.float64)
    zero = np.clip(np.rint(low - least / step), -(2.0**31), 2.0**31 - 1).astype(np.int32)
    q = np.clip(np.rint(flat / step[:, None]) + zero[:, None], low, high).reshape(len(values), -1)
    packed = q.astype(np.int8)
    if bits == 4:
        nibbles = np.append(q.reshape(-1), [0] * (q.size % 2)).astype(np.uint8)
        packed = nibbles[::2] | (nibbles[1::2] << 4)
    mean, std = (t.cpu().numpy().astype(np.float32) for t in (normalization.mean, normalization.std))
    return IntegerSet(
        inputs=packed, labels=_labels(y, len(classes)), scale=scale, zero=zero,
        mean=mean, std=std,
        weights=None if weights is None else weights.cpu().numpy().astype(np.float32),
        classes=tuple(classes), shape=tuple(x.shape[1:]), bits=bits,
    )  # fmt: skip


def _labels(y: Tensor, k: int) -> Integer[np.ndarray, "..."]:
    """Return class numbers, or rows whose largest value is 255."""
    if not y.is_floating_point():
        return y.cpu().numpy().astype(np.uint8 if k <= 256 else np.uint16)
    rows = y.cpu().double()
    rows = rows.clamp_min(0) / rows.amax(1, keepdim=True).clamp_min(1e-30)
    scaled: UInt8[np.ndarray, "n k"] = torch.round(255 * rows).numpy().astype(np.uint8)
    return scaled


def c_header(packed: IntegerSet, settings: Mapping[str, str] | None = None) -> str:
    """Return the C99 header of a set.

    Args:
        settings: further macros by name, such as ``UPDATES``: values of the trainer.
    """
    macros = {
        "ITEMS": len(packed), "CLASSES": len(packed.classes), "VALUES": packed.values,
        "CHANNELS": len(packed.mean),
        "SCALES": len(packed.scale), "BITS": packed.bits, "SOFT": int(packed.labels.ndim == 2),
        "WEIGHTED": int(packed.weights is not None), **(settings or {}),
    }  # fmt: skip
    label_type = "uint16_t" if packed.labels.dtype == np.uint16 else "uint8_t"
    names = [f'"{_c_text(name)}"' for name in packed.classes]
    lines = [
        f"/* {HEADER_MARK}",
        f"   {packed.bytes} bytes. Inputs: scale * (q - zero); test values: (value - mean) / std. */",
        "#ifndef POTSTILL_SET_H", "#define POTSTILL_SET_H", "#include <stdint.h>",
        *(f"#define POTSTILL_{name} {value}" for name, value in macros.items()),
        f"/* Shape of an input: {' x '.join(map(str, packed.shape))}. */",
        *_array("float", "scale", map(_c_float, packed.scale)), *_array("int32_t", "zero", map(str, packed.zero)),
        *_array("float", "mean", map(_c_float, packed.mean)), *_array("float", "std", map(_c_float, packed.std)),
        *_array("const char *", "class_names", names, each=1),
        *_array("uint8_t" if packed.bits == 4 else "int8_t", "inputs", map(str, packed.inputs.reshape(-1))),
        *_array(label_type, "labels", map(str, packed.labels.reshape(-1))),
        *([] if packed.weights is None else _array("float", "weights", map(_c_float, packed.weights))),
        "#endif",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _array(kind: str, name: str, values: Any, each: int = _LINE) -> list[str]:
    """Return the lines of a constant array."""
    listed = list(values)
    rows = [", ".join(listed[i : i + each]) for i in range(0, len(listed), each)]
    star = " const" if kind.endswith("*") else ""
    return [f"static const {kind.removeprefix('const ')}{star} potstill_{name}[{len(listed)}] = {{", *(
        f"  {row}," for row in rows
    ), "};"]  # fmt: skip


def _c_float(value: Any) -> str:
    """Return a float32 constant that reads as the same bits."""
    text = f"{float(value):.9g}"
    return (text if any(c in text for c in ".e") else f"{text}.0") + "f"


def _c_text(text: str) -> str:
    """Return the inside of a C string: what is not a letter, a digit, a space or one of ``-_.`` as octal bytes."""
    plain = plain_line(text)
    return "".join(c if c.isascii() and (c.isalnum() or c in " -_.") else _octal(c) for c in plain)


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "replace"))


def write_header(
    distilled: Distilled, path: Path, *, bits: int = 8, settings: Mapping[str, str] | None = None
) -> IntegerSet:
    """Write the header, and return what is in it. Arguments and errors as for `to_integers` and `c_header`."""
    packed = to_integers(distilled, bits)
    write_atomic(path, c_header(packed, settings).encode("ascii"))
    return packed


def write_integer_arrays(distilled: Distilled, path: Path, *, bits: int = 8) -> IntegerSet:
    """Write the same integers as arrays of an .npz: ``inputs``, ``labels``, ``scale``, ``zero``, ``mean``, ``std``,
    ``shape``, ``bits``, ``classes``, ``card`` and, where samples have weights, ``weights``. Errors as `to_integers`.
    """
    packed = to_integers(distilled, bits)
    arrays: dict[str, Any] = {
        **{name: getattr(packed, name) for name in ("inputs", "labels", "scale", "zero", "mean", "std")},
        "shape": np.array(packed.shape), "bits": np.array(bits), "classes": np.array(packed.classes),
        "card": np.array(json.dumps(distilled.to_dict())),
    }  # fmt: skip
    if packed.weights is not None:
        arrays["weights"] = packed.weights
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())
    return packed
