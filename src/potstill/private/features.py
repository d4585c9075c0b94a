"""Public features of inputs: functions of a seed alone, bounded for each input."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.core import InputSpec, Network
from potstill.errors import PotstillError
from potstill.nn import factory
from potstill.nn.convnet import default_depth
from potstill.rng import derive_seed, generator

__all__ = ["FeatureMap", "label_features", "moment_features"]

FeatureMap = Callable[[Tensor], Float[Tensor, "m d"]]
"""Map of inputs in public units (pixels in [0, 1], columns in [−1, 1]) to vectors of norm 1 at most, differentiable."""
_ORIENTATIONS = 8
_CELL = 4
"""Pixels along a side over which gradient energies are pooled."""
_WIDTH = 64
_HIDDEN = 256
"""Random features of rows."""


def label_features(spec: InputSpec, seed: int) -> FeatureMap:
    """Return the features of the labeller: energies of oriented gradients and a random ConvNet; random ReLU of rows.

    Raises:
        PotstillError: the inputs are neither pictures nor rows.
    """
    if spec.kind == "image":
        nets = RandomConvNets.draw(spec, seed, count=1, width=_WIDTH)
        return Joined((OrientedEnergies(), nets))
    if spec.kind == "table":
        return Joined((Scaled(), RandomReLU.draw(spec, seed)))
    raise _unsuited(spec)


def moment_features(spec: InputSpec, seed: int, count: int = 2) -> FeatureMap:
    """Return the features whose class means are matched: several random ConvNets and energies of oriented gradients.

    Raises:
        PotstillError: the inputs are neither pictures nor rows.
    """
    if spec.kind == "image":
        nets = RandomConvNets.draw(spec, derive_seed(seed, "moments"), count=count, width=_WIDTH // 2)
        return Joined((OrientedEnergies(), nets))
    if spec.kind == "table":
        return RandomReLU.draw(spec, derive_seed(seed, "moments"))
    raise _unsuited(spec)


def _unsuited(spec: InputSpec) -> PotstillError:
    return PotstillError(f"a private set is made of pictures or of rows of a table, not of {spec.kind} data")


@dataclass(frozen=True, eq=False)
class Joined:
    """Features side by side, each with an equal share of the norm."""

    parts: tuple[FeatureMap, ...]

    def __call__(self, x: Tensor) -> Float[Tensor, "m d"]:
        return torch.cat([part(x) for part in self.parts], 1) / math.sqrt(len(self.parts))


@dataclass(frozen=True, eq=False)
class OrientedEnergies:
    """Gradients by orientation, pooled over squares of 4 pixels and divided by their local energy."""

    def __call__(self, x: Tensor) -> Float[Tensor, "m d"]:
        across = F.pad(x[..., 1:] - x[..., :-1], (0, 1)).mean(1, keepdim=True)
        down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1)).mean(1, keepdim=True)
        angles = [2 * math.pi * i / _ORIENTATIONS for i in range(_ORIENTATIONS)]
        energy = torch.cat([(across * math.cos(a) + down * math.sin(a)).relu() for a in angles], 1)
        pooled = F.avg_pool2d(energy, min(_CELL, *energy.shape[2:]))
        local = (pooled.square().sum(1, keepdim=True) + 1e-6).sqrt()
        return F.normalize((pooled / (local + 0.05)).flatten(1), eps=1e-6)


@dataclass(frozen=True, eq=False)
class RandomConvNets:
    """Embeddings of ConvNets with random weights, each of norm 1, with equal shares."""

    networks: tuple[Network, ...]

    @classmethod
    def draw(cls, spec: InputSpec, seed: int, count: int, width: int) -> "RandomConvNets":
        """Return networks whose weights depend on the seed alone."""
        depth = min(3, default_depth(min(spec.shape[1:])))
        make = factory(f"convnet-d{depth}-w{width}", spec, 2)
        nets = [make(derive_seed(seed, "private features", i)).eval().requires_grad_(False) for i in range(count)]
        return cls(tuple(nets))

    def __call__(self, x: Tensor) -> Float[Tensor, "m d"]:
        rows = [F.normalize(net.embed((x - 0.5) / 0.5).flatten(1)) for net in self.networks]
        return torch.cat(rows, 1) / math.sqrt(len(rows))


@dataclass(frozen=True, eq=False)
class Scaled:
    """Columns in [−1, 1] over the square root of their number."""

    def __call__(self, x: Tensor) -> Float[Tensor, "m d"]:
        return x / math.sqrt(x.shape[1])


@dataclass(frozen=True, eq=False)
class RandomReLU:
    """Random ReLU units of the columns, of norm 1."""

    weight: Float[Tensor, "d m"]
    bias: Float[Tensor, " m"]

    @classmethod
    def draw(cls, spec: InputSpec, seed: int) -> "RandomReLU":
        """Return units whose weights depend on the seed alone."""
        rng, d = generator(seed, "private rows"), spec.shape[0]
        weight = torch.randn(d, _HIDDEN, generator=rng) * math.sqrt(2 / d)
        return cls(weight, torch.randn(_HIDDEN, generator=rng) / 2)

    def __call__(self, x: Tensor) -> Float[Tensor, "m d"]:
        return F.normalize((x @ self.weight + self.bias).relu(), eps=1e-6)
