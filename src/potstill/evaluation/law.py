r"""The data–knowledge law: a student's error as powers of the data it gets and of what its teacher knew.

A Label is Worth a Thousand Images in Dataset Distillation (Qin et al., NeurIPS 2024, arXiv:2406.10485) measures the
plane of data (items per class) and knowledge (the teacher's stopping epoch). The form of the law here is ours: the
least one that has data scaling as a power law and a best stopping epoch that moves with the budget, which that paper
found,

.. math::
    \ln e_\mathrm{hard}(n) &= a - b \ln n \\
    \ln e_\mathrm{soft}(n, s) &= c_0 + c_1 \ln n + c_2 \ln s + c_3 \ln^2 s + c_4 \ln n \ln s

with the error e, n items per class and a teacher of s epochs. It is linear in its coefficients, so least squares have
one answer, and the coefficients of all sets are the means of those of each set. Of two stops c₃ is left out, and of one
all but c₀ and c₁.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from torch import Generator

from potstill.errors import PotstillError

__all__ = ["Interval", "Law", "Measured", "fit", "misfit", "worth"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Errors in (0, 1) of students: every set at every budget, with classes and with the labels of every stop."""

    ipc: tuple[int, ...]
    """Budgets (B), at least two different ones."""
    stops: tuple[int, ...]
    """Epochs of the teacher (S), each at least 1, different from one another."""
    hard: Floats
    """(sets, B)."""
    soft: Floats
    """(sets, B, S)."""

    def __post_init__(self) -> None:
        if len(set(self.ipc)) < 2 or len(set(self.ipc)) != len(self.ipc):
            raise PotstillError(f"a law in the data needs two or more different budgets, not {self.ipc}; add one")
        if not self.stops or len(set(self.stops)) != len(self.stops) or min(self.stops) < 1:
            raise PotstillError(f"stops must be different epochs from 1 on, not {self.stops}; change them")
        for name, found, shape in (
            ("hard", self.hard, (len(self.hard), len(self.ipc))),
            ("soft", self.soft, (len(self.hard), len(self.ipc), len(self.stops))),
        ):
            if found.shape != shape or not np.all((found > 0) & (found < 1)):
                raise PotstillError(f"{name} errors must be {shape} in (0, 1), but they are {found.shape}; check them")


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law's coefficients."""

    hard: tuple[float, float]
    """(a, −b)."""
    soft: tuple[float, ...]
    """(c₀, c₁, …), as many as there are."""
    stops: tuple[int, ...]
    """Those that were measured, ascending."""

    def hard_error(self, n: float) -> float:
        """Error with classes, of n items per class."""
        return math.exp(self.hard[0] + self.hard[1] * math.log(n))

    def soft_error(self, n: float, stop: float) -> float:
        """Error with the labels of a teacher of ``stop`` epochs, of n items per class."""
        intercept, slope = self.line(stop)
        return math.exp(intercept + slope * math.log(n))

    def line(self, stop: float) -> tuple[float, float]:
        """Intercept and slope of ln e in ln n, with the labels of a teacher of ``stop`` epochs."""
        at_one, at_e = (float(_soft_terms(n, stop, len(self.stops)) @ np.asarray(self.soft)) for n in (1.0, math.e))
        return at_one, at_e - at_one

    def best_stop(self, n: float) -> int:
        """Of the stops that were measured, the one with the least error; of equals the earliest."""
        return min(self.stops, key=lambda stop: self.soft_error(n, stop))

    def equal(self, n: float, stop: float) -> float | None:
        """How many items per class with classes have the error of n with that teacher's labels.

        ``None`` where more data do not help, or where it would be more than a float holds.
        """
        if self.hard[1] >= 0:
            return None
        exponent = (math.log(self.soft_error(n, stop)) - self.hard[0]) / self.hard[1]
        return math.exp(exponent) if abs(exponent) < 700 else None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its 95 % interval, ``None`` below two sets."""

    value: float
    ci95: tuple[float, float] | None


def fit(measured: Measured) -> Law:
    """The law by least squares on ln e."""
    hard, soft = (c.mean(0) for c in _of_sets(measured))
    return _law(hard, soft, measured.stops)


def worth(score: Measured, choice: Measured, n: int, rng: Generator, draws: int = 2000) -> tuple[int, Interval | None]:
    """What n soft-labelled items per class are worth in hard-labelled ones.

    The stop is the best one by the law of ``choice``, so that what is said of it by the law of ``score`` was not chosen
    by the same predictions. The interval is Student's t on ln N, with the standard error from a bootstrap over sets
    (times √(m/(m − 1)), which a bootstrap of few sets lacks), in which stop and laws are made anew.

    Args:
        score, choice: errors of the same students on two parts of the data that they have not seen.
        n: items per class.
        rng: draws the sets.
        draws: of the bootstrap.

    Returns:
        The stop, and the worth; ``None`` where by the law hard-labelled data do not help.
    """
    chosen = fit(choice).best_stop(n)
    found = fit(score).equal(n, chosen)
    if found is None:
        return chosen, None
    sets = len(score.hard)
    if sets < 2:
        return chosen, Interval(value=found, ci95=None)
    pick = torch.randint(sets, (draws, sets), generator=rng).numpy()
    terms = np.array([_soft_terms(n, s, len(score.stops)) for s in sorted(score.stops)]).T
    (hard, soft), (_, chooses) = ([part[pick].mean(1) for part in _of_sets(m)] for m in (score, choice))
    if not np.all(hard[:, 1] < 0):  # in some draws data do not help: nothing bounds the worth
        return chosen, Interval(value=found, ci95=None)
    best = (chooses @ terms).argmin(1)
    logs = ((soft @ terms)[np.arange(draws), best] - hard[:, 0]) / hard[:, 1]
    error = float(np.std(logs, ddof=1)) * math.sqrt(sets / (sets - 1))
    half = float(stats.t.ppf(0.975, sets - 1)) * error
    if half > 700:  # more than a float holds
        return chosen, Interval(value=found, ci95=None)
    return chosen, Interval(value=found, ci95=(found * math.exp(-half), found * math.exp(half)))


def misfit(measured: Measured, law: Law) -> float:
    """The root of the mean square of ln(error / law's error) over cells (means over sets): what the law leaves out."""
    hard = np.log(measured.hard).mean(0) - np.log([law.hard_error(n) for n in measured.ipc])
    said = np.log([[law.soft_error(n, s) for s in measured.stops] for n in measured.ipc])
    gaps = np.concatenate([hard, (np.log(measured.soft).mean(0) - said).ravel()])
    return float(np.sqrt(np.mean(gaps**2)))


def _law(hard: Floats, soft: Floats, stops: Sequence[int]) -> Law:
    return Law(
        hard=(float(hard[0]), float(hard[1])), soft=tuple(float(c) for c in soft), stops=tuple(sorted(stops))
    )  # fmt: skip


def _of_sets(measured: Measured) -> tuple[Floats, Floats]:
    """The coefficients of every set: (sets, 2) and (sets, p)."""
    plain = np.array([[1.0, math.log(n)] for n in measured.ipc])
    taught = np.array([_soft_terms(n, s, len(measured.stops)) for n in measured.ipc for s in measured.stops])
    sets = len(measured.hard)
    hard = np.linalg.lstsq(plain, np.log(measured.hard).T, rcond=None)[0].T
    soft = np.linalg.lstsq(taught, np.log(measured.soft).reshape(sets, -1).T, rcond=None)[0].T
    return hard, soft


def _soft_terms(n: float, stop: float, stops: int) -> Floats:
    data, knowledge = math.log(n), math.log(stop)
    terms = [1.0, data]
    if stops == 2:
        terms += [knowledge, data * knowledge]
    elif stops > 2:
        terms += [knowledge, knowledge**2, data * knowledge]
    return np.array(terms)
