"""Per-sample augmentations of the decoupled family's students: random resized crops, shifts, shuffled patches.

Resized crops as torchvision's RandomResizedCrop (Szegedy et al., arXiv:1409.4842): area uniform in ``scale``, logarithm
of the aspect ratio uniform in ``ratio``, ten attempts, else the largest centred crop with an allowed ratio; whole
pixels, resized bilinearly from the crop's own pixels.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.augment.siamese import Siamese, flip_matrix, shift_matrix
from potstill.errors import PotstillError
from potstill.tasks import Movement

__all__ = [
    "CropParams",
    "Crops",
    "PadCrop",
    "boxes",
    "central_box",
    "crop_and_resize",
    "flip",
    "pad_crop",
    "pad_crop_noflip",
    "patches",
    "patches_noflip",
    "rrc",
    "rrc_noflip",
    "shuffle_cells",
]

ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class CropParams:
    """Parameters of one draw, one entry per sample."""

    box: Int[Tensor, "n 4"]
    """Top, left, height and width of each crop, in pixels."""
    flip: Tensor
    """True for samples that are flipped horizontally."""
    order: Int[Tensor, "n p"]
    """Source cell of each cell; one column without shuffling."""
    n: int


def boxes(
    n: int, h: int, w: int, scale: tuple[float, float], ratio: tuple[float, float], rng: Generator
) -> Int[Tensor, "n 4"]:
    """Draw top, left, height and width of ``n`` random crops of an h×w image."""
    area = h * w * (scale[0] + (scale[1] - scale[0]) * torch.rand(n, ATTEMPTS, generator=rng, dtype=torch.float64))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    side = (low + (high - low) * torch.rand(n, ATTEMPTS, generator=rng, dtype=torch.float64)).exp()
    wide, tall = (area * side).sqrt().round().long(), (area / side).sqrt().round().long()
    fits = (wide >= 1) & (wide <= w) & (tall >= 1) & (tall <= h)
    first = fits.int().argmax(1, keepdim=True)  # the first attempt that fits
    wide, tall = wide.gather(1, first).squeeze(1), tall.gather(1, first).squeeze(1)
    spare = torch.rand(2, n, generator=rng, dtype=torch.float64)
    top = (spare[0] * (h - tall + 1)).long()
    left = (spare[1] * (w - wide + 1)).long()
    drawn = torch.stack([top, left, tall, wide], 1)
    centred = torch.tensor(central_box(h, w, ratio))
    return torch.where(fits.any(1, keepdim=True), drawn, centred)


def central_box(h: int, w: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return the largest centred box with an allowed aspect ratio: top, left, height, width."""
    tall, wide = h, w
    if w / h < ratio[0]:
        tall = min(h, max(1, round(w / ratio[0])))
    elif w / h > ratio[1]:
        wide = min(w, max(1, round(h * ratio[1])))
    return (h - tall) // 2, (w - wide) // 2, tall, wide


def crop_and_resize(x: Float[Tensor, "n c h w"], box: Int[Tensor, "n 4"], size: tuple[int, int]) -> Tensor:
    """Crop each image by its box and resize bilinearly to ``size`` (h, w), without antialiasing."""
    h, w = x.shape[2:]
    box = box.to(x.device)

    def positions(first: Tensor, length: Tensor, out: int, side: int) -> Tensor:
        at = (torch.arange(out, device=x.device, dtype=torch.float64) + 0.5) * length[:, None] / out - 0.5
        at = torch.minimum(at.clamp_min(0), (length - 1)[:, None].double()) + first[:, None]
        return (2 * at + 1) / side - 1

    y, z = positions(box[:, 0], box[:, 2], size[0], h), positions(box[:, 1], box[:, 3], size[1], w)
    at = (z[:, None, :].expand(-1, size[0], -1), y[:, :, None].expand(-1, -1, size[1]))
    grid = torch.stack(at, -1).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _flipped(x: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip.to(x.device).view(-1, 1, 1, 1), x.flip(3), x)


