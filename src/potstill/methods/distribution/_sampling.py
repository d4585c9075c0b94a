"""NCFM's sampling network: maps noise to frequencies and maximises the loss that the set minimises."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Network, Problem
from potstill.data.real_data import RealData
from potstill.functional.optim import sgd
from potstill.methods.distribution._statistics import Memory

__all__ = ["ascend_sampler", "init_sampler", "sample_frequencies"]

NOISE_REPEATS = 16
"""Frequencies per noise vector of the sampling network (SampleNet.py)."""


def ascend_sampler(memory: Memory, loss: Callable[[Memory], Tensor], lr: float, momentum: float) -> Memory:
    """Return the network's parameters (``psi/…``) and velocities after an ascent step on their loss."""
    names = [n for n in memory if n.startswith("psi/")]
    psi = {n: memory[n].detach().requires_grad_() for n in names}
    with torch.enable_grad():
        up = [-g for g in torch.autograd.grad(loss(psi), list(psi.values()))]
    velocity = {n: memory["speed/" + n] for n in names}
    after, speed = sgd(
        {n: memory[n] for n in names}, dict(zip(names, up, strict=True)), velocity, lr=lr, momentum=momentum
    )
    return {**after, **{"speed/" + n: v for n, v in speed.items()}}


def init_sampler(net: Network, problem: Problem, rng: Generator) -> dict[str, Tensor]:
    """Initialise three linear layers of the embedding's width with BatchNorms, as torch does."""
    x = RealData.of(problem).batch(torch.tensor([0])).x
    assert isinstance(x, Tensor)
    with torch.no_grad():
        d = net.embed(torch.cat([x, x])).shape[1]
    params: dict[str, Tensor] = {}
    for layer in range(3):
        bound = d**-0.5
        params[f"psi/{layer}.weight"] = (torch.rand(d, d, generator=rng) * 2 - 1) * bound
        params[f"psi/{layer}.bias"] = (torch.rand(d, generator=rng) * 2 - 1) * bound
        params[f"psi/{layer}.scale"], params[f"psi/{layer}.shift"] = torch.ones(d), torch.zeros(d)
    params = {n: p.to(problem.train.device) for n, p in params.items()}
    return {**params, **{"speed/" + n: torch.zeros_like(p) for n, p in params.items()}}


def sample_frequencies(memory: Memory, d: int, count: int, rng: Generator) -> Tensor:
    """Return t (count, d): standard normal, or the sampling network's output."""
    if "psi/0.weight" not in memory:
        return torch.randn(count, d, generator=rng)
    a = torch.randn(max(2, count // NOISE_REPEATS), d, generator=rng).to(memory["psi/0.weight"])
    for layer in range(3):
        p = [memory[f"psi/{layer}.{part}"] for part in ("weight", "bias", "scale", "shift")]
        a = F.batch_norm(F.linear(a, p[0], p[1]), None, None, p[2], p[3], training=True)
        a = F.leaky_relu(a, 0.2) if layer < 2 else a.tanh()
    return a.repeat(-(-count // len(a)), 1)[:count]
