"""Clips of squares that move, as files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["moving_square", "write_clips", "write_frames", "write_gif"]

Frames = npt.NDArray[np.uint8]
STEPS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}


def moving_square(direction: str, seed: int, frames: int = 9, side: int = 16) -> Frames:
    """Frames (t, h, w, 3): a grey square that moves over black, and wraps around."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(side, size=2)
    dy, dx = STEPS[direction]
    clip = np.zeros((frames, side, side, 3), dtype=np.uint8)
    tone = int(rng.integers(120, 256))
    for t in range(frames):
        rows, columns = ((y + dy * t + np.arange(4)) % side, (x + dx * t + np.arange(4)) % side)
        clip[t][np.ix_(rows, columns)] = tone
    return clip


def write_gif(path: Path, clip: Frames) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [Image.fromarray(frame) for frame in clip]
    first.save(path, save_all=True, append_images=others, duration=40, loop=0)
    return path


def write_frames(folder: Path, clip: Frames, names: Sequence[str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / (names[t] if names else f"{t + 1:04}.png"))
    return folder


def write_clips(root: Path, each: int = 12) -> Path:
    """A folder of GIFs of squares by the direction in which they move."""
    for c, direction in enumerate(STEPS):
        for i in range(each):
            write_gif(root / direction / f"{i}.gif", moving_square(direction, 100 * c + i))
    return root
