"""Initial samples and labels from experts (DATM): samples they classify correctly, with their logits."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem
from potstill.data.real_data import RealData
from potstill.methods.engine import central_samples, hard_labels, load_network, require_tensor
from potstill.methods.trajectory._objective import get_experts
from potstill.rng import draw_seed

__all__ = ["ExpertInit"]

CHUNK = 256
"""Samples that pass through an expert at once."""


@final
@dataclass(frozen=True, kw_only=True)
class ExpertInit:
    """Initial samples and logits chosen by the trained experts (an `InitStrategy`).

    Attributes:
        select: ``right`` takes samples that an expert classifies correctly; otherwise only the logits are the experts'.
        label_experts: number of experts, the first ones, whose mean logits labels begin as; 0: all that are correct.
    """

    select: Literal["right", "real", "k-means"] = "right"
    label_experts: int = 0

    def select_samples(self, problem: Problem, counts: tuple[int, ...], rng: Generator) -> tuple[Tensor, ...]:
        """Return sample indices of each class in random order: those the first expert classifies correctly, then the
        second's, and so on; then the others where no expert has enough.

        The released program takes them in the order of the data, so that sets of every seed begin alike.
        """
        if self.select == "k-means":
            net = problem.network(draw_seed(rng)).eval().requires_grad_(False)
            return central_samples(problem, net, counts, rng)
        if self.select == "real":
            return RealData.of(problem).draw_exactly(counts, rng)
        orders = RealData.of(problem).draw(len(problem.train), rng)
        selected = [torch.empty(0, dtype=torch.int64) for _ in orders]
        for net in _final_networks(problem):
            for c, (order, n) in enumerate(zip(orders, counts, strict=True)):
                for batch in torch.split(order[~torch.isin(order, selected[c])], CHUNK):
                    if len(selected[c]) >= n:
                        break
                    with torch.no_grad():
                        predicted = net(RealData.of(problem).batch(batch).x).argmax(1).cpu()
                    selected[c] = torch.cat([selected[c], batch[predicted == c]])[:n]
            if all(len(index) == n for index, n in zip(selected, counts, strict=True)):
                break
        rest = (order[~torch.isin(order, index)] for order, index in zip(orders, selected, strict=True))
        return tuple(torch.cat([index, more])[:n] for index, more, n in zip(selected, rest, counts, strict=True))

    def initial_logits(self, problem: Problem, x: Inputs) -> Tensor:
        """Return the mean logits (n, k) of the experts that classify a sample correctly; of all where none does.

        With ``label_experts`` it is the mean of the first so many. The released program takes a random one for sets of
        real samples (DATM.py, pix_init real).
        """
        if self.label_experts:
            nets = islice(_final_networks(problem), self.label_experts)
            return torch.stack([_logits(net, x) for net in nets]).mean(0)
        y = hard_labels(problem)
        logits = torch.stack([_logits(net, x) for net in _final_networks(problem)])
        correct = logits.argmax(2) == y.to(logits.device)
        weights = torch.where(correct.any(0), correct, True).to(logits.dtype)
        return (logits * weights[..., None]).sum(0) / weights.sum(0)[:, None]


def _final_networks(problem: Problem) -> Iterator[Network]:
    for expert in get_experts(problem):
        trained = expert.trained(expert.epochs)
        yield load_network(problem, trained.seed, trained.parameters, trained.buffers).eval().requires_grad_(False)


def _logits(net: Network, x: Inputs) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(batch) for batch in torch.split(require_tensor(x), CHUNK)])
