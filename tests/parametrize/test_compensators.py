"""Compensators: what is stored, and what it decodes to."""

import dataclasses

import pytest
import torch
from small_problems import context

from potstill.core import Problem
from potstill.errors import PotstillError
from potstill.parametrize.compensators import Compensators
from potstill.rng import generator
from potstill.testing import toy_problem

SHAPE = (1, 8, 8)


def problem(count: int, ipc: int) -> Problem:
    return dataclasses.replace(toy_problem(ipc=ipc), parametrization=Compensators(count=count))


def test_pictures_are_those_that_a_budget_leaves_beside_the_compensators() -> None:
    # the published numbers: int(ipc / (M / classes + 1)), decoded 1 + M times
    for k, ipc, wanted in ((100, 10, 9), (100, 50, 48), (10, 10, 7), (10, 50, 35), (1000, 10, 9)):
        assert int(ipc / (4 / k + 1)) == wanted
        assert Compensators().sizes((64 * ipc,) * k, SHAPE) == (5 * wanted,) * k
    assert Compensators(count=1).sizes((64, 64 * 3), SHAPE) == (2, 2)  # classes share: all get as many
    with pytest.raises(PotstillError, match="one input of each of 4 classes and 4 compensators take 512 numbers"):
        Compensators().sizes((64,) * 4, SHAPE)
    with pytest.raises(PotstillError, match="count must be at least 1"):
        Compensators(count=0)


def test_every_class_gets_the_same_addition_at_the_same_place() -> None:
    given = problem(2, 6)  # 24 pictures for 4 classes and 2: four places
    assert given.sizes == (12,) * 4
    x = torch.rand(48, *SHAPE, generator=generator(0))
    payload = dict(given.parametrization.encode(x, given, generator(1)))
    assert {n: tuple(t.shape) for n, t in payload.items()} == {
        "inputs": (16, *SHAPE), "decoder/compensators": (2, 4, *SHAPE)
    }  # fmt: skip
    assert not payload["decoder/compensators"].any()
    u = torch.randn(2, 4, *SHAPE, generator=generator(2))
    made = given.decode({**payload, "decoder/compensators": u})
    for c in range(4):
        for i in range(4):
            real = x[12 * c + i]
            torch.testing.assert_close(made[12 * c + i], real)
            for j in range(2):
                torch.testing.assert_close(made[12 * c + 4 * (1 + j) + i], real + u[j, i])


def test_a_compensator_s_gradient_is_the_sum_over_classes() -> None:
    given = problem(2, 6)
    payload = dict(given.parametrization.encode(torch.rand(48, *SHAPE), given, generator(1)))
    u = payload["decoder/compensators"].clone().requires_grad_()
    weight = torch.rand(48, *SHAPE, generator=generator(3))
    made = given.decode({**payload, "decoder/compensators": u})
    (grad,) = torch.autograd.grad((made * weight).sum(), u)
    torch.testing.assert_close(grad[1, 2], sum(weight[12 * c + 4 * 2 + 2] for c in range(4)))
    small = {"inputs": torch.rand(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)}
    extra = torch.rand(2, 2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: Compensators(count=2).decode({"inputs": a, "decoder/compensators": b}, context(1, 2, 2)),
        (small["inputs"], extra),
    )
