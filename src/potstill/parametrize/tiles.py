"""Stored images that hold f × f smaller ones (IDC's multi-formation; Kim et al., arXiv:2205.14959, section 4).

Decoding (eq. 4) cuts a stored image into an f × f grid and enlarges every cell to full size by bilinear interpolation
(``align_corners=False``)::

    x_(i,j) = up(s[⌈h/f⌉·i : ⌈h/f⌉·(i+1), ⌈w/f⌉·j : ⌈w/f⌉·(j+1)])        i, j = 0 … f − 1

One stored image gives f² inputs. Where f does not divide a side, the image is padded below and to the right with 0.5,
as published; the published code measures the padding on the width alone, as its images are square.

The start is the published "mix": every cell holds a real image, shrunk to its cell by the nearest pixel. The published
start cuts the image into ⌈h/f⌉ and ⌊h/f⌋ rows, which are not the decoded cells where f leaves a remainder other than 0
and f − 1 (28 rows by f = 3); here an image always goes into the cell that it is decoded from. ``shrink="area"`` decodes
nearer to the initial inputs than the nearest pixel (28×28 digits: a third less squared error).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError, unknown_name
from potstill.functional.transforms import resize
from potstill.parametrize._shared import image_shape, stored_numbers

__all__ = ["Tiles"]

_MODES = ("single", "multi", "bound")
_SHRINKS = ("nearest", "area")
_GREY = 0.5
"""Padding of the published code: the middle of the range of pixels, though stored images are normalised."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Images that hold smaller images.

    The payload is ``inputs/0``, ``inputs/1``, …: one tensor (classes, stored, c, h, w) for each run of neighbouring
    classes with equally many stored images, so that shapes alone give the classes.

    Decoding: with a = ⌈h/f⌉ and b = ⌈w/f⌉, a stored image is padded below and to the right with 0.5 to (a · f, b · f),
    and ``x = up(stored[:, i·a : (i+1)·a, j·b : (j+1)·b])`` for i, j = 0 … f − 1. ``up`` is bilinear to (h, w), with
    pixels' centres at half numbers (``align_corners=False``). Mode ``single`` has one factor f; ``multi`` decodes every
    image by 1, 2, … f.

    Within a class, decoded inputs are ordered by factor, cell in reading order, and stored image, as published.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    factor: int = 2
    """f, at least 1: cells along a side. Published: 2 for images of 28 and 32 pixels, 3 for 224."""
    mode: str = "single"
    """``single``: factor f alone. ``multi``: every stored image by every factor 1, 2, … f. ``bound``: as many stored
    images as fit by factor f, then f − 1, …, the rest by 1, so that a class has at most ``most`` inputs (published for
    224 pixels)."""
    most: int = 128
    """Maximum inputs of a class in mode ``bound`` (published: 128). Where more are stored, all have factor 1."""
    shrink: str = "nearest"
    """Downsampling of initial inputs: ``nearest`` pixel (published), or ``area`` means of a whole cell (ours)."""

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
        """Return the cells of the stored images of each class that its number of values allows.

        Raises:
            PotstillError: a class gets no image, the inputs are no images, or cells have no pixel.
        """
        return tuple(sum(f * f * n for f, n in self._plan(stored)) for stored in self._stored(numbers, shape))

    @property
    def min_side(self) -> int:
        """8 (ours; published cells have 14 and more). Quick sets of ``m3d`` over tiles, compared with whole images of
        the same bytes on held-out data: cells of 4 pixels (digits) 28 points behind; of 6, 8, 10 and 14 pixels
        (MNIST-5k) 12 and 1 behind, 2 and 1 ahead (results/tiny-pictures.json)."""
        return 8

    def stored_size(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Return height and width of the smallest cells.

        Raises:
            PotstillError: the inputs are no images.
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
        """Return (factor, images decoded by it) in the order of decoding, for the stored images of one class."""
        if self.mode == "single":
            return [(self.factor, stored)]
        if self.mode == "multi":
            return [(f, stored) for f in range(1, self.factor + 1)]
        plan, remaining, decoded = [], stored, 0
        for f in range(self.factor, 0, -1):
            # Every remaining image counts once before its factor is known: as published.
            n = remaining if f == 1 else min(max(0, self.most - decoded - remaining) // (f * f), remaining)
            plan.append((f, n))
            remaining, decoded = remaining - n, decoded + n * f * f
        return [(f, n) for f, n in plan if n]

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return stored images with every input shrunk into the cell that it is decoded from; draws nothing.

        In mode ``multi`` only cells of the largest factor get an input: the others are mosaics of them. In mode
        ``bound`` each image is cut by its own factor; the published start cuts all by the largest.
        """
        shape = problem.train.input.shape
        stored = self._stored(stored_numbers(problem), shape)
        parts = torch.split(x, [sum(f * f * n for f, n in self._plan(s)) for s in stored])
        classes = [self._mosaics(part, s) for part, s in zip(parts, stored, strict=True)]
        runs = [list(run) for _, run in groupby(classes, key=len)]
        return {f"inputs/{r}": torch.stack(run) for r, run in enumerate(runs)}

    def _mosaics(self, x: Tensor, stored: int) -> Tensor:
        """Return the stored images (stored, c, h, w) of one class from its initial inputs in the order of decoding."""
        images = torch.empty(stored, *x.shape[1:], dtype=x.dtype, device=x.device)
        first = at = 0
        for f, n in self._plan(stored):
            cells = x[at : at + f * f * n].reshape(f * f, n, *x.shape[1:])
            at += f * f * n
            if self.mode == "multi" and f < self.factor:
                continue
            part = images[first : first + n]
            for cell, (rows, columns) in zip(cells, _grid(f, *x.shape[-2:]), strict=True):
                room = part[..., rows, columns]
                room.copy_(self._shrunk(cell, f, room.shape[-2:]))
            first += n
        return images

    def _shrunk(self, x: Tensor, factor: int, room: torch.Size) -> Tensor:
        """Return images (n, c, h, w) at the size ``room`` of a cell inside the stored image."""
        if self.shrink == "nearest":
            return F.interpolate(x, size=room, mode="nearest")
        h, w = x.shape[-2:]
        whole = F.interpolate(x, size=(math.ceil(h / factor), math.ceil(w / factor)), mode="area")
        return whole[..., : room[0], : room[1]]

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the enlarged cells (n, c, h, w), grouped by class in label order."""
        runs = [payload[f"inputs/{r}"] for r in range(len(payload))]
        return torch.cat([self._run(stored) for stored in runs])

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each class, in the tensor of its run."""
        rows, first = {}, 0
        for r in range(len(payload)):
            k = len(payload[f"inputs/{r}"])
            inside = (min(max(c - first, 0), k) for c in (classes.start, classes.stop))
            rows[f"inputs/{r}"] = slice(*inside)
            first += k
        return rows

    def _run(self, stored: Tensor) -> Tensor:
        """Decode classes with equally many stored images (k, n, c, h, w) to inputs (k · decoded, c, h, w)."""
        parts: list[Tensor] = []
        first = 0
        for f, n in self._plan(stored.shape[1]):
            parts.append(_cells(stored[:, first : first + n], f))
            first += n if self.mode == "bound" else 0
        return torch.cat(parts, 1).flatten(0, 1)


def _grid(factor: int, h: int, w: int) -> Sequence[tuple[slice, slice]]:
    """Return rows and columns of every cell in reading order, without the padding."""
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    places = [(i, j) for i in range(factor) for j in range(factor)]
    return [(slice(i * a, (i + 1) * a), slice(j * b, (j + 1) * b)) for i, j in places]


def _cells(stored: Tensor, factor: int) -> Tensor:
    """Cut images (k, n, c, h, w) into cells and enlarge them, (k, factor² · n, c, h, w): cell by cell."""
    k, n, c, h, w = stored.shape
    a, b = math.ceil(h / factor), math.ceil(w / factor)
    padded = F.pad(stored, (0, b * factor - w, 0, a * factor - h), value=_GREY)
    cut = padded.reshape(k, n, c, factor, a, factor, b).permute(0, 3, 5, 1, 2, 4, 6)
    return resize(cut.reshape(k, factor * factor * n, c, a, b), (h, w))
