r"""DWA: Diversity-Driven Synthesis: Enhancing Dataset Distillation through Directed Weight Adjustment (Du et al.,
NeurIPS 2024, arXiv:2409.17612).

.. math::
    \tilde\theta = \theta + \sum_{k=1}^{K} \frac{\rho}{K} \frac{g_k}{\lVert g_k \rVert}, \quad
    g_k = \nabla_\theta\, \ell(f(X_0), y); \qquad
    R_l = \lVert \mu_l - \mathrm{BN}^\mu_l \rVert_2 + r_{var} \lVert \sigma^2_l - \mathrm{BN}^{\sigma^2}_l \rVert_2

SRe2L from random real pictures X₀, where every batch has a teacher of its own: the trained one, moved K steps up its
loss on X₀. Its BatchNorms keep their running statistics, and the variance has a weight of its own.

The released code moves the weights of each batch from where the batch before left them, and goes back to the trained
ones once per item of a class; here every batch begins at the trained ones. It climbs on X₀ as the first iteration's
augmentation shows it; here on X₀ itself. As with SRe2L, small pictures are rolled and neither cropped nor mirrored
(distillation_cifar.py:57).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import MethodInfo, NonNegativeInt, Problem, UnitFloat
from potstill.functional.statistics import l2_norm
from potstill.methods.decoupled._parts import ImageInitName
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import IterationContext, RecoverState, WeightedTeacher, all_teachers
from potstill.methods.decoupled._statistics import RunningStatistics
from potstill.methods.decoupled._teachers import TeacherConfig, TeacherNetwork
from potstill.methods.engine import AUTO, Auto, EngineMethod, SettingsBySize

__all__ = ["DWA", "perturb_weights"]


def perturb_weights(
    network: nn.Module, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, rho: float, steps: int
) -> dict[str, Tensor]:
    """Return the parameters after ``steps`` ascent steps of length ρ / steps on the cross-entropy of ``x``.

    Args:
        network: provides the layers, in evaluation mode.
        weights: parameters and buffers by name.
        x, y: inputs in model space and their int classes.
        rho: ρ, total length of the path.
        steps: number of steps, at least 1.
    """
    names = [n for n, _ in network.named_parameters()]
    buffers = {n: t for n, t in weights.items() if n not in set(names)}
    theta = {n: weights[n] for n in names}
    for _ in range(steps):
        with torch.enable_grad():
            leaves = {n: p.detach().requires_grad_() for n, p in theta.items()}
            loss = F.cross_entropy(functional_call(network, {**leaves, **buffers}, (x,)), y)
            grads = dict(zip(names, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))
        size = l2_norm(torch.stack([l2_norm(g) for g in grads.values()]))
        theta = {n: p.detach() + (rho / steps) * grads[n] / size for n, p in theta.items()}
    return theta


@dataclass(frozen=True, kw_only=True)
class DWA(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L from real pictures, with a teacher that is pushed away from each batch of them."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Diversity-Driven Synthesis: Enhancing Dataset Distillation through Directed Weight Adjustment",
        paper="arXiv:2409.17612", year=2024, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 400, "temperature": 30},
        use_when="Take it where the pictures of a class come out alike: pushing the teacher away from each batch "
        "makes them differ.",
        avoid_when="Avoid it with a small teacher and small pictures: it was below shrunk real ones with the same "
        "labels.",
        related=("sre2l", "lpld", "delt"),
    )  # fmt: skip

    published: ClassVar[SettingsBySize] = {
        (32, 100): {
            "iterations": 1000, "lr": 0.25, "r_var": 11.0, "ascent": 12, "batch": 100, "crop": 1.0, "flip": False,
            "jitter": 4,
        },
        (64, 200): {
            "iterations": 2000, "lr": 0.1, "r_var": 11.0, "ascent": 12, "batch": 200, "crop": 0.08, "flip": True,
            "jitter": 4,
        },
        (224, 1000): {
            "iterations": 2000, "lr": 0.25, "r_var": 2.0, "ascent": 15, "batch": 100, "crop": 0.08, "flip": True,
            "jitter": 32,
        },
    }  # fmt: skip
    """scripts/run_cifar.sh, run_tiny.sh and run_imgnet.sh, with what distillation_cifar.py:54-57, distillation_tiny.py:
    82-90 and distillation_imgnet.py:124-132 do."""

    iterations: Auto[int] = AUTO
    """Steps per batch, by data size: 1,000 as for CIFAR, 2,000 for larger images."""
    lr: Auto[float] = AUTO
    """Learning rate, by data size: 0.25; 0.1 as for Tiny-ImageNet."""
    r_bn: float = 0.01
    """Weight of the statistics (all scripts)."""
    r_var: Auto[float] = AUTO
    """Weight of variances relative to means, by data size: 11; 2 as for ImageNet-1K."""
    batch: Auto[int] = AUTO
    """Items of a batch, by data size: 100; 200 as for Tiny-ImageNet."""
    crop: Auto[UnitFloat] = AUTO
    """Minimum area of a crop, by data size: 1 as for CIFAR, 0.08 for larger ones."""
    flip: Auto[bool] = AUTO
    """Flip the batch in half of the iterations, by data size: not for images as small as CIFAR's, and never for
    digits."""
    jitter: Auto[NonNegativeInt] = AUTO
    """Maximum roll of the batch in pixels along each side, by data size: 4; 32 as for ImageNet-1K."""
    rho: float = 0.015
    """ρ: length of the weights' perturbation (all scripts)."""
    ascent: Auto[int] = AUTO
    """K: steps of that, by data size: 12; 15 as for ImageNet-1K."""
    init_from: ImageInitName = "real"
    """Initial images: random real samples."""

    def build_engine(self, problem: Problem) -> Recovery:
        base = self.recovery(problem, self.labeller())
        setup = partial(_perturbed_weights, rho=self.rho, steps=self.ascent)
        match = RunningStatistics(first=self.first_layer, var=self.r_var)
        return replace(base, batch_setup=setup, teacher_schedule=_perturbed_teachers, match=match)


def _perturbed_weights(
    members: Sequence[TeacherNetwork], x: Tensor, y: Tensor, *, rho: float, steps: int
) -> dict[str, Tensor]:
    """Return the teachers' weights for a batch, perturbed on its initial images."""
    perturbed = [perturb_weights(member.network, member.weights, x, y, rho, steps) for member in members]
    return {f"theta/{number}/{n}": p for number, theta in enumerate(perturbed) for n, p in theta.items()}


def _perturbed_teachers(context: IterationContext) -> list[WeightedTeacher]:
    """Return all teachers with the batch's weights."""

    def perturbed(teacher: WeightedTeacher) -> TeacherNetwork:
        prefix = f"theta/{teacher.number}/"
        theta = {n.removeprefix(prefix): p for n, p in context.state.memory.items() if n.startswith(prefix)}
        return replace(teacher.member, weights={**teacher.member.weights, **theta})

    return [replace(teacher, member=perturbed(teacher)) for teacher in all_teachers(context)]
