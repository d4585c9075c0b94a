r"""LoRS: Low-Rank Similarity Mining for multimodal dataset distillation (Xu et al., ICML 2024).

.. math:: S = \mathrm{diag}(a) + \tfrac{\alpha}{r}\, L R^\top, \qquad a = 1,\; L \sim \mathcal{N}(0, 1),\; R = 0
    \text{ at first}

It is VL-Distill whose students learn a similarity of all pictures and texts of a batch, which is optimised along with
the pairs: a picture may be right for several texts. Their loss is the binary cross-entropy on S in which entries above
and below 1/2 count equally (`potstill.tasks.similarity.weighted_bce`); experts learn by the contrastive loss, as
before. The set holds a row (a, l, r α / rank) for each pair, 1 + 2·rank numbers in place of a pair number, and every
student that is trained on it learns by the same loss. The gradient is TESLA's, as released (``mode``).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Presets, Problem, Task, UnitFloat
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._published import LORS as RUNS
from potstill.methods.trajectory._values import (
    GOOD,
    PAIRS,
    QUICK,
    PairFields,
    Published,
    TrajectoryFields,
    build_trajectory_engine,
)

__all__ = ["LoRS", "SimilarityRows"]


@final
@dataclass(frozen=True, kw_only=True)
class SimilarityRows:
    """Rows (a, l, r) of a learned similarity, as a `potstill.methods.engine.LearnedTargets`.

    Attributes:
        rank: columns of both factors.
        alpha: weight α of their product.
    """

    rank: int
    alpha: float

    def initial(self, y: Tensor, rng: Generator) -> Tensor:
        """Return the identity: ones, normal left factors, and right factors of 0."""
        rows = torch.zeros(len(y), 1 + 2 * self.rank)
        rows[:, 0] = 1
        rows[:, 1 : 1 + self.rank] = torch.randn(len(y), self.rank, generator=rng)
        return rows

    def export(self, rows: Tensor) -> Tensor:
        """Return the rows with α / rank in the right factor, as `potstill.tasks.Retrieval` takes them."""
        scale = rows.new_ones(rows.shape[1])
        scale[1 + self.rank :] = self.alpha / self.rank
        return rows * scale

    def loss(self, task: Task, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a student's outputs on rows."""
        return task.loss(output, self.export(y))


@dataclass(frozen=True, kw_only=True)
class LoRS(PairFields, TrajectoryFields, EngineMethod[MatchingState]):
    """Train both encoders along experts' trajectories, on a learned similarity of all pairs."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Low-Rank Similarity Mining for Multimodal Dataset Distillation", paper="arXiv:2406.03793", year=2024,
        family="trajectory", kinds=("pair",), multi_input=True, tasks=("retrieval",),
        training={"lr": 0.1, "epochs": 100},
        use_when="Take it for captioned pictures of which many are alike, so that a text is right for several.",
        avoid_when="Avoid it first: 100 pairs were below random ones here, and whoever trains on the set must know its "
        "loss.",
        related=("vl-distill", "mtt", "prototypes"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {**QUICK, **PAIRS, "rank": 10, "alpha": 3.0},
        "good": {**GOOD, **PAIRS, "rank": 10, "alpha": 3.0},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    iterations: int = 3000
    """Steps (distill_tesla_lors.py, --Iteration)."""
    rank: Auto[int] = AUTO
    """Rank of the learned part of the similarity (--sim_rank)."""
    alpha: Auto[float] = AUTO
    """Weight α of that part (--alpha)."""
    lr_labels: Auto[float] = AUTO
    """Learning rate of the similarity (--lr_sim)."""
    momentum_labels: UnitFloat = 0.5
    """Momentum of the similarity (--momentum_sim)."""
    mode: Literal["auto", "replay", "full", "by-memory", "tesla"] = "tesla"
    """Differentiation of the student's training; ``tesla`` is the released program's approximation."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        rows = SimilarityRows(rank=self.rank, alpha=self.alpha)
        parts = replace(
            self.pair_parts(self.init_from), criterion=partial(rows.loss, problem.task), learned_targets=rows
        )
        return build_trajectory_engine(self, problem, parts)
