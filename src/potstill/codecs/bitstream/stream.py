"""Codes to a stream of bytes, and back.

A stream begins with one byte. Its low three bits say how it is coded: 0 by bits, 1 by distance from a centre, 2 by
one context for each decision, 4 by bits with a parent for each column. Its high five are a check: the lowest of the
CRC-32 of the values, as 32-bit numbers. Then come, as varints of seven bits, the centre, and the counts of the groups;
then the parents, one byte each, and what the range coder wrote. Zeros at its end are left out.

==========  ==============================================================================================
groups      2 · k for k counts that follow, 2 · k + 1 for k equal ones of which one follows, 0: none
parents     one byte a column: 0 for none, or 1 + the number of an earlier column
==========  ==============================================================================================
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.codecs.bitstream.layouts import COLUMNS, SORTED, Contexts, Layout
from potstill.codecs.bitstream.tables import coder_tables, log2_table
from potstill.codecs.bitstream.twin import Plane, RangeCoder, code_fast, code_mixed
from potstill.errors import PotstillError
from potstill.functional.packing import MOST_BITS
from potstill.native import has_kernel, run

__all__ = ["MOST_CODES", "MOST_MIXED", "decode_codes", "encode_codes"]

MOST_CODES: Final = 1 << 24
"""Most codes of one stream: more would take seconds to read."""
MOST_MIXED: Final = 1 << 23
"""Most decisions that are coded by mixed contexts, some seconds of a core; above it, by one context each."""
_REMEMBERED: Final = 1 << 21
"""Most values of one item that are coded by mixed contexts: their memory takes 28 bytes each."""
_TRIED = 1 << 19
"""Decisions up to which all ways are tried."""
_TREE, _FOLDED, _FAST, _PARENTS = 0, 1, 2, 4
_MOST_COLUMNS, _LEAST_ROWS = 64, 24
_SETTINGS = (1000, 100, 120, 30, 20000, 20000)
"""Limits of the counts of contexts and of maps; first and last rate of the mixer, decisions to half; first weights."""
_DAMAGED = "its stream of codes is damaged; get the file again"


def encode_codes(
    codes: NDArray[np.int64], bits: int, layout: Layout, groups: Sequence[int] = (), room: int | None = None
) -> bytes | None:
    """Encode codes of ``bits`` bits as a stream.

    Args:
        codes: (…), as their layout reads them, from 0 to 2^bits − 1.
        groups: number of items of each class in order; of items that are not as many, equal groups are scaled, and
            others ignored.
        room: bytes that it may take; by default those of the codes packed.

    Returns:
        The smallest stream that was found; ``None``: none within ``room``, or codes of this shape are not coded.
    """
    plane = layout.plane(codes.shape)
    if plane is None or not 0 < codes.size <= MOST_CODES:
        return None
    if layout is SORTED:
        codes = np.diff(codes, axis=-1, prepend=0)
        if codes.min() < 0:
            return None
    values = np.ascontiguousarray(codes, np.int32).reshape(-1)
    room = (codes.size * bits + 7) // 8 if room is None else room
    if not _are_mixed(plane, codes.size * bits):
        return _encoded(values, plane, bits, layout, bytes([_FAST]), room)
    counts = _group_header(_fitted(groups, plane[0]))
    ways = [bytes([_TREE]) + counts] if layout.fine else []
    if layout.folded:
        centre = int(np.bincount(values).argmax())
        ways.append(bytes([_FOLDED]) + _varint(centre) + counts)
    if layout is COLUMNS and any(parents := _choose_parents(values.reshape(plane[0], -1), plane, bits)):
        ways = [bytes([_PARENTS]) + ways[0][1:] + parents, *ways]
    if codes.size * bits > _TRIED:
        ways = ways[:1]
    found = [_encoded(values, plane, bits, layout, way, room) for way in ways]
    return min((stream for stream in found if stream is not None), key=len, default=None)


def decode_codes(stream: bytes, shape: tuple[int, ...], bits: int, layout: Layout) -> NDArray[np.int64]:
    """Decode what `encode_codes` returned.

    Raises:
        PotstillError: the stream is damaged, or no stream holds codes of this shape.
    """
    plane, size = layout.plane(shape), int(np.prod(shape, dtype=object))
    if plane is None or not 0 < size <= MOST_CODES or not 1 <= bits <= MOST_BITS:
        raise PotstillError(
            f"its stream must hold 1 to {MOST_CODES:,} codes of 1 to {MOST_BITS} bits, not {list(shape)} of {bits}; "
            "the file is damaged"
        )
    # No decision takes fewer than 2^-16 bits, so a short stream cannot hold very many.
    if size > (len(stream) + 8) << 19:
        raise PotstillError(_DAMAGED)
    values = np.zeros(size, np.int32)
    if not _decoded(stream, values, plane, bits, layout) or stream[0] >> 3 != _check(values):
        raise PotstillError(_DAMAGED)
    codes = values.astype(np.int64).reshape(shape)
    if layout is SORTED:
        codes = codes.cumsum(-1)
        if codes.max() >= 1 << bits:
            raise PotstillError(_DAMAGED)
    return codes


def _encoded(
    values: NDArray[np.int32], plane: Plane, bits: int, layout: Layout, head: bytes, room: int
) -> bytes | None:
    out = np.zeros(max(1, room - len(head)), np.uint8)
    body = _code(head, values.copy(), plane, bits, layout, None, out)
    if body is None or len(head) + len(body) > room:
        return None
    return bytes([head[0] | _check(values) << 3]) + head[1:] + body


def _are_mixed(plane: Plane, decisions: int) -> bool:
    """Return True if codes are few enough for contexts that are mixed."""
    return decisions <= MOST_MIXED and plane[1] * plane[2] * plane[3] <= _REMEMBERED


def _check(values: NDArray[np.int32]) -> int:
    return zlib.crc32(values.astype("<i4").tobytes()) & 31


def _decoded(stream: bytes, values: NDArray[np.int32], plane: Plane, bits: int, layout: Layout) -> bool:
    return _code(stream, values, plane, bits, layout, stream, np.zeros(1, np.uint8)) is not None


def _code(
    head: bytes, values: NDArray[np.int32], plane: Plane, bits: int, layout: Layout, stream: bytes | None,
    out: NDArray[np.uint8], used: Callable[[int], None] | None = None,
) -> bytes | None:  # fmt: skip
    """Encode the values as their head says, or decode the stream into them.

    Args:
        stream: what is decoded; ``None``: encode into ``out``.
        used: see `RangeCoder`; makes the twin do it.

    Returns:
        What was encoded, or anything; ``None``: the stream is damaged, or there was not enough room.
    """
    way, at = head[0] & 7 if head else 7, 1
    fast, folded = way == _FAST, way == _FOLDED
    decisions = len(values) * bits
    if way not in (_TREE, _FOLDED, _FAST, _PARENTS) or not (fast or _are_mixed(plane, decisions)):
        return None
    contexts = layout.contexts(plane, bits, folded=folded)
    centre, groups, parents = None, [plane[0]], [-1] * plane[3]
    if folded:
        centre, at = _read_varint(head, at)
    if not fast:
        read, at = _read_groups(head, at, plane[0])
        groups = read or groups
        if way == _PARENTS:
            parents = [p - 1 for p in head[at : at + plane[3]]]
            at += plane[3]
        if (
            at > len(head)
            or not contexts
            or sum(groups) != plane[0]
            or (centre or 0) >> bits
            or any(p >= j for j, p in enumerate(parents))
            or len(parents) != plane[3]
        ):
            return None
    data = None if stream is None else stream[at:]
    if used is not None or not has_kernel("coder"):
        coder = RangeCoder(data, used)
        if fast:
            code_fast(coder, plane, bits, values)
        else:
            classes = np.repeat(np.arange(len(groups)), groups).tolist()
            if not code_mixed(
                coder, plane, bits, centre, classes, values, parents, contexts, _slots(decisions), _SETTINGS
            ):
                return None
        body = coder.close()
        return None if body is None or (data is None and len(body) > len(out)) else body
    room = out if data is None else np.frombuffer(data or b"\0", np.uint8).copy()
    length = len(out) if data is None else len(data)
    decoding = int(data is not None)
    if fast:
        shape = torch.tensor([*plane, bits])
        memory = torch.empty((512 << 8) + (256 << 8), dtype=torch.int16)
        size = run("coder", "code_fast", decoding, shape, _tensor(values), memory, _tensor(room), length, None)
    else:
        shape = torch.tensor([*plane, bits, int(folded), centre or 0, len(contexts), _slots(decisions)])
        owners = np.repeat(np.arange(len(groups), dtype=np.int32), groups)
        plan = np.array([f for context in contexts for f in (*context, -1)], np.int32)
        size = run(
            "coder", "code_mixed", decoding, shape, _tensor(owners), _tensor(values),
            _tensor(np.array(parents, np.int32)), _tensor(plan), _tensor(np.array(_SETTINGS, np.int32)),
            _tensor(coder_tables()), torch.empty(_memory(plane, contexts, decisions), dtype=torch.int32),
            _tensor(room), length, None,
        )  # fmt: skip
    assert size is not None
    return None if not 0 <= size <= length else room[:size].tobytes()


def _tensor(array: NDArray[np.int32] | NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(array)


def _slots(decisions: int) -> int:
    """Return the binary logarithm of the slots of a context."""
    return min(20, max(12, (2 * decisions - 1).bit_length()))


def _memory(plane: Plane, contexts: Contexts, decisions: int) -> int:
    """Return the int32 values that the kernel works in."""
    _, c, h, w = plane
    learned = len(contexts) * ((1 << _slots(decisions)) + 16 * 32) + 256 * 16 * 34 + 1024 * 32 + 16 * 16 * 3
    return learned + 3 * c * (h + 3) * (w + 6) + 4 * c * h * w


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a value and where the next begins; beyond the end of ``data`` if it is cut off or too long."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    return 0, len(data) + 1


def _fitted(groups: Sequence[int], items: int) -> Sequence[int]:
    """Return the counts of groups of ``items``, none if they are not of these."""
    groups = [count for count in groups if count > 0]
    if len(set(groups)) == 1 and items % len(groups) == 0:
        groups = [items // len(groups)] * len(groups)
    return groups if len(groups) > 1 and sum(groups) == items else ()


def _group_header(groups: Sequence[int]) -> bytes:
    if len(set(groups)) == 1:  # not of no groups
        return _varint(2 * len(groups) + 1) + _varint(groups[0])
    return _varint(2 * len(groups)) + b"".join(map(_varint, groups))


def _read_groups(data: bytes, at: int, items: int) -> tuple[list[int], int]:
    """Return the counts of the groups, none where there are none; beyond the end if they are not of ``items``."""
    said, at = _read_varint(data, at)
    number, equal = divmod(said, 2)
    if number > items + len(data):
        return [], len(data) + 1
    if equal:
        each, at = _read_varint(data, at)
        return ([each] * number, at) if number * each == items else ([], len(data) + 1)
    counts = []
    for _ in range(number):
        count, at = _read_varint(data, at)
        counts.append(count)
    return (counts, at) if not number or sum(counts) == items else ([], len(data) + 1)


def _choose_parents(rows: NDArray[np.int32], plane: Plane, bits: int) -> bytes:
    """Return for each column 1 + the earlier column that tells most of it, or 0; by whole numbers alone."""
    n, w = rows.shape
    if plane[1] > 1 or not 2 <= w <= _MOST_COLUMNS or n < _LEAST_ROWS:
        return b""
    top = rows[: 1 << 14] >> max(0, bits - 4)
    n, k = len(top), int(top.max()) + 1
    weigh = log2_table(1 << 14)

    def cost(joined: NDArray[np.int32]) -> tuple[int, int]:
        """Return n · entropy in 1/256 bits, and how many values there are."""
        counts = np.bincount(joined)
        return int(weigh[n] - weigh[counts].sum()), int((counts > 0).sum())

    alone = [cost(top[:, j]) for j in range(w)]
    chosen = [0]
    for j in range(1, w):
        gains = []
        for i in range(j):
            both, kinds = cost(top[:, i] * k + top[:, j])
            learning = max(0, kinds - alone[i][1] - alone[j][1] + 1) * 128 * n.bit_length()
            gains.append(alone[i][0] + alone[j][0] - both - learning)
        best = max(range(j), key=gains.__getitem__)
        chosen.append(best + 1 if gains[best] > 0 else 0)
    return bytes(chosen)
