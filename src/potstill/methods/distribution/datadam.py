r"""DataDAM: Dataset Distillation with Attention Matching (Sajedi et al., ICCV 2023, arXiv:2310.00093), section 3.

.. math::
    L = \gamma \Big( \sum_c \sum_{l < L} \big\lVert E_{T_c}[z^l] - E_{S_c}[z^l] \big\rVert^2
        + \lambda \sum_c \big\lVert E_{T_c}[f^L] - E_{S_c}[f^L] \big\rVert^2 \Big), \qquad
    z^l = \frac{\mathrm{vec}\, \sum_i |f^l_i|^p}{\lVert \mathrm{vec}\, \sum_i |f^l_i|^p \rVert_2}

f^l is the activation of layer l under a fresh network, the last one its embedding. The released code departs from the
paper: p = 1 in place of 4, 20,000 iterations in place of 8,000, and a ConvNet with batch norm whatever is asked for
(``--network convnet-batch`` here); its factor γ = 100 stands in no equation. Fields are the paper's but for γ.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.functional.distribution import attention, mean_gap
from potstill.methods.distribution._statistics import DistributionObjective, Memory, Statistics, Views
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState

__all__ = ["DataDAM"]


@dataclass(frozen=True, kw_only=True)
class DataDAM(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match spatial attention of the inner layers and the mean embedding."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="DataDAM: Efficient Dataset Distillation with Attention Matching", paper="arXiv:2310.00093", year=2023,
        family="distribution", kinds=("image",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1800},
        class_independence="separate",
        use_when="Take it for pictures whose inner layers should agree as well, with a ConvNet and more time than dm "
        "needs.",
        avoid_when="Avoid it for other data than pictures and in short runs: attention costs time, and it was below "
        "dm here.",
        related=("dm", "cafe", "m3d"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 300, "steps_per_network": 8},
        "good": {"iterations": 3_000, "steps_per_network": 8},
    }

    iterations: int = 8000
    """Steps of the synthetic data (section 4.1 of the paper; the code's default is 20,000)."""
    lr: float = 1.0
    """Learning rate of the synthetic data; the paper uses 10 above 50 items per class (section 4.1)."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic data (main_DataDAM.py)."""
    power: float = 4.0
    """p of the attention (section 4.1; the released code has 1)."""
    task_balance: float = 0.01
    """λ of the embedding's term; 0.02 for larger pictures (main_DataDAM.py, --task_balance)."""
    scale: float = 100.0
    """γ, a factor of the whole loss (main_DataDAM.py)."""
    batch_real: int = 64
    """Real samples per class and step (main_DataDAM.py, --batch_real)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        measure = DistributionObjective(
            statistics=self.statistics, gap=self.gap, needs_layers=True, joint_batch_norm=True
        )
        return feature_matching(self, measure)

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        # the attention of the last inner layer is left out: its place is taken by the embedding
        z = {f"z{n}": real.means(attention(f, self.power), f"z{n}") for n, f in enumerate(real.layers[:-1])}
        return {**z, "f": real.means(real.features, "f")}

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        L_om = mean_gap(real["f"], syn.means(syn.features))
        loss = self.task_balance * L_om
        for n, f in enumerate(syn.layers[:-1]):
            loss = loss + mean_gap(real[f"z{n}"], syn.means(attention(f, self.power)))
        return self.scale * loss
