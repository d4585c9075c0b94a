r"""G-VBSM: Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching (Shao et al.,
CVPR 2024, arXiv:2311.17950).

.. math::
    \min_X \; \ell(f_j(A(X)), y) + r \Big( \sum_l w_l R^{BN}_l + \sum_l w_l R^{conv}_l \Big)
        + \nu \sum_c \mathrm{KL}(\mathrm{softmax}(\lambda_c / \tau) \,\Vert\, \mathrm{softmax}(\lambda_c))

f_j is one of several teachers, another in each step. R^BN is SRe2L's; R^conv holds the input of every convolution
against the real samples': mean and variance of channels and of cells of 16×16 positions, four plain L2 norms. The
batch's statistics are moving averages over the steps, with the batch's gradient ("score distillation"). λ_c are the
eigenvalues of the Gram matrix of class c (data densification).

The moving averages begin at the first statistics (the released code: at zero), the eigenvalues come from the symmetric
solver. The published committee has MobileNetV2, WRN-16-2 and ShuffleNet beside ResNet-18 and a ConvNet: ours is of the
networks that Potstill brings; ``torchvision:mobilenet_v2`` and the like can be named.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo
from potstill.methods.decoupled._broad import BroadMatching
from potstill.methods.decoupled._state import Composition

__all__ = ["GVBSM"]


@dataclass(frozen=True, kw_only=True)
class GVBSM(BroadMatching):
    """Match BatchNorms and convolutions of several networks in turn, and spread each class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching",
        paper="arXiv:2311.17950",
        year=2024,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 1000, "batch": 100, "loss": "mse-gt"},
    )

    iterations: int = 4000
    """Steps of each batch (Branch_CIFAR_*/recover)."""
    lr: float = 0.05
    """Learning rate (there; 0.1 for ImageNet-1K)."""
    r_bn: float = 0.01
    """r: weight of all statistics (there)."""
    densify: float = 1.0
    """ν: weight of data densification (nuc_norm there)."""
    memory: float = 0.4
    """What the averages over steps keep in each."""
    composition: Composition = "classes"
    """A batch holds items in class order, so several of a class."""
    committee: str = "convnet-batch,vgg11-batch,alexnet-batch"
    """Further teachers: their networks' names, with commas between. Ours, see above."""
    epochs_trained: int = 50
    """Passes that each was trained for (CIFAR-100 there; 5 for CIFAR-10: weak teachers, on purpose)."""
    batch_trained: int = 64
    """Samples per step of that training (there)."""
    lr_trained: float = 0.05
    """Its learning rate (there, at a constant rate)."""
