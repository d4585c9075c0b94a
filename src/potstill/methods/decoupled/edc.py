r"""EDC: Elucidating the Design Space of Dataset Condensation (Shao et al., NeurIPS 2024, arXiv:2404.13733).

.. math::
    \min_X \; \ell(f_j(A(X)), y) + r \sum_l w_l \Big( (1 - a) \lVert s_l(T) - \bar s_l(X) \rVert_2
        + a\, \lVert \tfrac{1}{|B|} \sum_{i \in B} s_l(T_{y_i}) - \bar s_l(X) \rVert_2 \Big)

G-VBSM from real pictures: s are its statistics of BatchNorms and convolutions, \bar s moving averages over steps, held
against those of all real samples T and of the classes that the batch is of ("category-aware" matching). Means are held
against means and variances against variances; the released code swaps the classes' two when it reads them back.
Pictures begin as random real ones whose quarters change places, mirrored in half of the cases ("real image
initialisation"). The flatness term is off in every published script and is left out.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.augment.named import FLIPLESS
from potstill.core import MethodInfo, Problem
from potstill.functional.statistics import Seen
from potstill.methods.decoupled._broad import BroadMatching
from potstill.methods.decoupled._state import Composition, RecoverState, rows_of
from potstill.methods.decoupled._teachers import Member

__all__ = ["EDC", "shuffled"]


def shuffled(x: Tensor, rng: Generator) -> Tensor:
    """Every picture (n, c, h, w) with its 2 × 2 parts in another order; of odd sides the last row or column stays."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    parts = torch.stack([x[:, :, i : i + h, j : j + w] for i in (0, h) for j in (0, w)], 1)
    order = torch.rand(len(x), 4, generator=rng).argsort(1).to(x.device)
    parts = parts[torch.arange(len(x), device=x.device)[:, None], order]
    made = x.clone()
    for n, (i, j) in enumerate((i, j) for i in (0, h) for j in (0, w)):
        made[:, :, i : i + h, j : j + w] = parts[:, n]
    return made


@dataclass(frozen=True, kw_only=True)
class EDC(BroadMatching):
    """G-VBSM from real pictures, with the statistics of classes as well."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Elucidating the Design Space of Dataset Condensation",
        paper="arXiv:2404.13733",
        year=2024,
        family="decoupled",
        training={"optimizer": "sgd", "lr": 0.1, "epochs": 1000, "batch": 50, "loss": "mse-gt"},
    )
    fractions: ClassVar[tuple[str, ...]] = (*BroadMatching.fractions, "category")

    iterations: int = 2000
    """Steps of each batch (CIFAR-100 and Tiny-ImageNet; 75 for CIFAR-10, 1,000 for ImageNet-1K)."""
    lr: float = 0.05
    """Learning rate (all scripts)."""
    r_bn: float = 0.01
    """r: weight of all statistics (CIFAR; 0.1 for ImageNet-1K)."""
    memory: float = 0.8
    """What the averages over steps keep in each."""
    category: float = 0.5
    """a: the part of the classes' statistics."""
    crop: float = 0.5
    """Least part of the area that a crop keeps."""
    jitter: int = 0
    """The batch is not rolled."""
    start: Literal["noise", "real", "mosaic"] = "real"
    """Begin with random real samples (CIFAR; mosaics for ImageNet)."""
    shuffle: bool = True
    """Whether the quarters of the first pictures change places (CIFAR)."""
    composition: Composition = "classes"
    """A batch holds items in class order."""
    committee: str = "convnet-batch,vgg11-batch,alexnet-batch"
    """Further teachers: their networks' names, with commas between. Ours; published are five others beside."""

    def by_class(self) -> bool:
        return True

    def beginning(self, problem: Problem, rng: Generator) -> Tensor:
        x = super().beginning(problem, rng)
        if self.start != "real" or not self.shuffle:
            return x
        x = shuffled(x, rng)
        mirrored = torch.rand(len(x), 1, 1, 1, generator=rng).to(x.device) < 0.5
        return x if problem.train.name in FLIPLESS else torch.where(mirrored, x.flip(3), x)

    def from_real(self, state: RecoverState, number: int, member: Member, averages: Seen, y: Tensor) -> Tensor:
        of_all = super().from_real(state, number, member, averages, y)
        of_classes = self.apart(member, averages, rows_of(state.real, number, averages, y))
        return (1 - self.category) * of_all + self.category * of_classes
