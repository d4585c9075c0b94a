"""A few cosine coefficients of each input (FreD; Shin, Shin and Moon, arXiv:2311.08819, section 3).

Inputs of a class have coefficients at the same positions in frequency space; all others are zero::

    x = C_hᵀ F C_w        F[c, u, v] = a coefficient at a kept (u, v), else 0;  C: the orthonormal DCT-II

The ``kept`` positions are those of the largest explained variance over the class's real images: the covariance is
projected on single positions (eq. 6), so it is the variance of each coefficient.

Differences from the published code:

- Its DCT is not normalised, so its learning rates (1e3 to 1e9) have another scale. This one is orthonormal: a step of
  the coefficients is a step of the pixels.
- It takes the variance over the images that it starts from (``SynSet.init_mask``). Here it is over up to 1,000 real
  images of the class, as in the paper. Both average the channels before.
- It has images alone. Series (channels, length), as CondTSC (Liu et al., KDD 2024) learns them in frequency space, are
  images of one row here.
- It does not count the bytes of the positions. Here positions and counts are stored and counted: 15 inputs, not 16, for
  one 32×32 colour image.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError
from potstill.functional.transforms import dct2, idct2, low_frequencies
from potstill.parametrize._shared import image_shape

__all__ = ["Frequency", "by_frequency", "moments", "position_dtype"]

_PICTURES = 1000
"""Maximum number of real images of a class, evenly spaced, for the variance."""
_CHUNK = 100
_BYTES = 4
"""Bytes of one float32 value, and of one class's count of inputs (int32)."""


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """Cosine coefficients at the positions where a class varies most.

    They explain most of the variance of the class; the rest of each initial image is lost.

    The payload: ``coefficients`` (n, c, kept), grouped by class; ``positions`` (k, kept) integers u · w + v, ascending
    (int16, or int32 where h · w > 32,768); ``counts`` (k,) int32, the inputs of each class.

    Decoding: ``x = C_hᵀ F C_w`` for each channel. F (h, w) is 0, but at the positions (u, v) of the class it has the
    coefficients. C_n is the orthonormal DCT-II, ``C_n[u, i] = s_u · cos(π u (2 i + 1) / (2 n))``, with s_0 = √(1 / n)
    and else s_u = √(2 / n). Series (c, t) are images (c, 1, t).

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "signal")
    kept: int = 0
    """Positions kept per channel, 1 … h · w. 0: h · w // 16 of images and t // 4 of series, at least 1. Published run
    scripts: 64 of 1,024 for trajectory and distribution matching at one picture per class, 32 for gradient matching;
    2,048 of 16,384 at 128 pixels."""

    def __post_init__(self) -> None:
        if self.kept < 0:
            raise PotstillError(f"frequency: kept must be at least 0, not {self.kept}")

    @property
    def bounded(self) -> bool:
        """False: coefficients are no values of inputs."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its bytes allow, after its positions and its count.

        Raises:
            PotstillError: a class gets no input, the inputs are no images, or ``kept`` exceeds the positions.
        """
        kept = self._num_positions(shape)
        one = _BYTES * shape[0] * kept
        fixed = kept * position_dtype(_as_image(shape)).itemsize + _BYTES
        if _BYTES * min(numbers) < fixed + one:
            raise PotstillError(
                f"frequency: {kept} positions of a class and one input need {fixed + one:,} bytes, but the budget "
                f"leaves {_BYTES * min(numbers):,}; raise it or lower kept"
            )
        return tuple((_BYTES * n - fixed) // one for n in numbers)

    def _num_positions(self, shape: tuple[int, ...]) -> int:
        _, h, w = _as_image(shape)
        if self.kept > h * w:
            raise PotstillError(
                f"frequency: kept must be at most {h * w:,} for {h}×{w} pixels, not {self.kept:,}; lower it"
            )
        return self.kept or max(1, h * w // (16 if len(shape) == 3 else 4))

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the coefficients of ``x`` at the kept positions; draws nothing."""
        shape = _as_image(problem.train.input.shape)
        positions = torch.stack([self._positions(problem, c) for c in range(problem.num_classes)])
        payload = {
            "positions": positions.to(x.device, position_dtype(shape)),
            "counts": torch.tensor(problem.sizes, dtype=torch.int32, device=x.device),
        }
        where = _gather_index(payload, len(x), shape[0])
        return {"coefficients": dct2(x.reshape(len(x), *shape)).flatten(2).gather(2, where), **payload}

    def _positions(self, problem: Problem, c: int) -> Tensor:
        """Return the positions (kept,) of class ``c``, ascending, on the CPU."""
        shape = problem.train.input.shape
        # Equal variances, as in a class of one picture, go to the lower frequency.
        lowest, (mean, squares) = by_frequency(_as_image(shape)), moments(problem, c)
        best = (squares - mean.square())[lowest].argsort(descending=True, stable=True)[: self._num_positions(shape)]
        return lowest[best].sort().values

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the inverse transforms (n, c, h, w)."""
        kept = payload["coefficients"]
        c, h, w = _as_image(context.shape)
        where = _gather_index(payload, len(kept), c)
        flat = torch.zeros(len(kept), c, h * w, dtype=kept.dtype, device=kept.device)
        return idct2(flat.scatter(2, where, kept).reshape(-1, c, h, w)).reshape(-1, *context.shape)


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of images; of series (c, t) that of images of one row."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else image_shape("frequency", shape)


def position_dtype(shape: tuple[int, ...]) -> torch.dtype:
    """Return the smallest integer type that holds every position."""
    return torch.int16 if shape[1] * shape[2] <= 2**15 else torch.int32


def by_frequency(shape: tuple[int, ...]) -> Tensor:
    """Return all positions (h · w,) of images of ``shape`` in the order of u / h + v / w."""
    return low_frequencies(*shape[1:])


def moments(problem: Problem, c: int) -> tuple[Tensor, Tensor]:
    """Return the means of each coefficient and of its square (h · w,), float64, over up to 1,000 images of a class."""
    shape, index = _as_image(problem.train.input.shape), problem.class_indices[c]
    spaced = torch.linspace(0, len(index) - 1, min(len(index), _PICTURES)).round().long()
    total = torch.zeros(shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in torch.split(index[spaced], _CHUNK):
        pictures = problem.train.fetch(part).x
        assert isinstance(pictures, Tensor)  # sizes refuses all but images
        # The transform is linear: that of the channels' mean is the mean of the channels' transforms.
        grey = dct2(pictures.mean(1).reshape(-1, *shape[1:]).double()).cpu()
        total += grey.sum(0)
        squares += grey.square().sum(0)
    return (total / len(spaced)).flatten(), (squares / len(spaced)).flatten()


def _gather_index(payload: Payload, n: int, channels: int) -> Tensor:
    """Return the positions of every input and channel, int64 (n, c, kept)."""
    positions = payload["positions"].long()
    each = torch.repeat_interleave(positions, payload["counts"].long(), 0, output_size=n)
    return each[:, None].expand(-1, channels, -1)
