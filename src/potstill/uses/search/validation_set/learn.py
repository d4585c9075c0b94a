"""Learning of validation samples whose hyper-gradients point where those of the real validation samples do (HCDC).

As in "Calibrated Dataset Condensation for Faster Hyperparameter Search" (arXiv:2405.17535): the small training set is
fixed, and the validation samples minimise the cosine distance of hyper-gradients at sampled hyperparameters. Ours: all
trainings at these points are converged and done once, before the first step, with ``dθ/dλ`` of the small ones stored.
The samples change neither, so that a step costs no training and no linear system.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.func import grad, vmap

from potstill.dataset_file.checkpoint import drop_checkpoint, read_checkpoint, write_checkpoint
from potstill.errors import PotstillError
from potstill.functional.hyper_gradients import (
    Exact,
    Loss,
    Solver,
    cosine_distance,
    hyper_gradient,
    jacobian_by_columns,
    moved_hyper_gradient,
    sensitivity,
)
from potstill.functional.param_groups import ParamGroup, ParamState, init_params, step_params
from potstill.rng import generator
from potstill.uses.search.training import Rows
from potstill.uses.search.validation_set.problems import Problem, minimize

__all__ = ["LearnedRows", "Plan", "learn_validation_rows"]

SAVE_EVERY = 100
"""Steps from one checkpoint to the next."""
PREPARED_EVERY = 5
"""Sampled points from one checkpoint to the next."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of the learning.

    Raises:
        PotstillError: a number is out of range.
    """

    points: int = 40
    """Hyperparameters that are sampled, each of which costs a training on the real data."""
    steps: int = 600
    """Steps of Adam on the validation samples."""
    lr: float = 0.02
    """Learning rate, in model space."""
    solver: Solver = field(default_factory=Exact)
    """Solver of the linear systems, of problems that have no closed form."""

    def __post_init__(self) -> None:
        if self.points < 1 or self.steps < 0 or not 0 < self.lr < float("inf"):
            raise PotstillError(
                f"a validation set needs 1 point or more, 0 steps or more and a positive rate, not {self.points}, "
                f"{self.steps} and {self.lr:g}; change them"
            )


@dataclass(frozen=True, kw_only=True)
class LearnedRows:
    """Learned validation samples and how they came about."""

    rows: Rows
    """Inputs in model space and the classes that were given."""
    points: Float64[Tensor, "n p"]
    """Sampled coordinates."""
    real_losses: Float64[Tensor, " n"]
    """Real validation loss at each."""
    real_gradients: Float64[Tensor, "n p"]
    """Its hyper-gradient."""
    distances: tuple[float, ...]
    """Mean cosine distance before each step, and after the last."""
    seconds: float
    """Time of all trainings and steps."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Trainings at a sampled point."""

    theta: Tensor
    moved: Tensor
    """``dθ/dλ`` on the small training set."""
    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True)
class _State:
    prepared: tuple[_Point, ...]
    params: ParamState
    distances: Tensor


