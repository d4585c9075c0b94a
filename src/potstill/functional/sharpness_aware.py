"""Sharpness-aware training steps: SAM's ascent and GSAM's direction, as pure functions.

Adaptive sharpness (Kwon et al., "ASAM", arXiv:2102.11600) and the surrogate gap (Zhuang et al., "Surrogate Gap
Minimization Improves Sharpness-Aware Training", arXiv:2203.08065), as FTD trains its experts (Du et al., "Minimizing
the Accumulated Trajectory Error to Improve Dataset Distillation", arXiv:2211.11004). With the gradient g₁ at θ:

    e  = ρ · θ² ⊙ g₁ / ‖|θ| ⊙ g₁‖                          the ascent
    g₂ = ∇L(θ + e)
    d  = g₂ − α · (g₁ − (⟨g₁, g₂⟩ / ‖g₂‖²) g₂)             less α times the part of g₁ orthogonal to g₂

SGD steps along d. With ρ = 0 and α = 0 it is SGD.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs
from potstill.core.nested import tree_map
from potstill.errors import PotstillError
from potstill.functional.optim import sgd
from potstill.functional.train import Criterion, TrainStepResult, cross_entropy, gradients

__all__ = ["GSAM", "ascend", "gsam_direction", "gsam_step"]

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class GSAM:
    """Hyperparameters of GSAM.

    Raises:
        PotstillError: a value is negative or not finite.
    """

    rho: float = 0.01
    """ρ, radius of the ascent. FTD's command: 0.01; its code's default: 2."""
    alpha: float = 0.3
    """α, weight of the orthogonal part of g₁. FTD: 0.3, and 1 for some data sets."""

    def __post_init__(self) -> None:
        for name in ("rho", "alpha"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise PotstillError(f"{name} of a flat step must be at least 0, but it is {value:g}; change it")


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(t * b[n]).sum() for n, t in a.items()]).sum()


def ascend(params: Mapping[str, Tensor], grads: Mapping[str, Tensor], rho: float) -> dict[str, Tensor]:
    """Return ``θ + ρ · θ² ⊙ g / ‖|θ| ⊙ g‖``."""
    steep = {n: p.abs() * grads[n] for n, p in params.items()}
    scale = rho / (_dot(steep, steep).sqrt() + _TINY)
    return {n: p + scale * p.abs() * steep[n] for n, p in params.items()}


def gsam_direction(first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return ``g₂ − α · (g₁ − (⟨g₁, g₂⟩ / ‖g₂‖²) g₂)`` of the gradients before and after the ascent."""
    along = _dot(first, second) / (_dot(second, second) + _TINY)
    return {n: g - alpha * (first[n] - along * g) for n, g in second.items()}


def gsam_step(
    network: nn.Module, params: Mapping[str, Tensor], velocity: Mapping[str, Tensor] | None, x: Inputs, y: Tensor,
    gsam: GSAM, *, buffers: Mapping[str, Tensor] | None = None, criterion: Criterion = cross_entropy,
    **sgd_settings: float,
) -> TrainStepResult:  # fmt: skip
    """Take one SGD step along `gsam_direction` on one batch; arguments and result as in `train.train_step`.

    ``sgd_settings`` are ``lr``, ``momentum`` and ``weight_decay``, as `optim.sgd` takes them.
    Running statistics are those of the pass before the ascent.
    """
    old_buffers = dict(network.named_buffers()) if buffers is None else buffers
    new_buffers = {name: b.detach().clone() for name, b in old_buffers.items()}
    x, before = tree_map(Tensor.detach, x), {n: p.detach() for n, p in params.items()}
    with torch.enable_grad():
        used = {n: p.requires_grad_() for n, p in ((n, p.clone()) for n, p in before.items())}
        logits = functional_call(network, {**used, **new_buffers}, (x,))
        value = criterion(logits, y)
        first = dict(zip(used, torch.autograd.grad(value, tuple(used.values())), strict=True))
    unseen = {name: b.clone() for name, b in new_buffers.items()}
    second = dict(zip(used, gradients(network, ascend(before, first, gsam.rho), x, y, False, unseen, criterion),
                      strict=True))  # fmt: skip
    with torch.no_grad():
        along = gsam_direction(first, second, gsam.alpha)
        after, speed = sgd(before, along, velocity, **sgd_settings)
    return TrainStepResult(after, speed, new_buffers, value.detach(), logits.detach())
