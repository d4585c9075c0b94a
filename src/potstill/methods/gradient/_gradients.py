"""The objective of gradient matching: the gradients that real and synthetic samples of a class give a network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor, nn

from potstill.core import Batch, Inputs, Network, Problem, Regularizer, Space, StepCost
from potstill.core.nested import device_of, index, num_samples
from potstill.data.real_data import RealData
from potstill.functional.gradient import Distance
from potstill.functional.train import gradients
from potstill.methods.engine import (
    TARGETS,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    PoolMember,
    Update,
    augment_function,
    central_samples_of_class,
    decode_inputs,
    has_classes,
    inputs_of_view,
    load_network,
)
from potstill.methods.engine import named_inputs as named
from potstill.rng import class_generators, generator

__all__ = ["GradientDistance", "Sampler"]

Sampler: TypeAlias = Literal["random", "k-means"]
"""Draw of real samples: random, or nearest to k-means centres of their features (DREAM)."""

BATCH_NORM_SAMPLES = 16
"""Real samples per class whose statistics a BatchNorm network is frozen with (DC's main.py, BNSizePC)."""

K_MEANS_ITERATIONS = 10
"""Iterations of k-means in the draw of real samples. Ours."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Network and draws that the updates of one step share."""

    net: Network
    member: PoolMember
    """Parameters of the network, and its frozen BatchNorm statistics."""
    real_indices: Mapping[str, Tensor]
    """Indices of real samples by class number."""
    omega: list[object]
    """Augmentation parameters of each class."""
    rows: list[Tensor]
    """Rows of the synthetic samples of each class that are matched."""


@final
@dataclass(frozen=True, kw_only=True)
class GradientDistance:
    """Match the gradients of one network in training, class by class."""

    distance: Distance
    """Distance of synthetic and real gradients."""
    batch_real: int
    space: Space
    """Space that the payload decodes to."""
    sampler: Sampler = "random"
    interval: int = 1
    """Steps that use one draw of real samples."""
    max_synthetic: int = 0
    """Maximum number of synthetic samples of a class in a step; 0: all."""
    per_class_updates: bool = False
    """Make one update for each class."""
    regularizer: Regularizer | None = None
    """Added to the loss of real samples, whose gradient is matched (GUARD)."""

    def regularized(self, regularizer: Regularizer) -> "GradientDistance":
        return replace(self, regularizer=regularizer)

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        net = networks.draw_networks(problem, state, rng)[0]
        (member,) = state.pool
        member = replace(member, buffers=_frozen_statistics(net, member, problem, rng))
        drawn = state.cached or self._draw_real(problem, member, rng)
        omega, view = self._draw_views(problem, rng)
        state = replace(state, pool=(member,))
        return state, Block(net=net, member=member, real_indices=drawn, omega=omega, rows=view)

    def updates(self, problem: Problem, state: MatchingState, block: Block) -> Iterator[Update]:
        k = problem.num_classes

        def compared(classes: list[int], view: ObjectiveInputs) -> LossAndGrads:
            return self.loss_and_grads(problem, block, view, classes)

        yield Update(
            "loss", compared, [[c] for c in range(k)] if self.per_class_updates else [list(range(k))], loss_divisor=k
        )

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        used = state.block_steps + 1
        return replace(
            state, block_steps=used, cached=block.real_indices if self.interval > 1 and used % self.interval else {}
        )

    def loss_and_grads(
        self, problem: Problem, block: Block, shown: ObjectiveInputs, classes: list[int]
    ) -> LossAndGrads:
        """Return the distance summed over ``classes``, and its gradients."""
        apply, net, member, loss = augment_function(problem), block.net, block.member, 0.0
        slopes = {n: torch.zeros_like(t) for n, t in shown.items() if n != TARGETS and t.is_floating_point()}
        classified, criterion, real = has_classes(problem), problem.task.loss, RealData.of(problem)
        firsts = [0, *torch.tensor(problem.sizes).cumsum(0).tolist()]
        for c in classes:
            rows, omega = firsts[c] + block.rows[c], block.omega[c]

            def real_gradient(batch: Batch, c: int = c, omega: object = omega) -> dict[str, Tensor]:
                y_T = _all_of_class(c, batch.x) if classified or batch.y is None else batch.y
                x = apply(batch.x, omega)
                g_T = gradients(
                    net, member.theta, x, y_T, buffers=member.buffers, criterion=criterion,
                    regularizer=self.regularizer,
                )  # fmt: skip
                return dict(zip(member.theta, g_T, strict=True))

            g_T = real.mean_gradient(problem.class_names[c], block.real_indices[str(c)], real_gradient)
            some = named(index(inputs_of_view(shown), rows))
            some |= {"labels": shown["labels"][rows]} if "labels" in shown else {}
            leaves = {n: some[n].requires_grad_() for n in slopes}
            s = inputs_of_view(some)
            y = _all_of_class(c, s)
            if "labels" in leaves or TARGETS in shown:
                y = leaves["labels"] if "labels" in leaves else shown[TARGETS][rows]
            with torch.enable_grad():
                g_S = gradients(
                    net, member.theta, apply(s, omega), y, create_graph=True, buffers=member.buffers,
                    criterion=criterion,
                )  # fmt: skip
                gap = self.distance(g_S, list(g_T.values()))
            for n, found in zip(leaves, torch.autograd.grad(gap, tuple(leaves.values())), strict=True):
                slopes[n][rows] = found
            loss += float(gap.detach())
        return loss, slopes

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng, k = generator(0, "plan"), problem.num_classes
        (member,) = state.pool
        net = problem.network(member.seed).eval()  # only a BatchNorm tells the difference, and a step freezes it
        index = RealData.of(problem).draw(self.batch_real, rng)
        omega, view = self._draw_views(problem, rng)
        block = Block(net=net, member=member, real_indices=_by_class(index), omega=omega, rows=view)
        S, rows = decode_inputs(problem, state.params, self.space)
        shown = named(S)
        if not has_classes(problem):
            shown[TARGETS] = rows
        elif rows.is_floating_point():
            shown["labels"] = rows
        largest = max(range(k), key=lambda c: len(index[c]) + len(view[c]))

        def match() -> object:
            return self.loss_and_grads(problem, block, shown, [largest])[0]

        matching = StepCost(
            what="gradients of a class", real=True, samples=sum(map(len, index)), size=len(index[largest]),
            ready=lambda _: match, when="descent",
        )  # fmt: skip
        if self.sampler == "random":
            return (matching,)
        of_largest = max(problem.class_indices, key=len)
        still = problem.network(member.seed).eval().requires_grad_(False)

        def choose() -> object:
            return central_samples_of_class(problem, still, of_largest, self.batch_real, rng, K_MEANS_ITERATIONS)

        choice = StepCost(
            what="choice of real samples", real=True, samples=len(problem.train), size=len(of_largest),
            ready=lambda _: choose, every=self.interval,
        )  # fmt: skip
        return matching, choice

    def _draw_real(self, problem: Problem, member: PoolMember, rng: Generator) -> dict[str, Tensor]:
        if self.sampler == "random":
            return _by_class(RealData.of(problem).draw(self.batch_real, rng))
        net = load_network(problem, member.seed, member.theta, member.buffers).eval().requires_grad_(False)
        return _by_class([
            central_samples_of_class(problem, net, index, self.batch_real, g, K_MEANS_ITERATIONS)
            for index, g in zip(problem.class_indices, class_generators(rng, problem.class_names), strict=True)
        ])  # fmt: skip

    def _draw_views(self, problem: Problem, rng: Generator) -> tuple[list[object], list[Tensor]]:
        """Draw the augmentation parameters and the synthetic rows of each class."""
        generators = class_generators(rng, problem.class_names)
        omega = [problem.augment.draw(1, problem.train.input.shape, g) for g in generators]
        return omega, [self._draw_rows(size, g) for size, g in zip(problem.sizes, generators, strict=True)]

    def _draw_rows(self, size: int, rng: Generator) -> Tensor:
        return (
            torch.randperm(size, generator=rng)[: self.max_synthetic]
            if 0 < self.max_synthetic < size
            else torch.arange(size)
        )


def _by_class(index: Iterator[Tensor] | list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {str(c): i for c, i in enumerate(index)}


def _all_of_class(c: int, x: Inputs) -> Tensor:
    return torch.full((num_samples(x),), c, dtype=torch.int64, device=device_of(x))


def _frozen_statistics(net: Network, member: PoolMember, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
    """Return BatchNorm statistics from real samples of all classes; leaves the norm layers of ``net`` in eval mode.

    One synthetic sample per class is too few for them. Networks without BatchNorm are left alone, nothing is drawn.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return member.buffers
    real = RealData.of(problem)
    x = real.batch(*real.draw(BATCH_NORM_SAMPLES, rng)).x
    made = {n: b.clone() for n, b in member.buffers.items()}
    with torch.no_grad():
        torch.func.functional_call(net, {**member.theta, **made}, (x,))
    for norm in norms:
        norm.eval()
    return made
