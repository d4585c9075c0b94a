"""Feature matching in networks that are partly trained: what DANCE, NCFM and DSDM share, and the calibration step."""

import torch
from torch import Generator, Tensor

from potstill.core import AssetSpec, Network, Problem, Space
from potstill.methods._matching import Rule
from potstill.methods._networks import between, trained_asset, trained_networks
from potstill.methods.distribution._base import FeatureMatching, FeatureState, class_means_of_cross_entropy

__all__ = ["InTrained"]


class InTrained(FeatureMatching):
    """Abstract: a network drawn from several trained ones, interpolated with its untrained self or not.

    What is stored holds values in data units and is kept in [0, 1], as in these publications; they clamp once in an
    iteration, here it is done after every move.
    """

    networks_trained: int
    epochs_trained: int
    interpolate: bool
    calibration: float
    updates: str
    augment_training: str

    def assets(self, problem: Problem) -> tuple[AssetSpec, ...]:
        return (
            trained_asset(
                self.networks_trained, self.epochs_trained, batch=64, lr=0.01, momentum=0.9, weight_decay=5e-4,
                augment=self.augment_training,
            ),
        )  # fmt: skip

    @property
    def space(self) -> Space:
        return "data"

    def classwise(self) -> bool:
        return self.updates == "class"

    def rule(self, problem: Problem, iteration: int) -> Rule:
        return Rule(lr=self.lr, momentum=self.momentum, lr_labels=self.lr_labels, space="data", clamp=True)

    def networks(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[Network, Network | None]:
        made = trained_networks(problem)
        chosen = made[int(torch.randint(len(made), (1,), generator=rng))]
        first = float(torch.rand((), generator=rng)) if self.interpolate else 0.0
        final = between(problem, chosen, 0.0) if self.calibration else None
        return between(problem, chosen, first), final

    def calibrate(self, logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
        return self.calibration * class_means_of_cross_entropy(logits, y, sizes)
