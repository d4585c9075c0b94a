"""Greedy selection of samples whose shares of several classes add up to equal sums."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["balanced_shares"]


def balanced_shares(shares: Float[Tensor, "n k"], m: int) -> Int64[Tensor, " m"]:
    r"""Return ``m`` samples, greedily by :math:`\max_S \sum_c \sqrt{\sum_{i \in S} p_{ic}}`; of equal ones the first.

    The root makes a class count more the less of it was selected, so that all get equal sums where they can; the sum of
    roots is submodular, so the greedy set has at least 1 − 1/e of the best value.

    Args:
        shares: share of each class in each sample, at least 0.
        m: number of samples, at most n.
    """
    rows = shares.double()
    total = rows.new_zeros(rows.shape[1])
    free = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    picked_rows: list[int] = []
    for _ in range(m):
        gains = (total + rows).sqrt().sum(1).where(free, -torch.inf)
        at = int(gains.argmax())
        picked_rows.append(at)
        free[at] = False
        total = total + rows[at]
    return torch.tensor(picked_rows, dtype=torch.int64)
