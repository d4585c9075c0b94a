r"""Users as lists of items: rows of zeros and ones, with Gumbel noise while they are made.

.. math::
    x = 1[z + s \, g > 0], \qquad g = \log u - \log(1 - u), \; u \sim U(0, 1), \qquad
    \frac{\partial x}{\partial z} = \sigma'\!\big((z + s \, g) / \tau\big) / \tau

g is the difference of two Gumbel variables, so that x is a draw of Gumbel's trick with two choices (Jang et al., ICLR
2017, arXiv:1611.01144), with the gradient straight through. Distill-CF (arXiv:2206.02626) draws the items of a fake
user from one softmax over all items, so many for each user; here each item is in the list or not, so that lists have
any length. The noise falls to 0 along a line, and what is stored is 1[z > 0].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem, Source
from potstill.errors import PotstillError
from potstill.parametrize.pixels import Pixels
from potstill.rng import draw_seed, generator

__all__ = ["MultiHot"]

_LOGITS, _DRAW = "inputs", "draw"
_LEAST = 1e-6
"""Lower clamp of u and 1 − u."""


@dataclass(frozen=True, kw_only=True)
class MultiHot:
    """Rows of zeros and ones, decoded from real numbers inside the loop, so that what a method sees is what is stored.

    The payload: ``inputs`` (n, d), of which those above 0 decode to 1; and ``draw``, the seed of the noise, the updates
    so far, and those in which it falls to 0. The file holds the rows.

    Decoding: ``x = 1`` where the stored value is above 0, else 0. While a set is made, noise is added before.

    Raises:
        PotstillError: a setting out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("ratings",)
    noise: float = 0.5
    """s at the beginning; 0: none."""
    temperature: float = 1.0
    """τ of the gradient."""
    fade: int = 600
    """Updates in which the noise falls to 0."""

    def __post_init__(self) -> None:
        if self.noise < 0 or self.temperature <= 0 or self.fade < 1:
            raise PotstillError(
                "multi-hot: noise must be at least 0, temperature above 0 and fade at least 1, but they are "
                f"{self.noise}, {self.temperature} and {self.fade}"
            )

    @property
    def bounded(self) -> bool:
        """False: the payload holds no values of inputs."""
        return False

    def bind(self, train: Source, /) -> "MultiHot":
        """Return the parametrization for the rows of ``train``.

        Raises:
            PotstillError: the data are no users.
        """
        if train.input.kind not in self.kinds:
            raise PotstillError(
                f"parametrization multi-hot is for users with lists of items, but {train.name} is {train.input.kind} "
                "data; take pixels"
            )
        return self

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the rows that the number of values allows."""
        return Pixels().sizes(numbers, shape)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return ±1 for the items that rows have and have not, and a seed of noise."""
        seed = draw_seed(rng) if self.noise else 0
        draw = torch.tensor([seed, 0, self.fade], dtype=torch.int64, device=x.device)
        return {_LOGITS: 2 * (x > 0.5).to(x) - 1, _DRAW: draw}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return rows of zeros and ones; the gradient is that of a sigmoid."""
        z, (seed, done, fade) = payload[_LOGITS], payload[_DRAW].tolist()
        strength = self.noise * max(0.0, 1 - done / fade)
        if strength > 0:
            u = torch.rand(z.shape, generator=generator(seed, "multi-hot", done)).clamp(_LEAST, 1 - _LEAST).to(z)
            z = z + strength * (u.log() - (1 - u).log())
        soft = (z / self.temperature).sigmoid()
        return soft + ((z > 0).to(soft) - soft).detach()

    def after_update(self, payload: Payload) -> Payload:
        """Return the tensors of the payload that follow an update: one more is counted."""
        return {_DRAW: payload[_DRAW] + torch.tensor([0, 1, 0], device=payload[_DRAW].device)}

    def stored(self, payload: Payload, /) -> Tensor:
        """Return the rows without noise."""
        return (payload[_LOGITS] > 0).float()

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each user."""
        return Pixels().class_rows({_LOGITS: payload[_LOGITS]}, sizes, classes)
