"""Loss, gradients and training steps of a network as pure functions of its parameters."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs, Regularizer
from potstill.core.nested import single_tensor, tree_map
from potstill.functional.microbatch import PureForward, forward_backward
from potstill.functional.optim import sgd

__all__ = [
    "Criterion", "TrainStepResult", "copy_parameters", "cross_entropy", "gradients", "network_loss", "regularization",
    "train_step",
]  # fmt: skip


Criterion: TypeAlias = Callable[[Tensor, Tensor], Float[Tensor, ""]]
"""Mean loss of outputs (n, …) on targets (n, …), e.g. a task's ``loss``."""


class TrainStepResult(NamedTuple):
    """Result of `train_step`: new tensors, not recorded by autograd."""

    params: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    loss: Float[Tensor, ""]
    logits: Float[Tensor, "n k"]


def cross_entropy(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"] | Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return the mean of ``−Σ_c y_c log softmax(logits)_c``, for int classes or rows that sum to 1."""
    return F.cross_entropy(logits, y.to(logits.dtype) if y.is_floating_point() else y.long())


def copy_parameters(network: nn.Module) -> dict[str, Tensor]:
    """Return detached copies of the network's parameters by name, in ``named_parameters`` order."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def network_loss(
    network: nn.Module, params: Mapping[str, Tensor], x: Inputs, y: Tensor, buffers: Mapping[str, Tensor] | None = None,
    criterion: Criterion = cross_entropy,
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the loss of ``network`` with ``params`` in place of its own; the network is not changed.

    Args:
        network: gives architecture and mode (train or eval).
        params: every parameter by name.
        x: inputs in model space (n, …), or named tensors.
        y: targets: int classes (n,), rows (n, k), or a task's targets.
        buffers: running statistics by name, which BatchNorm in train mode updates in place; default: copies of the
            network's.
        criterion: a task's loss; default: cross-entropy.
    """
    used = {name: b.clone() for name, b in network.named_buffers()} if buffers is None else dict(buffers)
    return criterion(functional_call(network, {**params, **used}, (x,)), y)


def regularization(
    regularizer: Regularizer, network: nn.Module, params: Mapping[str, Tensor], x: Inputs, y: Tensor,
    buffers: Mapping[str, Tensor] | None = None, criterion: Criterion = cross_entropy,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return the regularizer's term of each sample, differentiable by the parameters and, if they have a graph, inputs.

    Args:
        network, params, x, y, buffers, criterion: as in `network_loss`; ``criterion`` is a mean over samples.
    """
    return regularizer.terms(
        lambda some: len(y) * network_loss(network, params, some, y, buffers, criterion),
        single_tensor(x, "a regularizer"),
    )


def gradients(
    network: nn.Module, params: Mapping[str, Tensor], x: Inputs, y: Tensor, create_graph: bool = False,
    buffers: Mapping[str, Tensor] | None = None, criterion: Criterion = cross_entropy,
    regularizer: Regularizer | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of `network_loss` by every parameter, in the order of ``params``.

    Args:
        network, params, x, y, buffers, criterion: as in `network_loss`.
        create_graph: record the gradients, to differentiate them by ``x`` and by the graph of ``params``.
        regularizer: its `regularization` is added to the loss.
    """
    with torch.enable_grad():
        used = {n: p if create_graph and p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
        value = network_loss(network, used, x, y, buffers, criterion)
        if regularizer is not None:
            value = value + regularization(regularizer, network, used, x, y, buffers, criterion).mean()
        return torch.autograd.grad(value, tuple(used.values()), create_graph=create_graph)


def train_step(
    network: nn.Module, params: Mapping[str, Tensor], velocity: Mapping[str, Tensor] | None, x: Inputs, y: Tensor, *,
    lr: float, momentum: float = 0.0, weight_decay: float = 0.0, buffers: Mapping[str, Tensor] | None = None,
    criterion: Criterion = cross_entropy,
) -> TrainStepResult:  # fmt: skip
    """Take one SGD step on one batch as a pure function.

    A batch that does not fit into memory is split, with the same result (`potstill.functional.microbatch`).

    Args:
        network, params, x, y, criterion: as in `network_loss`.
        velocity: velocity of the previous step; ``None`` before the first.
        lr, momentum, weight_decay: as in `potstill.functional.optim.sgd`.
        buffers: running statistics before the step; default: the network's.

    Returns:
        Parameters, velocity and buffers after the step, loss and outputs before it.
    """
    old_buffers = dict(network.named_buffers()) if buffers is None else buffers
    new_buffers = {name: b.detach().clone() for name, b in old_buffers.items()}
    with torch.enable_grad():
        used = {n: p.detach().requires_grad_() for n, p in params.items()}
        value, logits, slopes = forward_backward(
            network, lambda some: functional_call(network, {**used, **new_buffers}, (some,)), tuple(used.values()),
            tree_map(Tensor.detach, x), lambda outputs: criterion(outputs, y),
            PureForward(parameters=used, buffers=new_buffers),
        )  # fmt: skip
        grads = dict(zip(used, slopes, strict=True))
    with torch.no_grad():
        after, speed = sgd(
            {n: p.detach() for n, p in params.items()}, grads, velocity, lr=lr, momentum=momentum,
            weight_decay=weight_decay,
        )  # fmt: skip
    return TrainStepResult(after, speed, new_buffers, value, logits)
