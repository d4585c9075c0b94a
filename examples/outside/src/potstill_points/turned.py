r"""Parametrization ``turned``: points and the angles that they are turned by, both learned (SADM, arXiv:2503.22154).

.. math:: x_i = R_z(\theta_{i3}) R_y(\theta_{i2}) R_x(\theta_{i1}) p_i

The published program moves points at a rate of 10 and angles at 0.01 (about the vertical axis y) and 0.001 (x and z).
Here one rate moves all, and an angle is ``units`` times what is stored: of SGD's rate r, the angle's is r · units².
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError

_ANGLES = 3


def rotation(angles: Tensor) -> Tensor:
    """Return the matrices (n, 3, 3) of turns about x, then y, then z by ``angles`` (n, 3), in radians."""
    (a, b, c), (p, q, r) = angles.cos().unbind(1), angles.sin().unbind(1)
    zero, one = torch.zeros_like(a), torch.ones_like(a)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).reshape(-1, 3, 3)

    x = matrix(one, zero, zero, zero, a, -p, zero, p, a)
    y = matrix(b, zero, q, zero, one, zero, -q, zero, b)
    z = matrix(c, -r, zero, r, c, zero, zero, zero, one)
    return z @ y @ x


@dataclass(frozen=True, kw_only=True)
class Turned:
    """Clouds as points and angles; the file has both, three numbers more for each cloud.

    The payload: ``points`` (n, 3, p), and ``angles`` (n, 3) about x, y and z, in ``units``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    units: tuple[float, ...] = (0.01, 0.0316, 0.01)
    """Radians of a stored 1 about x, y and z: the roots of the ratios of the published rates."""

    def __post_init__(self) -> None:
        if len(self.units) != _ANGLES or min(self.units) < 0:
            raise PotstillError(f"turned: units must be three numbers of at least 0, not {self.units}; give three")

    @property
    def bounded(self) -> bool:
        """False: points may leave the unit sphere."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the clouds of each class."""
        one = shape[0] * shape[1] + _ANGLES
        if min(numbers) < one:
            raise PotstillError(
                f"turned: a cloud takes {one:,} numbers, but a class may store {min(numbers):,}; raise it"
            )
        return tuple(n // one for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the initial clouds, not turned."""
        return {"points": x.clone(), "angles": torch.zeros(len(x), _ANGLES).to(x)}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return turned clouds (n, 3, p)."""
        angles = payload["angles"] * torch.tensor(self.units).to(payload["angles"])
        return rotation(angles) @ payload["points"]
