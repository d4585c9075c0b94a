r"""The objective of trajectory matching: a student trained on the set should end where an expert on real data did.

.. math::
    L = \frac{\lVert \theta_N - \theta^* \rVert^2}{\lVert \theta_0 - \theta^* \rVert^2}, \qquad
    \theta_0 = \tau[t],\; \theta^* = \tau[t + M],\;
    \theta_{i+1} = \theta_i - \beta \nabla_\theta\, \ell(f_{\theta_i}(A_{\omega_i}(x_{b_i})),\, y_{b_i})

τ are the checkpoints of an expert after each epoch, b_i batches of random permutations of the set, A the augmentation,
with parameters per sample and one group of operations per batch. β, the student's learning rate, is learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, final, runtime_checkable

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from potstill.core import Network, NetworkWeights, Problem, StepCost
from potstill.core.nested import device_of, index, num_samples
from potstill.errors import PotstillError
from potstill.functional.train import Criterion
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import InnerOptimizer, Loss, Mode, init_student
from potstill.methods.engine import (
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
    inputs_of_view,
    named_inputs,
)
from potstill.methods.trajectory._parts import Distance, NearestStep, StartEpochs, StopRule, squared_distance
from potstill.nn import TwoTowers
from potstill.rng import draw_seed, generator

__all__ = [
    "STUDENT_LR", "Block", "Expert", "TrajectoryDistance", "draw_batches", "get_experts", "tower_parameters",
]  # fmt: skip

STUDENT_LR = "student/lr"
"""Name of the learned learning rate of students."""

MIN_MOVE = 1e-12
"""Smallest squared move of an expert, relative to its squared weights. Ours."""
MAX_DRAWS = 20
"""Draws of an expert and a start epoch before the run fails because experts do not move. Ours."""


@runtime_checkable
class Expert(Protocol):
    """Checkpoints of one training: `potstill.pretraining.Trajectory`."""

    @property
    def seed(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    def at(self, epoch: int, /) -> dict[str, Tensor]: ...
    def trained(self, epoch: int, /) -> NetworkWeights: ...


@dataclass(frozen=True, kw_only=True)
class Block:
    """One segment of an expert and the draws of the student's training: batch rows and their augmentation."""

    net: Network
    start: Mapping[str, Tensor]
    target: Mapping[str, Tensor]
    rows: Sequence[Tensor]
    omega: Sequence[object]

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        return self.start


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryDistance(JointObjective[Block]):
    """Train a student from an expert's checkpoint, and compare it with a later checkpoint.

    Attributes:
        student_steps: N, SGD steps of the student.
        expert_epochs: M, epochs of the expert between start and target.
        start_epochs, distance, stop_rule: see `potstill.methods.trajectory._parts`.
        batch: samples of a student's step; 0: all.
        mode: differentiation of the student's training; ``None``: by the size of the data.
        max_loss: a larger loss changes nothing (DATM); 0: no limit.
        per_tower: of a network with an encoder for each view (`potstill.nn.TwoTowers`) the distances of both are added,
            and the student has two learning rates (VL-Distill).
        criterion: the student's loss of outputs and targets; ``None``: the task's.
        expert_labels: share of the target expert's own answers in the student's targets, in [0, 1] (CondTSF); targets
            that a payload holds then get no gradient here.
    """

    student_steps: int
    expert_epochs: int
    start_epochs: StartEpochs
    distance: Distance
    stop_rule: StopRule
    batch: int = 0
    mode: Mode | None = None
    max_loss: float = 0.0
    per_tower: bool = False
    criterion: Criterion | None = None
    expert_labels: float = 0.0

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        experts = get_experts(problem)
        for _ in range(MAX_DRAWS):
            expert = experts[int(torch.randint(len(experts), (1,), generator=rng))]
            epoch = int(torch.randint(*self.start_epochs.bounds(state.iteration), (1,), generator=rng))
            start, target = expert.at(epoch), expert.at(epoch + self.expert_epochs)
            size = sum(float(p.square().sum()) for p in target.values())
            if float(squared_distance(start, target)) > MIN_MOVE * size:
                break
        else:
            raise PotstillError(
                f"experts must move, but in {MAX_DRAWS} draws none did in {self.expert_epochs} epochs from {epoch} on; "
                "train them at a higher rate, or start earlier"
            )
        rows = draw_batches(sum(problem.sizes), self.batch, self.student_steps, rng)
        omega = [problem.augment.draw(len(batch), problem.train.input.shape, rng) for batch in rows]
        net = problem.network(expert.seed).train()
        return state, Block(net=net, start=start, target=target, rows=rows, omega=omega)

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Block, view: ObjectiveInputs
    ) -> LossAndGrads:
        """Return the loss and its gradients by inputs, learned labels and the student's learning rate.

        Raises:
            NonFiniteError: the student's training or its gradient is not finite; the inner step is named.
        """
        leaves, rates = {n: t for n, t in view.items() if n != STUDENT_LR}, view[STUDENT_LR]
        towers = tower_parameters(block.net) if self.per_tower else (tuple(block.start),)
        if self.expert_labels and "labels" in leaves:
            leaves[TARGETS] = leaves.pop("labels")
        lr, owner = rates, torch.zeros(0, dtype=torch.int64)
        if rates.numel() > 1:
            owner = _tower_of_each(block.start, towers)
            lr = rates.flatten()[owner]

        def outer(theta: Mapping[str, Tensor]) -> Tensor:
            parts = [[{n: some[n] for n in names} for some in (theta, block.start, block.target)] for names in towers]
            return torch.stack([self.distance(*part) for part in parts]).sum()

        stop = None
        if isinstance(self.stop_rule, NearestStep):
            stop = partial(self.stop_rule, target=block.target)
        inner = InnerOptimizer()
        loss = student_loss(problem, block, self.criterion, self.expert_labels)
        grads = differentiate_student(
            loss, init_student(block.start, inner), leaves, lr, inner, range(len(block.rows)), outer,
            self._mode(problem), stop,
        )  # fmt: skip
        if self.max_loss and not grads.loss <= self.max_loss:
            return grads.loss, {}
        moving = {n: g for n, g in grads.leaves.items() if n != TARGETS}
        by_rate = grads.lr if rates.numel() == 1 else grads.lr.new_zeros(rates.numel()).index_add(0, owner, grads.lr)
        return grads.loss, {**moving, STUDENT_LR: by_rate.reshape(rates.shape).to(rates.dtype)}

    def _mode(self, problem: Problem) -> Mode:
        n = sum(problem.sizes)
        return gradient_mode(self.mode, self.student_steps * (min(self.batch, n) or n) * problem.train.input.num_values)

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng, expert = generator(0, "plan"), get_experts(problem)[0]
        full = self._mode(problem) == "full"
        steps = self.student_steps if full else min(self.student_steps, 2)
        rows = draw_batches(sum(problem.sizes), self.batch, steps, rng)
        omega = [problem.augment.draw(len(batch), problem.train.input.shape, rng) for batch in rows]
        net = problem.network(draw_seed(rng)).train()
        block = Block(net=net, start=expert.at(0), target=expert.at(self.expert_epochs), rows=rows, omega=omega)
        x, y = decode_inputs(problem, state.params, "model")
        view = {
            **named_inputs(x), "labels" if y.is_floating_point() else TARGETS: y,
            STUDENT_LR: torch.full((2,), 1e-3) if self.per_tower else torch.tensor(1e-3),
        }  # fmt: skip
        size = len(rows[0])
        return (StepCost(
            what="student's training", samples=self.student_steps * size, size=size * (steps if full else 1),
            ready=lambda _: lambda: self.loss_and_grads(problem, state, block, view), when="descent",
        ),)  # fmt: skip


