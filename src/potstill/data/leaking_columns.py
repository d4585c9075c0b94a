"""Detection of table columns that alone determine the label: copies, later knowledge, row numbers of sorted rows."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.data.table_encoding import Frame
from potstill.rng import generator

__all__ = ["leaking_columns"]

Array: TypeAlias = npt.NDArray[Any]

_CELLS = 10_000_000  # that are looked at; of more rows a part is drawn
_OPEN = 0.03
"""Share of the label's entropy that a leaking column may leave open; odour leaves 9 % of a mushroom's class."""
_RULE = 0.15
"""Largest length of the rule by which a column gives the label, as a share of the label's entropy over all rows; a
longer rule (a name or interval for every few rows) says no more than the rows themselves."""
_STRAIGHT = 0.9999
"""Correlation of values or ranks from which a column counts as a copy of a real target."""


def leaking_columns(train: Frame | Tensor, labels: Int[Tensor, " n"], targets: Tensor | None, name: str) -> list[str]:
    """Return a note on columns that alone determine the label of the training rows, or the target.

    The mutual information of a column with the label is exact, by counts, and set beside the label's entropy: almost
    all of it is there, and the rule by which the column tells it (a class for each value, or for each interval) is
    short.

    Args:
        train: the rows of the training part, encoded or not.
        labels: their classes (n,); ``targets`` (n, t) stands for them where it is given.
        name: of the data, for the note.
    """
    n = len(train)
    columns = list(_columns(train))
    most = max(1000, _CELLS // max(1, len(columns)))
    at = np.arange(n)
    if n > most:
        at = np.sort(torch.randperm(n, generator=generator(0, "leaking columns"))[:most].numpy())
    if targets is not None:
        y: Array = targets[torch.from_numpy(at)].double().flatten(1).numpy()
        found = [c for c, x, ordered in columns if any(_is_copy(x[at], t, ordered) for t in y.T)]
        what = "the target"
    else:
        classes = labels.numpy()[at]
        found = [c for c, x, ordered in columns if _tells(x[at], classes, ordered)]
        what = "the label"
    if not found:
        return []
    listed = ", ".join(map(repr, found[:6])) + (", …" if len(found) > 6 else "")
    each = f"column {listed} alone tells" if len(found) == 1 else f"columns {listed} each alone tell"
    return [
        f"{name}: {each} {what}: a copy, what is known only after it, or a number of rows that are sorted by it? Then "
        "leave it out, or scores mean nothing"
    ]


def _columns(train: Frame | Tensor) -> Iterator[tuple[str, Array, bool]]:
    """Yield name, cells (n,), and whether the cells are ordered."""
    if isinstance(train, Frame):
        yield from ((c.name, c.cells, c.kind != "category") for c in train.columns)
    else:
        yield from ((str(i + 1), x, True) for i, x in enumerate(train.numpy().T))


def _ranks(x: Array) -> npt.NDArray[np.int64]:
    return np.unique(x, return_inverse=True, equal_nan=True)[1].reshape(-1)


def _entropy(counts: Array, n: int) -> float:
    p = counts[counts > 0] / n
    return float(-(p * np.log2(p)).sum())


def _tells(x: Array, y: npt.NDArray[np.int64], ordered: bool) -> bool:
    n, k = len(y), int(y.max()) + 1
    whole = _entropy(np.bincount(y), n)
    if whole == 0 or (x == x[0]).all():
        return False
    v = _ranks(x)
    several = int(v.max()) + 1
    pairs, counts = np.unique(v * k + y, return_counts=True)
    open_ = _entropy(counts, n) - _entropy(np.bincount(v), n)
    if open_ > _OPEN * whole:
        return False
    name, budget = float(np.log2(k)), _RULE * n * whole
    if several * name <= budget:  # a class for each value
        return True
    if not ordered:
        return False
    values, classes = np.divmod(pairs, k)  # in the order of the values
    mixed = np.bincount(values, minlength=several) > 1
    first = np.searchsorted(values, np.arange(several))
    said = np.where(mixed, -1 - np.arange(several), classes[first])  # a value of several classes stands by itself
    runs = 1 + int((np.diff(said) != 0).sum())
    return bool((runs - 1) * np.log2(several) + runs * name <= budget)  # a class for each interval


def _is_copy(x: Array, y: npt.NDArray[np.float64], ordered: bool) -> bool:
    known = np.ones(len(x), dtype=bool) if not ordered else ~np.isnan(x.astype(np.float64))
    x, y = x[known], y[known]
    if len(x) < 20 or (x == x[0]).all() or (y == y[0]).all():
        return False
    v = _ranks(x)
    several = int(v.max()) + 1
    if 10 * several <= len(x):  # what differs within a value
        mean = np.bincount(v, y) / np.bincount(v)
        if float(np.square(y - mean[v]).sum()) <= (1 - _STRAIGHT**2) * float(np.square(y - y.mean()).sum()):
            return True
    if not ordered:
        return False
    sides = [(x.astype(np.float64), y), (v.astype(np.float64), _ranks(y).astype(np.float64))]
    return any(abs(float(np.corrcoef(a, b)[0, 1])) >= _STRAIGHT for a, b in sides)
