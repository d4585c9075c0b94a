"""A start that experts choose (DATM): samples that they classify rightly, and the logits that they give them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Problem
from potstill.functional.sampling import random_per_class
from potstill.methods.engine import central_samples, hard_labels, load_network, require_tensor
from potstill.methods.trajectory._trajectory import experts
from potstill.rng import draw_seed

__all__ = ["ExpertInit"]

CHUNK = 256
"""Samples that pass an expert together."""


@final
@dataclass(frozen=True, kw_only=True)
class ExpertInit:
    """Samples and logits by the experts as they end (a `potstill.methods.engine.init.Chooser`)."""

    how: Literal["right", "real", "k-means"] = "right"
    """Take samples that an expert classifies rightly; otherwise only the logits are the experts'."""
    label_experts: int = 0
    """Of how many experts, the first, the mean logits are taken; 0: of all that classify a sample rightly."""

    def select_samples(self, problem: Problem, wanted: tuple[int, ...], rng: Generator) -> tuple[Tensor, ...]:
        """Of each class, in a random order, those that the first expert has right, then those that the second has
        right, and so on; where no expert has enough right, the others in that order.

        As published they come in the order of the data, so that sets of any seed would begin alike.
        """
        if self.how == "k-means":
            net = problem.network(draw_seed(rng)).eval().requires_grad_(False)
            return central_samples(problem, net, wanted, rng)
        if self.how == "real":
            return random_per_class(problem.class_indices, wanted, rng, problem.train.classes)
        orders = [own[torch.randperm(len(own), generator=rng)] for own in problem.class_indices]
        taken = [torch.empty(0, dtype=torch.int64) for _ in orders]
        for net in _final_networks(problem):
            for c, (order, n) in enumerate(zip(orders, wanted, strict=True)):
                for some in torch.split(order[~torch.isin(order, taken[c])], CHUNK):
                    if len(taken[c]) >= n:
                        break
                    with torch.no_grad():
                        answers = net(problem.train.fetch(some).x).argmax(1).cpu()
                    taken[c] = torch.cat([taken[c], some[answers == c]])[:n]
            if all(len(t) == n for t, n in zip(taken, wanted, strict=True)):
                break
        rest = (order[~torch.isin(order, t)] for order, t in zip(orders, taken, strict=True))
        return tuple(torch.cat([t, more])[:n] for t, more, n in zip(taken, rest, wanted, strict=True))

    def initial_logits(self, problem: Problem, x: Inputs) -> Tensor:
        """The mean logits (n, k) of the experts that classify a sample rightly; of all experts where none does.

        With ``label_experts`` it is the mean of so many, right or not. The released program takes a random one for sets
        of real samples (DATM.py, pix_init real); as all are trained alike, the first is as random as any.
        """
        if self.label_experts:
            return torch.stack([_logits(net, x) for net in islice(_final_networks(problem), self.label_experts)]).mean(
                0
            )
        y = hard_labels(problem)
        every = torch.stack([_logits(net, x) for net in _final_networks(problem)])
        right = every.argmax(2) == y.to(every.device)
        weights = torch.where(right.any(0), right, True).to(every.dtype)
        return (every * weights[..., None]).sum(0) / weights.sum(0)[:, None]


def _final_networks(problem: Problem) -> Iterator[Network]:
    """Each expert as it ends, as a network."""
    found = experts(problem)
    for one in found:
        trained = one.trained(one.epochs)
        yield load_network(problem, trained.seed, trained.parameters, trained.buffers).eval().requires_grad_(False)


def _logits(net: Network, x: Inputs) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(some) for some in torch.split(require_tensor(x), CHUNK)])
