"""Losses of students on soft labels, as pure functions. Legend: n samples, k classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["gift", "kl", "mse_ce"]


def kl(
    logits: Float[Tensor, "n k"], target: Float[Tensor, "n k"], *, temperature: float, t_squared: bool,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Mean over samples of ``Σ_c p_c (log p_c − log softmax(logits / T)_c)``, with T² or without (arXiv:1503.02531).

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


def mse_ce(
    logits: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], y: Int[Tensor, " n"], *, ce_weight: float
) -> Float[Tensor, ""]:
    """``mean (logits − teacher)² + ce_weight · CE(logits, y)``: G-VBSM (arXiv:2311.17950) and EDC (arXiv:2404.13733).

    Args:
        logits: the student's.
        teacher: the teacher's logits (``LabelStore.logits``); the mean of squares is over samples and classes.
        y: int64 classes.
        ce_weight: EDC's is 0.025; G-VBSM's is 0.1 or 0.15 on small pictures.
    """
    return F.mse_loss(logits, teacher.to(logits)) + ce_weight * F.cross_entropy(logits, y)


def gift(
    logits: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    y: Int[Tensor, " n"],
    *,
    smoothing: float = 0.1,
    weight: float = 0.1,
) -> Float[Tensor, ""]:
    """GIFT (arXiv:2405.14736): ``1 − mean cos(logits, t)``, ``t = teacher/‖teacher‖ + weight · s/‖s‖``.

    ``s`` is the smoothed class: ``1 − smoothing`` at y and ``smoothing / (k − 1)`` elsewhere. This is what the
    published code computes (validate/losses_benchmark.py); its README gives a weighted mean and the cosine itself. The
    loss does not change when a student's logits are all multiplied by a positive number.

    Args:
        logits: the student's.
        teacher: the teacher's logits (``LabelStore.logits``).
        y: int64 classes.
        smoothing: in [0, 1).
        weight: of the smoothed class.
    """
    k = logits.shape[1]
    smooth = torch.full_like(logits, smoothing / (k - 1)).scatter(1, y[:, None], 1.0 - smoothing)
    target = F.normalize(teacher.to(logits), dim=1) + weight * F.normalize(smooth, dim=1)
    return 1.0 - F.cosine_similarity(logits, target, dim=1).mean()
