"""Differentiable siamese augmentation (DSA, arXiv:2102.08259): the same transform for the real and the synthetic batch.

Parameters are drawn once from a given generator, where the published code re-seeds the global one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from potstill.errors import PotstillError, unknown_name
from potstill.tasks import Movement

__all__ = [
    "GROUPS",
    "MOVING",
    "Siamese",
    "SiameseParams",
    "concat_params",
    "dsa",
    "dsa_noflip",
    "flip_matrix",
    "flip_rotate",
    "none",
    "rotate",
    "shift_matrix",
    "to_homogeneous",
]  # fmt: skip

GROUPS = ("color", "crop", "cutout", "flip", "scale", "rotate")
"""The published groups of operations; "color" is brightness, then saturation, then contrast."""
MOVING: Mapping[str, str] = {"crop": "shift", "flip": "flip", "scale": "scale", "rotate": "rotate"}
"""Groups that move pixels, by name in `potstill.tasks.GEOMETRIC`."""


@dataclass(frozen=True, slots=True)
class SiameseParams:
    """Parameters of one draw: groups in order, and their values with one entry per sample.

    Values by name: ``brightness`` (added), ``saturation`` and ``contrast`` (factors), ``crop_y``, ``crop_x`` (pixels,
    int64: the row and column that become the first), ``cutout_y``, ``cutout_x`` (the square's centre, int64), ``flip``
    (bool), ``scale_y``, ``scale_x`` (above 1 shrinks), ``angle`` (radians). Real values are float64.
    """

    groups: tuple[str, ...]
    values: Mapping[str, Tensor]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Siamese:
    """DSA's augmentation with its published defaults; a `potstill.core.Augmentation`.

    In mode "S" (published) one group is drawn per batch; in mode "M" all groups apply in turn. ``apply`` is affine in
    the images, differentiable any number of times, and never writes into its input. As published, scale and rotate act
    on coordinates in [-1, 1], so that a rotation shears an image that is not square.

    Attributes:
        strategy: groups; empty for none.
        prob_flip: probability of a horizontal flip.
        ratio_scale: factor of each axis in [1/ratio, ratio].
        ratio_rotate: maximum angle in degrees.
        ratio_crop_pad: maximum shift as a fraction of each side.
        ratio_cutout: sides of the erased rectangle as a fraction of the image's.
        brightness: added value in [−brightness/2, brightness/2].
        saturation: factor in [0, saturation].
        contrast: factor in [contrast, contrast + 1].
        mode: "S" or "M".

    Raises:
        PotstillError: an unknown group or mode, or a ratio out of its range.
    """

    strategy: tuple[str, ...] = GROUPS
    prob_flip: float = 0.5
    ratio_scale: float = 1.2
    ratio_rotate: float = 15.0
    ratio_crop_pad: float = 0.125
    ratio_cutout: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    mode: Literal["S", "M"] = "S"

    def __post_init__(self) -> None:
        for group in self.strategy:
            if group not in GROUPS:
                raise unknown_name("augmentation group", group, GROUPS)
        if self.mode not in ("S", "M"):
            raise unknown_name("augmentation mode", self.mode, ("S", "M"))
        for name, low, high in (
            ("prob_flip", 0.0, 1.0),
            ("ratio_scale", 1.0, float("inf")),
            ("ratio_rotate", 0.0, 180.0),
            ("ratio_crop_pad", 0.0, 0.5),
            ("ratio_cutout", 0.0, 1.0),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise PotstillError(f"{name} must be in [{low:g}, {high:g}], but it is {value:g}; change it")

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(MOVING[group] for group in self.strategy if group in MOVING)

    def without(self, operations: Collection[str], /) -> "Siamese":
        """Return the augmentation without the groups that do these."""
        return replace(self, strategy=tuple(g for g in self.strategy if MOVING.get(g) not in operations))

    def movement(self, params: SiameseParams, shape: tuple[int, ...], /) -> Movement:
        """Return the movement of pixels by `apply` with ``params``, for images of ``shape`` (c, h, w)."""
        moving = replace(params, groups=tuple(group for group in params.groups if group in MOVING))
        matrix = torch.eye(3, dtype=torch.float64)[None]
        for group in moving.groups:
            matrix = matrix @ _MATRICES[group](params.values, shape[1], shape[2])
        return Movement(maps=lambda x: self.apply(x, moving), matrix=matrix, size=(shape[1], shape[2]))

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> SiameseParams:
        """Draw parameters for ``n`` images of ``shape`` (c, h, w); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, h, w).
        """
        if not self.strategy:
            return SiameseParams((), {}, n)
        if len(shape) != 3:
            raise PotstillError(
                f"this augmentation needs pictures (c, h, w), but one input is {shape}; use the augmentation 'none'"
            )
        groups = self.strategy
        if self.mode == "S":
            groups = (groups[int(torch.randint(len(groups), (1,), generator=rng))],)
        values: dict[str, Tensor] = {}
        for group in groups:
            values |= self._values(group, n, shape[1], shape[2], rng)
        return SiameseParams(groups, values, n)

    def _values(self, group: str, n: int, h: int, w: int, rng: Generator) -> dict[str, Tensor]:
        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(n, generator=rng, dtype=torch.float64) * (high - low) + low

        def integer(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (n,), generator=rng)

        match group:
            case "color":
                return {
                    "brightness": uniform(-0.5 * self.brightness, 0.5 * self.brightness),
                    "saturation": uniform(0.0, self.saturation),
                    "contrast": uniform(self.contrast, self.contrast + 1.0),
                }
            case "crop":
                y, x = _part(h, self.ratio_crop_pad), _part(w, self.ratio_crop_pad)
                return {"crop_y": integer(-y, y + 1), "crop_x": integer(-x, x + 1)}
            case "cutout":
                y, x = _part(h, self.ratio_cutout), _part(w, self.ratio_cutout)
                # an even square has its centre between two pixels, so there is one more place for it
                return {"cutout_y": integer(0, h + 1 - y % 2), "cutout_x": integer(0, w + 1 - x % 2)}
            case "flip":
                return {"flip": uniform(0.0, 1.0) < self.prob_flip}
            case "scale":
                low, high = 1.0 / self.ratio_scale, self.ratio_scale
                # the published names: x, the first entry, acts on columns
                return {"scale_x": uniform(low, high), "scale_y": uniform(low, high)}
            case _:
                limit = self.ratio_rotate / 180.0 * pi
                return {"angle": uniform(-limit, limit)}

    def apply(self, x: Tensor, params: SiameseParams, /) -> Tensor:
        """Transform ``x`` (m, c, h, w), float32 or float64; returns ``x`` itself if nothing changes.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        if params.n not in (1, len(x)):
            raise ValueError(f"parameters drawn for {params.n} samples cannot be applied to {len(x)}")
        for group in params.groups:
            x = _APPLY[group](self, x, params.values)
        return x


