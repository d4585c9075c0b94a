"""The numbers of a set's report card, each beside a naive way to the same."""

import math

import pytest
import torch

from potstill.diagnostics.calibration import reliability
from potstill.diagnostics.nearest_real import nearest_rows, usual_gap
from potstill.diagnostics.sharpness import largest, product, trace
from potstill.functional.train import cross_entropy
from potstill.rng import generator


def test_calibration_is_the_sum_over_bins():
    rng = generator(3)
    p = torch.randn(200, 5, generator=rng).softmax(1)
    y = torch.randint(0, 5, (200,), generator=rng)
    found, naive = reliability(p, y, 7), 0.0
    for b in range(7):
        inside = [i for i in range(200) if b / 7 < float(p[i].double().max()) <= (b + 1) / 7]
        assert int(found.count[b]) == len(inside)
        if inside:
            sure = sum(float(p[i].double().max()) for i in inside) / len(inside)
            right = sum(int(p[i].argmax()) == int(y[i]) for i in inside) / len(inside)
            naive += len(inside) / 200 * abs(right - sure)
    assert found.ece == pytest.approx(naive, abs=1e-12)


def test_calibration_knows_the_ends():
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert reliability(sure, torch.tensor([0, 0])).ece == 0
    assert reliability(sure, torch.tensor([1, 1])).ece == 1
    assert reliability(sure, torch.tensor([0, 1])).ece == 0.5


def _quadratic(eigenvalues):
    rng = generator(1)
    turn, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=rng, dtype=torch.float64))
    return turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T


@pytest.mark.parametrize("top", [9.0, -9.0])
def test_curvature_of_a_quadratic_is_known(top):
    h = _quadratic([top, 3.0, 1.0, 0.5, -0.25])
    at = (torch.zeros(2, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    times = product(lambda t: 0.5 * torch.cat(t) @ h @ torch.cat(t), at)
    assert torch.allclose(torch.cat(times((torch.ones(2).double(), torch.zeros(3).double()))), h[:, :2].sum(1))
    assert largest(times, at, 100, generator(2), 1e-9).value == pytest.approx(top, rel=1e-6)
    found = trace(times, at, 400, generator(4))
    assert abs(found.mean - float(h.trace())) < 4 * found.error
    assert not largest(times, at, 1, generator(2)).settled


def test_the_trace_of_a_diagonal_hessian_is_exact():
    at = (torch.tensor([1.0, 2.0, 3.0]),)
    found = trace(product(lambda t: (t[0] ** 3).sum(), at), at, 3, generator(0))
    assert found.values == pytest.approx((36.0,) * 3)
    assert found.error == pytest.approx(0, abs=1e-5)


def test_curvature_is_that_of_the_whole_hessian_of_a_network():
    rng = generator(5)
    x, y = torch.randn(20, 4, generator=rng).double(), torch.randint(0, 3, (20,), generator=rng)
    w = torch.randn(4, 3, generator=rng).double()

    def loss(theta):
        return cross_entropy(torch.tanh(x @ theta[0]), y)

    h = torch.autograd.functional.hessian(lambda t: loss((t.view(4, 3),)), w.flatten())
    times = product(loss, (w,))
    values = torch.linalg.eigvalsh(h)
    assert largest(times, (w,), 500, generator(1), 1e-10).value == pytest.approx(
        float(values[values.abs().argmax()]), rel=1e-4
    )
    found = trace(times, (w,), 200, generator(1))
    assert abs(found.mean - float(h.trace())) < 4 * found.error


def test_what_a_loss_does_not_depend_on_is_flat():
    at = (torch.ones(2), torch.ones(3))
    times = product(lambda t: (t[0] ** 2).sum(), at)
    assert torch.equal(times(at)[1], torch.zeros(3))


def test_the_nearest_row_is_the_one_that_a_loop_finds():
    rng = generator(7)
    many, few = torch.randn(300, 6, generator=rng), torch.randn(9, 6, generator=rng)
    few[4] = many[123]
    found = nearest_rows(few, many)
    for i, row in enumerate(few):
        gaps = [math.dist(row.tolist(), other.tolist()) for other in many]
        assert int(found.index[i]) == gaps.index(min(gaps))
        assert float(found.distance[i]) == pytest.approx(min(gaps), rel=1e-5)
    assert found.exact().tolist() == [i == 4 for i in range(9)]


def test_a_copy_far_from_the_origin_is_still_exact():
    many = 1e4 + torch.arange(12.0).view(4, 3) / 64
    found = nearest_rows(many[[2]].clone(), many)
    assert (int(found.index), float(found.distance)) == (2, 0.0)


def test_the_usual_gap_is_the_median_of_nearest_others():
    x = torch.randn(61, 4, generator=generator(9))
    gaps = sorted(min(math.dist(a, b) for j, b in enumerate(x.tolist()) if i != j) for i, a in enumerate(x.tolist()))
    assert usual_gap(x, generator(0)) == pytest.approx(gaps[30], rel=1e-5)
    assert usual_gap(torch.zeros(5, 2), generator(0)) == 0
    assert usual_gap(1000 + torch.tensor([[0.0], [0.0], [1.0]]), generator(0)) < 1e-4
    assert usual_gap(x[:1], generator(0)) == math.inf


def test_near_is_relative_to_the_usual_gap():
    many = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    found = nearest_rows(torch.tensor([[1.0], [1.1], [2.5]]), many)
    assert found.near(usual_gap(many, generator(0))).tolist() == [False, True, False]
