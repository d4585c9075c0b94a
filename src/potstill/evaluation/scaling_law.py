r"""The data–knowledge law: a student's error as a sum of what its teacher does not know and what its data do not show.

A Label is Worth a Thousand Images in Dataset Distillation (Qin et al., NeurIPS 2024, arXiv:2406.10485) measures the
plane of data (items per class, n) and knowledge (the teacher's stopping epoch, s). The form of the law here is ours:

.. math::
    e_\mathrm{hard}(n) &= f + A n^{-b} \\
    e_\mathrm{soft}(n, s) &= \kappa e_T(s) + A' s^{g} n^{-b' - h \ln s}

with the teacher's own error :math:`e_T(s)`, which is measured. Early teachers know less, and a student of much data
ends where its teacher does; they are easier to learn from few. So the best stop comes later the more data there are, as
the paper found. Of one stop g and h are left out. Fitted by least squares on ln e.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Generator

from potstill.errors import PotstillError

__all__ = ["LabelWorth", "Law", "MeasuredErrors", "fit_law", "label_worth", "log_rmse"]

Floats = NDArray[np.float64]
MIN_BUDGETS = 4
"""Minimum number of budgets that identify a floor and a power."""
MIN_LOG_FLOOR, MAX_LOG_FLOOR = -15.0, 5.0
"""Bounds of log(floor); smaller floors cannot be identified."""


@dataclass(frozen=True, kw_only=True)
class MeasuredErrors:
    """Students' errors in (0, 1): every set at every budget, with hard labels and with the soft labels of every
    stop."""

    ipc: tuple[int, ...]
    """Items per class (B), ascending, four or more."""
    stops: tuple[int, ...]
    """Epochs of the teacher (S), ascending, each at least 1."""
    hard: Floats
    """(sets, B)."""
    soft: Floats
    """(sets, B, S)."""
    teacher: Floats
    """The teacher's own errors (S)."""

    def __post_init__(self) -> None:
        for name, values, least in (("budgets", self.ipc, MIN_BUDGETS), ("stops", self.stops, 1)):
            if len(values) < least or list(values) != sorted(set(values)) or values[0] < 1:
                raise PotstillError(
                    f"the law needs {least} or more different {name} from 1 on, ascending, not {values}; change them"
                )
        sets, b, s = len(self.hard), len(self.ipc), len(self.stops)
        for name, found, shape in (
            ("hard", self.hard, (sets, b)), ("soft", self.soft, (sets, b, s)), ("teacher", self.teacher, (s,))
        ):  # fmt: skip
            if found.shape != shape or not np.all((found > 0) & (found < 1)):
                raise PotstillError(f"{name} errors must be {shape} in (0, 1), but they are {found.shape}; check them")


@dataclass(frozen=True, kw_only=True)
class Law:
    """Coefficients of one fit or of several; every array has one row per fit."""

    stops: tuple[int, ...]
    teacher: Floats
    """Errors of the teacher at its stops."""
    hard: Floats
    """(fits, 3): ln f, ln A, b."""
    soft: Floats
    """(fits, 3 or 5): ln κ, ln A', b', g, h."""

    def hard_error(self, n: Floats | float) -> Floats:
        """Return ln e with hard labels of n items per class: (fits, amounts)."""
        return _log_error(self.hard, *_hard_terms(_amounts(n)))

    def soft_error(self, n: Floats | float) -> Floats:
        """Return ln e with the soft labels of every stop: (fits, amounts, stops)."""
        amounts = _amounts(n)
        found = _log_error(self.soft, *_soft_terms(amounts, self.stops, self.teacher))
        return found.reshape(len(self.soft), len(amounts), len(self.stops))

    def best_stop(self, n: float) -> NDArray[np.int64]:
        """Return the index of the measured stop with the least error, for each fit."""
        return np.asarray(self.soft_error(n)[:, 0].argmin(1))


@dataclass(frozen=True, kw_only=True)
class LabelWorth:
    """Number of hard-labelled items per class with the error of some soft-labelled ones, between measured budgets.

    ``None`` at either end of the interval is beyond the budgets. ``side`` says where the value lies: ``inside``, or
    ``more`` than the largest budget, ``fewer`` than the smallest, ``unknown`` if by the law data do not help.
    """

    stop: int
    value: float | None
    low: float | None
    high: float | None
    side: str
    known: bool
    """True if there is an interval: with two sets and more."""


