"""Cross-covariance of two views: against a loop, against numbers worked by hand, and as the best projection."""

import pytest
import torch
from torch import Tensor

from potstill.functional.cross_covariance import ViewMoments, cross_covariance, cross_covariance_gap, view_moments
from potstill.rng import generator


def draw(*shape: int, path: str | int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(0, "cross-covariance", path), dtype=torch.float64)


def gap_by_hand(real: tuple[Tensor, Tensor], syn: tuple[Tensor, Tensor], weight: float) -> float:
    """The distance by loops over pairs of features, from centred samples."""
    total = 0.0
    for i in range(real[0].shape[1]):
        for j in range(real[1].shape[1]):
            entries = []
            for a, b in (real, syn):
                u, v = a[:, i].tolist(), b[:, j].tolist()
                mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
                entries.append(sum((x - mean_u) * (y - mean_v) for x, y in zip(u, v, strict=True)) / len(u))
            total += (entries[0] - entries[1]) ** 2
    for r, s in zip(real, syn, strict=True):
        for i in range(r.shape[1]):
            total += weight * (sum(r[:, i].tolist()) / len(r) - sum(s[:, i].tolist()) / len(s)) ** 2
    return total


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_gap_is_the_loop_over_features(weight: float) -> None:
    real = draw(9, 3, path="ra") + 2, draw(9, 4, path="rb") - 1
    syn = draw(5, 3, path="sa"), draw(5, 4, path="sb")
    found = cross_covariance_gap(view_moments(*real), view_moments(*syn), weight)
    assert float(found) == pytest.approx(gap_by_hand(real, syn, weight), rel=1e-12)


def test_the_gap_of_known_numbers() -> None:
    real = view_moments(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert cross_covariance(real).tolist() == [[1.0, 0.0]]  # means 1 and (2, 0), E ab = (3, 0)
    syn = view_moments(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
    assert cross_covariance(syn).tolist() == [[0.0, 0.0]]  # the first view does not vary
    assert float(cross_covariance_gap(real, syn, 0.5)) == 1.0 + 0.5 * 1.0  # the means of the second view differ by 1


def test_the_gradient_is_that_of_finite_differences() -> None:
    real = view_moments(draw(6, 3, path="ra"), draw(6, 2, path="rb"))
    syn = [draw(4, 3, path="sa").requires_grad_(), draw(4, 2, path="sb").requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: cross_covariance_gap(real, view_moments(a, b), 0.7), syn)


def test_projections_learned_from_a_set_lose_by_the_distance_of_its_cross_covariance() -> None:
    """The claim that the objective rests on: descent on the linear loss ends at C / ρ, and its loss on real samples
    differs from the best one by ‖C_T − C_S‖² / (2 ρ)."""
    rho = 0.5
    c_real = cross_covariance(view_moments(draw(8, 3, path="ra"), draw(8, 2, path="rb")))
    c_syn = cross_covariance(view_moments(draw(5, 3, path="sa"), draw(5, 2, path="sb")))

    def loss(g: Tensor, c: Tensor) -> Tensor:
        return -(g * c).sum() + rho / 2 * g.square().sum()

    learned = torch.zeros_like(c_syn).requires_grad_()
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(learned, c_syn), [learned])
        learned = (learned - 0.5 * slope).detach().requires_grad_()
    torch.testing.assert_close(learned.detach(), c_syn / rho)
    excess = loss(learned.detach(), c_real) - loss(c_real / rho, c_real)
    assert float(excess) == pytest.approx(float((c_real - c_syn).square().sum()) / (2 * rho), rel=1e-9)


def test_moments_of_parts_add_up() -> None:
    a, b = draw(6, 3, path="a"), draw(6, 2, path="b")
    parts = [view_moments(a[:3], b[:3]), view_moments(a[3:], b[3:])]
    joined = ViewMoments(*(sum(each) / 2 for each in zip(*parts, strict=True)))
    torch.testing.assert_close(cross_covariance(joined), cross_covariance(view_moments(a, b)))


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        view_moments(torch.zeros(0, 2), torch.zeros(0, 3))
