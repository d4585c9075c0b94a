"""Recovery of images from frozen teachers: the engine of SRe2L and its successors, composed of values.

A batch of items descends the teachers' cross-entropy and the distance of their layers' statistics, under one random
crop, shift, flip and roll for the whole batch; then comes the next batch. One step is one iteration of one batch. A run
that stops early has finished batches, a current one, and items that are still initial.

Each batch draws from a seed of its own. If items are stored in rows, a shard of the classes therefore recovers an equal
share of the batches, whichever classes they hold, and skips the iterations of the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill._util.formatting import class_name
from potstill.core import Asset, Metrics, NonNegativeInt, Presets, Problem, StepCost, Synthetic, UnitFloat
from potstill.functional.crops import Curriculum
from potstill.functional.statistics import LayerStatistics, record_statistics
from potstill.functional.transforms import resize
from potstill.methods.decoupled._parts import Groups, ImageInit, ImageInitName, InitialImages, Prior, Stages, View
from potstill.methods.decoupled._realism import Rank
from potstill.methods.decoupled._state import (
    Batches,
    Composition,
    IterationContext,
    RecoverState,
    TeacherSchedule,
    WeightedTeacher,
    adam_step,
    all_teachers,
)  # fmt: skip
from potstill.methods.decoupled._statistics import RunningStatistics, StatisticsLoss
from potstill.methods.decoupled._teachers import Labeller, StatisticsRules, TeacherNetwork
from potstill.methods.decoupled._workspace import WholePayload, Workspace, make_workspace
from potstill.methods.engine import has_classes
from potstill.parametrize._shared import require_input_values
from potstill.rng import draw_seed, generator

__all__ = ["ClassTarget", "Recovery", "Target"]

BatchSetup: TypeAlias = Callable[[Sequence[TeacherNetwork], Tensor, Tensor], Mapping[str, Tensor]]
"""Function from a batch's initial images and classes to its ``state.memory``."""


