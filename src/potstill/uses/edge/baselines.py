"""Data that a device could train on instead of the set: real samples of the same bytes, and all real data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.evaluation.byte_matched_baselines import BaselineContext, baseline_order, take
from potstill.evaluation.real_sets import RealSetSearch, space_of
from potstill.exporters.integers import IntegerSet, pack_integers

__all__ = ["Training", "TrainingData", "all_data", "coded_samples", "integer_samples", "set_data"]

SELECTIONS = ("random", "k-means")
"""Selections of real samples in the integers of the set."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Inputs in model space and rows of labels, as a learner gets them."""

    x: Float32[np.ndarray, "n values"]
    y: Float32[np.ndarray, "n k"]
    bytes: int
    weights: Float32[np.ndarray, " n"] | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """A way to train: data for the choices and the target, and data for the test accuracy."""

    fit: Callable[[int], TrainingData]
    """Data of a draw, without the held-out samples."""
    every: Callable[[int], TrainingData] | None = None
    """The same of all training data; ``None``: it is the same."""
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fit", cache(self.fit))  # each rate is tried with the same draws


def set_data(integers: IntegerSet) -> TrainingData:
    """Return a set of integers as the device reads it."""
    return TrainingData(
        x=integers.decoded_inputs(), y=integers.decoded_labels(), bytes=integers.bytes, weights=integers.weights
    )


def _rows(y: Tensor, classes: int) -> Float32[np.ndarray, "n k"]:
    if not y.is_floating_point():
        y = torch.nn.functional.one_hot(y.cpu().long(), classes)
    return np.asarray(y.cpu().float().numpy())


def all_data(source: Source) -> TrainingData:
    """Return all samples; their bytes are those of 8-bit values with labels."""
    x = single_tensor(source.fetch(torch.arange(len(source))).x, "a head").flatten(1).cpu().float().numpy()
    return TrainingData(x=x, y=_rows(source.labels, len(source.classes)), bytes=len(x) * (x.shape[1] + 1))


def count_integer_samples(integers: IntegerSet, bits: int, byte_budget: int) -> int:
    """Return the samples of each class that fit in the same integers, with class numbers as labels."""
    classes = len(integers.classes)
    label = 1 if classes <= 256 else 2
    free = byte_budget - integers.scale.nbytes - integers.zero.nbytes
    n = max(0, 8 * free // (classes * integers.values * bits))
    while n > 0 and -(-n * classes * integers.values * bits // 8) + n * classes * label > free:
        n -= 1
    return n


def integer_samples(
    where: BaselineContext, fit: Source, integers: IntegerSet, selection: str, bits: int
) -> Training | None:
    """Return real samples of a selection, in integers as those of the set; ``None``: not one of each class fits."""
    n = count_integer_samples(integers, bits, where.byte_budget)
    if n < 1:
        return None

    def draw_from(source: Source, draw: int) -> TrainingData:
        order = baseline_order(source, selection, where.seed, f"edge {draw}", n)
        batch = source.fetch(take(order, n))
        x = single_tensor(batch.x, "a head")
        assert isinstance(batch.y, Tensor)
        return set_data(pack_integers(x, batch.y, source.normalization, source.classes, bits))

    return Training(
        fit=lambda draw: draw_from(fit, draw), every=lambda draw: draw_from(where.train, draw),
        detail={"selection": selection, "codec": f"{bits}-bit integers"},
    )  # fmt: skip


def coded_samples(where: BaselineContext, draws: int) -> Training:
    """Return real samples in the way (codec, selection, labels) that teaches most on held-out training data.

    Raises:
        PotstillError: not one of each class fits in any codec.
    """
    labels = ("hard",) if where.quick else ("hard", "soft", "top3")
    search = RealSetSearch(where=where, space=space_of(where, labels=labels)).run()
    trial = search.chosen()
    made = search.make(trial, draws)
    fit, _ = where.parts()
    part = RealSetSearch(where=replace(where, train=fit), space=search.space)

    def data(training_set: Any, draw: int) -> TrainingData:
        x, y = training_set.pair_for(draw)
        values = single_tensor(x, "a head").flatten(1).cpu().float().numpy()
        return TrainingData(x=values, y=_rows(y, len(where.train.classes)), bytes=training_set.bytes)

    inner = part.make(trial, draws)
    return Training(
        fit=lambda draw: data(inner, draw), every=lambda draw: data(made, draw), detail=dict(made.way),
    )  # fmt: skip
