r"""PAD: Prioritize Alignment in Dataset Distillation (Li et al., 2024): DATM with chosen samples and parameters.

.. math:: L = \sum_{i \in K} (\theta_{N,i} - \theta^*_i)^2 \Big/ \sum_{i \in K} (\theta_{0,i} - \theta^*_i)^2

Experts see easy samples first: the easiest 75 % of each class by GraNd's score, more until all at epoch 20, and without
the easiest from epoch 40 on. K leaves out a part of the parameters. The paper leaves out those of shallow layers; its
released program those whose squared differences from the target are smallest, which is what its figures were made with
and what is done here. (As released it stops at an argument that is never defined; ``loss_threshold_low`` is not ours.)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import AUTO, Auto, EngineMethod, Labels, MatchingEngine, MatchingState
from potstill.methods.trajectory._runs import PAD as RUNS
from potstill.methods.trajectory._values import GOOD, QUICK, Published, Started, TrajectoryValues, following

__all__ = ["PAD"]


@dataclass(frozen=True, kw_only=True)
class PAD(TrajectoryValues, EngineMethod[MatchingState]):
    """DATM with experts that see easy samples first, and without the parameters that are nearest already."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Prioritize Alignment in Dataset Distillation",
        paper="arXiv:2408.03360",
        year=2024,
        family="trajectory",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "expansion": 50, "start": "right", "label_experts": 0},
        "good": {**GOOD, "expansion": 300, "start": "right", "label_experts": 0},
    }  # fmt: skip
    published: ClassVar[Published] = RUNS

    iterations: int = 10_000
    """Steps (configs, Iteration)."""
    threshold: Auto[float] = AUTO
    """Steps with a larger loss are skipped (configs, threshold); 0: none."""
    drop: Auto[float] = AUTO
    """The part of the parameters, those nearest to the target, that the loss leaves out (configs, loss_ratio)."""
    labels: Labels = "learned"
    """Labels are learned."""
    label_experts: Auto[int] = AUTO
    """Experts whose mean logits they begin as; 0: for each sample, all that have it right."""
    start: Auto[Started] = AUTO
    """Start from samples that experts classify rightly, or from random real ones (configs, pix_init)."""
    flat: bool = True
    """Train experts towards flat minima (buffer_CL.py)."""
    curriculum: Literal["none", "pad"] = "pad"
    """Show experts easy samples first, and later leave the easiest out."""
    epochs_trained: int = 100
    """Epochs of each expert."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return following(self, problem)
