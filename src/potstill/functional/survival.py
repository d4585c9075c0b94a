"""Cox's regression of times until an event, which maximises the partial likelihood with a penalty."""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from potstill.tasks.partial_likelihood import cox_loss

__all__ = ["fit_cox"]


def fit_cox(
    x: Float[Tensor, "n d"], time: Float[Tensor, " n"], event: Bool[Tensor, " n"],
    weights: Float[Tensor, " n"] | None = None, penalty: float = 0.0,
) -> Float[Tensor, " d"]:  # fmt: skip
    """Return the coefficients (d,) of Cox's regression: the minimum of `cox_loss` and ``penalty`` / 2 of their squares.

    Args:
        x: rows; only differences between them matter.
        penalty: above 0 where columns depend on each other, or a column tells all events.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    rows = (x - x.mean(0)).double().cpu()
    time, event = time.double().cpu(), event.cpu()
    share = None if weights is None else weights.double().cpu()

    def value(beta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        leaf = torch.from_numpy(beta).requires_grad_()
        with torch.enable_grad():
            loss = cox_loss(rows @ leaf, time, event, share) + penalty / 2 * leaf.square().sum()
        (slope,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), slope.numpy()

    found = minimize(
        value, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-7}
    )
    return torch.from_numpy(np.asarray(found.x, dtype=np.float64))
