"""The default network of spectra: two convolutions along the bins."""

from torch import Tensor, nn


class Peaks(nn.Module):
    """``shape`` is (1, bins) of one input; ``classes`` their number."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(shape[0], 16, 5, padding=2), nn.ReLU(), nn.AvgPool1d(2),
            nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(),
        )  # fmt: skip
        self.last = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of spectra (n, 1, bins)."""
        return self.last(self.body(x))
