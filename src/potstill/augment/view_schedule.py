"""View schedule: every item's crop, flip and mix in every epoch, recomputed from a seed and never stored.

A view is a function of (seed, epoch, item) by Philox4x32-10 (`potstill.functional.counter_rng`), independent of batch
size, order and workers. Words have the counter (item, epoch, attempt, purpose).

* **Crop**: torchvision's ``RandomResizedCrop``: up to ten attempts at an area, uniform in ``scale`` times the image's,
  and a log-uniform aspect ratio; the first that fits is rounded to whole pixels and placed uniformly; else the largest
  central box within the ratios. Sizes are computed in float64, so that maths libraries differ only within a few last
  bits of half a pixel.
* **Cells**: with ``patches`` p, the p × p cells are shuffled before the crop. **Shift**: with ``pad``, in place of a
  crop, a box of the image's size anywhere in the zero-padded image.
* **Partner**: a random permutation of all items per epoch; an item may be its own partner. The partner's view of that
  epoch is mixed in.
* **Share**: Beta(mix_beta, mix_beta) per item, in 65536ths. CutMix's box has ``1 − share`` of the view's area and its
  proportions, a uniform centre, and is clipped (arXiv:1905.04899).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from potstill.augment.crop import central_box
from potstill.augment.integer_ops import CropPlan, FetchInputs, MixPlan, render_views
from potstill.errors import PotstillError, unknown_name
from potstill.functional.counter_rng import Words, philox, random_below, random_permutation, uniform
from potstill.rng import derive_seed

__all__ = ["ViewSchedule"]

_ATTEMPTS = 10
_DRAWS = 48
"""Attempts of Jöhnk's rejection; each fails with probability 1/2 or less."""
_GRAIN = 65536
_CROP, _FLIP, _PARTNER, _SHARE, _PLACE, _CELLS, _SHIFT = range(7)
_MIXES = ("none", "cutmix", "mixup")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSchedule:
    """Settings of views.

    Attributes:
        seed: seed of all draws.
        scale: range of a crop's area as a fraction of the image's; ``None`` for no crop.
        ratio: range of a crop's width over height.
        flip: probability of a horizontal flip.
        mix: "none", "cutmix" or "mixup".
        mix_beta: above 0; 1 is a uniform share.
        mix_prob: probability that an item is mixed.
        size: (height, width) of views; ``None``: that of the images. Smaller views are not antialiased.
        patches: cells per side that are shuffled; 1 for none.
        pad: maximum shift in pixels, without crops.

    With ``scale=None``, ``flip=0``, no CutMix, patches or pad, inputs may have any shape (rows of a table).

    Raises:
        PotstillError: an unknown mix, or a value out of its range.
    """

    seed: int = 0
    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    mix: str = "cutmix"
    mix_beta: float = 1.0
    mix_prob: float = 1.0
    size: tuple[int, int] | None = None
    patches: int = 1
    pad: int = 0

    def __post_init__(self) -> None:
        if self.mix not in _MIXES:
            raise unknown_name("mix", self.mix, _MIXES)
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise PotstillError(f"scale needs 0 < least ≤ most ≤ 1, but it is {self.scale}; (0.08, 1) is usual")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise PotstillError(f"ratio needs 0 < least ≤ most, but it is {self.ratio}; (3/4, 4/3) is usual")
        if not 0 < self.mix_beta < math.inf:
            raise PotstillError(f"mix_beta must be above 0, but it is {self.mix_beta:g}; 1 is an even share")
        for name in ("flip", "mix_prob"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise PotstillError(f"{name} is a probability, in [0, 1], but it is {value:g}; change it")
        if self.size is not None and not (min(self.size) >= 1 and max(self.size) < 2**15):
            raise PotstillError(f"size is a height and a width of 1…32767 pixels, but it is {self.size}; change it")
        if self.patches < 1 or self.pad < 0:
            raise PotstillError(
                f"patches is at least 1 and pad at least 0, but they are {self.patches} and {self.pad}; change them"
            )
        if self.pad and self.scale is not None:
            raise PotstillError("a picture is either cropped or moved, but views have a scale and a pad; leave out one")
        if self.size is not None and self.scale is None:
            raise PotstillError(
                "a size of views needs crops, but scale is None; use scale=(1.0, 1.0) or leave out size"
            )

    @property
    def needs_images(self) -> bool:
        """True if views exist for images only."""
        return self.scale is not None or self.flip > 0 or self.mix == "cutmix" or self.patches > 1 or self.pad > 0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> "ViewSchedule":
        """Read the settings of `to_json`.

        Raises:
            PotstillError: a setting is missing, unknown or of the wrong kind.
        """
        known = {f.name for f in fields(cls)}
        if settings.keys() != known:
            raise PotstillError(f"views need the settings {', '.join(sorted(known))}; found {sorted(settings)!r:.200}")
        values: dict[str, Any] = {}
        for name, value in settings.items():
            pair = isinstance(value, list) and len(value) == 2 and name in ("scale", "ratio", "size")
            numbers = value if pair else [value]
            kinds = (int,) if name in ("size", "seed", "patches", "pad") else (str,) if name == "mix" else (int, float)
            empty = value is None and name in ("scale", "size")
            if not empty and (
                pair != (name in ("scale", "ratio", "size")) or any(type(v) not in kinds for v in numbers)
            ):
                raise PotstillError(f"the views' {name} is of the wrong kind: {value!r:.80}; get the file again")
            values[name] = tuple(value) if pair else value
        return cls(**values)

    def _words(self, epoch: int, items: Tensor, attempt: Any, purpose: int) -> tuple[Words, Words, Words, Words]:
        if not 0 <= epoch < 2**32:
            raise PotstillError(f"epochs are numbered from 0, but epoch {epoch} was requested; check the number")
        return philox(derive_seed(self.seed, "views"), items.numpy(), epoch, attempt, purpose)

    def crops(self, epoch: int, items: Int[Tensor, " m"], shape: tuple[int, int]) -> CropPlan:
        """Return the crops and flips of ``items`` (int64, on the CPU) for images of ``shape`` (height, width)."""
        h, w = shape
        flip = uniform(self._words(epoch, items, 0, _FLIP)[0]) < self.flip
        order = None
        if self.patches > 1:
            if min(h, w) < self.patches:
                raise PotstillError(f"a picture of {h}×{w} has no {self.patches}×{self.patches} cells; use fewer")
            cells = uniform(self._words(epoch, items, np.arange(self.patches**2)[:, None], _CELLS)[0])
            order = torch.from_numpy(cells.argsort(0, kind="stable").T.copy())
        if self.scale is None:
            box = np.broadcast_to(np.array([0, 0, h, w]), (len(items), 4)).copy()
            if self.pad:
                moved = self._words(epoch, items, 0, _SHIFT)
                box[:, 0], box[:, 1] = (random_below(word, 2 * self.pad + 1) for word in moved[:2])
            return CropPlan(torch.from_numpy(box), torch.from_numpy(flip), order, self.pad)
        drawn = self._words(epoch, items, np.arange(_ATTEMPTS)[:, None], _CROP)
        area = h * w * (self.scale[0] + (self.scale[1] - self.scale[0]) * uniform(drawn[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(low + (high - low) * uniform(drawn[1]))
        wide, tall = (np.rint(np.sqrt(a)).astype(np.int64) for a in (area * ratio, area / ratio))
        fits = (wide >= 1) & (wide <= w) & (tall >= 1) & (tall <= h)
        first, each = fits.argmax(0), np.arange(len(items))
        tall, wide, y, x = (a[first, each] for a in (tall, wide, drawn[2], drawn[3]))
        tall, wide = np.clip(tall, 1, h), np.clip(wide, 1, w)
        box = np.stack([random_below(y, h - tall + 1), random_below(x, w - wide + 1), tall, wide], 1)
        box[~fits.any(0)] = central_box(h, w, self.ratio)
        return CropPlan(torch.from_numpy(box), torch.from_numpy(flip), order)

    def mixes(self, epoch: int, index: Int[Tensor, " m"], items: int, shape: tuple[int, ...]) -> MixPlan | None:
        """Return partners, shares and, for CutMix, boxes in views of ``shape`` (c, h, w); ``None`` without a mix."""
        if self.mix == "none" or self.mix_prob == 0:
            return None
        words = self._words(epoch, index, 0, _PLACE)
        partner = torch.from_numpy(_partners(derive_seed(self.seed, "views"), items, epoch)[index.numpy()])
        whole = np.rint(_beta(self.mix_beta, lambda a: self._words(epoch, index, a, _SHARE)) * _GRAIN)
        share = np.where(uniform(words[0]) < self.mix_prob, whole / _GRAIN, 1.0)
        if self.mix == "mixup":
            return MixPlan(partner, torch.from_numpy(share.astype(np.float32)))
        side, (h, w) = np.sqrt(1.0 - share), shape[1:]
        edges: list[NDArray[np.int64]] = []
        for length, word in ((h, words[1]), (w, words[2])):
            half, centre = (length * side).astype(np.int64) // 2, random_below(word, length)
            edges += [np.maximum(centre - half, 0), np.minimum(centre + half, length)]
        left_over = 1.0 - (edges[1] - edges[0]) * (edges[3] - edges[2]) / (h * w)
        return MixPlan(
            partner, torch.from_numpy(left_over.astype(np.float32)), torch.from_numpy(np.stack(edges, 1))
        )  # fmt: skip

    def view(
        self, inputs: Tensor | FetchInputs, epoch: int, index: Int[Tensor, " m"], items: int | None = None
    ) -> Tensor:
        """Return the views of the items at ``index`` in ``epoch``, bit for bit the same in any batch.

        Args:
            inputs: all items (n, …), floats, or a function from indices to items.
            epoch: from 0.
            index: int64, in any order and number.
            items: n, where ``inputs`` is a function.

        Returns:
            (m, …) on the inputs' device; images have ``size``.

        Raises:
            PotstillError: an item does not exist, or the settings do not suit the inputs.
        """
        n = len(inputs) if isinstance(inputs, Tensor) else items
        if n is None:
            raise PotstillError("views of fetched inputs need the number of items, but none was given; give items=n")
        index = index.cpu().long()
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n:
            wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
            raise PotstillError(f"items are numbered 0…{n - 1}, but item {wrong} was requested; check the index")
        return render_views(
            inputs, index,
            (lambda i, shape: self.crops(epoch, i, shape)) if self.needs_images else None,
            lambda shape: self.mixes(epoch, index, n, shape),
            self.size,
        )  # fmt: skip


@lru_cache(maxsize=4)
def _partners(key: int, items: int, epoch: int) -> NDArray[np.int64]:
    """Return the permutation of an epoch, cached for its batches."""
    return random_permutation(key, items, epoch, 0, _PARTNER)


def _beta(alpha: float, draw: Any) -> NDArray[np.float64]:
    """Draw Beta(alpha, alpha) by the methods of `potstill.augment.mix.beta`.

    Args:
        draw: function from attempts, which broadcast with the items, to words.
    """
    if alpha == 1:
        return uniform(draw(0)[0])
    if alpha > 1:
        u, v = (uniform(w) for w in draw(0)[:2])
        ulrich: NDArray[np.float64] = 0.5 * (
            1.0 + np.cos(2 * math.pi * v) * np.sqrt(1.0 - u ** (2.0 / (2.0 * alpha - 1.0)))
        )
        return ulrich
    words = draw(np.arange(_DRAWS)[:, None])
    a, b = (np.log(uniform(w)) / alpha for w in words[:2])
    total = np.logaddexp(a, b)
    first, each = (total <= 0).argmax(0), np.arange(a.shape[1])
    share: NDArray[np.float64] = np.exp((a - total)[first, each])
    return share
