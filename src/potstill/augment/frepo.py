"""Augmentation of FRePo's students (arXiv:2206.00719; lib/dataset/augmax of the published code).

One operation per batch with per-sample parameters. Outside pixels are those of the edge, where DSA has zeros. Not for
matching: bilinear sampling is differentiable only once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import pi

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.siamese import Siamese, SiameseParams, flip_matrix, to_homogeneous
from potstill.errors import PotstillError, unknown_name
from potstill.tasks import Movement

__all__ = ["OPERATIONS", "FRePoAugment", "frepo", "frepo_noflip"]

OPERATIONS = ("flip", "color", "crop", "rotate", "translate", "cutout")
_MOVING: Mapping[str, str] = {"flip": "flip", "crop": "scale", "rotate": "rotate", "translate": "shift"}
"""Operations that move pixels, by name in `potstill.tasks.GEOMETRIC`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FRePoAugment:
    """One operation of ``strategy`` per batch; a `potstill.core.Augmentation`.

    - flip: horizontal, with probability 1/2.
    - color: adds a brightness in [−``color``, ``color``], then scales contrast (about the image's mean) and saturation
      (about each pixel's channel mean) by factors with logarithms uniform in the same range.
    - crop: enlarged by a factor in ``zoom``, log-uniform, then an h × w window inside it (or around it, below 1).
    - rotate: by up to ``rotate`` degrees.
    - translate: by up to ``translate`` of each side, in fractional pixels.
    - cutout: a rectangle of ``cutout`` of each side is set to 0.

    Raises:
        PotstillError: an unknown operation.
    """

    strategy: tuple[str, ...] = OPERATIONS
    color: float = 0.25
    zoom: tuple[float, float] = (0.8, 1.25)
    rotate: float = 15.0
    translate: float = 0.125
    cutout: float = 0.25

    def __post_init__(self) -> None:
        for operation in self.strategy:
            if operation not in OPERATIONS:
                raise unknown_name("augmentation", operation, OPERATIONS)

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(_MOVING[operation] for operation in self.strategy if operation in _MOVING)

    def without(self, operations: Collection[str], /) -> "FRePoAugment | Siamese":
        """Return the augmentation without these; `Siamese` without groups if none is left."""
        left = tuple(name for name in self.strategy if _MOVING.get(name) not in operations)
        return replace(self, strategy=left) if left else Siamese(strategy=())

    def movement(self, params: SiameseParams, shape: tuple[int, ...], /) -> Movement:
        """Return the movement of pixels by `apply` with ``params``, for images of ``shape`` (c, h, w)."""
        (operation,), h, w = params.groups, shape[1], shape[2]
        if operation not in _MOVING:
            return Movement(maps=lambda x: x, matrix=torch.eye(3, dtype=torch.float64)[None], size=(h, w))
        flip = operation == "flip"
        matrix = flip_matrix(params.values["flip"]) if flip else to_homogeneous(_places(operation, params.values))
        return Movement(maps=lambda x: self.apply(x, params), matrix=matrix, size=(h, w))

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> SiameseParams:
        """Draw parameters for ``n`` images of ``shape`` (c, h, w); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, h, w).
        """
        if len(shape) != 3:
            raise PotstillError(
                f"this augmentation needs pictures (c, h, w), but one input is {shape}; use the augmentation 'none'"
            )
        one = self.strategy[int(torch.randint(len(self.strategy), (1,), generator=rng))]
        return SiameseParams((one,), self._values(one, n, shape[1], shape[2], rng), n)

    def _values(self, operation: str, n: int, h: int, w: int, rng: Generator) -> dict[str, Tensor]:
        def even(limit: float) -> Tensor:
            return (2 * torch.rand(n, generator=rng, dtype=torch.float64) - 1) * limit

        match operation:
            case "flip":
                return {"flip": torch.rand(n, generator=rng) < 0.5}
            case "color":
                c = self.color
                return {"brightness": even(c), "contrast": even(c).exp(), "saturation": even(c).exp()}
            case "crop":
                low, high = torch.tensor(self.zoom, dtype=torch.float64).log().tolist()
                zoom = ((low + high) / 2 + even((high - low) / 2)).exp()
                room = (zoom - 1).abs()  # of each side, in parts of it, in both directions half
                return {"zoom": zoom, "y": even(1.0) * room / zoom, "x": even(1.0) * room / zoom}
            case "rotate":
                return {"angle": even(self.rotate / 180 * pi), "ratio": torch.full((n,), w / h, dtype=torch.float64)}
            case "translate":
                return {"y": -even(2 * self.translate), "x": -even(2 * self.translate)}
            case _:
                size = {"y": int(h * self.cutout), "x": int(w * self.cutout)}
                first = {
                    name: torch.randint(side - size[name] + 1, (n,), generator=rng)
                    for name, side in (("y", h), ("x", w))
                }
                return first | {f"{name}_end": first[name] + size[name] for name in size}

    def apply(self, x: Tensor, params: SiameseParams, /) -> Tensor:
        """Transform ``x`` (m, c, h, w) to the same shape.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        if params.n not in (1, len(x)):
            raise ValueError(f"parameters drawn for {params.n} samples cannot be applied to {len(x)}")
        (operation,), v = params.groups, params.values
        if operation == "flip":
            return torch.where(v["flip"].to(x.device).reshape(-1, 1, 1, 1), x.flip(3), x)
        if operation == "color":
            return _colored(x, v)
        if operation == "cutout":
            inside = [
                (place >= v[name].to(x.device)[:, None]) & (place < v[f"{name}_end"].to(x.device)[:, None])
                for name, place in (
                    ("y", torch.arange(x.shape[2], device=x.device)), ("x", torch.arange(x.shape[3], device=x.device))
                )
            ]  # fmt: skip
            return x.masked_fill((inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1), 0.0)
        return _sampled(x, _places(operation, v))


def frepo() -> FRePoAugment:
    """As published for images that may be flipped."""
    return FRePoAugment()


def frepo_noflip() -> FRePoAugment:
    """The same without flips, as published for MNIST and Fashion-MNIST."""
    return FRePoAugment(strategy=OPERATIONS[1:])


def _colored(x: Tensor, v: Mapping[str, Tensor]) -> Tensor:
    b, c, s = (v[name].to(x).reshape(-1, 1, 1, 1) for name in ("brightness", "contrast", "saturation"))
    x = x + b
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * c + mean
    grey = x.mean(1, keepdim=True)
    return (x - grey) * s + grey


def _places(operation: str, v: Mapping[str, Tensor]) -> Tensor:
    """Return affine maps (n, 2, 3) of output to input coordinates in [-1, 1], for `torch.nn.functional.affine_grid`."""
    if operation == "rotate":  # in pixels, so that a picture that is not square is not sheared
        cos, sin, ratio = v["angle"].cos(), v["angle"].sin(), v["ratio"]
        nought = torch.zeros_like(cos)
        return torch.stack([cos, -sin / ratio, nought, sin * ratio, cos, nought], 1).reshape(-1, 2, 3)
    scale = 1 / v["zoom"] if operation == "crop" else torch.ones_like(v["x"])
    nought = torch.zeros_like(scale)
    return torch.stack([scale, nought, v["x"], nought, scale, v["y"]], 1).reshape(-1, 2, 3)


def _sampled(x: Tensor, places: Tensor) -> Tensor:
    grid = F.affine_grid(places.to(x), [len(places), *x.shape[1:]], align_corners=False)
    return F.grid_sample(x, grid.expand(len(x), -1, -1, -1), padding_mode="border", align_corners=False)
