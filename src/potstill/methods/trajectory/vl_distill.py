r"""VL-Distill: Vision-Language Dataset Distillation by bi-trajectory matching (Wu et al., TMLR 2024).

.. math:: L = \sum_{m \in \{\text{image}, \text{text}\}}
    \frac{\lVert \theta^m_N - \tau^m[t + M] \rVert^2}{\lVert \tau^m[t] - \tau^m[t + M] \rVert^2}, \qquad
    \theta^m_{i+1} = \theta^m_i - \beta_m \nabla_{\theta^m}\, \ell_{\text{NCE}}

It is MTT on pairs: experts and students are two encoders that learn by the symmetric contrastive loss, and the
distances of both encoders are added, each relative to its own expert's way (the paper's equation 2). Pictures and the
vectors of texts are optimised together, and so are the rates β of both encoders. Texts must be vectors of a frozen
encoder (``--representation latent``; the paper's is BERT): texts read as words stay the real ones, and pictures alone
are optimised.

Sets begin as random real pairs, as published, or in the presets as the real pairs nearest to k-means centres of both
views (``prototypes``).

The released distill.py multiplies cosines by log(1/0.07) ≈ 2.66 where its experts multiply by 1/0.07; here students
learn by the experts' loss. It draws the batch of each step by itself; here batches are those of random permutations.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._published import VL_DISTILL as RUNS
from potstill.methods.trajectory._values import (
    GOOD,
    PAIRS,
    QUICK,
    PairFields,
    Published,
    TrajectoryFields,
    build_trajectory_engine,
)

__all__ = ["VLDistill"]


@dataclass(frozen=True, kw_only=True)
class VLDistill(PairFields, TrajectoryFields, EngineMethod[MatchingState]):
    """Train the encoders of pictures and texts along experts' trajectories."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Vision-Language Dataset Distillation", paper="arXiv:2308.07545", year=2024, family="trajectory",
        kinds=("pair",), multi_input=True, tasks=("retrieval",), training={"lr": 0.1, "epochs": 50},
        use_when="Take it for captioned pictures, where few bytes are to train two encoders: it was above random pairs "
        "in equal bytes here.",
        avoid_when="Avoid it before prototypes, which were level with 100 pairs here, are real and take seconds.",
        related=("lors", "mtt", "prototypes"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {"quick": {**QUICK, **PAIRS}, "good": {**GOOD, **PAIRS}}
    published: ClassVar[Published] = RUNS

    iterations: int = 50_000
    """Steps (distill.py, --Iteration)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_trajectory_engine(self, problem, self.pair_parts(self.init_from))
