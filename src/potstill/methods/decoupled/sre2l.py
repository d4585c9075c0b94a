r"""SRe2L: Squeeze, Recover and Relabel (Yin et al., NeurIPS 2023, arXiv:2306.13092).

.. math::
    \min_X \; \ell(f_\theta(A(X)), y) + r \Big( 10\, R_0 + \sum_{l \ge 1} R_l \Big), \qquad
    R_l = \lVert \mu_l(A(X)) - \mathrm{BN}^\mu_l \rVert_2 + \lVert \sigma^2_l(A(X)) - \mathrm{BN}^{\sigma^2}_l \rVert_2

f is a network trained on the real data (squeeze), μ_l and σ²_l are the moments of the input of its BatchNorm l over
the batch, and BN_l its running ones; the norms are not squared (recover/utils.py). A batch holds one
picture of each class. Relabelling is published with a row for every epoch and crop of training: here a set holds one
row per picture.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo
from potstill.methods.decoupled._recover import Recover

__all__ = ["SRe2L"]


@dataclass(frozen=True, kw_only=True)
class SRe2L(Recover):
    """Pictures that a trained network classifies rightly and whose BatchNorm statistics are the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective",
        paper="arXiv:2306.13092",
        year=2023,
        family="decoupled",
        training={"optimizer": "sgd", "lr": 0.2, "epochs": 100, "temperature": 20},
    )

    iterations: int = 1000
    """Steps of each batch (recover_cifar.sh; 4,000 for Tiny-ImageNet and ImageNet-1K)."""
    lr: float = 0.25
    """Learning rate of Adam with β 0.5 and 0.9, along half a cosine to zero (recover_cifar.sh)."""
    r_bn: float = 0.01
    """r: weight of the statistics (recover_cifar.sh; 1 for Tiny-ImageNet)."""
    crop: float = 1.0
    """Least part of the area that a crop keeps: the whole (recover_cifar.sh; 0.08 for larger pictures)."""
