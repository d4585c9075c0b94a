r"""Canvas packing, after OD3: Optimization-free Dataset Distillation for Object Detection (Al Khatib et al., ICLR 2026,
arXiv:2506.01942).

.. math::
    \tilde x = \mathrm{paste}(x_0; \{o : \mathrm{conf}_\theta(o \mid \tilde x) \ge \gamma\}), \qquad
    \mathrm{conf}_\theta(o \mid x) = \max \{ s : (b, y, s) \in f_\theta(x),\ y = y_o,\ \mathrm{IoU}(b, b_o) \ge 1/2 \}

Nothing is optimised. An observer f, a detector trained on the real data, is made first. Then each picture is a canvas
on which objects that are cut from real pictures are pasted at random places, unless they share more than a part of
their box with another; the observer looks at it, objects that it does not find are taken off, and the room is filled
again. At last it labels what it is sure of and what has no box yet, such as parts of pictures around an object.

The authors' programs paste on grounds of real pictures, draw objects in the order of the data, write the observer's
soft labels of features and boxes, and train students by distilling features; here the set has boxes alone, a ground
keeps the boxes of its own, and objects are drawn with equal classes. One step is an epoch of the observer, and later
one picture; until then pictures are random real ones.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from potstill.augment.siamese import Siamese
from potstill.core import Method, MethodInfo, Metrics, Presets, Problem, StepCost, Synthetic, UnitFloat
from potstill.functional.paste_objects import Canvas, CutObject, cut_object, place_object
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, train_epoch
from potstill.methods.engine import initial_samples, require_tensor
from potstill.rng import draw_seed, generator
from potstill.tasks import box_overlaps, get_targets, list_targets, pad_targets, target_mask

__all__ = ["CanvasPacking", "PackingState"]


@dataclass(frozen=True, kw_only=True)
class PackingState:
    x: Tensor
    """All pictures in data units."""
    y: Tensor
    """Their boxes, padded, wide enough for all that a canvas can hold."""
    observer: Teacher
    seed: int
    """Seed of the draws of each epoch and picture."""
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class CanvasPacking(Method[PackingState]):
    """Real objects pasted on canvases, as far as a trained detector finds them there."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="OD3: Optimization-free Dataset Distillation for Object Detection", paper="arXiv:2506.01942", year=2026,
        family="decoupled", tasks=("detection",),
        use_when="Take it for pictures with boxes of which some classes are rare: each picture holds more objects.",
        avoid_when="Avoid blank grounds, which were far below random pictures on scenes of digits; on real ones it "
        "was not told apart from them.",
        related=("balanced-boxes", "random", "rded"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {"quick": {"observer_epochs": 10}, "good": {"observer_epochs": 30}}
    state_type: ClassVar[type] = PackingState

    network: str = "centernet"
    """The observer's architecture (published: Faster R-CNN)."""
    observer_epochs: int = 100
    """Passes over the real data that train the observer."""
    observer_lr: float = 0.02
    """Its learning rate, which falls along half a cosine; SGD with momentum 0.9."""
    observer_batch: int = 32
    """Pictures of its steps."""
    canvas: Literal["real", "blank"] = "real"
    """Ground: a random real picture with its own boxes, or a plain one of the data's mean."""
    objects: int = 20
    """Objects that are tried on a canvas in each round."""
    rounds: int = 2
    """Rounds of pasting and screening."""
    overlap: UnitFloat = 0.1
    """Most that two boxes may share, as a part of the smaller one. Ours: scripts, --overlap-threshold, have 0.6."""
    confidence: UnitFloat = 0.2
    """γ: objects of less are taken off (scripts, --conf-threshold)."""
    context: UnitFloat = 0.02
    """Pixels around an object, as a share of the picture's shorter side (scripts: 10 of 484)."""
    relabel: UnitFloat = 0.5
    """Confidence from which the observer's own boxes are added where none is; 1: none."""
    draws: Literal["equal", "natural"] = "equal"
    """Classes of drawn objects: all alike, or as they are in the data."""

    def init(self, problem: Problem, rng: Generator) -> PackingState:
        x, y = initial_samples(problem, "real", rng, "data")
        assert y is not None
        seed, width = draw_seed(rng), y.shape[1] + self.objects * self.rounds + 100
        wide = torch.full((len(y), width, 5), torch.finfo(torch.float32).min)
        wide[:, : y.shape[1]] = y.cpu()
        observer = fresh_teacher(problem.network(draw_seed(rng)))
        return PackingState(x=require_tensor(x), y=wide, observer=observer, seed=seed)

    def step(self, problem: Problem, state: PackingState, rng: Generator) -> tuple[PackingState, Metrics]:
        at = state.steps
        if at < self.observer_epochs:
            return replace(state, observer=self._trained(problem, state), steps=at + 1), {"epoch": float(at + 1)}
        n, source = at - self.observer_epochs, generator(state.seed, "canvas", at - self.observer_epochs)
        canvas, added = self._packed(problem, state, n, source)
        rows = torch.cat([canvas.rows, added])
        x, y = state.x.clone(), state.y.clone()
        x[n] = canvas.painted().to(x)
        y[n] = pad_targets([rows, y.new_zeros(y.shape[1], 5)])[0]
        metrics = {"objects": float(len(rows)), "pasted": float(len(canvas.objects)), "relabelled": float(len(added))}
        return replace(state, x=x, y=y, steps=at + 1), metrics

    def done(self, problem: Problem, state: PackingState) -> bool:
        return state.steps >= self.num_steps(problem)

    def result(self, problem: Problem, state: PackingState) -> Synthetic:
        return Synthetic(payload={"inputs": state.x}, labels=pad_targets(list_targets(state.y)), space="data")

    def num_steps(self, problem: Problem) -> int:
        return self.observer_epochs + sum(problem.sizes)

    def step_costs(self, problem: Problem, state: PackingState) -> tuple[StepCost, ...]:
        size, epochs = min(self.observer_batch, len(problem.train)), self.observer_epochs

        def train() -> object:
            return self._epoch(problem, state.observer, torch.arange(size), self.observer_lr, generator(0, "plan"))

        every = max(1, round(self.num_steps(problem) / epochs))
        return (
            StepCost(
                what="training of the observer", samples=len(problem.train), size=size, real=True, every=every,
                ready=lambda _: train,
            ),
        )  # fmt: skip

    def _trained(self, problem: Problem, state: PackingState) -> Teacher:
        rng = generator(state.seed, "epoch", state.steps)
        lr = self.observer_lr * (1 + math.cos(math.pi * state.steps / self.observer_epochs)) / 2
        return self._epoch(problem, state.observer, torch.randperm(len(problem.train), generator=rng), lr, rng)

    def _epoch(self, problem: Problem, observer: Teacher, order: Tensor, lr: float, rng: Generator) -> Teacher:
        sgd, none = SGD(batch=self.observer_batch, lr=lr), Siamese(strategy=())
        return train_epoch(problem.network(0), observer, problem.train, order, rng, sgd, augment=none)

    def _packed(self, problem: Problem, state: PackingState, n: int, rng: Generator) -> tuple[Canvas, Tensor]:
        """Return the canvas of picture ``n``, and boxes that the observer adds."""
        own = list_targets(state.y[n : n + 1])[0]
        ground, fixed = state.x[n].cpu(), own
        if self.canvas == "blank":
            ground, fixed = problem.train.normalization.mean.cpu().reshape(-1, 1, 1).expand_as(ground), own[:0]
        canvas, boxes = Canvas(ground, fixed), _Objects(problem, equal=self.draws == "equal")
        for _ in range(self.rounds):
            for _ in range(self.objects):
                canvas = place_object(canvas, boxes.draw(self.context, rng), self.overlap, rng)
            sure = self._confidence(canvas, self._answers(problem, state, canvas))
            canvas = canvas.keep(sure[len(fixed) :] >= self.confidence)
        return canvas, self._further(canvas, self._answers(problem, state, canvas))

    def _further(self, canvas: Canvas, answers: Tensor) -> Tensor:
        """Return the observer's boxes of which it is sure, and which no other box covers by half."""
        rows = canvas.rows
        for answer in answers:
            left, top, right, bottom = answer[:4].tolist()
            if self.relabel == 1 or float(answer[5]) < self.relabel or left >= right or top >= bottom:
                continue
            if not len(rows) or float(box_overlaps(answer[None, :4], rows[:, :4]).max()) < 0.5:
                rows = torch.cat([rows, answer[None, :5]])
        return rows[len(canvas.rows) :]

    def _answers(self, problem: Problem, state: PackingState, canvas: Canvas) -> Tensor:
        x = problem.train.normalization.apply(canvas.painted()[None].to(state.x.device))
        net = problem.network(0).eval()
        with torch.no_grad():
            output = functional_call(net, {**state.observer.params, **state.observer.buffers}, (x,))
        return problem.task.predict(output)[0].cpu()

    def _confidence(self, canvas: Canvas, answers: Tensor) -> Tensor:
        """Return the observer's score of each box of the canvas (total,)."""
        rows = canvas.rows
        shared = box_overlaps(rows[:, :4], answers[:, :4]) >= 0.5
        same = rows[:, None, 4] == answers[None, :, 4]
        return torch.where(shared & same, answers[None, :, 5], 0.0).amax(1)


class _Objects:
    """Boxes of the real pictures, to be drawn."""

    def __init__(self, problem: Problem, *, equal: bool) -> None:
        targets = get_targets(problem.train)
        self.source, self.targets = problem.train, targets
        self.at = target_mask(targets).nonzero()
        label = targets[self.at[:, 0], self.at[:, 1], 4].long()
        counts = torch.bincount(label).double()
        self.weights = 1 / counts[label] if equal else torch.ones(len(label), dtype=torch.float64)

    def draw(self, context: float, rng: Generator) -> CutObject:
        i, j = self.at[int(torch.multinomial(self.weights, 1, generator=rng))].tolist()
        x = require_tensor(self.source.raw(torch.tensor([i])))[0].cpu()
        return cut_object(x, self.targets[i, j], context)
