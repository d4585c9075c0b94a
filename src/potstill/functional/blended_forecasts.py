r"""The additive update of CondTSF (Ding et al., NeurIPS 2024, arXiv:2406.02131): what follows a window of a learned
series moves towards a forecast of it.

.. math:: s_{b : b + h} \leftarrow (1 - \beta)\, s_{b : b + h} + \beta\, f(s_{b - w : b}), \qquad b = w, w + g, \dots

For a linear forecast the error of a learned series divides into a value term, the distance of its points from what an
expert forecasts there, and a gradient term, which methods of trajectories and gradients lower. This update lowers the
value term alone: by 1 − β each time.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

__all__ = ["blend_forecasts"]


def blend_forecasts(
    points: Float[Tensor, "c p v"], forecasts: Float[Tensor, "c m v h"], begins: Sequence[int], share: float
) -> Float[Tensor, "c p v"]:
    """Return points that moved towards forecasts of them, one forecast after another.

    Args:
        points: c stretches of p points in time of v variables.
        forecasts: of m windows of each stretch, h values of each variable.
        begins: first point that each forecast is of.
        share: β, of the forecast, in [0, 1].
    """
    moved, ahead = points.clone(), forecasts.shape[-1]
    for number, begin in enumerate(begins):
        moved[:, begin : begin + ahead] = (
            (1 - share) * moved[:, begin : begin + ahead] + share * forecasts[:, number].transpose(1, 2)
        )  # fmt: skip
    return moved
