"""Rows of numbers from a CSV file; the column that ``--label`` names counts something."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.core import InputSpec, Splits
from potstill.data import TensorSource, fit_normalization
from potstill.errors import PotstillError
from potstill.rng import generator


def read_counts(task: Any, data: object, asked: Any) -> Splits:
    """A training and a test part.

    Args:
        task: `Counts`, as it was asked for; its mean is filled in here.
        data: the path of a file whose first line names the columns.
        asked: a `potstill.data.read_options.ReadOptions`: label, seed, test_fraction, device and more.
    """
    path = Path(str(data))
    if not path.is_file() or path.suffix != ".csv":
        raise PotstillError(f"{path}: counts are read from a csv file, and this is none; give one")
    with path.open(encoding="utf-8") as file:
        columns = [name.strip() for name in file.readline().split(",")]
    if asked.label not in columns:
        raise PotstillError(f"{path}: name the column of counts with --label; there are {', '.join(columns)}")
    rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    at = columns.index(asked.label)
    y = torch.from_numpy(rows[:, at : at + 1].astype(np.float32))
    if not np.isfinite(rows).all() or bool((y < 0).any() or (y != y.round()).any()):
        raise PotstillError(f"{path}: {asked.label} must hold whole numbers of at least 0, and all others finite ones")
    x = torch.from_numpy(np.delete(rows, at, axis=1).astype(np.float32))
    names = tuple(name for name in columns if name != asked.label)
    order = torch.randperm(len(x), generator=generator(asked.seed, "split"))
    test = round(asked.test_fraction * len(x))
    train, held = order[test:].sort().values, order[:test].sort().values
    fitted = task.fit(y[train])

    def source(index: torch.Tensor) -> TensorSource:
        made = TensorSource(
            name=path.name, input=InputSpec(kind="table", shape=(x.shape[1],), units="data", columns=names), classes=(),
            normalization=fit_normalization(x[train]), inputs=x[index], labels=torch.zeros(len(index)).long(),
            task=fitted, targets=y[index], places=index,
        )  # fmt: skip
        return made.to(asked.device)

    note = f"{path.name}: {len(held):,} of {len(x):,} rows are the test part, drawn by seed {asked.seed}"
    return Splits(train=source(train), test=source(held) if test else None, notes=(note,))
