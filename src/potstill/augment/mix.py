"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of samples and their labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = ["CutMix", "Mix", "MixParams", "MixUp", "beta", "join_labels", "label_rows"]


@dataclass(frozen=True, slots=True)
class MixParams:
    """Parameters of one batch.

    ``partner``: partner of each sample; ``share``: weight of the own label in [0, 1]; ``box``: rows and columns that
    CutMix fills from the partner (top, bottom, left, right; ends excluded).
    """

    partner: Int[Tensor, " n"]
    share: float
    box: tuple[int, int, int, int] | None = None


@runtime_checkable
class Mix(Protocol):
    """A mix of inputs and labels."""

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> MixParams: ...
    def apply(self, x: Tensor, y: Tensor, params: MixParams, num_classes: int, /) -> tuple[Tensor, Tensor]: ...


def label_rows(
    y: Int[Tensor, " n"] | Float[Tensor, "n k"], num_classes: int, dtype: torch.dtype
) -> Float[Tensor, "n k"]:
    """Return labels as rows that sum to 1: classes one-hot, rows as they are."""
    return (y if y.is_floating_point() else F.one_hot(y.long(), num_classes)).to(dtype)


def join_labels(parts: Sequence[Tensor], num_classes: int) -> Tensor:
    """Return the labels of several sets as one on the CPU: classes (n,), or rows (n, k) where a set has rows."""
    if all(y.ndim == 1 for y in parts):
        return torch.cat([y.cpu() for y in parts])
    return torch.cat([label_rows(y.cpu(), num_classes, torch.float32) for y in parts])


def beta(alpha: float, rng: Generator) -> float:
    """Draw from Beta(alpha, alpha) with ``rng`` (torch's distributions use the global generator).

    ``alpha`` ≤ 1: Jöhnk's rejection (1964), in logarithms; above 1: Ulrich's transformation (1984),
    ``(1 + cos(2πV) · sqrt(1 − U^(2 / (2·alpha − 1)))) / 2``.

    Raises:
        PotstillError: ``alpha`` is not positive.
    """
    if not alpha > 0:
        raise PotstillError(f"alpha must be above 0, but it is {alpha:g}; choose 1 for an even draw")
    while True:
        # 1 − u is in (0, 1]: its logarithm is finite
        u, v = (1.0 - torch.rand(2, generator=rng, dtype=torch.float64)).tolist()
        if alpha > 1:
            return 0.5 * (1.0 + math.cos(2 * math.pi * v) * math.sqrt(1.0 - u ** (2.0 / (2.0 * alpha - 1.0))))
        a, b = math.log(u) / alpha, math.log(v) / alpha
        top = max(a, b)
        if top + math.log(math.exp(a - top) + math.exp(b - top)) <= 0:
            return math.exp(a - top) / (math.exp(a - top) + math.exp(b - top))


@dataclass(frozen=True, slots=True, kw_only=True)
class MixUp:
    """``share · x + (1 − share) · x[partner]``, labels alike, with one ``share`` from Beta(alpha, alpha) per batch.

    Attributes:
        alpha: above 0; 1 is uniform.
        prob: probability that a batch is mixed.
    """

    alpha: float = 1.0
    prob: float = 1.0

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> MixParams:
        """Draw partners, a random permutation, and the share."""
        mixed = float(torch.rand(1, generator=rng)) < self.prob
        partner = torch.randperm(n, generator=rng)
        return MixParams(partner, beta(self.alpha, rng) if mixed else 1.0)

    def apply(
        self, x: Tensor, y: Tensor, params: MixParams, num_classes: int, /
    ) -> tuple[Tensor, Float[Tensor, "n k"]]:
        """Return mixed inputs (n, …) and label rows (n, k); ``y``: int classes or rows."""
        mixed = x if params.share == 1.0 else params.share * x + (1 - params.share) * x[params.partner.to(x.device)]
        return mixed, _mixed_rows(x, y, params, num_classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMix:
    """A box of every image is filled from its partner; labels are mixed by area.

    The box has the image's proportions and ``1 − share`` of its area, share from Beta(alpha, alpha), and a uniform
    centre; it is clipped to the image and the share corrected. IDC and NCFM train with ``alpha = 1, prob = 0.5``.

    Attributes:
        alpha: above 0; 1 is uniform.
        prob: the probability that a batch is mixed at all.
    """

    alpha: float = 1.0
    prob: float = 0.5

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> MixParams:
        """Draw partners, a random permutation, and the box.

        Raises:
            PotstillError: the shape is not (c, h, w).
        """
        if len(shape) != 3:
            raise PotstillError(f"CutMix needs pictures (c, h, w), but one input is {shape}; use MixUp")
        mixed = float(torch.rand(1, generator=rng)) < self.prob
        partner = torch.randperm(n, generator=rng)
        if not mixed:
            return MixParams(partner, 1.0)
        side = math.sqrt(1.0 - beta(self.alpha, rng))
        h, w = shape[1:]
        top, bottom = _span(h, int(h * side), rng)
        left, right = _span(w, int(w * side), rng)
        return MixParams(partner, 1.0 - (bottom - top) * (right - left) / (h * w), (top, bottom, left, right))

    def apply(
        self, x: Tensor, y: Tensor, params: MixParams, num_classes: int, /
    ) -> tuple[Tensor, Float[Tensor, "n k"]]:
        """Return mixed images (n, c, h, w) and label rows (n, k); never writes into ``x``."""
        mixed = x
        if params.box is not None:
            top, bottom, left, right = params.box
            inside = torch.zeros(x.shape[2:], dtype=torch.bool)
            inside[top:bottom, left:right] = True
            mixed = torch.where(inside.to(x.device), x[params.partner.to(x.device)], x)
        return mixed, _mixed_rows(x, y, params, num_classes)


def _span(side: int, size: int, rng: Generator) -> tuple[int, int]:
    centre = int(torch.randint(side, (1,), generator=rng))
    return max(0, centre - size // 2), min(side, centre + size // 2)


def _mixed_rows(x: Tensor, y: Tensor, params: MixParams, num_classes: int) -> Tensor:
    own = label_rows(y, num_classes, x.dtype)
    return params.share * own + (1 - params.share) * own[params.partner.to(own.device)]
