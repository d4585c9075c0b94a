"""Statistics of layers' inputs and their distances, for decoupled methods.

BatchNorm statistics: Yin et al., "Dreaming to Distill", arXiv:1912.08795, as SRe2L uses them (arXiv:2306.13092).
Convolution statistics and data densification: Shao et al., G-VBSM, arXiv:2311.17950.
Legend: n samples, c channels, h w a picture, u v cells.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from potstill.functional.transforms import resize

__all__ = [
    "LayerStatistics", "batch_norm_statistics", "cell_moments", "convolution_statistics", "densification", "l2_norm",
    "mean_l2_norm", "moments", "record_statistics", "statistics_distance", "total_variation", "update_averages",
]  # fmt: skip

LayerStatistics: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""Statistics by layer, in the order of the network's modules, and by name: ``mean`` and ``var``, and of convolutions
``cells/mean`` and ``cells/var`` too."""

_TINY = 1e-24
"""Sum of squares below which a norm has a zero gradient."""


def l2_norm(x: Tensor) -> Float[Tensor, ""]:
    """Return the L2 norm of all entries; at zero it is 1e-12 with a zero gradient."""
    return x.square().sum().clamp_min(_TINY).sqrt()


def moments(a: Float[Tensor, "n c *space"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return mean and biased variance of every channel, over samples and positions."""
    axes = [axis for axis in range(a.ndim) if axis != 1]
    return a.mean(axes), a.var(axes, correction=0)


def cell_moments(a: Float[Tensor, "n c h w"], cell: int) -> tuple[Float[Tensor, " uv"], Float[Tensor, " uv"]]:
    """Return mean and biased variance of every cell of ``cell`` × ``cell`` pixels, over samples, channels and pixels.

    Both sides are first resized bilinearly to the next multiple of ``cell``: a map of 20×20 has 2×2 cells of 16.
    """
    n, c, h, w = a.shape
    u, v = -(-h // cell), -(-w // cell)
    cut = resize(a, (u * cell, v * cell)).reshape(n, c, u, cell, v, cell)
    mean, var = cut.mean((0, 1, 3, 5)), cut.var((0, 1, 3, 5), correction=0)
    return mean.flatten(), var.flatten()


def batch_norm_statistics(a: Tensor) -> dict[str, Tensor]:
    """Return the statistics of a BatchNorm's input (n, c, …) that are matched."""
    mean, var = moments(a)
    return {"mean": mean, "var": var}


def convolution_statistics(a: Float[Tensor, "n c h w"], cell: int) -> dict[str, Tensor]:
    """Return the statistics of a convolution's input: moments of channels and of cells of ``cell``² pixels."""
    mean, var = moments(a)
    cells = cell_moments(a, cell)
    return {"mean": mean, "var": var, "cells/mean": cells[0], "cells/var": cells[1]}


def record_statistics(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    rules: Mapping[type[nn.Module], Callable[[Tensor], Mapping[str, Tensor]]],
) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    """Return the network's output for ``x`` and the statistics of its layers' inputs.

    The hooks are removed afterwards; parameters and buffers are not written.

    Args:
        network: gives architecture and mode. In train mode BatchNorm works on copies of its buffers.
        weights: every parameter and buffer by name, in place of the network's own.
        x: inputs in model space (n, …).
        rules: functions from a layer's input to its statistics, by layer type.

    Returns:
        The output, and the statistics by layer name in module order, with a graph if ``x`` has one.
    """
    statistics: dict[str, dict[str, Tensor]] = {}
    hooks = []

    def make_hook(
        name: str, rule: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            # half precision overflows in a variance
            a = inputs[0].float() if inputs[0].dtype in (torch.float16, torch.bfloat16) else inputs[0]
            statistics[name] = dict(rule(a))  # at once: a later layer may write into its input

        return hook

    layers = {n: rule for n, m in network.named_modules() for kind, rule in rules.items() if isinstance(m, kind)}
    try:
        hooks += [network.get_submodule(n).register_forward_pre_hook(make_hook(n, rule)) for n, rule in layers.items()]
        used = weights
        if network.training:
            buffers = {n for n, _ in network.named_buffers()}
            used = {n: t.clone() if n in buffers else t for n, t in weights.items()}
        out: Tensor = functional_call(network, dict(used), (x,))
    finally:
        for hook in hooks:
            hook.remove()
    return out, {n: statistics[n] for n in layers if n in statistics}


def statistics_distance(
    statistics: LayerStatistics, targets: LayerStatistics, *, first: float = 10.0, var_weight: float = 1.0
) -> Float[Tensor, ""]:
    """Return ``Σ_l w_l Σ_s ‖statistics_ls − targets_ls‖``: L2 norms, not squared, over layers l and statistics s.

    Args:
        statistics: statistics of a batch; its first layer has weight ``first`` (w_0), the others 1.
        targets: statistics of at least the same layers.
        var_weight: weight of variances relative to means (DWA's r_var).
    """
    total = torch.zeros(())
    for n, (layer, parts) in enumerate(statistics.items()):
        here = [
            (var_weight if name.endswith("var") else 1.0) * l2_norm(value - targets[layer][name].to(value))
            for name, value in parts.items()
        ]
        total = total.to(here[0]) + (first if n == 0 else 1.0) * torch.stack(here).sum()
    return total


def update_averages(before: Mapping[str, Tensor], now: Mapping[str, Tensor], momentum: float) -> dict[str, Tensor]:
    """Return moving averages ``m·before + (1 − m)·now`` with the gradient of ``now`` (G-VBSM's "score distillation").

    They start at the first statistics, where the released code starts at zero.

    Args:
        before: previous averages; a missing one starts with this batch.
        now: statistics of this batch, with a graph.
        momentum: m in [0, 1].
    """
    return {
        n: (momentum * before[n] + (1 - momentum) * s.detach()) + s - s.detach() if momentum and n in before else s
        for n, s in now.items()
    }


def total_variation(x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Return the sum of L2 norms of differences between neighbours: horizontal, vertical and both diagonals."""
    return (
        l2_norm(x[..., :, :-1] - x[..., :, 1:])
        + l2_norm(x[..., :-1, :] - x[..., 1:, :])
        + l2_norm(x[..., 1:, :-1] - x[..., :-1, 1:])
        + l2_norm(x[..., :-1, :-1] - x[..., 1:, 1:])
    )


def mean_l2_norm(x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Return the mean over samples of the L2 norm."""
    return x.flatten(1).square().sum(1).clamp_min(_TINY).sqrt().mean()


def densification(x: Float[Tensor, "n c h w"], y: Tensor, tau: float = 4.0, side: int = 32) -> Float[Tensor, ""]:
    """Return G-VBSM's data densification ``Σ_c KL(softmax(λ_c / τ) ‖ softmax(λ_c))``; the first softmax is detached.

    λ_c are the eigenvalues of the Gram matrix of class c's samples, pooled to at most ``side`` × ``side`` pixels. The
    divergence falls as they become more even; it is zero for a class of one sample. As in the released code the target
    has no gradient.

    Args:
        x: samples in model space.
        y: int classes (n,).
        tau: temperature τ above 0.
        side: pixels.
    """
    h, w = x.shape[2:]
    if max(h, w) > side:
        x = F.adaptive_avg_pool2d(x, (min(h, side), min(w, side)))
    total = x.new_zeros(())
    for c in sorted(set(y.tolist())):
        own = x[y == c].flatten(1)
        if len(own) < 2:
            continue  # one eigenvalue: both distributions are certain
        # The symmetric solver: the eigenvalues of a Gram matrix are real, and their slope needs no gaps between them.
        values = torch.linalg.eigvalsh(own @ own.T)
        soft = (values.detach() / tau).log_softmax(0)
        total = total + (soft.exp() * (soft - values.log_softmax(0))).sum()
    return total
