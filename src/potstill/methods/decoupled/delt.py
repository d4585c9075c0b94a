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
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Presets, Problem
from potstill.data.iterate import map_samples
from potstill.functional.crops import Curriculum
from potstill.methods.decoupled._parts import Groups
from potstill.methods.decoupled._realism import score
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught
from potstill.methods.decoupled._state import Composition
from potstill.methods.decoupled._teachers import Member
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import check_class_sizes

__all__ = ["DELT", "middling", "outward"]


def outward(scores: Tensor) -> Tensor:
    """Positions of ``scores`` (n,) from their median outward: in turn above and below it."""
    order = scores.argsort(stable=True)
    away = (torch.arange(len(order), device=order.device) - (len(order) - 1) / 2).abs()
    return order[away.argsort(stable=True)]


def middling(problem: Problem, members: Sequence[Member], rng: Generator) -> Tensor:
    """Of each class the samples around the median of the teachers' confidence; where there are too few, again."""
    check_class_sizes(problem)
    kept = []
    for c, (index, n) in enumerate(zip(problem.class_indices, problem.sizes, strict=True)):
        scores = map_samples(problem.train, index, 1024, lambda batch, c=c: score(members, require_tensor(batch.x), c))  # type: ignore[misc]
        kept.append(index[outward(scores).cpu()[torch.arange(n) % len(index)]])
    return require_tensor(problem.train.fetch(torch.cat(kept)).x)


@dataclass(frozen=True, kw_only=True)
class DELT(Recovering, Taught, EngineMethod[RecoverState]):
    """CDA from middling real samples, of which some are optimised long and some only a little."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="DELT: A Simple Diversity-driven EarlyLate Training for Dataset Distillation",
        paper="arXiv:2411.19946",
        year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "temperature": 20},
    )
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "iterations": 400, "round_iterations": 50},
        "good": {"epochs_trained": 20, "iterations": 800, "round_iterations": 100},
    }

    iterations: int = 4000
    """K: steps of each batch (scripts)."""
    round_iterations: int = 500
    """RI: steps after which the next group begins (scripts)."""
    lr: float = 0.25
    """Learning rate (scripts)."""
    r_bn: float = 0.01
    """Weight of the statistics (scripts)."""
    jitter: int = 0
    """The batch is not rolled."""
    curriculum: Curriculum = "cosine"
    """How the least crop falls: as with CDA."""
    composition: Composition = "classes"
    """A batch holds items in class order."""
    init_from: Literal["noise", "real", "mosaic"] = "real"
    """``real``: those around the median of the teacher's confidence."""

    @property
    def rounds(self) -> int:
        """R, at least 1."""
        return max(1, self.iterations // self.round_iterations)

    def build_engine(self, problem: Problem) -> Recovery:
        usual = self.recovery(problem, self.labeller())
        return replace(
            usual,
            begin=middling if self.init_from == "real" else usual.begin,
            groups=Groups(count=self.rounds, every=self.round_iterations),
        )
