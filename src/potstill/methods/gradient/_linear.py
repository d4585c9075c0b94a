"""The objective of linear gradient matching: gradients of random linear classifiers on a network's features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem, Space, StepCost
from potstill.data.real_data import RealData
from potstill.functional.features import embed_real
from potstill.functional.gradient import cosine, linear_gradient
from potstill.functional.sampling import sample_distinct
from potstill.kinds import get_kind
from potstill.methods.engine import (
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    decode_inputs,
    hard_labels,
    require_tensor,
)
from potstill.rng import draw_seed, generator

__all__ = ["LinearGradients", "ViewTransform"]

EMBED_CHUNK = 32
"""Synthetic views embedded at a time. More pass twice, in parts: once for their features,
and once more for what the features' slopes say of them."""


class ViewParameters(NamedTuple):
    """Augmentation parameters and noise of a batch of views."""

    params: Any
    noise: Tensor | None


@dataclass(frozen=True, kw_only=True)
class ViewTransform:
    """Random views of samples: augmentation per sample, and noise in data units on half of the images."""

    noise_std: float
    """Standard deviation of the noise; 0: none."""
    noise_mean: float
    """Mean of the noise."""

    def draw(self, problem: Problem, n: int, rng: Generator) -> ViewParameters:
        """For ``n`` samples."""
        shape = problem.train.input.shape
        params = problem.augment.draw(n, shape, rng)
        if not self.noise_std or not get_kind(problem.train.input).augmentable:
            return ViewParameters(params, None)
        added = self.noise_mean + self.noise_std * torch.randn(n, *shape, generator=rng)
        return ViewParameters(params, added * (torch.rand(n, *(1 for _ in shape), generator=rng) < 0.5))

    def apply(self, problem: Problem, x: Tensor, params_of_view: ViewParameters) -> Tensor:
        """``x`` (n, …) in model space, as it is view; differentiable."""
        x = problem.augment.apply(x, params_of_view.params)
        if params_of_view.noise is None:
            return x
        normalization = problem.train.normalization
        return normalization.apply(normalization.invert(x) + params_of_view.noise.to(x))


@dataclass(frozen=True, kw_only=True)
class Block:
    """Network, classifier and draws of one step."""

    net: Network
    weight: Tensor
    """Weight of the random classifier (k, d)."""
    real_features: Mapping[str, Tensor]
    """``features`` and ``labels`` of real samples."""
    real_grads: Tensor
    """Gradient of the classifier on real samples (k, d + 1)."""
    view_params: ViewParameters
    """Parameters of the synthetic views."""


@final
@dataclass(frozen=True, kw_only=True)
class LinearGradients(JointObjective[Block]):
    """Match the gradients of a random linear classifier on the features of all classes."""

    metric: ClassVar[str] = "gap"

    views_per_sample: int
    """Views of each synthetic sample in a step."""
    batch_real: int | None
    """Real samples in a step; ``None``: as many as there are synthetic views."""
    steps_per_network: int
    """Steps with one network and its features of real samples, each with a classifier of its own."""
    spread: float
    """Standard deviation of the classifier's weights."""
    view_transform: ViewTransform
    space: Space
    """Space that the payload decodes to."""

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        if state.block_steps == 0:
            state = replace(state, block_seed=draw_seed(rng))
        net = (
            networks.draw_networks(problem, state, generator(state.block_seed, "block"))[0].eval().requires_grad_(False)
        )
        kept = state.cached or self._real_features(problem, net, generator(state.block_seed, "real"))
        weight = self.spread * torch.randn(problem.num_classes, kept["features"].shape[1], generator=rng)
        weight = weight.to(kept["features"])
        real = linear_gradient(kept["features"], kept["labels"], weight)
        params_of_view = self.view_transform.draw(problem, self.views_per_sample * sum(problem.sizes), rng)
        return state, Block(net=net, weight=weight, real_features=kept, real_grads=real, view_params=params_of_view)

    def _real_features(self, problem: Problem, net: Network, rng: Generator) -> dict[str, Tensor]:
        """Features and classes of some real samples, each view once; all classes as often as the data have them."""
        wanted = self.batch_real or self.views_per_sample * sum(problem.sizes)
        batch = RealData.of(problem).batch(sample_distinct(len(problem.train), wanted, rng))
        x = require_tensor(batch.x)
        assert batch.y is not None
        views = self.view_transform.apply(problem, x, self.view_transform.draw(problem, len(x), rng))
        return {"features": embed_real(net, views), "labels": batch.y}

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        used = (state.block_steps + 1) % self.steps_per_network
        return replace(state, block_steps=used, cached=block.real_features if used else {})

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Block, view: ObjectiveInputs
    ) -> LossAndGrads:
        """Return the cosine distance of the two gradients, and its slopes."""
        leaves = {n: view[n].detach().requires_grad_() for n in ("inputs", "labels") if n in view}
        y = leaves.get("labels", hard_labels(problem).to(block.weight.device))
        with torch.enable_grad():
            views = self.view_transform.apply(
                problem, torch.cat([leaves["inputs"]] * self.views_per_sample), block.view_params
            )
            features = _embed_views(block.net, views)
            gap = cosine(
                [linear_gradient(features, torch.cat([y] * self.views_per_sample), block.weight)],
                [block.real_grads],
                1e-12,
            )
        found = torch.autograd.grad(gap, tuple(leaves.values()))
        return float(gap.detach()), dict(zip(leaves, found, strict=True))

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        rng = generator(0, "plan")
        _, block = self.prepare(problem, networks, state, rng)
        S, rows = decode_inputs(problem, state.params, self.space)
        view = {"inputs": require_tensor(S)} | ({"labels": rows} if rows.is_floating_point() else {})
        n = self.views_per_sample * sum(problem.sizes)
        real = min(len(problem.train), self.batch_real or n)
        return (
            StepCost(
                what="real samples", real=True, samples=real, size=real,
                ready=lambda _: lambda: self._real_features(problem, block.net, generator(0)),
                every=self.steps_per_network,
            ),
            StepCost(
                what="synthetic views", samples=n, size=n,
                ready=lambda _: lambda: self.loss_and_grads(problem, state, block, view)[0], when="descent",
            ),
        )  # fmt: skip


class _ChunkedEmbedding(torch.autograd.Function):
    """The features of many samples, of which few are held in their pass at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: Network) -> Tensor:
        ctx.net = net
        ctx.save_for_backward(x)
        return torch.cat([net.embed(some) for some in torch.split(x, EMBED_CHUNK)])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        found = []
        for some, by in zip(torch.split(x, EMBED_CHUNK), torch.split(slopes[0], EMBED_CHUNK), strict=True):
            leaf = some.detach().requires_grad_()
            with torch.enable_grad():
                found.append(torch.autograd.grad(ctx.net.embed(leaf), leaf, by)[0])
        return torch.cat(found), None


def _embed_views(net: Network, x: Tensor) -> Tensor:
    if len(x) <= EMBED_CHUNK:
        return net.embed(x)
    features: Tensor = _ChunkedEmbedding.apply(x, net)  # type: ignore[no-untyped-call]
    return features