@runtime_checkable
class Target(Protocol):
    """Loss of the teachers' outputs."""

    @property
    def name(self) -> str:
        """Name of the metric."""
        ...

    def real_statistics(
        self, problem: Problem, members: Sequence[TeacherNetwork], rng: Generator
    ) -> Mapping[str, Tensor]:
        """Return statistics of the real data, computed before the first step."""
        ...

    def loss(
        self, context: IterationContext, teacher: WeightedTeacher, view: Tensor, rules: StatisticsRules
    ) -> tuple[Tensor, LayerStatistics]:
        """Return the loss of ``view``, and the statistics of the layers by ``rules``."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """Cross-entropy with the items' classes."""

    name: ClassVar[str] = "ce"

    def real_statistics(
        self, problem: Problem, members: Sequence[TeacherNetwork], rng: Generator
    ) -> Mapping[str, Tensor]:
        return {}

    def loss(
        self, context: IterationContext, teacher: WeightedTeacher, view: Tensor, rules: StatisticsRules
    ) -> tuple[Tensor, LayerStatistics]:
        logits, statistics = record_statistics(teacher.member.network, teacher.member.weights, view, rules)
        return F.cross_entropy(logits, context.y), statistics


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The engine. Final: methods differ in its values."""

    labeller: Labeller
    """Teachers, and the labels of the result."""
    workspace: Workspace
    """Part of the stored payload that moves."""
    sample_description: str = "a batch of items"
    """Samples of an iteration, for a plan."""
    max_samples: int | None = None
    """Maximum number of those samples; ``None``: the size of the largest batch."""
    batches: Callable[[Problem], tuple[Tensor, ...]]
    initial_images: InitialImages
    batch_setup: BatchSetup | None = None
    iterations: int
    """Iterations per batch."""
    lr: float
    stages: Stages = field(default_factory=Stages)
    groups: Groups = field(default_factory=Groups)
    view: View
    teacher_schedule: TeacherSchedule = all_teachers
    target: Target = field(default_factory=ClassTarget)
    match: StatisticsLoss
    r_bn: float
    """Weight of the statistics loss."""
    prior: Prior

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.labeller.teachers.assets(problem)

    def init(self, problem: Problem, rng: Generator) -> RecoverState:
        require_input_values(problem, "recovery")
        members = self.labeller.teachers.load(problem)
        encoded = problem.parametrization.encode(self.initial_images(problem, members, rng), problem, rng)
        payload = {n: t.detach().clone() for n, t in encoded.items()}
        real = {**self.match.real_statistics(problem, members), **self.target.real_statistics(problem, members, rng)}
        return RecoverState.between_batches(payload, real, draw_seed(rng))

    def step(self, problem: Problem, state: RecoverState, rng: Generator) -> tuple[RecoverState, Metrics]:
        batches, rng = self.batches(problem), generator(state.seed, "recovery", state.batch, state.iteration)
        if batch_owner(problem, state.batch, len(batches)) not in problem.shard_classes:
            return state.skip_iteration(self.iterations), {}
        members, items = self.labeller.teachers.load(problem), batches[state.batch]
        state = self.start_stage(problem, members, state, items)
        active = items >= 0
        if self.groups.count > 1:
            active = self.groups.active_items(problem.sizes, items, state.iteration)
        if bool(active.any()):
            rows = self.workspace.active_rows(active)
            state, metrics = self.update(problem, members, state, items[active], rows, rng)
        else:
            state, metrics = replace(state, iteration=state.iteration + 1), {"loss": 0.0}
        if state.iteration == self.iterations:
            payload = self.full_payload(problem, state)
            state = RecoverState.between_batches(payload, state.real, state.seed, state.batch + 1)
        return state, {**metrics, "batches": state.batch + state.iteration / self.iterations}

    def update(
        self, problem: Problem, members: Sequence[TeacherNetwork], state: RecoverState, items: Tensor, rows: Tensor,
        rng: Generator,
    ) -> tuple[RecoverState, Metrics]:  # fmt: skip
        """Return the state after an iteration of ``items`` of the batch, held by ``rows`` of the work."""
        spec, total = problem.train.input, self.iterations
        with torch.enable_grad():
            leaves = {n: t[rows.to(t.device)].requires_grad_() for n, t in state.work.items()}
            x, y = self.workspace.decode(problem, state.payload, leaves, items, state.iteration)
            x = resize(x, self.stages.image_size(spec.shape, self.stages.stage_of(state.iteration, total)))
            context = IterationContext(
                problem=problem, members=members, state=state, items=items, y=y.to(x.device), rng=rng
            )
            loss, metrics, memory = self.total_loss(context, self.view(x, state.iteration, total, spec, rng))
            slopes = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
        grads = {n: torch.zeros_like(t) if g is None else g for (n, t), g in zip(leaves.items(), slopes, strict=True)}
        after = adam_step(state, rows, grads, self.learning_rate(state.iteration))
        memory = {**state.memory, **{n: t.detach() for n, t in memory.items()}}
        after = replace(after, work=self.workspace.clamp(problem, after), memory=memory)
        return after, {"loss": float(loss.detach()), **metrics}

    def start_stage(
        self, problem: Problem, members: Sequence[TeacherNetwork], state: RecoverState, items: Tensor
    ) -> RecoverState:
        """Return the state at the start of a batch or stage, or unchanged within a stage."""
        if state.work and not self.stages.is_new_stage(state.iteration, self.iterations):
            return state
        initial, memory = self.workspace.extract(state.payload, items), state.memory
        if not state.work and self.batch_setup is not None:
            with torch.no_grad():
                x, y = self.workspace.decode(problem, state.payload, initial, items, 0)
            memory = self.batch_setup(members, x, y.to(x.device))
        stage = self.stages.stage_of(state.iteration, self.iterations)
        size = self.stages.image_size(problem.train.input.shape, stage)
        return state.with_work(self.workspace.resize_stage(state, initial, size, self.stages.alpha), memory)

    def total_loss(
        self, context: IterationContext, view: Tensor
    ) -> tuple[Tensor, dict[str, float], Mapping[str, Tensor]]:
        """Return the loss of ``view``, its metrics, and new entries of the batch's memory."""
        target_loss, distance = view.new_zeros(()), view.new_zeros(())
        memory: dict[str, Tensor] = {}
        for teacher in self.teacher_schedule(context):
            teacher_loss, statistics = self.target.loss(context, teacher, view, self.match.rules)
            teacher_distance, entries = self.match.distance(context, teacher, statistics)
            target_loss = target_loss + teacher.weight * teacher_loss
            distance = distance + teacher.weight * teacher_distance
            memory |= entries
        loss = target_loss + self.r_bn * distance + self.prior(view, context.y)
        return loss, {self.target.name: float(target_loss.detach()), "bn": float(distance.detach())}, memory

    def learning_rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration: half a cosine from ``lr`` to zero."""
        return self.lr * (1 + math.cos(math.pi * iteration / self.iterations)) / 2

    def full_payload(self, problem: Problem, state: RecoverState) -> Mapping[str, Tensor]:
        """Return the payload of all items with the current work."""
        if not state.work:
            return state.payload
        return self.workspace.write_back(state.payload, state.work, self.batches(problem)[state.batch])

    def done(self, problem: Problem, state: RecoverState) -> bool:
        return state.batch >= len(self.batches(problem))

    def result(self, problem: Problem, state: RecoverState) -> Synthetic:
        payload = self.full_payload(problem, state)
        with torch.no_grad():
            x = problem.decode(payload)
        return Synthetic(payload=payload, labels=self.labeller.labels(problem, x))

    def shard_obstacle(self, problem: Problem) -> str | None:
        if not has_classes(problem):
            return f"{problem.task.name} has no classes to divide"
        if isinstance(self.workspace, WholePayload):
            name = class_name(problem.parametrization)
            return f"parametrization {name} shares what it stores between the batches, or does not say what is whose"
        return None

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, RecoverState]]) -> RecoverState:
        batches = self.batches(problem)
        states = [next(s for r, s in parts if batch_owner(problem, b, len(batches)) in r) for b in range(len(batches))]
        state = states[min(parts[0][1].batch, len(states) - 1)]  # all are at the same batch: take its owner's
        payload = state.payload
        for items, shard in zip(batches[: state.batch], states, strict=False):
            payload = self.workspace.write_back(payload, self.workspace.extract(shard.payload, items), items)
        return replace(state, payload=payload)

    def num_steps(self, problem: Problem) -> int:
        return len(self.batches(problem)) * self.iterations

    def step_costs(self, problem: Problem, state: RecoverState) -> tuple[StepCost, ...]:
        size = self.max_samples or max(map(len, self.batches(problem)))

        def iterate() -> object:
            return self.step(problem, state, generator(0, "plan"))[1]

        batch = StepCost(what=self.sample_description, samples=size, size=size, ready=lambda _: iterate)
        return (batch, self.labeller.step_cost(problem))


def batch_owner(problem: Problem, batch: int, batches: int) -> int:
    """Return the class whose shard recovers a batch; shards get nearly equal numbers."""
    return batch * problem.num_classes // batches


@dataclass(frozen=True, kw_only=True)
class RecoverySettings:
    """Fields of a recovery that are common to all methods."""

    state_type: ClassVar[type] = RecoverState
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "iterations": 400},
        "good": {"teacher_epochs": 20, "iterations": 500},
    }

    iterations: int
    lr: float
    r_bn: float
    batch: int = 100
    """Items of a batch, which share statistics, crop and flip."""
    composition: Composition = "slots"
    """Items of a batch: one of each class (slots), in class order (classes), or of one class (class)."""
    init_from: ImageInitName = "noise"
    """Initial images: standard normal noise, random real samples, or mosaics of realistic crops (RDED's)."""
    init_rank: Rank = "lowest"
    """Crops of mosaics: those that the teachers find most realistic, or those in the middle of the ranking."""
    factor: int = 1
    """Crops along a side of a mosaic (2 for ImageNet)."""
    samples: int = 300
    """Real samples per class that are cropped for mosaics (RDED's scripts, --mipc)."""
    crops: int = 5
    """Crops of each of them (RDED's --num-crop)."""
    crop: UnitFloat = 0.08
    """Minimum area of a crop (torchvision's RandomResizedCrop)."""
    curriculum: Curriculum = "none"
    """Decrease of the minimum area from 1 to ``crop``: none, along a cosine, linear, or a step."""
    milestone: UnitFloat = 1.0
    """Fraction of the iterations at which it has reached ``crop``."""
    flip: bool = True
    """Flip the batch in half of the iterations; never if the source shows digits."""
    pad: NonNegativeInt = 0
    """Maximum shift of the batch in pixels, with zero padding (torchvision's RandomCrop)."""
    jitter: NonNegativeInt = 4
    """Maximum roll of the batch in pixels along each side."""
    first_layer: float = 10.0
    """Weight of the first layer's statistics, relative to the others."""
    tv: float = 0.0
    """Weight of the total variation; 0 in all published scripts."""
    l2: float = 0.0
    """Weight of the images' L2 norm; 0 in all published scripts."""
    parametrization: str = "pixels"
    """Stored and optimised representation."""

    def recovery(self, problem: Problem, labeller: Labeller) -> Recovery:
        """Return SRe2L with these settings, of which a method changes parts."""
        init = ImageInit(
            init=self.init_from, rank=self.init_rank, factor=self.factor, samples=self.samples, crops=self.crops
        )
        view = View(
            crop=self.crop, curriculum=self.curriculum, milestone=self.milestone, flip=self.flip, pad=self.pad,
            jitter=self.jitter,
        )  # fmt: skip
        return Recovery(
            labeller=labeller, workspace=make_workspace(problem), initial_images=init,
            batches=Batches(size=self.batch, composition=self.composition), iterations=self.iterations, lr=self.lr,
            view=view, match=RunningStatistics(first=self.first_layer), r_bn=self.r_bn,
            prior=Prior(tv=self.tv, l2=self.l2),
        )  # fmt: skip
