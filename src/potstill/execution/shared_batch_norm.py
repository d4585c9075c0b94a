"""BatchNorm over a batch that is shared by ranks.

Means and variances are those of the whole batch, by two differentiable sums over ranks; running statistics are updated
as in `torch.nn.BatchNorm2d`. torch's ``SyncBatchNorm`` supports GPUs alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["sync_batch_norm"]


@contextmanager
def sync_batch_norm(network: nn.Module, share: float) -> Iterator[None]:
    """Make the network's BatchNorms in training mode use statistics over all ranks, inside the ``with`` block on
    each.

    Args:
        share: this rank's fraction of the batch.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms:
        norm.forward = partial(_forward, norm, share)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: nn.modules.batchnorm._BatchNorm, share: float, x: Tensor) -> Tensor:
    axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    total = round(x.numel() / x.shape[1] / share)
    mean = _sum(wide.sum(axes)) / total
    centred = wide - mean.reshape(shape)
    variance = _sum(centred.square().sum(axes)) / total
    if norm.track_running_stats:
        _update_running_statistics(norm, mean.detach(), variance.detach() * total / max(1, total - 1))
    output = centred * torch.rsqrt(variance + norm.eps).reshape(shape)
    if norm.affine:
        output = output * norm.weight.reshape(shape) + norm.bias.reshape(shape)
    return output.to(x.dtype)


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        made = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(made)
        return made

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        made = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(made)
        return made


def _sum(x: Tensor) -> Tensor:
    summed: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return summed


def _update_running_statistics(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics in place."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    by = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), by)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), by)
