"""Tiles: each stored picture holds f × f smaller ones (IDC's multi-formation; Kim et al., arXiv:2205.14959, section 4).

Decoding (eq. 4 there) cuts a stored picture into an f × f grid and enlarges every cell to full size by bilinear
interpolation (``align_corners=False``)::

    x_(i,j) = up(s[⌈h/f⌉·i : ⌈h/f⌉·(i+1), ⌈w/f⌉·j : ⌈w/f⌉·(j+1)])        i, j = 0 … f − 1

It costs no numbers: f² inputs for one stored. Where f does not divide a side, the picture is first padded below and to
the right with 0.5, as published; the published code measures the padding on the width alone (its pictures are square),
this one on each side.

The start is the published "mix": every cell holds a real picture, shrunk to what the cell has inside the stored picture
by the nearest pixel. The published start cuts the picture into ⌈h/f⌉ and ⌊h/f⌋ rows, which are not the cells that are
decoded wherever f leaves a remainder other than 0 and f − 1 (28 rows by f = 3); here a picture always goes into the
cell that it is decoded from. The nearest pixel moves pictures by up to half a cell's pixel and skips most of them:
``shrink="area"`` decodes nearer to the initial inputs (by 28×28 digits, a third of the squared error less).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Payload, Problem
from potstill.errors import PotstillError, unknown_name
from potstill.functional.transforms import resize
from potstill.parametrize._shared import image_shape, stored_numbers

__all__ = ["Tiles"]

_MODES = ("single", "multi", "bound")
_SHRINKS = ("nearest", "area")
_GREY = 0.5
"""What the published code pads with: the middle of the pixels' range. Normalised pictures have another
middle; only the outermost cells of sizes that f does not divide show it."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Pictures that hold smaller pictures.

    The payload is ``inputs/0``, ``inputs/1``, …: one tensor (classes, stored, c, h, w) for each run of neighbouring
    classes that store equally many. So the shapes alone say what belongs to which class, and no byte is spent on it.

    Within a class, decoded inputs come by factor, then cell by cell in reading order, then by stored picture, as the
    published code puts them together.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    factor: int = 2
    """f, at least 1: cells along a side. Published: 2 for pictures of 28 and 32 pixels, 3 for 224."""
    mode: str = "single"
    """``single``: factor f alone. ``multi``: every stored picture by every factor 1, 2, … f. ``bound``: as many stored
    pictures as fit by factor f, then f − 1, …, the rest by 1, so that a class has at most ``most`` inputs (published
    for 224 pixels; its rounding can make one more stored picture give an input or two fewer)."""
    most: int = 128
    """Inputs of a class in mode ``bound`` (published: 128). Where more are stored, all are kept, by factor 1."""
    shrink: str = "nearest"
    """How initial inputs get into cells. ``nearest``: single pixels (published). ``area``: means of pixels, at the size
    of a whole cell, of which the padding hides the end (ours)."""

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise unknown_name("mode of tiles", self.mode, _MODES)
        if self.shrink not in _SHRINKS:
            raise unknown_name("shrink of tiles", self.shrink, _SHRINKS)
        for name in ("factor", "most"):
            if getattr(self, name) < 1:
                raise PotstillError(f"tiles: {name} must be at least 1, not {getattr(self, name)}")

    @property
    def bounded(self) -> bool:
        """True: stored values are values of inputs, and interpolation does not leave their range."""
        return True

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Cells of as many stored pictures as the numbers of each class make up.

        Raises:
            PotstillError: fewer than one picture, no pictures at all, or cells without a pixel.
        """
        return tuple(sum(f * f * n for f, n in self._plan(stored)) for stored in self._stored(numbers, shape))

    @property
    def min_side(self) -> int:
        """8. Ours; published cells have 14 and more. Quick sets of ``m3d`` over tiles, beside whole pictures of the
        same bytes, held out, means of two sets: digits in cells of 4 pixels 28 points behind, MNIST-5k shrunk to cells
        of 6 12 behind, of 8 1 behind, of 10 and 14 2 and 1 ahead (``benchmarks/tiny_pictures.py``,
        results/tiny-pictures.json)."""
        return 8

    def stored_size(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Height and width, in pixels, of the smallest cells of pictures (c, h, w).

        Raises:
            PotstillError: the inputs are no pictures.
        """
        _, h, w = image_shape("tiles", shape)
        return math.ceil(h / self.factor), math.ceil(w / self.factor)

    def _stored(self, numbers: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        c, h, w = image_shape("tiles", shape)
        used = (self.factor,) if self.mode == "single" else range(1, self.factor + 1)
        if empty := [f for f in used for side in (h, w) if (f - 1) * math.ceil(side / f) >= side]:
            raise PotstillError(
                f"tiles: every cell must hold a pixel, but {empty[-1]} cells along a side of {h}×{w} pixels leave some "
                "in the padding alone; lower factor"
            )
        if min(numbers) < c * h * w:
            raise PotstillError(
                f"tiles: one picture has {c * h * w:,} numbers, but the budget leaves {min(numbers):,} to a class; "
                "raise it"
            )
        return tuple(n // (c * h * w) for n in numbers)

    def _plan(self, stored: int) -> list[tuple[int, int]]:
        """(factor, pictures decoded by it) in the order of decoding, for the stored pictures of one class."""
        if self.mode == "single":
            return [(self.factor, stored)]
        if self.mode == "multi":
            return [(f, stored) for f in range(1, self.factor + 1)]
        plan, left, made = [], stored, 0
        for f in range(self.factor, 0, -1):
            # Every picture that is left is counted once before it is known by which factor it goes: as published.
            n = left if f == 1 else min(max(0, self.most - made - left) // (f * f), left)
            plan.append((f, n))
            left, made = left - n, made + n * f * f
        return [(f, n) for f, n in plan if n]

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Every input shrunk into the cell that it will be decoded from; draws nothing.

        In mode ``multi`` each cell of the largest factor gets its input, and the inputs of the smaller factors are left
        out: their cells are mosaics of the others. In mode ``bound`` each picture is cut by its own factor, where the
        published start cuts all of them by the largest.
        """
        shape = problem.train.input.shape
        stored = self._stored(stored_numbers(problem), shape)
        parts = torch.split(x, [sum(f * f * n for f, n in self._plan(s)) for s in stored])
        classes = [self._mosaics(part, s) for part, s in zip(parts, stored, strict=True)]
        runs = [list(run) for _, run in groupby(classes, key=len)]
        return {f"inputs/{r}": torch.stack(run) for r, run in enumerate(runs)}

    def _mosaics(self, x: Tensor, stored: int) -> Tensor:
        """The stored pictures (stored, c, h, w) of one class from its initial inputs in the order of decoding."""
        made = torch.empty(stored, *x.shape[1:], dtype=x.dtype, device=x.device)
        first = at = 0
        for f, n in self._plan(stored):
            cells = x[at : at + f * f * n].reshape(f * f, n, *x.shape[1:])
            at += f * f * n
            if self.mode == "multi" and f < self.factor:
                continue
            part = made[first : first + n]
            for cell, (rows, columns) in zip(cells, _grid(f, *x.shape[-2:]), strict=True):
                room = part[..., rows, columns]
                room.copy_(self._shrunk(cell, f, room.shape[-2:]))
            first += n
        return made

    def _shrunk(self, x: Tensor, factor: int, room: torch.Size) -> Tensor:
        """Pictures (n, c, h, w) at the size ``room`` of what one cell has inside the stored picture."""
        if self.shrink == "nearest":
            return F.interpolate(x, size=room, mode="nearest")
        h, w = x.shape[-2:]
        whole = F.interpolate(x, size=(math.ceil(h / factor), math.ceil(w / factor)), mode="area")
        return whole[..., : room[0], : room[1]]

    def decode(self, payload: Payload, shape: tuple[int, ...], /) -> Tensor:
        """The enlarged cells (n, c, h, w), grouped by class in label order."""
        runs = [payload[f"inputs/{r}"] for r in range(len(payload))]
        return torch.cat([self._run(stored) for stored in runs])

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """One row for each class, in the tensor of its run."""
        found, first = {}, 0
        for r in range(len(payload)):
            k = len(payload[f"inputs/{r}"])
            inside = (min(max(c - first, 0), k) for c in (classes.start, classes.stop))
            found[f"inputs/{r}"] = slice(*inside)
            first += k
        return found

    def _run(self, stored: Tensor) -> Tensor:
        """Classes that store equally many, (k, n, c, h, w), to inputs (k · decoded, c, h, w)."""
        parts: list[Tensor] = []
        first = 0
        for f, n in self._plan(stored.shape[1]):
            parts.append(_cells(stored[:, first : first + n], f))
            first += n if self.mode == "bound" else 0
        return torch.cat(parts, 1).flatten(0, 1)


def _grid(factor: int, h: int, w: int) -> Sequence[tuple[slice, slice]]:
    """Rows and columns of every cell in reading order, without what lies in the padding."""
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    places = [(i, j) for i in range(factor) for j in range(factor)]
    return [(slice(i * a, (i + 1) * a), slice(j * b, (j + 1) * b)) for i, j in places]


def _cells(stored: Tensor, factor: int) -> Tensor:
    """Pictures (k, n, c, h, w) cut into cells and enlarged, (k, factor² · n, c, h, w): cell by cell."""
    k, n, c, h, w = stored.shape
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    padded = F.pad(stored, (0, b * factor - w, 0, a * factor - h), value=_GREY)
    cut = padded.reshape(k, n, c, factor, a, factor, b).permute(0, 3, 5, 1, 2, 4, 6)
    return resize(cut.reshape(k, factor * factor * n, c, a, b), (h, w))
