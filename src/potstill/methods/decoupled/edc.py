r"""EDC: Elucidating the Design Space of Dataset Condensation (Shao et al., NeurIPS 2024, arXiv:2404.13733).

.. math::
    \min_X \; \ell(f_j(A(X)), y) + r \sum_l w_l \Big( (1 - a) \lVert s_l(T) - \bar s_l(X) \rVert_2
        + a\, \lVert \tfrac{1}{|B|} \sum_{i \in B} s_l(T_{y_i}) - \bar s_l(X) \rVert_2 \Big)

G-VBSM from real pictures: s are its statistics of BatchNorms and convolutions, \bar s moving averages over steps, held
against those of all real samples T and of the classes that the batch is of ("category-aware" matching). Means are held
against means and variances against variances; the released code swaps the classes' two when it reads them back. A
class's variance is that of all its samples together; there it is the mean of the variances within each picture.
Pictures begin as random real ones, mirrored in half of the cases, or, where they are large, as mosaics whose quarters
change places ("real image initialisation"). The flatness term is off in every published script and is left out.

Teachers are trained as SRe2L's; there as G-VBSM's.

Settings are published for five data sets; defaults are those of the nearest in image size, then in classes: ten classes
of small images take 75 steps, a hundred take 2,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem, UnitFloat
from potstill.methods.decoupled._averaged import AveragedMatching
from potstill.methods.decoupled._parts import ImageInitName, InitialImages
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import Composition, RecoverState
from potstill.methods.decoupled._teachers import TeacherConfig, TeacherNetwork
from potstill.methods.engine import AUTO, Auto, EngineMethod, Settings, SettingsBySize

__all__ = ["EDC", "shuffle_quarters"]

_SMALL: Settings = {
    "init_from": "real",
    "factor": 1,
    "shuffle": False,
    "cell_size": 4,
    "ema_decay": 0.8,
    "r_bn": 0.01,
    "batch": 100,
}
_LARGE: Settings = {"init_from": "mosaic", "factor": 2, "shuffle": True, "cell_size": 16, "crop": 0.5}


def shuffle_quarters(x: Tensor, rng: Generator) -> Tensor:
    """Shuffle the 2 × 2 parts of every image (n, c, h, w); the last row or column of odd sides stays."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    parts = torch.stack([x[:, :, i : i + h, j : j + w] for i in (0, h) for j in (0, w)], 1)
    order = torch.rand(len(x), 4, generator=rng).argsort(1).to(x.device)
    parts = parts[torch.arange(len(x), device=x.device)[:, None], order]
    result = x.clone()
    for n, (i, j) in enumerate((i, j) for i in (0, h) for j in (0, w)):
        result[:, :, i : i + h, j : j + w] = parts[:, n]
    return result


@dataclass(frozen=True, kw_only=True)
class EDC(AveragedMatching, RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """G-VBSM from real pictures, with the statistics of classes as well."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Elucidating the Design Space of Dataset Condensation", paper="arXiv:2404.13733", year=2024,
        family="decoupled", training={"optimizer": "sgd", "lr": 0.1, "epochs": 1000, "batch": 50, "loss": "mse-gt"},
        use_when="Take it for large pictures of many classes with a committee of teachers: it published strong "
        "results on ImageNet-1K.",
        avoid_when="Avoid it where statistics of every class are too many to keep, and for small pictures: its mean "
        "was below that of shrunk real ones.",
        related=("g-vbsm", "sre2l++", "fadrm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "committee": "", "iterations": 75},
        "good": {"teacher_epochs": 10, "iterations": 75},
    }
    default_committee: ClassVar[tuple[str, ...]] = ("convnet-batch", "vgg11-batch", "alexnet-batch")
    published: ClassVar[SettingsBySize] = {
        (32, 10): {**_SMALL, "iterations": 75, "crop": 0.08},
        (32, 100): {**_SMALL, "iterations": 2000, "crop": 0.5},
        (64, 200): {**_SMALL, "iterations": 2000, "crop": 0.5},
        (224, 10): {**_LARGE, "iterations": 50, "ema_decay": 0.0, "r_bn": 0.01, "batch": 100},
        (224, 1000): {**_LARGE, "iterations": 1000, "ema_decay": 0.8, "r_bn": 0.1, "batch": 80},
    }
    """recover.sh and recover/recover.py of Branch_CIFAR_10 (line 238: crops of 8 % and more), Branch_CIFAR_100 (198),
    Branch_Tiny_ImageNet (185), Branch_ImageNet_10 (106-113, 207) and Branch_full_ImageNet_1k (109-115, 210)."""

    iterations: Auto[int] = AUTO
    """Steps per batch, by data size and classes: 75 as for CIFAR-10 (published for one item per class), 2,000
    as for CIFAR-100 and Tiny-ImageNet, 50 as for ten classes of ImageNet, 1,000 as for ImageNet-1K."""
    lr: float = 0.05
    """Learning rate (all scripts)."""
    r_bn: Auto[float] = AUTO
    """r: weight of all statistics, by data size and classes: 0.01; 0.1 as for ImageNet-1K."""
    ema_decay: Auto[UnitFloat] = AUTO
    """Decay of the moving averages over steps, by data size and classes: 0.8; 0 as for ten classes of
    ImageNet."""
    category: UnitFloat = 0.5
    """a: the part of the classes' statistics (recover/utils.py)."""
    batch: Auto[int] = AUTO
    """Items of a batch, by data size and classes: 100; 80 as for ImageNet-1K."""
    crop: Auto[UnitFloat] = AUTO
    """Minimum area of a crop, by data size and classes: 0.5; 0.08 as for CIFAR-10."""
    jitter: NonNegativeInt = 0
    """No roll of the batch."""
    init_from: Auto[ImageInitName] = AUTO
    """Initial images by data size: random real samples, or with mosaics as for ImageNet."""
    factor: Auto[int] = AUTO
    """Crops along a side of a mosaic, by data size: 1; 2 as for ImageNet."""
    shuffle: Auto[bool] = AUTO
    """Shuffle the quarters of the initial images, by data size: only for ImageNet's sizes."""
    composition: Composition = "classes"
    """A batch holds items in class order."""
    committee: Auto[str] = AUTO
    """Further teachers: network names separated by commas; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that take the data. Ours; published are two to seven others beside."""

    def build_engine(self, problem: Problem) -> Recovery:
        base = self.recovery(problem, self.labeller())
        images = base.initial_images
        if self.init_from != "noise":
            images = partial(_flip_half, images, self.shuffle)
        return replace(self.averaged_recovery(base, self.first_layer, self.category), initial_images=images)


def _flip_half(
    images: InitialImages, shuffle: bool, problem: Problem, members: Sequence[TeacherNetwork], rng: Generator
) -> Tensor:
    """Return initial images of which half are flipped, with shuffled quarters if ``shuffle``."""
    x = images(problem, members, rng)
    x = shuffle_quarters(x, rng) if shuffle else x
    flip = torch.rand(len(x), 1, 1, 1, generator=rng).to(x.device) < 0.5
    return torch.where(flip, x.flip(3), x) if problem.train.input.horizontal_flip else x
