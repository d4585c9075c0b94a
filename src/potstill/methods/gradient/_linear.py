"""The objective of linear gradient matching: gradients of random linear classifiers on a network's features."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem, Space, StepCost
from potstill.functional.features import embed_real
from potstill.functional.gradient import cosine, linear_gradient
from potstill.functional.sampling import sample_distinct
from potstill.kinds import get_kind
from potstill.methods.engine import (
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
    decode_inputs,
    hard_labels,
    require_tensor,
)
from potstill.rng import draw_seed, generator

__all__ = ["LinearGradients", "Views"]

AT_ONCE = 32
"""Synthetic views whose pass through the network is held at a time. More pass twice, in parts: once for their features,
and once more for what the features' slopes say of them."""


class Drawn(NamedTuple):
    """Of a batch of views."""

    params: Any
    noise: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a sample is looked at: augmented on its own, and half of the pictures with noise in data units."""

    noise: float
    """Its standard deviation; 0 for none."""
    brighter: float
    """Its mean."""

    def draw(self, problem: Problem, n: int, rng: Generator) -> Drawn:
        """For ``n`` samples."""
        shape = problem.train.input.shape
        params = problem.augment.draw(n, shape, rng)
        if not self.noise or not get_kind(problem.train.input).augmentable:
            return Drawn(params, None)
        added = self.brighter + self.noise * torch.randn(n, *shape, generator=rng)
        return Drawn(params, added * (torch.rand(n, *(1 for _ in shape), generator=rng) < 0.5))

    def of(self, problem: Problem, x: Tensor, drawn: Drawn) -> Tensor:
        """``x`` (n, …) in model space, as it is seen; differentiable."""
        x = problem.augment.apply(x, drawn.params)
        if drawn.noise is None:
            return x
        normalization = problem.train.normalization
        return normalization.apply(normalization.invert(x) + drawn.noise.to(x))


@dataclass(frozen=True, kw_only=True)
class Block:
    """What a step's descent is made with."""

    net: Network
    weight: Tensor
    """Of the random classifier (k, d)."""
    kept: Mapping[str, Tensor]
    """``features`` and ``labels`` of real samples."""
    real: Tensor
    """The gradient that real samples give it (k, d + 1)."""
    drawn: Drawn
    """For the synthetic views."""


@final
@dataclass(frozen=True, kw_only=True)
class LinearGradients:
    """Match the gradients of a random linear classifier on the features of all classes."""

    views: int
    """Of each synthetic sample in a step."""
    batch_real: int | None
    """Real samples in a step; ``None``: as many as there are synthetic views."""
    reuse: int
    """Steps with one network and its features of real samples, each with a classifier of its own."""
    spread: float
    """Standard deviation of the classifier's weights."""
    seen: Views
    space: Space
    """What the payload decodes to."""

    def init_memory(self, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
        return {}

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        if state.block_steps == 0:
            state = replace(state, block_seed=draw_seed(rng))
        net = (
            networks.draw_networks(problem, state, generator(state.block_seed, "block"))[0].eval().requires_grad_(False)
        )
        kept = state.cached or self._of_real(problem, net, generator(state.block_seed, "real"))
        weight = self.spread * torch.randn(problem.num_classes, kept["features"].shape[1], generator=rng)
        weight = weight.to(kept["features"])
        real = linear_gradient(kept["features"], kept["labels"], weight)
        drawn = self.seen.draw(problem, self.views * sum(problem.sizes), rng)
        return state, Block(net=net, weight=weight, kept=kept, real=real, drawn=drawn)

    def _of_real(self, problem: Problem, net: Network, rng: Generator) -> dict[str, Tensor]:
        """Features and classes of some real samples, each seen once; all classes as often as the data have them."""
        wanted = self.batch_real or self.views * sum(problem.sizes)
        batch = problem.train.fetch(sample_distinct(len(problem.train), wanted, rng))
        x = require_tensor(batch.x)
        assert batch.y is not None
        views = self.seen.of(problem, x, self.seen.draw(problem, len(x), rng))
        return {"features": embed_real(net, views), "labels": batch.y}

    def updates(self, problem: Problem, state: MatchingState, block: Block) -> Iterator[Update]:
        yield Update(
            "gap", lambda _, seen: self.compared(problem, block, seen), [list(range(problem.num_classes))]
        )  # fmt: skip

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        used = (state.block_steps + 1) % self.reuse
        return replace(state, block_steps=used, cached=block.kept if used else {})

    def compared(self, problem: Problem, block: Block, seen: ObjectiveInputs) -> LossAndGrads:
        """The cosine distance of the two gradients, and its slopes."""
        leaves = {n: seen[n].detach().requires_grad_() for n in ("inputs", "labels") if n in seen}
        y = leaves.get("labels", hard_labels(problem).to(block.weight.device))
        with torch.enable_grad():
            views = self.seen.of(problem, torch.cat([leaves["inputs"]] * self.views), block.drawn)
            features = _embedded(block.net, views)
            gap = cosine([linear_gradient(features, torch.cat([y] * self.views), block.weight)], [block.real], 1e-12)
        found = torch.autograd.grad(gap, tuple(leaves.values()))
        return float(gap.detach()), dict(zip(leaves, found, strict=True))

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng = generator(0, "plan")
        _, block = self.prepare(problem, networks, state, rng)
        S, rows = decode_inputs(problem, state.params, self.space)
        seen = {"inputs": require_tensor(S)} | ({"labels": rows} if rows.is_floating_point() else {})
        n = self.views * sum(problem.sizes)
        real = min(len(problem.train), self.batch_real or n)
        return (
            StepCost(
                what="real samples", real=True, samples=real, size=real,
                ready=lambda _: lambda: self._of_real(problem, block.net, generator(0)), every=self.reuse,
            ),
            StepCost(
                what="synthetic views", samples=n, size=n,
                ready=lambda _: lambda: self.compared(problem, block, seen)[0], when="descent",
            ),
        )  # fmt: skip


class _InParts(torch.autograd.Function):
    """The features of many samples, of which few are held in their pass at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: Network) -> Tensor:
        ctx.net = net
        ctx.save_for_backward(x)
        return torch.cat([net.embed(some) for some in torch.split(x, AT_ONCE)])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        found = []
        for some, by in zip(torch.split(x, AT_ONCE), torch.split(slopes[0], AT_ONCE), strict=True):
            leaf = some.detach().requires_grad_()
            with torch.enable_grad():
                found.append(torch.autograd.grad(ctx.net.embed(leaf), leaf, by)[0])
        return torch.cat(found), None


def _embedded(net: Network, x: Tensor) -> Tensor:
    if len(x) <= AT_ONCE:
        return net.embed(x)
    made: Tensor = _InParts.apply(x, net)  # type: ignore[no-untyped-call]
    return made
