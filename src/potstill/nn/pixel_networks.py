"""Networks with an answer for each place: a small U-Net, a fully convolutional ConvNet, and a centre-point detector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["CenterNet", "FCN2d", "PixelHead", "UNet", "default_depth_2d"]

_GROUP = 8
"""Channels that are normalised together."""
_LEAST = 4
"""Shorter side of the coarsest map of a default depth, in pixels."""


def default_depth_2d(side: int) -> int:
    """Return how often a picture of this shorter side is halved: 1 to 3 times."""
    return max(1, min(3, (side // _LEAST).bit_length() - 1))


class PixelHead(nn.Module):
    """Logits of each pixel (n, k, *size) from flattened maps of features (n, channels · h · w).

    The last layer is a convolution of 1 × 1; maps smaller than ``size`` are enlarged bilinearly after it.
    """

    def __init__(self, channels: int, maps: tuple[int, int], size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.shape, self.size = (channels, *maps), size
        self.conv = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.conv(features.reshape(len(features), *self.shape))
        if self.shape[1:] == self.size:
            return logits
        return F.interpolate(logits, size=self.size, mode="bilinear", align_corners=False)


def _block(c_in: int, c_out: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in range(convolutions):
        groups = max(1, c_out // _GROUP) if c_out % _GROUP == 0 else 1
        layers += [
            nn.Conv2d(c_out if n else c_in, c_out, 3, padding=1), nn.GroupNorm(groups, c_out), nn.ReLU(inplace=True),
        ]  # fmt: skip
    return nn.Sequential(*layers)


class UNet(Network):
    """U-Net (arXiv:1505.04597) with padding, GroupNorm and nearest-neighbour enlarging; ``embed`` is the last map.

    Args:
        shape: of a picture (c, h, w), of any size that ``depth`` halvings leave a pixel of.
        num_classes: classes of a pixel.
        depth: halvings.
        width: channels of the first block; each halving doubles them.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        c, h, w = shape
        if min(h, w) >> depth < 1:
            raise ValueError(f"{depth} halvings of {h}×{w} leave no pixel")
        widths = [width << n for n in range(depth + 1)]
        self.down = nn.ModuleList(_block(c_in, c_out, 2) for c_in, c_out in zip([c, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            _block(deep + flat, flat, 2) for flat, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.classifier = PixelHead(width, (h, w), (h, w), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for n, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if n else x)
            maps.append(x)
        for block, beside in zip(self.up, maps[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, size=beside.shape[-2:], mode="nearest"), beside], 1))
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class FCN2d(Network):
    """Fully convolutional network (after arXiv:1411.4038): blocks of one convolution, each halved by its mean, and
    logits that are enlarged bilinearly; ``embed`` is the coarse map.

    Args:
        shape, num_classes, depth: as for `UNet`; the last block is not halved.
        width: channels of every block.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        c, h, w = shape
        if min(h, w) >> depth < 1:
            raise ValueError(f"{depth} halvings of {h}×{w} leave no pixel")
        self.blocks = nn.ModuleList(_block(width if n else c, width, 1) for n in range(depth + 1))
        self.classifier = PixelHead(width, (h >> depth, w >> depth), (h, w), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        for n, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2) if n else x)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class CenterNet(Network):
    """Small network for centres of objects (after "Objects as Points", arXiv:1904.07850): strided convolutions and two
    more, of which the first is dilated, at the coarse size; ``embed`` is the last map.

    The paper's networks are deep ones that go down to a 32nd of the size and back up to a quarter.

    Args:
        shape: of a picture (c, h, w).
        num_classes: outputs of each place (`potstill.tasks.ObjectDetection.outputs`).
        depth: halvings: 2 for maps of a quarter of the picture's size.
        width: channels of the first convolution; all others have twice as many.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        c, h, w = shape
        if min(h, w) >> depth < 1:
            raise ValueError(f"{depth} halvings of {h}×{w} leave no pixel")
        for _ in range(depth):
            h, w = (h + 1) // 2, (w + 1) // 2
        halved = [
            _convolution(c if n == 0 else width if n == 1 else 2 * width, width if n == 0 else 2 * width, stride=2)
            for n in range(depth)
        ]
        last = width if depth == 1 else 2 * width
        self.blocks = nn.Sequential(
            *halved, _convolution(last, 2 * width, dilation=2), _convolution(2 * width, 2 * width)
        )
        self.classifier = PixelHead(2 * width, (h, w), (h, w), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        maps: Tensor = self.blocks(x)
        return maps.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


def _convolution(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    groups = max(1, c_out // _GROUP) if c_out % _GROUP == 0 else 1
    convolution = nn.Conv2d(c_in, c_out, 3, stride, padding=dilation, dilation=dilation)
    return nn.Sequential(convolution, nn.GroupNorm(groups, c_out), nn.ReLU(inplace=True))
