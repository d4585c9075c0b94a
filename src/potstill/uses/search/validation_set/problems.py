"""Training problems whose minimum depends on hyperparameters: grouped ridge regression, and mixtures of networks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor
from torch.func import functional_call

from potstill.core import Network
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.hyper_gradients import ridge_weights_by_decay
from potstill.functional.train import copy_parameters
from potstill.uses.search.training import Rows
from potstill.uses.search.validation_set.spaces import Choice, LogRange, Space, Values

__all__ = ["Problem", "linear_problem", "losses", "minimize", "network_problem"]

RowsLoss = Callable[[Tensor, Values, Rows], Tensor]
"""Scalar loss of flat weights (d,), values of hyperparameters and samples."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A training loss that has hyperparameters, and the validation loss of its minimum, in float64."""

    space: Space
    start: Float64[Tensor, " d"]
    """Weights that training starts from, the same for all hyperparameters."""
    train_loss: RowsLoss
    validation_loss: RowsLoss
    solution: Callable[[Values, Rows], Tensor] | None = None
    """Minimum in closed form, differentiable by the values; ``None``: L-BFGS finds it."""
    updates: int = 200
    """Largest number of L-BFGS updates of a training."""


def minimize(problem: Problem, values: Values, rows: Rows, start: Float64[Tensor, " d"]) -> Float64[Tensor, " d"]:
    """Return the weights that minimise the training loss on all rows at once.

    Args:
        problem: with the loss.
        values: of the hyperparameters.
        rows: training set.
        start: weights to start from; unused where there is a closed form.

    Raises:
        NonFiniteError: training diverged.
    """
    values = {name: value.detach() for name, value in values.items()}
    if problem.solution is not None:
        return problem.solution(values, rows)
    theta = start.detach().clone().requires_grad_()
    steps = torch.optim.LBFGS(
        [theta], max_iter=problem.updates, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        steps.zero_grad()
        loss = problem.train_loss(theta, values, rows)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    steps.step(closure)  # type: ignore[no-untyped-call]
    if not bool(torch.isfinite(theta).all()):
        raise NonFiniteError("training at a sampled setting diverged; narrow the range, or raise its low end")
    return theta.detach()


def losses(
    problem: Problem, train: Rows, validations: Sequence[Rows], points: Float64[Tensor, "n p"]
) -> Float64[Tensor, "n v"]:
    """Return the validation losses of trainings at some points, each from the minimum at the centre of the box.

    Args:
        problem: space and losses.
        train: training set.
        validations: v sets that the same minimum is validated on.
        points: n coordinates of the space, inside of its box or not.
    """
    space = problem.space
    start = minimize(problem, space.decode(space.centre), train, problem.start)
    found = []
    for at in points:
        values = space.decode(at)
        theta = minimize(problem, values, train, start)
        with torch.no_grad():
            found.append(torch.stack([problem.validation_loss(theta, values, rows) for rows in validations]))
    return torch.stack(found)


def linear_problem(
    groups: Int[Tensor, " d"],
    classes: int,
    decay: tuple[float, float],
    loss: Literal["ridge", "logistic"] = "ridge",
    updates: int = 200,
) -> Problem:
    """Return a linear classifier without bias, with a weight decay for each group of features.

    Args:
        groups: number of the group of each feature, from 0.
        classes: number of classes.
        decay: range of all weight decays, half of which times the squared weights are added to a mean over samples.
        loss: ``ridge``, half the squared error of centred one-hot labels, in closed form; or ``logistic``,
            cross-entropy.
        updates: largest number of L-BFGS updates, of ``logistic``.
    """
    space = Space((LogRange(name="decay", low=decay[0], high=decay[1], count=int(groups.max()) + 1),))

    def targets(rows: Rows) -> Tensor:
        return F.one_hot(rows.y, classes).double() - 1 / classes

    def solution(values: Values, rows: Rows) -> Tensor:
        return ridge_weights_by_decay(rows.x.flatten(1), targets(rows), values["decay"][groups]).flatten()

    def validation_loss(theta: Tensor, values: Values, rows: Rows) -> Tensor:
        outputs = rows.x.flatten(1) @ theta.view(-1, classes)
        if loss == "logistic":
            return F.cross_entropy(outputs, rows.y)
        return 0.5 * (outputs - targets(rows)).square().sum(1).mean()

    def train_loss(theta: Tensor, values: Values, rows: Rows) -> Tensor:
        penalty = values["decay"][groups][:, None] * theta.view(-1, classes).square()
        return validation_loss(theta, values, rows) + 0.5 * penalty.sum()

    return Problem(
        space=space, start=torch.zeros(len(groups) * classes, dtype=torch.float64), train_loss=train_loss,
        validation_loss=validation_loss, solution=solution if loss == "ridge" else None, updates=updates,
    )  # fmt: skip


def network_problem(
    networks: Mapping[str, Network],
    *,
    decay: tuple[float, float] | float,
    groups: Callable[[str], str] = lambda _: "",
    views: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    updates: int = 200,
) -> Problem:
    """Return cross-entropy of one network, or of a mixture of several, with a weight decay as half the squared norm.

    The outputs of networks are added with the weights of the choice ``network``; the training losses of ``views``,
    augmented copies of the training set, with those of the choice ``view``.

    Args:
        networks: networks by name, whose own parameters are where training starts.
        decay: range of the weight decay, or one number that is not tuned.
        groups: name of the group of a parameter, by its own; each group has its own weight decay.
        views: functions of the inputs by name, which must be the same every time. Default: the inputs alone.
        updates: largest number of L-BFGS updates.

    Raises:
        PotstillError: a network has running statistics, or nothing is tuned.
    """
    for name, network in networks.items():
        if any(True for _ in network.buffers()):
            raise PotstillError(f"network {name} has running statistics, which no gradient passes; take another norm")
    weights = {
        f"{name}.{own}": p.double() for name, network in networks.items() for own, p in copy_parameters(network).items()
    }  # fmt: skip
    shapes = {name: p.shape for name, p in weights.items()}
    group_names = list(dict.fromkeys(groups(name) for name in shapes))
    of_parameter = [group_names.index(groups(name)) for name in shapes]
    parts: list[LogRange | Choice] = []
    if not isinstance(decay, float):
        parts.append(LogRange(name="decay", low=decay[0], high=decay[1], count=len(group_names)))
    if len(networks) > 1:
        parts.append(Choice(name="network", options=tuple(networks)))
    if views is not None:
        parts.append(Choice(name="view", options=tuple(views)))

    def named(theta: Tensor) -> dict[str, Tensor]:
        split = torch.split(theta, [math.prod(shape) for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), split, strict=True)}

    def cross_entropy(theta: Tensor, values: Values, x: Tensor, y: Tensor) -> Tensor:
        given, logits = named(theta), torch.zeros((), dtype=theta.dtype, device=theta.device)
        for n, (name, network) in enumerate(networks.items()):
            own = {key.removeprefix(f"{name}."): p for key, p in given.items() if key.startswith(f"{name}.")}
            part = functional_call(network, own, (x,))
            logits = logits + (part if len(networks) == 1 else values["network"][n] * part)
        return F.cross_entropy(logits, y)

    def validation_loss(theta: Tensor, values: Values, rows: Rows) -> Tensor:
        return cross_entropy(theta, values, rows.x, rows.y)

    def train_loss(theta: Tensor, values: Values, rows: Rows) -> Tensor:
        loss = torch.zeros((), dtype=theta.dtype, device=theta.device)
        for n, view in enumerate((views or {"": lambda x: x}).values()):
            part = cross_entropy(theta, values, view(rows.x), rows.y)
            loss = loss + (part if views is None else values["view"][n] * part)
        squares = [p.square().sum() for p in named(theta).values()]
        for n, square in zip(of_parameter, squares, strict=True):
            loss = loss + 0.5 * (decay if isinstance(decay, float) else values["decay"][n]) * square
        return loss

    return Problem(
        space=Space(tuple(parts)), start=torch.cat([p.flatten() for p in weights.values()]), train_loss=train_loss,
        validation_loss=validation_loss, updates=updates,
    )  # fmt: skip
