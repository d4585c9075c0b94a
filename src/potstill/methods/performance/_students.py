"""Fields of methods of unrolled training, and the engine that they build.

The programs of RaT-BPTT and AT-BPTT differentiate through a window by ``higher``, whose Adam adds eps to √v before it
corrects the bias, where torch's (which makes the burn-in there, and all steps here) adds it after: at the first steps
eps counts for as much as 1/√(1 − β₂) = 32 times more, which no gradient above 1e-6 shows.
``benchmarks/fidelity_functions.py`` compares a window.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeVar

import torch

from potstill.core import NonNegativeInt, Problem, UnitFloat
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.functional.unroll import InnerOptimizer
from potstill.methods.engine import (
    FixedNetworks,
    Init,
    MatchingEngine,
    MatchingState,
    choose_mode_by_memory,
    has_classes,
    objective_mode,
)
from potstill.methods.performance._ridge import target_statistics
from potstill.methods.performance._unrolled import STUDENT_LR, Unrolling
from potstill.methods.performance._windows import BalancedBatches, Batches, Windows
from potstill.tasks import get_targets

__all__ = ["StudentValues", "WindowValues", "build_unrolled_engine", "build_windowed_engine"]

T = TypeVar("T", bound="StudentValues")


@dataclass(frozen=True, kw_only=True)
class StudentValues:
    """Fields of every method of unrolled training; those without a default are the publication's."""

    state_type: ClassVar[type] = MatchingState

    iterations: int
    batch_real: int
    init_from: Init
    labels: Literal["hard", "learned", "scores"] = "hard"
    """Learned labels join the optimisation, as a softmax of logits; ``scores``: as real values, and so do real targets.
    Ours."""
    lr_labels: float = 0.05
    """Learning rate of the labels' logits or values, where they are learned; of real targets in their deviations.
    Ours."""
    optimizer: Literal["sgd", "adamw"]
    lr: float
    momentum: UnitFloat = 0.0
    """Momentum of what is stored, with SGD."""
    lr_net: float
    momentum_net: float = 0.0
    """Momentum of the students, with SGD; below 1."""
    learn_lr: bool = False
    """The students' learning rate is learned too, from ``lr_net`` on, and stored with the set. Ours."""
    lr_lr: float = 0.01
    """Learning rate of its logarithm, with Adam, where it is learned. Ours."""
    mode: Literal["auto", "replay", "full", "by-memory"] = "auto"
    """Differentiation of a student's steps: ``replay`` exactly in the memory of one of them, ``full`` exactly in
    one graph, ``auto`` in one graph where it is small and else in replay, whatever the machine, ``by-memory`` in one
    graph where a quarter of the machine's memory holds it (the last bits then depend on the machine, and the card says
    which it was). Ours."""
    students: NonNegativeInt = 0
    """Number of students, initialised with the seeds 0, 1, …; 0: a fresh one at every step."""

    def resolve_defaults(self: T, problem: Problem) -> tuple[T, tuple[str, ...]]:
        """With a mode that goes by the machine's memory decided."""
        if self.mode != "by-memory":
            return self, ()
        result: MatchingEngine = replace(self, mode="auto").build_engine(problem)  # type: ignore[attr-defined]
        objective = result.objective
        assert isinstance(objective, Unrolling)
        mode, why = choose_mode_by_memory(
            problem, objective.batches.size(problem.sizes), objective.windows.max_steps[1]
        )
        return replace(self, mode=mode), (why,)


def build_unrolled_engine(
    method: StudentValues, problem: Problem, *, windows: Windows, batches: Batches, inner: InnerOptimizer,
    clip: float = 0.0, average: float = 0.0, factor: Callable[[MatchingState], float] | None = None,
) -> MatchingEngine:  # fmt: skip
    """The engine of a method with these windows and batches of its students.

    Args:
        factor: what all rates are multiplied with at a state.
    """
    real = not has_classes(problem) and get_targets(problem.train).is_floating_point()
    units = tuple(target_statistics(problem)[1].tolist()) if real else ()
    payload = ParamGroup(lr=method.lr, optimizer=method.optimizer, momentum=method.momentum)
    rules: ParamGroups = {
        "payload/": payload,
        "labels/": replace(payload, lr=method.lr_labels, scale=units),
        "student/": ParamGroup(lr=method.lr_lr, optimizer="adamw", log_scale=True),
    }

    def at(state: MatchingState, last: bool) -> ParamGroups:
        times = 1.0 if factor is None else factor(state)
        return rules if times == 1.0 else {n: replace(rule, lr=rule.lr * times) for n, rule in rules.items()}

    return MatchingEngine(
        objective=Unrolling(
            windows=windows, batches=batches, inner=inner, lr=method.lr_net, batch_real=method.batch_real, clip=clip,
            clip_decay=average, mode=objective_mode(method.mode),
        ),
        networks=FixedNetworks(count=method.students), param_groups=at, iterations=method.iterations,
        steps=method.iterations, initial=method.init_from, labels=method.labels,
        extra_parameters={STUDENT_LR: torch.tensor(method.lr_net)} if method.learn_lr else {},
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WindowValues:
    """Fields of RaT-BPTT and AT-BPTT. The defaults are those of RaT-BPTT's README for CIFAR-10 at 10 per class."""

    iterations: int = 12_000
    """Steps. The README's 60,000 passes are 600,000; its author says that about 1,200 passes of 10 steps suffice
    (issue 3 of the repository)."""
    batch_real: int = 5000
    """Real samples of a step, balanced over classes (--batch_size)."""
    init_from: Init = "noise"
    """Initial samples: noise (framework/base.py, x_init)."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the stored values: Adam (--outer_optim)."""
    lr: float = 1e-3
    """Learning rate of the synthetic inputs (--lr)."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer of the students (--inner_optim)."""
    lr_net: float = 1e-3
    """Learning rate of the students (--inner_lr)."""
    momentum_net: float = 0.9
    """Momentum of the students, with SGD; below 1 (distill_higher.py). Adam has none."""
    weight_decay_net: float = 5e-4
    """Weight decay of the students, with SGD (distill_higher.py). Adam has none."""
    window: int = 60
    """W: steps that gradients go through (--window)."""
    total: int = 200
    """T: steps of a student, at most (--totwindow)."""
    batch_per_class: int = 10
    """Decoded inputs of each class in a step of a student (--batch_per_class)."""
    clip: float = 2.0
    """The gradient is clipped to so many times the moving average of its norm (base.py); 0: it is not."""
    clip_decay: UnitFloat = 0.9
    """Decay of that average (--clip_coef)."""
    augment: str = "flip-rotate"
    """Per-sample augmentation of the student's batches and of the real one (--syn_strategy, --real_strategy)."""
    network: str = "convnet"
    """Network of the students."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""


def build_windowed_engine(
    method: StudentValues, values: WindowValues, problem: Problem, windows: Windows
) -> MatchingEngine:
    """Return the engine of a method with both kinds of fields and these windows."""
    sgd = values.inner_optimizer == "sgd"
    inner = InnerOptimizer(
        optimizer=values.inner_optimizer, momentum=values.momentum_net if sgd else 0.0,
        weight_decay=values.weight_decay_net if sgd else 0.0,
    )  # fmt: skip
    return build_unrolled_engine(
        method, problem, windows=windows, batches=BalancedBatches(per_class=values.batch_per_class),
        inner=inner, clip=values.clip, average=values.clip_decay,
    )  # fmt: skip
