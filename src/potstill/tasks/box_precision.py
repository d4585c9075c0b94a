"""Average precision of detected boxes by COCO's definition: greedy matches, 101 recalls."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from potstill.tasks.ragged import target_mask

__all__ = ["average_precision", "box_overlaps"]

_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100
"""Most answers of a class that count in one picture."""

_Array = npt.NDArray[np.float64]


def box_overlaps(a: Float[Tensor, "p 4"], b: Float[Tensor, "q 4"]) -> Float[Tensor, "p q"]:
    """Return intersection over union of boxes (left, top, right, bottom), in float64; 0 for two without area."""
    return torch.from_numpy(_overlaps(a.double().cpu().numpy(), b.double().cpu().numpy()))


def _overlaps(a: _Array, b: _Array) -> _Array:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1) for boxes in (a, b)]
    either = areas[0][:, None] + areas[1][None] - both
    shared: _Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shared


def average_precision(
    answers: Float[Tensor, "n most_answers 6"], y: Float[Tensor, "n most 5"], k: int, overlaps: Sequence[float]
) -> Float[Tensor, "t k"]:
    """Return the average precision of each class at each least overlap, in float64; NaN: no box is of the class.

    Within a picture and a class, answers are matched in the order of their scores, each to the free box that it
    overlaps most. Precision is made to fall with recall and averaged over the recalls 0, 0.01 … 1, as pycocotools does.

    Args:
        answers: rows (left, top, right, bottom, class, score); those with a score of 0 or less are none.
        y: boxes (left, top, right, bottom, class), padded.
        k: number of classes.
        overlaps: least intersections over union of a match.
    """
    present, least = target_mask(y).cpu().numpy(), np.minimum(np.asarray(overlaps), 1 - 1e-10)
    rows, boxes = answers.double().cpu().numpy(), y.double().cpu().numpy()
    totals = np.bincount(boxes[present][:, 4].astype(np.int64), minlength=k)
    classes, scores, hits = [], [], []
    for some, padded, mask in zip(rows, boxes, present, strict=True):
        ranked = _ranked(some[some[:, 5] > 0])
        classes.append(ranked[:, 4].astype(np.int64))
        scores.append(ranked[:, 5])
        hits.append(_matches(ranked, padded[mask], least))
    label, score, hit = np.concatenate(classes), np.concatenate(scores), np.concatenate(hits, 1)
    each = np.full((len(least), k), np.nan)
    for c in np.flatnonzero(totals):
        of_class = np.flatnonzero(label == c)
        order = of_class[np.argsort(-score[of_class], kind="stable")]
        each[:, c] = [_area(row, int(totals[c])) for row in hit[:, order]]
    return torch.from_numpy(each)


def _ranked(answers: _Array) -> _Array:
    """Return a picture's answers with the highest score first, at most `_MOST` of each class."""
    ranked = answers[np.argsort(-answers[:, 5], kind="stable")]
    if len(ranked) <= _MOST:
        return ranked
    rank = np.zeros(len(ranked), np.int64)
    for c in np.unique(ranked[:, 4]):
        of_class = ranked[:, 4] == c
        rank[of_class] = np.arange(int(of_class.sum()))
    return ranked[rank < _MOST]


def _matches(answers: _Array, real: _Array, least: _Array) -> npt.NDArray[np.bool_]:
    """Return the answers that match a box (t, answers), at each least overlap."""
    hit = np.zeros((len(least), len(answers)), np.bool_)
    if not len(answers) or not len(real):
        return hit
    shared = np.where(answers[:, None, 4] == real[None, :, 4], _overlaps(answers[:, :4], real[:, :4]), -1.0)
    free, at = np.ones((len(least), len(real)), np.bool_), np.arange(len(least))
    for i in np.flatnonzero(shared.max(1) >= least.min()):
        open_to = np.where(free & (shared[i] >= least[:, None]), shared[i], -1.0)
        best = len(real) - 1 - open_to[:, ::-1].argmax(1)  # of equal overlaps the last, as pycocotools
        hit[:, i] = open_to[at, best] >= 0
        free[at[hit[:, i]], best[hit[:, i]]] = False
    return hit


def _area(hit: npt.NDArray[np.bool_], total: int) -> float:
    """Return the mean precision over `_RECALLS` of answers in the order of their scores."""
    if not len(hit):
        return 0.0
    right = hit.cumsum()
    precision = np.maximum.accumulate((right / np.arange(1, len(hit) + 1))[::-1])[::-1]
    places = np.searchsorted(right / total, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())
