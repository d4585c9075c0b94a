"""What matching methods share: the start, the labels and the update of what is stored, for any parametrization."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Network, Normalization, Problem, Space, Synthetic
from potstill.errors import PotstillError
from potstill.functional.coreset import central
from potstill.functional.features import embed_real
from potstill.functional.optim import adamw, sgd, zeros
from potstill.functional.sampling import random_per_class
from potstill.rng import draw_seed

__all__ = [
    "Labels",
    "Objective",
    "Outer",
    "Rule",
    "Start",
    "descend",
    "first_inputs",
    "hard_labels",
    "image",
    "inputs_of",
    "nearest_to_centres",
    "rate",
    "start",
    "synthetic",
]

Start: TypeAlias = Literal["real", "noise", "k-means"]
Labels: TypeAlias = Literal["hard", "learned"]

Objective: TypeAlias = Callable[[Tensor, Tensor | None], tuple[float, Tensor, Tensor | None]]
"""Takes the inputs in model space and, where labels are learned, their rows; returns the loss and its gradients."""

CONFIDENCE = 0.9
"""What learned labels first give their own class. Ours."""

K_MEANS_ITERATIONS = 20
"""Of a start from centres. Ours."""


def image(x: Inputs) -> Tensor:
    """The one tensor of an input.

    Raises:
        PotstillError: the input is a named set of tensors.
    """
    if not isinstance(x, Tensor):
        raise PotstillError(f"matching needs inputs of one tensor, but these have {', '.join(x)}; join them into one")
    return x


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How what is stored moves."""

    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_labels: float = 0.0
    space: Space = "model"
    """``data``: the payload decodes to data units and is normalised afterwards."""
    clamp: bool = False
    """Keep the payload's values in [0, 1] after each step, where it holds values of inputs in data units."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """What is optimised, as a value. ``logits`` is empty where labels are hard."""

    payload: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    """SGD's velocity, or AdamW's first moment, of all that moves."""
    second: Mapping[str, Tensor]
    count: int = 0


def rate(problem: Problem, lr: float, side: int) -> float:
    """IDC's rate: ``lr`` for ten stored items per class and pictures of ``side``² pixels, in proportion to both.

    IDC's argument.py, tune_lr_img: what its releases take for ``side`` is 28 for MNIST, 224 for ImageNet, else 32.
    """
    shape = problem.train.input.shape
    area = shape[-2] * shape[-1] / side**2 if len(shape) == 3 else 1.0
    return lr * problem.ipc / 10 * area


def nearest_to_centres(
    problem: Problem, net: Network, index: Tensor, n: int, rng: Generator, iterations: int
) -> Tensor:
    """The samples of a class that lie nearest to ``n`` k-means centres of its embeddings; all where it has no more."""
    if len(index) <= n:
        return index
    parts = [embed_real(net, image(problem.train.fetch(some).x)) for some in torch.split(index, 2048)]
    return index[central(torch.cat(parts), n, rng, iterations).cpu()]


def first_inputs(
    problem: Problem, how: Start, rng: Generator, space: Space = "model", seed: int | None = None
) -> Tensor:
    """What decoded inputs begin as: random real samples of each class, those nearest to k-means centres, or noise.

    The centres are those of embeddings in an untrained network, made from ``seed`` or from one that is drawn (DREAM).
    Noise is standard normal in model space; in data units its quarter about one half, clamped to [0, 1] (IDC's).

    Raises:
        PotstillError: a class has fewer samples than a start from real ones needs.
    """
    sizes, shape = problem.sizes, problem.train.input.shape
    if how == "noise":
        x = torch.randn(sum(sizes), *shape, generator=rng)
        return ((x / 4 + 0.5).clamp(0, 1) if space == "data" else x).to(problem.train.device)
    # A class must have as many samples as its budget holds; where they decode to more inputs, samples come again.
    wanted = tuple(
        min(size, max(n, len(i))) for n, size, i in zip(problem.counts, sizes, problem.by_class, strict=True)
    )
    chosen = random_per_class(problem.by_class, wanted, rng, problem.train.classes)
    if how == "k-means":
        net = problem.network(draw_seed(rng) if seed is None else seed).eval().requires_grad_(False)
        chosen = tuple(
            nearest_to_centres(problem, net, index, n, rng, K_MEANS_ITERATIONS)
            for index, n in zip(problem.by_class, wanted, strict=True)
        )
    index = torch.cat([i[torch.arange(size) % len(i)] for i, size in zip(chosen, sizes, strict=True)])
    return image(problem.train.raw(index)) if space == "data" else image(problem.train.fetch(index).x)


def start(
    problem: Problem, how: Start, rng: Generator, rule: Rule, labels: Labels = "hard", seed: int | None = None
) -> Outer:
    """The first payload: of `first_inputs`, whose arguments and errors it has."""
    x = first_inputs(problem, how, rng, rule.space, seed)
    stored = {n: t.detach().clone() for n, t in problem.parametrization.encode(x, problem, rng).items()}
    logits: dict[str, Tensor] = {}
    if labels == "learned":
        k = problem.num_classes
        height = math.log(CONFIDENCE * (k - 1) / (1 - CONFIDENCE))
        logits = {"logits": height * torch.nn.functional.one_hot(hard_labels(problem), k).float().to(x.device)}
    moving = {n: torch.zeros_like(t) for n, t in _moving(stored, logits).items()}
    return Outer(payload=stored, logits=logits, first=moving, second=zeros(moving) if rule.optimizer == "adamw" else {})


def hard_labels(problem: Problem) -> Tensor:
    """The class of every decoded input, int64, on the CPU."""
    return torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.sizes))


def _moving(payload: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that the optimiser moves; learned labels under a name that no payload has."""
    floating = {n: t for n, t in payload.items() if t.is_floating_point()}
    return floating | {f"labels/{n}": t for n, t in logits.items()}


def inputs_of(problem: Problem, outer: Outer, space: Space) -> tuple[Tensor, Tensor]:
    """The decoded inputs in model space, and their labels: classes, or rows where they are learned. No graph."""
    with torch.no_grad():
        x = _normal(problem, problem.decode(outer.payload), space)
    y = outer.logits["logits"].softmax(1) if outer.logits else hard_labels(problem).to(x.device)
    return x, y


def _normal(problem: Problem, decoded: Tensor, space: Space) -> Tensor:
    normalization: Normalization = problem.train.normalization
    return normalization.apply(decoded) if space == "data" else decoded


def descend(
    problem: Problem, outer: Outer, objective: Objective, rule: Rule, factor: float = 1.0
) -> tuple[Outer, float]:
    """One step of what is stored down an objective of the decoded inputs, at ``factor`` times the learning rate.

    Returns:
        The state after it, and the loss before it.
    """
    fixed = {n: t for n, t in outer.payload.items() if not t.is_floating_point()}
    old = _moving(outer.payload, outer.logits)
    with torch.enable_grad():
        leaves = {n: t.detach().requires_grad_() for n, t in old.items()}
        payload = {n: t for n, t in leaves.items() if n in outer.payload} | fixed
        x = _normal(problem, problem.decode(payload), rule.space)
        y = leaves["labels/logits"].softmax(1) if outer.logits else None
    loss, by_x, by_y = objective(x.detach(), None if y is None else y.detach())
    ends, slopes = [x], [by_x]
    if y is not None and by_y is not None:
        ends, slopes = [x, y], [by_x, by_y]
    found = torch.autograd.grad(ends, tuple(leaves.values()), slopes, allow_unused=True)
    grads = {n: torch.zeros_like(t) if g is None else g for (n, t), g in zip(leaves.items(), found, strict=True)}
    moved, first, second = _moved(old, grads, outer, rule, factor)
    if rule.clamp and problem.parametrization.bounded and problem.train.input.kind == "image":
        moved = {n: t if n.startswith("labels/") else t.clamp(0, 1) for n, t in moved.items()}
    after = Outer(
        payload={n: moved.get(n, t) for n, t in outer.payload.items()},
        logits={n: moved[f"labels/{n}"] for n in outer.logits},
        first=first, second=second, count=outer.count + 1,
    )  # fmt: skip
    return after, loss


def _moved(
    old: dict[str, Tensor], grads: dict[str, Tensor], outer: Outer, rule: Rule, factor: float
) -> tuple[dict[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
    moved: dict[str, Tensor] = {}
    first, second = dict(outer.first), dict(outer.second)
    for names, lr, decay in (
        ([n for n in old if not n.startswith("labels/")], rule.lr, rule.weight_decay),
        ([n for n in old if n.startswith("labels/")], rule.lr_labels, 0.0),
    ):
        p, g, v = ({n: t[n] for n in names} for t in (old, grads, first))
        if rule.optimizer == "sgd":
            after, speed = sgd(p, g, v, lr=lr * factor, momentum=rule.momentum, weight_decay=decay)
        else:
            s = {n: second[n] for n in names}
            after, speed, s = adamw(p, g, v, s, outer.count, lr=lr * factor, weight_decay=decay)
            second |= s
        moved |= after
        first |= speed
    return moved, first, second


def synthetic(problem: Problem, outer: Outer, space: Space = "model") -> Synthetic:
    """The result: the payload and its labels, classes in label order."""
    labels = outer.logits["logits"].softmax(1) if outer.logits else hard_labels(problem)
    return Synthetic(payload=outer.payload, labels=labels, space=space)
