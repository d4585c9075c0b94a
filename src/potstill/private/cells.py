"""Private cells of each class: k-means on noisy sums of pictures at low resolution, or of rows."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.private.door import PrivateDoor
from potstill.rng import generator

__all__ = ["COUNT", "Cells", "find_cells", "flat_size", "low_resolution", "unit_rows"]

COUNT = 0.3
"""Part of the norm of a record's vector that counts it; the rest is its values."""
_SPREAD = 0.15
"""Standard deviation of the public offsets that divide a class into cells, in units of half the range."""
_SIDE = 7
"""Side of pictures while cells are sought."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Centres of each class in public units, from noisy sums alone."""

    centres: Float[Tensor, "k cells d"]

    @property
    def per_class(self) -> int:
        """Number of cells of each class."""
        return self.centres.shape[1]

    def assign(self, low: Float[Tensor, "m d"], labels: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return the number of the nearest cell of each record's class, over all classes."""
        gaps = torch.cdist(low[:, None], self.centres[labels])[:, 0]
        return labels * self.per_class + gaps.argmin(1)

    def assign_inputs(self, x: Float[Tensor, "m ..."], labels: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return the number of the nearest cell of inputs in public units."""
        return self.assign(low_resolution(x), labels)


def low_resolution(x: Tensor) -> Float[Tensor, "m d"]:
    """Return flat inputs between −1 and 1: pictures of 7 pixels a side at most, rows as they are."""
    if x.ndim == 2:
        return x
    side = (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3]))
    return F.adaptive_avg_pool2d(x, side).flatten(1) * 2 - 1


def flat_size(values: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Return values between −1 and 1 over the largest norm that they can have."""
    return values / math.sqrt(values.shape[1])


def unit_rows(values: Float[Tensor, "m d"]) -> Float[Tensor, "m d1"]:
    """Return vectors of norm 1 at most with a last entry that counts the record."""
    counts = torch.full((len(values), 1), COUNT, device=values.device)
    return torch.cat([math.sqrt(1 - COUNT**2) * flat_size(values), counts], 1)


def noisy_means(sums: Float[Tensor, "g d1"], noise: float) -> tuple[Float[Tensor, "g d"], Float[Tensor, " g"]]:
    """Return means in units of the values, and counts that are at least the noise, of noisy sums of `unit_rows`."""
    counts = (sums[:, -1] / COUNT).clamp_min(max(1.0, noise / COUNT))
    means = sums[:, :-1] / counts[:, None] * math.sqrt(sums.shape[1] - 1) / math.sqrt(1 - COUNT**2)
    return means.clamp(-1, 1), counts


def find_cells(door: PrivateDoor, query: str, rounds: int, classes: int, cells: int, noise: float, seed: int) -> Cells:
    """Return cells after ``rounds`` releases: class means first, then k-means from public offsets around them.

    Args:
        door: the records.
        query: name of its releases.
        rounds: number of releases, at least 2.
        classes: number of classes.
        cells: cells of each class.
        noise: standard deviation of the noise of a release.
        seed: of the public offsets.
    """
    means, _ = noisy_means(door.noisy_sums(query, lambda x, y: (unit_rows(low_resolution(x)), y), classes), noise)
    offsets = torch.randn(classes, cells, means.shape[1], generator=generator(seed, "private cells"))
    found = Cells(centres=(means[:, None] + _SPREAD * offsets * (cells > 1)).clamp(-1, 1))
    for _ in range(rounds - 1):
        current = found

        def rows(x: Tensor, y: Tensor, cells: Cells = current) -> tuple[Tensor, Tensor]:
            low = low_resolution(x)
            return unit_rows(low), cells.assign(low, y)

        means, counts = noisy_means(door.noisy_sums(query, rows, classes * cells), noise)
        # a cell whose number is lost in the noise stays where it was
        known = (counts > 2 * noise / COUNT).reshape(classes, cells, 1)
        found = Cells(centres=torch.where(known, means.reshape(found.centres.shape), found.centres))
    return found
