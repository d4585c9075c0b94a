"""Networks of matching methods that do not train along: untrained ones, or trained ones from the assets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from potstill.core import Network, NetworkWeights, Problem
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters
from potstill.methods.engine.objective import MatchingState, PoolMember, StaticNetworks
from potstill.rng import draw_seed

__all__ = [
    "EmbedderKind", "FixedNetworks", "get_trained_networks", "interpolate_network", "load_network", "new_pool_member",
]  # fmt: skip

EmbedderKind: TypeAlias = Literal["fresh", "trained", "between"]
"""Untrained networks, trained ones, or points on the line between them (DANCE)."""


@final
@dataclass(frozen=True, kw_only=True)
class FixedNetworks(StaticNetworks):
    """Networks that do not train: an untrained one for each block, or one of ``assets["networks"]``.

    Attributes:
        count: number of untrained networks, of the seeds 0, 1, …; 0: every block draws another.
        trained: use trained networks.
        interpolate: use a random point between the untrained and the trained parameters.
        with_classifier: also return the trained network to classify.
    """

    count: int = 0
    trained: bool = False
    interpolate: bool = False
    with_classifier: bool = False

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        if not self.trained:
            seed = int(torch.randint(self.count, (1,), generator=rng)) if self.count else draw_seed(rng)
            return problem.network(seed), None
        made = get_trained_networks(problem)
        chosen = made[int(torch.randint(len(made), (1,), generator=rng))]
        first = float(torch.rand((), generator=rng)) if self.interpolate else 0.0
        classifier = interpolate_network(problem, chosen, 0.0) if self.with_classifier else None
        return interpolate_network(problem, chosen, first), classifier

    def shard_obstacle(self, problem: Problem) -> str | None:
        return None


def load_network(problem: Problem, seed: int, theta: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Network:
    """Return a new network with copies of these parameters and buffers.

    Raises:
        PotstillError: they are another architecture's.
    """
    net = problem.network(seed)
    if {n: p.shape for n, p in net.named_parameters()} != {n: p.shape for n, p in theta.items()}:
        raise PotstillError(
            f"the problem's trained networks are not {problem.network.name}; make them with the network that matches"
        )
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(theta[name])
        for name, b in net.named_buffers():
            b.copy_(buffers[name])
    return net


def get_trained_networks(problem: Problem) -> Sequence[NetworkWeights]:
    """Return the trained networks of the problem; each is read when it is accessed.

    Raises:
        PotstillError: they have not been made.
    """
    trained: Sequence[NetworkWeights] | None = problem.assets.get("networks")
    if not trained:
        raise PotstillError(
            "this method matches in trained networks, but the problem has none in assets['networks']; "
            "run it through potstill.distill, or make them with potstill.pretraining"
        )
    return trained


def interpolate_network(problem: Problem, trained: NetworkWeights, first: float) -> Network:
    """Return a network with ``first`` times the untrained and ``1 - first`` times the trained parameters.

    Buffers are the trained network's: only parameters are interpolated (DANCE.py, the loop over ``model_interval``).
    """
    net = load_network(problem, trained.seed, trained.parameters, trained.buffers)
    if first:
        begin = problem.network(trained.seed)
        with torch.no_grad():
            for p, q in zip(net.parameters(), begin.parameters(), strict=True):
                p.mul_(1 - first).add_(q, alpha=first)
    return net


def new_pool_member(problem: Problem, rng: Generator, seed: int | None = None) -> PoolMember:
    """Return an untrained network, from ``seed`` or from one that is drawn."""
    seed = draw_seed(rng) if seed is None else seed
    net = problem.network(seed)
    theta = copy_parameters(net)
    return PoolMember(
        seed=seed, theta=theta, velocity={n: torch.zeros_like(p) for n, p in theta.items()},
        buffers={n: b.detach().clone() for n, b in net.named_buffers()},
    )  # fmt: skip
