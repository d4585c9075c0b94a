"""Codecs that suit a parametrization which makes what it stores at the end of a run."""

from potstill.codecs import format_codec, parse_codec
from potstill.codecs.exact import Exact
from potstill.core import Codec, Parametrization, ReplacesPayload
from potstill.errors import PotstillError
from potstill.parametrize.multi_hot import MultiHot
from potstill.parametrize.rows import Rows

__all__ = ["check_rounding", "rounds_at_end"]


def check_rounding(decoder: Parametrization, codec: Codec) -> None:
    """Check that a codec leaves values alone until a set is made, where its parametrization needs that.

    Raises:
        PotstillError: it does not.
    """
    name = format_codec(codec)
    if isinstance(decoder, MultiHot) and not isinstance(codec, Exact):
        raise PotstillError(
            "parametrization multi-hot makes zeros and ones, which codec exact writes in the fewest bits, but codec "
            f"{name} is requested; leave codec out, or take parametrization pixels for real numbers"
        )
    if isinstance(decoder, Rows) and not rounds_at_end(codec):
        raise PotstillError(
            f"parametrization rows rounds to what the table can hold, but codec {name} rounds to its own levels while "
            "the set is made; take codec columns, or parametrization pixels"
        )
    if isinstance(decoder, ReplacesPayload) and not rounds_at_end(codec):
        raise PotstillError(
            "this parametrization makes at the end what it stores, such as the edges of a graph, but codec "
            f"{name} rounds while the set is made; take uint8 or another that rounds afterwards"
        )


def rounds_at_end(codec: str | Codec | None) -> bool:
    """Tell whether a store rounds at the end alone, and not while the set is made."""
    made = parse_codec(codec) if isinstance(codec, str) and codec != "auto" else codec
    return not (getattr(made, "aware", False) or getattr(made, "rate", 0))
