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

Settings are published by data size (small images are shifted, larger ones cropped). The moving averages start at the
first statistics (the released code: at zero), the eigenvalues come from the symmetric solver, and convolutions' real
statistics are those of unaugmented samples (there: shifted and flipped). The published committee has MobileNetV2,
WRN-16-2 and ShuffleNet besides ResNet-18 and a ConvNet: ours has Potstill's networks; ``torchvision:mobilenet_v2`` etc.
can be named.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem, UnitFloat
from potstill.methods.decoupled._averaged import AveragedMatching
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import Composition, RecoverState
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import AUTO, Auto, EngineMethod, SettingsBySize

__all__ = ["GVBSM"]


@dataclass(frozen=True, kw_only=True)
class GVBSM(AveragedMatching, RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """Match BatchNorms and convolutions of several networks in turn, and spread each class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching",
        paper="arXiv:2311.17950", year=2024, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 1000, "batch": 100, "loss": "mse-gt"},
        use_when="Take it to study matching of convolutions in several networks, or teachers that have no BatchNorm.",
        avoid_when="Avoid it elsewhere: it was published as the slowest of the family, edc follows it, and it was "
        "below random samples here.",
        related=("edc", "cv-dd", "sre2l"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "committee": "", "iterations": 400},
        "good": {"teacher_epochs": 10, "iterations": 400},
    }
    default_committee: ClassVar[tuple[str, ...]] = ("convnet-batch", "vgg11-batch", "alexnet-batch")
    published: ClassVar[SettingsBySize] = {
        (32, 100): {
            "lr": 0.05,
            "batch": 100,
            "cell_size": 4,
            "ema_decay": 0.8,
            "drop_rate": 0.4,
            "crop": 1.0,
            "pad": 4,
        },
        (64, 200): {
            "lr": 0.05,
            "batch": 100,
            "cell_size": 4,
            "ema_decay": 0.8,
            "drop_rate": 0.4,
            "crop": 1.0,
            "pad": 8,
        },
        (224, 1000): {
            "lr": 0.1,
            "batch": 80,
            "cell_size": 16,
            "ema_decay": 0.4,
            "drop_rate": 0.0,
            "crop": 0.08,
            "pad": 0,
        },
    }
    """recover.sh and recover/data_synthesis_with_svd_with_db_with_all_statistic.py of Branch_CIFAR_10 (and _100, which
    is alike), Branch_Tiny_ImageNet and Branch_full_ImageNet_1k: lines 137-146, 125-134 and 134-143, and the options'
    defaults."""

    iterations: int = 4000
    """Steps per batch (all scripts)."""
    lr: Auto[float] = AUTO
    """Learning rate, by data size: 0.05; 0.1 as for ImageNet-1K."""
    r_bn: float = 0.01
    """r: weight of all statistics (all scripts)."""
    densify: float = 1.0
    """ν: weight of data densification (--nuc-norm in all scripts)."""
    ema_decay: Auto[UnitFloat] = AUTO
    """Decay of the moving averages over steps (--training-momentum), by data size: 0.8; 0.4 as for
    ImageNet-1K."""
    drop_rate: Auto[UnitFloat] = AUTO
    """Probability that a convolution is dropped in a step (--drop-rate), by data size: 0.4; 0 as for
    ImageNet-1K."""
    batch: Auto[int] = AUTO
    """Items of a batch, by data size: 100; 80 as for ImageNet-1K."""
    crop: Auto[UnitFloat] = AUTO
    """Minimum area of a crop, by data size: the whole; 0.08 as for ImageNet-1K."""
    pad: Auto[NonNegativeInt] = AUTO
    """Maximum shift of the batch in pixels, by data size: 4 as for CIFAR, 8 as for Tiny-ImageNet, else 0."""
    jitter: NonNegativeInt = 32
    """Maximum roll of the batch in pixels along each side (--jitter in all scripts)."""
    composition: Composition = "classes"
    """A batch holds items in class order, so several of a class."""
    committee: Auto[str] = AUTO
    """Further teachers: network names separated by commas; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that take the data. Ours, see above."""
    teacher_epochs: NonNegativeInt = 50
    """Training epochs of each teacher (CIFAR-100 there; 5 for CIFAR-10: weak teachers, on purpose)."""
    teacher_batch: int = 64
    """Samples per step of that training (there)."""
    teacher_lr: float = 0.05
    """Learning rate of that training (there; it stays constant there, without weight decay)."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.averaged_recovery(self.recovery(problem, self.labeller()), self.first_layer)
