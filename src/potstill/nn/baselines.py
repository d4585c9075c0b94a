"""MLP, LeNet, AlexNet and VGG as published with DC (arXiv:2006.05929, networks.py), and a linear model."""

import math

import torch
from torch import Tensor, nn

from potstill.core import Network
from potstill.nn.winograd import Convolution

__all__ = ["MLP", "VGG", "AlexNet", "LeNet", "Linear"]

_VGG = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    13: (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    19: (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"),
}


def _output_size(features: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the number of values that ``features`` outputs per image, computed on the meta device."""
    with torch.device("meta"):
        return math.prod(features.to("meta")(torch.empty(1, *shape)).shape[1:])


class Linear(Network):
    """One linear layer: ``embed`` is the flattened input."""

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(math.prod(shape), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class MLP(Network):
    """Two hidden layers of ``width`` with relu."""

    def __init__(self, shape: tuple[int, ...], num_classes: int, *, width: int = 128) -> None:
        super().__init__()
        self.fc_1 = nn.Linear(math.prod(shape), width)
        self.fc_2 = nn.Linear(width, width)
        self.classifier = nn.Linear(width, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        return self.fc_2(self.fc_1(x.flatten(1)).relu()).relu()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class LeNet(Network):
    """LeNet-5 with relu and max pooling; a grey image is padded by 2."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], 6, 5, padding=2 if shape[0] == 1 else 0), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.fc_1 = nn.Linear(_output_size(self.features, shape), 120)
        self.fc_2 = nn.Linear(120, 84)
        self.classifier = nn.Linear(84, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        return self.fc_2(self.fc_1(self.features(x).flatten(1)).relu()).relu()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class AlexNet(Network):
    """Small AlexNet: five convolutions, one linear layer; ``batch`` adds a BatchNorm after each convolution."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int, *, batch: bool = False) -> None:
        super().__init__()
        plan = [
            (shape[0], 128, 5, 4 if shape[0] == 1 else 2, True), (128, 192, 5, 2, True),
            (192, 256, 3, 1, False), (256, 192, 3, 1, False), (192, 192, 3, 1, True),
        ]  # fmt: skip
        layers: list[nn.Module] = []
        for c_in, c_out, kernel, padding, pool in plan:
            layers.append(Convolution(c_in, c_out, kernel, padding=padding))
            if batch:
                layers.append(nn.BatchNorm2d(c_out))
            layers.append(nn.ReLU(inplace=True))
            if pool:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_output_size(self.features, shape), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class VGG(Network):
    """VGG-11/13/16/19 with instance (GroupNorm) or batch norm and one linear layer."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int, *, depth: int = 11, batch: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c = shape[0]
        for n, width in enumerate(_VGG[depth]):
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(Convolution(c, width, 3, padding=3 if shape[0] == 1 and n == 0 else 1))
            layers += [nn.BatchNorm2d(width) if batch else nn.GroupNorm(width, width), nn.ReLU(inplace=True)]
            c = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_output_size(self.features, shape), num_classes)

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits
