r"""The objective of unrolled training: the loss, on real samples, of a student that was trained on what is stored.

.. math:: \min_S \; E_{\theta_0, w}\, \ell_T(\theta_{s+W}), \qquad \theta_{i+1} = U(\theta_i, \nabla \ell_S(\theta_i))

with a window w of W steps after a burn-in of s, through which alone gradients go (truncated backpropagation through
time). They are exact in the memory of one step (`potstill.functional.unroll`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, Space, StepCost
from potstill.core.nested import device_of, index, iter_batches, num_samples
from potstill.errors import NonFiniteError
from potstill.functional.sampling import draw_per_class
from potstill.functional.train import copy_parameters
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import (
    IN_MEMORY,
    Inner,
    Loss,
    Mode,
    Outer,
    State,
    advance,
    begin,
    begun,
    last,
    slopes,
    train,
)  # fmt: skip
from potstill.methods.engine import (
    SCORES,
    TARGETS,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
    augment_function,
    decode_inputs,
    hard_labels,
    has_classes,
    inputs_of_view,
    named_inputs,
)
from potstill.methods.performance._windows import Batches, Windows
from potstill.rng import draw_seed, generator

__all__ = ["RATE", "RATES", "Block", "Real", "Students", "Unrolling", "clipped", "moving", "real_loss", "student_loss"]

RATE, RATES = "student/lr", "student/rates"
"""The leaf of a learned learning rate, and that of one for each step."""

CHUNK = 256
"""Real samples that pass a network at once. Ours: the gradient is that of all, in the memory of so many."""


SMALL = 2**18
"""Numbers that a window's steps look at, in all, up to which one graph holds it: about a quarter faster than replay.
With a ConvNet of width 128 that is a quarter to three quarters of a GB. Ours."""


@final
@dataclass(frozen=True, kw_only=True)
class Students:
    """Networks of unrolled training: an untrained one for every step."""

    known: int = 0
    """How many there are, which are those of the seeds 0, 1, …; 0: every step draws another."""

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return state

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        drawn = int(torch.randint(self.known, (1,), generator=rng)) if self.known else draw_seed(rng)
        return problem.network(drawn).train(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        return replace(state, iteration=state.iteration + 1)

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class Real:
    """A batch of real samples, augmented."""

    x: Inputs
    y: Tensor

    @classmethod
    def drawn(cls, problem: Problem, batch: int, rng: Generator) -> "Real":
        """About ``batch`` samples, equally many of each class, at least one, all of a class that has no more."""
        each = max(1, batch // problem.num_classes)
        at = torch.cat(draw_per_class(problem.class_indices, each, rng))
        found = problem.train.fetch(at)
        drawn = problem.augment.draw(len(at), problem.train.input.shape, rng)
        y = found.y
        if has_classes(problem) or y is None:
            y = problem.train.labels[at].to(device_of(found.x))
        with torch.no_grad():
            return cls(x=augment_function(problem)(found.x, drawn), y=y)


@dataclass(frozen=True, kw_only=True)
class Block:
    """What the descent of one step looks at."""

    net: Network
    start: int
    """Steps of the burn-in."""
    batches: list[tuple[Tensor | None, object]]
    """For each step of the student: which decoded inputs it sees, and how they are augmented."""
    real: Real
    found: dict[str, float] = field(default_factory=dict)
    """What the descent leaves for the state after it: ``norm``, before clipping, and ``right``."""


@final
@dataclass(frozen=True, kw_only=True)
class Unrolling:
    """The loss of students after a burn-in and a window, on real samples."""

    windows: Windows
    batches: Batches
    inner: Inner
    lr: float
    """The students' learning rate, where it is not learned."""
    batch_real: int
    """Real samples of a step."""
    space: Space = "model"
    clip: float = 0.0
    """The gradient by the decoded inputs is no longer than this, or with ``average`` than so many times the moving
    average of its norm; 0: it is as it is."""
    average: float = 0.0
    """How much of that average stays in a step; 0: there is none."""
    mode: Mode | None = None
    """How gradients go through a window; ``None``: in one graph where that is small (`SMALL`), else in replay."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        net = networks.draw_networks(problem, state, rng)[0]

        def probe(n: int) -> Tensor:
            student = networks.draw_networks(problem, state, rng)[0]
            return self.norms(problem, state, student, [self.drawn(problem, i, rng) for i in range(n)])

        held = {n: t for n, t in state.memory.items() if n != "norm"}
        memory = self.windows.begin(held, probe, rng)
        start, size = self.windows.choose(memory, rng)
        batches = [self.drawn(problem, i, rng) for i in range(start + size)]
        kept = {n: t for n, t in state.memory.items() if n == "norm"}
        made = Block(net=net, start=start, batches=batches, real=Real.drawn(problem, self.batch_real, rng))
        return replace(state, memory={**memory, **kept}), made

    def updates(self, problem: Problem, state: MatchingState, block: Block) -> Iterator[Update]:
        def compared(classes: list[int], seen: ObjectiveInputs) -> LossAndGrads:
            return self.compared(problem, state, block, seen)

        yield Update("loss", compared, [list(range(problem.num_classes))])

    def compared(self, problem: Problem, state: MatchingState, block: Block, seen: ObjectiveInputs) -> LossAndGrads:
        """The loss on real samples, and its gradients, clipped."""
        leaves, lr = moving(seen), seen.get(RATE, 1.0 if RATES in seen else self.lr)
        loss = student_loss(problem, block.net, block.batches, seen, scores=_scored(problem, state))
        at = last(loss, begin(copy_parameters(block.net), self.inner), leaves, lr, self.inner, range(block.start))
        outer = real_loss(problem, block.net, block.real, block.found)
        mode, window = self._mode(problem, len(block.batches) - block.start), range(block.start, len(block.batches))
        try:
            known = begun(at, window) if mode == "full" else train(loss, at, leaves, lr, self.inner, window)
            made = slopes(loss, known, leaves, lr, self.inner, outer, mode)
        except NonFiniteError:
            if mode != "full":
                raise
            trail = train(loss, at, leaves, lr, self.inner, window)  # replay says at which step
            made = slopes(loss, trail, leaves, lr, self.inner, outer)
        found = made.leaves | ({RATE: made.lr} if RATE in seen else {})
        return made.loss, clipped(found, self._longest(state, found, block))

    def _mode(self, problem: Problem, window: int) -> Mode:
        numbers = window * self.batches.size(problem.sizes) * problem.train.input.num_values
        return self.mode or ("full" if numbers <= SMALL else "replay")

    def _longest(self, state: MatchingState, found: Mapping[str, Tensor], block: Block) -> float:
        """How long the gradient may be; the average is that with this step's (distill_higher.py of RaT-BPTT)."""
        if not self.clip:
            return 0.0
        norm = length(found)
        if not self.average:
            return self.clip
        before = state.memory.get("norm")
        norm = norm if before is None else self.average * float(before) + (1 - self.average) * norm
        block.found["norm"] = norm
        return self.clip * norm

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        held = {n: t for n, t in state.memory.items() if n != "norm"}
        memory = dict(self.windows.after(held, block.found["right"]))
        if "norm" in block.found:
            memory["norm"] = torch.tensor(block.found["norm"])
        return replace(state, memory=memory)

    def drawn(self, problem: Problem, step: int, rng: Generator) -> tuple[Tensor | None, object]:
        """What a step of a student looks at."""
        rows = self.batches(problem.sizes, step, rng)
        n = sum(problem.sizes) if rows is None else len(rows)
        return rows, problem.augment.draw(n, problem.train.input.shape, rng)

    def norms(
        self, problem: Problem, state: MatchingState, net: Network, batches: list[tuple[Tensor | None, object]]
    ) -> Tensor:
        """Norms of the gradients of a student's steps (n,)."""
        seen = self._present(problem, state)
        loss, made = student_loss(problem, net, batches, seen, scores=_scored(problem, state)), list[Tensor]()
        student = begin(copy_parameters(net), self.inner)
        for i in range(len(batches)):
            after = advance(loss, student, moving(seen), self.lr, self.inner, i)
            made.append(_norm_of_step(student, after, self.inner, self.lr))
            student = after
        return torch.stack(made)

    def _present(self, problem: Problem, state: MatchingState) -> dict[str, Tensor]:
        """What is seen at this state, without a graph. Learned rates are not: the values of leaves need their rules."""
        S, rows = decode_inputs(problem, state.params, self.space)
        seen = named_inputs(S)
        if SCORES in state.params.value or (has_classes(problem) and rows.is_floating_point()):
            seen["labels"] = rows
        elif not has_classes(problem):
            seen[TARGETS] = rows
        return seen

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng = generator(0, "plan")
        total, window = self.windows.most
        net, seen = problem.network(0), self._present(problem, state)
        loss = student_loss(
            problem, net, [self.drawn(problem, i, rng) for i in range(window)], seen, scores=_scored(problem, state)
        )
        n, real = self.batches.size(problem.sizes), Real.drawn(problem, self.batch_real, rng)

        def replayed() -> object:
            student, mode = begin(copy_parameters(net), self.inner), self._mode(problem, window)
            if mode == "full":
                return slopes(loss, begun(student, range(window)), moving(seen), self.lr, self.inner, _sum, mode)
            trail = train(loss, student, moving(seen), self.lr, self.inner, range(1))
            kept = torch.empty(min(IN_MEMORY, 4 * window * sum(t.numel() for t in _all(student))), dtype=torch.uint8)
            return slopes(loss, trail, moving(seen), self.lr, self.inner, _sum, mode), kept

        def asked() -> object:
            theta = {name: t.requires_grad_() for name, t in copy_parameters(net).items()}
            with torch.enable_grad():
                return torch.autograd.grad(real_loss(problem, net, real, {})(theta), tuple(theta.values()))

        return (
            StepCost(what="a step of a student", samples=n * total, size=n, ready=lambda _: replayed, when="descent"),
            StepCost(
                what="real samples of the student's end", real=True, samples=len(real.y), size=min(CHUNK, len(real.y)),
                ready=lambda _: asked, when="descent",
            ),
        )  # fmt: skip


