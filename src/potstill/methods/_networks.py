"""Where the networks of a matching method come from: fresh ones, trained ones (assets), or a pool that trains along."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from potstill.core import Network, Problem, Trained
from potstill.errors import PotstillError
from potstill.functional.train import parameters
from potstill.rng import draw_seed
from potstill.supervise.teacher import Teacher, teacher_step

__all__ = ["Pool", "PoolMember", "between", "fresh_member", "load", "train_member", "trained_networks"]


@dataclass(frozen=True, kw_only=True)
class PoolMember:
    """A network in training, as a value."""

    seed: int
    theta: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    right: int = 0
    """Training samples that it classified rightly as it met them, of ``seen``."""
    seen: int = 0

    @property
    def accuracy(self) -> float:
        return self.right / self.seen if self.seen else 0.0


Pool = tuple[PoolMember, ...]


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


def trained_networks(problem: Problem) -> tuple[Trained, ...]:
    """The trained networks of the problem.

    Raises:
        PotstillError: they have not been made.
    """
    made = problem.assets.get("networks")
    if not made:
        raise PotstillError(
            "this method matches in trained networks, but the problem has none in assets['networks']; "
            "run it through potstill.distill, or make them with potstill.assets"
        )
    return tuple(made)


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


def fresh_member(problem: Problem, rng: Generator) -> PoolMember:
    """An untrained network."""
    seed = draw_seed(rng)
    net = problem.network(seed)
    theta = parameters(net)
    return PoolMember(
        seed=seed, theta=theta, velocity={n: torch.zeros_like(p) for n, p in theta.items()},
        buffers={n: b.detach().clone() for n, b in net.named_buffers()},
    )  # fmt: skip


def train_member(
    problem: Problem, member: PoolMember, rng: Generator, *, steps: int, batch: int, lr: float, momentum: float,
    weight_decay: float,
) -> PoolMember:  # fmt: skip
    """``steps`` of SGD on random real samples; counts what the network got right before each step."""
    net = problem.network(member.seed).train()
    made = Teacher(
        params=member.theta, velocity=member.velocity, buffers=member.buffers, right=member.right, seen=member.seen
    )
    for _ in range(steps):
        made, _ = teacher_step(
            net, made, problem.train, rng, batch=batch, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
    return replace(
        member, theta=made.params, velocity=made.velocity, buffers=made.buffers, right=made.right, seen=made.seen
    )
