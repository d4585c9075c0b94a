"""The nearest point of the simplex: against every face of it, and what it must leave alone."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from potstill.functional.label_simplex import project_to_simplex, to_probabilities, to_scores
from potstill.rng import generator


def rows() -> Tensor:
    """Far and near ones, with equal values and without."""
    v = torch.randn(60, 5, generator=generator(2, "rows"), dtype=torch.float64)
    v[20:40] *= 0.1
    return torch.cat([v, v.round(), v.abs() / v.abs().sum(1, keepdim=True), torch.zeros(1, 5).double()])


def by_force(v: Tensor) -> Tensor:
    """Of the nearest points of all faces that lie within them, the nearest."""
    k, best = len(v), None
    for size in range(1, k + 1):
        for face in combinations(range(k), size):
            at = list(face)
            point = torch.zeros_like(v)
            point[at] = v[at] - (v[at].sum() - 1) / size
            near = best is None or (point - v).norm() < (best - v).norm()
            best = point if bool((point >= 0).all()) and near else best
    assert best is not None
    return best


def test_it_is_the_nearest_of_all_faces() -> None:
    for row, mine in zip(rows(), project_to_simplex(rows()), strict=True):
        torch.testing.assert_close(mine, by_force(row), rtol=0, atol=1e-9)


def test_it_is_a_row_of_probabilities_that_stays_in_order() -> None:
    v = rows().float()
    found = project_to_simplex(v)
    assert found.dtype == torch.float32
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.sum(1), torch.ones(len(v)))
    assert bool((found.gather(1, v.argsort(1)).diff(dim=1) >= 0).all())
    torch.testing.assert_close(project_to_simplex(found), found, rtol=0, atol=1e-6)


def test_probabilities_stay_and_what_is_far_is_one_hot() -> None:
    p = torch.rand(50, 10, generator=generator(1, "p")).softmax(1)
    torch.testing.assert_close(project_to_simplex(p), p, rtol=0, atol=1e-7)
    far = torch.tensor([[1e30, 0.0, -1e30], [-5.0, 7.0, 2.0], [0.2, 0.2, 0.2]])
    assert project_to_simplex(far).tolist()[:2] == [[1, 0, 0], [0, 1, 0]]
    assert project_to_simplex(far)[2].tolist() == pytest.approx([1 / 3] * 3)


def test_hard_labels_and_their_scores_are_read_as_each_other() -> None:
    one_hot = torch.eye(10)
    torch.testing.assert_close(to_probabilities(to_scores(one_hot)), one_hot, rtol=0, atol=1e-7)
    assert to_scores(one_hot).sum(1).abs().max() < 1e-6
    # FRePo's sets: .9 and −.1, and what learning made of them
    learned = to_scores(one_hot) * 1.3 + 0.05
    assert torch.equal(to_probabilities(learned).argmax(1), torch.arange(10))
