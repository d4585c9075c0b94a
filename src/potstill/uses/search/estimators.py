"""Search among scikit-learn estimators on a table: successive halving of samples, or a small set beside baselines."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.data import SourceView
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import baseline_order, take
from potstill.rng import derive_seed
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.search.halving import ETA, LAST
from potstill.uses.search.proxy import rows_of
from potstill.uses.search.ranking import kendall_tau, regret
from potstill.uses.search.split import split_training

__all__ = ["search_estimators"]

LEAST_SAMPLES = 50
"""Samples of the first round of halving, at least."""


def search_estimators(
    data: Any,
    estimator: Any,
    grid: Mapping[str, Sequence[Any]],
    *,
    small: Distilled | str | Path | None = None,
    validation: float = 0.2,
    train_all: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Find the best settings of a scikit-learn classifier on a held-out part of the training data.

    Without ``small``, by successive halving: all settings on few samples, a third of them on three times as many. With
    it, every setting is fitted on the set; as many random samples, and random samples at equal total seconds, stand
    beside it.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes; only ``train_all`` reads the test
            part.
        estimator: an unfitted classifier with ``set_params``, which is cloned.
        grid: values of its parameters by name; all combinations are candidates.
        small: a distilled set, or its path.
        validation: fraction of the training data that decides, at most 2,000 samples.
        train_all: fit all settings on all training data, and measure the rankings against their test accuracy.
        seed: seed of the split and of random samples.

    Returns:
        ``candidates`` (settings), ``rows`` (rankings with ``scores``, ``best``, ``seconds``, ``making`` and, with
        ``train_all``, ``tau`` and ``regret``), ``best`` (settings of the first ranking) and ``truth``.

    Raises:
        PotstillError: fewer than two settings, a ranking that is constant, or data without classes.
    """
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(settings) < 2:
        raise PotstillError(
            f"a search needs two candidates or more, but the grid has {len(settings)}; give more values"
        )
    splits = as_splits(data, pick_device("cpu"))
    train, held_out = split_training(splits.train, validation, seed)
    fitted = _Fitted(estimator=estimator, settings=settings, train=train, held_out=held_out, seed=seed)
    rows = (
        [fitted.halve()]
        if small is None
        else fitted.with_baselines(small if isinstance(small, Distilled) else load(small))
    )
    if len(set(rows[0]["scores"])) < 2:
        raise PotstillError(
            f"the ranking by {rows[0]['name']} is constant: all {len(settings)} candidates score "
            f"{rows[0]['scores'][0]:g}; give other values"
        )
    truth = None
    if train_all:
        if splits.test is None:
            raise PotstillError(f"{splits.train.name}: the truth is measured on a test split; give data that have one")
        test = splits.test
        everything, true_seconds = _arrays(splits.train), time.perf_counter()
        truth = [_score(_fit(estimator, one, *everything), test) for one in settings]
        true_seconds = time.perf_counter() - true_seconds
        for row in rows:
            row |= {"tau": kendall_tau([row["scores"]], truth), "regret": regret(row["scores"], truth)}
            row["part_of_truth"] = row["seconds"] / true_seconds
    for row in rows:
        row["best"] = settings[int(np.argmax(row["scores"]))]
    return {"candidates": settings, "rows": rows, "best": rows[0]["best"], "truth": truth}


class _Fitted:
    """Settings, the data, and rankings of them."""

    def __init__(
        self, *, estimator: Any, settings: Sequence[Mapping[str, Any]], train: Source, held_out: Source, seed: int
    ) -> None:
        self.estimator, self.settings, self.train, self.held_out = estimator, settings, train, held_out
        self.order = baseline_order(train, "random", derive_seed(seed, "proxy"), "search")

    def halve(self) -> dict[str, Any]:
        sizes = [len(self.settings)]
        while sizes[-1] > LAST and len(self.train) // ETA ** len(sizes) >= LEAST_SAMPLES:
            sizes.append(-(-sizes[-1] // ETA))
        scores, alive, rounds, seconds = [0.0] * len(self.settings), list(range(len(self.settings))), [], 0.0
        for number, size in enumerate(sizes):
            alive = sorted(alive, key=lambda n: -scores[n])[:size]
            samples = len(self.train) // ETA ** (len(sizes) - 1 - number)
            found, spent = self._scores(*_arrays(self.train, self._random(samples)), self.held_out, alive)
            for n, value in zip(alive, found, strict=True):
                scores[n] = 2 * number + value
            seconds += spent
            rounds.append({"samples": samples, "candidates": size})
        return {"name": "successive halving", "scores": scores, "rounds": rounds, "seconds": seconds, "making": 0.0}

    def with_baselines(self, small: Distilled) -> list[dict[str, Any]]:
        made = rows_of(small, self.train)
        y = made.rows.y if made.rows.y.ndim == 1 else made.rows.y.argmax(1)
        view = SourceView.of(self.held_out, made.normalization)
        scores, spent = self._scores(made.rows.x.cpu().flatten(1).numpy(), y.cpu().numpy(), view)
        rows = [{"name": "set", "samples": len(y), "scores": scores, "seconds": spent + made.seconds,
                 "making": made.seconds}]  # fmt: skip
        equal = min(len(self.train), max(len(y), round(len(y) * (spent + made.seconds) / max(spent, 1e-9))))
        for name, samples in (("random, as many", len(y)), ("random, equal seconds", equal)):
            found, took = self._scores(*_arrays(self.train, self._random(samples)), self.held_out)
            rows.append({"name": name, "samples": samples, "scores": found, "seconds": took, "making": 0.0})
        return rows

    def _random(self, samples: int) -> Tensor:
        """Return positions of about so many random samples, equally many of each class where they last."""
        n = 1
        while n < max(map(len, self.order)) and len(take(self.order, n)) < samples:
            n += 1
        return take(self.order, n)

    def _scores(
        self, x: np.ndarray, y: np.ndarray, scored_on: Source, which: Sequence[int] | None = None
    ) -> tuple[list[float], float]:
        started = time.perf_counter()
        chosen = range(len(self.settings)) if which is None else which
        fitted = [_fit(self.estimator, self.settings[n], x, y) for n in chosen]
        seconds = time.perf_counter() - started
        return [_score(one, scored_on) for one in fitted], seconds


def _arrays(source: Source, at: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
    at = torch.arange(len(source)) if at is None else at
    x = single_tensor(source.fetch(at).x, "an estimator").cpu()
    return x.flatten(1).numpy(), source.labels[at].numpy()


def _fit(estimator: Any, settings: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.base import clone

    return clone(estimator).set_params(**settings).fit(x, y)


def _score(fitted: Any, source: Source) -> float:
    x, y = _arrays(source)
    return float((np.asarray(fitted.predict(x)) == y).mean())
