r"""A term that is added to any objective: its regularizer at real samples, or at the synthetic ones.

An objective that asks for a loss of real samples adds the term to that loss (`SupportsRegularizer`), as GUARD does
(arXiv:2403.10045): matched gradients are then of ``ℓ + r``, and a student that was trained on the set is judged by it.
All others get ``+ mean over synthetic samples of r`` by `Regularized`, in the network of the step and at the samples as
they are stored, without augmentation. This second form is ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem, Regularizer, StepCost
from potstill.core.nested import single_tensor
from potstill.functional.features import uses_batch_statistics
from potstill.functional.train import regularization
from potstill.methods.engine.init import hard_labels, has_classes
from potstill.methods.engine.matching import MatchingEngine
from potstill.methods.engine.objective import (
    SCORES,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    ShardablePart,
    Update,
)

__all__ = ["Regularized", "SupportsRegularizer", "TrainedBlock", "UnsuitedPart", "regularize", "regularizer_obstacle"]

CHUNK = 256
"""Synthetic samples that pass the network at once; the mean is that of all."""


@runtime_checkable
class SupportsRegularizer(Protocol):
    """Objective that adds a regularizer to its own loss of real samples."""

    def regularized(self, regularizer: Regularizer, /) -> Objective[Any]:
        """Return this objective with the regularizer."""
        ...


@runtime_checkable
class UnsuitedPart(Protocol):
    """Objective or network source that no regularizer can be added to."""

    def regularizer_obstacle(self, problem: Problem, /) -> str | None:
        """Return the reason; ``None``: one can be added."""
        ...


@runtime_checkable
class TrainedBlock(Protocol):
    """Block whose network has other parameters than its own in the step."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Every parameter by name."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Regularized:
    """An objective with a regularizer of the synthetic samples added to its first update of a step."""

    inner: Objective[Any]
    regularizer: Regularizer

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Any]:
        return self.inner.prepare(problem, networks, state, rng)

    def updates(self, problem: Problem, state: MatchingState, block: Any) -> Iterator[Update]:
        for number, update in enumerate(self.inner.updates(problem, state, block)):
            yield (
                update
                if number
                else update._replace(loss_and_grads=partial(self.loss_and_grads, problem, state, block, update))
            )

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Any, update: Update, classes: list[int],
        view: ObjectiveInputs,
    ) -> LossAndGrads:  # fmt: skip
        """Return the loss of ``update`` with the term of ``classes``, and its gradients."""
        loss, grads = update.loss_and_grads(classes, view)
        if not grads:  # the objective makes no step
            return loss, grads
        added, slope = self.term(problem, state, block, classes, view)
        own = grads.get("inputs")
        return loss + added, {**grads, "inputs": slope if own is None else own + slope}

    def term(
        self, problem: Problem, state: MatchingState, block: Any, classes: list[int], view: ObjectiveInputs
    ) -> tuple[float, Tensor]:
        """Return the term of the samples of ``classes``, over all samples, and its gradient by all inputs."""
        x, total = view["inputs"], sum(problem.sizes)
        y = hard_labels(problem).to(x.device)
        if "labels" in view and SCORES not in state.params.value:
            y = view["labels"].detach()
        net: Network = block.net
        params = block.parameters if isinstance(block, TrainedBlock) else dict(net.named_parameters())
        params = {n: p.detach() for n, p in params.items()}
        firsts = [0, *torch.tensor(problem.sizes).cumsum(0).tolist()]
        rows = torch.cat([torch.arange(firsts[c], firsts[c + 1]) for c in classes])
        value, slope = 0.0, torch.zeros_like(x)
        for some in torch.split(rows, CHUNK):
            with torch.enable_grad():
                leaf = x[some].detach().requires_grad_()
                term = regularization(
                    self.regularizer, net, params, leaf, y[some.to(y.device)], criterion=problem.task.loss
                ).sum() / total  # fmt: skip
                (slope[some],) = torch.autograd.grad(term, leaf)
            value += float(term.detach())
        return value, slope

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return self.inner.init_memory(problem, rng)

    def finish_step(self, problem: Problem, state: MatchingState, block: Any) -> MatchingState:
        return self.inner.finish_step(problem, state, block)

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        net, n = problem.network(0), sum(problem.sizes)
        y = hard_labels(problem)

        def pass_samples() -> object:
            x = problem.train.fetch(torch.arange(min(CHUNK, n, len(problem.train)))).x
            params = {name: p.detach() for name, p in net.named_parameters()}
            leaf = single_tensor(x, "a regularizer").detach().requires_grad_()
            at = y[: len(leaf)].to(leaf.device)
            with torch.enable_grad():
                term = regularization(self.regularizer, net, params, leaf, at, criterion=problem.task.loss).mean()
                return torch.autograd.grad(term, leaf)

        return (
            *self.inner.step_costs(problem, networks, state),
            StepCost(
                what="regularizer of the synthetic samples", samples=n, size=min(CHUNK, n),
                ready=lambda _: pass_samples, when="descent",
            ),
        )  # fmt: skip

    def shard_obstacle(self, problem: Problem) -> str | None:
        """Return why the inner objective is no sum over classes; the term is one."""
        if isinstance(self.inner, ShardablePart):
            return self.inner.shard_obstacle(problem)
        return "its objective is no sum over classes"


def regularizer_obstacle(engine: object, problem: Problem) -> str | None:
    """Return why no regularizer can be added to the objective of ``engine``; ``None``: one can."""
    train = problem.train
    if not isinstance(engine, MatchingEngine):
        return "it has no objective that is matched step by step"
    if not has_classes(problem):
        return f"{train.name} has no classes, and the term is of a classifier's loss"
    if train.input.parts:
        return f"the inputs of {train.name} are several tensors"
    if uses_batch_statistics(problem.network(0)):
        return f"{problem.network.name} has a BatchNorm, in which the samples of a pass see each other"
    for part in (engine.objective, engine.networks):
        if isinstance(part, UnsuitedPart) and (why := part.regularizer_obstacle(problem)) is not None:
            return why
    return None


def regularize(engine: Any, problem: Problem) -> Any:
    """Return the engine with the problem's regularizer in its objective; unchanged where the problem has none.

    `regularizer_obstacle` says beforehand if that is possible.
    """
    regularizer = problem.regularizer
    if regularizer is None:
        return engine
    objective = engine.objective
    if isinstance(objective, SupportsRegularizer):
        return replace(engine, objective=objective.regularized(regularizer))
    return replace(engine, objective=Regularized(inner=objective, regularizer=regularizer))
