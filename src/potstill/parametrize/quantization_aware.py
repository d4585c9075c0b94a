"""Quantization-aware distillation: the payload is quantized as its codec will write it, while it is optimised.

A wrapper over any parametrization. Inputs decode from the quantized payload, and gradients pass straight through
(Bengio et al., arXiv:1308.3432) to the full-precision payload. With ``learned`` the codec's levels are optimised too,
with the gradients of learned step sizes (LSQ; Esser et al., arXiv:1902.08153), as in QuADD (arXiv:2603.02411).

With a codec's ``rate`` the loss also has the price of the coded bits (`potstill.functional.rate`), as the objectives of
learned compression have. A price that adapts starts low and grows while values take more bits than planned, so that
first the loss counts and then the size, as the two stages of DD-RUO (arXiv:2507.17221).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.codecs import decode, encode_ints
from potstill.codecs.names import format_codec
from potstill.core import (
    Asset,
    Codec,
    DecodeContext,
    Encoded,
    Normalization,
    Parametrization,
    Payload,
    Problem,
    RequiresAssets,
    TargetDecoder,
)
from potstill.errors import PotstillError

__all__ = ["QuantizationAware", "SupportsFakeQuantize", "SupportsLearnedRanges", "SupportsRate"]

_RANGE = "range/"
_PRICE = "range/price"
"""An adaptive price of bits, int64: `_UNIT` times the binary logarithm."""
_UNIT = 1 << 16
_DOUBLING = 50
"""Updates in which the price doubles where values take twice the planned bits."""
_BOUND = 20
"""The price stays within 2^±`_BOUND` of its start."""


@runtime_checkable
class SupportsFakeQuantize(Protocol):
    """A codec that can quantize during distillation."""

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """Return ``decode(pack(x))`` to the last bit, with a straight-through gradient by ``x``."""
        ...


@runtime_checkable
class SupportsLearnedRanges(Protocol):
    """A codec whose levels can be optimised."""

    def fit_ranges(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the levels for ``x``, as named floating tensors."""
        ...

    def fake_quantize_with_ranges(self, x: Tensor, ranges: Mapping[str, Tensor]) -> Tensor:
        """Return ``decode(pack_with_ranges(x, ranges))`` to the last bit, with gradients by ``x`` and every range."""
        ...

    def pack_with_ranges(self, x: Tensor, ranges: Mapping[str, Tensor]) -> Encoded:
        """Encode ``x`` with these levels."""
        ...


@runtime_checkable
class SupportsRate(Protocol):
    """A codec that estimates the coded bits of values."""

    @property
    def rate(self) -> float:
        """Price of bits; 0: none."""
        ...

    def code_bits(self, x: Tensor, /) -> Tensor:
        """Return the estimated coded bits of ``x``, a scalar that is differentiable by ``x``."""
        ...


