"""Segmentation: a class for each pixel, trained by the cross-entropy of pixels and scored by mIoU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.geometry import Movement, move_maps
from potstill.tasks.metric import Metric

__all__ = ["IGNORED", "Segmentation", "pixel_confusion"]

IGNORED = 255
"""Value of pixels without a class, in masks and in their files: no loss and no score counts them."""
_CHUNK = 64
"""Masks counted at a time."""
_FRACTION = Metric(name="mIoU", direction="higher", unit="fraction", high=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Segmentation. Targets are masks (n, h, w) of class numbers, `IGNORED` for pixels without one; networks predict a
    logit of each class for each pixel (n, k, h, w)."""

    name: ClassVar[str] = "segmentation"
    unit: ClassVar[str] = "item"
    metric: ClassVar[Metric] = _FRACTION
    network: ClassVar[str] = "unet"
    labels: tuple[str, ...] = ()
    """Names of the pixels' classes (k), in the order of their numbers."""

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def loss(self, output: Float[Tensor, "n k h w"], y: Tensor, /) -> Float[Tensor, ""]:
        """Return the cross-entropy, the mean over all pixels that have a class; 0 where none has."""
        y = y.long()
        total = F.cross_entropy(output, y, ignore_index=IGNORED, reduction="sum")
        return total / (y != IGNORED).sum().clamp_min(1)

    def predict(self, output: Float[Tensor, "n k h w"], /) -> Tensor:
        """Return the most likely class of each pixel (n, h, w), uint8."""
        return output.argmax(1).to(torch.uint8)

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the mIoU of all pixels together: the mean over classes that are in a mask or in an answer.

        Raises:
            ValueError: a mask has a value that is neither a class's number nor `IGNORED`.
        """
        each = _overlaps(self._confusion(answers, y))
        return float(each[~each.isnan()].mean()) if bool((~each.isnan()).any()) else 1.0

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """Share of right pixels, and the IoU of each class."""
        names = {"pixel_accuracy": _fraction("pixel accuracy")}
        return names | {f"IoU {label}": _fraction(f"IoU of {label}") for label in self.labels}

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return the share of right pixels, and the IoU of each class that is in a mask or in an answer."""
        confusion = self._confusion(answers, y)
        found = {"pixel_accuracy": float(confusion.diagonal().sum() / confusion.sum().clamp_min(1))}
        each = zip(self.labels, _overlaps(confusion).tolist(), strict=True)
        return found | {f"IoU {label}": value for label, value in each if value == value}  # NaN: in neither

    def chance_score(self, y: Tensor, /) -> float:
        """Return the score of the largest class everywhere."""
        counts = self._confusion(torch.zeros_like(y), y).sum(1)
        return self.score(torch.full_like(y, int(counts.argmax())), y)

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        """Return the masks as their pictures were moved; what comes from outside of a picture is `IGNORED`."""
        return move_maps(y.long(), movement, fill=IGNORED).to(y.dtype)

    def pack_targets(self, y: Tensor, /) -> Tensor:
        """Return masks as a file has them, (n, 1, h, w) in 0 … k, where k is what `IGNORED` is in memory."""
        return torch.where(y == IGNORED, self.outputs, y.long())[:, None]

    def unpack_targets(self, stored: Tensor, /) -> Tensor:
        """Return what `pack_targets` was given.

        Raises:
            ValueError: these are no masks.
        """
        if stored.ndim != 4 or stored.shape[1] != 1 or stored.is_floating_point():
            raise ValueError(f"masks must be whole numbers (n, 1, h, w), not {list(stored.shape)}")
        if int(stored.min()) < 0 or int(stored.max()) > self.outputs:
            raise ValueError(f"masks must hold 0 … {self.outputs}")
        return torch.where(stored == self.outputs, IGNORED, stored)[:, 0].contiguous()

    def _confusion(self, answers: Tensor, y: Tensor) -> Tensor:
        if y.ndim != 3 or answers.shape != y.shape:
            raise ValueError(f"masks (n, h, w) and answers must have one shape, not {y.shape} and {answers.shape}")
        return pixel_confusion(answers, y, self.outputs)


def _fraction(name: str) -> Metric:
    return Metric(name=name, direction="higher", unit="fraction", high=1.0)


def pixel_confusion(answers: Tensor, y: Tensor, k: int) -> Float[Tensor, "k k"]:
    """Return how many pixels of each true class (rows) were answered as each class (columns), in float64.

    Raises:
        ValueError: a mask has a value that is neither below ``k`` nor `IGNORED`, or an answer is no class.
    """
    found = torch.zeros(k * k, dtype=torch.float64)
    for answer, truth in zip(torch.split(answers, _CHUNK), torch.split(y, _CHUNK), strict=True):
        counted = truth != IGNORED
        row, column = truth[counted].long(), answer[counted].long()
        both = torch.stack([row, column]) if row.numel() else torch.zeros(2, 1, dtype=torch.int64)
        if int(both.min()) < 0 or int(both.max()) >= k:
            raise ValueError(f"masks must hold numbers of {k} classes, 0 … {k - 1}, or {IGNORED}")
        found += torch.bincount(k * row + column, minlength=k * k).double().cpu()
    return found.reshape(k, k)


def _overlaps(confusion: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """Return the IoU of each class; NaN where no pixel is of it or was answered so."""
    hits = confusion.diagonal()
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)
