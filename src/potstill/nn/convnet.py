"""ConvNet (Gidaris and Komodakis, CVPR 2018; as published with DC, arXiv:2006.05929, networks.py).

A block is a 3×3 convolution, a norm, an activation and a pooling by 2; one linear layer follows.
"""

from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import Network
from potstill.errors import PotstillError
from potstill.nn.first_block_gemm import first_block, supports_first_block
from potstill.nn.fused_norm_relu_pool import InstanceReluPool
from potstill.nn.winograd import Convolution

__all__ = ["Activation", "ConvNet", "Norm", "Pooling", "default_depth"]

Activation: TypeAlias = Literal["relu", "sigmoid", "leaky", "swish"]
"""``leaky`` has slope 0.01 below 0; ``swish`` is x·σ(x)."""

Norm: TypeAlias = Literal["instance", "batch", "layer", "group", "none"]
"""``instance`` is GroupNorm with one channel per group and learned scale and shift, as published; ``group`` has 4."""

Pooling: TypeAlias = Literal["avg", "max", "none"]

_FIRST_BLOCK = 4
"""Modules of the first block in ``features``."""


def default_depth(side: int) -> int:
    """Return the depth for an image's smaller side: 2 up to 16 pixels, 3 up to 47, 4 up to 95, 5 up to 191, then 6.

    The published depths leave 4×4 positions: 3 at 32 (and at 28, which is padded), 4 at 64, 5 at 128, 6 at 256.
    """
    return 2 + sum(side >= limit for limit in (17, 48, 96, 192))


def _norm(norm: Norm, channels: int, height: int, width: int) -> nn.Module:
    if norm == "instance":
        return nn.GroupNorm(channels, channels)
    if norm == "group":
        return nn.GroupNorm(4, channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.LayerNorm([channels, height, width])


def _activation(activation: Activation) -> nn.Module:
    if activation == "relu":
        return nn.ReLU(inplace=True)
    if activation == "sigmoid":
        return nn.Sigmoid()
    if activation == "leaky":
        return nn.LeakyReLU(0.01)
    return nn.SiLU()


class ConvNet(Network):
    """ConvNet; the defaults are the published ones.

    The first convolution of a grey image is padded by 3, which makes 28×28 into 32×32. Layer norms have the true size
    also for other grey images, where the published program has the wrong one.

    Args:
        shape: (c, h, w) of an image in pixels.
        num_classes: k ≥ 1.
        depth: number of blocks, ≥ 1.
        width: channels of each block, ≥ 1; a multiple of 4 with group norm.

    Raises:
        PotstillError: ``width`` does not suit the norm.
        ValueError: the image is too small for this depth.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        *,
        depth: int = 3,
        width: int = 128,
        activation: Activation = "relu",
        norm: Norm = "instance",
        pooling: Pooling = "avg",
    ) -> None:
        super().__init__()
        if norm == "group" and width % 4:
            raise PotstillError(
                f"group norm puts channels into 4 groups, but the width is {width}; use w{width + -width % 4}"
            )
        c, h, w = shape
        layers: list[nn.Module] = []
        for d in range(depth):
            padding = 3 if c == 1 and d == 0 else 1
            layers.append(Convolution(c, width, 3, padding=padding))
            c, h, w = width, h + 2 * padding - 2, w + 2 * padding - 2
            if (norm, activation, pooling) == ("instance", "relu", "avg"):
                # One faster module in place of three; the two empty ones keep the published names of parameters.
                layers += [InstanceReluPool(width), nn.Identity(), nn.Identity()]
            else:
                if norm != "none":
                    layers.append(_norm(norm, width, h, w))
                layers.append(_activation(activation))
                if pooling != "none":
                    layers.append(nn.AvgPool2d(2) if pooling == "avg" else nn.MaxPool2d(2))
            if pooling != "none":
                h, w = h // 2, w // 2
            if min(h, w) < 1:
                raise ValueError(f"nothing is left of a picture {shape[1]}×{shape[2]} after {d + 1} poolings")
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(c * h * w, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → (n, width · positions left): 2,048 features for the default at 32×32."""
        first, second = self.features[0], self.features[1]
        if isinstance(first, nn.Conv2d) and isinstance(second, InstanceReluPool) and supports_first_block(x, first):
            features: Tensor = self.features[_FIRST_BLOCK:](first_block(x, first, second))
        else:
            features = self.features(x)
        return features.flatten(1)

    def activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the output of each block's activation, before its pooling, and the features."""
        outputs = []
        for layer in self.features:
            if isinstance(layer, InstanceReluPool):  # its three parts, one by one
                x = F.relu(F.group_norm(x, layer.num_groups, layer.weight, layer.bias, layer.eps))
                outputs.append(x)
                x = F.avg_pool2d(x, 2)
            elif isinstance(layer, nn.ReLU):
                x = F.relu(x)  # not in place: the next layer's input is kept
                outputs.append(x)
            else:
                x = layer(x)
                if isinstance(layer, nn.Sigmoid | nn.LeakyReLU | nn.SiLU):
                    outputs.append(x)
        return (*outputs, x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → logits (n, k)."""
        logits: Tensor = self.classifier(self.embed(x))
        return logits
