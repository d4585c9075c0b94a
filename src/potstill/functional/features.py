"""Embeddings of many real samples, computed in parts that suit the machine."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["embed_real", "uses_batch_statistics"]

_PIXELS = 2**16
"""Input pixels in one pass on the CPU: 64 pictures of 32×32. More gains nothing and holds more memory."""


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether a sample's features depend on the batch it is in: a BatchNorm in training mode."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in network.modules())


def embed_real(network: Network, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    """``network.embed(x)`` without a graph; on the CPU in parts, unless the batch itself counts (BatchNorm)."""
    with torch.no_grad():
        pixels = x[0].numel() // x.shape[1] if x.ndim > 2 else 1
        part = max(1, _PIXELS // pixels)
        if x.device.type != "cpu" or len(x) <= part or uses_batch_statistics(network):
            return network.embed(x)
        return torch.cat([network.embed(some) for some in torch.split(x, part)])
