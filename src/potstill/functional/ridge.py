r"""Kernel ridge regression in closed form, in float64, differentiable by kernels and targets.

.. math::
    \alpha = (K_{SS} + \lambda I)^{-1} Y_S, \qquad \hat Y_T = K_{TS}\,\alpha, \qquad
    \lambda = \rho \, \operatorname{tr}(K_{SS}) / n

The penalty is in proportion to the mean of the diagonal, so that ρ means the same whatever the kernel's scale (Nguyen,
Chen, Lee, ICLR 2021, arXiv:2011.00050, whose program has ρ = 1e-6; Zhou, Nezhadarya, Ba, NeurIPS 2022,
arXiv:2206.00719). Of a kernel that is linear in features of d numbers, n > d samples are solved in the primal form,
which has the same λ: XᵀX has the trace of XXᵀ.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.errors import NonFiniteError

__all__ = ["RETRIES", "predict", "ridge_weights", "solve"]

RETRIES = 8
"""Maximum times that λ is multiplied by ten until the matrix is positive definite in float64."""

LEAST = 1e-14
"""Smallest ρ of a retry."""


def solve(k_ss: Float[Tensor, "n n"], y_s: Float[Tensor, "n t"], ridge: float = 1e-6) -> Float[Tensor, "n t"]:
    """Return ``(k_ss + λ·I)⁻¹ y_s`` with ``λ = ridge · trace(k_ss) / n``, by Cholesky decomposition in float64.

    If that fails, as with two equal samples and no ridge, λ is multiplied by ten, at most `RETRIES` times.

    Args:
        k_ss: symmetric, positive semidefinite (n, n).
        y_s: targets (n, t).
        ridge: ρ, relative to the mean of the diagonal; at least 0.

    Returns:
        float64 (n, t), differentiable by both.

    Raises:
        NotFinite: the matrix holds NaN or infinity, its diagonal is zero, or it is singular all the same.
    """
    n = len(k_ss)
    return _solve_shifted(k_ss.double(), y_s.double(), ridge, k_ss.diagonal().double().sum() / n, f"of {n} items")


def predict(
    k_ts: Float[Tensor, "m n"], k_ss: Float[Tensor, "n n"], y_s: Float[Tensor, "n t"], ridge: float = 1e-6
) -> Float[Tensor, "m t"]:
    """Return the predictions of ridge regression for other samples: ``k_ts`` times `solve`, in float64.

    Raises:
        NotFinite: as `solve`.
    """
    return k_ts.double() @ solve(k_ss, y_s, ridge)


def ridge_weights(x: Float[Tensor, "n d"], y: Float[Tensor, "n t"], ridge: float = 1e-6) -> Float[Tensor, "d t"]:
    """Return the weights of ridge regression on features: ``Xᵀ (XXᵀ + λI)⁻¹ Y``, or ``(XᵀX + λI)⁻¹ XᵀY`` if n > d.

    Both have ``λ = ridge · trace(XXᵀ) / n`` and are equal.

    Args:
        x: features, with a column of ones if a bias is wanted.
        y: targets.

    Returns:
        float64 (d, t), differentiable by both.

    Raises:
        NotFinite: as `solve`.
    """
    (n, d), x, y = x.shape, x.double(), y.double()
    if n <= d:
        return x.T @ solve(x @ x.T, y, ridge)
    return _solve_shifted(x.T @ x, x.T @ y, ridge, x.square().sum() / n, f"of {d} features")


def _solve_shifted(k: Tensor, y: Tensor, ridge: float, mean: Tensor, of: str) -> Tensor:
    """Return ``(k + ridge · mean · I)⁻¹ y``; ``of`` names the matrix in errors."""
    if not (bool(torch.isfinite(k).all()) and bool(torch.isfinite(y).all())):
        raise NonFiniteError(
            f"ridge regression needs finite numbers, but the kernel matrix {of} or its targets hold NaN or infinity"
        )
    n, size = len(k), float(mean.detach())
    if size <= 0.0:
        raise NonFiniteError(f"a kernel matrix must have a diagonal above 0, but that {of} has none")
    eye = torch.eye(n, dtype=k.dtype, device=k.device)
    # A pivot of rounding errors alone may still be above 0: then there is a decomposition that means nothing.
    floor = torch.finfo(k.dtype).eps * n * size
    rho = ridge
    for again in range(RETRIES + 1):
        rho = ridge if again == 0 else max(rho, LEAST) * 10
        lower, info = torch.linalg.cholesky_ex(k + rho * mean * eye)
        if int(info) == 0 and float(lower.detach().diagonal().min()) ** 2 > floor:
            return torch.cholesky_solve(y, lower)
    raise NonFiniteError(
        f"the kernel matrix {of} is singular even with a ridge of {rho:.0e} of its mean diagonal; "
        "no two items may be equal; raise the ridge"
    )
