"""Trigger inversion: the smallest mask and pattern that turn any picture into a class (Neural Cleanse).

Wang et al., IEEE S&P 2019. For every class t, over mask m in [0, 1] of one channel and pattern p in [0, 1]:
minimise cross-entropy(f((1 − m) ⊙ x + m ⊙ p), t) + λ · Σ|m| by Adam. λ grows by half while at least 99 % of the
pictures become t, and shrinks faster while they do not. A class that a small mask is enough for is an outlier.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

__all__ = ["Inverted", "invert_triggers"]

_RATE, _BETAS = 0.1, (0.5, 0.9)
_FIRST_COST, _UP, _DOWN = 1e-3, 1.5, 1.5**1.5
_SUCCESS = 0.99
_BATCH, _PERIOD = 32, 5
"""Pictures of a step, and steps between two changes of λ."""


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """Triggers of all classes."""

    mask: Float[Tensor, "k 1 h w"]
    pattern: Float[Tensor, "k c h w"]
    size: Float[Tensor, " k"]
    """Sum of each mask, in pixels, float64."""
    success: Float[Tensor, " k"]
    """Share of all pictures that become the class under the mask, float64."""


def invert_triggers(
    forward: Callable[[Tensor], Tensor], x: Float[Tensor, "n c h w"], classes: int, *, steps: int, rng: Generator,
    report: Callable[[int], None] = lambda done: None,
) -> Inverted:  # fmt: skip
    """Return the smallest trigger that was found for each class.

    Args:
        forward: logits of pictures in [0, 1].
        x: pictures in [0, 1], clean ones if there are any.
        classes: number of classes, all of which are inverted together.
        steps: updates.
        rng: draws masks, patterns and batches.
        report: callback with the number of updates that are done.
    """
    k, (n, c, h, w) = classes, x.shape
    start = [torch.randn(k, m, h, w, generator=rng).to(x) for m in (1, c)]
    logit_mask, logit_pattern = (0.5 * one for one in start)
    logit_mask, logit_pattern = (logit_mask - 1).requires_grad_(), logit_pattern.requires_grad_()
    adam = torch.optim.Adam([logit_mask, logit_pattern], lr=_RATE, betas=_BETAS)
    target = torch.arange(k, device=x.device)
    cost = torch.full((k,), _FIRST_COST, device=x.device)
    best = torch.full((k,), float("inf"), device=x.device)
    found = [logit_mask.detach().sigmoid(), logit_pattern.detach().sigmoid()]
    hits, seen = torch.zeros(k, device=x.device), 0
    for step in range(steps):
        at = torch.randint(n, (min(_BATCH, n),), generator=rng).to(x.device)
        mask, pattern = logit_mask.sigmoid(), logit_pattern.sigmoid()
        logits = forward(_stamped(x[at], mask, pattern).flatten(0, 1)).reshape(k, len(at), -1)
        rows = target[:, None].expand(k, len(at))
        loss = functional.cross_entropy(logits.transpose(1, 2), rows, reduction="none").mean(1)
        size = mask.sum((1, 2, 3))
        adam.zero_grad()
        (loss + cost * size).sum().backward()  # type: ignore[no-untyped-call]
        hits += (logits.detach().argmax(2) == rows).float().mean(1)
        seen += 1
        if seen == _PERIOD:
            success = hits / seen >= _SUCCESS
            better = success & (size.detach() < best)
            best = torch.where(better, size.detach(), best)
            for kept, now in zip(found, (mask, pattern), strict=True):
                kept[better] = now.detach()[better]
            cost = torch.where(success, cost * _UP, cost / _DOWN).clamp(1e-6, 10.0)
            hits, seen = torch.zeros_like(hits), 0
            report(step + 1)
        adam.step()
    never = torch.isinf(best)
    for kept, last in zip(found, (logit_mask, logit_pattern), strict=True):
        kept[never] = last.detach().sigmoid()[never]
    mask, pattern = found
    with torch.no_grad():
        became = [
            float((forward(_stamped(x, mask[t : t + 1], pattern[t : t + 1])[0]).argmax(1) == t).double().mean())
            for t in range(k)
        ]
    return Inverted(
        mask=mask, pattern=pattern, size=mask.double().sum((1, 2, 3)).cpu(),
        success=torch.tensor(became, dtype=torch.float64),
    )  # fmt: skip


def _stamped(x: Tensor, mask: Tensor, pattern: Tensor) -> Float[Tensor, "k n c h w"]:
    return x[None] * (1 - mask[:, None]) + (mask * pattern)[:, None]
