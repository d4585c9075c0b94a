r"""DM: Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023, arXiv:2110.04181), equation 4.

.. math::
    \min_S \; E_{\vartheta \sim P_\vartheta,\, \omega \sim \Omega}
    \sum_c \Big\lVert \tfrac{1}{|B_c^T|} \sum_{x \in B_c^T} \psi_\vartheta(A_\omega(x))
                    - \tfrac{1}{|B_c^S|} \sum_{s \in B_c^S} \psi_\vartheta(A_\omega(s)) \Big\rVert^2

ψ is the embedding of a fresh network, ω one siamese augmentation per class, shared by real T and synthetic samples S.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.methods.distribution._statistics import MEANS
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState

__all__ = ["DM"]


@dataclass(frozen=True, kw_only=True)
class DM(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match the mean embedding of every class under random networks."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dataset Condensation with Distribution Matching", paper="arXiv:2110.04181", year=2023,
        family="distribution", kinds=("*",), multi_input=True, tasks=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        class_independence="separate",
        use_when="Take it first among the methods that make new samples: minutes are enough, every kind of data "
        "works, and nothing is trained.",
        avoid_when="Avoid it where true bytes are many: real samples in few bits were level; for the smallest sets "
        "frepo did better.",
        related=("m3d", "ncfm", "k-means"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 600, "steps_per_network": 8},
        "good": {"iterations": 10_000, "steps_per_network": 8},
    }

    iterations: int = 20_000
    """Steps of the synthetic data (main_DM.py, --Iteration)."""
    lr: float = 1.0
    """Learning rate of the synthetic data; the paper uses 10 from 100 items per class (main_DM.py, --lr_img)."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic data (main_DM.py)."""
    batch_real: int = 256
    """Real samples per class and step (main_DM.py, --batch_real)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return feature_matching(self, MEANS)
