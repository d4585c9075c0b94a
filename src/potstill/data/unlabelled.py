"""Pictures without labels: an array, an ``.npz`` with inputs alone, or a folder of loose pictures.

They are read as data for regression on zeros, which the caller replaces by targets of another origin.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core import InputSpec
from potstill.data.decode_cache import decode_cached
from potstill.data.pictures import SUFFIXES
from potstill.data.python_objects import read_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits
from potstill.tasks import Regression

__all__ = ["UNLABELLED", "find_unlabelled", "is_unlabelled", "read_unlabelled"]

UNLABELLED = Regression(targets=("none",))
"""Task that asks for inputs alone."""

_KEYS = (("x_train", "x_test"), ("x_train",), ("x",), ("images",))


def is_unlabelled(task: object) -> bool:
    """Return True if a task asks for inputs alone."""
    return task == UNLABELLED


def find_unlabelled(data: object) -> Any:
    """Return the inputs, one array for each part, or the folder of data that have no labels; else ``None``."""
    if isinstance(data, np.ndarray | Tensor):
        return (data,)
    if isinstance(data, Mapping):
        return _inputs_alone(data)
    if not isinstance(data, str | Path):
        return None
    path = Path(data).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return _inputs_alone(read_npz_arrays(path))
    loose = path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.iterdir() if p.is_file())
    return path if loose and not any(p.is_dir() for p in path.iterdir() if not p.name.startswith(".")) else None


def _inputs_alone(arrays: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if any(name.startswith(("y", "label")) for name in arrays):
        return None
    keys = next((keys for keys in _KEYS if all(key in arrays for key in keys)), None)
    return None if keys is None else tuple(arrays[key] for key in keys)


def read_unlabelled(data: object, options: ReadOptions) -> RawSplits:
    """Read data that `find_unlabelled` finds, with zeros as targets.

    Args:
        data: the data.
        options: how to read them.

    Raises:
        PotstillError: arrays that are no inputs, or a broken picture.
    """
    found = find_unlabelled(data)
    name = Path(data).stem if isinstance(data, str | Path) else "arrays"
    if isinstance(found, Path):
        return _with_zeros(_read_folder(found, options))
    flat = [v for x in found for v in (x, np.zeros(len(x), dtype=np.int64))]
    return _with_zeros(read_arrays(*flat, name=name))


def _read_folder(root: Path, options: ReadOptions) -> RawSplits:
    names = sorted(p.name for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    got = decode_cached(root, [(root, names)], root.resolve().name, options)
    part = RawPart(
        inputs=got.pixels, labels=torch.zeros(len(got.positions), dtype=torch.int64),
        names=tuple(names[i] for i in got.positions), places=torch.tensor(got.positions),
    )  # fmt: skip
    return RawSplits(
        name=root.resolve().name, train=part, test=None,
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])), classes=(), notes=got.notes,
    )  # fmt: skip


def _with_zeros(parts: RawSplits) -> RawSplits:
    def zeros(part: RawPart) -> RawPart:
        n = len(part.labels)
        return replace(part, labels=torch.zeros(n, dtype=torch.int64), targets=torch.zeros(n, 1))

    test = None if parts.test is None else zeros(parts.test)
    return replace(parts, classes=(), task=UNLABELLED, train=zeros(parts.train), test=test)
