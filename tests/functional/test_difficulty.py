"""Item response theory finds difficulties that were planted; Glicko-2 gives the numbers of Glickman's own example."""

import math

import pytest
import torch

from potstill.errors import PotstillError
from potstill.functional.difficulty import Ratings, evenly_spaced, glicko2, item_response, rate_samples


def ratings(*rows: tuple[float, float, float]) -> Ratings:
    return Ratings(*torch.tensor(rows, dtype=torch.float64).T)


def answers(models: int, b: torch.Tensor, s: torch.Tensor, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    ability = torch.randn(models, 1, generator=rng)
    return (torch.rand(models, len(b), generator=rng) < torch.sigmoid(s * (ability - b))).to(torch.uint8)


def test_planted_difficulties_are_found() -> None:
    b = torch.linspace(-2, 2, 200)
    s = torch.full((200,), 1.5)
    found = item_response(answers(80, b, s, 0))
    assert float(torch.corrcoef(torch.stack([found.difficulty, b]))[0, 1]) > 0.95
    assert float(found.difficulty.mean()) == pytest.approx(0, abs=1e-5)
    found = item_response(answers(300, b, torch.ones(200), 0))
    slope = (found.difficulty * b).mean() / (b * b).mean()
    assert 0.85 < float(slope) < 1.15  # the scale too, not only the order


def test_wrong_labels_have_a_negative_discrimination() -> None:
    b, s = torch.zeros(100), torch.full((100,), 2.0)
    s[:10] = -2
    found = item_response(answers(80, b, s, 1))
    assert set(found.discrimination.argsort()[:10].tolist()) == set(range(10))


def test_the_fit_is_a_stationary_point_of_the_penalised_likelihood() -> None:
    right = answers(60, torch.linspace(-1, 1, 6), torch.full((6,), 2.0), 2)
    found = item_response(right, rounds=400)
    theta = torch.linspace(-4, 4, 61, dtype=torch.float64)
    weight = (-theta.square() / 2).softmax(0)
    s, c = (torch.full((6,), x, dtype=torch.float64, requires_grad=True) for x in (1.0, 0.0))
    opt = torch.optim.LBFGS((s, c), max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss() -> torch.Tensor:
        opt.zero_grad()
        p = torch.sigmoid(s[:, None] * theta + c[:, None])
        total = -sum((torch.where(row[:, None].bool(), p, 1 - p).prod(0) * weight).sum().log() for row in right)
        value = total + ((s - 1) ** 2).sum() / 2 + (c**2).sum() / 18
        value.backward()
        return value

    opt.step(loss)
    assert float(s.detach().min()) > 0.25
    torch.testing.assert_close(found.discrimination.double(), s.detach(), atol=1e-3, rtol=0)
    b = (-c / s).detach()
    torch.testing.assert_close(found.difficulty.double(), b - b.mean(), atol=1e-3, rtol=0)


def test_what_all_get_right_is_easy_and_finite() -> None:
    right = torch.ones(10, 3)
    right[:, 2] = 0
    found = item_response(right)
    assert bool(torch.isfinite(found.difficulty).all())
    assert float(found.difficulty[2]) > float(found.difficulty[0])
    with pytest.raises(PotstillError, match="at least 2 models, but there are 1"):
        item_response(torch.ones(1, 3))


def test_glickmans_example() -> None:
    player = ratings((1500, 200, 0.06))
    others = ratings((1400, 30, 0.06), (1550, 100, 0.06), (1700, 300, 0.06))
    after = glicko2(player, others, torch.tensor([[1, 0, 0]]), tau=0.5)
    assert float(after.rating) == pytest.approx(1464.06, abs=0.01)
    assert float(after.deviation) == pytest.approx(151.52, abs=0.01)
    assert float(after.volatility) == pytest.approx(0.05999, abs=1e-5)


def test_volatility_is_the_zero_of_glickmans_function() -> None:
    surprised = ratings((1500, 50, 0.06), (2100, 40, 0.06))
    others = ratings(*[(1500.0, 40.0, 0.06)] * 30)
    score = torch.stack([torch.ones(30), torch.zeros(30)])  # one wins all, one loses all that it should win
    after = glicko2(surprised, others, score)
    assert bool((after.volatility > 0.06).all())
    scale = 400 / math.log(10)
    for i in range(2):
        mu, phi = (float(surprised.rating[i]) - 1500) / scale, float(surprised.deviation[i]) / scale
        g = 1 / math.sqrt(1 + 3 * (40 / scale) ** 2 / math.pi**2)
        e = 1 / (1 + math.exp(-g * mu))
        v = 1 / (30 * g * g * e * (1 - e))
        delta = v * sum(g * (float(x) - e) for x in score[i])
        x, a = 2 * math.log(float(after.volatility[i])), 2 * math.log(0.06)
        ex = math.exp(x)
        f = ex * (delta**2 - phi**2 - v - ex) / (2 * (phi**2 + v + ex) ** 2) - (x - a) / 0.25
        assert abs(f) < 1e-6


def test_samples_that_models_fail_on_are_rated_higher() -> None:
    right = (torch.rand(4, 6, 20, generator=torch.Generator().manual_seed(3)) < torch.linspace(0.05, 0.95, 20)).int()
    rated = rate_samples(right)
    order = torch.corrcoef(torch.stack([rated.rating, right.float().mean((0, 1))]))[0, 1]
    assert float(order) < -0.95
    assert bool((rated.deviation < 350).all())


def test_epochs_are_evenly_spaced_and_end_with_the_last() -> None:
    series = torch.arange(10)[None, :, None].expand(2, 10, 3)
    assert evenly_spaced(series, 5)[0, :, 0].tolist() == [1, 3, 5, 7, 9]
    assert evenly_spaced(series, 99)[0, :, 0].tolist() == list(range(10))
