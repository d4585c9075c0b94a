"""Fresh weights from a generator: PyTorch's default distributions, without its global generator."""

import math
from collections.abc import Callable

import torch
from torch import Generator, nn

from potstill.core import Network

__all__ = ["built"]


def _uniform(tensor: torch.Tensor, bound: float, rng: Generator) -> None:
    # Drawn on the CPU and then copied: the same seed gives the same weights on any device.
    tensor.copy_(torch.rand(tensor.shape, generator=rng) * (2 * bound) - bound)


def _initialise(module: nn.Module, rng: Generator) -> None:
    """One module's own parameters, as its ``reset_parameters`` distributes them."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        bound = 1 / math.sqrt(module.weight[0].numel())  # kaiming_uniform with a = √5
        _uniform(module.weight, bound, rng)
        if module.bias is not None:
            _uniform(module.bias, bound, rng)
    elif isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.BatchNorm2d):
        if module.weight is not None:
            module.weight.fill_(1)
            module.bias.fill_(0)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(0)  # type: ignore[union-attr]
            module.running_var.fill_(1)  # type: ignore[union-attr]
            module.num_batches_tracked.fill_(0)  # type: ignore[union-attr]
    elif (own := getattr(module, "initialise", None)) is not None:
        own(rng)
    elif any(True for _ in module.parameters(recurse=False)):
        raise TypeError(f"no rule to initialise a {type(module).__name__}; give it a method initialise(rng)")


def built(make: Callable[[], Network], device: torch.device, rng: Generator) -> Network:
    """The network that ``make`` describes, with weights drawn from ``rng`` in the order of its modules.

    It is described on the meta device first, so PyTorch draws nothing from the global generator.

    Raises:
        TypeError: a module has parameters that no rule here covers.
    """
    with torch.device("meta"):
        network = make()
    network = network.to_empty(device=device)
    with torch.no_grad():
        for module in network.modules():
            _initialise(module, rng)
    return network
