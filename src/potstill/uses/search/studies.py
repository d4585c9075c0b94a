"""Studies of Optuna and Ray Tune: trials train on a small set, and only finalists on real data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.optional import import_optional
from potstill.core import Source
from potstill.data import SourceView
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.search.proxy import rows_of
from potstill.uses.search.space import Candidate
from potstill.uses.search.split import split_training
from potstill.uses.search.training import Rows, train_candidate

__all__ = ["Finalist", "OptunaObjective", "optuna_objective", "ray_trainable"]

KEY = "potstill_candidate"
"""Attribute of an Optuna trial that holds the candidate's name."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A candidate that was trained on real data."""

    candidate: Candidate
    small: float
    """Accuracy after training on the set."""
    real: float
    """Accuracy after training on real data."""


@dataclass(frozen=True, kw_only=True)
class _Trainer:
    """Trains candidates on the set or on real data, scored on the same held-out real samples."""

    rows: Rows
    train: Source
    held_out: Source
    of_set: Source
    """The held-out samples in the model space of the set."""
    updates: int
    batch: int
    seed: int

    def on_set(self, candidate: Candidate) -> float:
        return train_candidate(
            candidate, self.rows, self.of_set, updates=self.updates, batch=self.batch, seed=self.seed
        ).accuracy  # fmt: skip

    def on_real(self, candidate: Candidate, updates: int) -> float:
        return train_candidate(
            candidate, self.train, self.held_out, updates=updates, batch=self.batch, seed=self.seed
        ).accuracy  # fmt: skip


def _trainer(
    data: Any, small: Distilled | str | Path, updates: int, batch: int, validation: float, seed: int, device: str
) -> _Trainer:  # fmt: skip
    source = as_splits(data, pick_device(device)).train
    train, held_out = split_training(source, validation, seed)
    made = rows_of(small if isinstance(small, Distilled) else load(small), source)
    return _Trainer(
        rows=made.rows, train=train, held_out=held_out, of_set=SourceView.of(held_out, made.normalization),
        updates=updates, batch=batch, seed=seed,
    )  # fmt: skip


class OptunaObjective:
    """Objective of an Optuna study: the held-out accuracy of a candidate that was trained on a small set.

    Attributes:
        direction: ``maximize``, for ``optuna.create_study``.
    """

    direction = "maximize"

    def __init__(self, trainer: _Trainer, suggest: Callable[[Any], Candidate]) -> None:
        self._trainer, self._suggest = trainer, suggest
        self._candidates: dict[str, Candidate] = {}

    def __call__(self, trial: Any) -> float:
        candidate = self._suggest(trial)
        if not isinstance(candidate, Candidate):
            raise PotstillError(f"suggest must return a Candidate, not a {type(candidate).__name__}; change it")
        self._candidates[candidate.name] = candidate
        trial.set_user_attr(KEY, candidate.name)
        return self._trainer.on_set(candidate)

    def finalists(self, study: Any, count: int = 3, updates: int = 1000) -> list[Finalist]:
        """Train the best candidates of a study on real data, and return them, the best first.

        Args:
            study: an Optuna study that this objective ran in, in this process.
            count: number of different candidates.
            updates: updates of each on real data.

        Raises:
            PotstillError: the study has no finished trial of this objective.
        """
        best: dict[str, float] = {}
        for trial in study.trials:
            name, value = trial.user_attrs.get(KEY), trial.value
            if name in self._candidates and value is not None:
                best[name] = max(value, best.get(name, value))
        if not best:
            raise PotstillError("the study has no finished trial of this objective; run study.optimize with it first")
        chosen = sorted(best, key=lambda name: -best[name])[:count]
        found = [
            Finalist(
                candidate=self._candidates[name], small=best[name],
                real=self._trainer.on_real(self._candidates[name], updates),
            )
            for name in chosen
        ]  # fmt: skip
        return sorted(found, key=lambda one: -one.real)


def optuna_objective(
    data: Any,
    small: Distilled | str | Path,
    suggest: Callable[[Any], Candidate],
    *,
    updates: int = 300,
    batch: int = 64,
    validation: float = 0.2,
    seed: int = 0,
    device: str = "auto",
) -> OptunaObjective:
    """Return an objective for ``study.optimize`` that trains on a small set, and real data for finalists only.

    The test part is never read. A set that was made of all training data has seen the samples that decide, which
    flatters all candidates alike.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes.
        small: the set, or its path.
        suggest: returns a `Candidate` for a trial, by ``trial.suggest_float`` and its like.
        updates: updates of a trial.
        batch: samples of an update, at most.
        validation: fraction of the training data that decides, at most 2,000 samples.
        seed: seed of split, networks and batches.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        PotstillError: the set or the data cannot be read, or do not belong together.
    """
    return OptunaObjective(_trainer(data, small, updates, batch, validation, seed, device), suggest)


def ray_trainable(
    data: Any,
    small: Distilled | str | Path,
    suggest: Callable[[Mapping[str, Any]], Candidate],
    *,
    updates: int = 300,
    batch: int = 64,
    validation: float = 0.2,
    seed: int = 0,
    device: str = "auto",
) -> Callable[[Mapping[str, Any]], None]:
    """Return a function for ``ray.tune.Tuner`` that reports ``accuracy`` of a candidate trained on a small set.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes.
        small: the set, or its path.
        suggest: returns a `Candidate` for a configuration.
        updates: updates of a trial.
        batch: samples of an update, at most.
        validation: fraction of the training data that decides, at most 2,000 samples.
        seed: seed of split, networks and batches.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        PotstillError: Ray is not installed, or the set and the data do not belong together.
    """
    import_optional("ray", "a trainable of Ray Tune", "ray")
    trainer = _trainer(data, small, updates, batch, validation, seed, device)

    def trainable(config: Mapping[str, Any]) -> None:
        tune = import_optional("ray.tune", "a trainable of Ray Tune", "ray")
        tune.report({"accuracy": trainer.on_set(suggest(config))})

    return trainable
