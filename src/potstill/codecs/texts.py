"""Texts in place of the numbers that represent them."""

from dataclasses import dataclass

from torch import Tensor

from potstill.core import Encoded
from potstill.errors import PotstillError

__all__ = ["Texts"]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Real texts as they are, as an arithmetic-coded stream of their UTF-8 bytes.

    A reader encodes them by the file's encoder. For selected texts and for the parametrization ``nearest-text``.
    """

    label_bits: int = 8
    """Bits of a soft label's number."""

    def pack(self, x: Tensor, /) -> Encoded:
        """Refuse numbers.

        Raises:
            PotstillError: always, as numbers are no texts.
        """
        raise PotstillError(
            "codec texts writes real texts, but these inputs are numbers alone; choose a selection or parametrization "
            "nearest-text of data of texts, or another codec, such as uint4"
        )
