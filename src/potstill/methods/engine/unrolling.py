"""Unrolled training of students: the mode of differentiation, and the gradients.

``full`` is about a quarter faster than ``replay`` (results/unroll.json), and in float32 their gradients differ in the
last bits, so a run must not choose anew on each machine: ``auto``, the default, goes by the sizes of the data alone;
``by-memory`` chooses once, when a method's defaults are resolved,
by the machine's total memory (free memory varies from
run to run). The choice is then the method's ``mode``, in the metadata and in what a resumed run is compared with.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill._util.formatting import format_size
from potstill.core import Problem
from potstill.core.nested import tree_map
from potstill.data.limits import machine_memory
from potstill.data.real_data import RealData
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.train import copy_parameters
from potstill.functional.train import network_loss as loss_of
from potstill.functional.unroll import (
    InnerOptimizer,
    Loss,
    Mode,
    Outer,
    StudentState,
    StudentTrace,
    UnrolledGrads,
    start_trace,
    train_student,
    unrolled_grads,
)
from potstill.methods.engine.init import has_classes
from potstill.methods.engine.matching import augment_function
from potstill.rng import generator

__all__ = [
    "FULL_GRAPH_ELEMENTS", "MEMORY_DIVISOR", "ResolvedMode", "choose_mode_by_memory", "differentiate_student",
    "gradient_mode", "measure_graph_bytes", "objective_mode",
]  # fmt: skip

ResolvedMode: TypeAlias = Literal["full", "replay"]

MEMORY_DIVISOR = 4
"""A graph may take the machine's memory divided by this. Ours."""
PROBE_SIZES = (8, 16)
"""Batch sizes at which a step's memory is measured; that of larger ones is extrapolated linearly. Ours."""
FULL_GRAPH_ELEMENTS = 2**18
"""Maximum number of input elements unrolled in one autograd graph under ``auto``: with a ConvNet of width 128 that
takes a quarter to three quarters of a GB. Ours."""


def gradient_mode(mode: Mode | None, elements: int) -> Mode:
    """Return the mode, or for ``None`` the one by the number of input elements of all unrolled steps."""
    return mode or ("full" if elements <= FULL_GRAPH_ELEMENTS else "replay")


def differentiate_student(
    loss: Loss, state: StudentState, leaves: Mapping[str, Tensor], lr: float | Tensor, inner: InnerOptimizer,
    steps: range, outer: Outer, mode: Mode, stop: Callable[[StudentTrace], int] | None = None,
) -> UnrolledGrads:  # fmt: skip
    """Train a student and return the gradients of ``outer`` at its end.

    Args:
        loss, state, leaves, lr, inner, steps: as in `potstill.functional.unroll.train_student`.
        outer: scalar function of the student's final weights.
        mode: see `potstill.functional.unroll`.
        stop: chooses the number of steps that count from all states; ``None``: all steps.

    Raises:
        NonFiniteError: a value is not finite; the inner step is named, for which ``full`` is repeated as ``replay``.
    """

    def gradients(mode: Mode) -> UnrolledGrads:
        if mode == "full" and stop is None:
            trace = start_trace(state, steps)
        else:
            trace = train_student(loss, state, leaves, lr, inner, steps)
        return unrolled_grads(loss, trace, leaves, lr, inner, outer, mode, None if stop is None else stop(trace))

    try:
        return gradients(mode)
    except NonFiniteError:
        if mode != "full":
            raise
        return gradients("replay")


def choose_mode_by_memory(problem: Problem, samples: int, steps: int) -> tuple[ResolvedMode, str]:
    """Return the mode for a student's ``steps`` on ``samples`` each by the machine's memory, and a note about it."""
    required = steps * measure_graph_bytes(problem, samples)
    device, total = problem.network.device, machine_memory()
    if device.type == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
    available = total // MEMORY_DIVISOR
    mode: ResolvedMode = "full" if required <= available else "replay"
    return mode, (
        f"mode {mode}: one graph of {steps} steps takes about {format_size(required)}, and a {MEMORY_DIVISOR}th of the "
        f"memory here is {format_size(available)}"
    )


def objective_mode(mode: Literal["auto", "replay", "full", "by-memory", "tesla"]) -> Mode | None:
    """Return the mode for an objective; ``None``: by the sizes of the data.

    Raises:
        PotstillError: the mode is ``by-memory``, which a method with resolved defaults does not have.
    """
    if mode == "by-memory":
        raise PotstillError(
            "mode by-memory is chosen once for a run; take method.resolve_defaults(problem)[0], or give replay"
        )
    return None if mode == "auto" else mode


def measure_graph_bytes(problem: Problem, samples: int) -> int:
    """Return the bytes that the graph of one student step and its gradient holds, measured on a few samples.

    The backward pass takes up to half as much again (a ConvNet of width 128), which `MEMORY_DIVISOR` leaves room for.
    """
    if samples <= PROBE_SIZES[1]:
        return _saved_bytes(problem, samples)
    low, high = (_saved_bytes(problem, n) for n in PROBE_SIZES)
    return int(low + (high - low) / (PROBE_SIZES[1] - PROBE_SIZES[0]) * (samples - PROBE_SIZES[0]))


def _saved_bytes(problem: Problem, samples: int) -> int:
    """Return the bytes of all tensors that autograd saves, each counted once."""
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # or a freed tensor's address could be another's, which would not be counted

    def pack(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        alive.append(t)
        return t

    batch = RealData.of(problem).batch(torch.arange(samples) % len(problem.train))
    y = batch.y
    if has_classes(problem) or y is None:
        y = problem.train.labels[torch.arange(samples) % len(problem.train)].to(problem.network.device)
    omega = problem.augment.draw(samples, problem.train.input.shape, generator(0, "memory"))
    net = problem.network(0).train()
    x = tree_map(lambda t: t.detach().requires_grad_(t.is_floating_point()), batch.x)
    theta = {n: p.detach().requires_grad_() for n, p in copy_parameters(net).items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        value = loss_of(net, theta, augment_function(problem)(x, omega), y, criterion=problem.task.loss)
        torch.autograd.grad(value, tuple(theta.values()), create_graph=True, allow_unused=True)
    return sum(sizes.values())
