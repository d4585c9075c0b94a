"""Scores read from a record of training: the training's fields, the same for every method, so that one record serves
all methods with equal fields."""

import warnings
from dataclasses import dataclass

from torch import Tensor

from potstill.core import Asset, Problem, UnitFloat
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.training_dynamics import rank_correlation
from potstill.methods.selection._score import ScoreSelection
from potstill.pretraining import Record, Recording

__all__ = ["MIN_SAMPLES", "RecordScore", "RecordedTraining", "check_epochs", "check_swings", "get_record", "last_epoch"]

_ALIKE = 0.8
"""Rank correlation from which on a spread over epochs orders samples as their mean probability does."""
MIN_SAMPLES = 200
"""Number of samples below which no warning is given about a record."""


@dataclass(frozen=True, kw_only=True)
class RecordedTraining:
    """Fields of the recorded training: SGD with momentum and a cosine schedule to zero.

    The network is evaluated after every epoch, in evaluation mode, on unaugmented samples. Some papers record batches
    as they are trained on, which mixes epochs, augmentation and dropout into the record.
    """

    record_epochs: int = 30
    """Epochs of the training. Papers train CIFAR for 200; ours: few enough for a CPU."""
    runs: int = 1
    """Independent trainings, over which scores are averaged."""
    network: str = "convnet"
    """Network that is trained."""
    batch: int = 128
    """Samples per step (as EL2N, Dyn-Unc and CCS)."""
    lr: float = 0.05
    """Initial learning rate. Ours: 0.1 is published for residual networks."""
    momentum: UnitFloat = 0.9
    """Momentum (as EL2N, Dyn-Unc and CCS)."""
    weight_decay: float = 5e-4
    """Weight decay (as EL2N, Dyn-Unc and CCS)."""
    augment: str = "none"
    """Augmentation of the training. Papers pad, crop and flip CIFAR (``pad-crop``), which costs small images more."""

    def record_asset(self, until: int = 0, **more: float) -> Asset:
        """Return the record; ``until``: last epoch to train; ``more``: see `potstill.pretraining.RecordTraining`.

        Raises:
            PotstillError: ``until`` is larger than ``record_epochs``.
        """
        if until > self.record_epochs:
            raise PotstillError(
                f"epochs up to {until} are needed, but record_epochs is {self.record_epochs}; raise it to at least "
                f"{until}, or choose an earlier epoch"
            )
        recipe: dict[str, float | int | str] = {
            "epochs": self.record_epochs, "batch": self.batch, "lr": self.lr, "momentum": self.momentum,
            "weight_decay": self.weight_decay, "augment": self.augment, "schedule": "cosine", **more,
        }  # fmt: skip
        if until:
            recipe["until"] = until
        return Recording(name="record", count=self.runs, recipe=recipe)

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        """Return the record, or nothing if the problem has scores already."""
        return () if "scores" in problem.assets else (self.record_asset(),)


def get_record(problem: Problem) -> Record:
    """Return the record among the problem's assets; raise a PotstillError if there is none."""
    record = problem.assets.get("record")
    if not isinstance(record, Record):
        raise PotstillError(
            "this method reads a record of training, but the problem has none in assets['record']; run it through "
            "potstill.distill, or make it with potstill.pretraining"
        )
    return record


def last_epoch(problem: Problem, series: str) -> Tensor:
    """Return a recorded number of every sample (n,) after the last epoch, averaged over runs."""
    record = get_record(problem)
    return record.after(series, record.epochs).mean(0)


def check_epochs(least: int, epochs: int, what: str) -> None:
    """Raise a PotstillError if there are fewer than ``least`` epochs for a score that measures changes between them."""
    if epochs < least:
        raise PotstillError(
            f"{what} measures changes between epochs and needs at least {least}, but record_epochs is {epochs}; "
            "raise record_epochs"
        )


def check_swings(what: str, spread: Tensor, confidence: Tensor, epochs: int) -> None:
    """Warn if a spread over epochs only says that the training was too short.

    While a network has not learned most samples, the probability of their class only rises, and most for the easiest
    samples, which then have the largest spread. Later samples that are learned, forgotten and learned again have it.

    Args:
        what: name of the score.
        spread: score of each sample (n,).
        confidence: mean probability of the sample's class (n,).
        epochs: number of recorded epochs.
    """
    rho = rank_correlation(spread.flatten(), confidence.flatten()) if len(spread) >= MIN_SAMPLES else 0.0
    if rho > _ALIKE:
        warnings.warn(
            f"{what} should find the samples that keep changing, but after {epochs} recorded epochs it orders them as "
            f"their mean probability does (rank correlation {rho:.2f}), so it keeps the easiest: the network has not "
            "learned most of them yet; record more epochs (record_epochs)",
            PotstillWarning, stacklevel=2,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RecordScore(RecordedTraining, ScoreSelection):
    """Abstract: a score that is read from a record of training."""
