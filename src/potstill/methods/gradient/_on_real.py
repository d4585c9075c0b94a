"""What IDC and DREAM share beyond the step: convolutional gradients of a network that trains on real samples.

Sources of the defaults: IDC's repository (arXiv:2205.14959), argument.py, condense.py and misc/reproduce.py.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Generator

from potstill.core import Network, Problem, Space
from potstill.functional.gradient import Distance, convolutional
from potstill.functional.sampling import distinct
from potstill.methods._matching import Rule, Start, rate
from potstill.methods.gradient._base import GradientMatching, GradientState, Sampler
from potstill.supervise.teacher import Teacher, train_epoch

__all__ = ["OnReal"]


@dataclass(frozen=True, kw_only=True)
class OnReal(GradientMatching):
    """Abstract: gradients of networks that train on real samples. The fields and defaults are IDC's."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("synthetic_most", "data_train")
    fractions: ClassVar[tuple[str, ...]] = ("momentum", "cutmix")

    iterations: int = 2000
    """Networks, one after the other (argument.py, --niter)."""
    outer: int = 100
    """Updates with each (argument.py, --inner_loop)."""
    lr: float = 5e-3
    """Learning rate in data units, at ten stored items per class and pictures of ``lr_side``² (reproduce.py, --lr_img);
    it grows with the items and with the area (argument.py, tune_lr_img)."""
    lr_side: int = 32
    """Side of pictures, in pixels, that ``lr`` is meant for (tune_lr_img: 32, also for Fashion-MNIST; 28 for MNIST, 224
    for ImageNet)."""
    momentum: float = 0.5
    """Momentum of what is stored (--mom_img)."""
    metric: Literal["mse", "l1"] = "mse"
    """D: squared or absolute differences, summed (--metric)."""
    batch_real: int = 64
    """Real samples per class and update (--batch_real)."""
    synthetic_most: int = 128
    """Decoded samples of a class that an update looks at (--batch_syn_max); 0 for all."""
    lr_net: float = 0.01
    """Learning rate of the network (--lr), with momentum 0.9 and weight decay 5e-4."""
    batch_train: int = 64
    """Batch of the network's training (condense.py: that of the real samples)."""
    data_train: int = 2000
    """Real samples that it sees between two updates (--n_data: 2,000 for CIFAR, 500 for others); 0 for none."""
    cutmix: float = 0.5
    """Probability of CutMix in a batch of that training (--mix_p)."""
    sampler: Sampler = "random"
    """How real samples are drawn; ``k-means`` is DREAM's."""
    interval: int = 1
    """Updates that one draw serves."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one after each class, as published: with SGD the sum of all moves is the same."""
    start: Start = "real"
    """Start from random real samples (--init mix)."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout (--aug_type)."""
    network: str = "convnet"
    """Network whose gradients are matched."""
    parametrization: str = "tiles"
    """What is optimised (--factor 2)."""

    @property
    def space(self) -> Space:
        return "data"

    def loops(self, ipc: int) -> int:
        return self.outer

    def rule(self, problem: Problem, last: bool) -> Rule:
        lr = rate(problem, self.lr, self.lr_side)
        return Rule(lr=lr, momentum=self.momentum, lr_labels=self.lr_labels, space="data", clamp=last)

    def distance(self) -> Distance:
        return convolutional(self.metric)

    def sampling(self) -> tuple[Sampler, int]:
        return self.sampler, self.interval

    def classwise(self) -> bool:
        return self.updates == "class"

    def most(self) -> int:
        return self.synthetic_most

    def training(self, problem: Problem) -> tuple[bool, int, int]:
        return True, self.batch_train, min(self.data_train, len(problem.train))

    def train(self, problem: Problem, net: Network, state: GradientState, rng: Generator) -> GradientState:
        """One pass of SGD over some real samples, augmented each on its own and sometimes mixed."""
        order = distinct(len(problem.train), self.data_train, rng)
        made = train_epoch(
            net, Teacher(params=state.theta, velocity=state.velocity, buffers=state.buffers), problem.train, order, rng,
            batch=self.batch_train, lr=self.lr_net, momentum=0.9, weight_decay=5e-4, augment=problem.augment,
            cutmix=self.cutmix,
        )  # fmt: skip
        return replace(state, theta=made.params, velocity=made.velocity, buffers=made.buffers)
