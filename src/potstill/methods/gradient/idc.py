r"""IDC: Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., ICML 2022, arXiv:2205.14959).

.. math::
    \min_S \sum_c D\big(\nabla_\theta \ell(A_\omega(f(S_c)), c),\, \nabla_\theta \ell(A_\omega(T_c), c)\big)

f cuts every stored picture into factor × factor parts and enlarges each (the parametrization ``tiles``). D is taken
over the convolutions' weights alone; the network trains on real samples between the updates, with CutMix and with the
augmentation without its cutout.
Settings depend on the data in the release (misc/reproduce.py): the defaults are those of CIFAR-10 and SVHN; for MNIST
and Fashion-MNIST it uses ``metric="l1", lr=1e-4, data_train=500`` (MNIST also ``lr_side=28``, no cutout and no CutMix).
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.gradient._values import RealValues, build_real_engine

__all__ = ["IDC"]


@dataclass(frozen=True, kw_only=True)
class IDC(RealValues, EngineMethod[MatchingState]):
    """Match gradients of networks in training, on inputs decoded from a fraction of their size."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Condensation via Efficient Synthetic-Data Parameterization", paper="arXiv:2205.14959", year=2022,
        family="gradient", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it for pictures of 32 pixels and more with hours of a GPU: four inputs from the bytes of one "
        "was published well ahead of dsa.",
        avoid_when="Avoid it for pictures of few pixels, where a quarter of each is too coarse, and for minutes: "
        "each step differentiates a gradient.",
        related=("dream", "dsa", "dance"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 5, "outer": 20, "batch_real": 32, "data_train": 256},
        "good": {"iterations": 40, "outer": 20, "batch_real": 64, "data_train": 500},
    }

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_real_engine(self, problem)
