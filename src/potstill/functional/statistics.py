"""Statistics of what layers see, and how far they are from given ones: what decoupled methods match.

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
    "LayerStatistics",
    "batch_norm_statistics",
    "cell_moments",
    "convolution_statistics",
    "densification",
    "l2_norm",
    "mean_l2_norm",
    "moments",
    "record_statistics",
    "statistics_distance",
    "total_variation",
    "update_averages",
]

LayerStatistics: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""Statistics by layer, in the order of the network's modules, and by name: ``mean`` and ``var``, and of convolutions
``cells/mean`` and ``cells/var`` too."""

_TINY = 1e-24
"""Below this a sum of squares counts as zero: the length's slope there is zero, where the true one is not defined."""


def l2_norm(x: Tensor) -> Float[Tensor, ""]:
    """The plain L2 norm of all entries. Its gradient at zero is zero, and it is then 1e-12."""
    return x.square().sum().clamp_min(_TINY).sqrt()


def moments(a: Float[Tensor, "n c *space"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and biased variance of every channel, over samples and positions."""
    axes = [axis for axis in range(a.ndim) if axis != 1]
    return a.mean(axes), a.var(axes, correction=0)


def cell_moments(a: Float[Tensor, "n c h w"], cell: int) -> tuple[Float[Tensor, " uv"], Float[Tensor, " uv"]]:
    """Mean and biased variance of every cell of ``cell`` × ``cell`` pixels, over samples, channels and pixels.

    Both sides are first enlarged to the next multiple of ``cell`` by bilinear interpolation: a map of 20×20 has 2×2
    cells of 16.
    """
    n, c, h, w = a.shape
    u, v = -(-h // cell), -(-w // cell)
    cut = resize(a, (u * cell, v * cell)).reshape(n, c, u, cell, v, cell)
    mean, var = cut.mean((0, 1, 3, 5)), cut.var((0, 1, 3, 5), correction=0)
    return mean.flatten(), var.flatten()


def batch_norm_statistics(a: Tensor) -> dict[str, Tensor]:
    """What is matched of a BatchNorm's input (n, c, …)."""
    mean, var = moments(a)
    return {"mean": mean, "var": var}


def convolution_statistics(a: Float[Tensor, "n c h w"], cell: int) -> dict[str, Tensor]:
    """What is matched of a convolution's input: its channels' moments, and those of cells of so many pixels a side."""
    mean, var = moments(a)
    cells = cell_moments(a, cell)
    return {"mean": mean, "var": var, "cells/mean": cells[0], "cells/var": cells[1]}


def record_statistics(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    rules: Mapping[type[nn.Module], Callable[[Tensor], Mapping[str, Tensor]]],
) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    """The network's output for ``x``, and what ``rules`` take from the inputs of its layers on the way.

    Nothing stays on the network: the hooks are gone afterwards, and its parameters and buffers are not written.

    Args:
        network: gives the architecture and the mode. In train mode BatchNorm works on copies of its buffers.
        weights: every parameter and buffer by name, in place of the network's own.
        x: inputs in model space (n, …).
        rules: statistics of a layer's input, by the layer's type.

    Returns:
        The output, and the statistics of every layer of those types by the layer's name, in module order. All carry
        a graph where ``x`` does.
    """
    found: dict[str, dict[str, Tensor]] = {}
    hooks = []

    def look(name: str, rule: Callable[[Tensor], Mapping[str, Tensor]]) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def seen(module: nn.Module, inputs: tuple[Tensor]) -> None:
            # half precision overflows in a variance
            a = inputs[0].float() if inputs[0].dtype in (torch.float16, torch.bfloat16) else inputs[0]
            found[name] = dict(rule(a))  # at once: a later layer may write into its input

        return seen

    layers = {n: rule for n, m in network.named_modules() for kind, rule in rules.items() if isinstance(m, kind)}
    try:
        hooks += [network.get_submodule(n).register_forward_pre_hook(look(n, rule)) for n, rule in layers.items()]
        used = weights
        if network.training:
            buffers = {n for n, _ in network.named_buffers()}
            used = {n: t.clone() if n in buffers else t for n, t in weights.items()}
        out: Tensor = functional_call(network, dict(used), (x,))
    finally:
        for hook in hooks:
            hook.remove()
    return out, {n: found[n] for n in layers if n in found}


def statistics_distance(
    statistics: LayerStatistics, targets: LayerStatistics, *, first: float = 10.0, var_weight: float = 1.0
) -> Float[Tensor, ""]:
    """``Σ_l w_l Σ_s ‖found_ls − wanted_ls‖``, plain L2 norms, not squared, over layers l and their statistics s.

    Args:
        found: of a batch; its first layer counts ``first`` times (w_0), the others once.
        wanted: of the same layers, or of more.
        var_weight: what a variance counts, where a mean counts 1 (DWA's r_var).
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
    """Moving averages ``m·before + (1 − m)·now`` as values, with the gradient of ``now`` itself.

    G-VBSM's "score distillation". It begins at the first statistics, where the released code begins at zero.

    Args:
        before: the averages so far; a statistic that has none begins with this batch.
        now: of this batch, with a graph.
        momentum: m in [0, 1].
    """
    return {
        n: (momentum * before[n] + (1 - momentum) * s.detach()) + s - s.detach() if momentum and n in before else s
        for n, s in now.items()
    }


def total_variation(x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """The summed L2 norms of the batch's differences between neighbours: across, down and both diagonals."""
    return (
        l2_norm(x[..., :, :-1] - x[..., :, 1:])
        + l2_norm(x[..., :-1, :] - x[..., 1:, :])
        + l2_norm(x[..., 1:, :-1] - x[..., :-1, 1:])
        + l2_norm(x[..., :-1, :-1] - x[..., 1:, 1:])
    )


def mean_l2_norm(x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """The mean over samples of the L2 norm."""
    return x.flatten(1).square().sum(1).clamp_min(_TINY).sqrt().mean()


def densification(x: Float[Tensor, "n c h w"], y: Tensor, tau: float = 4.0, side: int = 32) -> Float[Tensor, ""]:
    """G-VBSM's data densification: ``Σ_c KL(softmax(λ_c / τ) ‖ softmax(λ_c))``, the first softmax taken as given.

    λ_c are the eigenvalues of the Gram matrix of class c's samples, pooled to at most ``side`` × ``side`` pixels. A
    class whose samples are alike has one great eigenvalue; the divergence falls as they become more even. It is zero
    for a class of one sample. The target, softmax(λ / τ), has no gradient (as in the released code): the slope along an
    eigenvalue is ``softmax(λ) − softmax(λ / τ)``.

    Args:
        x: samples in model space.
        y: their int classes (n,).
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
