"""Clips as still pictures, motions and one small network (Wang et al., CVPR 2024, arXiv:2312.00362).

A clip is a static memory s, one picture, and a dynamic memory d, a map of one channel for each frame, joined by a
network H that all clips share. As released, H is one 3-D convolution of 3 × 3 × 3 taps over s, repeated in time, and
d::

    x_ij = H([s_i, …, s_i ; d_j])        i, j = 1 … pairs

In the released program every clip of a class has two static and two dynamic memories of its own, and each step draws
one of either; here all four clips are decoded at once.

As H is linear, ``x_ij = W_s * s_i + W_d * d_j + b``: the first convolution is computed once for each still picture, the
second once for each motion.

**The start is ours.** The published one learns still pictures from single frames by gradient matching, and keeps them;
motions start as normal noise, H as PyTorch draws it (``init="random"``, with mean frames as still pictures). Here clip
(i, i) of every group of initial clips is taken apart: its mean frame is s_i, what is left of each frame, as a mean over
channels, is d_i, and H adds them. So one in ``pairs`` decoded clips starts as a real one, up to colours that change and
detail below ``scale``. All three are learned at once.

Everything is in the file and counted in its bytes, H too.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem, Source
from potstill.errors import PotstillError, unknown_name
from potstill.functional.clip_pictures import grid_columns
from potstill.functional.transforms import resize, shrink
from potstill.parametrize._shared import image_shape

__all__ = ["Motion"]

_KERNEL = 3
"""Published."""
_INITS = ("clips", "random")


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Still pictures, motions, and the network that joins them to clips; for pictures with frames side by side.

    Clips that were read with ``--representation grid`` or ``thirds`` say how many frames they have, and where.

    The payload, for F frames of (c, h, w): ``statics`` (n, c, h, w) and ``dynamics`` (n, F, ⌈h/scale⌉, ⌈w/scale⌉), both
    grouped by class, ``decoder/kernel`` (c, c + 1, 3, 3, 3) and ``decoder/bias`` (c,).

    Decoding: ``dynamics`` are enlarged to (h, w), bilinear with pixels' centres at half numbers
    (``align_corners=False``). Of every ``pairs`` neighbours, each still picture i meets each motion j:
    ``x_ij = conv3d([statics_i repeated F times ; dynamics_j], kernel, bias)``, the cross-correlation over (time, row,
    column) with a border of zeros. Frames are tiles of the picture, row by row in the order of time.

    Within a class, decoded clips come by neighbours, then by still picture, then by motion.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    frames: int = 0
    """F, frames in a picture (published: 16 in a clip); 0: as the data say, which clips do."""
    columns: int = 0
    """Frames in a row; 0: as the data say, or as ``grid``: the square root of ``frames``, rounded up to a divisor."""
    pairs: int = 2
    """Still pictures, and motions, that meet each other, at least 1 (published: 2)."""
    scale: int = 1
    """Factor between a side of a frame and of its motion, at least 1 (published: 1)."""
    init: str = "clips"
    """``clips``: initial clips taken apart (ours); ``random``: noise (published)."""

    def __post_init__(self) -> None:
        if self.init not in _INITS:
            raise unknown_name("init of motion", self.init, _INITS)
        if min(self.pairs, self.scale) < 1 or min(self.frames, self.columns) < 0 or self.frames % (self.columns or 1):
            raise PotstillError(
                "motion: pairs and scale must be at least 1, frames at least 0 and columns divide frames, "
                f"not {self.frames}, {self.pairs}, {self.scale} and {self.columns}"
            )

    @property
    def bounded(self) -> bool:
        """False: motions and weights of a network are no values of inputs."""
        return False

    def bind(self, train: Source, /) -> "Motion":
        """Return it with the frames of the data.

        Raises:
            PotstillError: the data do not say their frames and neither do the settings, or they contradict each other.
        """
        if not train.input.frames:
            if self.frames:
                return self
            raise PotstillError(
                f"motion: pictures of {train.name} do not say that they hold frames; read clips with `representation "
                "grid:frames=9`, or set frames and columns where pictures of your own hold some"
            )
        rows, columns = train.input.frames
        if (self.frames or rows * columns, self.columns or columns) != (rows * columns, columns):
            raise PotstillError(
                f"motion: clips of {train.name} have {rows * columns} frames, {columns} in a row, but frames is "
                f"{self.frames} and columns {self.columns}; leave both out"
            )
        return replace(self, frames=rows * columns, columns=columns)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the clips of each class, which pays for the network in proportion to its number of values.

        Raises:
            PotstillError: a class gets no clip, or the inputs are no images or do not divide into frames.
        """
        c, h, w = self._frame_shape(shape)
        one = self.pairs * (c * h * w + self.frames * math.prod(self._motion_size(h, w)))
        network, total = c * (c + 1) * _KERNEL**3 + c, sum(numbers)
        groups = tuple(n * max(0, total - network) // (total * one) if total else 0 for n in numbers)
        if min(groups) < 1:
            raise PotstillError(
                f"motion: the network takes {network:,} numbers and {self.pairs} still pictures with as many motions "
                f"{one:,} of each class, but the budget has {total:,} for {len(numbers)} classes; raise it, or scale"
            )
        return tuple(self.pairs**2 * n for n in groups)

    @property
    def _columns(self) -> int:
        return self.columns or grid_columns(self.frames)

    def _frame_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        c, h, w = image_shape("motion", shape)
        if not self.frames:
            raise PotstillError("motion: frames must be at least 1 where nothing else says them; set them")
        rows, columns = self.frames // self._columns, self._columns
        if h % rows or w % columns:
            raise PotstillError(
                f"motion: pictures of {h}×{w} pixels do not hold {rows}×{columns} equal frames; read clips with "
                f"`representation grid:frames={self.frames},columns={columns}`, or change frames and columns"
            )
        return c, h // rows, w // columns

    def _motion_size(self, h: int, w: int) -> tuple[int, int]:
        return math.ceil(h / self.scale), math.ceil(w / self.scale)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return mean frames, motions and a network; only ``init="random"`` draws."""
        c, h, w = self._frame_shape(problem.train.input.shape)
        small, each = self._motion_size(h, w), torch.arange(self.pairs)
        tiles = x.reshape(len(x), c, self.frames // self._columns, h, self._columns, w)
        clips = tiles.permute(0, 1, 2, 4, 3, 5).reshape(-1, self.pairs, self.pairs, c, self.frames, h, w)
        clips = clips[:, each, each].flatten(0, 1)
        statics = clips.mean(2)
        if self.init == "random":
            bound = 1 / math.sqrt((c + 1) * _KERNEL**3)
            dynamics = torch.randn(len(statics), self.frames, *small, generator=rng)
            kernel = (torch.rand(c, c + 1, *[_KERNEL] * 3, generator=rng) * 2 - 1) * bound
            bias = (torch.rand(c, generator=rng) * 2 - 1) * bound
        else:
            dynamics = shrink((clips - statics[:, :, None]).mean(1), small)
            middle = torch.cat([torch.eye(c), torch.ones(c, 1)], 1)
            kernel, bias = F.pad(middle[..., None, None, None], [_KERNEL // 2] * 6), torch.zeros(c)
        network = {"decoder/kernel": kernel.to(x), "decoder/bias": bias.to(x)}
        return {"statics": statics, "dynamics": dynamics.to(x), **network}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return every still picture with every motion of its group, as pictures of frames (n, c, h, w)."""
        if not self.frames and context.input.frames:
            rows, columns = context.input.frames
            return replace(self, frames=rows * columns, columns=columns).decode(payload, context)
        c, h, w = self._frame_shape(context.shape)
        kernel, border = payload["decoder/kernel"], _KERNEL // 2
        still = payload["statics"][:, :, None].expand(-1, -1, self.frames, -1, -1)
        moving = resize(payload["dynamics"], (h, w))[:, None]
        seen = F.conv3d(still, kernel[:, :-1], payload["decoder/bias"], padding=border)
        moved = F.conv3d(moving, kernel[:, -1:], padding=border)
        groups = (-1, self.pairs, *seen.shape[1:])
        clips = (seen.reshape(groups)[:, :, None] + moved.reshape(groups)[:, None]).flatten(0, 2)
        tiles = clips.reshape(len(clips), c, self.frames // self._columns, self._columns, h, w)
        return tiles.permute(0, 1, 2, 4, 3, 5).reshape(-1, *context.shape)
