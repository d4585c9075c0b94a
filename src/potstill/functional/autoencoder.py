r"""Kernel ridge regression of users' rows on themselves: infinite-AE (Sachdeva et al., NeurIPS 2022, arXiv:2206.02626).

.. math::
    \hat x_u = k(u, S) \, (K_{SS} + \lambda I)^{-1} Y_S, \qquad y_s = s / \lVert s \rVert^{1/2}, \qquad
    \lambda = \rho \operatorname{tr}(K_{SS}) / n

K is the tangent kernel of a wide network with one hidden layer. Rows have unit length before the kernel, so that users
with few items and with many are alike near; their program takes rows as they are, in the kernel and as targets. A
target is divided by the root of its length, between rows as they are, in which heavy users count most, and rows of unit
length. Products of rows are all that is needed, and rows of users are mostly zeros.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from potstill.functional.kernels import FullyConnected
from potstill.functional.ridge import solve

__all__ = [
    "SparseRows", "autoencoder_targets", "autoencoder_weights", "reconstruction_loss", "row_kernel", "row_lengths",
]  # fmt: skip

_LEAST = 1e-9
"""Lower clamp of a row's length."""


def row_lengths(rows: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
    """Return the lengths of rows, 1e-9 at least."""
    lengths: Tensor = rows.double().norm(dim=1).clamp_min(_LEAST)
    return lengths


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRows:
    """Rows that are mostly zeros, as a sparse matrix and as its transpose. Legend: m rows of d values."""

    rows: Float64[Tensor, "m d"]
    columns: Float64[Tensor, "d m"]
    lengths: Float64[Tensor, " m"]

    @classmethod
    def of(cls, dense: Float[Tensor, "m d"]) -> "SparseRows":
        """Return the rows of a dense matrix."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch calls this layout a beta
            rows, columns = dense.double().to_sparse_csr(), dense.double().T.contiguous().to_sparse_csr()
        return cls(rows=rows, columns=columns, lengths=row_lengths(dense))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return tensors that `of_tensors` makes the same rows of."""
        named = {"rows": self.rows, "columns": self.columns}
        parts = {
            f"{name}/{part}": value
            for name, matrix in named.items()
            for part, value in (
                ("starts", matrix.crow_indices()), ("at", matrix.col_indices()), ("values", matrix.values())
            )
        }  # fmt: skip
        return {**parts, "lengths": self.lengths}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "SparseRows":
        """Return the rows of tensors that `to_tensors` made."""
        m, d = (len(tensors[f"{name}/starts"]) - 1 for name in ("rows", "columns"))

        def matrix(name: str, shape: tuple[int, int]) -> Tensor:
            starts, at, values = (tensors[f"{name}/{part}"] for part in ("starts", "at", "values"))
            return torch.sparse_csr_tensor(starts, at, values, shape, check_invariants=False)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(rows=matrix("rows", (m, d)), columns=matrix("columns", (d, m)), lengths=tensors["lengths"])


class _Products(torch.autograd.Function):
    """Products of sparse rows (m, d) with dense ones (n, d), differentiable by the dense ones.

    torch would transpose the sparse matrix for each gradient, which takes most of a step.
    """

    @staticmethod
    def forward(ctx: Any, dense: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.columns = columns
        return rows @ dense.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (ctx.columns @ grad).T, None, None


def row_kernel(
    products: Float[Tensor, "m n"], a: Float[Tensor, " m"], b: Float[Tensor, " n"], kernel: FullyConnected
) -> Float64[Tensor, "m n"]:
    """Return the kernel of rows of unit length from products of the rows as they are, and their lengths.

    Rows are scaled to a mean square of 1, as the kernel divides products by their number of values.
    """
    cosines = products.double() / (a[:, None] * b[None, :])
    return kernel.of_products(cosines, torch.ones_like(cosines[:, 0]), torch.ones_like(cosines[0]))


def autoencoder_targets(rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """Return rows over the root of their length."""
    return rows.double() / row_lengths(rows).sqrt()[:, None]


def autoencoder_weights(rows: Float[Tensor, "n d"], ridge: float, kernel: FullyConnected) -> Float64[Tensor, "n d"]:
    """Return ``(K + λI)⁻¹ Y`` of rows, which the kernel of other rows with them is multiplied by."""
    lengths, rows = row_lengths(rows), rows.double()
    return solve(row_kernel(rows @ rows.T, lengths, lengths, kernel), autoencoder_targets(rows), ridge)


def reconstruction_loss(
    real: "SparseRows", synthetic: Float[Tensor, "n d"], ridge: float, kernel: FullyConnected
) -> Float64[Tensor, ""]:
    r"""Return the mean over real users of the squared error of their reconstruction from synthetic users.

    With :math:`A = K_{US} (K_{SS} + \lambda I)^{-1} D_S` and :math:`Y_U = D_U U`, where D has the roots of lengths,
    :math:`\lVert A S - Y_U \rVert^2 = \langle A^\top A, S S^\top \rangle - 2 \langle D_U A, U S^\top \rangle +
    \lVert Y_U \rVert^2`: no matrix of all users and items is made.

    Args:
        real: rows of real users.
        synthetic: rows of synthetic users, by which it is differentiable.
    """
    s, n = synthetic.double(), len(synthetic)
    a, b = real.lengths, row_lengths(s)
    us: Tensor = _Products.apply(s, real.rows, real.columns)  # type: ignore[no-untyped-call]
    ss = s @ s.T
    k_us, k_ss = row_kernel(us, a, b, kernel), row_kernel(ss, b, b, kernel)
    weights = solve(k_ss, torch.eye(n, dtype=torch.float64, device=s.device) / b.sqrt(), ridge)
    answers = k_us @ weights
    scaled = answers / a.sqrt()[:, None]
    total = ((answers.T @ answers) * ss).sum() - 2 * (scaled * us).sum() + a.sum()
    return total / len(a)
