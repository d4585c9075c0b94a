"""Bytes of a set that stores a network's weights: planned by values like them, and cut to the budget at the end.

Trained weights take fewer bytes than their bits, as their codes are coded: about a tenth less. Normal values of the
same shapes are coded as well to a few percent, so that a plan needs no training. Weights that move take a little more
(`_ROOM`). What is too large at its end loses a bit of the values of a tensor or two.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

from torch import Tensor

from potstill.codecs import Uniform, compress_encoded, decode, encode_ints, encoded_bytes, estimate_bytes, format_codec
from potstill.core import Codec, Payload, PlannedPayload, Problem
from potstill.dataset_file import Contents, Distilled, Encoding
from potstill.dataset_file.text_io import charged_bytes

__all__ = ["coarsen_tensors", "planned_payload", "planned_payload_bytes", "trim_to_fit"]

_ROOM = 0.97
"""Part of the budget that is planned for: what weights add that move."""
_MOST_CODED = 1 << 12
"""Values of a tensor that are coded to know the bytes of all."""


def planned_payload(problem: Problem) -> Payload | None:
    """Return values like those that the set will store; ``None``: its parametrization knows none."""
    part = getattr(problem.parametrization, "inner", problem.parametrization)
    return part.planned_payload(problem) if isinstance(part, PlannedPayload) else None


def planned_payload_bytes(payload: Payload, codec: Codec) -> dict[str, int]:
    """Return the bytes that tensors like these will take, coded and with room for what their training adds."""
    sizes = {}
    for name, tensor in payload.items():
        if not tensor.is_floating_point():
            sizes[name] = encoded_bytes(encode_ints(tensor))
        elif isinstance(codec, Uniform) and not codec.rate:
            sizes[name] = math.ceil(_coded_bytes(tensor, codec) / _ROOM)
        else:
            sizes[name] = estimate_bytes(codec, tuple(tensor.shape), tensor)
    return sizes


def _coded_bytes(tensor: Tensor, codec: Uniform) -> float:
    """Return the bytes of a tensor's codes, from the first of its rows where there are many."""
    rows = min(len(tensor), max(1, _MOST_CODED * len(tensor) // tensor.numel()))
    return encoded_bytes(compress_encoded(codec.pack(tensor[:rows]))) * len(tensor) / rows


def coarsen_tensors(
    contents: Contents, encoding: Encoding, values: Payload, bits: Mapping[str, int]
) -> tuple[Contents, Encoding]:
    """Return a payload of which some tensors, ``values``, are written in so many bits, and its encoding."""
    encoded = {name: Uniform(bits=count).pack(values[name]) for name, count in bits.items()}
    changed = {name: decode(part).to(contents.payload[name].dtype) for name, part in encoded.items()}
    return (
        dataclasses.replace(contents, payload={**contents.payload, **changed}),
        dataclasses.replace(encoding, encoded={**encoding.encoded, **encoded}),
    )


def trim_to_fit(
    small: Distilled, codec: Uniform, most: int | None, write: Callable[[Mapping[str, int]], Distilled],
    note: Callable[[str], None],
) -> Distilled:  # fmt: skip
    """Return the set with a bit less for the values of as few tensors as its budget needs; sizes alone decide.

    Args:
        small: the set as ``codec`` writes it.
        most: bytes of the budget; ``None``: the budget is a number of items.
        write: writes the set with so many bits for the named tensors.
        note: called with one line where values lose bits.
    """
    sizes = {name: t.numel() for name, t in small.payload.items() if t.is_floating_point()}
    bits = dict.fromkeys(sorted(sizes, key=lambda name: (sizes[name], name)), codec.bits)
    while most is not None and charged_bytes(small.metadata["bytes"]) > most and max(bits.values(), default=1) > 1:
        largest = max(bits.values())
        for name in (name for name, count in bits.items() if count == largest):  # the smallest that is enough
            coarser = {**bits, name: largest - 1}
            small = write({name: count for name, count in coarser.items() if count < codec.bits})
            if charged_bytes(small.metadata["bytes"]) <= most:
                break
        bits = coarser  # that one, or the largest
    if fewer := [name for name, count in bits.items() if count < codec.bits]:
        values = sum(sizes[name] for name in fewer)
        note(
            f"{values:,} of {sum(sizes.values()):,} values have fewer bits: as {format_codec(codec)} the set has more "
            "bytes than its budget"
        )
    return small
