r"""RDED: On the Diversity and Realism of Distilled Dataset (Sun et al., CVPR 2024, arXiv:2312.03526).

.. math::
    s(x) = -\log \mathrm{softmax}(f_\theta(\mathrm{pad}(x)))_y, \qquad
    \tilde x = \text{mosaic of } N \text{ crops with the lowest } s

Nothing is optimised. Of some real pictures of each class, several square crops are scored by a trained network, each
in the middle of a black picture; the best crop of every picture is kept (diversity), the best of the class among them
(realism), and f × f of them are put together to one picture. Relabelling is as in SRe2L. Crop j · n + i goes
to place j, in reading order, of picture i of n.

One step makes the pictures of one class. Until then they are random real samples. A shard of the classes makes its own:
it ends with the bits of the whole run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, Presets, Problem, StepCost, Synthetic
from potstill.methods.decoupled._realism import class_mosaics, teacher_cross_entropy
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import has_classes, initial_inputs
from potstill.rng import draw_seed, generator

__all__ = ["RDED", "RDEDState"]


@dataclass(frozen=True, kw_only=True)
class RDEDState:
    x: Tensor
    """All items in data units, classes in label order."""
    seed: int
    """Seed of the draws of each class."""
    classes: int = 0
    """Number of finished classes."""


@dataclass(frozen=True, kw_only=True)
class RDED(TeacherConfig, Method[RDEDState]):
    """Mosaics of the real crops that a trained network finds most realistic."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm",
        paper="arXiv:2312.03526", year=2024, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 50, "temperature": 20},
        class_independence="deletion",
        use_when="Take it for large pictures and many classes: it makes ImageNet-size sets without optimising, for "
        "one teacher.",
        avoid_when="Avoid it on very small pictures, whose crops show nothing; on photo-patches it was no better "
        "than random samples.",
        related=("cim", "random-soft", "sre2l++"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10},
        "good": {"teacher_epochs": 20},
    }
    state_type: ClassVar[type] = RDEDState

    samples: int = 300
    """Real samples of each class that are cropped (scripts, --mipc); fewer where there are fewer."""
    crops: int = 5
    """Crops of each (--num-crop)."""
    factor: int = 1
    """f: crops along a side of a picture (1 for CIFAR and Tiny-ImageNet, 2 for ImageNet's sets)."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.teachers(needs_batch_norm=False).assets(problem)

    def init(self, problem: Problem, rng: Generator) -> RDEDState:
        self.teachers().load(problem)
        return RDEDState(x=initial_inputs(problem, "real", rng, "data"), seed=draw_seed(rng))

    def step(self, problem: Problem, state: RDEDState, rng: Generator) -> tuple[RDEDState, Metrics]:
        c = state.classes
        if c not in problem.shard_classes:
            return replace(state, classes=c + 1), {}
        members = self.teachers().load(problem)
        rng = generator(state.seed, problem.class_names[c])
        mosaics = class_mosaics(
            problem, members, c, rng, samples=self.samples, crops=self.crops, factor=self.factor
        )  # fmt: skip
        first = sum(problem.sizes[:c])
        x = torch.cat([state.x[:first], mosaics, state.x[first + len(mosaics) :]])
        ce = teacher_cross_entropy(members, problem.train.normalization.apply(mosaics), c).mean()
        return replace(state, x=x, classes=c + 1), {"ce": float(ce)}

    def done(self, problem: Problem, state: RDEDState) -> bool:
        return state.classes >= problem.num_classes

    def result(self, problem: Problem, state: RDEDState) -> Synthetic:
        labels = self.labeller().labels(problem, problem.train.normalization.apply(state.x))
        return Synthetic(payload={"inputs": state.x}, labels=labels, space="data")

    def shard_obstacle(self, problem: Problem) -> str | None:
        return None if has_classes(problem) else f"{problem.task.name} has no classes to divide"

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, RDEDState]]) -> RDEDState:
        rows = [slice(sum(problem.sizes[: r.start]), sum(problem.sizes[: r.stop])) for r, _ in parts]
        x = torch.cat([s.x[at] for at, (_, s) in zip(rows, parts, strict=True)])
        return replace(parts[0][1], x=x, classes=min(s.classes for _, s in parts))

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes

    def step_costs(self, problem: Problem, state: RDEDState) -> tuple[StepCost, ...]:
        largest = max(range(problem.num_classes), key=lambda c: len(problem.class_indices[c]))
        size = min(self.samples, len(problem.class_indices[largest]))

        def make() -> object:
            return self.step(problem, replace(state, classes=largest), generator(0, "plan"))[1]

        crops = StepCost(what="crops of a class", samples=size, size=size, real=True, ready=lambda _: make)
        return (crops, self.labeller().step_cost(problem))