def fit_law(measured: MeasuredErrors) -> Law:
    """Fit the law to the means of all sets."""
    return _fit(measured, np.arange(len(measured.hard))[None])


def label_worth(
    score: MeasuredErrors, choice: MeasuredErrors, budgets: Sequence[int], rng: Generator, draws: int = 500
) -> list[LabelWorth]:
    """Return the worth of soft-labelled items of each of the ``budgets`` (per class) in hard-labelled ones.

    The stop is the best one by the law of ``choice``, so that the law of ``score`` is not evaluated on the predictions
    that selected it. N is in the interval where the errors of N hard-labelled and of n soft-labelled items do not
    differ by Student's t on their logarithms, with the standard error from a bootstrap over sets (times √(m/(m − 1)),
    which a bootstrap of few sets lacks) that refits stop and laws: it may be open.

    Args:
        score, choice: errors of the same students on two disjoint parts of unseen data.
        budgets: items per class.
        rng: draws the sets.
        draws: of the bootstrap.
    """
    sets = len(score.hard)
    laws = fit_law(score), fit_law(choice)
    again = laws
    if sets > 1:
        pick = torch.randint(sets, (draws, sets), generator=rng).numpy()
        again = _fit(score, pick, laws[0]), _fit(choice, pick, laws[1])
    return [_worth(n, sets, score.ipc, laws, again) for n in budgets]


def _worth(n: int, sets: int, ipc: tuple[int, ...], laws: tuple[Law, Law], again: tuple[Law, Law]) -> LabelWorth:
    score, choice = laws
    amounts, place = np.geomspace(ipc[0], ipc[-1], 400), int(choice.best_stop(n)[0])
    stop = score.stops[place]
    gap = score.hard_error(amounts)[0] - score.soft_error(n)[0, 0, place]  # falls: from worse than soft to better
    if score.hard[0, 2] <= 0:
        return LabelWorth(stop=stop, value=None, low=None, high=None, side="unknown", known=False)
    side = "more" if gap[-1] > 0 else "fewer" if gap[0] < 0 else "inside"
    value = float(np.exp(np.interp(0.0, -gap, np.log(amounts)))) if side == "inside" else None
    if sets < 2:
        return LabelWorth(stop=stop, value=value, low=None, high=None, side=side, known=False)
    fits = np.arange(len(again[0].hard))
    soft = again[0].soft_error(n)[fits, 0, again[1].best_stop(n)]
    gaps = again[0].hard_error(amounts) - soft[:, None]
    error = gaps.std(0, ddof=1) * math.sqrt(sets / (sets - 1))
    inside = np.flatnonzero(np.abs(gap) <= float(stdtrit(sets - 1, 0.975)) * error)
    ends: tuple[float | None, float | None] = (value, value)  # an interval narrower than the grid
    if len(inside):
        first, last = int(inside[0]), int(inside[-1])
        ends = float(amounts[first]) if first else None, float(amounts[last]) if last < len(amounts) - 1 else None
    elif side != "inside":
        ends = (float(ipc[-1]), None) if side == "more" else (None, float(ipc[0]))
    return LabelWorth(stop=stop, value=value, low=ends[0], high=ends[1], side=side, known=True)


def log_rmse(measured: MeasuredErrors, law: Law) -> float:
    """Return the root mean square of ln(error / law's error) over cells (means over sets)."""
    amounts = np.array(measured.ipc, dtype=np.float64)
    hard = np.log(measured.hard).mean(0) - law.hard_error(amounts)[0]
    soft = np.log(measured.soft).mean(0) - law.soft_error(amounts)[0]
    return float(np.sqrt(np.mean(np.concatenate([hard, soft.ravel()]) ** 2)))


def _amounts(n: Floats | float) -> Floats:
    return np.atleast_1d(np.asarray(n, dtype=np.float64))


