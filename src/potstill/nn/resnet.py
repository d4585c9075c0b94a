"""ResNet-18/34/50 for small images (He et al., arXiv:1512.03385; as with DC, arXiv:2006.05929, networks.py).

``large`` has the paper's first layers for ImageNet: a strided 7×7 convolution and a pooling. Instance norm is
GroupNorm(C, C). The ``ap`` variant uses average pooling in place of strides, and its classifier takes all positions in
place of their mean.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import Network
from potstill.nn.winograd import Convolution

__all__ = ["ResNet"]

_PLANS = {18: (False, (2, 2, 2, 2)), 34: (False, (3, 4, 6, 3)), 50: (True, (3, 4, 6, 3))}


def _norm(channels: int, batch: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch else nn.GroupNorm(channels, channels)


class _Block(nn.Module):
    """Residual block of two 3×3 convolutions, or with ``deep`` a bottleneck of 1×1, 3×3, 1×1."""

    def __init__(self, c_in: int, planes: int, stride: int, *, deep: bool, batch: bool, ap: bool) -> None:
        super().__init__()
        c_out = planes * (4 if deep else 1)
        step = 1 if ap else stride
        kernels = [(c_in, planes, 1, 1), (planes, planes, 3, step), (planes, c_out, 1, 1)]
        if not deep:
            kernels = [(c_in, planes, 3, step), (planes, c_out, 3, 1)]
        self.count = len(kernels)
        for n, (i, o, k, s) in enumerate(kernels, 1):
            self.add_module(f"conv{n}", Convolution(i, o, k, s, k // 2, bias=False))
            self.add_module(f"bn{n}", _norm(o, batch))
        # The average-pooled variant pools after the convolution that would have strided.
        self.pool_after = (2 if deep else 1) if ap and stride == 2 else 0
        shortcut: list[nn.Module] = []
        if stride != 1 or c_in != c_out:
            shortcut.append(nn.Conv2d(c_in, c_out, 1, step, bias=False))
            if ap:
                # The published shortcut pools even at stride 1, where ResNet-50 then cannot add the two.
                shortcut.append(nn.AvgPool2d(2) if stride == 2 else nn.Identity())
            shortcut.append(_norm(c_out, batch))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for n in range(1, self.count + 1):
            y = self.get_submodule(f"bn{n}")(self.get_submodule(f"conv{n}")(y))
            if n < self.count:
                y = F.relu(y)
            if n == self.pool_after:
                y = F.avg_pool2d(y, 2)
        return F.relu(y + self.shortcut(x))


class ResNet(Network):
    """Args: ``shape`` (c, h, w); ``depth`` 18, 34 or 50; ``batch`` norm instead of instance; ``ap`` as above;
    ``large``: ImageNet's first layers.

    The published mean over 4×4 positions is a mean over all of them here: the same at 28 and 32 pixels, and defined
    at other sizes.

    Raises:
        ValueError: the image is too small.
    """

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, *, depth: int = 18, batch: bool = False, ap: bool = False,
        large: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        deep, plan = _PLANS[depth]
        self.large = large
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = Convolution(shape[0], 64, kernel, stride, kernel // 2, bias=False)
        self.bn1 = _norm(64, batch)
        c, h, w = 64, *((side + 3) // 4 if large else side for side in shape[1:])
        for stage, repeats in enumerate(plan):
            blocks = []
            for n in range(repeats):
                stride = 2 if stage > 0 and n == 0 else 1
                blocks.append(_Block(c, 64 * 2**stage, stride, deep=deep, batch=batch, ap=ap))
                c = 64 * 2**stage * (4 if deep else 1)
                if stride == 2:
                    # A stride of 2 rounds up, a pooling of 2 rounds down.
                    h, w = (h // 2, w // 2) if ap else ((h + 1) // 2, (w + 1) // 2)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        if min(h, w) < 1:
            raise ValueError(f"nothing is left of a picture {shape[1]}×{shape[2]} after 3 poolings")
        self.mean = not ap
        self.classifier = nn.Linear(c * (1 if self.mean else h * w), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → (n, 512), at depth 50 (n, 2048); with ``ap`` times the positions left."""
        y = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            y = F.max_pool2d(y, 3, 2, 1)
        for stage in range(1, 5):
            y = self.get_submodule(f"layer{stage}")(y)
        return y.mean((2, 3)) if self.mean else y.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → logits (n, k)."""
        logits: Tensor = self.classifier(self.embed(x))
        return logits
