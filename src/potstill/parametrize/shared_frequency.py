"""A few cosine coefficients of each input, at the same positions for all classes.

As `potstill.parametrize.frequency` (FreD; Shin, Shin and Moon, arXiv:2311.08819), whose positions differ by class:
there the lists of positions take a fifth of a small file. One list for all costs the bytes of one, or none in zigzag
order, and one place is the same frequency in all items, which entropy coding makes use of. Ours.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError, unknown_name
from potstill.functional.transforms import dct2, idct2
from potstill.parametrize._shared import image_shape
from potstill.parametrize.frequency import by_frequency, moments, position_dtype

__all__ = ["SharedFrequency"]

_POSITIONS = "decoder/positions"
_ORDERS = ("variance", "zigzag")


@dataclass(frozen=True, kw_only=True)
class SharedFrequency:
    """Cosine coefficients at positions that all classes share.

    The payload: ``coefficients`` (n, c, m), grouped by class, from low frequencies to high ones; with ``order``
    variance also ``decoder/positions`` (m,), integers u · w + v, ascending (int16, or int32 where h · w > 32,768).

    Decoding: as ``frequency``, ``x = C_hᵀ F C_w``. The coefficients are in the order of rising u / h + v / w of their
    positions, of equal sums the smaller u · w + v first. Where no list is stored, the positions are the first m of all.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    positions: int = 0
    """Positions that are stored per channel, 1 … h · w. 0: h · w // 12, at least 1."""
    order: str = "variance"
    """``variance``: the positions of the largest variance over all classes, of up to 1,000 real images each.
    ``zigzag``: the lowest frequencies, for which no list is stored."""

    def __post_init__(self) -> None:
        if self.positions < 0:
            raise PotstillError(f"shared-frequency: at least 0 positions a channel are required, not {self.positions}")
        if self.order not in _ORDERS:
            raise unknown_name("order of shared-frequency", self.order, _ORDERS)

    @property
    def bounded(self) -> bool:
        """False: coefficients are no values of inputs."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its bytes allow, after its part of the list of positions.

        Raises:
            PotstillError: a class gets no input, the inputs are no images, or has fewer than ``positions``.
        """
        number = self._num_positions(shape)
        one = 4 * shape[0] * number
        fixed = math.ceil(number * position_dtype(shape).itemsize / len(numbers)) if self.order == "variance" else 0
        if 4 * min(numbers) < fixed + one:
            raise PotstillError(
                f"shared-frequency: one input of {number} coefficients a channel needs {fixed + one:,} bytes, but the "
                f"budget leaves a class {4 * min(numbers):,}; raise it or take fewer coefficients"
            )
        return tuple((4 * n - fixed) // one for n in numbers)

    def _num_positions(self, shape: tuple[int, ...]) -> int:
        _, h, w = image_shape("shared-frequency", shape)
        if self.positions > h * w:
            raise PotstillError(
                f"shared-frequency: {h}×{w} pixels have {h * w:,} positions, not {self.positions:,}; take fewer"
            )
        return self.positions or max(1, h * w // 12)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the coefficients of ``x`` at the stored positions; draws nothing."""
        shape = problem.train.input.shape
        number, lowest = self._num_positions(shape), by_frequency(shape)
        payload: dict[str, Tensor] = {}
        if self.order == "variance":
            mean, squares = (torch.stack(m).mean(0) for m in zip(*self._moments(problem), strict=True))
            best = (squares - mean.square())[lowest].argsort(descending=True, stable=True)[:number]
            payload[_POSITIONS] = lowest[best].sort().values.to(x.device, position_dtype(shape))
        places = _places(payload, number, shape).to(x.device)
        return {"coefficients": dct2(x).flatten(2)[..., places], **payload}

    def _moments(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the moments of each class that has samples; classes weigh alike."""
        return (moments(problem, c) for c, index in enumerate(problem.class_indices) if len(index))

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the inverse transforms (n, c, h, w)."""
        coefficients = payload["coefficients"]
        c, h, w = context.shape
        places = _places(payload, coefficients.shape[-1], context.shape).to(coefficients.device)
        flat = torch.zeros(len(coefficients), c, h * w, dtype=coefficients.dtype, device=coefficients.device)
        return idct2(flat.index_copy(2, places, coefficients).reshape(-1, c, h, w))


def _places(payload: Payload, number: int, shape: tuple[int, ...]) -> Tensor:
    """Return the position of each coefficient (m,), int64, from low frequencies to high ones."""
    lowest = by_frequency(shape)
    if _POSITIONS not in payload:
        return lowest[:number]
    is_stored = torch.zeros(len(lowest), dtype=torch.bool)
    is_stored[payload[_POSITIONS].long().cpu()] = True
    return lowest[is_stored[lowest]]
