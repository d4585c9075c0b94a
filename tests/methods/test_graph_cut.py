"""Bins by graph cut, against a naive version that writes down all gradients and their n × n similarities."""

import pytest
import torch
import torch.nn.functional as F

from potstill.methods.decoupled._graph_cut import graph_cut_bins, last_layer_factors, share_out, similarity
from potstill.rng import generator


def sample(n: int, k: int = 3, d: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = generator(seed)
    return torch.randn(n, k, generator=rng), torch.randn(n, d, generator=rng), torch.arange(n) % k


def by_gradients(logits: torch.Tensor, h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Half of one plus the cosine of the gradients of a linear layer's weights and biases, by autograd."""
    rows = []
    for z, x, c in zip(logits, h, y, strict=True):
        weight = torch.zeros(logits.shape[1], len(x), requires_grad=True)
        bias = z.clone().requires_grad_()
        F.cross_entropy((weight @ x + bias)[None], c[None]).backward()
        assert weight.grad is not None
        assert bias.grad is not None
        rows.append(torch.cat([bias.grad[:, None], weight.grad], 1).flatten())
    g = torch.stack(rows)
    return 0.5 + 0.5 * F.cosine_similarity(g[:, None], g[None], dim=2)


def test_similarity_is_that_of_the_last_layer_s_gradients() -> None:
    logits, h, y = sample(7)
    a, b = last_layer_factors(logits, h, y)
    torch.testing.assert_close(similarity(a, b, a, b), by_gradients(logits, h, y), rtol=1e-5, atol=1e-6)


def naive(s: torch.Tensor, count: int, weight: float) -> list[list[int]]:
    """The best of all that are left, one after the other, by the definition."""
    left, made = list(range(len(s))), []
    for i in range(count):
        size = len(s) // count + (i < len(s) % count)
        pool, chosen = list(left), []
        for _ in range(size):
            gains = {
                x: weight * sum(float(s[x, j]) for j in pool) - 2 * sum(float(s[x, j]) for j in chosen)
                for x in pool if x not in chosen
            }  # fmt: skip
            chosen.append(max(gains, key=lambda x: gains[x]))
        made.append(chosen)
        left = [x for x in left if x not in chosen]
    return made


@pytest.mark.parametrize(("n", "count", "weight"), [(8, 2, 1.0), (8, 3, 1.0), (8, 4, 0.0), (23, 5, 0.3)])
def test_bins_equal_brute_force(n: int, count: int, weight: float) -> None:
    logits, h, y = sample(n, seed=n)
    found = graph_cut_bins(*last_layer_factors(logits, h, y), count, weight)
    assert [b.tolist() for b in found] == naive(by_gradients(logits, h, y), count, weight)


def test_bins_are_disjoint_cover_all_and_differ_by_one_at_most() -> None:
    for n, count in ((10, 3), (9, 10), (1, 10), (40, 10)):
        found = graph_cut_bins(*last_layer_factors(*sample(n)), count)
        assert sorted(torch.cat(found).tolist()) == list(range(n))
        sizes = [len(b) for b in found]
        assert len(sizes) == min(n, count)
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


def test_early_bins_are_typical() -> None:
    logits, h, y = sample(60, seed=4)
    a, b = last_layer_factors(logits, h, y)
    near = similarity(a, b, a, b).sum(1)
    found = graph_cut_bins(a, b, 6)
    assert near[found[0]].mean() > near[found[-1]].mean()


def test_golden() -> None:
    found = graph_cut_bins(*last_layer_factors(*sample(12, seed=1)), 3)
    assert [b.tolist() for b in found] == [[10, 4, 2, 3], [0, 5, 11, 9], [7, 8, 6, 1]]


def test_duplicates_and_samples_without_a_gradient_are_no_trouble() -> None:
    logits, h, y = sample(1)
    same = last_layer_factors(logits.expand(6, -1), h.expand(6, -1), y.expand(6))
    assert [b.tolist() for b in graph_cut_bins(*same, 2)] == [[0, 1, 2], [3, 4, 5]]  # ties go to the first
    certain = torch.tensor([[200.0, 0, 0]]).expand(4, -1)
    found = graph_cut_bins(*last_layer_factors(certain, h.expand(4, -1), torch.zeros(4, dtype=torch.int64)), 2)
    assert sorted(torch.cat(found).tolist()) == [0, 1, 2, 3]


def test_every_bin_gives_as_many_and_some_one_more() -> None:
    assert share_out([4, 4, 3], 11, generator(0)) == [4, 4, 3]
    assert share_out([4, 4, 3], 10, generator(0)) in ([4, 3, 3], [3, 4, 3])
    assert share_out([4, 4, 3], 3, generator(0)) == [1, 1, 1]
    drawn = [share_out([5] * 10, 3, generator(seed)) for seed in range(200)]
    assert all(sum(one) == 3 and max(one) == 1 for one in drawn)
    often = [sum(one[i] for one in drawn) for i in range(10)]
    assert min(often) > 30  # 60 are expected; five standard deviations are 32
