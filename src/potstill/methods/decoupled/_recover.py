"""Recovery of pictures from frozen teachers: the one loop of SRe2L and all that came after it.

A batch of items is moved down the teacher's cross-entropy and the distance of BatchNorm statistics, under one random
crop, move, flip and roll for the whole batch; then comes the next batch. One step is one iteration of one batch. A run
that is stopped early has finished batches, one under way, and items that are still what the method begins from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from potstill.augment.crop import boxes
from potstill.core import Metrics, Part, Problem, Synthetic
from potstill.functional.crops import Curriculum, crop_bound, cropped
from potstill.functional.statistics import Seen, gap, of_batch_norm, pixel_length, total_variation, watch
from potstill.functional.transforms import resize
from potstill.methods._matching import Rule, hard_labels, start
from potstill.methods.decoupled._realism import mosaics
from potstill.methods.decoupled._state import Composition, RecoverState, Rules, bounds, moved, plan
from potstill.methods.decoupled._teachers import Member, Taught
from potstill.rng import generator

__all__ = ["Recover"]

RATIO = (3 / 4, 4 / 3)
"""Width to height of a crop, at least and at most (torchvision's RandomResizedCrop)."""


@dataclass(frozen=True, kw_only=True)
class Recover(Taught[RecoverState]):
    """Abstract: the loop, and what is not published for a method; the other fields are those of the final classes."""

    state_type: ClassVar[type] = RecoverState
    in_turn: ClassVar[bool] = False
    """Whether each iteration asks one teacher, the next one the next."""
    may_be_zero: ClassVar[tuple[str, ...]] = ("pad", "jitter", "epochs_trained")
    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone")

    iterations: int
    lr: float
    r_bn: float
    batch: int = 100
    """Items of a batch, which share statistics, crop and flip."""
    composition: Composition = "slots"
    """Who shares a batch: one item of each class (slots), items in class order (classes), items of one class."""
    start: Literal["noise", "real", "mosaic"] = "noise"
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

    # --- what a method says -------------------------------------------------------------------------------------

    @property
    def rules(self) -> Rules:
        """What is taken from the inputs of which layers."""
        return {nn.BatchNorm2d: of_batch_norm}

    def beginning(self, problem: Problem, rng: Generator) -> Tensor:
        """What all items begin as, in model space, classes in label order."""
        members = self.teachers(problem)
        if self.start != "mosaic":
            return start(problem, self.start, rng, Rule(lr=self.lr)).payload["inputs"]
        return mosaics(
            problem, members, rng, samples=self.samples, crops=self.crops, factor=self.factor, rank=self.start_rank
        )

    def real_statistics(self, problem: Problem) -> Mapping[str, Tensor]:
        """What is taken from the real data before the first step."""
        return {}

    def begin(self, problem: Problem, state: RecoverState, items: Tensor, rng: Generator) -> Mapping[str, Tensor]:
        """What the batch of ``items``, about to begin, keeps in ``state.memory``."""
        return {}

    def staged(self, problem: Problem, state: RecoverState, items: Tensor) -> RecoverState:
        """The state before an iteration of a batch, where that begins a new stage."""
        return state

    def classes_of(self, problem: Problem, state: RecoverState, items: Tensor) -> Tensor:
        """The class of each picture that this iteration sees, where the batch is of ``items``."""
        return hard_labels(problem)[items]

    def within(self, problem: Problem, work: Tensor) -> Tensor:
        """What is optimised, kept to values that pixels can have."""
        return work if (limits := bounds(problem)) is None else work.clamp(*limits)

    def active(self, problem: Problem, state: RecoverState, items: Tensor) -> Tensor:
        """Which of the batch's items this iteration moves (b,)."""
        return torch.ones(len(items), dtype=torch.bool)

    def voices(self, problem: Problem, state: RecoverState) -> list[tuple[int, Member, float]]:
        """The teachers of this iteration: number, network, and weight. All of them, or one after the other."""
        members = self.teachers(problem)
        if self.in_turn:
            number = state.iteration % len(members)
            return [(number, members[number], 1.0)]
        return [(n, member, 1 / len(members)) for n, member in enumerate(members)]

    def distance(
        self, problem: Problem, state: RecoverState, number: int, member: Member, seen: Seen, y: Tensor, rng: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How far the batch's statistics are from the real ones, and what ``state.memory`` has of it from now on."""
        return gap(seen, member.running(), first=self.first_layer), {}

    def prior(self, view: Tensor, y: Tensor) -> Tensor:
        """What else the loss has of the pictures, as the teachers see them."""
        total = view.new_zeros(())
        if self.tv:
            total = total + self.tv * total_variation(view)
        return total + self.l2 * pixel_length(view) if self.l2 else total

    # --- the four verbs -----------------------------------------------------------------------------------------

    def init(self, problem: Problem, rng: Generator) -> RecoverState:
        x = self.beginning(problem, rng)
        return RecoverState.of(x, self.real_statistics(problem))

    def step(self, problem: Problem, state: RecoverState, rng: Generator) -> tuple[RecoverState, Metrics]:
        batches = self.plan(problem)
        items = batches[state.batch]
        if len(state.work) == 0:
            begun = state.x[items.to(state.x.device)]
            state = state.begun(begun, self.begin(problem, state, items, rng))
        state = self.staged(problem, state, items)
        active = self.active(problem, state, items)
        y = self.classes_of(problem, state, items[active]).to(state.work.device)
        with torch.enable_grad():
            x = state.work[active.to(state.work.device)].requires_grad_()
            loss, shown, memory = self.objective(problem, state, self.view(problem, state, x, rng), y, rng)
            (grad,) = torch.autograd.grad(loss, x)
        state = moved(state, active, grad, self.rate(state))
        kept = {**state.memory, **{n: t.detach() for n, t in memory.items()}}
        state = replace(state, work=self.within(problem, state.work), memory=kept)
        if state.iteration == self.length:
            state = state.finished(items)
        return state, {"loss": float(loss.detach()), **shown, "batches": state.batch + state.iteration / self.length}

    def done(self, problem: Problem, state: RecoverState) -> bool:
        return state.batch >= len(self.plan(problem))

    def result(self, problem: Problem, state: RecoverState) -> Synthetic:
        under_way = None if self.done(problem, state) else self.plan(problem)[state.batch]
        x = state.whole(under_way)
        return Synthetic(payload={"inputs": x}, labels=self.labels_of(problem, x))

    def horizon(self, problem: Problem) -> int:
        return len(self.plan(problem)) * self.length

    def parts(self, problem: Problem, state: RecoverState) -> tuple[Part, ...]:
        size = max(map(len, self.plan(problem)))

        def iterate() -> object:
            return self.step(problem, state, generator(0, "plan"))[1]

        batch = Part(what="a batch of items", samples=size, size=size, ready=lambda _: iterate)
        return (batch, self.labelling(problem))

    # --- parts --------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Iterations of a batch."""
        return self.iterations

    def plan(self, problem: Problem) -> tuple[Tensor, ...]:
        """The items of each batch."""
        return plan(problem.sizes, self.batch, self.composition)

    def rate(self, state: RecoverState) -> float:
        """The learning rate of this iteration: half a cosine, from ``lr`` to zero after the last."""
        return self.lr * (1 + math.cos(math.pi * state.iteration / self.length)) / 2

    def view(self, problem: Problem, state: RecoverState, x: Tensor, rng: Generator) -> Tensor:
        """The batch (n, c, h', w') under one crop, move, flip and roll, of the size that the data has.

        Not every teacher takes pictures of another size, so those of a stage that is smaller are enlarged.
        """
        (h, w), (_, height, width) = x.shape[2:], problem.train.input.shape
        size = (height, width)
        least = crop_bound(state.iteration, self.length, self.crop, self.curriculum, self.milestone)
        if least < 1:
            top, left, rows, columns = boxes(1, h, w, (least, 1.0), RATIO, rng)[0].tolist()
            x = cropped(x, (top, left, rows, columns), size)
        else:
            x = resize(x, size)
        if self.pad:
            top, left = torch.randint(2 * self.pad + 1, (2,), generator=rng).tolist()
            x = F.pad(x, (self.pad,) * 4)[..., top : top + height, left : left + width]
        if self.flip and problem.train.input.mirrored and bool(torch.rand((), generator=rng) < 0.5):
            x = x.flip(3)
        if self.jitter:
            down, right = torch.randint(self.jitter + 1, (2,), generator=rng).tolist()
            x = x.roll((down, right), (2, 3))
        return x

    def objective(
        self, problem: Problem, state: RecoverState, view: Tensor, y: Tensor, rng: Generator
    ) -> tuple[Tensor, dict[str, float], Mapping[str, Tensor]]:
        """The loss of some items seen as ``view``, its parts to show, and what is remembered of them."""
        entropy, away = view.new_zeros(()), view.new_zeros(())
        memory: dict[str, Tensor] = {}
        for number, member, weight in self.voices(problem, state):
            logits, seen = watch(member.network, member.weights, view, self.rules)
            distance, kept = self.distance(problem, state, number, member, seen, y, rng)
            entropy, away = entropy + weight * F.cross_entropy(logits, y), away + weight * distance
            memory |= kept
        loss = entropy + self.r_bn * away + self.prior(view, y)
        return loss, {"ce": float(entropy.detach()), "bn": float(away.detach())}, memory
