"""Optimal transport: the few points that stand for many best, in the Wasserstein sense.

The solver is POT (Flamary et al., JMLR 22(78), 2021), which the extra ``wmdd`` installs.
"""

import importlib
import importlib.util
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["barycentre", "check_solver"]


def check_solver() -> None:
    """Whether the solver is there.

    Raises:
        PotstillError: it is not installed.
    """
    if importlib.util.find_spec("ot") is None:
        raise PotstillError("barycentres need POT, which is not installed; pip install 'potstill[wmdd]'")


def barycentre(
    points: Float[Tensor, "n d"], first: Float[Tensor, "m d"], iterations: int = 100, tolerance: float = 1e-7
) -> Float[Tensor, "m d"]:
    """The m points of equal weight that are nearest to ``points``, of equal weight too, in Wasserstein-2 distance.

    A free-support barycentre of one measure (Cuturi and Doucet, arXiv:1310.4375, algorithm 2 without the weights): in
    turn the best transport plan is found, and every atom moves to the mean of what it is sent. It ends in a local
    minimum, which ``first`` decides.

    Args:
        points: the measure.
        first: where the atoms begin.
        iterations: at most so many, at least 1.
        tolerance: it stops when the squared way of all atoms is below.

    Raises:
        PotstillError: POT is not installed.
    """
    check_solver()
    ot: Any = importlib.import_module("ot")
    measure, start = (t.detach().cpu().double().numpy() for t in (points, first))
    weights = [ot.unif(len(measure))]
    atoms = ot.lp.free_support_barycenter([measure], weights, start, numItermax=iterations, stopThr=tolerance)
    return torch.from_numpy(atoms).to(points)
