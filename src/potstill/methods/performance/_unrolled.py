r"""The objective of unrolled training: the loss, on real samples, of a student that was trained on what is stored.

.. math:: \min_S \; E_{\theta_0, w}\, \ell_T(\theta_{s+W}), \qquad \theta_{i+1} = U(\theta_i, \nabla \ell_S(\theta_i))

with a window w of W steps after a burn-in of s, through which alone gradients go (truncated backpropagation through
time). They are exact in the memory of one step (`potstill.functional.unroll`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, Regularizer, Space, StepCost
from potstill.core.nested import device_of, index, iter_batches, num_samples
from potstill.data.real_data import RealData
from potstill.functional.train import copy_parameters, regularization
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import (
    MAX_BYTES_IN_MEMORY,
    InnerOptimizer,
    Loss,
    Mode,
    Outer,
    StudentState,
    init_student,
    run_steps,
    start_trace,
    train_student,
    unrolled_grads,
)  # fmt: skip
from potstill.methods.engine import (
    SCORES,
    TARGETS,
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    augment_function,
    decode_inputs,
    differentiate_student,
    gradient_mode,
    hard_labels,
    has_classes,
    inputs_of_view,
    named_inputs,
)
from potstill.methods.performance._windows import Batches, Windows
from potstill.rng import generator

__all__ = ["STEP_LRS", "STUDENT_LR", "Block", "RealBatch", "Unrolling", "real_loss", "student_loss", "trainable"]

STUDENT_LR, STEP_LRS = "student/lr", "student/rates"
"""The leaf of a learned learning rate, and that of one for each step."""

REAL_CHUNK = 256
"""Real samples that pass a network at once. Ours: the gradient is that of all, in the memory of so many."""


@dataclass(frozen=True, kw_only=True)
class RealBatch:
    """A batch of real samples, augmented."""

    x: Inputs
    y: Tensor

    @classmethod
    def draw(cls, problem: Problem, batch: int, rng: Generator) -> "RealBatch":
        """Draw about ``batch`` samples, equally many of each class, at least one, all of a class that has no more."""
        each = max(1, batch // problem.num_classes)
        real = RealData.of(problem)
        at = torch.cat(real.draw(each, rng))
        samples = real.batch(at)
        drawn = problem.augment.draw(len(at), problem.train.input.shape, rng)
        y = samples.y
        if has_classes(problem) or y is None:
            y = problem.train.labels[at].to(device_of(samples.x))
        with torch.no_grad():
            return cls(x=augment_function(problem)(samples.x, drawn), y=y)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Network, batches and real samples of one step."""

    net: Network
    start: int
    """Steps of the burn-in."""
    batches: list[tuple[Tensor | None, object]]
    """For each step of the student: which decoded inputs it sees, and how they are augmented."""
    real: RealBatch
    outcomes: dict[str, float] = field(default_factory=dict)
    """Values for the next state that the update sets: ``norm``, before clipping, and ``right``."""


