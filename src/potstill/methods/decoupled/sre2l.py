r"""SRe2L: Squeeze, Recover and Relabel (Yin et al., NeurIPS 2023, arXiv:2306.13092).

.. math::
    \min_X \; \ell(f_\theta(A(X)), y) + r \Big( 10\, R_0 + \sum_{l \ge 1} R_l \Big), \qquad
    R_l = \lVert \mu_l(A(X)) - \mathrm{BN}^\mu_l \rVert_2 + \lVert \sigma^2_l(A(X)) - \mathrm{BN}^{\sigma^2}_l \rVert_2

f is a network trained on the real data (squeeze), μ_l and σ²_l are the moments of the input of its BatchNorm l over
the batch, and BN_l its running ones; the norms are not squared (recover/utils.py). A batch holds one
picture of each class. Relabelling is published with a row for every epoch and crop of training: here a set holds one
row per picture.

There is a program for each size of data: that of CIFAR rolls the batch and neither crops nor mirrors it; those of
Tiny-ImageNet and ImageNet-1K crop and mirror it as well. Its settings go by the size of the data at hand, where they
are not given. (Tiny-ImageNet's rolls go both ways there, here from 0 on.)
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught
from potstill.methods.engine import AUTO, Auto, SettingsBySize

__all__ = ["SRe2L"]


@dataclass(frozen=True, kw_only=True)
class SRe2L(Recovering, Taught, EngineMethod[RecoverState]):
    """Pictures that a trained network classifies rightly and whose BatchNorm statistics are the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective",
        paper="arXiv:2306.13092",
        year=2023,
        family="decoupled",
        training={"optimizer": "sgd", "lr": 0.2, "epochs": 100, "temperature": 20},
    )
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "iterations": 400},
        "good": {"epochs_trained": 20, "iterations": 500},
    }

    published: ClassVar[SettingsBySize] = {
        (32, 100): {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "crop": 1.0, "flip": False, "jitter": 4},
        (64, 200): {"iterations": 4000, "lr": 0.1, "r_bn": 1.0, "crop": 0.08, "flip": True, "jitter": 4},
        (224, 1000): {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "crop": 0.08, "flip": True, "jitter": 32},
    }
    """recover_cifar.sh, recover_tiny.sh and recover/recover.sh, with what recover_cifar.py:79-81, recover_tiny.py:50-58
    and recover/data_synthesis.py:59-64 do."""

    iterations: Auto[int] = AUTO
    """Steps of each batch, by the data's size: 1,000 as for CIFAR, 4,000 for larger pictures."""
    lr: Auto[float] = AUTO
    """Learning rate of Adam with β 0.5 and 0.9, along half a cosine to zero, by the data's size: 0.25; 0.1 as for
    Tiny-ImageNet."""
    r_bn: Auto[float] = AUTO
    """r: weight of the statistics, by the data's size: 0.01; 1 as for Tiny-ImageNet."""
    crop: Auto[float] = AUTO
    """Least part of the area that a crop keeps, by the data's size: the whole as for CIFAR, 0.08 for larger ones."""
    flip: Auto[bool] = AUTO
    """Mirror the batch in half of the iterations, by the data's size: not pictures as small as CIFAR's. Never where the
    source shows digits."""
    jitter: Auto[int] = AUTO
    """The batch is rolled by 0 … so many pixels along each side, by the data's size: 4; 32 as for ImageNet-1K."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.recovery(problem, self.labeller())
