"""Small pictures with masks, written as people have them: squares of two kinds on noise."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["squares", "write_masks"]


def squares(n: int, side: int = 16, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return pictures (n, h, w, 3), and masks (n, h, w) of 0, 1 (bright squares) and 2 (dark ones)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(90, 130, (n, side, side, 3)).astype(np.uint8)
    masks: npt.NDArray[np.uint8] = np.zeros((n, side, side), np.uint8)
    for i in range(n):
        top, left = rng.integers(1, side // 2, 2)
        masks[i, top : top + 5, left : left + 6] = 1 + i % 2
    x[masks == 1] += 90
    x[masks == 2] -= 60
    return x, masks


def write_masks(root: Path, n: int = 20, *, pictures: str = "images", masks: str = "masks", side: int = 16) -> Path:
    """Write a folder of pictures and palette masks; return it."""
    x, y = squares(n, side)
    for name in (pictures, masks):
        (root / name).mkdir(parents=True)
    for i in range(n):
        Image.fromarray(x[i]).save(root / pictures / f"{i:03}.png")
        mask = Image.fromarray(y[i])
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255] + [9] * 759)
        mask.save(root / masks / f"{i:03}.png")
    return root