@final
@dataclass(frozen=True, kw_only=True)
class Unrolling(JointObjective[Block]):
    """The loss of students after a burn-in and a window, on real samples."""

    windows: Windows
    batches: Batches
    inner: InnerOptimizer
    lr: float
    """The students' learning rate, where it is not learned."""
    batch_real: int
    """Real samples of a step."""
    space: Space = "model"
    clip: float = 0.0
    """The gradient by the decoded inputs is no longer than this, or with ``average`` than so many times the moving
    average of its norm; 0: it is as it is."""
    clip_decay: float = 0.0
    """Decay of that average; 0: there is none."""
    mode: Mode | None = None
    """Differentiation of a window; ``None``: by its size (`potstill.methods.engine.gradient_mode`)."""
    regularizer: Regularizer | None = None
    """Added to the students' loss on real samples (GUARD)."""

    def regularized(self, regularizer: Regularizer) -> "Unrolling":
        return replace(self, regularizer=regularizer)

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        net = networks.draw_networks(problem, state, rng)[0]

        def probe(n: int) -> Tensor:
            student = networks.draw_networks(problem, state, rng)[0]
            return self.step_norms(problem, state, student, [self.draw_batch(problem, i, rng) for i in range(n)])

        held = {n: t for n, t in state.memory.items() if n != "norm"}
        memory = self.windows.prepare(held, probe, rng)
        start, size = self.windows.choose(memory, rng)
        batches = [self.draw_batch(problem, i, rng) for i in range(start + size)]
        kept = {n: t for n, t in state.memory.items() if n == "norm"}
        made = Block(net=net, start=start, batches=batches, real=RealBatch.draw(problem, self.batch_real, rng))
        return replace(state, memory={**memory, **kept}), made

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Block, view: ObjectiveInputs
    ) -> LossAndGrads:
        """Return the loss on real samples and its clipped gradients."""
        leaves, lr = trainable(view), view.get(STUDENT_LR, 1.0 if STEP_LRS in view else self.lr)
        loss = student_loss(problem, block.net, block.batches, view, scores=_has_scores(problem, state))
        at = run_steps(
            loss, init_student(copy_parameters(block.net), self.inner), leaves, lr, self.inner, range(block.start)
        )
        outer = real_loss(problem, block.net, block.real, block.outcomes, self.regularizer)
        window = range(block.start, len(block.batches))
        made = differentiate_student(loss, at, leaves, lr, self.inner, window, outer, self._mode(problem, len(window)))
        grads = made.leaves | ({STUDENT_LR: made.lr} if STUDENT_LR in view else {})
        return made.loss, clip_grads(grads, self._max_norm(state, grads, block))

    def _mode(self, problem: Problem, window: int) -> Mode:
        elements = window * self.batches.size(problem.sizes) * problem.train.input.num_values
        return gradient_mode(self.mode, elements)

    def _max_norm(self, state: MatchingState, grads: Mapping[str, Tensor], block: Block) -> float:
        """Return the maximum gradient norm; the average includes this step (distill_higher.py of RaT-BPTT)."""
        if not self.clip:
            return 0.0
        norm = input_grad_norm(grads)
        if not self.clip_decay:
            return self.clip
        before = state.memory.get("norm")
        norm = norm if before is None else self.clip_decay * float(before) + (1 - self.clip_decay) * norm
        block.outcomes["norm"] = norm
        return self.clip * norm

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        held = {n: t for n, t in state.memory.items() if n != "norm"}
        memory = dict(self.windows.update(held, block.outcomes["right"]))
        if "norm" in block.outcomes:
            memory["norm"] = torch.tensor(block.outcomes["norm"])
        return replace(state, memory=memory)

    def draw_batch(self, problem: Problem, step: int, rng: Generator) -> tuple[Tensor | None, object]:
        """Draw the batch of a student's step and its augmentation."""
        rows = self.batches(problem.sizes, step, rng)
        n = sum(problem.sizes) if rows is None else len(rows)
        return rows, problem.augment.draw(n, problem.train.input.shape, rng)

    def step_norms(
        self, problem: Problem, state: MatchingState, net: Network, batches: list[tuple[Tensor | None, object]]
    ) -> Tensor:
        """Return the gradient norms of a student's steps (n,)."""
        view = self._current_inputs(problem, state)
        loss, made = student_loss(problem, net, batches, view, scores=_has_scores(problem, state)), list[Tensor]()
        student = init_student(copy_parameters(net), self.inner)
        for i in range(len(batches)):
            after = run_steps(loss, student, trainable(view), self.lr, self.inner, range(i, i + 1))
            made.append(_step_norm(student, after, self.inner, self.lr))
            student = after
        return torch.stack(made)

    def _current_inputs(self, problem: Problem, state: MatchingState) -> dict[str, Tensor]:
        """Return the objective's inputs at this state without a graph and without learned rates."""
        S, rows = decode_inputs(problem, state.params, self.space)
        view = named_inputs(S)
        if SCORES in state.params.value or (has_classes(problem) and rows.is_floating_point()):
            view["labels"] = rows
        elif not has_classes(problem):
            view[TARGETS] = rows
        return view

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng = generator(0, "plan")
        total, window = self.windows.max_steps
        net, view = problem.network(0), self._current_inputs(problem, state)
        loss = student_loss(
            problem, net, [self.draw_batch(problem, i, rng) for i in range(window)], view,
            scores=_has_scores(problem, state),
        )  # fmt: skip
        n, real = self.batches.size(problem.sizes), RealBatch.draw(problem, self.batch_real, rng)

        def replayed() -> object:
            student, mode = init_student(copy_parameters(net), self.inner), self._mode(problem, window)
            if mode == "full":
                return unrolled_grads(
                    loss, start_trace(student, range(window)), trainable(view), self.lr, self.inner, _sum_weights, mode
                )
            trail = train_student(loss, student, trainable(view), self.lr, self.inner, range(1))
            kept = torch.empty(
                min(MAX_BYTES_IN_MEMORY, 4 * window * sum(t.numel() for t in _state_tensors(student))),
                dtype=torch.uint8,
            )
            return unrolled_grads(loss, trail, trainable(view), self.lr, self.inner, _sum_weights, mode), kept

        def real_gradient() -> object:
            theta = {name: t.requires_grad_() for name, t in copy_parameters(net).items()}
            with torch.enable_grad():
                return torch.autograd.grad(
                    real_loss(problem, net, real, {}, self.regularizer)(theta), tuple(theta.values())
                )

        return (
            StepCost(what="a step of a student", samples=n * total, size=n, ready=lambda _: replayed, when="descent"),
            StepCost(
                what="real samples of the student's end", real=True, samples=len(real.y),
                size=min(REAL_CHUNK, len(real.y)),
                ready=lambda _: real_gradient, when="descent",
            ),
        )  # fmt: skip


