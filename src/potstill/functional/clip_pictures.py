"""Pictures that stand for clips: means of frames, approximate rank pooling, and frames side by side.

Dynamic images: Bilen, Fernando, Gavves, Vedaldi, Gould, "Dynamic Image Networks for Action Recognition", CVPR 2016,
equation 3, whose coefficients of frame t of T are 2(T − t + 1) − (T + 1)(H_T − H_{t−1}), H_t the sum of 1/1 to 1/t.
Super images: Fan, Chen, Panda, "Can an Image Classifier Suffice for Action Recognition?", ICLR 2022, section 3.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["dynamic_image", "frame_grid", "grid_columns", "mean_thirds", "pick_frames", "rank_pooling_weights"]


def rank_pooling_weights(frames: int) -> Float[Tensor, " t"]:
    """Return the weight of each frame in approximate rank pooling, float64; their sum is 0.

    Args:
        frames: how many there are, at least 1.
    """
    t = torch.arange(1, frames + 1, dtype=torch.float64)
    harmonic = (1 / t).cumsum(0)
    before = harmonic - 1 / t
    return 2 * (frames - t + 1) - (frames + 1) * (harmonic[-1] - before)


def dynamic_image(clip: Float[Tensor, "t c h w"]) -> Float[Tensor, "c h w"]:
    """Return the dynamic image of a clip in [0, 1]: grey where nothing changes.

    Rank pooling's weighted sum is divided by twice its largest magnitude, and 0.5 is added. The publication scales from
    the smallest to the largest value, which moves the grey of a pixel that does not change from clip to clip.

    Args:
        clip: pixels in [0, 1].
    """
    weights = rank_pooling_weights(len(clip)).to(clip)
    pooled = torch.einsum("t,tchw->chw", weights, clip)
    largest = pooled.abs().amax()
    still = largest <= 1e-5 * weights.abs().sum()
    return torch.full_like(pooled, 0.5) if still else pooled / (2 * largest) + 0.5


def mean_thirds(clip: Float[Tensor, "t c h w"]) -> Float[Tensor, "c h3 w"]:
    """Return the mean frames of the first, the middle and the last third of a clip, one below the other.

    A clip of one or two frames repeats them.
    """
    frames = len(clip)
    ends = [math.floor(frames * i / 3) for i in range(4)]
    parts = [clip[min(a, frames - 1) : max(b, min(a, frames - 1) + 1)] for a, b in pairwise(ends)]
    return torch.cat([part.mean(0) for part in parts], 1)


def pick_frames(frames: int, count: int) -> list[int]:
    """Return ``count`` numbers of frames, each in the middle of one of equal stretches; short clips repeat some."""
    return [math.floor((i + 0.5) * frames / count) for i in range(count)]


def grid_columns(frames: int) -> int:
    """Return tiles in a row of a grid: the square root of their number, rounded up to a divisor."""
    return next(c for c in range(1, frames + 1) if c * c >= frames and frames % c == 0)


def frame_grid(clip: Float[Tensor, "t c h w"], rows: int, columns: int) -> Float[Tensor, "c rh cw"]:
    """Return frames of a clip as tiles of one picture, row by row in the order of time.

    Args:
        clip: any number of frames; ``rows × columns`` of them are taken, evenly spaced.
    """
    tiles = clip[pick_frames(len(clip), rows * columns)]
    _, c, h, w = tiles.shape
    grid = tiles.reshape(rows, columns, c, h, w).permute(2, 0, 3, 1, 4)
    return grid.reshape(c, rows * h, columns * w)
