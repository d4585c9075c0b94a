"""Losses, gradients and training steps of a network used as a function of its parameters."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs
from potstill.core.nested import tree_map
from potstill.functional.microbatch import PureForward, forward_backward
from potstill.functional.optim import sgd

__all__ = [
    "Criterion",
    "TrainStepResult",
    "copy_parameters",
    "cross_entropy",
    "gradients",
    "network_loss",
    "train_step",
]


Criterion: TypeAlias = Callable[[Tensor, Tensor], Float[Tensor, ""]]
"""The mean loss of a network's outputs (n, …) on targets (n, …): what a task's ``loss`` is."""


class TrainStepResult(NamedTuple):
    """What `train_step` returns: all of it new, none of it recorded by autograd."""

    params: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    loss: Float[Tensor, ""]
    logits: Float[Tensor, "n k"]


def cross_entropy(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"] | Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Mean over samples of ``−Σ_c y_c log softmax(logits)_c``, for int classes or rows that sum to 1."""
    return F.cross_entropy(logits, y.to(logits.dtype) if y.is_floating_point() else y.long())


def copy_parameters(network: nn.Module) -> dict[str, Tensor]:
    """Detached copies of the network's parameters by name, in ``named_parameters`` order."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def network_loss(
    network: nn.Module,
    params: Mapping[str, Tensor],
    x: Inputs,
    y: Tensor,
    buffers: Mapping[str, Tensor] | None = None,
    criterion: Criterion = cross_entropy,
) -> Float[Tensor, ""]:
    """The loss of ``network`` with ``params`` in place of its own; nothing of the network is changed.

    Args:
        network: gives the architecture and the mode (train or eval).
        params: by name, every parameter of the network.
        x: inputs in model space (n, …), or several with names.
        y: what the criterion compares with: int classes (n,) or rows (n, k), or a task's targets.
        buffers: running statistics to use, by name. BatchNorm in train mode updates *them* in place; without them
            it works on copies of the network's, which are then dropped.
        criterion: a task's loss; of classes by default.
    """
    used = {name: b.clone() for name, b in network.named_buffers()} if buffers is None else dict(buffers)
    return criterion(functional_call(network, {**params, **used}, (x,)), y)


def gradients(
    network: nn.Module,
    params: Mapping[str, Tensor],
    x: Inputs,
    y: Tensor,
    create_graph: bool = False,
    buffers: Mapping[str, Tensor] | None = None,
    criterion: Criterion = cross_entropy,
) -> tuple[Tensor, ...]:
    """Gradients of `loss` with respect to every parameter, in the order of ``params``.

    Args:
        network, params, x, y, buffers, criterion: as for `loss`.
        create_graph: keep the graph, so that a function of the gradients can be differentiated with respect to ``x``
            and, where ``params`` carry a graph, with respect to what they came from.
    """
    with torch.enable_grad():
        used = {n: p if create_graph and p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
        value = network_loss(network, used, x, y, buffers, criterion)
        return torch.autograd.grad(value, tuple(used.values()), create_graph=create_graph)


def train_step(
    network: nn.Module,
    params: Mapping[str, Tensor],
    velocity: Mapping[str, Tensor] | None,
    x: Inputs,
    y: Tensor,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    buffers: Mapping[str, Tensor] | None = None,
    criterion: Criterion = cross_entropy,
) -> TrainStepResult:
    """One SGD step on one batch, as a function: arguments and network stay as they were.

    Where memory does not hold the batch it is passed in parts, with the same result (`potstill.functional.microbatch`).

    Args:
        network, params, x, y, criterion: as for `loss`.
        velocity: of the step before; ``None`` before the first.
        lr, momentum, weight_decay: as for `potstill.functional.optim.sgd`.
        buffers: running statistics before the step; the network's own if ``None``.

    Returns:
        Parameters, velocity and buffers after the step, and the loss and the outputs before it.
    """
    kept = dict(network.named_buffers()) if buffers is None else buffers
    fresh = {name: b.detach().clone() for name, b in kept.items()}
    with torch.enable_grad():
        used = {n: p.detach().requires_grad_() for n, p in params.items()}
        value, logits, slopes = forward_backward(
            network, lambda some: functional_call(network, {**used, **fresh}, (some,)), tuple(used.values()),
            tree_map(Tensor.detach, x), lambda outputs: criterion(outputs, y),
            PureForward(parameters=used, buffers=fresh),
        )  # fmt: skip
        grads = dict(zip(used, slopes, strict=True))
    with torch.no_grad():
        after, speed = sgd(
            {n: p.detach() for n, p in params.items()},
            grads,
            velocity,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
        )
    return TrainStepResult(after, speed, fresh, value, logits)
