"""Networks of series (n, channels, length): a ConvNet along time, FCN and InceptionTime; DLinear for forecasts.

FCN: Wang, Yan and Oates, "Time series classification from scratch with deep neural networks", arXiv:1611.06455.
InceptionTime: Fawaz et al., arXiv:1909.04939, figures 1 and 2. Their even kernels have one point less here. The ConvNet
is that of DC (arXiv:2006.05929) with one axis for two. DLinear: Zeng et al., "Are transformers effective for time
series forecasting?", arXiv:2205.13504. Norms are of each sample (instance) unless ``batch`` is in the
name: a batch of a small set says little of a norm over it.
"""

import torch
from torch import Tensor, nn

from potstill.core import Network

__all__ = ["FCN", "ConvNet1d", "DLinear", "InceptionTime", "default_depth_1d"]


def default_depth_1d(length: int) -> int:
    """Return the depth that leaves 8 to 15 points of a series, from 1 to 6 blocks. Ours."""
    return max(1, min(6, length.bit_length() - 4))


def _norm(channels: int, batch: bool) -> nn.Module:
    return nn.BatchNorm1d(channels) if batch else nn.GroupNorm(channels, channels)


def _convolution(before: int, after: int, kernel: int, *, bias: bool = True) -> nn.Module:
    """Return a convolution that leaves the length as it is."""
    return nn.Conv1d(before, after, kernel, padding=kernel // 2, bias=bias)


class ConvNet1d(Network):
    """Blocks of a convolution of 5 points, a norm, relu and a mean pooling by 2; one linear layer on all that is left.

    Args:
        shape: (channels, length) of a series.
        num_classes: k ≥ 1.
        depth: number of blocks, ≥ 1.
        width: channels of each block, ≥ 1.
        batch: batch norm in place of instance norm.

    Raises:
        ValueError: the series is too short for this depth.
    """

    def __init__(
        self, shape: tuple[int, int], num_classes: int, *, depth: int = 3, width: int = 64, batch: bool = False
    ) -> None:
        super().__init__()
        channels, length = shape
        layers: list[nn.Module] = []
        for d in range(depth):
            layers += [_convolution(channels, width, 5), _norm(width, batch), nn.ReLU(), nn.AvgPool1d(2)]
            channels, length = width, length // 2
            if length < 1:
                raise ValueError(f"nothing is left of a series of {shape[1]} points after {d + 1} poolings")
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * length, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(n, channels, length) → (n, width · points left)."""
        features: Tensor = self.features(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class FCN(Network):
    """Three convolutions of 7, 5 and 3 points with norm and relu, the mean over time, one linear layer.

    Args:
        shape: (channels, length) of a series.
        num_classes: k ≥ 1.
        width: channels of the first and the third convolution; the second has twice as many. Published: 128.
        batch: batch norm, as published, in place of instance norm.
    """

    def __init__(self, shape: tuple[int, int], num_classes: int, *, width: int = 32, batch: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = shape[0]
        for after, kernel in ((width, 7), (2 * width, 5), (width, 3)):
            layers += [_convolution(before, after, kernel), _norm(after, batch), nn.ReLU()]
            before = after
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(n, channels, length) → (n, width)."""
        features: Tensor = self.features(x)
        return features.mean(2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class _Inception(nn.Module):
    """Convolutions of 39, 19 and 9 points behind a bottleneck, beside a maximum of 3 points; norm and relu."""

    def __init__(self, before: int, width: int, batch: bool) -> None:
        super().__init__()
        narrow = width if before > 1 else before
        self.bottleneck = _convolution(before, width, 1, bias=False) if before > 1 else nn.Identity()
        self.branches = nn.ModuleList(_convolution(narrow, width, kernel, bias=False) for kernel in (39, 19, 9))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, padding=1), _convolution(before, width, 1, bias=False))
        self.norm = _norm(4 * width, batch)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        out: Tensor = self.norm(torch.cat([*(branch(narrow) for branch in self.branches), self.pooled(x)], 1))
        return out.relu()


class InceptionTime(Network):
    """Inception blocks with a shortcut around every three, the mean over time, one linear layer.

    Args:
        shape: (channels, length) of a series.
        num_classes: k ≥ 1.
        depth: number of blocks, ≥ 1. Published: 6.
        width: channels of each of a block's four parts. Published: 32.
        batch: batch norm, as published, in place of instance norm.
    """

    def __init__(
        self, shape: tuple[int, int], num_classes: int, *, depth: int = 3, width: int = 16, batch: bool = False
    ) -> None:
        super().__init__()
        self.blocks, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        before = start = shape[0]
        for d in range(depth):
            self.blocks.append(_Inception(before, width, batch))
            before = 4 * width
            if d % 3 == 2:
                self.shortcuts.append(nn.Sequential(_convolution(start, before, 1, bias=False), _norm(before, batch)))
                start = before
        self.classifier = nn.Linear(before, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(n, channels, length) → (n, 4 · width)."""
        start = x
        for d, block in enumerate(self.blocks):
            x = block(x)
            if d % 3 == 2:
                x = start = (x + self.shortcuts[d // 3](start)).relu()
        return x.mean(2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class DLinear(Network):
    """A forecast of two linear layers: of a window's moving average, and of what it leaves. Variables share both.

    Args:
        shape: (variables, window) of an input.
        outputs: values to forecast, variable by variable: a multiple of the variables.
        kernel: points of the moving average, which repeats the ends of the window; odd. Published: 25.

    Raises:
        ValueError: there are not as many values for each variable, or the kernel is even.
    """

    def __init__(self, shape: tuple[int, int], outputs: int, *, kernel: int = 25) -> None:
        super().__init__()
        variables, window = shape
        if outputs % variables:
            raise ValueError(f"{outputs} values are not as many for each of {variables} variables")
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of a moving average must be odd, not {kernel}")
        self.kernel = kernel
        self.classifier = nn.Sequential(_TwoLinear(window, outputs // variables), nn.Flatten())

    def embed(self, x: Tensor) -> Tensor:
        """(n, v, w) → (n, v · 2w): of each variable the moving average, then the rest."""
        side = self.kernel // 2
        padded = torch.cat([x[..., :1].expand(-1, -1, side), x, x[..., -1:].expand(-1, -1, side)], 2)
        trend = nn.functional.avg_pool1d(padded, self.kernel, 1)
        return torch.cat([trend, x - trend], 2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        forecast: Tensor = self.classifier(self.embed(x))
        return forecast


class _TwoLinear(nn.Module):
    """The sum of a linear layer of the moving average and one of the rest, for each variable alike."""

    def __init__(self, window: int, horizon: int) -> None:
        super().__init__()
        self.window = window
        self.trend, self.rest = nn.Linear(window, horizon), nn.Linear(window, horizon)

    def forward(self, features: Tensor) -> Tensor:
        parts = features.reshape(len(features), -1, 2 * self.window)
        forecast: Tensor = self.trend(parts[..., : self.window]) + self.rest(parts[..., self.window :])
        return forecast
