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
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import MethodInfo, Payload, Presets, Problem, UnitFloat
from potstill.errors import PotstillError
from potstill.methods.decoupled._parts import ImageInitName
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import IterationContext, RecoverState, WeightedTeacher
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import AUTO, Auto, EngineMethod
from potstill.parametrize.compensators import Compensators
from potstill.parametrize.quantization_aware import QuantizationAware

__all__ = ["UFC"]

_NAME = "decoder/compensators"


@dataclass(frozen=True, kw_only=True)
class UFC(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """Real pictures, and what is added to those of all classes alike."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator",
        paper="arXiv:2408.06927", year=2025, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 400, "batch": 64, "temperature": 30},
        use_when="Take it where one label a picture must do: one added pattern serves all classes and carries many "
        "inputs in few bytes.",
        avoid_when="Avoid it at one item a class, for which it needs a second, and beside shrunk real pictures, "
        "which were better here.",
        related=("sre2l", "remember", "cv-dd"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "committee": "", "iterations": 400},
        "good": {"teacher_epochs": 10, "iterations": 400},
    }
    default_committee: ClassVar[tuple[str, ...]] = ("convnet-batch", "vgg11-batch", "alexnet-batch")

    iterations: int = 1000
    """Steps of each compensator (CIFAR there; 2,000 for ImageNet-1K)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 1.0
    """r: weight of the statistics (CIFAR there; 0.01 for ImageNet-1K)."""
    batch: int = 100
    """Classes that are seen at once; where there are more, one part of them after the other."""
    crop: UnitFloat = 1.0
    """Minimum area of a crop: the whole (CIFAR there)."""
    flip: bool = False
    """Pictures are not mirrored (CIFAR there)."""
    init_from: ImageInitName = "real"
    """Compensated images: random real samples; ours: mosaics, or noise."""
    committee: Auto[str] = AUTO
    """Further teachers: network names separated by commas; by default those of convnet-batch, vgg11-batch and
    alexnet-batch that take the data. Ours, see above. Compensators take turns."""
    parametrization: str = "compensators"
    """Stored representation, with the number of compensators per place: one per network as published (``count=4``)."""

    def build_engine(self, problem: Problem) -> Recovery:
        count = _compensators(problem).count
        places = problem.sizes[0] // (1 + count)
        return replace(
            self.recovery(problem, self.labeller()),
            workspace=CompensatorWorkspace(places=places, classes=self.batch),
            sample_description="an image of each class with a compensator",
            max_samples=min(self.batch, problem.num_classes),
            batches=lambda _: torch.split(torch.arange(count * places), 1),
            teacher_schedule=partial(_teacher_of_compensator, places),
        )


def _compensators(problem: Problem) -> Compensators:
    """Return the problem's parametrization.

    Raises:
        PotstillError: it is not `Compensators`.
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


def _teacher_of_compensator(places: int, context: IterationContext) -> list[WeightedTeacher]:
    """Return one network for all places, then the next."""
    number = int(context.items[0]) // places % len(context.members)
    return [WeightedTeacher(number, context.members[number], 1.0)]


@dataclass(frozen=True, kw_only=True)
class CompensatorWorkspace:
    """Workspace of one compensator at a time, added to the fixed images of its place."""

    places: int
    """p: images per class."""
    classes: int
    """Maximum number of classes per iteration."""

    def extract(self, payload: Payload, items: Tensor) -> Payload:
        return {_NAME: payload[_NAME].flatten(0, 1)[items.to(payload[_NAME].device)]}

    def active_rows(self, active: Tensor) -> Tensor:
        return active

    def decode(
        self, problem: Problem, payload: Payload, work: Payload, items: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        parts = torch.split(torch.arange(problem.num_classes), self.classes)
        y = parts[iteration % len(parts)]
        images = payload["inputs"][int(items[0]) % self.places :: self.places]
        return images[y.to(images.device)] + work[_NAME], y

    def resize_stage(self, state: RecoverState, initial: Payload, size: tuple[int, int], alpha: float) -> Payload:
        return initial

    def clamp(self, problem: Problem, state: RecoverState) -> Payload:
        return state.work  # compensators are no images

    def write_back(self, payload: Payload, work: Payload, items: Tensor) -> Payload:
        after = payload[_NAME].clone()
        after.view(-1, *after.shape[2:])[items.to(after.device)] = work[_NAME]
        return {**payload, _NAME: after}
