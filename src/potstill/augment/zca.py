"""The three published ZCA whitenings, which differ in their input and regularisation.

With D values per sample, u a flattened sample, μ a mean, and U diag(s) Uᵀ a matrix of second moments:

| family | u | μ | second moments | regulariser ρ added to s |
|---|---|---|---|---|
| "mtt" (MTT, TESLA, FTD, DATM; kornia) | data units | of every pixel | Σ(u − μ)(u − μ)ᵀ / (n − 1) | 0.1 |
| "frepo" (FRePo, RCIG) | standardised per channel | 0 | Σuuᵀ / n | 0.1 · trace / D |
| "kip" (KIP, RaT-BPTT) | zero mean, unit norm per sample | 0 | Σuuᵀ / n | 0.1 · trace / D |

All map u to ``(u − μ) U diag((s + ρ)^-½) Uᵀ``. With n < D, "frepo" and "kip" leave the D − n directions of least
variance unscaled, as the KIP code does.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Normalization, Whitening
from potstill.errors import PotstillError, unknown_name

__all__ = ["FAMILIES", "ZCAFamily", "fit_normalization", "fit_whitening"]

ZCAFamily: TypeAlias = Literal["mtt", "frepo", "kip"]
FAMILIES: tuple[ZCAFamily, ...] = ("mtt", "frepo", "kip")
_STRENGTH = 0.1


def fit_whitening(x: Float[Tensor, "n *shape"], family: str) -> Whitening:
    """Fit the whitening of ``family``, in float64 on ``x``'s device.

    Args:
        x: for "mtt" and "kip" in data units, for "frepo" standardised per channel (`fit_normalization` does both).
        family: "mtt", "frepo" or "kip".

    Returns:
        Mean, matrix and its inverse, in float32.

    Raises:
        PotstillError: an unknown family, or fewer than two samples.
    """
    if family not in FAMILIES:
        raise unknown_name("whitening", family, FAMILIES)
    n = len(x)
    if n < 2:
        raise PotstillError(
            f"a whitening needs at least 2 samples, but there are {n}; give it the whole training split"
        )
    u = x.flatten(1).double()
    mean = torch.zeros_like(u[0])
    if family == "mtt":
        mean = u.mean(0)
        u = u - mean
        moments = u.T @ u / (n - 1)
        amount = torch.tensor(_STRENGTH).to(moments)
    else:
        if family == "kip":
            u = u - u.mean(1, keepdim=True)
            u = u / u.norm(dim=1, keepdim=True).clamp_min(1e-12)
        moments = u.T @ u / n
        amount = _STRENGTH * moments.trace() / len(moments)
    values, vectors = torch.linalg.eigh(moments)
    # rounding may leave an eigenvalue of a singular matrix just below 0
    root = (values.clamp_min(0) + amount).sqrt()
    if family != "mtt" and n < len(root):
        root[: len(root) - n] = 1.0  # eigh sorts upwards
    return Whitening(
        mean=mean.float(),
        matrix=((vectors / root) @ vectors.T).float(),
        inverse=((vectors * root) @ vectors.T).float(),
        unit_norm=family == "kip",
    )


def fit_normalization(x: Float[Tensor, "n c *shape"], family: str) -> Normalization:
    """Fit the normalisation from data units to whitened model space.

    "mtt" and "kip" whiten the data directly; "frepo" first standardises every channel. ``invert`` leads back to data
    units, for "kip" to the unit-norm sample.

    Args:
        x: the training split in data units.
        family: "mtt", "frepo" or "kip".

    Raises:
        PotstillError: an unknown family, fewer than two samples, or a channel that is constant.
    """
    channels = x.shape[1]
    mean, std = torch.zeros(channels), torch.ones(channels)
    if family == "frepo":
        std, mean = torch.std_mean(x.double().transpose(0, 1).flatten(1), dim=1, correction=0)
        if bool((std == 0).any()):
            constant = int((std == 0).nonzero()[0])
            raise PotstillError(f"every channel must vary, but channel {constant} is constant; drop it, or use 'mtt'")
        mean, std = mean.float().cpu(), std.float().cpu()
    affine = Normalization(mean=mean, std=std)
    return Normalization(mean=mean, std=std, whitening=fit_whitening(affine.apply(x.float()), family))