def _sum_weights(theta: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([t.sum() for t in theta.values()]).sum()


def _state_tensors(state: StudentState) -> list[Tensor]:
    return [*state.theta.values(), *state.exp_avg.values(), *state.exp_avg_sq.values()]


def _step_norm(before: StudentState, after: StudentState, inner: InnerOptimizer, lr: float) -> Tensor:
    """Return the norm of the gradient between two states, without weight decay."""
    if inner.optimizer == "adam":
        decay = inner.betas[0]
        grads = [(after.exp_avg[n] - decay * m) / (1 - decay) for n, m in before.exp_avg.items()]
    elif inner.momentum:
        grads = [after.exp_avg[n] - inner.momentum * v for n, v in before.exp_avg.items()]
    else:
        grads = [(t - after.theta[n]) / lr for n, t in before.theta.items()]
    if inner.weight_decay:
        grads = [g - inner.weight_decay * t for g, t in zip(grads, before.theta.values(), strict=True)]
    return torch.stack([g.square().sum() for g in grads]).sum().sqrt()


def trainable(view: ObjectiveInputs) -> dict[str, Tensor]:
    """Return the tensors to differentiate by, without the shared learned rate: inputs, labels, rates of steps."""
    return {n: t for n, t in view.items() if t.is_floating_point() and n not in (TARGETS, STUDENT_LR)}


def _has_scores(problem: Problem, state: MatchingState) -> bool:
    """Return True if class labels are learned real values."""
    return SCORES in state.params.value and has_classes(problem)


def student_loss(
    problem: Problem, net: Network, batches: list[tuple[Tensor | None, object]], view: ObjectiveInputs, *,
    scores: bool = False,
) -> Loss:  # fmt: skip
    """The student's loss at its step i: that of the task, on batch i of what is decoded.

    Where there are rates of steps, it is multiplied with that of the step, so that a student of plain SGD at rate 1
    makes steps at these rates. ``scores``: labels are those of classes as real values, to which 1/k is added; a row may
    then have negative numbers, and pushes a student away from a class.
    """
    apply, criterion, fixed = augment_function(problem), problem.task.loss, dict(view)
    above = 1 / problem.num_classes if scores else 0.0
    hard = hard_labels(problem).to(device_of(inputs_of_view(view))) if has_classes(problem) else None

    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        rows, drawn = batches[step]
        now = {**fixed, **leaves}
        x, y = inputs_of_view(now), now.get("labels", now.get(TARGETS, hard))
        assert y is not None
        if rows is not None:
            x, y = index(x, rows), y.index_select(0, rows.to(y.device))
        y = y + above if above else y
        value = loss_of(net, theta, apply(x, drawn), y, criterion=criterion)
        return value * now[STEP_LRS][step] if STEP_LRS in now else value

    return loss


def real_loss(
    problem: Problem, net: Network, real: RealBatch, outcomes: dict[str, float], regularizer: Regularizer | None = None
) -> Outer:
    """Return the task's loss on real samples as a function of weights, with exact first derivatives.

    The parts' gradients are summed as they come; what is returned is linear in the weights, with this value and slope.
    ``outcomes`` gets ``right``: the part of them that the student is right about, or 0 where there are no classes.
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

        for x, y in zip(iter_batches(real.x, REAL_CHUNK), torch.split(real.y, REAL_CHUNK), strict=True):
            with torch.enable_grad():
                value = loss_of(net, used, x, y, criterion=counting) * (len(y) / n)
                if regularizer is not None:
                    terms = regularization(regularizer, net, used, x, y, criterion=criterion)
                    value = value + terms.sum() / n
                grads = torch.autograd.grad(value, tuple(used.values()), allow_unused=True)
            total = total.to(value) + value.detach()
            for name, g in zip(used, grads, strict=True):
                if g is not None:
                    sums[name] = sums[name] + g if name in sums else g
        outcomes["right"] = right / n
        straight = [((t - t.detach()) * sums[name]).sum() for name, t in theta.items() if name in sums]
        return total + torch.stack(straight).sum()

    return outer


def input_grad_norm(grads: Mapping[str, Tensor]) -> float:
    """Return the gradient norm by the decoded inputs."""
    parts = [g.square().sum() for n, g in grads.items() if n.startswith("inputs")]
    return float(torch.stack(parts).sum().sqrt()) if parts else 0.0


def clip_grads(grads: Mapping[str, Tensor], longest: float) -> dict[str, Tensor]:
    """Return the gradients, those by the inputs clipped to ``longest`` where they are longer; 0: none is."""
    norm = input_grad_norm(grads)
    if not longest or norm <= longest:
        return dict(grads)
    return {n: g * (longest / norm) if n.startswith("inputs") else g for n, g in grads.items()}
