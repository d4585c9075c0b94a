"""Where the networks of a matching method come from: fresh ones, or trained ones (assets). Others train along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from potstill.core import Network, Part, Problem, Trained
from potstill.errors import PotstillError
from potstill.functional.train import parameters
from potstill.methods.engine.objective import MatchState, PoolMember
from potstill.rng import draw_seed

__all__ = ["Embedders", "Ready", "between", "fresh_member", "load", "trained_networks"]

Embedders: TypeAlias = Literal["fresh", "trained", "between"]
"""Untrained networks, trained ones, or points on the line from one to the other (DANCE)."""


@final
@dataclass(frozen=True, kw_only=True)
class Ready:
    """Networks that stay as they are: an untrained one for every block, or one of several that were trained before."""

    trained: bool = False
    """Take those of ``assets["networks"]``."""
    between: bool = False
    """Take a random point between its beginning and its end."""
    classifies: bool = False
    """Its end also classifies."""

    def begin(self, problem: Problem, state: MatchState, rng: Generator, seed: int | None) -> MatchState:
        return state

    def embedder(self, problem: Problem, state: MatchState, rng: Generator) -> tuple[Network, Network | None]:
        if not self.trained:
            return problem.network(draw_seed(rng)), None
        made = trained_networks(problem)
        chosen = made[int(torch.randint(len(made), (1,), generator=rng))]
        first = float(torch.rand((), generator=rng)) if self.between else 0.0
        return between(problem, chosen, first), between(problem, chosen, 0.0) if self.classifies else None

    def follow(self, problem: Problem, state: MatchState, net: Network, rng: Generator) -> MatchState:
        return replace(state, iteration=state.iteration + 1)

    def parts(self, problem: Problem, state: MatchState) -> tuple[Part, ...]:
        return ()

    def undivided(self, problem: Problem) -> str | None:
        """Nothing: they stay as they are."""
        return None


def load(problem: Problem, seed: int, theta: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Network:
    """A network of its own that has these parameters and buffers, which are copied.

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


def trained_networks(problem: Problem) -> Sequence[Trained]:
    """The trained networks of the problem; each is read when it is asked for.

    Raises:
        PotstillError: they have not been made.
    """
    made: Sequence[Trained] | None = problem.assets.get("networks")
    if not made:
        raise PotstillError(
            "this method matches in trained networks, but the problem has none in assets['networks']; "
            "run it through potstill.distill, or make them with potstill.pretraining"
        )
    return made


def between(problem: Problem, trained: Trained, first: float) -> Network:
    """DANCE's interpolation: ``first`` times the untrained parameters, the rest from the trained ones.

    Buffers are the trained network's: only parameters are interpolated (DANCE.py, the loop over ``model_interval``).
    """
    net = load(problem, trained.seed, trained.theta, trained.buffers)
    if first:
        begin = problem.network(trained.seed)
        with torch.no_grad():
            for p, q in zip(net.parameters(), begin.parameters(), strict=True):
                p.mul_(1 - first).add_(q, alpha=first)
    return net


def fresh_member(problem: Problem, rng: Generator, seed: int | None = None) -> PoolMember:
    """An untrained network, from ``seed`` or from one that is drawn."""
    seed = draw_seed(rng) if seed is None else seed
    net = problem.network(seed)
    theta = parameters(net)
    return PoolMember(
        seed=seed, theta=theta, velocity={n: torch.zeros_like(p) for n, p in theta.items()},
        buffers={n: b.detach().clone() for n, b in net.named_buffers()},
    )  # fmt: skip
