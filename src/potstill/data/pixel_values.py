"""Pictures whose pixels have real values, for ``--task pixel-regression``: ``.npz`` files and arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core import InputSpec, Splits
from potstill.data.arrays import canonicalize_inputs, to_array
from potstill.data.python_objects import named_groups, pick_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError
from potstill.tasks import PixelRegression

__all__ = ["read_pixel_values"]


def read_pixel_values(task: PixelRegression, data: object, options: ReadOptions) -> Splits:
    """Read an ``.npz`` file or arrays (x, y) of pictures and a value, or several, for each pixel.

    Args:
        task: the requested task; its statistics are filled in by the training part.
        data: what holds them. Pictures are as for classes. Targets (n, h, w) or (n, c, h, w) are numbers in any unit,
            NaN where there is none; of 8 bits they are pictures, and scaled to [0, 1].
        options: how to read it.

    Raises:
        PotstillError: targets of another size than their pictures, or without a number; and as for arrays with classes.
    """
    for option in ("label", "text", "representation", "encode", "missing", "size"):
        if getattr(options, option) is not None:
            raise PotstillError(f"pictures with a value for each pixel are read without `{option}=`; leave it out")
    name, pairs = "arrays", data
    if isinstance(data, str | Path):
        if Path(data).suffix.lower() != ".npz":
            raise PotstillError(f"{data}: values of pixels are read from an .npz file with x and y, or from arrays")
        name, pairs = Path(data).stem, read_npz_arrays(Path(data))
    arrays = pairs if isinstance(pairs, Mapping) else {}
    pairs = pick_arrays(pairs, name) if isinstance(pairs, Mapping) else pairs
    if not isinstance(pairs, tuple | list) or len(pairs) not in (2, 4):
        raise PotstillError(
            "pictures and the values of their pixels are read from an .npz file or arrays (x, y), not from a "
            f"{type(data).__name__}"
        )
    has_test = len(pairs) == 4
    x, x_test, spec, notes = canonicalize_inputs(pairs[0], pairs[2] if has_test else None, kind="image", name=name)
    targets = [_values(y, spec, f"{name}{'' if i == 0 else ' (test)'}") for i, y in enumerate(pairs[1::2])]
    if has_test and targets[0].shape[1:] != targets[1].shape[1:]:
        raise PotstillError(
            f"{name}: targets of both parts must have one shape, not {[list(t.shape) for t in targets]}"
        )

    def part(inputs: Tensor, y: Tensor) -> RawPart:
        return RawPart(inputs=inputs, labels=torch.zeros(len(y), dtype=torch.int64), targets=y)

    raw = RawSplits(
        name=name, train=part(x, targets[0]), test=None if x_test is None else part(x_test, targets[1]), spec=spec,
        classes=(), task=task, notes=tuple(notes),
    )  # fmt: skip
    grouped = named_groups(raw, arrays, options.group) if isinstance(options.group, str) and arrays else raw
    return assemble(grouped, options)


def _values(y: Any, spec: InputSpec, where: str) -> Tensor:
    """Return targets as float32 (n, h, w), or (n, c, h, w) of several channels."""
    values = to_array(y, f"{where}: targets")
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (3, 4) or values.shape[-2:] != spec.shape[1:] or values.dtype.kind not in "biuf":
        raise PotstillError(
            f"{where}: targets must be numbers (n, {spec.shape[1]}, {spec.shape[2]}) or (n, channels, {spec.shape[1]}, "
            f"{spec.shape[2]}), one for each pixel, but they are {values.dtype} of shape {list(values.shape)}"
        )
    if values.dtype == np.uint8:
        values = values / np.float32(255)
    made = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    if bool(made.isinf().any()) or bool(made.isnan().all()):
        raise PotstillError(f"{where}: targets must be finite, or NaN for pixels without a value; correct them")
    return made
