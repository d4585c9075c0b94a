r"""UFC: Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator (Zhang et al.,
ICLR 2025, arXiv:2408.06927; INFER there).

.. math::
    \min_{u_{ij}} \; \frac{1}{C} \sum_c \ell(f_j(A(x_{ci} + u_{ij})), c)
        + r \sum_l w_l R_l\big( \{ A(x_{ci} + u_{ij}) \}_c \big)

x_ci is real picture i of class c. For each place i and each of several networks f_j there is one compensator u_ij,
which is added to the pictures of **all** classes; it begins at zero and is moved as SRe2L moves pictures, with R its
BatchNorm distance. A set holds the real pictures, the compensators, and so the sums too (parametrization
``compensators``): per class p pictures decode to p (1 + m).

Labels are the mean of the networks' logits. In training the published code mixes pictures and these labels (MixUp);
it trains for fewer epochs by 1 + m where labels are made anew for every view. The published networks are ResNet-18,
MobileNetV2, EfficientNet-B0 and ShuffleNet; the code takes out one BatchNorm of the third, without saying why, which
is not followed.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Efforts, MethodInfo, Part, Problem, Synthetic
from potstill.errors import PotstillError
from potstill.methods.decoupled._published import BY_DATA, ByData
from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import RecoverState
from potstill.methods.decoupled._teachers import Member
from potstill.parametrize.aware import Aware
from potstill.parametrize.compensators import Compensators
from potstill.rng import generator

__all__ = ["UFC"]


@dataclass(frozen=True, kw_only=True)
class UFC(Recover):
    """Real pictures, and what is added to those of all classes alike."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator",
        paper="arXiv:2408.06927",
        year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 400, "batch": 64, "temperature": 30},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "committee": "", "iterations": 400},
        "good": {"epochs_trained": 10, "iterations": 400},
    }
    usual: ClassVar[tuple[str, ...]] = ("convnet-batch", "vgg11-batch", "alexnet-batch")

    iterations: int = 1000
    """Steps of each compensator (CIFAR there; 2,000 for ImageNet-1K)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 1.0
    """r: weight of the statistics (CIFAR there; 0.01 for ImageNet-1K)."""
    batch: int = 100
    """Classes that are seen at once; where there are more, one part of them after the other."""
    crop: float = 1.0
    """Least part of the area that a crop keeps: the whole (CIFAR there)."""
    flip: bool = False
    """Pictures are not mirrored (CIFAR there)."""
    start: Literal["noise", "real", "mosaic"] = "real"
    """What is compensated: random real samples; ours: mosaics, or noise."""
    committee: ByData[str] = BY_DATA
    """Further teachers: their networks' names, with commas between; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that can take the data. Ours, see above. Compensators take turns."""
    parametrization: str = "compensators"
    """What is stored, and how many compensators of each place: one per network as published (``count=4``)."""

    def compensators(self, problem: Problem) -> Compensators:
        """The problem's parametrization.

        Raises:
            PotstillError: it is another.
        """
        made = problem.parametrization
        if isinstance(made, Aware):  # which rounds what it stores, and stores the same
            made = made.inner
        if not isinstance(made, Compensators):
            raise PotstillError(
                f"ufc makes compensators, but the parametrization is {type(made).__name__.lower()}; leave "
                "--parametrization out, or say compensators:count=N"
            )
        return made

    def places(self, problem: Problem) -> int:
        """p: pictures of a class."""
        return problem.sizes[0] // (1 + self.compensators(problem).count)

    def init(self, problem: Problem, rng: Generator) -> RecoverState:
        self.compensators(problem)
        pictures = self.beginning(problem, rng)
        if self.start == "mosaic":  # which are as many as what is decoded
            pictures = problem.parametrization.encode(pictures, problem, rng)["inputs"]
        nothing = torch.zeros_like(pictures[:1])
        count = self.compensators(problem).count * self.places(problem)
        return RecoverState.of(nothing.expand(count, -1, -1, -1).clone(), {"pictures": pictures})

    def plan(self, problem: Problem) -> tuple[Tensor, ...]:
        """One compensator after the other: all places with the first network, then with the next."""
        count = self.compensators(problem).count * self.places(problem)
        return torch.split(torch.arange(count), 1)

    def classes_of(self, problem: Problem, state: RecoverState, items: Tensor) -> Tensor:
        parts = torch.split(torch.arange(problem.num_classes), self.batch)
        return parts[state.iteration % len(parts)]

    def within(self, problem: Problem, work: Tensor) -> Tensor:
        return work  # no picture itself

    def voices(self, problem: Problem, state: RecoverState) -> list[tuple[int, Member, float]]:
        members = self.teachers(problem)
        number = state.batch // self.places(problem) % len(members)
        return [(number, members[number], 1.0)]

    def view(self, problem: Problem, state: RecoverState, x: Tensor, rng: Generator) -> Tensor:
        p = self.places(problem)
        pictures = state.real["pictures"][state.batch % p :: p]
        seen = pictures[self.classes_of(problem, state, torch.empty(0)).to(x.device)]
        return super().view(problem, state, seen + x, rng)

    def result(self, problem: Problem, state: RecoverState) -> Synthetic:
        under_way = None if self.done(problem, state) else self.plan(problem)[state.batch]
        made = state.whole(under_way)
        made = made.reshape(-1, self.places(problem), *made.shape[1:])
        payload = {"inputs": state.real["pictures"], "decoder/compensators": made}
        return Synthetic(payload=payload, labels=self.labels_of(problem, problem.decode(payload)))

    def parts(self, problem: Problem, state: RecoverState) -> tuple[Part, ...]:
        size = min(self.batch, problem.num_classes)

        def iterate() -> object:
            return self.step(problem, state, generator(0, "plan"))[1]

        what = "a picture of each class with a compensator"
        return (Part(what=what, samples=size, size=size, ready=lambda _: iterate), self.labelling(problem))
