"""Make a set from a private release: starts from noisy means, matched to noisy moments, labelled by the labeller.

Everything here is post-processing: it sees the release, and nothing else of the real data.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Synthetic
from potstill.errors import PotstillError
from potstill.private.denoise import denoised_means
from potstill.private.features import FeatureMap, moment_features
from potstill.private.labeller import Labeller
from potstill.private.public import PublicFacts
from potstill.private.release import PrivateRelease

__all__ = ["PrivateMatching", "PrivateState", "PrivateValues"]

ASSET = "private release"
BETAS = (0.9, 0.999)
_TURN, _SCALE, _SHEAR, _MOVE = 15.0, 0.15, 0.2, 0.12
"""Largest turn in degrees, change of scale, shear, and move in halves of a side; chosen on MNIST."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateValues:
    """Values that the matching works with: public facts, and the release."""

    facts: PublicFacts
    release: PrivateRelease
    seed: int
    """Public seed of random networks."""

    @cached_property
    def features(self) -> FeatureMap:
        """Public features whose means are matched."""
        return moment_features(self.facts.input, self.seed)

    @cached_property
    def labeller(self) -> Labeller | None:
        """The labeller, if there is one."""
        return self.release.labeller(self.facts, self.seed)


@dataclass(frozen=True)
class PrivateState:
    """Inputs in public units, where they started, and Adam's moments."""

    x: Float[Tensor, "n ..."]
    start: Float[Tensor, "n ..."]
    first: Float[Tensor, "n ..."]
    second: Float[Tensor, "n ..."]
    labels: Int[Tensor, " n"]
    step: int = 0


@dataclass(frozen=True)
class PrivateMatching(Method[PrivateState]):
    """Distribution matching to moments with noise.

    Minimises over the inputs x_i of class c, with features φ and the released mean m_c,

        1/k Σ_c ‖mean_i φ(x_i) − m_c‖² + μ mean (x_i − start_i)²
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Private set from one release of moments", paper="ours, after arXiv:2110.04515", year=2026,
        family="distribution", kinds=("image", "table"),
    )  # fmt: skip
    state_type: ClassVar[type] = PrivateState

    iterations: int = 100
    """Updates of the inputs."""
    lr: float = 0.01
    """Adam's learning rate, in public units."""
    start_weight: float = 1.0
    """μ: weight of the distance to the start."""

    def init(self, problem: Problem, rng: Generator) -> PrivateState:
        values = _values(problem)
        means = denoised_means(values.release, values.facts)
        starts, labels = [], []
        for c, size in enumerate(problem.sizes):
            starts.append(_starts(means[c], size, rng))
            labels += [c] * size
        x = torch.cat(starts)
        zero = torch.zeros_like(x)
        return PrivateState(x=x, start=x, first=zero, second=zero, labels=torch.tensor(labels))

    def step(self, problem: Problem, state: PrivateState, rng: Generator) -> tuple[PrivateState, Metrics]:
        values = _values(problem)
        x = state.x.clone().requires_grad_()
        losses = self._losses(problem, values, state, x)
        total = losses["moments"] + self.start_weight * losses["start"]
        (slope,) = torch.autograd.grad(total, [x])
        first = BETAS[0] * state.first + (1 - BETAS[0]) * slope
        second = BETAS[1] * state.second + (1 - BETAS[1]) * slope.square()
        t = state.step + 1
        update = (first / (1 - BETAS[0] ** t)) / ((second / (1 - BETAS[1] ** t)).sqrt() + 1e-8)
        moved = _bounded(state.x - self.lr * update)
        after = replace(state, x=moved, first=first, second=second, step=t)
        return after, {name: float(value.detach()) for name, value in losses.items()} | {"loss": float(total.detach())}

    def _losses(
        self, problem: Problem, values: PrivateValues, state: PrivateState, x: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        features = values.features(x)
        k = len(values.facts.classes)
        sums = torch.zeros(k, features.shape[1]).index_add(0, state.labels, features)
        means = sums / torch.tensor(problem.sizes)[:, None]
        moments = (means - values.release.tensors["features"]).square().sum() / k
        return {"moments": moments, "start": (x - state.start).square().mean()}

    def done(self, problem: Problem, state: PrivateState) -> bool:
        return state.step >= self.iterations

    def num_steps(self, problem: Problem) -> int:
        return self.iterations

    def result(self, problem: Problem, state: PrivateState) -> Synthetic:
        values = _values(problem)
        labeller = values.labeller
        labels = state.labels if labeller is None else labeller.probabilities(state.x)
        return Synthetic(payload={"inputs": values.facts.unbound(state.x)}, labels=labels, space="data")


def _values(problem: Problem) -> PrivateValues:
    found = problem.assets.get(ASSET)
    if not isinstance(found, PrivateValues):
        raise PotstillError("a private set is made of a release alone; run it with `private=`")
    return found


def _bounded(x: Tensor) -> Tensor:
    return x.clamp(0, 1) if x.ndim > 2 else x.clamp(-1, 1)


def _starts(means: Float[Tensor, "cells ..."], size: int, rng: Generator) -> Float[Tensor, "size ..."]:
    """Return the means of a class, the largest cell first; beyond their number, mixes of two, which are jittered."""
    whole = means[:size]
    more = size - len(whole)
    if more <= 0:
        return whole
    pairs = torch.randint(len(means), (more, 2), generator=rng)
    part = torch.rand(more, generator=rng).reshape(-1, *[1] * (means.ndim - 1))
    mixes = part * means[pairs[:, 0]] + (1 - part) * means[pairs[:, 1]]
    return torch.cat([whole, _jittered(mixes, rng)])


def _jittered(x: Float[Tensor, "m ..."], rng: Generator) -> Float[Tensor, "m ..."]:
    """Return pictures turned, scaled, sheared and moved a little at random; rows as they are."""
    if x.ndim == 2:
        return x
    turn, wide, high, shear, right, down = 2 * torch.rand(6, len(x), generator=rng) - 1
    angle = turn * math.radians(_TURN)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = (1 + _SCALE * wide) * angle.cos(), _SHEAR * shear - angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), (1 + _SCALE * high) * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = _MOVE * right, _MOVE * down
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
