"""MiniRocket's features by a loop, and a ridge regression that leaves samples out one by one."""

import itertools

import numpy as np
import pytest
import torch

import potstill
from potstill.evaluation.series_learners import MiniRocketRidge, _ridge
from potstill.functional.minirocket import choose_dilations, fit_minirocket, kernel_weights
from potstill.tasks import get_task
from tests.series_data import classified


def test_there_are_84_kernels_that_sum_to_0() -> None:
    weights = kernel_weights()
    assert weights.shape == (84, 9)
    assert weights.sum(1).abs().max() == 0
    assert len(torch.unique(weights, dim=0)) == 84
    assert {tuple(torch.where(row == 2)[0].tolist()) for row in weights} == set(itertools.combinations(range(9), 3))


@pytest.mark.parametrize(("length", "each"), [(5, 3), (9, 119), (24, 119), (150, 119), (150, 7), (2000, 119)])
def test_dilations_share_the_features_and_fit(length: int, each: int) -> None:
    found = choose_dilations(length, each)
    assert sum(count for _, count in found) == each
    assert all(count > 0 for _, count in found)
    dilations = [dilation for dilation, _ in found]
    assert dilations == sorted(set(dilations))
    assert dilations[0] == 1
    assert dilations[-1] * 8 <= max(8, length - 1)
    if length > 16 and each > 1:
        assert dilations[-1] == (length - 1) // 8  # the last kernel spans the series


@pytest.mark.parametrize(("channels", "length"), [(1, 40), (3, 21), (1, 6)])
def test_features_by_a_loop(channels: int, length: int) -> None:
    x = torch.randn(4, channels, length, generator=torch.Generator().manual_seed(0))
    rocket = fit_minirocket(x, 84 * 5)
    found = rocket.transform(x)
    assert found.shape == (4, 84 * 5)
    weights = kernel_weights().double().numpy()
    by_loop = []
    for at, dilation in enumerate(rocket.dilations):
        for padded in (True, False):
            for kernel in range(84):
                if length > 8 * dilation:
                    if ((at + kernel) % 2 == 0) != padded:
                        continue
                elif not padded:
                    continue
                for bias in rocket.biases[at][kernel].tolist():
                    by_loop.append([_share(s, weights[kernel], dilation, padded, bias, rocket.channels[at][kernel])
                                    for s in x.double().numpy()])  # fmt: skip
    assert np.allclose(found.numpy(), np.array(by_loop).T, atol=1.01 / max(1, length - 8))
    assert np.mean(np.abs(found.numpy() - np.array(by_loop).T) > 1e-6) < 0.01  # ties of rounded values


def _share(s: np.ndarray, weights: np.ndarray, dilation: int, padded: bool, bias: float, taken: torch.Tensor) -> float:
    x, length, hits, seen = (s * taken.numpy()[:, None]).sum(0), s.shape[1], 0, 0
    for t in range(length):
        places = [t + (i - 4) * dilation for i in range(9)]
        if not padded and (places[0] < 0 or places[-1] >= length):
            continue
        seen += 1
        hits += sum(w * x[p] for w, p in zip(weights, places, strict=True) if 0 <= p < length) > bias
    return hits / seen


def test_features_are_the_same_twice_and_do_not_see_level() -> None:
    x = torch.tensor(classified(length=40)[0], dtype=torch.float32)
    one, two = fit_minirocket(x, 840), fit_minirocket(x, 840)
    assert torch.equal(one.transform(x), two.transform(x))
    inner = fit_minirocket(x[:, :1], 84)  # one dilation: kernels at odd places have no padding
    odd = torch.arange(42, 84)
    moved = inner.transform(x[:, :1] + 4)[:, odd]
    assert torch.allclose(moved, inner.transform(x[:, :1])[:, odd], atol=0.04)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_penalty_has_the_least_error_of_fits_without_each_sample(is_weighted: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    y = x @ torch.randn(5, 2, generator=rng, dtype=torch.float64) + torch.randn(12, 2, generator=rng).double()
    share = torch.rand(12, generator=rng).double() + 0.5 if is_weighted else torch.ones(12, dtype=torch.float64)

    def fit(at: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
        s = share[at][:, None]
        mean, centre = (s * x[at]).sum(0) / s.sum(), (s * y[at]).sum(0) / s.sum()
        a = x[at] - mean
        w = torch.linalg.solve(a.T @ (s * a) + penalty * torch.eye(5), a.T @ (s * (y[at] - centre)))
        return w, centre - mean @ w

    errors = {}
    for penalty in torch.logspace(-3, 3, 10, dtype=torch.float64).tolist():
        errors[penalty] = 0.0
        for i in range(12):
            w, b = fit(torch.tensor([j for j in range(12) if j != i]), penalty)
            errors[penalty] += float(share[i] * (x[i] @ w + b - y[i]).square().sum())
    best = min(errors, key=lambda p: errors[p])
    mean, centre = ((share[:, None] * v).sum(0) / share.sum() for v in (x, y))
    root = share.sqrt()
    found = _ridge(root[:, None] * (x - mean), root[:, None] * (y - centre), root)
    assert torch.allclose(found, fit(torch.arange(12), best)[0], atol=1e-8)


def test_it_tells_frequencies_apart_at_any_phase() -> None:
    x, y = classified(each=10, length=48)
    z, truth = classified(each=40, length=48, seed=1)
    data = potstill.load_data((x, y, z, truth), kind="series")
    task, test = get_task(data.train), data.test
    assert test is not None
    at = torch.arange(len(data.train))
    predict = MiniRocketRidge(features=1680).fit(data.train.fetch(at).x, data.train.labels, None, task, 0)
    answers = predict(test.fetch(torch.arange(len(test))).x)
    assert float((answers == test.labels).float().mean()) > 0.95
    soft = torch.nn.functional.one_hot(data.train.labels, 3).float()
    again = MiniRocketRidge(features=1680).fit(data.train.fetch(at).x, soft, torch.ones(len(at)), task, 1)
    assert torch.equal(again(test.fetch(torch.arange(len(test))).x), answers)


def test_refusals() -> None:
    with pytest.raises(potstill.PotstillError, match=r"features must be at least 84, not 10"):
        MiniRocketRidge(features=10)
    digits = potstill.load_data("digits").train
    with pytest.raises(potstill.PotstillError, match=r"minirocket learns from series \(channels, length\)"):
        MiniRocketRidge().fit(digits.fetch(torch.arange(4)).x, digits.labels[:4], None, get_task(digits), 0)
