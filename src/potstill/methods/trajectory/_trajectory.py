r"""The objective of trajectory matching: a student that trains on the set should end where an expert on real data did.

.. math::
    L = \frac{\lVert \theta_N - \theta^* \rVert^2}{\lVert \theta_0 - \theta^* \rVert^2}, \qquad
    \theta_0 = \tau[t],\; \theta^* = \tau[t + M],\;
    \theta_{i+1} = \theta_i - \beta \nabla_\theta\, \ell(f_{\theta_i}(A_{\omega_i}(x_{b_i})),\, y_{b_i})

τ are the snapshots of an expert after each epoch, b_i the parts of random permutations of the set, A the augmentation,
with parameters of their own for each sample and one group of operations for a batch. β, the student's rate, is learned.
What it is differentiated by, and in which memory, is a mode of `potstill.functional.unroll`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.core import Network, NetworkWeights, Problem, StepCost
from potstill.core.nested import device_of, index, num_samples
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import Inner, Loss, Mode, Trail, Unrolled, begin, begun, slopes, train
from potstill.methods.engine import (
    TARGETS,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
    augment_function,
    decode_inputs,
    hard_labels,
    inputs_of_view,
    named_inputs,
)
from potstill.rng import draw_seed, generator

__all__ = ["RATE", "Block", "Expert", "Span", "TrajectoryEnds", "chunks", "distance", "experts", "nearest_step"]

RATE = "student/lr"
"""The leaf of the rate that students train at."""

HELD = 2**18
"""Numbers that a student's steps look at, in all, up to which one graph holds them: about a quarter faster than replay.
With a ConvNet of width 128 that is a quarter to three quarters of a GB. Ours."""
STILL = 1e-12
"""An expert that goes less far, of the squared length of its weights, stands still. Ours."""
TRIES = 20
"""Draws of an expert and a start before it is said that experts stand still. Ours."""


@runtime_checkable
class Expert(Protocol):
    """Snapshots of one training: `potstill.pretraining.Trajectory`."""

    @property
    def seed(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    def at(self, epoch: int, /) -> dict[str, Tensor]: ...
    def trained(self, epoch: int, /) -> NetworkWeights: ...


@dataclass(frozen=True, kw_only=True)
class Span:
    """The epochs of an expert that students start from: from ``low`` on, below ``first`` and in the end below ``last``.

    The upper bound grows along a line over ``over`` iterations (DATM's sequential generation).
    """

    low: int
    first: int
    last: int
    over: int = 0

    def at(self, iteration: int) -> tuple[int, int]:
        """(lowest, one above the highest) at an iteration."""
        grown = self.last if iteration >= self.over else self.first + (self.last - self.first) * iteration // self.over
        return self.low, max(grown, self.low + 1)


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one step walks: an expert's stretch, and all that the student's training draws."""

    net: Network
    start: Mapping[str, Tensor]
    target: Mapping[str, Tensor]
    rows: Sequence[Tensor]
    """Samples of each inner step."""
    omega: Sequence[object]
    """Their augmentation."""


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryEnds:
    """Walk a student along an expert's stretch, and compare where both end."""

    steps: int
    """N, of the student."""
    ahead: int
    """M, epochs of the expert."""
    span: Span
    batch: int = 0
    """Samples of an inner step; 0 or as many as there are: all."""
    mode: Mode | None = None
    """How the student's training is differentiated; ``None``: in one graph where small (`HELD`), else in replay."""
    nearest: bool = False
    """Compare the step that comes nearest to the target (by ‖θ_j − θ*‖₁), not the last (ATT)."""
    drop: float = 0.0
    """The part of the parameters, those that are nearest to the target, that is left out of both sums (PAD's code)."""
    threshold: float = 0.0
    """Above 0: a loss above it makes no move (DATM)."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        found = experts(problem)
        for _ in range(TRIES):
            one = found[int(torch.randint(len(found), (1,), generator=rng))]
            t = int(torch.randint(*self.span.at(state.iteration), (1,), generator=rng))
            start, target = one.at(t), one.at(t + self.ahead)
            if float(_squared(start, target)) > STILL * sum(float(p.square().sum()) for p in target.values()):
                break
        else:
            raise PotstillError(
                f"experts must move, but in {TRIES} draws none did in {self.ahead} epochs from {t} on; "
                "train them at a higher rate, or start earlier"
            )
        rows = chunks(sum(problem.sizes), self.batch, self.steps, rng)
        omega = [problem.augment.draw(len(some), problem.train.input.shape, rng) for some in rows]
        return state, Block(net=problem.network(one.seed).train(), start=start, target=target, rows=rows, omega=omega)

    def updates(self, problem: Problem, state: MatchingState, block: Block) -> Iterator[Update]:
        everything = [list(range(problem.num_classes))]
        yield Update("loss", lambda _, seen: self.compared(problem, block, seen), everything)

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        return state

    def compared(self, problem: Problem, block: Block, seen: ObjectiveInputs) -> LossAndGrads:
        """The loss, and its gradients by inputs, learned labels and the student's rate.

        Raises:
            NotFinite: the student's training, or the way back, is not finite; the inner step is named.
        """
        leaves = {n: t for n, t in seen.items() if n != RATE}
        lr, loss, mode = seen[RATE], student_loss(problem, block), self._mode(problem)
        try:
            found = self._slopes(loss, block, leaves, lr, mode)
        except NonFiniteError:
            if mode != "full":
                raise
            found = self._slopes(loss, block, leaves, lr, "replay")  # which says at which step
        if self.threshold and not found.loss <= self.threshold:
            return found.loss, {}
        moving = {n: g for n, g in found.leaves.items() if n != TARGETS}
        return found.loss, {**moving, RATE: found.lr.reshape(lr.shape).to(lr.dtype)}

    def _slopes(self, loss: Loss, block: Block, leaves: ObjectiveInputs, lr: Tensor, mode: Mode) -> Unrolled:
        inner, steps, first, until = Inner(), range(len(block.rows)), begin(block.start, Inner()), None
        if mode == "full" and not self.nearest:
            trail = begun(first, steps)
        else:
            trail = train(loss, first, leaves, lr, inner, steps)
            until = nearest_step(trail, block.target) if self.nearest else None

        def outer(theta: Mapping[str, Tensor]) -> Tensor:
            return distance(theta, block.start, block.target, self.drop)

        return slopes(loss, trail, leaves, lr, inner, outer, mode, until)

    def _mode(self, problem: Problem) -> Mode:
        n = sum(problem.sizes)
        looked_at = self.steps * (min(self.batch, n) or n) * problem.train.input.num_values
        return self.mode or ("full" if looked_at <= HELD else "replay")

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng, one = generator(0, "plan"), experts(problem)[0]
        held = self._mode(problem) == "full"
        n, made = sum(problem.sizes), self.steps if held else min(self.steps, 2)
        rows = chunks(n, self.batch, made, rng)
        omega = [problem.augment.draw(len(some), problem.train.input.shape, rng) for some in rows]
        net = problem.network(draw_seed(rng)).train()
        block = Block(net=net, start=one.at(0), target=one.at(self.ahead), rows=rows, omega=omega)
        x, y = decode_inputs(problem, state.params, "model")
        seen = {**named_inputs(x), **({"labels": y} if y.is_floating_point() else {}), RATE: torch.tensor(1e-3)}
        size = len(rows[0])
        return (StepCost(
            what="student's training", samples=self.steps * size, size=size * (made if held else 1),
            ready=lambda _: lambda: self.compared(problem, block, seen), when="descent",
        ),)  # fmt: skip


def experts(problem: Problem) -> Sequence[Expert]:
    """The experts of the problem; a snapshot is read when it is asked for.

    Raises:
        PotstillError: they have not been made.
    """
    made: Sequence[Expert] | None = problem.assets.get("experts")
    if not made:
        raise PotstillError(
            "this method follows experts, but the problem has none in assets['experts']; "
            "run it through potstill.distill, or make them with potstill.pretraining"
        )
    return made


def chunks(n: int, batch: int, steps: int, rng: Generator) -> tuple[Tensor, ...]:
    """Rows of each inner step: parts of random permutations of ``n`` samples; all of them, in order, where they fit."""
    if not 0 < batch < n:
        return (torch.arange(n),) * steps
    rows: list[Tensor] = []
    while len(rows) < steps:
        rows += torch.split(torch.randperm(n, generator=rng), batch)
    return tuple(rows[:steps])


def student_loss(problem: Problem, block: Block) -> Loss:
    """The student's loss at (θ, leaves, inner step)."""
    apply, criterion, hard = augment_function(problem), problem.task.loss, hard_labels(problem)

    def loss(theta: Mapping[str, Tensor], seen: ObjectiveInputs, step: int) -> Tensor:
        x, rows = inputs_of_view(seen), block.rows[step]
        y = seen["labels"] if "labels" in seen else seen.get(TARGETS, hard.to(device_of(x)))
        if len(rows) < num_samples(x):
            x, y = index(x, rows), y[rows]
        return loss_of(block.net, theta, apply(x, block.omega[step]), y, criterion=criterion)

    return loss


def _squared(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(t - b[n]).square().sum() for n, t in a.items()]).sum()


def distance(
    theta: Mapping[str, Tensor], start: Mapping[str, Tensor], target: Mapping[str, Tensor], drop: float = 0.0
) -> Tensor:
    """‖θ − θ*‖² / ‖θ_0 − θ*‖² over all parameters, differentiable by θ.

    Args:
        drop: the part of them whose squared differences (θ − θ*)² are smallest, which is left out of both sums; one of
            them always stays.
    """
    if not drop:
        return _squared(theta, target) / _squared(start, target)
    left, way = (torch.cat([(t[n] - target[n]).square().flatten() for n in target]) for t in (theta, start))
    kept = left.detach().topk(len(left) - min(int(drop * len(left)), len(left) - 1)).indices
    return left[kept].sum() / way[kept].sum()


def nearest_step(trail: Trail, target: Mapping[str, Tensor]) -> int:
    """ATT's argmin over the steps j ≥ 1 of ‖θ_j − θ*‖₁; the first of equals."""
    away = [sum(float((p - target[n]).abs().sum()) for n, p in state.theta.items()) for state in trail][1:]
    return 1 + min(range(len(away)), key=away.__getitem__)
