"""The coder in Python: the same bytes as native/coder.c, some hundred times slower."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from potstill.codecs.bitstream.tables import BUCKETS, EDGE, SPAN, coder_tables

__all__ = ["Plane", "RangeCoder", "code_fast", "code_mixed"]

Plane: TypeAlias = tuple[int, int, int, int]
"""Items, channels, height and width."""

_SETS, _STEPS, _FINAL, _LEVELS, _CHOICES, _PLACES, _WEIGHT = 3, 32, 34, 16, 1024, 256, 1 << 19
_PAD, _FAST = 4, 512
_WORD = 0xFFFFFFFF
_SHARES, _BUCKET = SPAN + 4096, SPAN + 4096 + 1024


class RangeCoder:
    """An interval of 32 bits that each decision divides by its probability.

    Args:
        data: stream to decode; ``None``: encode.
        used: called with the probability, in 1/65536, of every decision that was made.
    """

    def __init__(self, data: bytes | None, used: Callable[[int], None] | None = None) -> None:
        self.data, self.used = data, used
        self.low, self.high, self.code, self.at = 0, _WORD, 0, 0
        self.out = bytearray()
        if data is not None:
            self.code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
            self.at = 4

    def code_bit(self, y: int, p: int) -> int:
        """Encode ``y``, or decode and return it; ``p``: the probability of a 1 in 1/65536, 1 … 65535."""
        low, high, data = self.low, self.high, self.data
        middle = low + ((high - low) * p >> 16)
        if data is not None:
            y = int(self.code <= middle)
        if y:
            high = middle
        else:
            low = middle + 1
        while not (low ^ high) >> 24:
            if data is None:
                self.out.append(high >> 24)
            else:
                self.code = (self.code << 8 & _WORD) | (data[self.at] if self.at < len(data) else 0)
            self.at += 1
            low, high = low << 8 & _WORD, (high << 8 & _WORD) | 255
        self.low, self.high = low, high
        if self.used is not None:
            self.used(p if y else 65536 - p)
        return y

    def close(self) -> bytes | None:
        """Return the stream without the zeros at its end; ``None``: it ends otherwise than an encoder ends it."""
        sent = self.out if self.data is None else self.data[: self.at - 4].ljust(self.at - 4, b"\0")
        tail = (self.low + 0xFFFFFF) >> 24
        stream = bytes(sent + bytes([tail] if tail else [])).rstrip(b"\0")
        return stream if self.data is None or stream == self.data else None


def _learned(slot: int, y: int, limit: int, shares: Sequence[int]) -> int:
    p, seen = slot >> 10, slot & 1023
    p += ((4194303 if y else 0) - p) * shares[seen] >> 16
    return p << 10 | (seen + (seen < limit))


def _bounded(x: int, most: int) -> int:
    return most if x > most else -most if x < -most else x


class _Mixer:
    """Probabilities of decisions from several contexts, mixed by their logits."""

    def __init__(self, coder: RangeCoder, contexts: int, log: int, settings: Sequence[int]) -> None:
        tables = coder_tables().tolist()
        self.coder, self.contexts, self.log = coder, contexts, log
        self.squash, self.stretch = tables[:SPAN], tables[SPAN:_SHARES]
        self.shares, self.bucket = tables[_SHARES:_BUCKET], tables[_BUCKET:]
        self.limit, self.map_limit, self.rate, self.least_rate, self.half, start = settings
        self.slots: dict[int, int] = {}
        steps = [self.squash[EDGE + 1 + s * 128 - 2048 + 64] << 16 for s in range(_STEPS)]
        self.maps = steps * (contexts * len(BUCKETS))
        ends = [min(SPAN - 1, max(1, i * SPAN // (_FINAL - 1))) for i in range(_FINAL)]
        self.final = [self.squash[x] << 16 for x in ends] * (_PLACES * 16)
        self.inputs = 2 * contexts + 1
        self.weights = [[start // contexts] * (2 * contexts) + [0] for _ in range(_CHOICES)]
        self.last = [[65536 // _SETS] * _SETS for _ in range(16 * _LEVELS)]
        self.hash = [0] * contexts
        self.line = [0] * contexts
        self.time = self.place = self.choice = 0

    def open_block(self, block: int) -> None:
        """Find the slots of each context for a block of decisions."""
        for k, hashed in enumerate(self.hash):
            h = (hashed + block * 0x85EBCA6B) * 0xC2B2AE35 & _WORD
            h = (h ^ h >> 15) * 0x2C1B3C6D & _WORD
            h ^= h >> 13
            self.line[k] = (k << self.log) + (h >> (32 - self.log) & ~15)

    def decide(self, y: int, node: int, level: int) -> int:
        """Encode decision ``y``, or decode and return it; all that is known of such decisions learns from it."""
        slots, stretch, squash, shares, bucket = self.slots, self.stretch, self.squash, self.shares, self.bucket
        maps, found, mapped, seen = self.maps, [], [], []
        logits: list[int] = []
        base = 0
        for line in self.line:
            slot = slots.get(line + node, 1 << 31)
            b, logit = bucket[slot & 1023], stretch[slot >> 20]
            at = base + b * _STEPS + (logit + 2048 >> 7)
            base += len(BUCKETS) * _STEPS
            seen.append(b)
            found.append(slot)
            mapped.append(at)
            logits += (logit if b else 0, stretch[maps[at] >> 20])
        logits.append(256)
        where = node + 16 * level
        chosen = (where, 256 + seen[0] * 16 + (seen[1] if len(seen) > 1 else 0), 512 + self.choice)
        weights, last = [self.weights[s] for s in chosen], self.last[where]
        x = [
            _bounded(sum([a * b >> 8 for a, b in zip(w, logits, strict=True)]) >> 8, EDGE) for w in weights
        ]  # fmt: skip
        joined = _bounded(sum([a * b >> 8 for a, b in zip(last, x, strict=True)]) >> 8, EDGE)
        p = squash[joined + EDGE + 1]
        step, part = divmod((joined + EDGE + 1) * (_FINAL - 1), SPAN)
        f = (self.place * 16 + node) * _FINAL + step
        final = self.final
        between = ((final[f] >> 10) * (SPAN - part) + (final[f + 1] >> 10) * part) // SPAN >> 6
        y = self.coder.code_bit(y, min(65535, max(1, 3 * p + between >> 2)))
        f += 2 * part > SPAN
        final[f] = _learned(final[f], y, 255, shares)
        rate = self.least_rate + (self.rate - self.least_rate) * self.half // (self.half + self.time)
        self.time += 1
        aim = y << 16
        step = (aim - p) * rate >> 8
        for s, w in enumerate(weights):
            e = (aim - squash[x[s] + EDGE + 1]) * rate >> 8
            w[:] = [
                _WEIGHT if (new := a + (b * e + 8192 >> 14)) > _WEIGHT else -_WEIGHT if new < -_WEIGHT else new
                for a, b in zip(w, logits, strict=True)
            ]
            last[s] = _bounded(last[s] + (x[s] * step + 4096 >> 13), _WEIGHT)
        for line, slot, at in zip(self.line, found, mapped, strict=True):
            maps[at] = _learned(maps[at], y, self.map_limit, shares)
            slots[line + node] = _learned(slot, y, self.limit, shares)
        return y

    def code_tree(self, value: int, bits: int) -> int:
        """Code a value by its bits, the highest first."""
        node, out = 1, 0
        for j in range(bits):
            if j % 4 == 0:
                self.open_block(1 << j | out)
                node = 1
            y = self.decide(value >> (bits - 1 - j) & 1, node, j // 4)
            node, out = node << 1 | y, out << 1 | y
        return out

    def code_folded(self, value: int, centre: int, most: int) -> int:
        """Code a value by its side of the centre and its distance."""
        size = abs(value - centre)
        self.open_block(1 << 16)
        if self.decide(int(size == 0), 1, 0):
            return centre
        sign = 0 if centre == 0 else 1 if centre == most else self.decide(int(value < centre), 2, 0)
        reach, e = centre if sign else most - centre, 0
        while 2 << e <= reach and self.decide(int(size >= 2 << e), 3 + min(e, 12), 0):
            e += 1
        node = out = 1
        for j in range(e - 1, -1, -1):
            if (e - 1 - j) % 3 == 0:
                self.open_block(1 << 21 | sign << 20 | e << 16 | out)
                node = 1
            y = self.decide(size >> j & 1, node, 4 + (e - 1 - j) // 3)
            node, out = node << 1 | y, out << 1 | y
        return centre - out if sign else centre + out


def code_mixed(
    coder: RangeCoder, plane: Plane, bits: int, centre: int | None, classes: Sequence[int], values: NDArray[np.int32],
    parents: Sequence[int], plan: Sequence[Sequence[int]], log: int, settings: Sequence[int],
) -> bool:  # fmt: skip
    """Encode the values, or decode into them.

    Args:
        centre: values are coded by their distance from it; ``None``: by their bits.
        classes: of each item.
        values: flat, of the plane's size.
        parents: for each column an earlier one, or −1.
        plan: features of each context.
        log: binary logarithm of the slots of a context.
        settings: limits and rates of the model.

    Returns:
        Whether all values were in their range.
    """
    n, c, h, w = plane
    mixer = _Mixer(coder, len(plan), log, settings)
    folded, most, lift = centre is not None, (1 << bits) - 1, max(0, bits - 4)
    middle = 0 if centre is None else centre
    cells, pitch = c * h * w, w + _PAD + 2
    size = (h + 3) * pitch
    now, one, two = ([0] * (c * size) for _ in range(3))
    sums, every, count = [0] * cells, [0] * cells, 0
    for i in range(n):
        if i and classes[i] != classes[i - 1]:
            sums, count = [0] * cells, 0
        cell = 0
        for ch in range(c):
            for y in range(h):
                for x in range(w):
                    o = ch * size + (y + 2) * pitch + x + _PAD
                    v = _features(now, one, two, o, x, y, ch, pitch, size, w, most, lift, parents[x], middle)
                    v[11], v[13] = y * w + x, classes[i]
                    if folded:
                        v[16] = (sums[cell] * 4 // count).bit_length() if count else 32
                        v[17] = (every[cell] * 4 // i).bit_length() if i else 32
                    else:
                        v[16] = sums[cell] * 31 // (count * most) if count else 32
                        v[17] = every[cell] * 31 // (i * most) if i else 32
                    v[34] = v[16] >> 2
                    for k, context in enumerate(plan):
                        hashed = k * 0x9E3779B1 & _WORD
                        for f in context:
                            hashed = (hashed ^ (v[f] + 2 & _WORD)) * 0x9E3779B1 & _WORD
                            hashed ^= hashed >> 15
                        mixer.hash[k] = hashed
                    mixer.choice = v[16] * 4 + (1 if v[0] else 0) + (2 if v[1] else 0)
                    mixer.place = v[29] * 16 + v[30]
                    value = int(values[i * cells + cell])
                    got = mixer.code_folded(value, middle, most) if folded else mixer.code_tree(value, bits)
                    if not 0 <= got <= most:
                        return False
                    values[i * cells + cell] = now[o] = got
                    far = abs(got - middle) if folded else got
                    sums[cell] += far
                    every[cell] += far
                    cell += 1
        now, one, two = two, now, one
        now[:] = [0] * (c * size)
        count += 1
    return True


def _features(
    p: list[int], one: list[int], two: list[int], o: int, x: int, y: int, ch: int, pitch: int, size: int, w: int,
    most: int, lift: int, parent: int, centre: int,
) -> list[int]:  # fmt: skip
    """Return what is known of the place ``o`` before its value, in the order of `potstill.codecs.bitstream.layouts`."""
    mirror, right = o + w - 1 - 2 * x, x >= (w + 1) // 2
    west, north, corner, east = p[o - 1], p[o - pitch], p[o - pitch - 1], p[o - pitch + 1]
    g = min(most, max(0, west + north - corner))
    b = o - size
    before = p[b] if ch else 0
    of_parent = -1 if parent < 0 else p[o - x + parent]
    average = (2 * (west + north) + corner + east + 3) // 6
    return [
        west, north, corner, east, p[o - 2], p[o - 2 * pitch],
        p[mirror] if right else -1, p[mirror - 1] if right else -1, p[mirror + 1] if right else -1,
        before, p[b - size] if ch > 1 else before,
        0, ch, 0, one[o], two[o], 0, 0, p[o - pitch + 2], p[o - pitch - 2], one[o + 1], one[o + pitch], y, x, g,
        before + west - p[b - 1] if ch else g, before + north - p[b - pitch] if ch else g,
        p[b + 1] if ch else 0, p[b + pitch] if ch else 0, west >> lift, north >> lift, average,
        p[o - 2 * pitch - 1], p[o - 2 * pitch + 1], 0, p[mirror - pitch], g >> lift, before >> lift, int(right),
        one[o - 1], of_parent, -1 if of_parent < 0 else of_parent >> lift,
        abs(west - centre).bit_length(), abs(p[o - 2] - centre).bit_length(), abs(one[o] - centre).bit_length(),
        abs(before - centre).bit_length(), average >> lift, one[o] >> lift, p[o - 3], p[o - 4],
    ]  # fmt: skip


def code_fast(coder: RangeCoder, plane: Plane, bits: int, values: NDArray[np.int32]) -> None:
    """Encode the values, or decode into them, by one context each."""
    n, c, h, w = plane
    top, lift = min(bits, 8), max(0, bits - 3)
    slots: dict[int, int] = {}

    def code(value: int, number: int, base: int) -> int:
        node = 1
        for j in range(number - 1, -1, -1):
            p = slots.get(base + node, 32768)
            y = coder.code_bit(value >> j & 1, (p >> 4) * 16 + 8)
            slots[base + node] = p + (65535 - p >> 5) if y else p - (p >> 5)
            node = node << 1 | y
        return node - (1 << number)

    grid = values.reshape(n * c, h, w)
    for plane_values in grid:
        for y in range(h):
            for x in range(w):
                place = x % _FAST
                if h > 1:
                    west = int(plane_values[y, x - 1]) >> lift if x else 0
                    north = int(plane_values[y - 1, x]) >> lift if y else 0
                    east = int(plane_values[y - 1, x + 1]) >> lift if y and x + 1 < w else 0
                    place = west << 6 | north << 3 | east
                value = int(plane_values[y, x])
                out = code(value >> (bits - top), top, place << 8)
                if bits > 8:
                    low = code(value & ((1 << (bits - 8)) - 1), bits - 8, (_FAST + out) << 8)
                    out = out << (bits - 8) | low
                plane_values[y, x] = out
