"""Scores that are read from a record of training: the fields that say how it is trained, the same for every method.

As long as they are the same, one record serves all of them.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from potstill.core import Asset, Problem
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.training_dynamics import rank_correlation
from potstill.methods.selection._score import ByScore
from potstill.pretraining import Record, Recording

__all__ = ["FEW", "ByRecord", "Recorded", "check_epochs", "check_swings", "record_of"]

_ALIKE = 0.8
"""From this rank correlation on a spread over epochs orders samples as their mean probability does."""
FEW = 200
"""Of fewer samples nothing is said of a record: such data are for trying out."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The training that is recorded: SGD with momentum, its rate along half a cosine to zero.

    The network is looked at after every epoch, in evaluation mode, on the samples as they are. Some papers look at a
    batch as it is trained on; then epochs, augmentation and dropout mix into what is recorded.
    """

    fractions: ClassVar[tuple[str, ...]] = ("momentum",)

    epochs_recorded: int = 30
    """Epochs of the training. Papers train CIFAR for 200; ours: few enough for a processor."""
    runs: int = 1
    """Independent trainings, over which scores are averaged."""
    network: str = "convnet"
    """What is trained."""
    batch: int = 128
    """Samples per step (as EL2N, Dyn-Unc and CCS)."""
    lr: float = 0.05
    """Learning rate of the first epoch. Ours: 0.1 is published for residual networks."""
    momentum: float = 0.9
    """Momentum (as EL2N, Dyn-Unc and CCS)."""
    weight_decay: float = 5e-4
    """Weight decay (as EL2N, Dyn-Unc and CCS)."""
    augment: str = "none"
    """Augmentation in training. Papers pad, cut and flip CIFAR (``pad-crop``); smaller pictures lose too much by it."""

    def spec(self, until: int = 0, **more: float) -> Asset:
        """The record; ``until`` some epoch only, and ``more`` of its recipe: see `potstill.pretraining.RecordTraining`.

        Raises:
            PotstillError: that epoch is not recorded.
        """
        if until > self.epochs_recorded:
            raise PotstillError(
                f"epochs up to {until} are looked at, but epochs_recorded is {self.epochs_recorded}; record at least "
                f"{until}, or look earlier"
            )
        recipe: dict[str, float | int | str] = {
            "epochs": self.epochs_recorded, "batch": self.batch, "lr": self.lr, "momentum": self.momentum,
            "weight_decay": self.weight_decay, "augment": self.augment, "schedule": "cosine", **more,
        }  # fmt: skip
        if until:
            recipe["until"] = until
        return Recording(name="record", count=self.runs, recipe=recipe)

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        """None where the scores are known already."""
        return () if "scores" in problem.assets else (self.spec(),)


def record_of(problem: Problem) -> Record:
    """The record among the problem's assets.

    Raises:
        PotstillError: it has not been made.
    """
    record = problem.assets.get("record")
    if not isinstance(record, Record):
        raise PotstillError(
            "this method reads a record of training, but the problem has none in assets['record']; run it through "
            "potstill.distill, or make it with potstill.pretraining"
        )
    return record


def check_epochs(least: int, epochs: int, what: str) -> None:
    """A score that looks at changes needs epochs between which something can change.

    Raises:
        PotstillError: there are fewer.
    """
    if epochs < least:
        raise PotstillError(
            f"{what} looks at changes between epochs and needs {least} of them or more, but epochs_recorded is "
            f"{epochs}; record more"
        )


def check_swings(what: str, spread: Tensor, confidence: Tensor, epochs: int) -> None:
    """Warn where a spread over epochs says no more than that the training was too short.

    While a network has not learned most samples yet, the probability of their class only rises, and furthest where it
    is highest: then the largest spread belongs to the easiest samples. Later it belongs to those that are learned,
    forgotten and learned again.

    Args:
        what: the score's name.
        spread: of each sample (n,).
        confidence: the mean probability of its class (n,).
        epochs: that were recorded.
    """
    rho = rank_correlation(spread.flatten(), confidence.flatten()) if len(spread) >= FEW else 0.0
    if rho > _ALIKE:
        warnings.warn(
            f"{what} should find the samples that keep changing, but after {epochs} recorded epochs it orders them as "
            f"their mean probability does (rank correlation {rho:.2f}), so it keeps the easiest: the network has not "
            "learned most of them yet; record more epochs (epochs_recorded)",
            PotstillWarning, stacklevel=2,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ByRecord(Recorded, ByScore):
    """Abstract: a score that is read from a record of training."""

    fractions: ClassVar[tuple[str, ...]] = ("momentum", "cut")
