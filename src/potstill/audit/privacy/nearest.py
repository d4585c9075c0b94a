"""Nearest training records of a set's items: copies, items that one record stands out for, and starts."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import bdtrc  # type: ignore[import-untyped]
from torch import Tensor

from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.diagnostics.nearest_real import MAX_BYTES, WITHIN, nearest_rows, source_rows, usual_gap
from potstill.errors import PotstillError
from potstill.functional.roc import proportion_interval
from potstill.functional.sampling import sample_distinct
from potstill.kinds import get_kind
from potstill.rng import generator

__all__ = ["ItemNeighbours", "find_neighbours", "nearest_to_items"]

_CALIBRATION = 2000
"""Held-out records that show how far a nearest record is in front of the second by chance, at most."""
STANDS_OUT = 0.01
"""Part of held-out records whose nearest training record is as far in front of the second."""


@dataclass(frozen=True, kw_only=True)
class ItemNeighbours:
    """The nearest training record of each item."""

    index: Int[Tensor, " k"]
    """Rows of the training part, on the CPU."""
    exact: int
    """Items that equal a training record."""
    near: int
    """Items nearer to a training record than `WITHIN` times the usual gap, that do not equal it."""
    usual: float
    """Median distance of a training record to its nearest other one."""
    nearer: int | None
    """Items nearer to a training record than to any held-out one."""
    nearer_chance: float
    """Part of items for which this is so by chance: the part of records that are training records."""
    stands_out: int | None
    """Items whose nearest training record is as far in front of the second as for one in a hundred held-out records."""
    own_start: int | None
    """Items whose nearest training record is the one that they started from."""
    started: int
    """Items that started from a record, as far as is known."""
    pixels: bool

    @property
    def items(self) -> int:
        return len(self.index)

    @property
    def nearer_p(self) -> float | None:
        """Chance of so many items nearer to training records, if these were like held-out ones."""
        if self.nearer is None:
            return None
        return float(bdtrc(self.nearer - 1, self.items, self.nearer_chance)) if self.nearer else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, with 95 % intervals over items."""
        counts = {
            "exact": self.exact,
            "near": self.near,
            "nearer_than_held_out": self.nearer,
            "stands_out": self.stands_out,
        }
        return {
            "items": self.items, "space": "pixels in [0,1]" if self.pixels else "normalised values",
            "usual_gap": self.usual, "within": WITHIN, **counts, "nearer_chance": self.nearer_chance,
            "nearer_p": self.nearer_p, "started_from_records": self.started, "nearest_is_own_start": self.own_start,
            "ci95": {
                name: list(proportion_interval(n, self.items)) for name, n in counts.items() if n is not None
            },
        }  # fmt: skip


def find_neighbours(
    distilled: Distilled, train: TensorSource, held_out: TensorSource | None, starts: Tensor | None, seed: int
) -> ItemNeighbours:
    """Find the nearest training record of every item, and of held-out records for comparison.

    Args:
        distilled: the set.
        train: training records, normalised as the set's students see them.
        held_out: records that the set was not made of.
        starts: the record that each item started from (k,), -1 for none; ``None``: not known.
        seed: of the draws.

    Raises:
        PotstillError: the records are too large.
    """
    pixels = get_kind(train.input).augmentable
    if (size := 4 * train.input.num_values * len(train)) > MAX_BYTES:
        raise PotstillError(
            f"real samples would take {size / 2**30:.1f} GiB of memory, more than {MAX_BYTES / 2**30:.0f}; audit a "
            "random part of the data"
        )
    rows = source_rows(train, pixels)
    items = _item_rows(distilled, pixels, rows.device)
    nearest, usual = nearest_rows(items, rows), usual_gap(rows, generator(seed, "audit", "gap"))
    nearer = stands_out = None
    chance = 0.5
    if held_out is not None:
        others = source_rows(held_out, pixels)
        nearer = int((nearest.distance < nearest_rows(items, others).distance).sum())
        chance = len(rows) / (len(rows) + len(others))
        few = sample_distinct(len(others), _CALIBRATION, generator(seed, "audit", "calibration"))
        if len(few) * STANDS_OUT >= 1 and len(rows) > 1:
            of_others = nearest_rows(others[few.to(others.device)], rows)
            usual_ratio = _ratio(of_others.distance, of_others.second_distance)
            limit = usual_ratio.sort().values[int(STANDS_OUT * len(few))]
            stands_out = int((_ratio(nearest.distance, nearest.second_distance) < limit).sum())
    index = nearest.index.cpu()
    started: Bool[Tensor, " k"] = torch.zeros(len(index), dtype=torch.bool) if starts is None else starts >= 0
    own_start = None if starts is None else int((index[started] == starts[started]).sum())
    return ItemNeighbours(
        index=index, exact=int(nearest.exact().sum()), near=int(nearest.near(usual).sum()), usual=usual, nearer=nearer,
        nearer_chance=chance, stands_out=stands_out, own_start=own_start, started=int(started.sum()), pixels=pixels,
    )  # fmt: skip


def nearest_to_items(distilled: Distilled, source: TensorSource) -> Int[Tensor, " k"]:
    """Return the row of the nearest record of ``source`` for each item, on the CPU."""
    pixels = get_kind(source.input).augmentable
    rows = source_rows(source, pixels)
    return nearest_rows(_item_rows(distilled, pixels, rows.device), rows).index.cpu()


def _item_rows(distilled: Distilled, pixels: bool, device: torch.device) -> Float[Tensor, "k d"]:
    items = single_tensor(distilled.inputs if pixels else distilled.model_space(), "a distance")
    return items.flatten(1).float().to(device)


def _ratio(nearest: Float[Tensor, " m"], second: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return the nearest distance over the second; 1 where both are 0, as with repeated records."""
    return torch.where(second > 0, nearest / second, torch.ones_like(nearest))
