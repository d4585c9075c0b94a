"""Policies: small networks, many of them side by side, that learn by imitation of a few pairs."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.functional.optim import adaptive_step, zeros

__all__ = ["Cloning", "PolicyShape", "Weights", "clone", "parse_policy", "to_rows"]

Weights = dict[str, Tensor]
"""Weights of p networks side by side: each tensor begins with axis p."""
MOST_HIDDEN = 4096


@dataclass(frozen=True, slots=True)
class PolicyShape:
    """A fully connected network with tanh units; without hidden layers, a linear map."""

    hidden: tuple[int, ...] = (32,)

    @property
    def name(self) -> str:
        """``linear``, or ``mlp:`` and the widths, such as ``mlp:64-64``."""
        return f"mlp:{'-'.join(map(str, self.hidden))}" if self.hidden else "linear"

    def sizes(self, inputs: int, outputs: int) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of each layer."""
        widths = [inputs, *self.hidden, outputs]
        return list(pairwise(widths))

    def count(self, inputs: int, outputs: int) -> int:
        """Return the number of weights and biases."""
        return sum((a + 1) * b for a, b in self.sizes(inputs, outputs))

    def draw(self, count: int, inputs: int, outputs: int, rng: Generator) -> Weights:
        """Return that many networks, uniform in ±1/√inputs as ``torch.nn.Linear``."""
        weights: Weights = {}
        for n, (a, b) in enumerate(self.sizes(inputs, outputs)):
            bound = 1 / math.sqrt(a)
            weights[f"w{n}"] = bound * (2 * torch.rand(count, a, b, generator=rng) - 1)
            weights[f"b{n}"] = bound * (2 * torch.rand(count, 1, b, generator=rng) - 1)
        return weights

    def from_rows(self, rows: Float[Tensor, "p d"], inputs: int, outputs: int) -> Weights:
        """Return the networks whose weights are the rows, as `to_rows` returns them."""
        weights: Weights = {}
        at = 0
        for n, (a, b) in enumerate(self.sizes(inputs, outputs)):
            for name, shape in ((f"w{n}", (a, b)), (f"b{n}", (1, b))):
                size = shape[0] * shape[1]
                weights[name] = rows[:, at : at + size].reshape(-1, *shape)
                at += size
        return weights

    def __call__(self, weights: Weights, states: Float[Tensor, "p n d"]) -> Float[Tensor, "p n a"]:
        """Return the outputs of each network for its own states."""
        x = states
        for n in range(len(self.hidden) + 1):
            x = torch.baddbmm(weights[f"b{n}"], x, weights[f"w{n}"])
            x = torch.tanh(x) if n < len(self.hidden) else x
        return x


def to_rows(weights: Weights) -> Float[Tensor, "p d"]:
    """Return the weights of each network as one row, layer by layer."""
    names = sorted(weights, key=lambda name: (int(name[1:]), name[0] == "b"))
    return torch.cat([weights[name].flatten(1) for name in names], 1)


def parse_policy(name: str) -> PolicyShape:
    """Return a policy by name.

    Raises:
        PotstillError: it is neither ``linear`` nor ``mlp:WIDTH[-WIDTH…]``.
    """
    if name == "linear":
        return PolicyShape(())
    found = re.fullmatch(r"mlp:(\d{1,5}(?:-\d{1,5}){0,4})", name)
    widths = tuple(int(w) for w in found[1].split("-")) if found else ()
    if not widths or not all(1 <= w <= MOST_HIDDEN for w in widths):
        raise PotstillError(
            f"a policy is linear or mlp: with widths of 1 to {MOST_HIDDEN:,}, such as mlp:64-64, not {name[:40]!r}"
        )
    return PolicyShape(widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloning:
    """Settings of imitation: all pairs in each update, by Adam."""

    updates: int = 100
    """Updates of a policy (CartPole from two pairs needs about 50)."""
    lr: float = 0.02


def clone(
    shape: PolicyShape, weights: Weights, states: Float[Tensor, "p k d"], targets: Tensor, settings: Cloning
) -> Weights:
    """Return networks after imitation, each of its own pairs.

    Args:
        shape: of all networks.
        weights: p networks, as they were drawn.
        states: normalised states of the pairs.
        targets: numbers of actions (p, k), or actions in [−1, 1] (p, k, a).
        settings: of the training.
    """
    first, second = zeros(weights), zeros(weights)
    for step in range(settings.updates):
        with torch.enable_grad():
            leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
            out = shape(leaves, states)
            if targets.ndim == 2:
                loss = F.cross_entropy(out.flatten(0, 1), targets.flatten(), reduction="sum") / targets.shape[1]
            else:
                loss = (out - targets).square().mean((1, 2)).sum()
            slopes = torch.autograd.grad(loss, list(leaves.values()))
        grads = dict(zip(leaves, slopes, strict=True))
        weights, first, second = adaptive_step("adamw", weights, grads, first, second, step, lr=settings.lr)
    return weights
