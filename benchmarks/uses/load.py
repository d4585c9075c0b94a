"""Data of benchmarks by name, on a device."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from photo_patches import photo_patches

import potstill
from potstill.core import Splits

__all__ = ["load"]


def load(name: str, device: str) -> Splits:
    """Return data that `potstill.load_data` knows, or ``photo-patches``: 1,000 and 500 crops of each photograph."""
    if name != "photo-patches":
        return potstill.load_data(name, device=device)
    made = photo_patches(1000, 500)
    assert made.test is not None
    return Splits(train=made.train.to(device), test=made.test.to(device))  # type: ignore[attr-defined]
