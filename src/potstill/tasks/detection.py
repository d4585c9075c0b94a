"""Detection of objects: boxes with a class, found as points at their centres and scored by average precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from potstill.tasks.box_precision import average_precision
from potstill.tasks.geometry import Movement, move_boxes
from potstill.tasks.metric import Metric
from potstill.tasks.ragged import target_mask

__all__ = ["ObjectDetection", "count_boxes"]

_PRIOR = 2.2
"""Subtracted from the logits of centres: one in ten places is one where a network knows nothing."""
_ANSWERS = 100
"""Most answers of a picture."""
_BOX = 4
"""Outputs for a box: width, height and offset of the centre."""
_LEAST_LEFT = 0.25
"""Share of a moved box's area that must stay in the picture."""
_LEAST_SIDE = 1.0
"""Shortest side of a moved box, in pixels."""
_OVERLAPS = tuple(0.5 + 0.05 * i for i in range(10))


class _Centres(NamedTuple):
    """Boxes as a network's map has them."""

    heat: Float[Tensor, "n k cells"]
    """1 at centres of the class, and less around them."""
    cell: Int64[Tensor, "n most"]
    """Cell of each box's centre."""
    values: Float[Tensor, "n 4 most"]
    """Width and height in quarters of the picture's, and the centre's offset within its cell."""
    present: Float[Tensor, "n most"]
    """1 for boxes and 0 for padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDetection:
    r"""Detection. Targets are padded rows (n, most, 5): left, top, right, bottom in pixels, and the number of a class.

    Networks predict maps (n, k + 4, r, s) of any size: for each cell the logit of a centre of each class, and a box's
    width, height and offset, as in "Objects as Points" (Zhou et al., arXiv:1904.07850). Its loss is

    .. math::
        -\frac1N \sum_{cuv} \begin{cases}
            (1 - p_{cuv})^2 \log p_{cuv} & h_{cuv} = 1 \\
            (1 - h_{cuv})^4 \, p_{cuv}^2 \log (1 - p_{cuv}) & \text{else}
        \end{cases}
        \; + \; \frac1N \sum_{i} \lVert \hat b_i - b_i \rVert_1

    with N boxes, heat h of a Gaussian around each centre (deviations of a sixth of the box's sides), and b_i a box's
    sides, in quarters of the picture, and offset, in cells, both with weight 1. The paper has sides in pixels, with
    weight 0.1, and one deviation for both axes.
    """

    name: ClassVar[str] = "detection"
    unit: ClassVar[str] = "item"
    metric: ClassVar[Metric] = Metric(name="AP50", direction="higher", unit="fraction", high=1.0)
    network: ClassVar[str] = "centernet"
    ragged: ClassVar[bool] = True
    coarse: ClassVar[bool] = True
    unmovable: ClassVar[tuple[str, ...]] = ("shuffle",)
    labels: tuple[str, ...] = ()
    """Names of the boxes' classes (k), in the order of their numbers."""
    size: tuple[int, int] = (1, 1)
    """Height and width of the pictures, in pixels."""

    @property
    def outputs(self) -> int:
        return len(self.labels) + _BOX

    def loss(self, output: Float[Tensor, "n c r s"], y: Float[Tensor, "n most 5"], /) -> Float[Tensor, ""]:
        """Return the loss of heat and of boxes, per box of the batch; that of heat alone where there is no box."""
        k = len(self.labels)
        made = self._centres(y, (output.shape[2], output.shape[3]))
        z, heat = output[:, :k].flatten(2) - _PRIOR, made.heat.to(output)
        p = z.sigmoid()
        at_centres = (1 - p) ** 2 * F.logsigmoid(z)
        elsewhere = (1 - heat) ** 4 * p**2 * F.logsigmoid(-z)
        focal = torch.where(heat == 1, at_centres, elsewhere).sum()
        cells = made.cell[:, None].expand(-1, _BOX, -1)
        far = (output[:, k:].flatten(2).gather(2, cells) - made.values.to(output)).abs()
        present = made.present.to(output)
        return ((far * present[:, None]).sum() - focal) / present.sum().clamp_min(1)

    def predict(self, output: Float[Tensor, "n c r s"], /) -> Float[Tensor, "n answers 6"]:
        """Return the highest peaks of the heat as rows (left, top, right, bottom, class, score), the best first.

        A peak is no lower than its eight neighbours; rows that are none have score 0.
        """
        k, (r, s), (h, w) = len(self.labels), output.shape[2:], self.size
        p = (output[:, :k] - _PRIOR).sigmoid()
        peaks = p.where(p == F.max_pool2d(p, 3, 1, 1), 0.0).flatten(1)
        score, at = peaks.topk(min(_ANSWERS, peaks.shape[1]), dim=1)
        cell = at % (r * s)
        width, height, right, down = output[:, k:].flatten(2).gather(2, cell[:, None].expand(-1, _BOX, -1)).unbind(1)
        x = (cell % s + right) * (w / s)
        y = (cell // s + down) * (h / r)
        half_w, half_h = width.clamp_min(0) * (w / 8), height.clamp_min(0) * (h / 8)
        sides = ((x - half_w).clamp(0, w), (y - half_h).clamp(0, h), (x + half_w).clamp(0, w), (y + half_h).clamp(0, h))
        return torch.stack([*sides, (at // (r * s)).to(score), score], 2).float()

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return AP50: the mean over classes that have a box; 0 where there are no boxes."""
        return _mean(average_precision(answers, y, len(self.labels), (0.5,)))

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """AP, the mean over overlaps of 0.5 to 0.95, and the AP50 of each class."""
        return {"AP": _fraction("AP")} | {f"AP50 {label}": _fraction(f"AP50 of {label}") for label in self.labels}

    def further_scores(self, answers: Tensor, y: Tensor, groups: Tensor | None, /) -> Mapping[str, float]:
        """Return AP, and the AP50 of each class that has a box."""
        each = average_precision(answers, y, len(self.labels), _OVERLAPS)
        by_class = zip(self.labels, each[0].tolist(), strict=True)
        return {"AP": _mean(each)} | {f"AP50 {label}": value for label, value in by_class if value == value}  # no NaN

    def chance_score(self, y: Tensor, /) -> float:
        """Return the score of one box around each whole picture, of the class with most boxes."""
        counts = count_boxes(y, len(self.labels)).sum(0)
        h, w = self.size
        answer = torch.tensor([0.0, 0.0, w, h, float(counts.argmax()), 1.0])
        return self.score(answer.expand(len(y), 1, 6), y)

    def move_targets(self, y: Tensor, movement: Movement, /) -> Tensor:
        """Return the boxes as their pictures were moved, cut at the edge; a box that has mostly left is padding."""
        if movement.matrix is None:
            raise ValueError("boxes cannot be moved where patches change places")
        present = target_mask(y)
        boxes = y[..., :4].where(present[..., None], 0.0)
        moved = move_boxes(boxes, movement)
        sides, before = moved[..., 2:] - moved[..., :2], (boxes[..., 2:] - boxes[..., :2]).prod(2)
        scale = 1 / torch.linalg.det(movement.matrix.double()).abs().to(y.device).expand(len(y))
        stays = (sides.prod(2) >= _LEAST_LEFT * scale[:, None] * before) & (sides.amin(2) >= _LEAST_SIDE)
        rows = torch.cat([moved.to(y.dtype), y[..., 4:]], 2)
        return rows.where((present & stays)[..., None], torch.finfo(torch.float32).min)

    def check_targets(self, y: Tensor, /) -> None:
        """
        Raises:
            ValueError: these are no rows (n, most, 5), or some are no boxes of known classes within the pictures.
        """
        if y.ndim != 3 or y.shape[2] != _BOX + 1 or not y.is_floating_point():
            raise ValueError(f"boxes must be real rows (n, most, 5), not {y.dtype} of shape {list(y.shape)}")
        rows, (h, w) = y[target_mask(y)], self.size
        left, top, right, bottom, label = rows.unbind(1)
        inside = (left >= 0) & (top >= 0) & (right <= w) & (bottom <= h) & (left < right) & (top < bottom)
        known = (label >= 0) & (label < len(self.labels)) & (label == label.floor())
        if not bool((inside & known).all()):
            at = rows[~(inside & known)][0].tolist()
            raise ValueError(
                f"boxes must be left < right and top < bottom within {h} × {w} pixels, of the classes 0 … "
                f"{len(self.labels) - 1}, but one is {[round(value, 3) for value in at]}"
            )

    def _centres(self, y: Tensor, cells: tuple[int, int]) -> _Centres:
        (r, s), (h, w), k = cells, self.size, len(self.labels)
        present = target_mask(y)
        left, top, right, bottom, label = y.where(present[..., None], 0.0).unbind(2)
        width, height = (right - left) / w, (bottom - top) / h
        x, down = (left + right) / 2 * (s / w), (top + bottom) / 2 * (r / h)
        j, i = x.floor().clamp(0, s - 1), down.floor().clamp(0, r - 1)
        bump = _gauss(i, height * r, r)[..., None] * _gauss(j, width * s, s)[..., None, :]
        bump = (bump * present[..., None, None]).flatten(2)
        heat = torch.zeros_like(bump[:, :1]).expand(-1, k, -1).contiguous()
        if bump.shape[1]:
            heat = heat.scatter_reduce(1, label.long()[..., None].expand(-1, -1, r * s), bump, "amax")
        values = torch.stack([4 * width, 4 * height, x - j, down - i], 1)
        return _Centres(heat, (i * s + j).long(), values, present.to(y.dtype))


def count_boxes(y: Float[Tensor, "n most 5"], k: int) -> Float[Tensor, "n k"]:
    """Return the number of boxes of each class in each picture, in float64."""
    label = y[..., 4].where(target_mask(y), k).long()
    return F.one_hot(label, k + 1).sum(1)[:, :k].double()


def _gauss(centre: Tensor, side: Tensor, cells: int) -> Tensor:
    """Return Gaussians (n, most, cells) of 1 at the centres; deviations are a sixth of the sides, in cells."""
    steps = torch.arange(cells, device=centre.device, dtype=centre.dtype) - centre[..., None]
    return torch.exp(-(steps**2) / (2 * (side.clamp_min(1) / 6) ** 2)[..., None])


def _fraction(name: str) -> Metric:
    return Metric(name=name, direction="higher", unit="fraction", high=1.0)


def _mean(each: Tensor) -> float:
    """Return the mean over overlaps of the mean over classes with a box; 0 where there is none."""
    return float(each.nanmean()) if bool((~each.isnan()).any()) else 0.0
