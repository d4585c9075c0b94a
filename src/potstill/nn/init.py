"""Fresh weights from a generator: PyTorch's default distributions, without its global generator."""

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
    """Draws the weights of ``module`` and of all within it, in the order of its modules.

    Convolutions and linear layers get what their ``reset_parameters`` gives: kaiming_uniform with a = √5, so weights
    and biases are U(−1/√fan_in, 1/√fan_in). From a generator in the same state the numbers are PyTorch's own, bit for
    bit. Norms get ones and zeros, and fresh running statistics. A module with a method ``initialise(rng)`` is handed
    the generator and answers for all within it.

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
    """``network``, described on the meta device, with memory that holds no values yet.

    What ``to_empty`` does, which asks the meta device for each tensor and so imports hundreds of modules.
    """
    network._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device=device))  # type: ignore[no-untyped-call]
    return network


def build_network(make: Callable[[], Network], device: torch.device, rng: Generator) -> Network:
    """The network that ``make`` describes, with weights drawn from ``rng``, on ``device``.

    It is described on the meta device first, so PyTorch draws nothing from the global generator, and drawn on the
    CPU, so the same seed gives the same weights on any device.

    Raises:
        TypeError: a module has parameters that no rule covers.
    """
    with torch.device("meta"):
        network = make()
    network = allocate(network, torch.device("cpu"))
    initialise(network, rng)
    return network.to(device)
