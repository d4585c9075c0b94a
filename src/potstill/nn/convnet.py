"""ConvNet: the field's network (Gidaris and Komodakis, CVPR 2018; as published with DC, arXiv:2006.05929, networks.py).

A block is a 3×3 convolution, a norm, an activation and a pooling that halves the picture; one linear layer follows.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["Activation", "ConvNet", "Norm", "Pooling", "default_depth"]

Activation = Literal["relu", "sigmoid", "leaky", "swish"]
Norm = Literal["instance", "batch", "layer", "group", "none"]
Pooling = Literal["avg", "max", "none"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "leaky": nn.LeakyReLU, "swish": nn.SiLU,
}  # fmt: skip


def default_depth(side: int) -> int:
    """Blocks by the picture's smaller side, so that 4×4 positions are left: 3 at 32, 4 at 64, 5 at 128, 6 at 256.

    The published programs set the depth by data set; 28 counts as 32, since a grey picture is padded.
    """
    return max(1, min(6, round(torch.tensor(max(side, 8) / 4).log2().item())))


def norm_layer(norm: Norm, channels: int, height: int, width: int) -> nn.Module:
    """``instance`` is GroupNorm with one channel per group and learned scale and shift, as published."""
    if norm == "instance":
        return nn.GroupNorm(channels, channels)
    if norm == "group":
        return nn.GroupNorm(4, channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "layer":
        return nn.LayerNorm([channels, height, width])
    return nn.Identity()


class ConvNet(Network):
    """``shape`` is (c, h, w); the rest as named. The published default: depth 3, width 128, relu, instance, avg."""

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
        c, h, w = shape
        layers: list[nn.Module] = []
        for d in range(depth):
            # A grey picture's first convolution is padded by 3, which makes 28×28 into 32×32.
            padding = 3 if c == 1 and d == 0 else 1
            layers.append(nn.Conv2d(c, width, 3, padding=padding))
            c, h, w = width, h + 2 * padding - 2, w + 2 * padding - 2
            if norm != "none":
                layers.append(norm_layer(norm, width, h, w))
            layers.append(_ACTIVATIONS[activation]())
            if pooling != "none":
                layers.append(nn.AvgPool2d(2) if pooling == "avg" else nn.MaxPool2d(2))
                h, w = h // 2, w // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(c * h * w, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits
