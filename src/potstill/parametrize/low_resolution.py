"""Images stored at 1 / f of their height and width, and enlarged when decoded (registered as ``small``).

f² as many fit as whole ones, and any number of them, not only multiples of f² as with ``tiles``. They decode by
bilinear interpolation (``align_corners=False``) and start from area means of the initial inputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError
from potstill.functional.transforms import resize, shrink
from potstill.parametrize._shared import image_shape

__all__ = ["LowResolution"]


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """Images at 1 / ``factor`` of their height and width.

    ``factor=2`` stores four times as many inputs in the same bytes, and enlarges them.

    The payload: ``inputs`` (n, c, ⌈h/f⌉, ⌈w/f⌉), grouped by class.

    Decoding: ``x = U_h · inputs · U_wᵀ`` for each channel, bilinear enlargement with pixels' centres at half numbers
    (``align_corners=False``). Of U (n, m), which enlarges m pixels to n, row i is at ``t = (i + 0.5) · m / n − 0.5``,
    clamped to 0 … m − 1, and has ``1 − (t − ⌊t⌋)`` in column ⌊t⌋ and ``t − ⌊t⌋`` in the next.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    factor: int = 2
    """f, at least 1."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise PotstillError(f"small: factor must be at least 1, not {self.factor}")

    @property
    def bounded(self) -> bool:
        """True: stored values are values of inputs, and interpolation does not leave their range."""
        return True

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class that its number of values allows.

        Raises:
            PotstillError: a class gets no input, or the inputs are no images.
        """
        one = math.prod(self._stored_shape(shape))
        if min(numbers) < one:
            raise PotstillError(
                f"small: one input has {one:,} numbers, but the budget leaves {min(numbers):,} to a class; raise it or "
                "factor"
            )
        return tuple(n // one for n in numbers)

    def _stored_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        c, h, w = image_shape("small", shape)
        return c, math.ceil(h / self.factor), math.ceil(w / self.factor)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return area means; draws nothing."""
        return {"inputs": shrink(x, self._stored_shape(problem.train.input.shape)[1:])}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the enlarged images (n, c, h, w), in the order in which they are stored."""
        return resize(payload["inputs"], (context.shape[-2], context.shape[-1]))

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each input."""
        return {"inputs": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}
