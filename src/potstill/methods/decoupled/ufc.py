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

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import MethodInfo, Payload, Presets, Problem
from potstill.errors import PotstillError
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught
from potstill.methods.decoupled._turn import Turn, Voice
from potstill.methods.engine import AUTO, Auto
from potstill.parametrize.compensators import Compensators
from potstill.parametrize.quantization_aware import QuantizationAware

__all__ = ["UFC"]

_NAME = "decoder/compensators"


@dataclass(frozen=True, kw_only=True)
class UFC(Recovering, Taught, EngineMethod[RecoverState]):
    """Real pictures, and what is added to those of all classes alike."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator",
        paper="arXiv:2408.06927",
        year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 400, "batch": 64, "temperature": 30},
    )
    presets: ClassVar[Presets] = {
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
    init_from: Literal["noise", "real", "mosaic"] = "real"
    """What is compensated: random real samples; ours: mosaics, or noise."""
    committee: Auto[str] = AUTO
    """Further teachers: their networks' names, with commas between; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that can take the data. Ours, see above. Compensators take turns."""
    parametrization: str = "compensators"
    """What is stored, and how many compensators of each place: one per network as published (``count=4``)."""

    def build_engine(self, problem: Problem) -> Recovery:
        count = _compensators(problem).count
        places = problem.sizes[0] // (1 + count)
        return replace(
            self.recovery(problem, self.labeller()),
            canvas=Added(places=places, classes=self.batch),
            what="a picture of each class with a compensator",
            most=min(self.batch, problem.num_classes),
            batches=lambda _: torch.split(torch.arange(count * places), 1),
            voices=partial(_of_compensator, places),
        )


def _compensators(problem: Problem) -> Compensators:
    """The problem's parametrization.

    Raises:
        PotstillError: it is another.
    """
    made = problem.parametrization
    if isinstance(made, QuantizationAware):  # which rounds what it stores, and stores the same
        made = made.inner
    if not isinstance(made, Compensators):
        raise PotstillError(
            f"ufc makes compensators, but the parametrization is {type(made).__name__.lower()}; leave "
            "`parametrization=` out, or say compensators:count=N"
        )
    return made


def _of_compensator(places: int, turn: Turn) -> list[Voice]:
    """All places with the first network, then with the next."""
    number = int(turn.items[0]) // places % len(turn.members)
    return [Voice(number, turn.members[number], 1.0)]


@dataclass(frozen=True, kw_only=True)
class Added:
    """The canvas: one compensator after the other, seen with the pictures of its place; those stay as they are."""

    places: int
    """p: pictures of a class."""
    classes: int
    """That are seen at once, at most."""

    def taken(self, payload: Payload, items: Tensor) -> Payload:
        return {_NAME: payload[_NAME].flatten(0, 1)[items.to(payload[_NAME].device)]}

    def rows(self, active: Tensor) -> Tensor:
        return active

    def seen(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        parts = torch.split(torch.arange(problem.num_classes), self.classes)
        y = parts[iteration % len(parts)]
        pictures = payload["inputs"][int(items[0]) % self.places :: self.places]
        return pictures[y.to(pictures.device)] + work[_NAME], y

    def staged(self, state: RecoverState, first: Payload, size: tuple[int, int], alpha: float) -> Payload:
        return first

    def within(self, problem: Problem, state: RecoverState) -> Payload:
        return state.work  # no picture itself

    def put(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        made = payload[_NAME].clone()
        made.view(-1, *made.shape[2:])[items.to(made.device)] = work[_NAME]
        return {**payload, _NAME: made}
