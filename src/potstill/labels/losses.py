"""Losses of students on soft labels, as pure functions. Legend: n samples, k classes."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["kl"]


def kl(
    logits: Float[Tensor, "n k"], target: Float[Tensor, "n k"], *, temperature: float, t_squared: bool,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the mean over samples of ``Σ_c p_c (log p_c − log softmax(logits / T)_c)``, with T² or without
    (arXiv:1503.02531).

    Args:
        logits: the student's.
        target: the teacher's probabilities at this same temperature, rows that sum to 1 (``LabelStore.decode``).
        temperature: T, above 0.
        t_squared: multiply by T². Hinton et al. do, so that gradients keep their size whatever T is; SRe2L on Tiny
            ImageNet does too. SRe2L on ImageNet-1K, RDED and GIFT's comparison do not: with T = 20 their gradients are
            about 400 times smaller, which Adam's step does not see but its epsilon and SGD do.
        weight: each sample's loss is multiplied by its own before the mean.

    Raises:
        PotstillError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise PotstillError(f"a temperature must be above 0, but it is {temperature:g}; 20 is usual")
    log_p, target = (logits / temperature).log_softmax(1), target.to(logits)
    if weight is None:
        loss = F.kl_div(log_p, target, reduction="batchmean")
    else:
        loss = (F.kl_div(log_p, target, reduction="none").sum(1) * weight.to(logits)).mean()
    return loss * temperature**2 if t_squared else loss
