r"""DREAM: Efficient Dataset Distillation by Representative Matching (Liu et al., ICCV 2023, arXiv:2302.14416).

IDC's objective on other real samples: those that lie nearest to the centres of a k-means clustering of their class, in
the features of the present network, chosen anew every few updates. The set also starts from such samples, in the
features of the first network. The point is fewer updates for the same accuracy; everything else is IDC's.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState
from potstill.methods.gradient._gradients import Sampler
from potstill.methods.gradient._values import RealValues, build_real_engine

__all__ = ["DREAM"]


@dataclass(frozen=True, kw_only=True)
class DREAM(RealValues, EngineMethod[MatchingState]):
    """IDC on representative real samples."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="DREAM: Efficient Dataset Distillation by Representative Matching", paper="arXiv:2302.14416", year=2023,
        family="gradient", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it in place of idc where steps are dear: matching on cluster centres needs fewer of them.",
        avoid_when="Avoid it for classes too large to embed and cluster again and again, and for a minute's run, "
        "which makes a handful of steps.",
        related=("idc", "k-means", "dc"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 5, "outer": 20, "batch_real": 32, "data_train": 256},
        "good": {"iterations": 40, "outer": 20, "batch_real": 64, "data_train": 500},
    }

    batch_real: int = 128
    """Real samples per class and update: one for each cluster (argument.py, --batch_real)."""
    sampler: Sampler = "k-means"
    """Samples nearest to k-means centres of their features (new_strategy.py, section 3.2 of the paper)."""
    interval: int = 10
    """Updates that one choice serves (argument.py, --interval)."""
    batch_train: int = 128
    """Batch of the network's training (condense.py: that of the real samples, --batch_real)."""
    init_from: Init = "k-means"
    """Start from such samples of the first network (condense.py, --f2_init kmean; section 3.3 of the paper)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_real_engine(self, problem)
