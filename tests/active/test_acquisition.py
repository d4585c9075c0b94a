"""Acquisitions against what they are by hand, on small pools."""

import math

import pytest
import torch

from potstill.active.acquisition import badge, core_set, entropy, least_confidence, margin, top
from potstill.errors import PotstillError
from potstill.rng import generator


def pool(n=50, k=4, d=6, seed=0):
    rng = generator(seed, "pool")
    return torch.randn(n, k, generator=rng, dtype=torch.float64).mul(2).softmax(1), torch.randn(
        n, d, generator=rng, dtype=torch.float64
    )


def test_uncertainty_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    assert torch.allclose(least_confidence(p), torch.tensor([0.5, 0.0, 2 / 3], dtype=torch.float64))
    by_hand = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert torch.allclose(entropy(p), torch.tensor([by_hand, 0.0, math.log(3)], dtype=torch.float64))
    assert torch.allclose(margin(p), torch.tensor([0.8, 0.0, 1.0], dtype=torch.float64))
    assert top(margin(p), 2).tolist() == [2, 0]
    assert top(torch.zeros(5), 3).tolist() == [0, 1, 2]


def test_badge_is_k_means_plus_plus_over_the_gradients_themselves():
    p, h = pool()
    g = torch.stack(
        [
            torch.autograd.grad(
                torch.nn.functional.cross_entropy(weights @ hi, pi.argmax()), weights, allow_unused=False
            )[0]
            for pi, hi in zip(p, h, strict=True)
            # a last layer that gives these probabilities for this embedding
            for weights in [(torch.outer(pi.log(), hi) / hi.square().sum()).requires_grad_()]
        ]
    ).flatten(1)
    rng = generator(3, "badge")
    naive = [int(g.norm(dim=1).argmax())]
    while len(naive) < 9:
        distance = torch.stack([(g - g[j]).square().sum(1) for j in naive]).amin(0)
        distance[naive] = 0
        u = torch.rand((), generator=rng, dtype=torch.float64) * distance.sum()
        naive.append(int((distance.cumsum(0) > u).nonzero()[0]))
    assert badge(p, h, 9, generator(3, "badge")).tolist() == naive


def test_badge_takes_distinct_rows_of_equal_ones():
    p, h = torch.full((6, 3), 1 / 3), torch.ones(6, 2)
    assert sorted(badge(p, h, 6, generator(0)).tolist()) == list(range(6))


def test_core_set_is_farthest_first_from_what_is_labelled():
    _, h = pool()
    covered, rest = h[:7], h[7:]
    naive, centres = [], list(covered)
    for _ in range(8):
        distance = torch.stack([(rest - c).norm(dim=1) for c in centres]).amin(0)
        naive.append(int(distance.argmax()))
        centres.append(rest[naive[-1]])
    assert core_set(rest, covered, 8).tolist() == naive
    assert sorted(core_set(torch.zeros(4, 2), h[:0, :2], 4).tolist()) == list(range(4))


@pytest.mark.parametrize("m", [0, 51])
def test_more_than_the_pool_is_refused(m):
    p, h = pool()
    for choose in (lambda: badge(p, h, m, generator(0)), lambda: core_set(h, h[:1], m), lambda: top(p[:, 0], m)):
        with pytest.raises(PotstillError, match="1 to 50 samples"):
            choose()
