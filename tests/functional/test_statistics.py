"""Statistics of layers' inputs: against loops, against numbers worked by hand, and where they could break."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.functional.statistics import (
    batch_norm_statistics,
    cell_moments,
    convolution_statistics,
    densification,
    l2_norm,
    mean_l2_norm,
    moments,
    record_statistics,
    statistics_distance,
    total_variation,
    update_averages,
)
from potstill.rng import generator


def draw(*shape: int, path: str | int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(0, "statistics", path), dtype=torch.float64)


def net() -> nn.Sequential:
    """Two convolutions whose BatchNorms have running statistics of their own."""
    layers = [
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * 25, 3),
    ]  # fmt: skip
    made = nn.Sequential(*layers).double().requires_grad_(False).eval()
    for n, (name, t) in enumerate([*made.named_parameters(), *made.named_buffers()]):
        if t.is_floating_point():
            with torch.no_grad():
                t.copy_(draw(*t.shape, path=n) * 0.3 + (1.0 if "running_var" in name else 0.0))
                t.abs_() if "running_var" in name else None
    return made


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in (*network.named_parameters(), *network.named_buffers())}


# --- moments ----------------------------------------------------------------------------------------------------------


def test_moments_of_known_numbers() -> None:
    a = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
    mean, var = moments(a)
    assert (mean.tolist(), var.tolist()) == ([4.0], [5.0])  # biased: (9 + 1 + 1 + 9) / 4


def test_moments_agree_with_a_loop() -> None:
    a = draw(3, 2, 4, 5)
    mean, var = moments(a)
    for c in range(2):
        values = [float(a[n, c, i, j]) for n in range(3) for i in range(4) for j in range(5)]
        m = sum(values) / 60
        assert float(mean[c]) == pytest.approx(m)
        assert float(var[c]) == pytest.approx(sum((v - m) ** 2 for v in values) / 60)


@pytest.mark.parametrize("side", [16, 4])
def test_cells_are_of_so_many_pixels_in_reading_order(side: int) -> None:
    a = draw(2, 3, 2 * side, side)
    mean, var = cell_moments(a, side)
    assert mean.shape == var.shape == (2,)
    for u in range(2):
        cell = a[:, :, side * u : side * (u + 1)]
        torch.testing.assert_close(mean[u], cell.mean())
        torch.testing.assert_close(var[u], cell.var(correction=0))


def test_a_map_of_20_pixels_has_four_cells_of_16_and_25_of_4() -> None:
    a = draw(2, 3, 20, 20)
    whole = F.interpolate(a, (32, 32), mode="bilinear", align_corners=False)
    mean, _ = cell_moments(a, 16)
    expected = [whole[:, :, i : i + 16, j : j + 16].mean() for i in (0, 16) for j in (0, 16)]
    torch.testing.assert_close(mean, torch.stack(expected))
    assert cell_moments(a, 4)[0].shape == (25,)
    assert cell_moments(draw(2, 3, 4, 4), 16)[0].shape == (1,)


# --- lengths ----------------------------------------------------------------------------------------------------------


def test_a_length_is_not_squared_and_has_a_finite_slope_at_zero() -> None:
    assert float(l2_norm(torch.tensor([3.0, 4.0]))) == 5.0
    zero = torch.zeros(3, requires_grad=True)
    value = l2_norm(zero)
    (slope,) = torch.autograd.grad(value, zero)
    assert float(value.detach()) == pytest.approx(1e-12)
    assert torch.equal(slope, torch.zeros(3))
    assert torch.autograd.gradcheck(l2_norm, (draw(4).requires_grad_(),))


SEEN = {
    "a": {"mean": torch.tensor([3.0, 0.0]), "var": torch.tensor([1.0, 1.0])},
    "b": {"mean": torch.tensor([0.0]), "var": torch.tensor([2.0])},
}
REAL = {
    "a": {"mean": torch.tensor([0.0, 4.0]), "var": torch.tensor([1.0, 3.0])},
    "b": {"mean": torch.tensor([1.0]), "var": torch.tensor([5.0])},
}


def test_the_gap_of_known_statistics() -> None:
    # 10 (‖(3, −4)‖ + ‖(0, −2)‖) + (1 + 3)
    assert float(statistics_distance(SEEN, REAL)) == pytest.approx(10 * (5 + 2) + 4)
    assert float(statistics_distance(SEEN, REAL, first=1)) == pytest.approx(7 + 4)
    assert float(statistics_distance(SEEN, REAL, var_weight=11)) == pytest.approx(10 * (5 + 22) + 1 + 33)
    assert float(statistics_distance({}, REAL)) == 0


def test_the_gap_is_differentiable_also_where_nothing_is_amiss() -> None:
    def of(mean: Tensor, var: Tensor) -> Tensor:
        return statistics_distance(
            {"a": {"mean": mean, "var": var}}, {"a": {"mean": draw(3, path=7), "var": draw(3, path=8)}}
        )

    assert torch.autograd.gradcheck(of, (draw(3, path=1).requires_grad_(), draw(3, path=2).requires_grad_()))
    same = draw(3).requires_grad_()
    (slope,) = torch.autograd.grad(statistics_distance({"a": {"mean": same}}, {"a": {"mean": same.detach()}}), same)
    assert torch.isfinite(slope).all()


# --- watching a network -----------------------------------------------------------------------------------------------


def test_watching_gives_the_inputs_of_every_layer_of_the_type_and_leaves_nothing_behind() -> None:
    network, x = net(), draw(4, 2, 5, 5)
    before = weights_of(network)
    out, seen = record_statistics(
        network, before, x, {nn.BatchNorm2d: batch_norm_statistics, nn.Conv2d: lambda a: convolution_statistics(a, 4)}
    )
    torch.testing.assert_close(out, network(x))
    assert list(seen) == ["0", "1", "3", "4"]
    first = network[0](x)
    torch.testing.assert_close(seen["1"]["mean"], first.mean((0, 2, 3)))
    torch.testing.assert_close(seen["1"]["var"], first.var((0, 2, 3), correction=0))
    second = network[:3](x)
    torch.testing.assert_close(seen["3"]["mean"], second.mean((0, 2, 3)))
    torch.testing.assert_close(seen["0"]["cells/mean"], cell_moments(x, 4)[0])
    assert all(torch.equal(t, before[n]) for n, t in weights_of(network).items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_the_given_weights_are_used_and_in_train_mode_not_written() -> None:
    network, x = net(), draw(4, 2, 5, 5)
    weights = {n: t * 2 if t.is_floating_point() else t for n, t in weights_of(network).items()}
    kept = {n: t.clone() for n, t in weights.items()}
    _, seen = record_statistics(network, weights, x, {nn.BatchNorm2d: batch_norm_statistics})
    doubled = F.conv2d(x, weights["0.weight"], weights["0.bias"], padding=1)
    torch.testing.assert_close(seen["1"]["mean"], doubled.mean((0, 2, 3)))
    record_statistics(network.train(), weights, x, {})
    assert all(torch.equal(t, kept[n]) for n, t in weights.items())
    assert all(torch.equal(t, net().state_dict()[n]) for n, t in network.state_dict().items())


def test_hooks_go_also_when_the_network_fails() -> None:
    network = net()
    with pytest.raises(RuntimeError):
        record_statistics(network, weights_of(network), draw(4, 3, 5, 5), {nn.BatchNorm2d: batch_norm_statistics})
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_the_gradient_through_the_statistics_is_right() -> None:
    network = net()
    weights = weights_of(network)
    real = {n: {"mean": draw(c, path=n), "var": draw(c, path=n).abs()} for n, c in (("1", 3), ("4", 2))}

    def of(x: Tensor) -> Tensor:
        return statistics_distance(
            record_statistics(network, weights, x, {nn.BatchNorm2d: batch_norm_statistics})[1], real
        )

    assert torch.autograd.gradcheck(of, (draw(2, 2, 5, 5).requires_grad_(),))


def test_half_precision_is_measured_in_full() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1)).half().eval()
    x = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    x[0, 0, 0, 0] = -300.0  # its squares overflow in 16 bits
    _, seen = record_statistics(network, dict(network.state_dict()), x, {nn.BatchNorm2d: batch_norm_statistics})
    assert float(seen["0"]["var"]) == pytest.approx(67_500)


# --- moving averages --------------------------------------------------------------------------------------------------


def test_averages_begin_at_the_first_value_and_have_the_batch_s_gradient() -> None:
    one = {"a": torch.tensor([2.0], requires_grad=True)}
    begun = update_averages({}, one, 0.4)
    assert begun["a"].tolist() == [2.0]  # from zero it would be 1.2
    two = {"a": torch.tensor([7.0], requires_grad=True)}
    after = update_averages({"a": begun["a"].detach()}, two, 0.4)
    assert after["a"].tolist() == pytest.approx([0.4 * 2 + 0.6 * 7])
    (slope,) = torch.autograd.grad(after["a"].sum(), two["a"])
    assert slope.tolist() == [1.0]
    assert update_averages({"a": torch.tensor([2.0])}, two, 0.0)["a"].tolist() == [7.0]
    assert update_averages({"a": torch.tensor([2.0])}, two, 1.0)["a"].tolist() == pytest.approx([2.0])


# --- priors -----------------------------------------------------------------------------------------------------------


def test_priors_of_known_pictures() -> None:
    x = torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]])
    # across: (−3, 4), down: (−4, 3), diagonals: 4 − 3 and 0 − 0
    assert float(total_variation(x)) == pytest.approx(5 + 5 + 1, abs=1e-6)
    assert float(mean_l2_norm(torch.cat([x, 2 * x]))) == pytest.approx(7.5)
    flat = torch.ones(1, 1, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(total_variation(flat), flat)
    assert torch.equal(slope, torch.zeros_like(flat))
    for prior in (total_variation, mean_l2_norm):
        assert torch.autograd.gradcheck(prior, (draw(2, 1, 3, 4).requires_grad_(),))


def test_densification_of_two_known_samples() -> None:
    # Gram matrix [[2, 1], [1, 2]]: eigenvalues 1 and 3
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]).reshape(2, 1, 2, 2)
    p, q = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-2))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(densification(x, torch.tensor([0, 0]))) == pytest.approx(expected, rel=1e-5)
    assert float(densification(x, torch.tensor([0, 1]))) == 0  # one sample of each class


def test_densification_falls_as_samples_differ_and_has_a_finite_slope() -> None:
    y, near = torch.zeros(3, dtype=torch.int64), draw(1, 1, 4, 4).expand(3, 1, 4, 4) / 4
    apart = draw(3, 1, 4, 4, path=3) / 4
    assert float(densification(near, y)) > float(densification(apart, y))
    x = near.clone().requires_grad_()  # two eigenvalues are zero, and equal
    (slope,) = torch.autograd.grad(densification(x, y), x)
    assert torch.isfinite(slope).all()


def divergence(x: Tensor, target: Tensor) -> Tensor:
    """Of a class's softmax of eigenvalues from a target that is given: a naive reference."""
    own = x.flatten(1)
    found = torch.linalg.eigvalsh(own @ own.T).softmax(0)
    return (target * (target / found).log()).sum()


