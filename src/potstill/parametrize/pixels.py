"""Pixels: the inputs themselves, one stored item for each input (Wang et al., arXiv:1811.10959)."""

from dataclasses import dataclass

from torch import Tensor

from potstill.core import Payload

__all__ = ["Pixels"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The inputs themselves: what is stored is what a network sees."""

    @property
    def per_item(self) -> int:
        """Inputs that decode from one stored item."""
        return 1

    def encode(self, x: Tensor, /) -> Payload:
        """``{"inputs": x}``."""
        return {"inputs": x}

    def decode(self, payload: Payload, /) -> Tensor:
        """The inputs (n, …), in the order they are stored."""
        return payload["inputs"]
