"""Parts of trajectory matching in which methods differ: start epochs, distance of parameters, stop rule of students."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor

from potstill.functional.train import Criterion
from potstill.functional.unroll import StudentTrace
from potstill.methods.engine import InitStrategy, LearnedTargets

__all__ = [
    "Distance", "LastStep", "NearestStep", "PartialDistance", "RelativeDistance", "StartEpochs", "StopRule",
    "TrajectoryParts", "gsam_training", "squared_distance",
]  # fmt: skip

Weights: TypeAlias = Mapping[str, Tensor]


@final
@dataclass(frozen=True, kw_only=True)
class StartEpochs:
    """Expert epochs that students start from; the upper bound grows linearly (DATM's sequential generation).

    Attributes:
        low: first epoch.
        initial_high: exclusive upper bound at iteration 0.
        high: exclusive upper bound from iteration ``expansion_end`` on.
        expansion_end: iteration at which the upper bound has grown; 0: it is ``high`` throughout.
    """

    low: int
    initial_high: int
    high: int
    expansion_end: int = 0

    def bounds(self, iteration: int) -> tuple[int, int]:
        """Return the lowest epoch and one above the highest at an iteration."""
        high = self.high
        if iteration < self.expansion_end:
            high = self.initial_high + (self.high - self.initial_high) * iteration // self.expansion_end
        return self.low, max(high, self.low + 1)


def squared_distance(a: Weights, b: Weights) -> Tensor:
    return torch.stack([(t - b[n]).square().sum() for n, t in a.items()]).sum()


@final
@dataclass(frozen=True)
class RelativeDistance:
    """‖θ − θ*‖² / ‖θ_0 − θ*‖² over all parameters, differentiable by θ (MTT)."""

    def __call__(self, theta: Weights, start: Weights, target: Weights) -> Tensor:
        return squared_distance(theta, target) / squared_distance(start, target)


@final
@dataclass(frozen=True)
class PartialDistance:
    """`RelativeDistance` without the parameters whose (θ − θ*)² is smallest (PAD's program).

    Attributes:
        drop_ratio: fraction of the parameters left out of both sums, in [0, 1); at least one parameter stays.
    """

    drop_ratio: float

    def __call__(self, theta: Weights, start: Weights, target: Weights) -> Tensor:
        student, expert = (torch.cat([(t[n] - target[n]).square().flatten() for n in target]) for t in (theta, start))
        dropped = min(int(self.drop_ratio * len(student)), len(student) - 1)
        rows = student.detach().topk(len(student) - dropped).indices
        return student[rows].sum() / expert[rows].sum()


Distance: TypeAlias = RelativeDistance | PartialDistance


@final
@dataclass(frozen=True)
class LastStep:
    """Compare the student after its last step."""


@final
@dataclass(frozen=True)
class NearestStep:
    """Compare the student after the step j ≥ 1 with the smallest ‖θ_j − θ*‖₁, the first of equals (ATT)."""

    def __call__(self, trace: StudentTrace, target: Weights) -> int:
        distances = [sum(float((p - target[n]).abs().sum()) for n, p in s.theta.items()) for s in trace][1:]
        return 1 + min(range(len(distances)), key=distances.__getitem__)


StopRule: TypeAlias = LastStep | NearestStep


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryParts:
    """Choices of one paper beyond MTT's; the defaults are MTT.

    Attributes:
        start_epochs: expert epochs that students start from; ``None``: all below the method's ``max_start_epoch``.
        distance: compares the student's end with the expert's.
        stop_rule: step of the student that is compared.
        max_loss: steps with a larger loss change nothing (DATM); 0: no limit.
        ema_decay: decay of the moving average that is the result (FTD), in [0, 1); 0: the result is the last state.
        expert_training: settings of the experts' training beyond SGD's.
        label_experts: experts whose mean logits learned labels begin as; 0: all that classify a sample correctly.
        per_tower: add the distances of the encoders of two views (VL-Distill).
        criterion: the student's loss; ``None``: the task's.
        initial: initial samples; ``None``: as the method's ``init_from`` says.
        learned_targets: rows that are learned in place of targets that are no classes (LoRS).
        expert_labels: share of the target expert's own answers in the students' targets (CondTSF), in [0, 1].
    """

    start_epochs: StartEpochs | None = None
    distance: Distance = RelativeDistance()
    stop_rule: StopRule = LastStep()
    max_loss: float = 0.0
    ema_decay: float = 0.0
    expert_training: Mapping[str, float | str] = field(default_factory=dict)
    label_experts: int = 0
    per_tower: bool = False
    criterion: Criterion | None = None
    learned_targets: LearnedTargets | None = None
    initial: InitStrategy | None = None
    expert_labels: float = 0.0


def gsam_training(alpha: float) -> dict[str, float | str]:
    """Return settings of experts trained by GSAM (buffer_FTD.py, --alpha)."""
    return {"optimizer": "gsam", "rho": 0.01, "alpha": alpha}
