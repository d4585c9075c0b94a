"""ResNet-18/34/50 for small pictures (He et al., arXiv:1512.03385; as published with DC, networks.py).

Instance norm is GroupNorm(C, C). The ``ap`` variant halves by average pooling where the other strides.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["ResNet"]

_PLANS = {18: (False, (2, 2, 2, 2)), 34: (False, (3, 4, 6, 3)), 50: (True, (3, 4, 6, 3))}


def _norm(channels: int, batch: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch else nn.GroupNorm(channels, channels)


class _Block(nn.Module):
    """Two 3×3 convolutions, or with ``deep`` 1×1, 3×3, 1×1 to four times the width; and a shortcut."""

    def __init__(self, c_in: int, planes: int, stride: int, *, deep: bool, batch: bool, ap: bool) -> None:
        super().__init__()
        c_out = planes * (4 if deep else 1)
        step = 1 if ap else stride
        kernels = [(c_in, planes, 1, 1), (planes, planes, 3, step), (planes, c_out, 1, 1)]
        if not deep:
            kernels = [(c_in, planes, 3, step), (planes, c_out, 3, 1)]
        self.layers = nn.ModuleList(
            layer for i, o, k, s in kernels for layer in (nn.Conv2d(i, o, k, s, k // 2, bias=False), _norm(o, batch))
        )
        # The average-pooled variant pools after the convolution that would have strided.
        self.pool_after = (1 if deep else 0) if ap and stride == 2 else -1
        shortcut: list[nn.Module] = []
        if stride != 1 or c_in != c_out:
            shortcut.append(nn.Conv2d(c_in, c_out, 1, step, bias=False))
            if ap:
                # Published as it stands: the shortcut pools by 2 wherever it exists; strides of 1 keep the width here.
                shortcut.append(nn.AvgPool2d(2) if stride == 2 else nn.Identity())
            shortcut.append(_norm(c_out, batch))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        count = len(self.layers) // 2
        for n in range(count):
            y = self.layers[2 * n + 1](self.layers[2 * n](y))
            if n < count - 1:
                y = F.relu(y)
            if n == self.pool_after:
                y = F.avg_pool2d(y, 2)
        return F.relu(y + self.shortcut(x))


class ResNet(Network):
    """Args: ``shape`` (c, h, w), at least 8 pixels a side; depth 18, 34 or 50."""

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, *, depth: int = 18, batch: bool = False, ap: bool = False
    ) -> None:
        super().__init__()
        deep, plan = _PLANS[depth]
        self.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        self.norm1 = _norm(64, batch)
        c, blocks = 64, []
        h, w = shape[1:]
        for stage, repeats in enumerate(plan):
            for n in range(repeats):
                stride = 2 if stage > 0 and n == 0 else 1
                blocks.append(_Block(c, 64 * 2**stage, stride, deep=deep, batch=batch, ap=ap))
                c = 64 * 2**stage * (4 if deep else 1)
                if stride == 2:
                    # A stride of 2 rounds up, a pooling of 2 rounds down.
                    h, w = (h // 2, w // 2) if ap else ((h + 1) // 2, (w + 1) // 2)
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Identity() if ap else nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(c * (h * w if ap else 1), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(self.blocks(F.relu(self.norm1(self.conv1(x)))))
        return y.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits
