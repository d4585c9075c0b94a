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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from potstill.core import MethodInfo, Problem
from potstill.functional.statistics import Seen, densification, followed, gap, of_batch_norm, of_convolution
from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import Composition, RecoverState, Rules, measured, overall
from potstill.methods.decoupled._teachers import Member

__all__ = ["GVBSM", "BroadMatching"]


@dataclass(frozen=True, kw_only=True)
class BroadMatching(Recover):
    """Abstract: one teacher after the other, convolutions as well as BatchNorms, and averages over steps."""

    rules: ClassVar[Rules] = {nn.BatchNorm2d: of_batch_norm, nn.Conv2d: of_convolution}
    in_turn: ClassVar[bool] = True
    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone", "memory")

    memory: float
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: its temperature."""

    def real_statistics(self, problem: Problem) -> Mapping[str, Tensor]:
        sizes = [len(i) for i in problem.by_class]
        found: dict[str, Tensor] = {}
        for number, member in enumerate(self.teachers(problem)):
            rows = measured(problem, member, self.rules, problem.by_class)
            found |= {f"all/{number}/{key}": value for key, value in overall(rows, sizes).items()}
            found |= {f"{number}/{key}": value for key, value in rows.items() if self.by_class()}
        return found

    def by_class(self) -> bool:
        """Whether the classes' own statistics are kept."""
        return False

    def distance(
        self, problem: Problem, state: RecoverState, number: int, member: Member, seen: Seen, y: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        name = f"average/{number}/"
        before = {n.removeprefix(name): t for n, t in state.memory.items() if n.startswith(name)}
        now = {f"{layer}/{part}": value for layer, parts in seen.items() for part, value in parts.items()}
        after = followed(before or None, now, self.memory)
        averages = {layer: {part: after[f"{layer}/{part}"] for part in parts} for layer, parts in seen.items()}
        total = self.from_real(state, number, member, averages, y)
        return total, {name + n: value for n, value in after.items()}

    def from_real(self, state: RecoverState, number: int, member: Member, averages: Seen, y: Tensor) -> Tensor:
        """The distance of the averages from the real statistics."""
        running = member.running()
        wanted = {
            layer: running.get(layer) or {part: state.real[f"all/{number}/{layer}/{part}"] for part in parts}
            for layer, parts in averages.items()
        }
        return self.apart(member, averages, wanted)

    def apart(self, member: Member, found: Seen, wanted: Seen) -> Tensor:
        """`gap` of the BatchNorms and of the convolutions: each kind has a first layer."""
        norms = member.running().keys()
        kinds = ({n: s for n, s in found.items() if (n in norms) == norm} for norm in (True, False))
        return torch.stack([gap(kind, wanted, first=self.first_layer) for kind in kinds]).sum()

    def prior(self, x: Tensor, y: Tensor) -> Tensor:
        total = super().prior(x, y)
        return total + self.densify * densification(x, y, self.tau) if self.densify else total


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
