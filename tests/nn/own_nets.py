"""Plain networks as a newcomer writes them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """A convolution and a linear layer, of the data's shape and classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], 4, 3, padding=1)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class Rows(nn.Module):
    """An MLP in the order in which its layers do not stand."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.last = nn.Linear(5, classes)
        self.first = nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.last(torch.tanh(self.first(x.flatten(1)))), 1)


class Normed(nn.Sequential):
    """With BatchNorm, and operations in place."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16, classes),
        )  # fmt: skip


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Embedding(nn.Module):
    """No linear layer, and a word of its own on what its features are."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.head = nn.Conv2d(6, classes, 1)

    def embed(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).mean((2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x)).flatten(1)
