r"""Class statistics of embedded samples and distances between them (distribution matching).

Weights W (k, n) with rows that sum to 1 assign samples to classes, hard or soft: the mean of class c is
:math:`\sum_i W_{ci} h_i`.

Sources: DM (arXiv:2110.04181, equation 4), DataDAM (arXiv:2310.00093), M3D (arXiv:2312.15927), NCFM
(arXiv:2502.20653), DSDM (covariance matching).

Legend: n real samples, m synthetic samples, k classes, d features, f frequencies, c h w an activation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "CovarianceFactors", "amplitude_phase_gap", "attention", "characteristic_function", "class_means",
    "covariance_factors", "covariance_gap", "gaussian_kernel", "mean_gap", "membership", "mmd", "row_membership",
]  # fmt: skip


def membership(sizes: Sequence[int], like: Tensor) -> Float[Tensor, "k n"]:
    """Return weights of consecutive groups: 1/size within a sample's group, else 0; dtype and device of ``like``.

    Raises:
        ValueError: a group is empty.
    """
    if min(sizes, default=0) < 1:
        raise ValueError(f"every class needs at least one sample, but the sizes are {tuple(sizes)}")
    counts = torch.tensor(sizes)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    weights = torch.zeros(len(sizes), len(groups), dtype=torch.float64)
    weights[groups, torch.arange(len(groups))] = 1 / counts[groups].double()
    return weights.to(like)


def row_membership(rows: Float[Tensor, "n k"]) -> Float[Tensor, "k n"]:
    """Return weights from soft labels: column c of ``rows`` over its sum; zeros for an empty class. Differentiable."""
    total = rows.sum(0, keepdim=True)
    return (rows / torch.where(total == 0, 1.0, total)).T


def class_means(weights: Float[Tensor, "k n"], features: Float[Tensor, "n *d"]) -> Float[Tensor, "k d"]:
    """Return the weighted mean of each class, features flattened."""
    return weights @ features.flatten(1)


def mean_gap(real: Float[Tensor, "*k d"], syn: Float[Tensor, "*k d"]) -> Float[Tensor, ""]:
    """Return the squared distance of means, summed over features and classes."""
    return ((real - syn) ** 2).sum()


def attention(activation: Float[Tensor, "n c h w"], power: float) -> Float[Tensor, "n hw"]:
    """Return DataDAM's spatial attention ``Σ_c |F_c|^p``, flattened, with unit L2 norm (a zero map stays zero)."""
    if power in (2, 4, 8):  # torch takes logarithms for all but the square
        raised = activation
        for _ in range(int(power).bit_length() - 1):
            raised = raised.square()
    else:
        raised = activation.abs() if power == 1 else activation.abs().pow(power)
    return torch.nn.functional.normalize(raised.sum(1).flatten(1), dim=1)


def gaussian_kernel(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], bandwidths: Float[Tensor, " b"]
) -> Float[Tensor, "n m"]:
    """Return ``Σ_b exp(−‖x − y‖² / (2 b²))``: a sum of Gaussian kernels, bandwidths in units of the features."""
    square = (x * x).sum(1, keepdim=True) + (y * y).sum(1) - 2 * x @ y.T
    square = square.clamp_min(0)
    return torch.stack([torch.exp(-square / (2 * b * b)) for b in bandwidths]).sum(0)


def mmd(
    real: Float[Tensor, "n d"], syn: Float[Tensor, "m d"], weights: Float[Tensor, " m"],
    bandwidths: Float[Tensor, " b"], real_kernel_mean: Float[Tensor, ""],
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the squared maximum mean discrepancy ``E k(r, r') − 2 E k(r, s) + E k(s, s')`` of one class (biased).

    Args:
        weights: weights of the synthetic samples, summing to 1; real samples have equal weights.
        real_kernel_mean: ``E k(r, r')``, which does not depend on the synthetic samples.
    """
    cross = gaussian_kernel(real, syn, bandwidths).mean(0) @ weights
    return real_kernel_mean - 2 * cross + weights @ gaussian_kernel(syn, syn, bandwidths) @ weights


def characteristic_function(
    features: Float[Tensor, "n d"], t: Float[Tensor, "f d"], weights: Float[Tensor, "k n"]
) -> tuple[Float[Tensor, "k f"], Float[Tensor, "k f"]]:
    """Return real and imaginary part of each class's empirical characteristic function ``E exp(i⟨t, h⟩)``."""
    angle = features @ t.T
    return weights @ angle.cos(), weights @ angle.sin()


def amplitude_phase_gap(
    real: tuple[Float[Tensor, "k f"], Float[Tensor, "k f"]], syn: tuple[Float[Tensor, "k f"], Float[Tensor, "k f"]],
    alpha: float = 0.5, beta: float = 0.5, floor: float = 1e-12,
) -> Float[Tensor, ""]:  # fmt: skip
    """Return NCFM's loss ``√(α (|Φ_r| − |Φ_s|)² + β · 2(|Φ_r||Φ_s| − Re Φ_r Φ̄_s))``, mean over t, sum over classes.

    ``floor`` bounds the phase term from below, as published, so that the root has a gradient; it also bounds |Φ|, where
    the published code divides zero by zero. The phase term is computed as ``|Φ_r − Φ_s|² − (|Φ_r| − |Φ_s|)²``: the
    published form cancels and loses half its digits.
    """
    (a, b), (c, d) = real, syn
    norm_r, norm_s = ((u * u + v * v).clamp_min(floor).sqrt() for u, v in ((a, b), (c, d)))
    amplitude = (norm_r - norm_s) ** 2
    phase = ((a - c) ** 2 + (b - d) ** 2 - amplitude).clamp_min(floor)
    return (alpha * amplitude + beta * phase).sqrt().mean(1).sum()


class CovarianceFactors(NamedTuple):
    """Samples of one class about their mean, with the weights of an unbiased covariance."""

    centred: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"]


def covariance_factors(features: Float[Tensor, "n d"], weights: Float[Tensor, " n"]) -> CovarianceFactors:
    """Return the covariance ``Σ_i v_i x_i x_iᵀ`` in factors, v = w / (1 − Σ w²); v is 0 for one sample."""
    centred = features - weights @ features
    rest = 1 - (weights * weights).sum()
    return CovarianceFactors(centred, weights / torch.where(rest < 1e-6, torch.inf, rest))


def covariance_gap(real: CovarianceFactors, syn: CovarianceFactors) -> Float[Tensor, ""]:
    """Return ``‖C_r − C_s‖²_F`` from Gram matrices, without a d × d matrix."""

    def inner(a: CovarianceFactors, b: CovarianceFactors) -> Tensor:
        gram = a.centred @ b.centred.T
        return a.weights @ (gram * gram) @ b.weights

    return inner(real, real) - 2 * inner(real, syn) + inner(syn, syn)
