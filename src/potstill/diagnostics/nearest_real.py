"""Nearest real sample of each item of a set, and copies."""

from typing import Any

import torch
from torch import Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.diagnostics.bench import Bench
from potstill.diagnostics.near_copies import WITHIN, nearest_rows, usual_gap
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.rng import generator

__all__ = ["MAX_BYTES", "find_nearest"]

MAX_BYTES = 4 * 2**30
"""Maximum size of the real samples, as float32."""
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
    rows = _rows(real, pixels)
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
    found = nearest_rows(few, _rows(test, pixels))
    return {"exact": int(found.exact().sum()), "near": int(found.near(usual).sum())}


def _rows(source: Source, pixels: bool) -> Tensor:
    def of(at: Tensor) -> Tensor:
        x = source.raw(at) if pixels else source.fetch(at).x
        return single_tensor(x, "a distance").flatten(1).float()

    return torch.cat([of(at) for at in torch.split(torch.arange(len(source)), _CHUNK)])
