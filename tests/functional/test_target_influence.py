"""Influence on a target by projected gradients: against a loop over samples, a golden number, and its projection."""

import math

import pytest
import torch
from torch import nn

from potstill.functional.optim import adaptive_step
from potstill.functional.target_influence import (
    SignProjection,
    adam_updates,
    flat_parameters,
    group_cosines,
    sample_gradients,
    scores_in_turn,
)
from potstill.functional.train import copy_parameters, cross_entropy
from potstill.rng import generator


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_gradients_of_single_samples_are_those_of_a_loop() -> None:
    net, rng = network(), torch.Generator().manual_seed(1)
    x, y = torch.randn(6, 3, generator=rng, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    params = copy_parameters(net)
    got = torch.cat(list(sample_gradients(net, params, {}, x, y, cross_entropy)))
    for i in range(6):
        net.zero_grad()
        cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()  # type: ignore[no-untyped-call]
        wanted = flat_parameters({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
        torch.testing.assert_close(got[i], wanted)


def test_adams_direction_is_torchs_step_but_for_the_bias() -> None:
    """After many steps the bias is gone, and Adam moves by −lr times the direction."""
    rng = torch.Generator().manual_seed(2)
    first, second = torch.randn(5, generator=rng), torch.rand(5, generator=rng) + 0.5
    g = torch.randn(3, 5, generator=rng)
    got = adam_updates(g, first, second)
    for i in range(3):
        after, _, _ = adaptive_step(
            "adamw", {"p": torch.zeros(5)}, {"p": g[i]}, {"p": first}, {"p": second}, 10**6, lr=1.0
        )
        torch.testing.assert_close(-after["p"], got[i], rtol=1e-4, atol=1e-5)


def test_golden() -> None:
    """Adam's direction and mean cosines, by hand."""
    one = adam_updates(torch.tensor([[1.0]]), torch.tensor([0.5]), torch.tensor([0.25]), eps=0.0)
    assert float(one) == pytest.approx((0.9 * 0.5 + 0.1) / math.sqrt(0.999 * 0.25 + 0.001), rel=1e-6)
    rows = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-3.0, 3.0]])
    target = torch.tensor([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    found = group_cosines(rows, target, torch.tensor([0, 0, 1]))
    r = math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([[0.5, r], [0.0, 0.0], [0.0, 0.0]]), atol=1e-6, rtol=0)


def test_groups_take_turns() -> None:
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(5))
    left, wanted = set(range(20)), list[set[int]]()
    orders = [values[:, g].argsort(descending=True).tolist() for g in range(3)]
    for rank in range(3):  # each round: the next of every group, whoever else has taken it before
        taken = {order[rank] for order in orders} & left
        left -= taken
        wanted.append(taken)
    got = scores_in_turn(values).argsort(descending=True).tolist()
    for taken in wanted:
        assert set(got[: len(taken)]) == taken
        got = got[len(taken) :]


def test_the_projection_keeps_inner_products_on_average() -> None:
    rng = torch.Generator().manual_seed(3)
    a, b = torch.randn(1, 300, generator=rng), torch.randn(1, 300, generator=rng)
    exact = float((a * b).sum())
    products = []
    for seed in range(400):
        project = SignProjection.draw(300, 64, generator(seed))
        products.append(float((project(a) * project(b)).sum()))
    found = torch.tensor(products)
    spread = math.sqrt(float(a.square().sum() * b.square().sum()) + exact**2) / math.sqrt(64)
    assert abs(float(found.mean()) - exact) < 4 * spread / 20
    assert float(found.std()) == pytest.approx(spread, rel=0.25)


def test_a_projection_to_no_fewer_numbers_changes_no_product() -> None:
    a, b = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(4))
    project = SignProjection.draw(7, 100, generator(0))
    torch.testing.assert_close(project(a) @ project(b).T, a @ b.T)
