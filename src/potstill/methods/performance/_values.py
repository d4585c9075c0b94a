"""The values that methods of kernel ridge regression share, and the engine that they build."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

from potstill.core import Problem, UnitFloat
from potstill.functional.param_groups import Optimizer, ParamGroup, ParamGroups
from potstill.methods.engine import Init, MatchingState, has_classes
from potstill.methods.performance._ridge import TEMPERATURE, target_statistics

__all__ = ["KernelValues", "Labels", "cosine_decay", "kernel_param_groups", "linear_decay"]

Labels: TypeAlias = Literal["hard", "learned", "scores"]
"""The classes; learned rows that sum to 1; or learned real values, which real targets are too."""


@dataclass(frozen=True, kw_only=True)
class KernelValues:
    """Fields of every method whose learner is kernel ridge regression."""

    state_type: ClassVar[type] = MatchingState

    iterations: int
    lr: float
    batch_real: int
    ridge: float
    optimizer: Optimizer
    labels: Labels
    init_from: Init = "real"
    """Initial samples: random real ones."""
    lr_labels: float | None = None
    """Learning rate of labels and real targets, where they are learned; None: that of the inputs, as published."""
    momentum: UnitFloat = 0.0
    """Momentum of SGD."""
    augment: str = "none"
    """Siamese augmentation of what is compared."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""


def kernel_param_groups(
    method: KernelValues, problem: Problem, *, factor: float = 1.0, temperature: float = 0.0
) -> ParamGroups:
    """Return the parameter groups; real targets are optimised in their deviations.

    Args:
        factor: what rates are multiplied with.
        temperature: learning rate of the temperature's logarithm.
    """
    payload = ParamGroup(lr=method.lr * factor, optimizer=method.optimizer, momentum=method.momentum)
    rate = method.lr if method.lr_labels is None else method.lr_labels
    units = () if has_classes(problem) else tuple(target_statistics(problem)[1].tolist())
    return {
        "payload/": payload,
        "labels/": replace(payload, lr=rate * factor, scale=units),
        TEMPERATURE: ParamGroup(lr=temperature, optimizer=method.optimizer, momentum=method.momentum, log_scale=True),
    }


def linear_decay(state: MatchingState, iterations: int, end: float) -> float:
    """Return a factor that falls from 1 to ``end`` along a line over the iterations."""
    return 1 + (end - 1) * min(1.0, state.iteration / iterations)


def cosine_decay(state: MatchingState, iterations: int, end: float) -> float:
    """Return a factor that falls from 1 to ``end`` along half a cosine over the iterations."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, state.iteration / iterations)))
