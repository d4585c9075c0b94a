r"""The harmonic loss of HDT (arXiv:2603.03760): amplitudes of a learned series beside those of a real stretch.

.. math:: L = \big\lVert\, |F_X[H]| - |F_S[H]| \,\big\rVert_p, \qquad
    H = \text{top-}k_{\,i \le M/2}\; |F_X[i]|

F are the Fourier coefficients of M points, and H the frequencies of largest amplitude in the real ones. Phases are
free: a stretch that begins elsewhere has other phases and the same amplitudes, so that the loss asks for periods alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["harmonic_loss"]


def harmonic_loss(
    points: Float[Tensor, "c m v"], real: Float[Tensor, "c m v"], harmonics: int, order: float = 2.0
) -> Float[Tensor, ""]:
    """Return the p-norm of the differences of amplitudes, the mean over stretches and variables.

    The transform is orthonormal, so that the loss does not grow with M for white noise. Its gradient is 0 where the
    amplitudes are equal.

    Args:
        points: c learned stretches of m points in time of v variables.
        real: as many real stretches.
        harmonics: k, frequencies of each real stretch and variable that count, at least 1; all m // 2 + 1 at most.
        order: p, at least 1.
    """
    made, given = (torch.fft.rfft(x, dim=1, norm="ortho").abs() for x in (points, real))
    kept = given.topk(min(harmonics, given.shape[1]), dim=1).indices
    gaps = made.gather(1, kept) - given.gather(1, kept)
    norms: Tensor = torch.linalg.vector_norm(gaps, ord=order, dim=1)
    return norms.mean()
