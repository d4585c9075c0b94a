"""Nearest real sample of each item of a set, and copies."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.diagnostics.bench import Bench
from potstill.errors import PotstillError
from potstill.functional.distances import chunks, pairwise_squared
from potstill.functional.sampling import sample_distinct
from potstill.kinds import get_kind
from potstill.rng import generator

__all__ = ["MAX_BYTES", "WITHIN", "Nearest", "find_nearest", "nearest_rows", "source_rows", "usual_gap"]

MAX_BYTES = 4 * 2**30
"""Maximum size of the real samples, as float32."""
WITHIN = 0.5
"""Fraction of `usual_gap` below which a row counts as a near copy. Ours."""
_CANDIDATES = 8
"""Candidates per row from products, which cannot order rows that nearly coincide."""
_CHUNK = 1024


def find_nearest(bench: Bench) -> dict[str, Any]:
    """Return the nearest training sample of every item, its distance relative to that among real samples, and copies.

    Distances between images are in pixels in [0, 1], else in model space, as columns have their own units.

    Raises:
        PotstillError: inputs are not one tensor, or the data are too large.
    """
    small, real = bench.distilled, bench.real
    if real.input.parts:
        raise PotstillError("distances need inputs of one tensor, but these have several with names")
    pixels = get_kind(real.input).augmentable
    whole = [bench.real] if bench.test is None else [bench.real, bench.test]
    if (size := 4 * real.input.num_values * max(map(len, whole))) > MAX_BYTES:
        raise PotstillError(
            f"real samples would take {size / 2**30:.1f} GiB of memory, more than {MAX_BYTES / 2**30:.0f}"
        )
    few = (
        single_tensor(small.inputs if pixels else small.model_space(), "a distance").flatten(1).float().to(real.device)
    )
    rows = source_rows(real, pixels)
    found, usual = nearest_rows(few, rows), usual_gap(rows, generator(bench.seed, "study", "gap"))
    exact, near = found.exact(), found.near(usual)
    labels = small.hard_labels
    items = [
        {
            "item": i, **({"class": real.classes[int(labels[i])]} if bench.classes else {}), "sample": at,
            **({"sample_class": real.classes[int(real.labels[at])]} if bench.classes else {}),
            "distance": float(found.distance[i]),
            "relative": float(found.distance[i]) / usual if usual > 0 else None,
            "copy": "exact" if exact[i] else "near" if near[i] else None,
        }
        for i, at in enumerate(found.index.tolist())
    ]  # fmt: skip
    other = int((labels != real.labels[found.index.cpu()]).sum()) if bench.classes else None
    return {
        "space": "pixels in [0,1]" if pixels else "normalised values", "usual": usual, "within": WITHIN,
        "exact": int(exact.sum()), "near": int(near.sum()), "other_class": other, "selected": small.is_selection,
        "part": "the training part" if bench.eval_split == "test" else "the training part without its validation part",
        "test": None if bench.test is None else _in_test(few, bench.test, pixels, usual),
        "items": items,
    }  # fmt: skip


def _in_test(few: Tensor, test: Source, pixels: bool, usual: float) -> dict[str, int]:
    """Return the number of copies of test samples, which leak into the test."""
    found = nearest_rows(few, source_rows(test, pixels))
    return {"exact": int(found.exact().sum()), "near": int(found.near(usual).sum())}


def source_rows(source: Source, pixels: bool) -> Float[Tensor, "n d"]:
    """Return all samples as rows: in pixels, or as students see them."""

    def of(at: Tensor) -> Tensor:
        x = source.raw(at) if pixels else source.fetch(at).x
        return single_tensor(x, "a distance").flatten(1).float()

    return torch.cat([of(at) for at in torch.split(torch.arange(len(source)), _CHUNK)])


@dataclass(frozen=True)
class Nearest:
    """The nearest of the many rows to each of the few."""

    index: Int[Tensor, " m"]
    distance: Float[Tensor, " m"]
    """Euclidean; exactly 0 where the rows are equal."""
    second_distance: Float[Tensor, " m"]
    """Distance of the second nearest; infinite where there is one row alone."""

    def exact(self) -> Bool[Tensor, " m"]:
        return self.distance == 0

    def near(self, usual: float) -> Bool[Tensor, " m"]:
        """Return True for rows that are not equal, but nearer than `WITHIN` times ``usual``."""
        return (self.distance > 0) & (self.distance < WITHIN * usual)


def nearest_rows(few: Float[Tensor, "m d"], many: Float[Tensor, "n d"]) -> Nearest:
    """Return the nearest row of ``many`` for each of ``few``; equal rows are at 0; the lowest index on a tie.

    Products find candidates, exact differences decide between them.
    """
    held = min(_CANDIDATES, len(many))
    best = torch.full((len(few), held), float("inf"), dtype=few.dtype, device=few.device)
    at = torch.zeros(len(few), held, dtype=torch.int64, device=few.device)
    for part in chunks(len(many), max(len(few), many.shape[1])):
        gaps = pairwise_squared(few, many[part])
        found = gaps.topk(min(held, gaps.shape[1]), largest=False)
        both, places = torch.cat([best, found.values], 1), torch.cat([at, found.indices + part.start], 1)
        best, kept = both.topk(held, largest=False)
        at = places.gather(1, kept)
    at = at.sort(1).values
    gaps = (few[:, None, :] - many[at]).double().square().sum(2)
    place = gaps.argmin(1, keepdim=True)
    nearest = gaps.gather(1, place)[:, 0]
    second = gaps.scatter(1, place, float("inf")).amin(1)
    return Nearest(index=at.gather(1, place)[:, 0], distance=nearest.sqrt(), second_distance=second.sqrt())


def usual_gap(x: Float[Tensor, "n d"], rng: Generator, most: int = 500) -> float:
    """Return the median distance of a row to its nearest other row, over at most ``most`` random rows.

    Infinite for a single row; repeated rows are at 0 up to rounding.
    """
    if len(x) < 2:
        return float("inf")
    at = sample_distinct(len(x), min(most, len(x)), rng).to(x.device)
    gaps = torch.full((len(at),), float("inf"), dtype=torch.float64, device=x.device)
    rows = x[at].double()
    for part in chunks(len(x), max(len(at), x.shape[1])):
        found = pairwise_squared(rows, x[part].double())
        own = at - part.start
        inside = (own >= 0) & (own < found.shape[1])
        found[inside, own[inside]] = float("inf")
        gaps = torch.minimum(gaps, found.min(1).values)
    return float(gaps.median().sqrt())
