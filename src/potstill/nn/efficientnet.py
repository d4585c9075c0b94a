"""EfficientNet-Lite0 as a frozen feature extractor, with BatchNorms folded into convolutions.

Architecture: Tan and Le, arXiv:1905.11946, table 1, without squeeze-and-excitation and with ReLU6, as TensorFlow's
release ``lite0`` (models/official/efficientnet/lite) has it. It was written from that table.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FEATURES", "EfficientNetLite0", "Folded"]

FEATURES = 1280
"""Features per image."""

_EPSILON = 1e-3
"""Epsilon of the BatchNorms (efficientnet_lite_builder.py)."""

_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
"""Blocks, kernel size, stride of the first, expansion, channels in and out."""


class Folded(nn.Module):
    """A convolution with its BatchNorm folded in and TensorFlow's SAME padding (odd remainders right and below)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: Mapping[str, Tensor], conv: str, norm: str, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + _EPSILON).sqrt()
        folded = weights[f"{conv}.weight"] * scale[:, None, None, None]
        self.register_buffer("weight", folded.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
        self.stride, self.groups = stride, groups

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.weight.shape[-1], self.stride
        if k == 1:
            return F.conv2d(x, self.weight, self.bias)
        h, w = (max((-(-side // s) - 1) * s + k - side, 0) for side in x.shape[2:])
        if h % 2 or w % 2:
            x, (h, w) = F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2)), (0, 0)
        return F.conv2d(x, self.weight, self.bias, s, (h // 2, w // 2), groups=self.groups)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, weights: Mapping[str, Tensor], at: str, stride: int, expansion: int, wide: int) -> None:
        super().__init__()
        self.expand = Folded(weights, f"{at}._expand_conv", f"{at}._bn0") if expansion > 1 else None
        self.depthwise = Folded(weights, f"{at}._depthwise_conv", f"{at}._bn1", stride, wide)
        self.project = Folded(weights, f"{at}._project_conv", f"{at}._bn2")

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        z: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + z if z.shape == x.shape else z


class EfficientNetLite0(nn.Module):
    """Images (n, 3, h, w) in [-1, 1] to the `FEATURES` inputs of the ImageNet classifier.

    Args:
        weights: tensors by their names in efficientnet-lite-pytorch.

    Raises:
        KeyError: a tensor is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = Folded(weights, "_conv_stem", "_bn0", stride=2)
        blocks: list[_Block] = []
        for many, _, stride, expansion, narrow, out in _STAGES:
            for n in range(many):
                wide = expansion * (out if n else narrow)
                blocks.append(_Block(weights, f"_blocks.{len(blocks)}", 1 if n else stride, expansion, wide))
        self.blocks = nn.ModuleList(blocks)
        self.head = Folded(weights, "_conv_head", "_bn1")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        features: Tensor = F.relu6(self.head(x)).mean((2, 3))
        return features
