r"""DELT: A Simple Diversity-driven EarlyLate Training for Dataset Distillation (Shen et al., CVPR 2025,
arXiv:2411.19946).

.. math::
    X_0 = \text{the samples around the median of } p_\theta(y \mid x), \qquad
    \text{group } g \text{ is moved from iteration } g \cdot \mathrm{RI} \text{ on}

The items of a class fall into R = K / RI groups of nearly equal size, the first ones larger. Group 0 is optimised for
all K iterations, each later one for RI fewer: pictures between synthetic and real, and less work. The
objective is CDA's. One cosine over K holds for all, so late groups begin at a lower rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Batch, MethodInfo, NonNegativeInt, Presets, Problem
from potstill.data.real_data import RealData
from potstill.functional.crops import Curriculum
from potstill.methods.decoupled._parts import Groups, ImageInitName
from potstill.methods.decoupled._realism import teacher_cross_entropy
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import Composition, RecoverState
from potstill.methods.decoupled._teachers import TeacherConfig, TeacherNetwork
from potstill.methods.engine import EngineMethod, require_tensor
from potstill.methods.selection._by_class import check_class_sizes

__all__ = ["DELT", "median_samples", "order_from_median"]


def order_from_median(scores: Tensor) -> Tensor:
    """Return positions of ``scores`` (n,) from their median outward, alternately above and below."""
    order = scores.argsort(stable=True)
    distance = (torch.arange(len(order), device=order.device) - (len(order) - 1) / 2).abs()
    return order[distance.argsort(stable=True)]


def median_samples(problem: Problem, members: Sequence[TeacherNetwork], rng: Generator) -> Tensor:
    """Return the samples around the median of the teachers' confidence per class, repeated if there are too few."""
    check_class_sizes(problem)
    selected, real = [], RealData.of(problem)
    for c, (index, n) in enumerate(zip(problem.class_indices, problem.sizes, strict=True)):

        def score(batch: Batch, c: int = c) -> Tensor:
            return teacher_cross_entropy(members, require_tensor(batch.x), c)

        scores = real.map(index, 1024, score)
        selected.append(index[order_from_median(scores).cpu()[torch.arange(n) % len(index)]])
    return require_tensor(real.batch(*selected).x)


@dataclass(frozen=True, kw_only=True)
class DELT(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """CDA from middling real samples, of which some are optimised long and some only a little."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="DELT: A Simple Diversity-driven EarlyLate Training for Dataset Distillation", paper="arXiv:2411.19946",
        year=2025, family="decoupled", training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "temperature": 20},
        use_when="Take it to save a good part of cda's work at many items a class, with sets that run from real to "
        "synthetic.",
        avoid_when="Avoid it at one item a class, where there is nothing to group, and for small pictures: below "
        "shrunk real ones here.",
        related=("cda", "sre2l++", "rded"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "iterations": 400, "round_iterations": 50},
        "good": {"teacher_epochs": 20, "iterations": 800, "round_iterations": 100},
    }

    iterations: int = 4000
    """K: steps per batch (scripts)."""
    round_iterations: int = 500
    """RI: steps between the starts of groups (scripts)."""
    lr: float = 0.25
    """Learning rate (scripts)."""
    r_bn: float = 0.01
    """Weight of the statistics (scripts)."""
    jitter: NonNegativeInt = 0
    """No roll of the batch."""
    curriculum: Curriculum = "cosine"
    """Decrease of the minimum crop, as in CDA."""
    composition: Composition = "classes"
    """A batch holds items in class order."""
    init_from: ImageInitName = "real"
    """Initial images; ``real``: samples around the median of the teacher's confidence."""

    @property
    def rounds(self) -> int:
        """R, at least 1."""
        return max(1, self.iterations // self.round_iterations)

    def build_engine(self, problem: Problem) -> Recovery:
        base = self.recovery(problem, self.labeller())
        return replace(
            base,
            initial_images=median_samples if self.init_from == "real" else base.initial_images,
            groups=Groups(count=self.rounds, every=self.round_iterations),
        )
