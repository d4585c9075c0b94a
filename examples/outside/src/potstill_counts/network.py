"""A small network for rows: one hidden layer. Potstill takes any class that makes a plain ``torch.nn.Module``."""

import math

from torch import Tensor, nn


class Rates(nn.Module):
    """``shape`` is of one input; ``classes`` is the width that the task asks for, here 1."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 32), nn.Softplus())
        self.last = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logarithm of a rate (n, 1), less that of the training part's mean."""
        return self.last(self.hidden(x))
