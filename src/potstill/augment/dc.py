"""Augmentation of DC's evaluation (arXiv:2006.05929): one operation per sample; rotation has no gradient."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError, unknown_name

__all__ = ["OPERATIONS", "DCParams", "PerSample", "dc", "dc_batch_norm"]

OPERATIONS = ("crop", "scale", "rotate", "noise")
_MOVING = {"crop": "shift", "scale": "scale", "rotate": "rotate"}
"""Operations that move pixels, by name in `potstill.tasks.GEOMETRIC`."""


@dataclass(frozen=True, slots=True)
class DCParams:
    """Parameters of n samples; ``choice`` indexes the strategy.

    ``crop``: first row and column in the padded image; ``size``: scaled height and width in pixels; ``angle``: whole
    degrees; ``noise``: standard normal values, if the strategy has noise.
    """

    choice: Int[Tensor, " n"]
    crop: Int[Tensor, "n 2"]
    size: Int[Tensor, "n 2"]
    angle: Int[Tensor, " n"]
    noise: Float[Tensor, "n c h w"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerSample:
    """One operation of ``strategy`` per sample, drawn uniformly; a `potstill.core.Augmentation`.

    - crop: pad by ``crop`` pixels of the channel's batch mean, take a window at offsets in 0…2·crop − 1 (as published).
    - scale: height and width become ``int(u · H)``, u in [1 − scale, 1 + scale] (as published both from the height H),
      by nearest neighbour; then a centre crop, padded with 0.
    - rotate: whole degrees in −rotate…rotate − 1, cubic splines, filled with the mean of the channels' means; then a
      centre crop. Runs in SciPy on the CPU, without gradient.
    - noise: adds ``noise`` times a standard normal value.

    With ``n = 1`` the batch shares the operation and its parameters. The result never aliases the input.

    Raises:
        PotstillError: an unknown operation, or a parameter out of its range.
    """

    strategy: tuple[str, ...] = ("crop", "scale", "rotate")
    crop: int = 4
    scale: float = 0.2
    rotate: int = 45
    noise: float = 0.001

    def __post_init__(self) -> None:
        for operation in self.strategy:
            if operation not in OPERATIONS:
                raise unknown_name("operation", operation, OPERATIONS)
        for name, low, high in (("crop", 1, 1 << 20), ("scale", 0.0, 0.9), ("rotate", 1, 180), ("noise", 0.0, 1e6)):
            if not low <= (value := getattr(self, name)) <= high:
                raise PotstillError(f"{name} must be in [{low:g}, {high:g}], but it is {value:g}; change it")

    @property
    def geometric(self) -> tuple[str, ...]:
        """Operations that move pixels, of `potstill.tasks.GEOMETRIC`."""
        return tuple(_MOVING[operation] for operation in self.strategy if operation in _MOVING)

    def without(self, operations: Collection[str], /) -> "PerSample":
        """Return the augmentation without these operations."""
        return replace(self, strategy=tuple(n for n in self.strategy if _MOVING.get(n) not in operations))

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> DCParams:
        """Draw parameters for ``n`` images of ``shape`` (c, h, w).

        Raises:
            PotstillError: the shape is not (c, h, w).
        """
        if len(shape) != 3:
            raise PotstillError(f"this augmentation needs pictures (c, h, w), but one input is {shape}; use 'none'")
        factor = torch.rand(n, 2, generator=rng, dtype=torch.float64) * (2 * self.scale) + (1 - self.scale)
        return DCParams(
            choice=torch.randint(max(1, len(self.strategy)), (n,), generator=rng),
            crop=torch.randint(2 * self.crop, (n, 2), generator=rng),
            size=(factor * shape[1]).long().clamp_min(1),
            angle=torch.randint(-self.rotate, self.rotate, (n,), generator=rng),
            noise=torch.randn(n, *shape, generator=rng) if "noise" in self.strategy else None,
        )

    def apply(self, x: Tensor, params: DCParams, /) -> Tensor:
        """Apply one operation to each sample of ``x`` (m, c, h, w); returns a new tensor.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        if (n := len(params.choice)) not in (1, len(x)):
            raise ValueError(f"parameters drawn for {n} samples cannot be applied to {len(x)}")
        if not self.strategy:
            return x.clone()
        mean = x.detach().mean((0, 2, 3))
        if n == 1:
            params = DCParams(
                choice=params.choice.expand(len(x)),
                crop=params.crop.expand(len(x), -1),
                size=params.size.expand(len(x), -1),
                angle=params.angle.expand(len(x)),
                noise=None if params.noise is None else params.noise.expand(len(x), -1, -1, -1),
            )
        parts: dict[str, Callable[[Tensor, DCParams, Tensor], Tensor]] = {
            "crop": partial(_crop, mean=mean, margin=self.crop),
            "scale": _scale,
            "rotate": partial(_rotate, fill=float(mean.double().mean())),
            "noise": partial(_noise, strength=self.noise),
        }
        made = x
        for place, operation in enumerate(self.strategy):
            chosen = (params.choice == place).nonzero().flatten()
            if len(chosen):
                index = chosen.to(x.device)
                # index_copy gives a new tensor: the input is never written
                made = made.index_copy(0, index, parts[operation](x[index], params, chosen))
        return made


