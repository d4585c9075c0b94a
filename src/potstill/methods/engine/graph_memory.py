"""The mode ``by-memory`` of unrolled training: one graph of all steps where the machine's memory holds it.

``full`` is about a quarter faster than ``replay`` (results/unroll.json), and in float32 their gradients differ in the
last bits. So a run must not choose between them anew on each machine: ``auto``, the default, goes by the sizes of the
data alone, and ``by-memory`` chooses once, when the method is settled. What it chose is then the method's ``mode``, on
the card and in what a resumed run is compared with. It goes by all the memory that the machine has: what is free would
be another number from run to run.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill._util.formatting import format_size
from potstill.core import Problem
from potstill.core.nested import tree_map
from potstill.data.limits import machine_memory
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import Mode
from potstill.methods.engine.init import has_classes
from potstill.methods.engine.matching import augment_function
from potstill.rng import generator

__all__ = ["MEMORY_DIVISOR", "ResolvedMode", "choose_mode_by_memory", "measure_graph_bytes", "objective_mode"]

ResolvedMode: TypeAlias = Literal["full", "replay"]

MEMORY_DIVISOR = 4
"""A graph may take one part in so many of the machine's memory. Ours."""
PROBE_SIZES = (8, 16)
"""Samples that a step is measured with; larger numbers follow along the line. Ours."""


def choose_mode_by_memory(problem: Problem, samples: int, steps: int) -> tuple[ResolvedMode, str]:
    """``full`` if the graph of a student's ``steps`` on ``samples`` each fits, else ``replay``; and a line about it."""
    needed, most = (
        steps * measure_graph_bytes(problem, samples),
        device_memory(problem.network.device) // MEMORY_DIVISOR,
    )
    made: ResolvedMode = "full" if needed <= most else "replay"
    return made, (
        f"mode {made}: one graph of {steps} steps takes about {format_size(needed)}, and a {MEMORY_DIVISOR}th of the "
        f"memory here is {format_size(most)}"
    )


def objective_mode(mode: Literal["auto", "replay", "full", "by-memory", "tesla"]) -> Mode | None:
    """The mode of an objective; ``None``: by the sizes of the data.

    Raises:
        PotstillError: it is ``by-memory``, which a settled method has not.
    """
    if mode == "by-memory":
        raise PotstillError(
            "mode by-memory is chosen once for a run; take method.resolve_defaults(problem)[0], or give replay"
        )
    return None if mode == "auto" else mode


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_memory()


def measure_graph_bytes(problem: Problem, samples: int) -> int:
    """Bytes that the graph of one step of a student holds, with that of its gradient, measured on a few samples.

    The way back through it takes up to half as much again (a ConvNet of width 128), which `SHARE` leaves room for.
    """
    if samples <= PROBE_SIZES[1]:
        return _saved_bytes(problem, samples)
    at = [_saved_bytes(problem, n) for n in PROBE_SIZES]
    return int(at[0] + (at[1] - at[0]) / (PROBE_SIZES[1] - PROBE_SIZES[0]) * (samples - PROBE_SIZES[0]))


def _saved_bytes(problem: Problem, samples: int) -> int:
    """Of all tensors that autograd saves, each counted once."""
    held: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        kept.append(t)  # or its place could be another's, which would not be counted
        return t

    kept: list[Tensor] = []
    step = _gradient_step(problem, samples)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        step()
    return sum(held.values())


def _gradient_step(problem: Problem, samples: int) -> Callable[[], object]:
    """A gradient of a student's loss that can be differentiated again."""
    batch = problem.train.fetch(torch.arange(samples) % len(problem.train))
    y = batch.y
    if has_classes(problem) or y is None:
        y = problem.train.labels[torch.arange(samples) % len(problem.train)].to(problem.network.device)
    omega = problem.augment.draw(samples, problem.train.input.shape, generator(0, "memory"))
    net = problem.network(0).train()
    x = tree_map(lambda t: t.detach().requires_grad_(t.is_floating_point()), batch.x)
    theta = {n: p.detach().requires_grad_() for n, p in copy_parameters(net).items()}

    def step() -> object:
        value = loss_of(net, theta, augment_function(problem)(x, omega), y, criterion=problem.task.loss)
        return torch.autograd.grad(value, tuple(theta.values()), create_graph=True, allow_unused=True)

    return step
