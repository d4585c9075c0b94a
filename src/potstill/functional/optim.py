"""Optimiser steps as functions of values: nothing is written into its arguments, so old states stay valid."""

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

__all__ = ["Moved", "adabelief", "adamw", "lamb", "sgd", "zeros"]

P = TypeVar("P", tuple[Tensor, ...], Mapping[str, Tensor])

Moved: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
"""Parameters, first and second moments after a step."""


def zeros(params: P) -> P:
    """Zeros of the same form: a first velocity. One step from it equals ``torch.optim.SGD``'s first step."""
    if isinstance(params, tuple):
        return tuple(torch.zeros_like(p) for p in params)
    return {name: torch.zeros_like(p) for name, p in params.items()}


def sgd(
    params: P,
    grads: P,
    velocity: P | None = None,
    *,
    lr: float | Tensor,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[P, P]:
    """One step of SGD, by the operations of ``torch.optim.SGD`` (dampening 0, no Nesterov).

    ``g ← g + weight_decay · p``, ``v ← momentum · v + g``, ``p ← p − lr · v``.

    Args:
        params: a tuple or a mapping of tensors.
        grads: gradients, of the same form.
        velocity: what the step before returned; ``None`` or `zeros` before the first.
        lr: learning rate; a scalar tensor is differentiable (a learned rate).
        momentum: in [0, 1).
        weight_decay: at least 0.

    Returns:
        New parameters and new velocity. Both keep a graph if one is being recorded: plain training calls this under
        ``torch.no_grad``.

    Raises:
        ValueError: the parts differ in length or names.
    """
    if isinstance(params, tuple):
        old = (None,) * len(params) if velocity is None else tuple(velocity)
        steps = [_step(p, g, v, lr, momentum, weight_decay) for p, g, v in zip(params, tuple(grads), old, strict=True)]
        return tuple(p for p, _ in steps), tuple(v for _, v in steps)
    if params.keys() != grads.keys() or (velocity is not None and velocity.keys() != params.keys()):
        raise ValueError("params, grads and velocity must have the same names")
    made = {
        name: _step(p, grads[name], None if velocity is None else velocity[name], lr, momentum, weight_decay)
        for name, p in params.items()
    }
    return {name: p for name, (p, _) in made.items()}, {name: v for name, (_, v) in made.items()}


def _step(
    p: Tensor, g: Tensor, v: Tensor | None, lr: float | Tensor, momentum: float, weight_decay: float
) -> tuple[Tensor, Tensor]:
    if weight_decay != 0.0:
        g = torch.add(g, p, alpha=weight_decay)
    v = g if v is None or momentum == 0.0 else torch.add(v * momentum, g)
    # alpha, not a product: the kernel may fuse them, and torch.optim.SGD uses this very kernel
    return (p - lr * v if isinstance(lr, Tensor) else torch.add(p, v, alpha=-lr)), v


def adamw(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    count: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Moved:
    """One step of AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), as ``torch.optim.AdamW`` makes it.

    Args:
        params, grads: by name.
        first, second: moments before the step; zeros (`zeros`) before the first.
        count: steps made before this one, at least 0.
        lr, betas, eps, weight_decay: as there; with weight decay 0 it is Adam.

    Returns:
        New parameters, first and second moments. Nothing is recorded by autograd.

    Raises:
        ValueError: the parts differ in names.
    """
    if not params.keys() == grads.keys() == first.keys() == second.keys():
        raise ValueError("params, grads and both moments must have the same names")
    b1, b2 = betas
    correct1, correct2 = 1 - b1 ** (count + 1), 1 - b2 ** (count + 1)
    with torch.no_grad():
        m = {n: torch.lerp(first[n], g, 1 - b1) for n, g in grads.items()}
        v = {n: torch.addcmul(second[n] * b2, g, g, value=1 - b2) for n, g in grads.items()}
        after = {
            n: torch.addcdiv(p * (1 - lr * weight_decay), m[n], v[n].sqrt() / correct2**0.5 + eps, value=-lr / correct1)
            for n, p in params.items()
        }
    return after, m, v


def lamb(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    count: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> Moved:
    """One step of LAMB (You et al., ICLR 2020, arXiv:1904.00962, algorithm 2, φ the identity).

    ``u = m̂ / (√v̂ + eps) + weight_decay · p``, ``p ← p − lr · ‖p‖ / ‖u‖ · u`` for each tensor by itself; where one of
    the norms is zero, their ratio counts as 1.

    Args:
        params, grads, first, second, count: as `adamw` has them.
        lr, betas, eps, weight_decay: as there; eps is that of FRePo's optimiser.

    Returns:
        New parameters, first and second moments. Nothing is recorded by autograd.

    Raises:
        ValueError: the parts differ in names.
    """
    _same_names(params, grads, first, second)
    b1, b2 = betas
    correct1, correct2 = 1 - b1 ** (count + 1), 1 - b2 ** (count + 1)
    after, m, v = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    with torch.no_grad():
        for n, g in grads.items():
            p = params[n]
            m[n] = torch.lerp(first[n], g, 1 - b1)
            v[n] = torch.addcmul(second[n] * b2, g, g, value=1 - b2)
            u = (m[n] / correct1) / ((v[n] / correct2).sqrt() + eps) + weight_decay * p
            length, step = p.norm(), u.norm()
            ratio = torch.where((length > 0) & (step > 0), length / step, torch.ones_like(length))
            after[n] = p - lr * ratio * u
    return after, m, v


def adabelief(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    count: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-16,
    weight_decay: float = 0.0,
    about: Literal["new mean", "old mean"] = "new mean",
) -> Moved:
    """One step of AdaBelief (Zhuang et al., NeurIPS 2020, arXiv:2010.07468, algorithm 2) with decoupled decay.

    Adam, but the second moment is that of ``g − m``: steps are long where the gradient is as its mean says.
    ``s ← β₂ s + (1 − β₂)(g − m)² + eps``, ``p ← p · (1 − lr · weight_decay) − lr · m̂ / (√ŝ + eps)``.

    Args:
        params, grads, first, second, count: as `adamw` has them; ``second`` is s.
        lr, betas, eps, weight_decay: as there; eps is that of RFAD's and RCIG's optimisers.
        about: which m the gradient is compared with: that of this step, as the paper (and RFAD's torch_optimizer) has
            it, or that of the step before, as the optax of RCIG's time has it (0.1.4; 0.2.8 has the new one). The first
            step is lr with the old mean, lr / β₁ with the new one.

    Returns:
        New parameters, first and second moments. Nothing is recorded by autograd.

    Raises:
        ValueError: the parts differ in names.
    """
    _same_names(params, grads, first, second)
    b1, b2 = betas
    correct1, correct2 = 1 - b1 ** (count + 1), 1 - b2 ** (count + 1)
    after, m, s = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    with torch.no_grad():
        for n, g in grads.items():
            m[n] = torch.lerp(first[n], g, 1 - b1)
            mean = first[n] if about == "old mean" else m[n]
            s[n] = second[n] * b2 + (1 - b2) * (g - mean).square() + eps
            step = (m[n] / correct1) / ((s[n] / correct2).sqrt() + eps)
            after[n] = params[n] * (1 - lr * weight_decay) - lr * step
    return after, m, s


def _same_names(*parts: Mapping[str, Tensor]) -> None:
    if any(part.keys() != parts[0].keys() for part in parts):
        raise ValueError("params, grads and both moments must have the same names")
