r"""Survival: Cox's partial likelihood, and the concordance of risks with times.

A time is that of an event, or the last one at which none had been seen (censored). With risk sets
:math:`R_i = \{j : t_j \ge t_i\}` and Breslow's way with ties the loss of log-risks η is

.. math:: -\frac{1}{\sum_i w_i e_i} \sum_i w_i e_i \Big(\eta_i - \log \sum_{j \in R_i} w_j \exp \eta_j\Big)

where e is 1 for an event. Concordance (Harrell et al., 1982) is the share of pairs whose order is known in which the
one with the earlier event has the higher risk; equal risks count one half.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["concordance", "cox_loss"]

_CHUNK = 512
"""Events whose pairs are counted at once."""


def cox_loss(
    risk: Float[Tensor, " n"], time: Float[Tensor, " n"], event: Bool[Tensor, " n"],
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the mean negative log partial likelihood of the events; 0 where there is none.

    Args:
        risk: log-risks, the higher the earlier.
        time: of the event, or of the last look.
        event: True for events, False for censored times.
        weights: of each sample, above 0; ``None``: all 1.
    """
    order = torch.argsort(time, descending=True, stable=True)
    risk, time, event = risk[order], time[order], event[order]
    share = torch.ones_like(risk) if weights is None else weights[order].to(risk)
    if not bool(event.any()):
        return risk.sum() * 0.0
    sums = torch.logcumsumexp(risk + share.log(), 0)
    last = torch.searchsorted(-time.contiguous(), -time.contiguous(), right=True) - 1  # of those that have one time
    terms = (risk - sums[last])[event] * share[event]
    return -terms.sum() / share[event].sum()


def concordance(
    risk: Float[Tensor, " n"], time: Float[Tensor, " n"], event: Bool[Tensor, " n"]
) -> float:  # fmt: skip
    """Return the share of comparable pairs that risks put in order, from 0 to 1; 0.5 where no pair is comparable.

    A pair is comparable if the one with the earlier time had the event, or both have one time and one of them alone had
    it.
    """
    right = pairs = 0.0
    for at in torch.split(torch.where(event)[0], _CHUNK):
        later = time[None] > time[at, None]
        later |= (time[None] == time[at, None]) & ~event[None]
        above, equal = risk[at, None] > risk[None], risk[at, None] == risk[None]
        right += float((later & above).sum()) + 0.5 * float((later & equal).sum())
        pairs += float(later.sum())
    return right / pairs if pairs else 0.5