def learn_validation_rows(
    problem: Problem,
    small: Rows,
    train: Rows,
    held_out: Rows,
    initial: Rows,
    plan: Plan | None = None,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> LearnedRows:
    """Learn validation samples for a small training set.

    Args:
        problem: hyperparameters, training loss and validation loss.
        small: small training set, which stays as it is. All rows are float64, in model space.
        train: real training set.
        held_out: real validation set.
        initial: validation samples to start from, with the classes that they keep.
        plan: sampled points, steps and solver.
        seed: of the sampled points.
        checkpoint: file that an interrupted run goes on from, to the same bits; removed at the end. ``None``: no file.
        progress: callback ``progress(name, done, total)``.

    Raises:
        PotstillError: the checkpoint is of another run, or hyper-gradients have one direction alone.
        NonFiniteError: a training or a linear system gave no finite numbers.
    """
    plan = plan or Plan()
    if (directions := problem.space.directions) < 2:
        raise PotstillError(
            f"a validation set is learned by the directions of hyper-gradients, of which {directions} alone has but a "
            "sign; tune two numbers or more, or three options or more"
        )
    groups = {"": ParamGroup(lr=plan.lr, optimizer="adamw")}
    points = problem.space.sample(plan.points, generator(seed, "hyperparameters"))
    state = _State(
        prepared=(), params=init_params({"x": initial.x}, groups), distances=torch.zeros(0, dtype=torch.float64)
    )
    identity: dict[str, Any] = {"plan": repr(plan), "seed": seed} | {
        name: _digest(rows) for name, rows in
        (("small", small), ("train", train), ("held_out", held_out), ("initial", initial))
    } | {"space": repr(problem.space)}  # fmt: skip
    spent, started = 0.0, time.perf_counter()
    if checkpoint is not None and checkpoint.exists():
        read = read_checkpoint(checkpoint, _State, identity)
        state, spent = read.state, float(read.meta["seconds"])

    def save(state: _State) -> None:
        if checkpoint is not None:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            meta = {"seconds": spent + time.perf_counter() - started}
            write_checkpoint(
                checkpoint, state=state, rng_state=torch.zeros(0, dtype=torch.uint8), step=state.params.num_steps,
                identity=identity, meta=meta,
            )  # fmt: skip

    if len(state.prepared) < plan.points:
        prepare = _Preparation(problem=problem, small=small, train=train, held_out=held_out, solver=plan.solver)
        for n in range(len(state.prepared), plan.points):
            state = replace(state, prepared=(*state.prepared, prepare(points[n])))
            progress("hyper-gradients of the real data", n + 1, plan.points)
            if (n + 1) % PREPARED_EVERY == 0 or n + 1 == plan.points:
                save(state)
    measure = _Distance(problem=problem, points=points, y=initial.y, prepared=state.prepared)
    while state.params.num_steps < plan.steps:
        x = state.params.value["x"].detach().requires_grad_()
        distance = measure(x)
        (slope,) = torch.autograd.grad(distance, x)
        distances = torch.cat([state.distances, distance.detach()[None]])
        state = replace(state, params=step_params(state.params, {"x": slope}, groups), distances=distances)
        progress("validation set", state.params.num_steps, plan.steps)
        if state.params.num_steps % SAVE_EVERY == 0:
            save(state)
    x = state.params.value["x"].detach()
    last = float(measure(x))
    found = LearnedRows(
        rows=Rows(x=x, y=initial.y), points=points, real_losses=torch.stack([p.loss for p in state.prepared]),
        real_gradients=torch.stack([p.gradient for p in state.prepared]),
        distances=(*state.distances.tolist(), last), seconds=spent + time.perf_counter() - started,
    )  # fmt: skip
    if checkpoint is not None:
        drop_checkpoint(checkpoint)
    return found


class _Preparation:
    """Trains at a point on the small and on the real data, from the minima at the centre of the box."""

    def __init__(self, *, problem: Problem, small: Rows, train: Rows, held_out: Rows, solver: Solver) -> None:
        self.problem, self.small, self.train, self.held_out, self.solver = problem, small, train, held_out, solver
        centre = problem.space.decode(problem.space.centre)
        self.starts = [minimize(problem, centre, rows, problem.start) for rows in (small, train)]

    def __call__(self, at: Float64[Tensor, " p"]) -> _Point:
        problem, space = self.problem, self.problem.space
        values = space.decode(at)
        theta, real = (
            minimize(problem, values, rows, start)
            for rows, start in zip((self.small, self.train), self.starts, strict=True)
        )
        loss = problem.validation_loss(real, values, self.held_out).detach()
        if (solution := problem.solution) is not None:
            moved = jacobian_by_columns(lambda lam: solution(space.decode(lam), self.small), at)
            gradient = grad(
                lambda lam: problem.validation_loss(
                    solution(space.decode(lam), self.train), space.decode(lam), self.held_out
                )
            )(at)
        else:
            moved = sensitivity(self._loss(self.small), theta, at, self.solver)
            gradient = hyper_gradient(
                self._loss(self.train), _validation(problem, self.held_out), real, at, self.solver
            )  # fmt: skip
        return _Point(theta=theta, moved=moved.detach(), loss=loss, gradient=gradient.detach())

    def _loss(self, rows: Rows) -> Loss:
        problem = self.problem
        return lambda theta, lam: problem.train_loss(theta, problem.space.decode(lam), rows)


class _Distance:
    """Mean cosine distance of the hyper-gradients of validation samples from the real ones."""

    def __init__(self, *, problem: Problem, points: Tensor, y: Tensor, prepared: tuple[_Point, ...]) -> None:
        self.problem, self.points, self.y = problem, points, y
        self.theta, self.moved, self.targets = (
            torch.stack([getattr(p, name) for p in prepared]) for name in ("theta", "moved", "gradient")
        )

    def __call__(self, x: Tensor) -> Tensor:
        loss = _validation(self.problem, Rows(x=x, y=self.y))
        found = vmap(lambda t, lam, moved: moved_hyper_gradient(loss, t, lam, moved))(
            self.theta, self.points, self.moved
        )
        return cosine_distance(found, self.targets).mean()


def _validation(problem: Problem, rows: Rows) -> Loss:
    return lambda theta, lam: problem.validation_loss(theta, problem.space.decode(lam), rows)


def _digest(rows: Rows) -> str:
    content = hashlib.sha256(rows.x.detach().cpu().contiguous().numpy().tobytes())
    content.update(rows.y.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]