def _hard_terms(amounts: Floats) -> tuple[Floats, Floats]:
    """Return the offset of ln floor and the regressors of the other coefficients: (cells), (cells, 2)."""
    x = np.log(amounts)
    return np.zeros_like(x), np.stack([np.ones_like(x), -x], 1)


def _soft_terms(amounts: Floats, stops: Sequence[int], teacher: Floats) -> tuple[Floats, Floats]:
    x, z = np.meshgrid(np.log(amounts), np.log(np.array(stops, dtype=np.float64)), indexing="ij")
    terms = [np.ones_like(x), -x] + ([z, -x * z] if len(stops) > 1 else [])
    return np.tile(np.log(teacher), len(amounts)), np.stack([term.ravel() for term in terms], 1)


def _log_error(p: Floats, floor: Floats, terms: Floats) -> Floats:
    """Return ln(exp(p₀ + floor) + exp(terms · p₁…)): (fits, cells)."""
    return np.asarray(np.logaddexp(p[:, :1] + floor, p[:, 1:] @ terms.T))


def _fit(measured: MeasuredErrors, pick: NDArray[np.int64], near: Law | None = None) -> Law:
    """Fit one law for each row of ``pick``, to the means of the sets that it names, starting from ``near``."""
    amounts = np.array(measured.ipc, dtype=np.float64)
    hard = np.log(measured.hard)[pick].mean(1)
    soft = np.log(measured.soft)[pick].mean(1).reshape(len(pick), -1)
    return Law(
        stops=measured.stops, teacher=measured.teacher,
        hard=_least_squares(hard, *_hard_terms(amounts), None if near is None else near.hard),
        soft=_least_squares(
            soft, *_soft_terms(amounts, measured.stops, measured.teacher), None if near is None else near.soft
        ),
    )  # fmt: skip


def _least_squares(y: Floats, floor: Floats, terms: Floats, near: Floats | None) -> Floats:
    """Fit all rows of ``y`` (fits, cells) at once by Levenberg–Marquardt, from several starts."""
    if near is not None:
        return _descend(y, floor, terms, np.repeat(near, len(y), 0), most=60)[0]
    found = [_descend(y, floor, terms, _start(y, floor, terms, part)) for part in (0.9, 0.5, 0.05)]
    costs = np.stack([cost for _, cost in found])
    return np.asarray(np.stack([p for p, _ in found])[costs.argmin(0), np.arange(len(y))])


def _start(y: Floats, floor: Floats, terms: Floats, part: float) -> Floats:
    """Start with a floor of this part of the largest that leaves every error above it, and the power of the rest."""
    low = np.log(part) + (y - floor).min(1, keepdims=True)
    left = np.log(np.exp(y) - np.exp(low + floor) + 1e-6 * np.exp(y))
    rest = np.linalg.lstsq(terms, left.T, rcond=None)[0].T
    return np.concatenate([low, rest], 1)


def _descend(y: Floats, floor: Floats, terms: Floats, p: Floats, most: int = 300) -> tuple[Floats, Floats]:
    damping = np.full(len(y), 1e-2)
    gap = y - _log_error(p, floor, terms)
    cost = (gap**2).sum(1)
    for _ in range(most):
        share = np.exp(p[:, :1] + floor - (y - gap))  # of the floor in the error
        slopes = np.concatenate([share[..., None], (1 - share)[..., None] * terms], 2)
        normal = slopes.transpose(0, 2, 1) @ slopes
        diagonal = np.einsum("rii->ri", normal) + 1e-9
        damped = normal + (damping[:, None] * diagonal)[..., None] * np.eye(p.shape[1])
        move = np.linalg.solve(damped, (slopes * gap[..., None]).sum(1)[..., None])[..., 0]
        tried = p + np.clip(move, -1, 1)
        tried[:, 0] = np.clip(tried[:, 0], MIN_LOG_FLOOR, MAX_LOG_FLOOR)
        there = y - _log_error(tried, floor, terms)
        after = (there**2).sum(1)
        better = after < cost
        rests = (better & (cost - after <= 1e-13 * cost)) | (damping > 1e9)
        p, gap = np.where(better[:, None], tried, p), np.where(better[:, None], there, gap)
        cost = np.where(better, after, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e12)
        if rests.all():
            break
    return p, cost
