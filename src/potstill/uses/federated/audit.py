"""A test of what sent inputs give away: is the nearest real sample of each one that the client holds?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.functional.distances import pairwise_squared
from potstill.rng import generator
from potstill.uses.federated.messages import Client, Message

__all__ = ["nearest_members"]

_LEAST = 2
"""Fewest samples on either side of a comparison."""


def nearest_members(
    clients: Sequence[Client], messages: Sequence[Message | None], other: TensorSource, seed: int
) -> tuple[int, int]:
    """Return how many sent inputs lie nearest to a sample of their client, and how many were compared.

    Each input is compared with as many samples of its class that the client has as of others that no client has. Inputs
    that tell nothing of single samples lie nearest to a client's in half of the comparisons.

    Args:
        clients: their samples.
        messages: what each sent.
        other: samples that no client has, of the same classes; they are measured with, and nothing is chosen by them.
        seed: of the draws.
    """
    nearest = compared = 0
    rng = generator(seed, "nearest")
    for client, message in zip(clients, messages, strict=True):
        if message is None:
            continue
        hard = message.y if message.y.ndim == 1 else message.y.argmax(1)
        for c in torch.unique(hard).tolist():
            members = (client.source.labels == c).nonzero().flatten()
            strangers = (other.labels == c).nonzero().flatten()
            n = min(len(members), len(strangers))
            if n < _LEAST:
                continue
            inputs = message.x[(hard == c).to(message.x.device)].flatten(1).double()
            inside = _nearest(inputs, client.source, members[torch.randperm(len(members), generator=rng)[:n]])
            outside = _nearest(inputs, other, strangers[torch.randperm(len(strangers), generator=rng)[:n]])
            nearest += int((inside < outside).sum())
            compared += len(inputs)
    return nearest, compared


def _nearest(inputs: Tensor, source: TensorSource, at: Tensor) -> Tensor:
    """Return the squared distance of each input to the nearest of some samples."""
    x = single_tensor(source.fetch(at).x, "a distance").flatten(1).to(inputs)
    return pairwise_squared(inputs, x).amin(1)