def test_densification_s_target_has_no_gradient() -> None:
    y, x = torch.zeros(3, dtype=torch.int64), (draw(3, 1, 4, 4, path=3) / 4).requires_grad_()
    values, vectors = torch.linalg.eigh(x.detach().flatten(1) @ x.detach().flatten(1).T)
    target = (values / 4.0).softmax(0)
    torch.testing.assert_close(densification(x, y), divergence(x, target))
    (slope,) = torch.autograd.grad(densification(x, y), x)
    # along an eigenvalue λ_i the slope is softmax(λ)_i − softmax(λ / τ)_i, and that of λ_i = ‖u_iᵀ X‖² is 2 u_i u_iᵀ X
    away = vectors @ torch.diag(values.softmax(0) - target) @ vectors.T
    torch.testing.assert_close(slope, (2 * away @ x.detach().flatten(1)).reshape(x.shape))
    assert torch.autograd.gradcheck(lambda z: divergence(z, target), (x,))
    torch.testing.assert_close(slope, torch.autograd.grad(divergence(x, target), x)[0])


def test_densification_pools_large_pictures() -> None:
    x, y = draw(2, 1, 8, 6) / 3, torch.tensor([1, 1])
    pooled = F.adaptive_avg_pool2d(x, (4, 4))
    torch.testing.assert_close(densification(x, y, side=4), densification(pooled, y))