def concat_params(draws: Sequence[SiameseParams]) -> SiameseParams:
    """Concatenate the parameters of several draws with the same groups."""
    values = {name: torch.cat([each.values[name] for each in draws]) for name in draws[0].values}
    return SiameseParams(draws[0].groups, values, sum(each.n for each in draws))


def none() -> Siamese:
    """No augmentation at all."""
    return Siamese(strategy=())


def dsa() -> Siamese:
    """DSA's published augmentation: one of colour, crop, cutout, flip, scale and rotation for each batch."""
    return Siamese()


def dsa_noflip() -> Siamese:
    """DSA's augmentation without flips, as published for digits (MNIST, SVHN)."""
    return Siamese(strategy=("color", "crop", "cutout", "scale", "rotate"))


def flip_rotate() -> Siamese:
    """Augmentation of unrolled training (RaT-BPTT, Remember the Past): per batch flips, or rotations by up to 15°."""
    return Siamese(strategy=("flip", "rotate"))


def rotate() -> Siamese:
    """The same without flips."""
    return Siamese(strategy=("rotate",))


def _part(side: int, ratio: float) -> int:
    return int(side * ratio + 0.5)


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x).reshape(-1, 1, 1, 1)


def _color(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    b, s, k = (_column(values[name], x) for name in ("brightness", "saturation", "contrast"))
    # The three published steps in one: brightness moves every mean by b, and saturation leaves the mean over channels
    # as it is, so contrast's mean is that of the picture plus b.
    grey = x.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    return x * (s * k) + (grey * (k - s * k) + (mean * (1 - k) + b))


def _crop(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    dy, dx = values["crop_y"], values["crop_x"]
    h, w = x.shape[2:]
    if len(dy) == 1:
        down, right = int(dy), int(dx)
        return F.pad(x, (-right, right, -down, down))
    rows = torch.arange(h, device=x.device) + dy.to(x.device).unsqueeze(1)
    columns = torch.arange(w, device=x.device) + dx.to(x.device).unsqueeze(1)
    outside = ((rows < 0) | (rows >= h)).unsqueeze(2) | ((columns < 0) | (columns >= w)).unsqueeze(1)
    # two takes along one axis each: much faster than one take of pixels, and so is its derivative
    taken = x.gather(2, rows.clamp(0, h - 1)[:, None, :, None].expand_as(x))
    taken = taken.gather(3, columns.clamp(0, w - 1)[:, None, None, :].expand_as(x))
    return taken.masked_fill(outside.unsqueeze(1), 0.0)


def _inside(centre: Tensor, side: int, ratio: float, device: torch.device) -> Bool[Tensor, "n side"]:
    size = _part(side, ratio)
    first = centre.to(device).unsqueeze(1) - size // 2
    place = torch.arange(side, device=device)
    return (place >= first) & (place < first + size)


def _cutout(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    rows = _inside(values["cutout_y"], x.shape[2], spec.ratio_cutout, x.device)
    columns = _inside(values["cutout_x"], x.shape[3], spec.ratio_cutout, x.device)
    return x.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)


def _flip(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    flip = values["flip"]
    if len(flip) == 1:
        return x.flip(3) if bool(flip) else x
    return torch.where(flip.to(x.device).reshape(-1, 1, 1, 1), x.flip(3), x)


def _scaling(values: Mapping[str, Tensor]) -> Float[Tensor, "n 2 3"]:
    sx, sy = values["scale_x"], values["scale_y"]
    nought = torch.zeros_like(sx)
    return torch.stack([sx, nought, nought, nought, sy, nought], 1).reshape(-1, 2, 3)


def _rotation(values: Mapping[str, Tensor]) -> Float[Tensor, "n 2 3"]:
    angle = values["angle"]
    cos, sin, nought = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cos, -sin, nought, sin, cos, nought], 1).reshape(-1, 2, 3)


def _scale(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    return _warp(x, _scaling(values))


def _rotate(spec: Siamese, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    return _warp(x, _rotation(values))


def to_homogeneous(theta: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n 3 3"]:
    """Return affine maps as 3×3 matrices, float64, for composition by products."""
    last = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64).expand(len(theta), 1, 3)
    return torch.cat([theta.double(), last], 1)


def shift_matrix(down: Tensor, right: Tensor, h: int, w: int) -> Float[Tensor, "n 3 3"]:
    """Return the map of output to input coordinates in [-1, 1] for a shift by ``down`` rows and ``right`` columns."""
    made = torch.eye(3, dtype=torch.float64).repeat(len(down), 1, 1)
    made[:, 0, 2], made[:, 1, 2] = 2 * right.double() / w, 2 * down.double() / h
    return made


def flip_matrix(flip: Tensor) -> Float[Tensor, "n 3 3"]:
    """Return the map of output to input coordinates in [-1, 1] for horizontal flips (bool)."""
    made = torch.eye(3, dtype=torch.float64).repeat(len(flip), 1, 1)
    made[:, 0, 0] = 1 - 2 * flip.double()
    return made


def _warp(x: Tensor, theta: Float[Tensor, "g 2 3"]) -> Tensor:
    """Sample bilinearly by an affine map, zeros outside, ``align_corners=False``."""
    grid = F.affine_grid(theta.to(x), [len(theta), *x.shape[1:]], align_corners=False)
    warped: Tensor = _Sample.apply(x, grid.expand(len(x), -1, -1, -1))  # type: ignore[no-untyped-call]
    return warped


class _Sample(torch.autograd.Function):
    """Bilinear sampling at a fixed grid, differentiable any number of times (torch's ``grid_sample`` only once).

    It is linear in the images: its derivative is its adjoint, whose derivative is itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, align_corners=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Adjoint.apply(gradient, ctx.saved_tensors[0]), None  # type: ignore[no-untyped-call]


class _Adjoint(torch.autograd.Function):
    """Adjoint of `_Sample`: every value goes back to its four source pixels."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, grid: Tensor) -> Tensor:
        x: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, torch.zeros_like(gradient), grid, 0, 0, False, [True, False]
        )[0]
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sample.apply(gradient, ctx.saved_tensors[0]), None  # type: ignore[no-untyped-call]


_MATRICES: Mapping[str, Callable[[Mapping[str, Tensor], int, int], Tensor]] = {
    "crop": lambda values, h, w: shift_matrix(values["crop_y"], values["crop_x"], h, w),
    "flip": lambda values, h, w: flip_matrix(values["flip"]),
    "scale": lambda values, h, w: to_homogeneous(_scaling(values)),
    "rotate": lambda values, h, w: to_homogeneous(_rotation(values)),
}
"""Maps of output to input coordinates, by group."""
_APPLY: Mapping[str, Callable[[Siamese, Tensor, Mapping[str, Tensor]], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