def _sum(theta: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([t.sum() for t in theta.values()]).sum()


def _all(state: State) -> list[Tensor]:
    return [*state.theta.values(), *state.first.values(), *state.second.values()]


def _norm_of_step(before: State, after: State, inner: Inner, lr: float) -> Tensor:
    """Of the gradient that led from one state to the next, without the weights' decay."""
    if inner.optimizer == "adam":
        decay = inner.betas[0]
        grads = [(after.first[n] - decay * m) / (1 - decay) for n, m in before.first.items()]
    elif inner.momentum:
        grads = [after.first[n] - inner.momentum * v for n, v in before.first.items()]
    else:
        grads = [(t - after.theta[n]) / lr for n, t in before.theta.items()]
    if inner.weight_decay:
        grads = [g - inner.weight_decay * t for g, t in zip(grads, before.theta.values(), strict=True)]
    return torch.stack([g.square().sum() for g in grads]).sum().sqrt()


def moving(seen: ObjectiveInputs) -> dict[str, Tensor]:
    """What gradients are asked of, apart from the learned rate that steps share: inputs, labels, rates of steps."""
    return {n: t for n, t in seen.items() if t.is_floating_point() and n not in (TARGETS, RATE)}


def _scored(problem: Problem, state: MatchingState) -> bool:
    """Whether labels of classes are real values."""
    return SCORES in state.params.value and has_classes(problem)


def student_loss(
    problem: Problem,
    net: Network,
    batches: list[tuple[Tensor | None, object]],
    seen: ObjectiveInputs,
    *,
    scores: bool = False,
) -> Loss:
    """The student's loss at its step i: that of the task, on batch i of what is decoded.

    Where there are rates of steps, it is multiplied with that of the step, so that a student of plain SGD at rate 1
    makes steps at these rates. ``scores``: labels are those of classes as real values, to which 1/k is added; a row may
    then have negative numbers, and pushes a student away from a class.
    """
    apply, criterion, fixed = augment_function(problem), problem.task.loss, dict(seen)
    above = 1 / problem.num_classes if scores else 0.0
    hard = hard_labels(problem).to(device_of(inputs_of_view(seen))) if has_classes(problem) else None

    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        rows, drawn = batches[step]
        now = {**fixed, **leaves}
        x, y = inputs_of_view(now), now.get("labels", now.get(TARGETS, hard))
        assert y is not None
        if rows is not None:
            x, y = index(x, rows), y.index_select(0, rows.to(y.device))
        y = y + above if above else y
        value = loss_of(net, theta, apply(x, drawn), y, criterion=criterion)
        return value * now[RATES][step] if RATES in now else value

    return loss


def real_loss(problem: Problem, net: Network, real: Real, found: dict[str, float]) -> Outer:
    """The task's loss of weights on real samples, `CHUNK` at once, whose first derivative is exact.

    The parts' gradients are summed as they come; what is returned is linear in the weights, with this value and slope.
    ``found`` gets ``right``: the part of them that the student is right about, or 0 where there are no classes.
    """
    criterion, n, classed = problem.task.loss, num_samples(real.x), has_classes(problem)

    def outer(theta: Mapping[str, Tensor]) -> Tensor:
        used = {name: t.detach().requires_grad_() for name, t in theta.items()}
        total, right = torch.zeros(()), 0
        sums: dict[str, Tensor] = {}

        def counting(output: Tensor, y: Tensor) -> Tensor:
            nonlocal right
            right += int((output.detach().argmax(1) == y).sum()) if classed else 0
            return criterion(output, y)

        for x, y in zip(iter_batches(real.x, CHUNK), torch.split(real.y, CHUNK), strict=True):
            with torch.enable_grad():
                value = loss_of(net, used, x, y, criterion=counting) * (len(y) / n)
                grads = torch.autograd.grad(value, tuple(used.values()), allow_unused=True)
            total = total.to(value) + value.detach()
            for name, g in zip(used, grads, strict=True):
                if g is not None:
                    sums[name] = sums[name] + g if name in sums else g
        found["right"] = right / n
        straight = [((t - t.detach()) * sums[name]).sum() for name, t in theta.items() if name in sums]
        return total + torch.stack(straight).sum()

    return outer


def length(found: Mapping[str, Tensor]) -> float:
    """The norm of the gradient by the decoded inputs."""
    parts = [g.square().sum() for n, g in found.items() if n.startswith("inputs")]
    return float(torch.stack(parts).sum().sqrt()) if parts else 0.0


def clipped(found: Mapping[str, Tensor], longest: float) -> dict[str, Tensor]:
    """The gradients, those by the inputs shortened to ``longest`` where they are longer; 0: none is."""
    norm = length(found)
    if not longest or norm <= longest:
        return dict(found)
    return {n: g * (longest / norm) if n.startswith("inputs") else g for n, g in found.items()}
