"""Views whose crops, flips and mixes were drawn by another program and are stored.

Bytes per view: 9 for box and flip; with CutMix 12 more (partner, box), with MixUp 8 more (partner, share). Recomputed
views (`potstill.augment.view_schedule`) take none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from potstill.augment.integer_ops import CropPlan, FetchInputs, MixPlan, render_views
from potstill.errors import PotstillError, unknown_name

__all__ = ["ImportedViews"]

_MIXES = ("none", "cutmix", "mixup")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedViews:
    """Settings shared by all imported views.

    Attributes:
        picture: (height, width) of the source images.
        size: (height, width) of the views.
        mix: "none", "cutmix" or "mixup".

    Raises:
        PotstillError: an unknown mix, or sides beyond 16 bits.
    """

    picture: tuple[int, int]
    size: tuple[int, int]
    mix: str = "cutmix"

    def __post_init__(self) -> None:
        if self.mix not in _MIXES:
            raise unknown_name("mix", self.mix, _MIXES)
        if not all(1 <= side < 2**15 for side in (*self.picture, *self.size)):
            raise PotstillError(
                f"sides must be 1…32767 pixels, but they are {self.picture} and {self.size}; change them"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {"picture": list(self.picture), "size": list(self.size), "mix": self.mix}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> "ImportedViews":
        """Read the settings of `to_json`.

        Raises:
            PotstillError: a setting is missing, unknown or of the wrong kind.
        """
        sides = [settings.get(name) for name in ("picture", "size")]
        if settings.keys() != {"picture", "size", "mix"} or not all(
            isinstance(pair, list) and len(pair) == 2 and all(type(side) is int for side in pair) for pair in sides
        ):
            raise PotstillError(
                f"recorded views need a picture, a size and a mix, not {settings!r:.120}; get the file again"
            )
        return cls(picture=tuple(settings["picture"]), size=tuple(settings["size"]), mix=settings["mix"])

    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return each field's dtype (safetensors' name) and shape per view.

        ``box``: top, left, height, width in the image; ``flip``; ``partner``: an item; ``mixed``: top, bottom, left,
        right in the view (ends excluded); ``share``: weight of the item's own view.
        """
        fields: dict[str, tuple[str, tuple[int, ...]]] = {"box": ("I16", (4,)), "flip": ("U8", ())}
        if self.mix != "none":
            fields["partner"] = ("I32", ())
            fields |= {"mixed": ("I16", (4,))} if self.mix == "cutmix" else {"share": ("F32", ())}
        return fields

    def view(
        self, inputs: Tensor | FetchInputs, stored: Mapping[str, NDArray[Any]], index: Int[Tensor, " m"], items: int
    ) -> Tensor:
        """Return the views of the items at ``index``.

        Args:
            inputs: all images (n, c, h, w), floats, or a function from indices to images.
            stored: fields of all items in one epoch.
            index: int64, in any order and number.
            items: n.

        Raises:
            PotstillError: images have another size, or stored values are invalid (damaged file).
        """
        index = index.cpu().long()
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < items:
            raise PotstillError(f"items are numbered 0…{items - 1}, but one of {index.tolist()!r:.60} is not; check it")

        def cuts(i: Tensor, shape: tuple[int, int]) -> CropPlan:
            if shape != self.picture:
                raise PotstillError(
                    f"these views are of pictures of {self.picture} pixels, but these have {shape}; give those labelled"
                )
            top, left, tall, wide = (box := _field_at(stored, "box", i)).unbind(1)
            good = (top >= 0) & (left >= 0) & (tall >= 1) & (wide >= 1)
            _require(good & (top + tall <= shape[0]) & (left + wide <= shape[1]), "crop lies outside its picture")
            return CropPlan(box, _field_at(stored, "flip", i) != 0)

        return render_views(inputs, index, cuts, lambda shape: self.mixes(stored, index, items, shape), self.size)

    def mixes(
        self, stored: Mapping[str, NDArray[Any]], index: Int[Tensor, " m"], items: int, shape: tuple[int, ...]
    ) -> MixPlan | None:
        """Return partners, shares and, for CutMix, boxes in views of ``shape`` (c, h, w); ``None`` without a mix.

        Raises:
            PotstillError: stored values are invalid (damaged file).
        """
        if self.mix == "none":
            return None
        partner = _field_at(stored, "partner", index)
        _require((partner >= 0) & (partner < items), "partner is no item of the set")
        if self.mix == "mixup":
            share = torch.from_numpy(stored["share"][index.numpy()].astype(np.float32))
            _require((share >= 0) & (share <= 1), "share is not in [0, 1]")
            return MixPlan(partner, share)
        top, bottom, left, right = (box := _field_at(stored, "mixed", index)).unbind(1)
        good = (top >= 0) & (top <= bottom) & (bottom <= shape[1])
        _require(good & (left >= 0) & (left <= right) & (right <= shape[2]), "mix lies outside its view")
        return MixPlan(partner, 1.0 - (bottom - top) * (right - left) / (shape[1] * shape[2]), box)


def _field_at(stored: Mapping[str, NDArray[Any]], name: str, index: Tensor) -> Tensor:
    return torch.from_numpy(stored[name][index.numpy()].astype(np.int64))


def _require(good: Tensor, otherwise: str) -> None:
    if not bool(good.all()):
        raise PotstillError(f"a recorded {otherwise}; get the file again")
