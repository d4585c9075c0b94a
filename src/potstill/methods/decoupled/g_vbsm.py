r"""G-VBSM: Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching (Shao et al.,
CVPR 2024, arXiv:2311.17950).

.. math::
    \min_X \; \ell(f_j(A(X)), y) + r \sum_l w_l R_l(A(X))
        + \nu \sum_c \mathrm{KL}(\mathrm{softmax}(\lambda_c / \tau) \,\Vert\, \mathrm{softmax}(\lambda_c))

f_j is one of several teachers, another in each step. The layers l are its BatchNorms, with SRe2L's R, and its
convolutions, whose R holds their inputs against the real samples': mean and variance of channels and of cells of 4×4
positions (16×16 for large pictures), four plain L2 norms. The first layer of all, mostly a convolution, counts tenfold;
a convolution is left out of a step with a probability. The batch's statistics are moving averages over the steps, with
the batch's gradient ("score distillation"). λ_c are the eigenvalues of the Gram matrix of class c in A(X) (data
densification); the tempered softmax is a target without a gradient.

There is a program for each size of data, and settings that are not given go by the size of those at hand: small
pictures are moved over a border, larger ones cropped. The moving averages begin at the first statistics (the released
code: at zero), the eigenvalues come from the symmetric solver, and convolutions' real statistics are those of the
samples as they are (there: moved and mirrored). The published committee has MobileNetV2, WRN-16-2 and ShuffleNet beside
ResNet-18 and a ConvNet: ours is of the networks that Potstill brings; ``torchvision:mobilenet_v2`` and the like can be
named.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem
from potstill.methods.decoupled._broad import Broadly
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught
from potstill.methods.decoupled._state import Composition
from potstill.methods.engine import AUTO, Auto, SettingsBySize

__all__ = ["GVBSM"]


@dataclass(frozen=True, kw_only=True)
class GVBSM(Broadly, Recovering, Taught, EngineMethod[RecoverState]):
    """Match BatchNorms and convolutions of several networks in turn, and spread each class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching",
        paper="arXiv:2311.17950",
        year=2024,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 1000, "batch": 100, "loss": "mse-gt"},
    )
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "committee": "", "iterations": 400},
        "good": {"epochs_trained": 10, "iterations": 400},
    }
    usual: ClassVar[tuple[str, ...]] = ("convnet-batch", "vgg11-batch", "alexnet-batch")
    published: ClassVar[SettingsBySize] = {
        (32, 100): {"lr": 0.05, "batch": 100, "cell": 4, "memory": 0.8, "drop": 0.4, "crop": 1.0, "pad": 4},
        (64, 200): {"lr": 0.05, "batch": 100, "cell": 4, "memory": 0.8, "drop": 0.4, "crop": 1.0, "pad": 8},
        (224, 1000): {"lr": 0.1, "batch": 80, "cell": 16, "memory": 0.4, "drop": 0.0, "crop": 0.08, "pad": 0},
    }
    """recover.sh and recover/data_synthesis_with_svd_with_db_with_all_statistic.py of Branch_CIFAR_10 (and _100, which
    is alike), Branch_Tiny_ImageNet and Branch_full_ImageNet_1k: lines 137-146, 125-134 and 134-143, and the options'
    defaults."""

    iterations: int = 4000
    """Steps of each batch (all scripts)."""
    lr: Auto[float] = AUTO
    """Learning rate, by the data's size: 0.05; 0.1 as for ImageNet-1K."""
    r_bn: float = 0.01
    """r: weight of all statistics (all scripts)."""
    densify: float = 1.0
    """ν: weight of data densification (--nuc-norm in all scripts)."""
    memory: Auto[float] = AUTO
    """What the averages over steps keep in each (--training-momentum), by the data's size: 0.8; 0.4 as for
    ImageNet-1K."""
    drop: Auto[float] = AUTO
    """The probability that a convolution is left out of a step (--drop-rate), by the data's size: 0.4; 0 as for
    ImageNet-1K."""
    batch: Auto[int] = AUTO
    """Items of a batch, by the data's size: 100; 80 as for ImageNet-1K."""
    crop: Auto[float] = AUTO
    """Least part of the area that a crop keeps, by the data's size: the whole; 0.08 as for ImageNet-1K."""
    pad: Auto[int] = AUTO
    """The batch is moved by up to so many pixels each way, by the data's size: 4 as for CIFAR, 8 as for Tiny-ImageNet,
    and larger pictures not."""
    jitter: int = 32
    """The batch is rolled by 0 … so many pixels along each side (--jitter in all scripts)."""
    composition: Composition = "classes"
    """A batch holds items in class order, so several of a class."""
    committee: Auto[str] = AUTO
    """Further teachers: their networks' names, with commas between; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that can take the data. Ours, see above."""
    epochs_trained: int = 50
    """Passes that each was trained for (CIFAR-100 there; 5 for CIFAR-10: weak teachers, on purpose)."""
    batch_trained: int = 64
    """Samples per step of that training (there)."""
    lr_trained: float = 0.05
    """Its learning rate (there; it stays constant there, without weight decay)."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.broadly(self.recovery(problem, self.labeller()), self.first_layer)
