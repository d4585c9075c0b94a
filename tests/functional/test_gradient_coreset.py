"""Gradients of samples against autograd, and greedy choices against plain and exhaustive search."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from potstill.errors import PotstillError
from potstill.functional.gradient_coreset import craig, glister, grad_match
from potstill.functional.gradient_norms import Factors, factors, gradient_norms, last_layer_norms
from potstill.nn import factory
from potstill.testing import toy_source

SOURCE = toy_source("image")
NET = factory("convnet-d1-w4", SOURCE.input, 4)(3).eval()
BATCH = SOURCE.fetch(torch.arange(0, 48, 5))


def some(n: int, seed: int = 0, k: int = 3, d: int = 4) -> Factors:
    rng = torch.Generator().manual_seed(seed)
    p = torch.randn(n, k, generator=rng, dtype=torch.float64).softmax(1)
    y = F.one_hot(torch.randint(k, (n,), generator=rng), k)
    h = torch.randn(n, d, generator=rng, dtype=torch.float64)
    return Factors(p - y, torch.cat([h, torch.ones_like(h[:, :1])], 1))


def matrix(g: Factors) -> torch.Tensor:
    return torch.einsum("nk,nd->nkd", g.delta, g.features).flatten(1)


def test_norms_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.functional.gradient_norms._NUMBERS", 4 * sum(p.numel() for p in NET.parameters()))
    assert isinstance(BATCH.x, torch.Tensor)
    assert BATCH.y is not None
    full, last = gradient_norms(NET, BATCH.x, BATCH.y), last_layer_norms(NET, BATCH.x, BATCH.y)
    for i in range(len(BATCH.x)):
        loss = F.cross_entropy(NET(BATCH.x[i : i + 1]), BATCH.y[i : i + 1])
        grads = dict(zip(dict(NET.named_parameters()), torch.autograd.grad(loss, tuple(NET.parameters())), strict=True))
        assert float(full[i]) == pytest.approx(float(sum(g.square().sum() for g in grads.values()).sqrt()), rel=1e-4)
        classifier = sum(g.square().sum() for n, g in grads.items() if n.startswith("classifier"))
        assert float(last[i]) == pytest.approx(float(classifier.sqrt()), rel=1e-4)


def test_factors_stand_for_the_gradients() -> None:
    g = some(6)
    full = matrix(g)
    torch.testing.assert_close(g.inner(g), full @ full.T)
    torch.testing.assert_close(g.total().flatten(), full.sum(0))
    torch.testing.assert_close(g.squared(), full.square().sum(1))
    torch.testing.assert_close(g.along(g.total()), full @ full.sum(0))
    assert isinstance(BATCH.x, torch.Tensor)
    assert BATCH.y is not None
    made = factors(NET, BATCH.x, BATCH.y)
    loss = F.cross_entropy(NET(BATCH.x), BATCH.y, reduction="sum")
    weight, bias = torch.autograd.grad(loss, (NET.classifier.weight, NET.classifier.bias))
    torch.testing.assert_close(made.total(), torch.cat([weight, bias[:, None]], 1), atol=1e-4, rtol=1e-4)


def covered(full: torch.Tensor, chosen: tuple[int, ...]) -> float:
    far = 2 * float(full.norm(dim=1).max())
    return float((far - torch.cdist(full, full[list(chosen)])).max(1).values.sum())


def plain_greedy(full: torch.Tensor, m: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(m):
        rest = [i for i in range(len(full)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: covered(full, (*chosen, i))))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_craig_is_plain_greedy_and_near_the_best_of_all(seed: int) -> None:
    g = some(8, seed)
    full = matrix(g)
    for m in (1, 2, 3, 8):
        found = craig(g, m)
        assert found.positions.tolist() == plain_greedy(full, m)
        best = max(covered(full, s) for s in itertools.combinations(range(8), m))
        assert covered(full, tuple(found.positions.tolist())) >= (1 - 1 / 2.71828) * best
        nearest = torch.cdist(full, full[found.positions]).argmin(1)
        assert found.weight.tolist() == torch.bincount(nearest, minlength=m).tolist()
    assert covered(full, tuple(craig(g, 1).positions.tolist())) == pytest.approx(
        max(covered(full, (i,)) for i in range(8))
    )


def clusters() -> Factors:
    """Eight gradients in three tight bunches of 4, 3 and 1."""
    centre = some(3, 9)
    at = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    noise = 1e-3 * torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Factors(centre.delta[at], centre.features[at] + noise)


def test_craig_finds_the_best_of_all_where_there_are_clusters() -> None:
    g = clusters()
    full = matrix(g)
    found = craig(g, 3)
    best = max(itertools.combinations(range(8), 3), key=lambda s: covered(full, s))
    assert covered(full, tuple(found.positions.tolist())) == pytest.approx(covered(full, best), rel=1e-3)
    assert sorted(found.weight.tolist()) == [1, 3, 4]


def fit(full: torch.Tensor, chosen: tuple[int, ...], ridge: float) -> tuple[float, torch.Tensor]:
    """The best weights ≥ 0 of a choice, by looking at every support."""
    target = full.sum(0)
    best: tuple[float, torch.Tensor] = (float(target.square().sum()), torch.zeros(len(chosen), dtype=full.dtype))
    for size in range(1, len(chosen) + 1):
        for support in itertools.combinations(range(len(chosen)), size):
            a = full[[chosen[i] for i in support]]
            w = torch.linalg.solve(a @ a.T + ridge * torch.eye(size, dtype=full.dtype), a @ target)
            value = float((w @ a - target).square().sum() + ridge * w.square().sum())
            if bool((w >= 0).all()) and value < best[0] - 1e-12:
                weights = torch.zeros(len(chosen), dtype=full.dtype)
                weights[list(support)] = w
                best = (value, weights)
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ridge", [1e-6, 0.5])
def test_grad_match_fits_the_weights_exactly_and_pursues_what_is_left(seed: int, ridge: float) -> None:
    g = some(8, seed)
    full = matrix(g)
    found = grad_match(g, 4, ridge)
    weights = torch.zeros(0, dtype=full.dtype)
    for step in range(4):
        chosen = found.positions[:step].tolist()
        left = full.sum(0) - (weights @ full[chosen] if chosen else 0)
        along = (full @ left).index_fill(0, found.positions[:step], -torch.inf)
        assert int(found.positions[step]) == int(along.argmax())
        _, weights = fit(full, tuple(found.positions[: step + 1].tolist()), ridge)
    torch.testing.assert_close(found.weight.double(), weights, atol=1e-5, rtol=1e-4)
    assert bool((found.weight >= 0).all())


def test_grad_match_is_the_best_of_all_where_one_choice_is_right() -> None:
    """Three gradients that are orthogonal, the others tiny: exhaustive search agrees."""
    delta = torch.zeros(8, 3, dtype=torch.float64)
    delta[:3] = torch.diag(torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64))
    delta[3:, 0] = 0.01
    g = Factors(delta, torch.ones(8, 1, dtype=torch.float64))
    full = matrix(g)
    best = min(itertools.combinations(range(8), 3), key=lambda s: fit(full, s, 1e-6)[0])
    assert set(grad_match(g, 3, 1e-6).positions.tolist()) == set(best) == {0, 1, 2}


def test_glister_against_a_loop_that_steps_the_layer() -> None:
    rng = torch.Generator().manual_seed(5)
    w = torch.randn(3, 5, generator=rng, dtype=torch.float64)

    def at(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.cat([torch.randn(n, 4, generator=rng, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)], 1)
        return h, F.one_hot(torch.randint(3, (n,), generator=rng), 3).double()

    (h, y), (v, u) = at(8), at(6)
    g = Factors((h @ w.T).softmax(1) - y, h)
    held = Factors((v @ w.T).softmax(1) - u, v)
    found = glister(g, held, v @ w.T, 5, lr=0.3, rounds=5)
    layer, chosen = w.clone(), list[int]()
    for _ in range(5):
        param = layer.clone().requires_grad_()
        loss = -(u * (v @ param.T).log_softmax(1)).sum()
        (slope,) = torch.autograd.grad(loss, param)
        gains = {i: float((matrix(g)[i] * slope.flatten()).sum()) for i in range(8) if i not in chosen}
        chosen.append(max(gains, key=lambda i: gains[i]))
        layer = layer - 0.3 * matrix(g)[chosen[-1]].reshape(3, 5)
    assert found.tolist() == chosen
    assert sorted(glister(g, held, v @ w.T, 8, lr=0.3, rounds=3).tolist()) == list(range(8))


def test_one_greedy_step_of_glister_is_the_best_single_sample() -> None:
    g, held = some(8, 1), some(5, 2)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gains = matrix(g) @ matrix(held).sum(0)
    assert glister(g, held, logits, 1, lr=0.1, rounds=1).tolist() == [int(gains.argmax())]


@pytest.mark.parametrize("m", [0, 9])
def test_a_budget_beyond_the_class_is_refused(m: int) -> None:
    g = some(8)
    for choose in (craig, grad_match):
        with pytest.raises(PotstillError, match=f"1 to 8 samples, but {m} are requested"):
            choose(g, m)
    with pytest.raises(PotstillError, match=f"1 to 8 samples, but {m} are requested"):
        glister(g, g, g.delta, m, 0.1, 2)
