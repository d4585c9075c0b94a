"""Problems with pictures of any shape and budgets of any size, for tests of parametrizations."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from potstill.core import DecodeContext, InputSpec, Parametrization, Payload, Problem
from potstill.data import TensorSource, fit_normalization
from potstill.rng import generator
from potstill.testing import toy_problem

SHAPES = [(1, 8, 8), (3, 13, 9), (1, 6, 11), (2, 16, 16)]
"""Grey and coloured, square and not, even and odd."""

MANY = st.lists(st.integers(1, 4000), min_size=1, max_size=5).map(tuple)
"""Numbers that each class may store, unequal as a rule."""


def context(*shape: int) -> DecodeContext:
    """Context of pictures of ``shape``."""
    return DecodeContext(input=InputSpec(kind="image", shape=shape))


def problem(
    p: Parametrization, shape: tuple[int, ...], numbers: Sequence[int], per_class: int = 20, seed: int = 0
) -> Problem:
    """``per_class`` pictures of each class in no order, each class about a picture of its own."""
    k = len(numbers)
    rng = generator(seed, "pictures")
    labels = torch.arange(k).repeat(per_class)
    middle = torch.rand(k, *shape, generator=rng)
    inputs = (middle[labels] + 0.2 * torch.randn(len(labels), *shape, generator=rng)).clamp(0, 1)
    source = TensorSource(
        name="small", input=InputSpec(kind="image", shape=shape), classes=tuple(f"c{c}" for c in range(k)),
        normalization=fit_normalization(inputs), inputs=inputs, labels=labels,
    )  # fmt: skip
    counts = tuple(max(1, n // math.prod(shape)) for n in numbers)
    return dataclasses.replace(
        toy_problem(), train=source, counts=counts, value_budget=tuple(numbers), parametrization=p
    )


def inputs(prob: Problem, seed: int = 1) -> Tensor:
    """Initial inputs in [0, 1], as many as there are to be."""
    return torch.rand(sum(prob.sizes), *prob.train.input.shape, generator=generator(seed, "inputs"))


def smooth(prob: Problem, seed: int = 1) -> Tensor:
    """Initial inputs that interpolation can show: enlarged noise of 3 × 3 pixels."""
    h, w = prob.train.input.shape[1:]
    rng = generator(seed, "smooth")
    x = torch.rand(sum(prob.sizes), prob.train.input.shape[0], 3, 3, generator=rng)
    return torch.nn.functional.interpolate(x, size=(h, w), mode="bicubic", align_corners=True)


def encoded(prob: Problem, x: Tensor | None = None, seed: int = 2) -> Payload:
    return prob.parametrization.encode(inputs(prob) if x is None else x, prob, generator(seed, "encode"))


def stored(payload: Payload) -> int:
    return sum(t.numel() * t.element_size() for t in payload.values())


def same(a: Payload, b: Payload) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def gradcheck(prob: Problem, payload: Payload) -> bool:
    """Finite differences of the decoded inputs by every floating tensor, in float64."""
    names = [n for n, t in payload.items() if t.is_floating_point()]
    leaves = tuple(payload[n].detach().double().requires_grad_() for n in names)
    return torch.autograd.gradcheck(lambda *ts: prob.decode({**payload, **dict(zip(names, ts, strict=True))}), leaves)
