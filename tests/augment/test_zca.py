"""The three whitenings: what they do to second moments, that they can be undone, and a number worked by hand."""

import numpy as np
import pytest
import torch

from potstill.augment.zca import FAMILIES, fit_normalization, fit_whitening
from potstill.errors import PotstillError
from potstill.rng import generator


def pictures(n: int = 60, seed: int = 0) -> torch.Tensor:
    """Correlated pictures in [0, 1]: neighbours are alike, channels differ in mean and spread."""
    rng = generator(seed, "zca")
    x = torch.randn(n, 2, 4, 3, generator=rng).cumsum(2).cumsum(3)
    return torch.sigmoid(
        x * torch.tensor([1.0, 0.4]).reshape(1, 2, 1, 1) + torch.tensor([0.0, 0.7]).reshape(1, 2, 1, 1)
    )


def reference(x: torch.Tensor, family: str) -> np.ndarray:
    """The whitened samples by singular values of the data, not of their moments."""
    u = x.double().numpy()
    if family == "frepo":
        u = (u - u.mean((0, 2, 3), keepdims=True)) / u.std((0, 2, 3), keepdims=True)
    u = u.reshape(len(u), -1)
    if family == "kip":
        u = u - u.mean(1, keepdims=True)
        u = u / np.linalg.norm(u, axis=1, keepdims=True)
    if family == "mtt":
        u = u - u.mean(0)
    left, values, right = np.linalg.svd(u, full_matrices=False)
    moments = values**2 / (len(u) - 1 if family == "mtt" else len(u))
    amount = 0.1 if family == "mtt" else 0.1 * moments.sum() / u.shape[1]
    return (left * (values / np.sqrt(moments + amount))) @ right


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_reference_with_enough_samples(family: str) -> None:
    x = pictures()
    made = fit_normalization(x, family).apply(x)
    assert made.shape == x.shape
    np.testing.assert_allclose(made.flatten(1).numpy(), reference(x, family), atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_second_moments_become_s_over_s_plus_the_regulariser(family: str) -> None:
    x = pictures()
    norm = fit_normalization(x, family)
    z = norm.apply(x).flatten(1).double()
    made = torch.linalg.eigvalsh(z.T @ z / (len(z) - (family == "mtt")))
    assert norm.whitening is not None
    root = torch.linalg.eigvalsh(norm.whitening.inverse.double())  # sqrt(s + ρ), ascending
    amount = 0.1
    if family != "mtt":
        # trace(s + ρ) = trace(s) + 0.1 · trace(s)
        amount = float((root**2).sum()) / 1.1 * 0.1 / len(root)
    torch.testing.assert_close(made, 1 - amount / root**2, atol=1e-4, rtol=1e-4)
    assert float(made.max()) < 1


@pytest.mark.parametrize("family", ["mtt", "frepo"])
def test_inverse_undoes_it(family: str) -> None:
    x, new = pictures(), pictures(10, seed=1)
    norm = fit_normalization(x, family)
    torch.testing.assert_close(norm.invert(norm.apply(new)), new, rtol=0, atol=1e-4)


def test_kip_leads_back_to_the_unit_norm_sample() -> None:
    x = pictures()
    norm = fit_normalization(x, "kip")
    flat = x.flatten(1) - x.flatten(1).mean(1, keepdim=True)
    unit = flat / flat.norm(dim=1, keepdim=True)
    torch.testing.assert_close(norm.invert(norm.apply(x)).flatten(1), unit, rtol=0, atol=1e-4)
    torch.testing.assert_close(norm.apply(3 * x + 1), norm.apply(x), rtol=0, atol=1e-4)


def test_two_points_by_hand() -> None:
    x = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1)
    made = fit_normalization(x, "mtt").apply(x)
    # mean 1, variance 2 / (2 − 1) = 2, so ±1 / sqrt(2.1)
    torch.testing.assert_close(made.flatten(), torch.tensor([-1.0, 1.0]) / 2.1**0.5)
    made = fit_normalization(x, "frepo").apply(x)
    torch.testing.assert_close(made.flatten(), torch.tensor([-1.0, 1.0]) / 1.1**0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_samples_than_values(family: str) -> None:
    x = pictures(10)
    whitening = fit_whitening(x, family)
    product = whitening.matrix @ whitening.inverse
    torch.testing.assert_close(product, torch.eye(24), rtol=0, atol=1e-4)
    if family != "mtt":
        values = torch.linalg.eigvalsh(whitening.inverse.double())
        assert int((values - 1).abs().lt(1e-5).sum()) >= 14


def test_misuse_is_told() -> None:
    with pytest.raises(PotstillError, match="unknown whitening 'zca'"):
        fit_whitening(pictures(), "zca")
    with pytest.raises(PotstillError, match="at least 2 samples, but there are 1"):
        fit_normalization(pictures(1), "mtt")
    flat = pictures()
    flat[:, 1] = 0.5
    with pytest.raises(PotstillError, match="channel 1 is constant"):
        fit_normalization(flat, "frepo")
