"""Adversarial examples: linear networks by hand, a loop over samples, golden numbers, and the ball that holds them."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.functional.adversarial import (
    Ball,
    cross_entropies,
    fgsm,
    input_gradient,
    margins,
    pgd,
    square_search,
)
from potstill.rng import generator

NORMS: tuple[Literal["linf", "l2"], ...] = ("linf", "l2")


def inputs(n: int = 6, *shape: int) -> tuple[Tensor, Tensor]:
    rng = generator(0, "inputs")
    x = torch.rand(n, *(shape or (1, 3, 4)), generator=rng, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=rng)


def network(d: int = 12) -> Any:
    rng = generator(0, "weights")
    first, second = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((d, 8), (8, 3)))
    return lambda x: torch.tanh(x.flatten(1) @ first) @ second


def distance(x: Tensor, center: Tensor, norm: str) -> float:
    offset = (x - center).flatten(1)
    return float((offset.abs().amax(1) if norm == "linf" else offset.square().sum(1).sqrt()).max())


@given(
    st.sampled_from(NORMS), st.floats(1e-3, 2), st.integers(0, 10_000), st.floats(0, 5)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_projection_lies_in_the_ball_and_in_the_range_and_is_itself_projected_nowhere(
    norm: Literal["linf", "l2"], eps: float, seed: int, far: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(3, 1, 2, 3, generator=rng, dtype=torch.float64)
    x = center + far * torch.randn(center.shape, generator=rng, dtype=torch.float64)
    ball = Ball(norm, eps)
    for found in (ball.project(x, center), ball.draw(center, rng)):
        assert distance(found, center, norm) <= eps * (1 + 1e-9)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert torch.allclose(ball.project(found, center), found, atol=1e-12)
    inside = center + 0.01 * eps * (0.5 - center)
    assert torch.equal(Ball("linf", eps).project(inside, center), inside)


def test_directions_have_length_1_in_their_norm_and_0_stays_0() -> None:
    g = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    assert torch.allclose(Ball("l2", 0.1).direction(g).flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert set(Ball("linf", 0.1).direction(g).unique().tolist()) == {-1.0, 1.0}
    for norm in NORMS:
        assert not Ball(norm, 0.1).direction(torch.zeros(2, 1, 2, 2)).any()


def test_fgsm_of_a_linear_network_is_the_worst_case_of_its_margin() -> None:
    """Of two classes and a linear map the margin falls by ε‖w‖₁, or ε‖w‖₂, as long as pixels stay in range."""
    w = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    x, y = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64), torch.tensor([0, 1])

    def forward(x: Tensor) -> Tensor:
        value = x.flatten(1) @ w
        return torch.stack([value, -value], 1)

    before = margins(forward(x), y)
    for norm, length in (("linf", 3.5), ("l2", math.sqrt(5.25))):
        ball = Ball(norm, 0.1)  # type: ignore[arg-type]
        after = margins(forward(fgsm(forward, x, y, ball)), y)
        assert torch.allclose(after - before, torch.full((2,), 2 * 0.1 * length, dtype=torch.float64))
        strong = margins(forward(pgd(forward, x, y, ball, steps=30)), y)
        assert bool((strong <= after + 1e-9).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", [cross_entropies, margins])
def test_pgd_equals_a_loop_over_samples(norm: Literal["linf", "l2"], loss: Any) -> None:
    forward, (x, y) = network(), inputs()
    eps, steps, alpha = 0.15, 7, 0.05
    found = pgd(forward, x, y, Ball(norm, eps), steps=steps, step_size=alpha, loss=loss)
    for n in range(len(x)):
        at = x[n : n + 1].clone()
        for step in range(steps + 1):
            if int(forward(at).argmax()) != int(y[n]) or step == steps:
                break
            leaf = at.clone().requires_grad_()
            logits = forward(leaf)[0]
            others = [logits[k] for k in range(3) if k != int(y[n])]
            value = torch.logsumexp(logits, 0) if loss is cross_entropies else torch.stack(others).max()
            (value - logits[y[n]]).backward()
            assert leaf.grad is not None
            g, moved = leaf.grad.flatten().tolist(), at.flatten().tolist()
            length = math.sqrt(math.fsum(v * v for v in g))
            moved = [
                a + alpha * (math.copysign(1, v) if norm == "linf" else v / length)
                for a, v in zip(moved, g, strict=True)
            ]
            start = x[n].flatten().tolist()
            if norm == "linf":
                moved = [min(max(a, s - eps), s + eps) for a, s in zip(moved, start, strict=True)]
            else:
                far = math.sqrt(math.fsum((a - s) ** 2 for a, s in zip(moved, start, strict=True)))
                moved = [s + (a - s) * min(1.0, eps / far) for a, s in zip(moved, start, strict=True)]
            at = torch.tensor([min(1.0, max(0.0, a)) for a in moved], dtype=torch.float64).reshape(at.shape)
        assert torch.allclose(found[n], at[0], atol=1e-9)


def test_golden_numbers() -> None:
    forward, (x, y) = network(), inputs()
    assert float(fgsm(forward, x, y, Ball("linf", 0.1)).sum()) == pytest.approx(33.02307407843497, abs=1e-9)
    by_pgd = pgd(forward, x, y, Ball("l2", 0.3), steps=5, rng=generator(0, "start"))
    assert float(by_pgd.square().sum()) == pytest.approx(22.031858723858917, abs=1e-9)
    by_search = square_search(forward, x, y, 0.1, queries=20, rng=generator(0, "search"))
    assert float(by_search.square().sum()) == pytest.approx(22.298812186396475, abs=1e-9)


def test_gradients_and_margins_are_those_of_autograd() -> None:
    forward, (x, y) = network(), inputs()
    assert torch.autograd.gradcheck(lambda x: margins(forward(x), y), (x.clone().requires_grad_(),))
    gradient, logits = input_gradient(forward, x, y)
    leaf = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(forward(leaf), y, reduction="sum").backward()
    assert torch.allclose(gradient, leaf.grad)  # type: ignore[arg-type]
    assert torch.equal(margins(logits, y) > 0, logits.argmax(1) != y)
    with torch.no_grad():  # attacks run where predictions do
        assert torch.equal(input_gradient(forward, x, y)[0], gradient)


def test_random_search_uses_no_gradient_raises_the_margin_and_stays_in_the_ball() -> None:
    plain, (x, y) = network(2 * 6 * 6), inputs(8, 2, 6, 6)

    def forward(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return plain(x)

    heights = []
    for queries in (1, 10, 200):
        found = square_search(forward, x, y, 0.1, queries=queries, rng=generator(0, "search"))
        assert distance(found, x, "linf") <= 0.1 + 1e-12
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        heights.append(margins(plain(found), y))
    assert bool((heights[0] <= heights[1]).all())
    assert heights[0].mean() < heights[1].mean() < heights[2].mean()
    white = margins(plain(pgd(plain, x, y, Ball("linf", 0.1), steps=40, loss=margins)), y)
    assert int((white > 0).sum()) >= int((heights[2] > 0).sum())


def test_a_certain_network_masks_the_cross_entropy_but_not_the_margin() -> None:
    x, y = torch.full((4, 1, 2, 2), 0.6), torch.zeros(4, dtype=torch.int64)

    def forward(x: Tensor) -> Tensor:
        value = 1e4 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([value, -value], 1)

    ball = Ball("linf", 0.2)
    assert torch.equal(pgd(forward, x, y, ball, steps=10), x)  # its gradient is 0 in float32
    assert bool((margins(forward(pgd(forward, x, y, ball, steps=10, loss=margins)), y) > 0).all())
