"""Rounding while a set is made, so that it is made for the bits that it is stored in (quantisation-aware distillation).

A wrapper over any parametrization and a store that can round: whatever is decoded is decoded from what a reader of the
file will have, and gradients go straight through the rounding (Bengio et al., arXiv:1308.3432) to the full-precision
payload that the optimiser moves. Nothing else of a method changes.

With ``learned`` the levels are moved too: lowest and highest level of each group, a clip, or colours, whatever the
store rounds to. Each has the gradient of learned step sizes (LSQ; Esser et al., arXiv:1902.08153), as QuADD does
(arXiv:2603.02411: "the quantiser in the loop, learnt with the samples").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

from potstill.codecs import decode, encode_ints
from potstill.codecs.names import format_codec
from potstill.core import Asset, Codec, Encoded, Parametrization, Payload, Problem, RequiresAssets
from potstill.errors import PotstillError

__all__ = ["QuantizationAware", "SupportsFakeQuantize", "SupportsLearnedRanges"]

_RANGE = "range/"


@runtime_checkable
class SupportsFakeQuantize(Protocol):
    """A store that can round as it will be read."""

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """``read(pack(x))`` to the last bit, with a gradient by ``x`` that goes straight through."""
        ...


@runtime_checkable
class SupportsLearnedRanges(Protocol):
    """A store whose levels can be moved."""

    def fit_ranges(self, x: Tensor) -> Mapping[str, Tensor]:
        """The levels for ``x``, as named floating tensors."""
        ...

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Mapping[str, Tensor]) -> Tensor:
        """``read(packed(x, ranges))`` to the last bit, with gradients by ``x`` and by every range."""
        ...

    def pack_with_ranges(self, x: Tensor, ranges: Mapping[str, Tensor]) -> Encoded:
        """``x`` by these levels."""
        ...


@dataclass(frozen=True, kw_only=True)
class QuantizationAware:
    """A parametrization whose payload is rounded, as a store will write it, before it is decoded.

    The payload: that of ``inner``, in full precision, and where levels are learned ``range/NAME/…`` for each of its
    floating tensors. `plain` and `finished` give what is to be kept of it at the end.

    Raises:
        PotstillError: the store cannot round, or cannot learn.
    """

    inner: Parametrization
    codec: Codec
    learned: bool = False
    """Move the levels with the payload."""

    def __post_init__(self) -> None:
        what, kind = (
            ("learn its levels", SupportsLearnedRanges)
            if self.learned
            else ("round during distillation", SupportsFakeQuantize)
        )
        if not isinstance(self.codec, kind):
            raise PotstillError(
                f"store {format_codec(self.codec)} cannot {what}; take uint1 to uint8, or leave "
                f"{'learned' if self.learned else 'aware'} out"
            )

    @property
    def bounded(self) -> bool:
        """As it is without rounding: levels are values of the payload, too."""
        return self.inner.bounded

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """As many as without rounding."""
        return self.inner.sizes(numbers, shape)

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """As without rounding."""
        return self.inner.assets(problem) if isinstance(self.inner, RequiresAssets) else ()

    def with_assets(self, assets: Mapping[str, Payload], /) -> "QuantizationAware":
        """The same with what ``inner`` needs."""
        return replace(self, inner=self.inner.with_assets(assets)) if isinstance(self.inner, RequiresAssets) else self

    def encode(self, x: Any, problem: Problem, rng: Generator, /) -> Payload:
        """The payload of ``inner``, and levels fitted to it where they are learned."""
        made = dict(self.inner.encode(x, problem, rng))
        if not (self.learned and isinstance(self.codec, SupportsLearnedRanges)):
            return made
        floating = {name: t for name, t in made.items() if t.is_floating_point()}
        levels = {_level(name, part): v for name, t in floating.items() for part, v in self.codec.fit_ranges(t).items()}
        return made | levels

    def decode(self, payload: Payload, shape: tuple[int, ...], /) -> Any:
        """Inputs (n, *shape) from the rounded payload, differentiable by every floating tensor."""
        return self.inner.decode(self._rounded(payload), shape)

    def _rounded(self, payload: Payload) -> Payload:
        return {
            name: self._round(name, t, payload) if t.is_floating_point() else t
            for name, t in payload.items()
            if not name.startswith(_RANGE)
        }

    def _round(self, name: str, t: Tensor, payload: Payload) -> Tensor:
        if (levels := _levels(name, payload)) and isinstance(self.codec, SupportsLearnedRanges):
            return self.codec.fake_quantize_with_ranges(t, levels)
        assert isinstance(self.codec, SupportsFakeQuantize)  # a store that learns rounds, too
        return self.codec.fake_quantize(t)

    def encode_payload(self, payload: Payload) -> Mapping[str, Encoded]:
        """How each tensor of the inner payload is written; reading it gives what `decode` decoded from, bit for bit."""
        made: dict[str, Encoded] = {}
        for name, t in payload.items():
            if name.startswith(_RANGE):
                continue
            if not t.is_floating_point():
                made[name] = encode_ints(t)
            elif (levels := _levels(name, payload)) and isinstance(self.codec, SupportsLearnedRanges):
                made[name] = self.codec.pack_with_ranges(t, levels)
            else:
                made[name] = self.codec.pack(t)
        return made

    def quantized_payload(self, payload: Payload) -> Payload:
        """The inner payload as a reader of `finished` has it: rounded, and without levels; whole numbers as they were.

        Shapes and types stay, on the CPU.
        """
        return {name: decode(kept).to(payload[name].dtype) for name, kept in self.encode_payload(payload).items()}


def _level(name: str, part: str) -> str:
    return f"{_RANGE}{name}/{part}"


def _levels(name: str, payload: Payload) -> Mapping[str, Tensor]:
    """The learned levels of one tensor, by their own names."""
    first = _level(name, "")
    found = {key.removeprefix(first): t for key, t in payload.items() if key.startswith(first)}
    return {part: t for part, t in found.items() if "/" not in part}
