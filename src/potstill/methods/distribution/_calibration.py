"""A step of its own down a trained classifier's loss on the synthetic samples (NCFM's calibration)."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from potstill.core import Method, Network, Problem
from potstill.functional.features import uses_batch_statistics
from potstill.methods._matching import Outer, Rule, descend, hard_labels
from potstill.methods.distribution._statistics import FeatureState, class_means_of_cross_entropy, groups

__all__ = ["FORWARD_SAMPLES", "Calibrated"]

FORWARD_SAMPLES = 2560
"""Real samples in one pass: ten classes of the published batch. More classes go in several passes."""


@dataclass(frozen=True, kw_only=True)
class Calibrated(Method[FeatureState], ABC):
    """Abstract: the loss of that step, its slopes, and the step."""

    def classwise(self) -> bool:
        """Whether each class has a step of its own, as published for some."""
        return False

    def calibrate(self, logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """The loss of a step of its own, from the classifier's logits; called where `networks` gives a classifier."""
        return class_means_of_cross_entropy(logits, y, sizes)

    def calibrated(
        self, problem: Problem, outer: Outer, net: Network, rule: Rule, factor: float, rng: Generator
    ) -> tuple[Outer, float]:
        """One more step, down the classifier's loss on the synthetic samples, or one for each class."""
        net.requires_grad_(False)
        omega = problem.augment.draw(1, problem.train.input.shape, rng)
        k, loss = problem.num_classes, 0.0
        turns = self.classwise() and not outer.logits  # learned labels are of every class
        for group in [[c] for c in range(k)] if turns else [list(range(k))]:

            def objective(S: Tensor, Y: Tensor | None, group: list[int] = group) -> tuple[float, Tensor, Tensor | None]:
                return self.calibration_loss(problem, net, omega, S, Y, group)

            outer, value = descend(problem, outer, objective, rule, factor)
            loss += value
        return outer, loss

    def calibration_loss(
        self, problem: Problem, net: Network, omega: object, S: Tensor, Y: Tensor | None, classes: Sequence[int]
    ) -> tuple[float, Tensor, Tensor | None]:
        """The classifier's loss over ``classes`` and its slopes; hard labels in passes of several classes."""
        with torch.enable_grad():
            if Y is not None:
                leaves = [S.detach().requires_grad_(), Y.detach().requires_grad_()]
                value = self.calibrate(net(problem.augment.apply(leaves[0], omega)), leaves[1], problem.sizes)
                by_S, by_Y = torch.autograd.grad(value, leaves)
                return float(value.detach()), by_S, by_Y
            loss, slopes = 0.0, torch.zeros_like(S)
            y, firsts = hard_labels(problem).to(S.device), [0, *torch.tensor(problem.sizes).cumsum(0).tolist()]
            sizes = [problem.sizes[c] for c in classes]
            for group in groups(sizes, sum(sizes) if uses_batch_statistics(net) else FORWARD_SAMPLES):
                rows = slice(firsts[classes[group[0]]], firsts[classes[group[-1]] + 1])
                leaf = S[rows].detach().requires_grad_()
                logits = net(problem.augment.apply(leaf, omega))
                value = self.calibrate(logits, y[rows], tuple(sizes[i] for i in group))
                (slopes[rows],) = torch.autograd.grad(value, [leaf])
                loss += float(value.detach())
        return loss, slopes, None
