"""Weight initialisation from a generator, with PyTorch's default distributions."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, nn

from potstill.core import Network

__all__ = ["allocate", "build_network", "initialise"]

N = TypeVar("N", bound=nn.Module)


@torch.no_grad()
def initialise(module: nn.Module, rng: Generator) -> None:
    """Draw the weights of ``module`` and its submodules, in module order.

    Convolutions and linear layers as in ``reset_parameters``: kaiming_uniform with a = √5, U(−1/√fan_in, 1/√fan_in),
    bit for bit PyTorch's from a generator in the same state. Norms get ones, zeros and fresh running statistics. A
    module with a method ``initialise(rng)`` initialises all its submodules.

    Args:
        module: on the CPU.
        rng: a CPU generator.

    Raises:
        TypeError: a module has parameters or buffers, no rule here covers its type, and it has no ``initialise``.
    """
    own = getattr(module, "initialise", None)
    if own is not None:
        own(rng)
        return
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=rng)
        if module.bias is not None:
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=rng)
    elif isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        module.reset_parameters()  # draws nothing
    elif next(module.parameters(recurse=False), next(module.buffers(recurse=False), None)) is not None:
        raise TypeError(
            f"a network is made of layers with a known distribution, but nothing is known of "
            f"{type(module).__name__}; give it a method initialise(rng)"
        )
    for child in module.children():
        initialise(child, rng)


def allocate(network: N, device: torch.device) -> N:
    """Allocate uninitialised memory for ``network`` from the meta device.

    As ``to_empty``, which would import hundreds of modules.
    """
    network._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device=device))  # type: ignore[no-untyped-call]
    return network


def build_network(make: Callable[[], Network], device: torch.device, rng: Generator) -> Network:
    """Build the network of ``make`` with weights drawn from ``rng``, on ``device``.

    Built on the meta device first, so that nothing is drawn from the global generator, and initialised on the CPU, so
    that the same seed gives the same weights on any device.

    Raises:
        TypeError: a module has parameters that no rule covers.
    """
    with torch.device("meta"):
        network = make()
    network = allocate(network, torch.device("cpu"))
    initialise(network, rng)
    return network.to(device)