def _check(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 3:
        raise PotstillError(
            f"this augmentation needs pictures (c, h, w), but one input is {shape}; use the augmentation 'none'"
        )
    return shape[1], shape[2]


def _no_shuffle(n: int) -> Tensor:
    return torch.zeros(n, 1, dtype=torch.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Shuffled patches, a random resized crop and a flip; a `potstill.core.Augmentation`.

    Attributes:
        scale: range of a crop's area as a fraction of the image's.
        ratio: range of a crop's width over height.
        flip: probability of a horizontal flip.
        patches: number of cells per side that are shuffled (RDED's ShufflePatches); 1 for none. A remainder stays at
            the right and lower edge.

    Raises:
        PotstillError: a value out of its range.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    patches: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise PotstillError(f"scale must be two parts in (0, 1], the smaller first, but it is {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise PotstillError(f"ratio must be two numbers above 0, the smaller first, but it is {self.ratio}")
        if not 0 <= self.flip <= 1 or self.patches < 1:
            raise PotstillError(
                f"flip must be in [0, 1] and patches at least 1, but they are {self.flip:g} and {self.patches}"
            )

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return (*(("shuffle",) if self.patches > 1 else ()), "crop", *(("flip",) if self.flip else ()))

    def without(self, operations: Collection[str], /) -> "Crops | PadCrop | Siamese":
        """Return the augmentation without these operations; patches need crops."""
        flip = 0.0 if "flip" in operations else self.flip
        if "crop" not in operations:
            return replace(self, patches=1 if "shuffle" in operations else self.patches, flip=flip)
        return PadCrop(pad=0, flip=flip) if flip else Siamese(strategy=())

    def movement(self, params: CropParams, shape: tuple[int, ...], /) -> Movement:
        """Return the movement of pixels by `apply` with ``params``, for images of ``shape`` (c, h, w)."""
        h, w = shape[1:]
        top, left, tall, wide = params.box.double().unbind(1)
        matrix = torch.eye(3, dtype=torch.float64).repeat(params.n, 1, 1)
        matrix[:, 0, 0], matrix[:, 0, 2] = wide / w, (2 * left + wide) / w - 1
        matrix[:, 1, 1], matrix[:, 1, 2] = tall / h, (2 * top + tall) / h - 1
        return Movement(
            maps=lambda x: self.apply(x, params), size=(h, w),
            matrix=None if self.patches > 1 else matrix @ flip_matrix(params.flip),
        )  # fmt: skip

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> CropParams:
        """Draw parameters for ``n`` images of ``shape`` (c, h, w); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, h, w), or it is smaller than ``patches``.
        """
        h, w = _check(shape)
        if min(h, w) < self.patches:
            raise PotstillError(f"a picture of {h}×{w} cannot be cut into {self.patches}×{self.patches} patches")
        order = _no_shuffle(n)
        if self.patches > 1:
            order = torch.rand(n, self.patches**2, generator=rng).argsort(1)
        box = boxes(n, h, w, self.scale, self.ratio, rng)
        return CropParams(box, torch.rand(n, generator=rng) < self.flip, order, n)

    def apply(self, x: Tensor, params: CropParams, /) -> Tensor:
        """Transform ``x`` (m, c, h, w) to the same shape, differentiably.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        m = len(x)
        box, flip, order = (_expand_to(m, t, params.n) for t in (params.box, params.flip, params.order))
        if order.shape[1] > 1:
            x = shuffle_cells(x, order, self.patches)
        h, w = x.shape[2:]
        return _flipped(crop_and_resize(x, box, (h, w)), flip)


def _expand_to(m: int, values: Tensor, n: int) -> Tensor:
    if n not in (1, m):
        raise ValueError(f"parameters were drawn for {n} samples, but the batch has {m}")
    return values.expand(m, *values.shape[1:])


def shuffle_cells(x: Float[Tensor, "n c h w"], order: Int[Tensor, "n p2"], p: int) -> Float[Tensor, "n c h w"]:
    """Shuffle the p × p cells of images, in reading order: cell j is taken from cell ``order[j]``."""
    n, c = x.shape[:2]
    h, w = x.shape[2] // p * p, x.shape[3] // p * p
    cells = x[:, :, :h, :w].reshape(n, c, p, h // p, p, w // p).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    cells = cells[torch.arange(n, device=x.device)[:, None], order.to(x.device)]
    whole = cells.view(n, p, p, c, h // p, w // p).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
    whole = torch.cat([whole, x[:, :, :h, w:]], 3)
    return torch.cat([whole, x[:, :, h:]], 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadCrop:
    """A shift by up to ``pad`` pixels with zero padding, and a flip; a `potstill.core.Augmentation`."""

    pad: int = 4
    flip: float = 0.5

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(name for name, used in (("shift", self.pad), ("flip", self.flip)) if used)

    def without(self, operations: Collection[str], /) -> "PadCrop | Siamese":
        """Return the augmentation without these; `Siamese` without groups if none is left."""
        pad, flip = (0 if "shift" in operations else self.pad), (0.0 if "flip" in operations else self.flip)
        return replace(self, pad=pad, flip=flip) if pad or flip else Siamese(strategy=())

    def movement(self, params: CropParams, shape: tuple[int, ...], /) -> Movement:
        """Return the movement of pixels by `apply` with ``params``, for images of ``shape`` (c, h, w)."""
        h, w = shape[1:]
        down, right = (params.box[:, :2] - self.pad).unbind(1)
        matrix = shift_matrix(down, right, h, w) @ flip_matrix(params.flip)
        return Movement(maps=lambda x: self.apply(x, params), matrix=matrix, size=(h, w))

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> CropParams:
        """Draw parameters for ``n`` images of ``shape`` (c, h, w); with ``n = 1`` a batch shares them.

        Raises:
            PotstillError: the shape is not (c, h, w).
        """
        h, w = _check(shape)
        corner = torch.randint(2 * self.pad + 1, (n, 2), generator=rng)
        box = torch.cat([corner, torch.tensor([[h, w]]).expand(n, 2)], 1)
        return CropParams(box, torch.rand(n, generator=rng) < self.flip, _no_shuffle(n), n)

    def apply(self, x: Tensor, params: CropParams, /) -> Tensor:
        """Transform ``x`` (m, c, h, w) to the same shape, differentiably.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        m, (h, w) = len(x), x.shape[2:]
        box, flip = (_expand_to(m, t, params.n).to(x.device) for t in (params.box, params.flip))
        wide = F.pad(x, (self.pad,) * 4)
        rows = box[:, 0, None] + torch.arange(h, device=x.device)
        columns = box[:, 1, None] + torch.arange(w, device=x.device)
        moved = wide[torch.arange(m, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return _flipped(moved.permute(0, 3, 1, 2), flip)


def rrc() -> Crops:
    """Random resized crops of 8 to 100 % of the area and flips: SRe2L's students."""
    return Crops()


def rrc_noflip() -> Crops:
    """The same without flips."""
    return Crops(flip=0.0)


def flip() -> Crops:
    """Flips only: RDED's students with factor 1."""
    return Crops(scale=(1.0, 1.0), ratio=(1.0, 1.0))


def patches() -> Crops:
    """Four shuffled cells, crops of 50 to 100 % of the area and flips: RDED's and EDC's students (factor 2)."""
    return Crops(scale=(0.5, 1.0), patches=2)


def patches_noflip() -> Crops:
    """The same without flips."""
    return Crops(scale=(0.5, 1.0), patches=2, flip=0.0)


def pad_crop() -> PadCrop:
    """Shifts by up to four pixels and flips: the usual training on CIFAR."""
    return PadCrop()


def pad_crop_noflip() -> PadCrop:
    """The same without flips."""
    return PadCrop(flip=0.0)