@dataclass(frozen=True, kw_only=True)
class QuantizationAware:
    """A parametrization whose payload is quantized before it is decoded.

    The payload: that of ``inner`` in full precision. With ``learned`` also the levels ``range/NAME/…`` of each floating
    tensor, and with an adaptive rate its price ``range/price``. `encode_payload` and `quantized_payload` are its final
    form.

    Raises:
        PotstillError: the codec cannot quantize during distillation, or cannot learn its levels.
    """

    inner: Parametrization
    codec: Codec
    learned: bool = False
    """Optimise the levels with the payload."""

    def __post_init__(self) -> None:
        what, kind = (
            ("learn its levels", SupportsLearnedRanges)
            if self.learned
            else ("round during distillation", SupportsFakeQuantize)
        )
        if not isinstance(self.codec, kind):
            raise PotstillError(
                f"codec {format_codec(self.codec)} cannot {what}; take uint1 to uint8, or leave "
                f"{'learned' if self.learned else 'aware'} out"
            )

    @property
    def bounded(self) -> bool:
        """As the inner parametrization: levels are values of the payload."""
        return self.inner.bounded

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the sizes of the inner parametrization."""
        return self.inner.sizes(numbers, shape)

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """Return the assets of the inner parametrization."""
        return self.inner.assets(problem) if isinstance(self.inner, RequiresAssets) else ()

    def encode(self, x: Any, problem: Problem, rng: Generator, /) -> Payload:
        """Return the payload of ``inner``, and fitted levels where they are learned."""
        payload = dict(self.inner.encode(x, problem, rng))
        if self._adapts:
            payload[_PRICE] = torch.zeros(1, dtype=torch.int64)
        if not (self.learned and isinstance(self.codec, SupportsLearnedRanges)):
            return payload
        floating = {name: t for name, t in payload.items() if t.is_floating_point()}
        levels = {_level(name, part): v for name, t in floating.items() for part, v in self.codec.fit_ranges(t).items()}
        return payload | levels

    def decode(self, payload: Payload, context: DecodeContext, /) -> Any:
        """Return inputs (n, *shape) from the quantized payload, differentiable by every floating tensor."""
        return self.inner.decode(self._quantized(payload), context)

    def decode_targets(
        self, payload: Payload, context: DecodeContext, normalization: Normalization | None, /
    ) -> Tensor:
        """Return the targets that the quantized payload holds, where ``inner`` is a `TargetDecoder`."""
        assert isinstance(self.inner, TargetDecoder)
        return self.inner.decode_targets(self._quantized(payload), context, normalization)

    def _quantized(self, payload: Payload) -> Payload:
        return {
            name: self._quantize(name, t, payload) if t.is_floating_point() else t
            for name, t in payload.items()
            if not name.startswith(_RANGE)
        }

    def _quantize(self, name: str, t: Tensor, payload: Payload) -> Tensor:
        if (levels := _levels(name, payload)) and isinstance(self.codec, SupportsLearnedRanges):
            return self.codec.fake_quantize_with_ranges(t, levels)
        assert isinstance(self.codec, SupportsFakeQuantize)  # a codec that learns can also quantize
        return self.codec.fake_quantize(t)

    @property
    def _adapts(self) -> bool:
        return self._priced and bool(getattr(self.codec, "adapt", False))

    @property
    def _priced(self) -> bool:
        return isinstance(self.codec, SupportsRate) and self.codec.rate > 0

    def bits_per_value(self, payload: Payload) -> Tensor:
        """Return the estimated coded bits of a floating value, differentiable by every tensor of the payload."""
        assert isinstance(self.codec, SupportsRate)
        floating = [t for n, t in payload.items() if t.is_floating_point() and not n.startswith(_RANGE)]
        total = torch.stack([self.codec.code_bits(t) for t in floating]).sum()
        return total / sum(t.numel() for t in floating)

    def rate_loss(self, payload: Payload) -> Tensor | None:
        """Return the price of the payload's bits, a term of the loss; ``None``: bits have no price."""
        if not self._priced or not isinstance(self.codec, SupportsRate):
            return None
        price = 2.0 ** (int(payload[_PRICE]) / _UNIT) if _PRICE in payload else 1.0
        return self.codec.rate * price * self.bits_per_value(payload)

    def next_price(self, payload: Payload) -> Payload:
        """Return the tensors of the payload that follow an update: an adaptive price; else none."""
        if not self._adapts or _PRICE not in payload:
            return {}
        with torch.no_grad():
            excess = float(self.bits_per_value(payload)) / self.codec.planned_bits - 1  # type: ignore[attr-defined]
        change = round(_UNIT * max(-1.0, min(1.0, excess)) / _DOUBLING)
        return {_PRICE: (payload[_PRICE] + change).clamp(-_BOUND * _UNIT, _BOUND * _UNIT)}

    def encode_payload(self, payload: Payload) -> Mapping[str, Encoded]:
        """Encode the inner payload; decoding it gives the quantized payload that `decode` used, bit for bit."""
        encoded: dict[str, Encoded] = {}
        for name, t in payload.items():
            if name.startswith(_RANGE):
                continue
            if not t.is_floating_point():
                encoded[name] = encode_ints(t)
            elif (levels := _levels(name, payload)) and isinstance(self.codec, SupportsLearnedRanges):
                encoded[name] = self.codec.pack_with_ranges(t, levels)
            else:
                encoded[name] = self.codec.pack(t)
        return encoded

    def quantized_payload(self, payload: Payload) -> Payload:
        """Return the inner payload as `encode_payload` decodes, on the CPU, in its own types."""
        return {name: decode(kept).to(payload[name].dtype) for name, kept in self.encode_payload(payload).items()}


def _level(name: str, part: str) -> str:
    return f"{_RANGE}{name}/{part}"


def _levels(name: str, payload: Payload) -> Mapping[str, Tensor]:
    """Return the learned levels of one tensor by name."""
    first = _level(name, "")
    found = {key.removeprefix(first): t for key, t in payload.items() if key.startswith(first)}
    return {part: t for part, t in found.items() if "/" not in part}
