"""Kernels of wide networks: against wide networks, closed values, gradients, and what every kernel is."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from potstill.core import InputSpec
from potstill.functional.kernels import FullyConnected, concat_embeddings
from potstill.nn import factory


def _rows(n: int, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _wide(depth: int, width: int, d: int, g: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Standard normal weights and biases of a network with one output."""
    sizes = [d, *[width] * depth, 1]
    return [
        (torch.randn(i, o, generator=g, dtype=torch.float64), torch.randn(o, generator=g, dtype=torch.float64))
        for i, o in pairwise(sizes)
    ]


def _output(x: Tensor, theta: list[tuple[Tensor, Tensor]]) -> Tensor:
    for number, (w, b) in enumerate(theta):
        x = math.sqrt(2.0 / len(w)) * x @ w + 0.1 * b
        x = x if number == len(theta) - 1 else x.relu()
    return x.squeeze(1)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nngp_is_the_covariance_of_random_networks(depth: int) -> None:
    x, g = _rows(4), torch.Generator().manual_seed(depth)
    # The last layer's covariance given the others is known: only those are drawn.
    found = []
    for _ in range(20):
        theta = _wide(depth, 500, 6, g)
        h = x
        for w, b in theta[:-1]:
            h = (math.sqrt(2.0 / len(w)) * h @ w + 0.1 * b).relu()
        found.append(2.0 * h @ h.T / h.shape[1] + 0.01)
    mean, exact = torch.stack(found).mean(0), FullyConnected(depth=depth, kind="nngp")(x, x)
    assert torch.allclose(mean, exact, rtol=0.03, atol=0.03 * float(exact.diagonal().mean()))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_ntk_is_the_kernel_of_a_wide_networks_gradients(depth: int) -> None:
    """Of ten networks of 1,000 units: the mean has a standard error of about √(5·depth / 10,000) of the diagonal."""
    x, g = _rows(4), torch.Generator().manual_seed(depth)
    kernels = []
    for _ in range(10):
        theta, h, k = _wide(depth, 1000, 6, g), x, torch.zeros(4, 4, dtype=torch.float64)
        inner, before = [], []
        for number, (w, b) in enumerate(theta):
            h = h if number == 0 else h.relu()
            inner.append(h)
            h = (math.sqrt(2.0 / len(w)) * h @ w + 0.1 * b).requires_grad_()
            before.append(h)
        # by a layer's weights the gradient is an outer product of what comes in and of the slope of what goes out
        for h_in, slope in zip(inner, torch.autograd.grad(before[-1].sum(), before), strict=True):
            k += (2.0 / h_in.shape[1] * (h_in @ h_in.T) + 0.01) * (slope @ slope.T)
        kernels.append(k.detach())
    mean, exact = torch.stack(kernels).mean(0), FullyConnected(depth=depth)(x, x)
    assert torch.allclose(mean, exact, rtol=0.0, atol=0.1 * float(exact.diagonal().mean()))


def test_closed_values() -> None:
    k = FullyConnected(depth=1, kind="nngp", biases=0.0)
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64) * math.sqrt(2)  # aᵀa / d = 1
    opposite, across = -a, a.flip(1)
    others = torch.cat([a, across, opposite])
    # at angles 0, π/2 and π: σ_w² · r / 2π · (π, 1, 0), r = 2
    assert k(a, others)[0].tolist() == pytest.approx([2.0, 2 / math.pi, 0.0], abs=1e-7)
    ntk = FullyConnected(depth=1, biases=0.0)
    # K¹ + σ_w² · (π − θ) / 2π · K⁰, K⁰ = (2, 0, −2)
    assert ntk(a, others)[0].tolist() == pytest.approx([4.0, 2 / math.pi, 0.0], abs=1e-7)
    # σ_w² = 2 keeps the diagonal of K; each layer adds as much to Θ
    for depth in range(4):
        assert float(FullyConnected(depth=depth, biases=0.0)(a, a)) == pytest.approx(2.0 * (depth + 1))


def test_golden_numbers() -> None:
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
    made = {
        (depth, kind): FullyConnected(depth=depth, kind=kind)(x, x)[0].tolist()
        for depth in (1, 3) for kind in ("ntk", "nngp")
    }  # fmt: skip
    assert set(made) == set(GOLDEN)
    for which, values in GOLDEN.items():
        assert made[which] == pytest.approx(values, rel=1e-12)


GOLDEN: dict[tuple[int, str], list[float]] = {
    (1, "nngp"): [4.02, 0.4623024523015943],
    (1, "ntk"): [8.03, -0.4545593536297863],
    (3, "nngp"): [4.04, 2.755914308126851],
    (3, "ntk"): [16.1, 3.794568373617527],
}


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_gradients(kind: str) -> None:
    a, b = _rows(3).requires_grad_(), _rows(4, seed=1).requires_grad_()
    kernel = FullyConnected(depth=2, kind=kind)
    assert torch.autograd.gradcheck(kernel, (a, b))
    assert torch.autograd.gradgradcheck(kernel, (a, b))
    # the diagonal of a kernel with itself is smooth as well, as are the entries beside it
    assert torch.autograd.gradcheck(lambda a: kernel(a, a) * (1 - torch.eye(3)), (a,))


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_slope_is_nan_where_rows_are_equal_opposite_or_zero(kind: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    for biases in (0.0, 0.01):
        k = FullyConnected(depth=3, kind=kind, biases=biases)(x, x)
        assert torch.isfinite(k).all()
        (slope,) = torch.autograd.grad(k.sum(), [x])
        assert torch.isfinite(slope).all()
        assert float(slope.abs().max()) < 1e3


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_a_kernel_matrix_is_symmetric_and_has_no_negative_eigenvalue(depth: int, kind: str) -> None:
    x = torch.cat([_rows(12, d=4), _rows(12, d=4)[:3]])  # more rows than numbers, and some twice
    k = FullyConnected(depth=depth, kind=kind)(x, x)
    assert torch.allclose(k, k.T, rtol=1e-13, atol=1e-13)
    assert float(torch.linalg.eigvalsh(k).min()) > -1e-6 * float(k.diagonal().mean())
    assert torch.allclose(FullyConnected(depth=depth, kind=kind)(x[:4], x), k[:4], rtol=1e-12)


def test_features_of_networks_stand_side_by_side_and_do_not_grow_with_their_number() -> None:
    spec = InputSpec(kind="image", shape=(1, 8, 8))
    make = factory("convnet-d1-w8", spec, 3)
    nets, x = [make(0), make(1)], torch.rand(5, 1, 8, 8)
    h, linear = concat_embeddings(nets, x), FullyConnected(depth=0, weights=1.0, biases=0.0)
    k = [net.embed(x) @ net.embed(x).T / net.embed(x).shape[1] for net in nets]
    assert torch.allclose(linear(h, h).float(), (k[0] + k[1]) / 2, rtol=1e-5)
