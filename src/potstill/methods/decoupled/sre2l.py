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

SRe2L++, the baseline of Cui et al., CV-DD, arXiv:2501.07575, starts from real mosaics as RDED makes them, of crops in
the middle of the teacher's ranking. Its labels are published with the batch statistics of crops: see
`potstill.methods.decoupled.cv_dd`, and a protocol's ``teacher_statistics="batch"``.
"""

from dataclasses import dataclass
from typing import ClassVar

from potstill.core import MethodInfo, NonNegativeInt, Problem, UnitFloat
from potstill.methods.decoupled._parts import ImageInitName
from potstill.methods.decoupled._realism import Rank
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import AUTO, Auto, EngineMethod, SettingsBySize

__all__ = ["SRe2L", "SRe2LPlus"]


@dataclass(frozen=True, kw_only=True)
class SRe2L(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """Pictures that a trained network classifies rightly and whose BatchNorm statistics are the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective",
        paper="arXiv:2306.13092", year=2023, family="decoupled",
        training={"optimizer": "sgd", "lr": 0.2, "epochs": 100, "temperature": 20},
        class_independence="deletion",
        use_when="Take it as the baseline of the decoupled methods: large pictures, many a class, and a teacher that "
        "labels every view.",
        avoid_when="Avoid it for small pictures and few items: here it was below random samples with the same "
        "labels.",
        related=("sre2l++", "cda", "rded"),
    )  # fmt: skip

    published: ClassVar[SettingsBySize] = {
        (32, 100): {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "crop": 1.0, "flip": False, "jitter": 4},
        (64, 200): {"iterations": 4000, "lr": 0.1, "r_bn": 1.0, "crop": 0.08, "flip": True, "jitter": 4},
        (224, 1000): {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "crop": 0.08, "flip": True, "jitter": 32},
    }
    """recover_cifar.sh, recover_tiny.sh and recover/recover.sh, with what recover_cifar.py:79-81, recover_tiny.py:50-58
    and recover/data_synthesis.py:59-64 do."""

    iterations: Auto[int] = AUTO
    """Steps per batch, by data size: 1,000 as for CIFAR, 4,000 for larger images."""
    lr: Auto[float] = AUTO
    """Learning rate of Adam with β 0.5 and 0.9, along half a cosine to zero, by data size: 0.25; 0.1 as for
    Tiny-ImageNet."""
    r_bn: Auto[float] = AUTO
    """r: weight of the statistics, by data size: 0.01; 1 as for Tiny-ImageNet."""
    crop: Auto[UnitFloat] = AUTO
    """Minimum area of a crop, by data size: 1 as for CIFAR, 0.08 for larger ones."""
    flip: Auto[bool] = AUTO
    """Flip the batch in half of the iterations, by data size: not for images as small as CIFAR's, and never for
    digits."""
    jitter: Auto[NonNegativeInt] = AUTO
    """Maximum roll of the batch in pixels along each side, by data size: 4; 32 as for ImageNet-1K."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.recovery(problem, self.labeller())


@dataclass(frozen=True, kw_only=True)
class SRe2LPlus(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L that begins with mosaics of real crops."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="SRe2L++, of Dataset Distillation via Committee Voting", paper="arXiv:2501.07575", year=2025,
        family="decoupled", training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 16, "temperature": 20},
        use_when="Take it in place of sre2l at any size: starting from real crops costs nothing and was better in "
        "every table.",
        avoid_when="Avoid it where students have no BatchNorm, and below ten small pictures a class: shrunk real "
        "pictures were better here.",
        related=("sre2l", "fadrm", "cv-dd"),
    )  # fmt: skip

    iterations: int = 4000
    """Steps per batch (recover.py of CV-DD)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 0.01
    """Weight of the statistics (there)."""
    init_from: ImageInitName = "mosaic"
    """Initial images: mosaics."""
    init_rank: Rank = "medium"
    """Crops of mosaics: from the middle of the ranking (there)."""

    def build_engine(self, problem: Problem) -> Recovery:
        return self.recovery(problem, self.labeller())
