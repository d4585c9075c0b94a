"""Gradient distances: against a row-by-row reference, a number worked by hand, and at the rows where NaN lives."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from potstill.errors import PotstillError
from potstill.functional.gradient import convolutional, cosine, cosine_rows, distance, mse
from potstill.rng import generator

SHAPES = ((4, 3, 3, 3), (4,), (3, 5, 2), (6, 8), (6,))


def draw(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    rng = generator(0, name)
    return tuple(torch.randn(shape, generator=rng, dtype=dtype) for shape in SHAPES)


def reference_rows(syn: tuple[Tensor, ...], real: tuple[Tensor, ...]) -> float:
    total = 0.0
    for s, r in zip(syn, real, strict=True):
        if s.ndim == 1:
            continue
        for i in range(len(s)):
            a, b = s[i].flatten().tolist(), r[i].flatten().tolist()
            dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
            na, nb = math.sqrt(math.fsum(p * p for p in a)), math.sqrt(math.fsum(p * p for p in b))
            total += 1 - dot / (na * nb + 1e-6)
    return total


def test_rows_equal_the_naive_sum() -> None:
    syn, real = draw("syn"), draw("real")
    assert float(cosine_rows(syn, real)) == pytest.approx(reference_rows(syn, real), rel=1e-12)


def test_rows_of_known_vectors() -> None:
    syn = (torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    real = (
        torch.tensor([[4.0, 3.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64),
        -torch.ones(2, dtype=torch.float64),
    )
    # 1 − 24/25, 1 − 0 and 1 + 1, up to the guard; the bias counts nothing
    assert float(cosine_rows(syn, real)) == pytest.approx(1 - 24 / (25 + 1e-6) + 1 + 1 + 2 / (2 + 1e-6), rel=1e-14)
    assert float(mse(syn, real)) == pytest.approx(1 + 1 + 1 + 1 + 9 + 8)
    vectors = torch.tensor([3.0, 4, 1, 0, 2, 0, 1, 1]), torch.tensor([4.0, 3, 0, 1, -1, 0, -1, -1])
    expected = 1 - float(vectors[0] @ vectors[1]) / (math.sqrt(32) * math.sqrt(29) + 1e-6)
    assert float(cosine(syn, real)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["ours", "mse", "cos"])
def test_equal_gradients_are_near_and_shapes_may_not_differ(name: str) -> None:
    syn = draw("syn")
    assert abs(float(distance(name)(syn, syn))) < 1e-5
    with pytest.raises(ValueError, match="argument"):
        distance(name)(syn, syn[:-1])


@pytest.mark.parametrize("name", ["ours", "mse", "cos"])
def test_derivatives_are_right(name: str) -> None:
    syn = tuple(t.requires_grad_() for t in draw("syn"))
    real = draw("real")
    assert torch.autograd.gradcheck(lambda *s: distance(name)(s, real), syn)
    assert torch.autograd.gradgradcheck(lambda *s: distance(name)(s, real), syn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_rows_stay_finite_to_the_second_derivative(dtype: torch.dtype) -> None:
    syn = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=dtype, requires_grad=True)
    real = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=dtype)
    value = cosine_rows((syn,), (real,))
    assert float(value.detach()) == 2.0
    (slope,) = torch.autograd.grad(value, syn, create_graph=True)
    # the published expression has this slope at a dead row: −r / eps
    torch.testing.assert_close(slope[0], torch.full((2,), -1e6, dtype=dtype))
    (curve,) = torch.autograd.grad(slope.square().sum(), syn)
    assert torch.isfinite(curve).all()
    zero = torch.zeros(3, 2, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(cosine((zero,), (torch.zeros(3, 2, dtype=dtype),)), zero, create_graph=True)
    assert torch.equal(slope, torch.zeros_like(slope))


def test_only_biases_give_zero_and_unknown_names_are_told() -> None:
    assert float(cosine_rows((torch.ones(3),), (torch.ones(3),))) == 0.0
    with pytest.raises(PotstillError, match="unknown gradient distance 'our'; did you mean ours"):
        distance("our")


def reference_convolutional(syn: tuple[Tensor, ...], real: tuple[Tensor, ...], metric: str) -> float:
    total = 0.0
    for s, r in zip(syn, real, strict=True):
        if s.ndim <= 2:  # IDC leaves out biases, norms and the classifier
            continue
        for p, q in zip(s.flatten().tolist(), r.flatten().tolist(), strict=True):
            total += (p - q) ** 2 if metric == "mse" else abs(p - q)
    return total


@pytest.mark.parametrize("metric", ["mse", "l1"])
def test_convolutional_distance_equals_the_naive_sum(metric: Literal["mse", "l1"]) -> None:
    syn, real = draw("syn"), draw("real")
    assert float(convolutional(metric)(syn, real)) == pytest.approx(
        reference_convolutional(syn, real, metric), rel=1e-12
    )
    # nothing of the classifier and of the biases counts
    changed = tuple(t + 7 if t.ndim <= 2 else t for t in syn)
    assert float(convolutional(metric)(changed, real)) == float(convolutional(metric)(syn, real))
    assert float(convolutional(metric)(real, real)) == 0
    with pytest.raises(ValueError, match="argument"):
        convolutional(metric)(syn, real[:-1])


def test_convolutional_distance_of_known_numbers() -> None:
    kernel = torch.tensor([[[1.0, -2.0]], [[0.5, 3.0]]], dtype=torch.float64)
    syn, real = (kernel, torch.full((2, 3), 5.0).double()), (torch.zeros_like(kernel), torch.zeros(2, 3).double())
    assert float(convolutional("mse")(syn, real)) == 1 + 4 + 0.25 + 9
    assert float(convolutional("l1")(syn, real)) == 1 + 2 + 0.5 + 3
    # a network without convolutions is matched in its matrices; its biases still do not count
    assert float(convolutional("l1")((syn[1], kernel[0, 0]), (real[1], real[0][0, 0]))) == 30
    assert float(convolutional("mse")((syn[1], kernel[0, 0]), (real[1], real[0][0, 0]))) == 150


@pytest.mark.parametrize("metric", ["mse", "l1"])
def test_convolutional_derivatives_are_right(metric: Literal["mse", "l1"]) -> None:
    syn = tuple(t.requires_grad_() for t in draw("syn") if t.ndim > 2)
    real = tuple(t for t in draw("real") if t.ndim > 2)
    assert torch.autograd.gradcheck(lambda *s: convolutional(metric)(s, real), syn)
    assert torch.autograd.gradgradcheck(lambda *s: convolutional(metric)(s, real), syn)
