r"""DATM: Difficulty-Aligned Trajectory Matching (Guo et al., ICLR 2024): later trajectories for larger sets.

.. math:: t \sim U\{t_{\min}, \dots, u_k - 1\}, \qquad u_k = u_0 + (u_{\text{end}} - u_0)\, k / K, \qquad
    y = \mathrm{softmax}\Big(\tfrac{1}{|E_x|} \sum_{e \in E_x} f_e(x)\Big) \text{ at first, then learned}

A student's stretch begins at an epoch from a range that depends on the size of the set and whose end grows over K
steps. Sets begin as real samples that experts classify rightly, with labels from E_x, the experts that do (from all,
where none does: there the released program divides 0 by 0); at 50 per class of CIFAR-100 they begin as random real
ones, with the labels of one expert. A step whose loss is above a threshold is skipped. Experts
are FTD's, of 100 epochs. Data are whitened (``--zca mtt``).
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import AUTO, Auto, EngineMethod, Labels, MatchingEngine, MatchingState
from potstill.methods.trajectory._runs import DATM as RUNS
from potstill.methods.trajectory._values import GOOD, QUICK, Published, Started, TrajectoryValues, following

__all__ = ["DATM", "RUNS"]


@dataclass(frozen=True, kw_only=True)
class DATM(TrajectoryValues, EngineMethod[MatchingState]):
    """Walk students along stretches that are as hard as the set is large, with learned labels."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
        paper="arXiv:2310.05773",
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
    labels: Labels = "learned"
    """Labels are learned."""
    label_experts: Auto[int] = AUTO
    """Experts whose mean logits they begin as; 0: for each sample, all that have it right."""
    start: Auto[Started] = AUTO
    """Start from samples that experts classify rightly, or from random real ones (configs, pix_init)."""
    flat: bool = True
    """Train experts towards flat minima (buffer_FTD.py)."""
    epochs_trained: int = 100
    """Epochs of each expert."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return following(self, problem)
