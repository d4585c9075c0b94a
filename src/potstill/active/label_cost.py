"""Measure the cost of labels: accuracy over labels of several acquisitions beside random."""

from collections.abc import Callable, Sequence
from typing import Any

from potstill._util.progress import Callback
from potstill.active.learning import (
    ActiveRun,
    LabelingSchedule,
    Learner,
    accuracy_on,
    active_learning,
    learner_network,
    train_learner,
)
from potstill.core import Source
from potstill.errors import PotstillError
from potstill.evaluation.statistics import summary

__all__ = ["label_cost", "labels_for_accuracy"]

_SAID = ("steps", "batch", "lr", "momentum", "weight_decay")
"""Fields of the learner that the result holds."""


def labels_for_accuracy(labels: Sequence[int], accuracy: Sequence[float], target: float) -> float | None:
    """Labels at which a curve first reaches ``target``, on the line between two rounds; ``None``: it never does."""
    for i, (count, value) in enumerate(zip(labels, accuracy, strict=True)):
        if value >= target:
            if i == 0 or value == accuracy[i - 1]:
                return float(count)
            part = (target - accuracy[i - 1]) / (value - accuracy[i - 1])
            return labels[i - 1] + part * (count - labels[i - 1])
    return None


def _mean_height(labels: Sequence[int], accuracy: Sequence[float]) -> float:
    """Return the area below a curve over its width."""
    pairs = zip(labels, labels[1:], accuracy, accuracy[1:], strict=False)
    return sum((b - a) * (low + high) / 2 for a, b, low, high in pairs) / (labels[-1] - labels[0])


def label_cost(
    parts: Callable[[int], tuple[Source, Source]],
    acquire: Sequence[str] = ("margin",),
    *,
    schedule: LabelingSchedule | None = None,
    learner: Learner | None = None,
    fraction: float = 0.95,
    seeds: int = 5,
    seed: int = 0,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Active learning on data whose labels are known, to see what it would have saved; ``random`` is always among them.

    All acquisitions of a seed have the same data, the same start and the same networks, so they are compared in pairs.

    Args:
        parts: the pool, with labels, and the test source of a seed.
        acquire: see `active_learning`.
        schedule, learner: as for `active_learning`.
        fraction: of the accuracy of a learner that is trained on the whole pool's labels, in (0, 1].
        seeds: independent runs of each.
        seed: the first of them.
        progress: called with what was done, how many runs are done and how many there are.

    Returns:
        JSON: ``full`` accuracy; by acquisition the ``accuracy`` at each number of ``labels``, and the labels ``needed``
        for ``fraction`` of the full accuracy, with those ``saved`` against random, seed by seed; ``mean_over_labels``
        is a curve's mean height, and ``over_random`` its difference from random's. A run that never gets there counts
        with all the labels it had (``at_least`` says how many did), so its saving is understated if random gets there,
        and overstated if only random fails to.

    Raises:
        PotstillError: as `active_learning`; or a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise PotstillError(f"the fraction of the full accuracy must lie in (0, 1], but it is {fraction}")
    names: list[str] = ["random", *(a for a in dict.fromkeys(acquire) if a != "random")]
    how, schedule = learner or Learner(), schedule or LabelingSchedule()
    runs: dict[str, list[ActiveRun]] = {a: [] for a in names}
    full: list[float] = []
    answers: list[int] = []
    """Test samples of each seed."""
    total, done = seeds * (len(names) + 1), 0
    for s in range(seed, seed + seeds):
        pool, test = parts(s)
        schedule.check(pool)  # before anything is trained
        network, make = learner_network(how, pool)
        full.append(accuracy_on(train_learner(how, make, pool, s, -1), test))
        answers.append(len(test))
        for a in names:
            done += 1
            if progress is not None:
                progress(f"{a}, seed {s}", done, total)
            ask = pool.labels.__getitem__
            runs[a].append(active_learning(pool, ask, acquire=a, schedule=schedule, learner=how, test=test, seed=s))
        done += 1
    labels = [r.labels for r in runs["random"][0].rounds]
    curves: dict[str, Any] = {}
    areas: list[float] = []
    """Of random, which comes first."""
    costs: dict[str, list[float]] = {}
    for a in names:
        accuracies = [[float(r.accuracy or 0.0) for r in run.rounds] for run in runs[a]]
        found = [labels_for_accuracy(labels, row, fraction * f) for row, f in zip(accuracies, full, strict=True)]
        costs[a] = [float(labels[-1]) if n is None else n for n in found]
        pairs = [r - c for r, c in zip(costs["random"], costs[a], strict=True)]
        area = [_mean_height(labels, row) for row in accuracies]
        areas = areas or area
        curves[a] = {
            "accuracy": [summary(column, min(answers)) for column in zip(*accuracies, strict=True)],
            "mean_over_labels": summary(area, min(answers)),
            "over_random": summary([own - other for own, other in zip(area, areas, strict=True)]),
            "needed": {**summary(costs[a]), "at_least": sum(n is None for n in found)},
            "saved": summary(pairs),
            "runs": [run.to_dict() for run in runs[a]],
        }
    return {
        "labels": labels, "fraction": fraction, "full": summary(full, min(answers)),
        "pool": len(pool), "seeds": seeds, "seed": seed,
        "network": network, "learner": {n: getattr(how, n) for n in _SAID}, "curves": curves,
    }  # fmt: skip
