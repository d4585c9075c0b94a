"""What matching methods share: the start, the labels and the update of a payload, for any parametrization."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Payload, Problem, Synthetic
from potstill.errors import PotstillError
from potstill.functional.optim import sgd
from potstill.functional.sampling import random_per_class

__all__ = ["decoded_sizes", "image", "start", "synthetic", "update"]


def image(x: Inputs) -> Tensor:
    """The one tensor of an input.

    Raises:
        PotstillError: the input is a named set of tensors.
    """
    if not isinstance(x, Tensor):
        raise PotstillError(f"matching needs inputs of one tensor, but these have {', '.join(x)}; join them into one")
    return x


def decoded_sizes(problem: Problem) -> tuple[int, ...]:
    """Decoded inputs of each class: stored items times what one of them decodes to."""
    return tuple(count * problem.parametrization.per_item for count in problem.counts)


def start(problem: Problem, how: Literal["real", "noise"], rng: Generator) -> Payload:
    """The first payload: random real samples of each class, or standard normal values in model space.

    Raises:
        PotstillError: a class has fewer samples than a start from real ones needs.
    """
    sizes = decoded_sizes(problem)
    if how == "noise":
        x = torch.randn(sum(sizes), *problem.train.input.shape, generator=rng).to(problem.train.device)
    else:
        chosen = random_per_class(problem.by_class, sizes, rng, problem.train.classes)
        x = image(problem.train.fetch(torch.cat(chosen)).x)
    return {name: tensor.detach().clone() for name, tensor in problem.parametrization.encode(x).items()}


def update(
    problem: Problem,
    payload: Payload,
    velocity: Payload | None,
    objective: Callable[[Tensor], tuple[float, Tensor]],
    *,
    lr: float,
    momentum: float,
) -> tuple[Payload, Payload, float]:
    """One SGD step of the payload on an objective of the decoded inputs.

    Args:
        objective: takes the decoded inputs S, returns the loss and its gradient with respect to S.

    Returns:
        The new payload, its velocity, and the loss before the step.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in payload.items()}
    decoded = problem.parametrization.decode(leaves)
    loss, gradient = objective(decoded.detach())
    grads = dict(zip(leaves, torch.autograd.grad(decoded, tuple(leaves.values()), gradient), strict=True))
    after, speed = sgd(dict(payload), grads, None if velocity is None else dict(velocity), lr=lr, momentum=momentum)
    return after, speed, loss


def synthetic(problem: Problem, payload: Mapping[str, Tensor]) -> Synthetic:
    """The result: the payload with hard labels, classes in label order."""
    labels = torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(decoded_sizes(problem)))
    return Synthetic(payload=payload, labels=labels)
