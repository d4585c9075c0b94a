"""How data are to be read, as one value: what a loader of a task is given."""

from dataclasses import dataclass

import torch

from potstill.data.leaks import Duplicates

__all__ = ["Reading"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The options of `potstill.load_data` that concern every kind of data."""

    label: str | None = None
    """The column of labels or targets, or of texts."""
    seed: int = 0
    """Draws the test split where there is none."""
    test_fraction: float = 0.2
    size: tuple[int, int] | None = None
    """Height and width of pictures."""
    skip_bad: bool = False
    missing: str | None = None
    duplicates: Duplicates | None = None
    device: torch.device | str = "cpu"
