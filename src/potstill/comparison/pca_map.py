"""Projection of distilled inputs onto the two principal directions of real samples."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from potstill.core import Source
from potstill.reports.comparison_page import RealProjection
from potstill.rng import generator

__all__ = ["PcaProjection"]

_MOST, _SIDE = 1000, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PcaProjection:
    """The two principal directions of real samples.

    Attributes:
        shape: of one input.
        mean: (d,) of the real samples, flattened by `_flat`.
        scale: (d,) divisor of each value: 1 for images and series, the standard deviation of a table's columns.
        axes: (d, 2) orthonormal; the largest entry of each is positive.
        real: positions of the displayed real samples.
    """

    shape: tuple[int, ...]
    mean: Tensor
    scale: Tensor
    axes: Tensor
    real: RealProjection

    @classmethod
    def fit(cls, train: Source) -> "PcaProjection | None":
        """Fit to at most 1,000 random real samples; ``None`` for named inputs, or fewer than three.

        Images above 32×32 are averaged down to it; table values are divided by their column's standard deviation.
        """
        if len(train) < 3:
            return None
        index = torch.randperm(len(train), generator=generator(0, "page", "among"))[:_MOST].sort().values
        x = train.raw(index)
        if not isinstance(x, Tensor):
            return None
        flat = _flat(x)
        mean = flat.mean(0)
        deviation = flat.std(0) if x.ndim == 2 else torch.ones_like(mean)
        scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        centred = (flat - mean) / scale
        _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
        if len(sizes) < 2 or not float(sizes[1]) > 0:
            return None
        axes = rows[:2].T
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        share = sizes[:2].square() / sizes.square().sum()
        labels = train.labels[index].cpu().numpy() if train.classes else np.zeros(len(index), dtype=np.int64)
        real = RealProjection(
            positions=(centred @ axes).float().numpy(), labels=labels.astype(np.int64), classes=tuple(train.classes),
            variance_shares=(float(share[0]), float(share[1])), samples=len(train),
        )  # fmt: skip
        return cls(shape=tuple(x.shape[1:]), mean=mean, scale=scale, axes=axes, real=real)

    def project(self, inputs: np.ndarray) -> Float[np.ndarray, "n 2"] | None:
        """Return positions of inputs in data units; ``None`` if their shape differs."""
        if tuple(inputs.shape[1:]) != self.shape:
            return None
        flat = _flat(torch.from_numpy(np.nan_to_num(inputs)))
        return (((flat - self.mean) / self.scale) @ self.axes).float().numpy()


def _flat(x: Tensor) -> Float[Tensor, "n d"]:
    x = x.cpu().double()
    if x.ndim == 4 and max(x.shape[2:]) > _SIDE:
        x = adaptive_avg_pool2d(x, (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])))
    return x.flatten(1)