def dc() -> PerSample:
    """DC's evaluation on MNIST: crop, scale or rotate."""
    return PerSample()


def dc_batch_norm() -> PerSample:
    """DC's evaluation of a ConvNet with batch normalization: crop or noise."""
    return PerSample(strategy=("crop", "noise"))


def _crop(x: Tensor, params: DCParams, rows: Tensor, *, mean: Tensor, margin: int) -> Tensor:
    h, w = x.shape[2:]
    top, left = (params.crop[rows].to(x.device) - margin).unbind(1)
    rows = torch.arange(h, device=x.device) + top.unsqueeze(1)
    columns = torch.arange(w, device=x.device) + left.unsqueeze(1)
    outside = ((rows < 0) | (rows >= h)).unsqueeze(2) | ((columns < 0) | (columns >= w)).unsqueeze(1)
    taken = x.gather(2, rows.clamp(0, h - 1)[:, None, :, None].expand_as(x))
    taken = taken.gather(3, columns.clamp(0, w - 1)[:, None, None, :].expand_as(x))
    return torch.where(outside.unsqueeze(1), mean.reshape(1, -1, 1, 1), taken)


def _scale(x: Tensor, params: DCParams, rows: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    for size in torch.unique(params.size[rows], dim=0).tolist():
        same = (params.size[rows] == torch.tensor(size)).all(1).nonzero().flatten().to(x.device)
        made = made.index_copy(0, same, _middle(F.interpolate(x[same], size), x.shape[2], x.shape[3]))
    return made


def _middle(x: Tensor, h: int, w: int) -> Tensor:
    """Centre-crop images padded to a square of their largest side, as published."""
    side = max(h, w, *x.shape[2:])
    # both insets are rounded down on their own, so the result may sit one pixel off the true middle
    top, left = (side - x.shape[2]) // 2 - (side - h) // 2, (side - x.shape[3]) // 2 - (side - w) // 2
    return F.pad(x, (left, w - left - x.shape[3], top, h - top - x.shape[2]))


def _rotate(x: Tensor, params: DCParams, rows: Tensor, *, fill: float) -> Tensor:
    from scipy.ndimage import rotate  # type: ignore[import-untyped]

    h, w = x.shape[2:]
    made = np.full(tuple(x.shape), fill, dtype=np.float64)
    for i, (picture, angle) in enumerate(zip(x.detach().cpu().numpy(), params.angle[rows].tolist(), strict=True)):
        turned = rotate(picture, angle=angle, axes=(-2, -1), cval=fill)
        # a turned picture may be narrower than a long one was; then the rest keeps the fill
        (to_r, from_r, size_r), (to_c, from_c, size_c) = _overlap(h, turned.shape[1]), _overlap(w, turned.shape[2])
        made[i, :, to_r : to_r + size_r, to_c : to_c + size_c] = turned[
            :, from_r : from_r + size_r, from_c : from_c + size_c
        ]
    return torch.from_numpy(made).to(x)


def _overlap(side: int, turned: int) -> tuple[int, int, int]:
    return max(0, (side - turned) // 2), max(0, (turned - side) // 2), min(side, turned)


def _noise(x: Tensor, params: DCParams, rows: Tensor, *, strength: float) -> Tensor:
    if params.noise is None:
        raise ValueError("these parameters were drawn for a strategy without noise")
    return x + strength * params.noise[rows].to(x)
