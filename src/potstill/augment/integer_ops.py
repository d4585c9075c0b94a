"""Crops, flips and mixes with integer parameters, applied with the same bits in every batch.

Every pixel is a fixed sum of the same few products, each rounded separately (no fused or reordered sums), so that a
view does not depend on the rest of the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from potstill.augment.crop import shuffle_cells
from potstill.errors import PotstillError

__all__ = ["CropPlan", "FetchInputs", "MixPlan", "crop", "mix", "render_views"]

FetchInputs: TypeAlias = Callable[[Tensor], Tensor]
"""Function from int64 indices (m,) to inputs (m, …), float."""


@dataclass(frozen=True, slots=True)
class CropPlan:
    """Crop of each image: (top, left, height, width) in pixels, and True if it is flipped horizontally.

    Cells are first shuffled by ``order`` (`potstill.augment.crop.shuffle_cells`), if given, and every side is padded
    with ``pad`` zeros, which the box counts.
    """

    box: Int[Tensor, "m 4"]
    flip: Bool[Tensor, " m"]
    order: Int[Tensor, "m p2"] | None = None
    pad: int = 0


@dataclass(frozen=True, slots=True)
class MixPlan:
    """Partner (an item) of each view and its mix.

    ``share``: weight of the own view in [0, 1]; 1 is no mix. ``box``: rows and columns (top, bottom, left, right; ends
    excluded) that CutMix fills from the partner's view; ``None`` for MixUp.
    """

    partner: Int[Tensor, " m"]
    share: Float[Tensor, " m"]
    box: Int[Tensor, "m 4"] | None = None


def _taps(first: Tensor, length: Tensor, to: int, mirrored: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return lower and upper source positions (m, to) of each output and the upper one's weight.

    Output o reads at ``(o + 1/2) · length / to − 1/2`` (``align_corners=False``), clamped to the crop.
    """
    out = torch.arange(to, dtype=torch.float64)
    at = ((out + 0.5) * (length[:, None].double() / to) - 0.5).clamp_min(0.0).minimum(length[:, None] - 1.0)
    low = at.floor()
    weight = at - low
    high = (low + 1.0).minimum(length[:, None] - 1.0)
    if mirrored is not None:
        low, high, weight = (torch.where(mirrored[:, None], t.flip(1), t) for t in (low, high, weight))
    first = first[:, None]
    return (low.long() + first).to(x.device), (high.long() + first).to(x.device), weight.to(x)


def crop(x: Float[Tensor, "m c h w"], crops: CropPlan, size: tuple[int, int]) -> Float[Tensor, "m c a b"]:
    """Crop the boxes, resize them bilinearly to ``size`` without antialiasing, and flip.

    Args:
        x: images; boxes lie inside them and their padding.
        size: (height, width) of the result.
    """
    if crops.order is not None:
        x = shuffle_cells(x, crops.order, math.isqrt(crops.order.shape[1]))
    if crops.pad:
        x = F.pad(x, (crops.pad,) * 4)
    top, left, height, width = crops.box.unbind(1)
    m, c, _, w = x.shape

    def rows(place: Tensor) -> Tensor:
        return x.gather(2, place[:, None, :, None].expand(m, c, size[0], w))

    low, high, weight = _taps(top, height, size[0], None, x)
    weight = weight[:, None, :, None]
    # Two products and a sum, not a lerp: a fused one rounds otherwise in the last few values of a vector.
    made = rows(low).mul_(1.0 - weight).add_(rows(high).mul_(weight))
    low, high, weight = _taps(left, width, size[1], crops.flip, x)
    weight = weight[:, None, None, :]
    low, high = (place[:, None, None, :].expand(m, c, size[0], size[1]) for place in (low, high))
    return made.gather(3, low).mul_(1.0 - weight).add_(made.gather(3, high).mul_(weight))


def mix(views: Float[Tensor, "m *s"], partner_views: Float[Tensor, "m *s"], mixes: MixPlan) -> Float[Tensor, "m *s"]:
    """Mix views with their partners' views."""
    if mixes.box is None:
        share = mixes.share.to(views).reshape(-1, *[1] * (views.ndim - 1))
        return views * share + partner_views * (1.0 - share)
    top, bottom, left, right = (side[:, None] for side in mixes.box.to(views.device).unbind(1))
    y, x = (torch.arange(side, device=views.device) for side in views.shape[2:])
    inside = ((y >= top) & (y < bottom))[:, None, :, None] & ((x >= left) & (x < right))[:, None, None, :]
    return torch.where(inside, partner_views, views)


def render_views(
    inputs: Tensor | FetchInputs,
    index: Int[Tensor, " m"],
    crops: Callable[[Tensor, tuple[int, int]], CropPlan] | None,
    mixes: Callable[[tuple[int, ...]], MixPlan | None],
    size: tuple[int, int] | None,
) -> Tensor:
    """Return the views of the items at ``index``, each mixed with its partner's view.

    Args:
        inputs: all items (n, …), or a function that fetches some; every needed item is fetched once.
        index: items, on the CPU, in any order and number, at least one.
        crops: function from items and image (height, width) to crops; ``None`` without crops and flips.
        mixes: function from the shape of views without the batch axis to the mixes of ``index``.
        size: (height, width) of views; ``None``: that of the images.

    Raises:
        PotstillError: an item does not exist, or the inputs do not suit the settings.
    """
    items = torch.from_numpy(np.unique(index.numpy()))
    x = _fetch(inputs, items)
    if crops is not None and (x.ndim != 4 or not x.is_floating_point()):
        raise PotstillError(
            f"crops, flips and CutMix need pictures of floats (n, c, h, w), but these inputs are {x.dtype} "
            f"{tuple(x.shape)}; use scale=None, flip=0 and mix='none' or 'mixup' for others"
        )
    drawn = mixes((x.shape[1], *size) if crops is not None and size is not None else tuple(x.shape[1:]))
    mixed = torch.zeros(len(index), dtype=torch.bool) if drawn is None else drawn.share < 1.0
    partner = index[:0] if drawn is None else drawn.partner[mixed]
    if len(more := torch.from_numpy(np.setdiff1d(partner.numpy(), items.numpy()))):
        x, items = torch.cat([x, _fetch(inputs, more)]), torch.cat([items, more])
    if crops is not None:
        x = crop(x, crops(items, (x.shape[2], x.shape[3])), size or (x.shape[2], x.shape[3]))
    known, order = items.sort()
    made, other = (x.index_select(0, order[torch.searchsorted(known, i)].to(x.device)) for i in (index, partner))
    if drawn is None or not len(partner):
        return made
    which = mixed.nonzero().flatten().to(x.device)
    part = MixPlan(partner, drawn.share[mixed], None if drawn.box is None else drawn.box[mixed])
    return made.index_copy(0, which, mix(made.index_select(0, which), other, part))


def _fetch(inputs: Tensor | FetchInputs, index: Tensor) -> Tensor:
    if not isinstance(inputs, Tensor):
        return inputs(index)
    if len(index) and not 0 <= int(index[0]) <= int(index[-1]) < len(inputs):
        wrong = int(index[0]) if int(index[0]) < 0 else int(index[-1])
        raise PotstillError(f"items are numbered 0…{len(inputs) - 1}, but item {wrong} was requested; check the index")
    return inputs.index_select(0, index.to(inputs.device))
