"""Optimiser steps as functions of values: nothing is written into its arguments, so old states stay valid."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

__all__ = ["Adaptive", "adaptive_step", "sgd", "sgd_tensor", "zeros"]

Adaptive: TypeAlias = Literal["adamw", "lamb", "adabelief", "adabelief-old-mean"]
"""Rules with two moments; ``adabelief-old-mean`` compares gradients with the mean before the step."""

_EPS: Mapping[Adaptive, float] = {"adamw": 1e-8, "lamb": 1e-6, "adabelief": 1e-16, "adabelief-old-mean": 1e-16}
"""eps of torch's AdamW, of FRePo's LAMB, and of RFAD's and RCIG's AdaBelief."""


def zeros(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros of the same form: a first velocity. One step from it equals ``torch.optim.SGD``'s first step."""
    return {name: torch.zeros_like(p) for name, p in params.items()}


def sgd(
    params: Mapping[str, Tensor], grads: Mapping[str, Tensor], velocity: Mapping[str, Tensor] | None = None, *,
    lr: float | Tensor, momentum: float = 0.0, weight_decay: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Take one step of SGD, by the operations of ``torch.optim.SGD`` (dampening 0, no Nesterov).

    ``g ← g + weight_decay · p``, ``v ← momentum · v + g``, ``p ← p − lr · v``.

    Args:
        params, grads: by name.
        velocity: returned by the step before; ``None`` or `zeros` before the first.
        lr: learning rate; a scalar tensor is differentiable (a learned rate).
        momentum: in [0, 1).
        weight_decay: at least 0.

    Returns:
        New parameters and new velocity. Both keep a graph if one is being recorded: plain training calls this under
        ``torch.no_grad``.

    Raises:
        ValueError: the parts differ in names.
    """
    if params.keys() != grads.keys() or (velocity is not None and velocity.keys() != params.keys()):
        raise ValueError("params, grads and velocity must have the same names")
    stepped = {
        n: sgd_tensor(
            p, grads[n], None if velocity is None else velocity[n], lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        for n, p in params.items()
    }
    return {n: p for n, (p, _) in stepped.items()}, {n: v for n, (_, v) in stepped.items()}


def sgd_tensor(
    p: Tensor, g: Tensor, v: Tensor | None, *, lr: float | Tensor, momentum: float = 0.0, weight_decay: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return a tensor and its velocity after a step of `sgd`."""
    if weight_decay != 0.0:
        g = torch.add(g, p, alpha=weight_decay)
    v = g if v is None or momentum == 0.0 else torch.add(v * momentum, g)
    # alpha, not a product: the kernel may fuse them, and torch.optim.SGD uses this very kernel
    return (p - lr * v if isinstance(lr, Tensor) else torch.add(p, v, alpha=-lr)), v


def adaptive_step(
    rule: Adaptive, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], first: Mapping[str, Tensor],
    second: Mapping[str, Tensor], count: int, *, lr: float, betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Take one step of an optimiser with two moments, ``m ← β₁ m + (1 − β₁) g`` and v.

    - ``adamw`` (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), as ``torch.optim.AdamW`` makes it.
    - ``lamb`` (You et al., ICLR 2020, arXiv:1904.00962, algorithm 2, φ the identity):
      ``u = m̂ / (√v̂ + eps) + weight_decay · p``, ``p ← p − lr · ‖p‖ / ‖u‖ · u`` for each tensor by itself; where one of
      the norms is zero, their ratio counts as 1.
    - ``adabelief`` (Zhuang et al., NeurIPS 2020, arXiv:2010.07468, algorithm 2) with decoupled decay: Adam, but steps
      are long where the gradient is as its mean says: ``v ← β₂ v + (1 − β₂)(g − m)² + eps``,
      ``p ← p · (1 − lr · weight_decay) − lr · m̂ / (√v̂ + eps)``. m is that of this step, as the paper (and RFAD's
      torch_optimizer) has it; in ``adabelief-old-mean`` that of the step before, as the optax of RCIG's time has it
      (0.1.4; 0.2.8 has the new one). The first step is lr with the old mean, lr / β₁ with the new one.

    Args:
        rule: see above.
        params, grads: by name.
        first, second: moments before the step; `zeros` before the first.
        count: steps made before this one, at least 0.
        lr: learning rate.
        betas: decay rates of the moments.
        weight_decay: at least 0; without it ``adamw`` is Adam.

    Returns:
        New parameters, first and second moments. Nothing is recorded by autograd.

    Raises:
        ValueError: the parts differ in names.
    """
    if not params.keys() == grads.keys() == first.keys() == second.keys():
        raise ValueError("params, grads and both moments must have the same names")
    (b1, b2), eps = betas, _EPS[rule]
    correct1, correct2 = 1 - b1 ** (count + 1), 1 - b2 ** (count + 1)
    after, m, v = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    with torch.no_grad():
        for n, p in params.items():
            g, decayed = grads[n], 1 - lr * weight_decay
            m[n] = torch.lerp(first[n], g, 1 - b1)
            if rule in ("adamw", "lamb"):
                v[n] = torch.addcmul(second[n] * b2, g, g, value=1 - b2)
            else:
                mean = first[n] if rule == "adabelief-old-mean" else m[n]
                v[n] = second[n] * b2 + (1 - b2) * (g - mean).square() + eps
            if rule == "adamw":
                after[n] = torch.addcdiv(p * decayed, m[n], v[n].sqrt() / correct2**0.5 + eps, value=-lr / correct1)
                continue
            u = (m[n] / correct1) / ((v[n] / correct2).sqrt() + eps)
            if rule == "lamb":
                u = u + weight_decay * p
                length, step = p.norm(), u.norm()
                ratio = torch.where((length > 0) & (step > 0), length / step, torch.ones_like(length))
                after[n] = p - lr * ratio * u
            else:
                after[n] = p * decayed - lr * u
    return after, m, v
