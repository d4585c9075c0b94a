"""Recovery of pictures from frozen teachers: the one engine of SRe2L and all that came after it, composed of values.

A batch of items is moved down the teachers' cross-entropy and the distance of their layers' statistics, under one
random crop, move, flip and roll for the whole batch; then comes the next batch. One step is one iteration of one batch.
A run that is stopped early has finished batches, one under way, and items that are still what the method begins from.

No batch needs another: each draws from a seed of its own. So where what is stored lies in rows, a shard of the classes
makes as large a part of the batches, whichever classes they hold, and waits during the others' iterations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Asset, Metrics, Problem, StepCost, Synthetic
from potstill.functional.crops import Curriculum
from potstill.functional.statistics import LayerStatistics, record_statistics
from potstill.functional.transforms import resize
from potstill.methods.decoupled._canvas import Canvas, Whole, canvas_of
from potstill.methods.decoupled._parts import Begin, Beginning, Groups, Prior, Stages, View
from potstill.methods.decoupled._state import Batches, Composition, RecoverState, moved
from potstill.methods.decoupled._statistics import Match, Running
from potstill.methods.decoupled._teachers import Labeller, Member, Rules, Taught
from potstill.methods.decoupled._turn import Turn, Voice, Voices, together
from potstill.methods.engine import EngineMethod, has_classes
from potstill.rng import draw_seed, generator

__all__ = ["Aim", "Classes", "EngineMethod", "RecoverState", "Recovering", "Recovery", "Taught"]

Opening: TypeAlias = Callable[[Sequence[Member], Tensor, Tensor], Mapping[str, Tensor]]
"""What a batch keeps in ``state.memory``, by its first pictures and their classes."""


@runtime_checkable
class Aim(Protocol):
    """Where the teachers draw the pictures."""

    @property
    def name(self) -> str:
        """Of the metric."""
        ...

    def real(self, problem: Problem, members: Sequence[Member], rng: Generator) -> Mapping[str, Tensor]:
        """What is taken from the real data before the first step."""
        ...

    def away(self, turn: Turn, voice: Voice, view: Tensor, rules: Rules) -> tuple[Tensor, LayerStatistics]:
        """How far the pictures, seen as ``view``, are from there, and what ``rules`` take of the layers on the way."""
        ...


@dataclass(frozen=True)
class Classes:
    """To their classes: the cross-entropy."""

    name: ClassVar[str] = "ce"

    def real(self, problem: Problem, members: Sequence[Member], rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def away(self, turn: Turn, voice: Voice, view: Tensor, rules: Rules) -> tuple[Tensor, LayerStatistics]:
        logits, seen = record_statistics(voice.member.network, voice.member.weights, view, rules)
        return F.cross_entropy(logits, turn.y), seen


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The engine. Final: what differs between methods is its values."""

    labeller: Labeller
    """The teachers, and what they say of the result."""
    canvas: Canvas
    """What of the stored payload is under way."""
    what: str = "a batch of items"
    """What passes the teachers in an iteration, for a plan."""
    most: int | None = None
    """How many those are at most; none: as the largest batch has."""
    batches: Callable[[Problem], tuple[Tensor, ...]]
    begin: Begin
    opening: Opening | None = None
    iterations: int
    """Of a batch."""
    lr: float
    stages: Stages = field(default_factory=Stages)
    groups: Groups = field(default_factory=Groups)
    view: View
    voices: Voices = together
    aim: Aim = field(default_factory=Classes)
    match: Match
    r_bn: float
    """What the distance of the statistics weighs."""
    prior: Prior

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.labeller.teachers.assets(problem)

    def init(self, problem: Problem, rng: Generator) -> RecoverState:
        members = self.labeller.teachers.members(problem)
        begun = problem.parametrization.encode(self.begin(problem, members, rng), problem, rng)
        payload = {n: t.detach().clone() for n, t in begun.items()}
        real = {**self.match.real(problem, members), **self.aim.real(problem, members, rng)}
        return RecoverState.of(payload, real, draw_seed(rng))

    def step(self, problem: Problem, state: RecoverState, rng: Generator) -> tuple[RecoverState, Metrics]:
        batches, rng = self.batches(problem), generator(state.seed, "recovery", state.batch, state.iteration)
        if owner(problem, state.batch, len(batches)) not in problem.shard_classes:
            return state.waited(self.iterations), {}
        members, items = self.labeller.teachers.members(problem), batches[state.batch]
        state = self.staged(problem, members, state, items)
        active = self.groups.entered(problem.sizes, items, state.iteration) if self.groups.count > 1 else items >= 0
        if bool(active.any()):
            state, shown = self.moved(problem, members, state, items[active], self.canvas.rows(active), rng)
        else:
            state, shown = replace(state, iteration=state.iteration + 1), {"loss": 0.0}
        if state.iteration == self.iterations:
            state = RecoverState.of(self.whole(problem, state), state.real, state.seed, state.batch + 1)
        return state, {**shown, "batches": state.batch + state.iteration / self.iterations}

    def moved(
        self, problem: Problem, members: Sequence[Member], state: RecoverState, items: Tensor, rows: Tensor,
        rng: Generator,
    ) -> tuple[RecoverState, Metrics]:  # fmt: skip
        """After an iteration of ``items`` of the batch, which those ``rows`` of the work hold."""
        spec, total = problem.train.input, self.iterations
        with torch.enable_grad():
            leaves = {n: t[rows.to(t.device)].requires_grad_() for n, t in state.work.items()}
            x, y = self.canvas.seen(problem, state.payload, leaves, items, state.iteration)
            x = resize(x, self.stages.size(spec.shape, self.stages.at(state.iteration, total)))
            turn = Turn(problem=problem, members=members, state=state, items=items, y=y.to(x.device), rng=rng)
            loss, shown, memory = self.loss(turn, self.view(x, state.iteration, total, spec, rng))
            slopes = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
        grads = {n: torch.zeros_like(t) if g is None else g for (n, t), g in zip(leaves.items(), slopes, strict=True)}
        after = moved(state, rows, grads, self.rate(state.iteration))
        kept = {**state.memory, **{n: t.detach() for n, t in memory.items()}}
        after = replace(after, work=self.canvas.within(problem, after), memory=kept)
        return after, {"loss": float(loss.detach()), **shown}

    def staged(self, problem: Problem, members: Sequence[Member], state: RecoverState, items: Tensor) -> RecoverState:
        """The state before an iteration of the batch of ``items``: it begins, or a stage of it does, or neither."""
        if state.work and not self.stages.begins(state.iteration, self.iterations):
            return state
        first, memory = self.canvas.taken(state.payload, items), state.memory
        if not state.work and self.opening is not None:
            with torch.no_grad():
                x, y = self.canvas.seen(problem, state.payload, first, items, 0)
            memory = self.opening(members, x, y.to(x.device))
        size = self.stages.size(problem.train.input.shape, self.stages.at(state.iteration, self.iterations))
        return state.begun(self.canvas.staged(state, first, size, self.stages.alpha), memory)

    def loss(self, turn: Turn, view: Tensor) -> tuple[Tensor, dict[str, float], Mapping[str, Tensor]]:
        """Of the pictures of a turn seen as ``view``; its parts to show; and what is remembered of them."""
        apart, away = view.new_zeros(()), view.new_zeros(())
        memory: dict[str, Tensor] = {}
        for voice in self.voices(turn):
            here, seen = self.aim.away(turn, voice, view, self.match.rules)
            distance, kept = self.match.distance(turn, voice, seen)
            apart, away = apart + voice.weight * here, away + voice.weight * distance
            memory |= kept
        loss = apart + self.r_bn * away + self.prior(view, turn.y)
        return loss, {self.aim.name: float(apart.detach()), "bn": float(away.detach())}, memory

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration: half a cosine, from ``lr`` to zero after the last."""
        return self.lr * (1 + math.cos(math.pi * iteration / self.iterations)) / 2

    def whole(self, problem: Problem, state: RecoverState) -> Mapping[str, Tensor]:
        """What is stored of all items, as they are now."""
        if not state.work:
            return state.payload
        return self.canvas.put(state.payload, state.work, self.batches(problem)[state.batch])

    def done(self, problem: Problem, state: RecoverState) -> bool:
        return state.batch >= len(self.batches(problem))

    def result(self, problem: Problem, state: RecoverState) -> Synthetic:
        payload = self.whole(problem, state)
        with torch.no_grad():
            x = problem.decode(payload)
        return Synthetic(payload=payload, labels=self.labeller.labels(problem, x))

    def shard_obstacle(self, problem: Problem) -> str | None:
        if not has_classes(problem):
            return f"{problem.task.name} has no classes to divide"
        if isinstance(self.canvas, Whole):
            name = type(problem.parametrization).__name__.lower()
            return f"parametrization {name} shares what it stores between the batches, or does not say what is whose"
        return None

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, RecoverState]]) -> RecoverState:
        batches = self.batches(problem)
        states = [next(s for r, s in parts if owner(problem, b, len(batches)) in r) for b in range(len(batches))]
        state = states[min(parts[0][1].batch, len(states) - 1)]  # all have come as far: the one that works there
        payload = state.payload
        for items, one in zip(batches[: state.batch], states, strict=False):
            payload = self.canvas.put(payload, self.canvas.taken(one.payload, items), items)
        return replace(state, payload=payload)

    def num_steps(self, problem: Problem) -> int:
        return len(self.batches(problem)) * self.iterations

    def step_costs(self, problem: Problem, state: RecoverState) -> tuple[StepCost, ...]:
        size = self.most or max(map(len, self.batches(problem)))

        def iterate() -> object:
            return self.step(problem, state, generator(0, "plan"))[1]

        batch = StepCost(what=self.what, samples=size, size=size, ready=lambda _: iterate)
        return (batch, self.labeller.part(problem))


def owner(problem: Problem, batch: int, batches: int) -> int:
    """The class by whose shard a batch is made: all shards get nearly as many, as far as there are enough."""
    return batch * problem.num_classes // batches


@dataclass(frozen=True, kw_only=True)
class Recovering:
    """The settings of a recovery that are not published for a method; the other fields are those of the final class."""

    state_type: ClassVar[type] = RecoverState
    may_be_zero: ClassVar[tuple[str, ...]] = ("pad", "jitter", "epochs_trained")
    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone")

    iterations: int
    lr: float
    r_bn: float
    batch: int = 100
    """Items of a batch, which share statistics, crop and flip."""
    composition: Composition = "slots"
    """Who shares a batch: one item of each class (slots), items in class order (classes), items of one class."""
    init_from: Literal["noise", "real", "mosaic"] = "noise"
    """What items begin as: standard normal noise, random real samples, or mosaics of realistic crops (RDED's)."""
    start_rank: Literal["lowest", "medium"] = "lowest"
    """Which crops a mosaic is made of: those that the teachers find most realistic, or those in the middle."""
    factor: int = 1
    """Crops along a side of a mosaic, where items begin as mosaics (2 for ImageNet)."""
    samples: int = 300
    """Real samples per class that the crops of mosaics are taken from (RDED's scripts, --mipc)."""
    crops: int = 5
    """Crops of each of them (RDED's --num-crop)."""
    crop: float = 0.08
    """Least part of the area that a crop keeps (torchvision's RandomResizedCrop)."""
    curriculum: Curriculum = "none"
    """How the least part falls from the whole to ``crop``: not at all, along a cosine or a line, or at once."""
    milestone: float = 1.0
    """The part of the iterations at which it has fallen."""
    flip: bool = True
    """Mirror the batch in half of the iterations; never where the source shows digits."""
    pad: int = 0
    """The batch is moved by up to so many pixels each way, over a border of zeros (torchvision's RandomCrop)."""
    jitter: int = 4
    """The batch is rolled by 0 … so many pixels along each side."""
    first_layer: float = 10.0
    """What the first layer's statistics count, where the others count 1."""
    tv: float = 0.0
    """Weight of the total variation; 0 in all published scripts."""
    l2: float = 0.0
    """Weight of the pictures' L2 norm; 0 in all published scripts."""
    parametrization: str = "pixels"
    """What is optimised."""

    def recovery(self, problem: Problem, labeller: Labeller) -> Recovery:
        """SRe2L with these settings, of which a method changes parts."""
        begin = Beginning(
            how=self.init_from, rank=self.start_rank, factor=self.factor, samples=self.samples, crops=self.crops
        )
        view = View(
            crop=self.crop, curriculum=self.curriculum, milestone=self.milestone, flip=self.flip, pad=self.pad,
            jitter=self.jitter,
        )  # fmt: skip
        return Recovery(
            labeller=labeller, canvas=canvas_of(problem), begin=begin,
            batches=Batches(size=self.batch, composition=self.composition), iterations=self.iterations, lr=self.lr,
            view=view, match=Running(first=self.first_layer), r_bn=self.r_bn, prior=Prior(tv=self.tv, l2=self.l2),
        )  # fmt: skip
