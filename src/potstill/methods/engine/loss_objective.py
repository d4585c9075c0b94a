"""An objective from a loss function of a network, a real batch and the synthetic samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem, StepCost
from potstill.core.nested import device_of
from potstill.data.real_data import RealData
from potstill.methods.engine.init import hard_labels
from potstill.methods.engine.matching import augment_function, decode_inputs
from potstill.methods.engine.objective import (
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    inputs_of_view,
    named_inputs,
)
from potstill.rng import generator

__all__ = ["LabelledInputs", "LossObjective"]

LabelledInputs: TypeAlias = tuple[Inputs, Tensor]
"""Inputs (n, …) in model space with their labels: classes (n,) or soft labels (n, k)."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Network, real batch, and the augmentation that real and synthetic samples share in one step."""

    net: Network
    real: LabelledInputs
    omega: object


@final
@dataclass(frozen=True, kw_only=True)
class LossObjective(JointObjective[Block]):
    """Minimise a loss of (network, real samples, synthetic samples), both augmented alike.

    Attributes:
        loss: returns a scalar, differentiable by the synthetic inputs and labels.
        batch_real: real samples of each class in a step.
    """

    loss: Callable[[Network, LabelledInputs, LabelledInputs], Tensor]
    batch_real: int = 64

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        net = networks.draw_networks(problem, state, rng)[0].requires_grad_(False)
        real = RealData.of(problem)
        rows = torch.cat(real.draw(self.batch_real, rng))
        batch, labels = real.batch(rows), problem.train.labels[rows]
        omega = problem.augment.draw(1, problem.train.input.shape, rng)
        x = augment_function(problem)(batch.x, omega)
        y = labels.to(device_of(x)) if batch.y is None else batch.y
        return state, Block(net=net, real=(x, y), omega=omega)

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Block, view: ObjectiveInputs
    ) -> LossAndGrads:
        names = [n for n, t in view.items() if t.is_floating_point() and n.startswith(("inputs", "labels"))]
        with torch.enable_grad():
            leaves = {n: view[n].detach().requires_grad_() for n in names}
            x = augment_function(problem)(inputs_of_view({**view, **leaves}), block.omega)
            y = leaves.get("labels", hard_labels(problem).to(device_of(x)))
            loss = self.loss(block.net, block.real, (x, y))
        grads = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
        return float(loss.detach()), {n: g for n, g in zip(names, grads, strict=True) if g is not None}

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng = generator(0, "plan")
        view = named_inputs(decode_inputs(problem, state.params, "model")[0])
        samples = sum(min(self.batch_real, len(rows)) for rows in problem.class_indices) + sum(problem.sizes)

        def step() -> object:
            block = self.prepare(problem, networks, state, rng)[1]
            return self.loss_and_grads(problem, state, block, view)

        return (StepCost(
            what="loss of real and synthetic samples", real=True, samples=samples, size=samples, ready=lambda _: step,
            when="descent",
        ),)  # fmt: skip
