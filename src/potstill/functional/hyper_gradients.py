r"""Gradients of a validation loss by hyperparameters, where the weights minimise a training loss.

With ``θ(λ) = argmin_θ L_tr(θ, λ)``, the implicit function theorem gives how the minimum moves, and with it the
hyper-gradient of ``L*(λ) = L_val(θ(λ), λ)``:

.. math::
    \frac{dθ}{dλ} = -H^{-1} \, \partial_λ \partial_θ L_{tr}, \qquad H = \partial_θ^2 L_{tr}, \qquad
    \nabla L^* = \partial_λ L_{val} + \Big(\frac{dθ}{dλ}\Big)^{\!\top} \partial_θ L_{val}

Weights and hyperparameters are flat vectors. H is used by its products with vectors, which are linear in the gradient
of the training loss and cost about two of it each. At weights that are not a minimum, all of this is an approximation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jacrev, vjp, vmap

from potstill.errors import NonFiniteError
from potstill.functional.linear_solvers import conjugate_gradients, neumann_series

__all__ = [
    "ConjugateGradients", "Exact", "Loss", "Neumann", "Solver", "cosine_distance", "hyper_gradient",
    "jacobian_by_columns", "moved_hyper_gradient", "ridge_weights_by_decay", "sensitivity",
]  # fmt: skip

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Scalar loss of (θ, λ), both flat."""
Product: TypeAlias = Callable[[Tensor], Tensor]
"""H times a vector (d,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The whole Hessian, d products and a factorisation of d³ operations."""

    damping: float = 0.0
    """Added to the diagonal of H."""

    def solve(self, product: Product, b: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
        """Return ``(H + damping · I)⁻¹ b``."""
        eye = torch.eye(len(b), dtype=b.dtype, device=b.device)
        solution: Tensor = torch.linalg.solve(vmap(product)(eye) + self.damping * eye, b)
        return solution


@dataclass(frozen=True, slots=True, kw_only=True)
class ConjugateGradients:
    """Conjugate gradients from zero; memory of a few vectors."""

    steps: int = 100
    """Largest number of products for each right-hand side."""
    small: float = 1e-16
    """Part of the squared norm of the right-hand side that may be left."""
    damping: float = 0.0

    def solve(self, product: Product, b: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
        """Return about ``(H + damping · I)⁻¹ b``; less than that where H has a direction of negative curvature."""
        return _by_column(
            lambda v: conjugate_gradients(
                lambda t: {"": product(t[""]) + self.damping * t[""]}, {"": v}, self.steps, self.small
            )[""], b
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Neumann:
    """The Neumann series, as in Lorraine, Vicol, Duvenaud (arXiv:1911.02590); memory of a few vectors."""

    steps: int = 100
    rate: float = 0.1
    """Must be below 2 over the largest eigenvalue of H, or the series diverges."""
    damping: float = 0.0

    def solve(self, product: Product, b: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
        """Return about ``(H + damping · I)⁻¹ b``."""
        return _by_column(
            lambda v: neumann_series(
                lambda t: {"": product(t[""]) + self.damping * t[""]}, {"": v}, self.steps, self.rate
            )[""], b
        )  # fmt: skip


Solver: TypeAlias = Exact | ConjugateGradients | Neumann


def sensitivity(
    train_loss: Loss, theta: Float[Tensor, " d"], settings: Float[Tensor, " p"], solver: Solver
) -> Float[Tensor, "d p"]:
    """Return ``dθ/dλ`` at a minimum: p right-hand sides, whatever is validated on later.

    Raises:
        NonFiniteError: the solution holds NaN or infinity.
    """
    product, _ = _products(train_loss, theta, settings)
    mixed = jacobian_by_columns(lambda lam: grad(train_loss)(theta, lam), settings)
    return _check_finite(-solver.solve(product, mixed), solver)


def hyper_gradient(
    train_loss: Loss, validation_loss: Loss, theta: Float[Tensor, " d"], settings: Float[Tensor, " p"], solver: Solver
) -> Float[Tensor, " p"]:
    """Return the gradient of the validation loss at the minimum by λ: one right-hand side, whatever p is.

    Args:
        train_loss: inner loss, whose minimum the weights are.
        validation_loss: outer loss.
        theta: weights.
        settings: λ.
        solver: of the system with the Hessian.

    Raises:
        NonFiniteError: the solution holds NaN or infinity.
    """
    product, mixed = _products(train_loss, theta, settings)
    by_theta, by_settings = grad(validation_loss, argnums=(0, 1))(theta, settings)
    return _check_finite(by_settings - mixed(solver.solve(product, by_theta[:, None])[:, 0]), solver)


def moved_hyper_gradient(
    validation_loss: Loss, theta: Float[Tensor, " d"], settings: Float[Tensor, " p"], moved: Float[Tensor, "d p"]
) -> Float[Tensor, " p"]:
    """Return the hyper-gradient from ``dθ/dλ``, differentiable by whatever the validation loss is of.

    It is the gradient of the validation loss along the tangent of the minimum, ``λ' ↦ L_val(θ + dθ/dλ (λ' − λ), λ')``.
    """
    gradient: Tensor = grad(lambda lam: validation_loss(theta + moved @ (lam - settings), lam))(settings)
    return gradient


def cosine_distance(a: Float[Tensor, "*n p"], b: Float[Tensor, "*n p"]) -> Float[Tensor, "*n"]:
    """Return ``1 − ⟨a, b⟩ / (‖a‖ ‖b‖)`` over the last dimension: 0 where both point the same way, 2 where opposite."""
    return 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)


def ridge_weights_by_decay(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n t"], decay: Float[Tensor, " d"]
) -> Float[Tensor, "d t"]:
    """Return the weights that minimise ``(‖X W − Y‖² / n + Σ_j decay_j ‖W_j‖²) / 2``, differentiable by all of these.

    Args:
        x: features.
        y: targets.
        decay: weight decay of each feature, above 0.
    """
    weights: Tensor = torch.linalg.solve(x.T @ x / len(x) + torch.diag(decay), x.T @ y / len(x))
    return weights


def jacobian_by_columns(function: Callable[[Tensor], Tensor], at: Float[Tensor, " p"]) -> Float[Tensor, "d p"]:
    """Return the Jacobian of a function with few inputs and many outputs, by reverse mode twice.

    A pull ``Jᵀ v`` is linear in v, so that its own pulls are the p columns of J. Forward mode would do the same, but
    not every operation of a network has it.
    """
    pair: tuple[Tensor, Callable[[Tensor], tuple[Tensor]]] = vjp(function, at)  # type: ignore[assignment]
    jacobian: Tensor = jacrev(lambda v: pair[1](v)[0])(torch.zeros_like(pair[0])).T
    return jacobian


def _products(
    train_loss: Loss, theta: Tensor, settings: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return products of a vector (d,) with H, and with the transposed mixed second derivative, (p,)."""
    pull: Callable[[Tensor], tuple[Tensor]] = vjp(lambda t: grad(train_loss)(t, settings), theta)[1]
    pull_settings: Callable[[Tensor], tuple[Tensor]] = vjp(lambda lam: grad(train_loss)(theta, lam), settings)[1]
    return lambda v: pull(v)[0], lambda v: pull_settings(v)[0]


def _by_column(solve: Callable[[Tensor], Tensor], b: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
    return torch.stack([solve(column) for column in b.unbind(1)], 1)


def _check_finite(value: Tensor, solver: Solver) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise NonFiniteError(
            f"a hyper-gradient must be finite, but {type(solver).__name__} found NaN or infinity; take a smaller rate "
            "of the series, more damping, or more weight decay"
        )
    return value