def get_experts(problem: Problem) -> Sequence[Expert]:
    """Return the experts of the problem; checkpoints are read when they are accessed.

    Raises:
        PotstillError: there are none.
    """
    experts: Sequence[Expert] | None = problem.assets.get("experts")
    if not experts:
        raise PotstillError(
            "this method follows experts, but the problem has none in assets['experts']; "
            "run it through potstill.distill, or make them with potstill.pretraining"
        )
    return experts


def draw_batches(n: int, batch: int, steps: int, rng: Generator) -> tuple[Tensor, ...]:
    """Return row indices of each inner step: batches of random permutations of ``n`` samples, or all in order."""
    if not 0 < batch < n:
        return (torch.arange(n),) * steps
    rows: list[Tensor] = []
    while len(rows) < steps:
        rows += torch.split(torch.randperm(n, generator=rng), batch)
    return tuple(rows[:steps])


def tower_parameters(net: Network) -> tuple[tuple[str, ...], ...]:
    """Return the names of the parameters of each view's encoder; all in one where the network has no two.

    Raises:
        PotstillError: an encoder has none, or a parameter is in none.
    """
    names = tuple(n for n, _ in net.named_parameters())
    if not isinstance(net, TwoTowers):
        return (names,)
    towers = net.towers
    if not all(towers) or sorted(n for tower in towers for n in tower) != sorted(names):
        raise PotstillError(
            f"each parameter of a network with two encoders must be in one of its towers, but {type(net).__name__} has "
            f"{len(names)} parameters and towers of {' and '.join(str(len(tower)) for tower in towers)}; correct towers"
        )
    return towers


def _tower_of_each(theta: Mapping[str, Tensor], towers: Sequence[Sequence[str]]) -> Tensor:
    """Return the number of the tower of each weight (p,), in the order of ``theta``."""
    tower = {name: n for n, names in enumerate(towers) for name in names}
    return torch.cat([torch.full((t.numel(),), tower[n], device=t.device) for n, t in theta.items()])


def student_loss(
    problem: Problem, block: Block, criterion: Criterion | None = None, expert_labels: float = 0.0
) -> Loss:
    """Return the student's loss as a function of (θ, view, inner step).

    Args:
        expert_labels: share of the target expert's own answers in the targets.
    """
    apply, hard = augment_function(problem), hard_labels(problem)
    used = problem.task.loss if criterion is None else criterion

    def loss(theta: Mapping[str, Tensor], view: ObjectiveInputs, step: int) -> Tensor:
        x, rows = inputs_of_view(view), block.rows[step]
        y = view["labels"] if "labels" in view else view.get(TARGETS, hard.to(device_of(x)))
        if len(rows) < num_samples(x):
            x, y = index(x, rows), y[rows]
        seen = apply(x, block.omega[step])
        if expert_labels:
            answers = problem.task.predict(functional_call(block.net, dict(block.target), (seen,)))
            y = (1 - expert_labels) * y + expert_labels * answers.to(y.dtype)
        return loss_of(block.net, theta, seen, y, criterion=used)

    return loss
