"""Ranges for patches, which share a few of them: post-training quantisation for condensed sets (arXiv:2603.13346).

With Q = 2^b − 1, of each patch of 5 × 5 pixels and all channels::

    a = (max − min) / Q,   z = round(−min / a),   q = clamp(round(x / a + z), 0, Q),   x̂ = (q − z) a

Then patches are put into G groups by k-means, each of which gets one (a, z) from the least and the greatest value of
all of its patches: written are the codes, the number of its group for each patch, and G ranges of two floats of 16
bits.

What differs from the paper, of which no program was found: q is clamped, and a patch of one value keeps it (there
a = 0); what is written is a and l = −z a, which is the same x̂ = l + a q; k-means takes distances between (least,
greatest) values, as z grows without bound where a patch is nearly flat; G is the largest power of two with which ranges
and group numbers take at most a tenth of what codes take (there: the largest that fits the storage of 32-bit slots);
codes are not entropy-coded in the file (`potstill.codecs.entropy` says what that would save); the rate and the batches
of
`Patches.refined` are ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.codecs.container import get_tensor, parse_int, parse_shape, unpack_codes
from potstill.codecs.palette import fit_colours, nearest_colours
from potstill.core import Encoded
from potstill.errors import PotstillError
from potstill.functional.packing import pack_bits, packed_bytes, unpack_bits
from potstill.functional.quantize import quantize

__all__ = ["Patches", "patched"]

_SHARE = 0.1
_MOST_GROUPS = 256
_MOST_FITTED = 1 << 14
"""Patches, evenly spaced, that groups are fitted to."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """A range for each patch, grouped (post-training quantisation for condensation; arXiv:2603.13346).

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 2
    """Of a value, 1 … 8 (published: 2)."""
    side: int = 5
    """Pixels of a patch along a side (published: 5)."""
    groups: int = 0
    """Ranges in all, 0 … 256; 0: as many as take at most a tenth of what the codes take."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Round during distillation too, straight through (published: after it)."""
    refine: int = 0
    """Steps of `refined` by an untrained network before a set of pixels is written; 0: none (published: 500 for CIFAR,
    2,000 for subsets of ImageNet)."""

    def __post_init__(self) -> None:
        bounds = (
            ("bits", 1, 8), ("side", 1, 1024), ("groups", 0, _MOST_GROUPS), ("labels", 1, 16), ("refine", 0, 10**6),
        )  # fmt: skip
        for name, least, most in bounds:
            if not least <= getattr(self, name) <= most:
                raise PotstillError(f"patches: {name} must be from {least} to {most}, not {getattr(self, name)}")

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def size(self, shape: tuple[int, ...], /) -> int:
        """Bytes of pictures of ``shape``."""
        _check(shape)
        shape = (math.prod(shape[:-3]), *shape[-3:])
        patches = shape[0] * math.prod(-(-s // self.side) for s in shape[-2:])
        count = self._count(shape)
        group_bits = (count - 1).bit_length()
        return packed_bytes(math.prod(shape), self.bits) + packed_bytes(patches, group_bits) + 4 * count

    def pack(self, x: Tensor, /) -> Encoded:
        """Pictures ``x`` (…, c, h, w).

        Raises:
            PotstillError: they are no pictures.
        """
        flat = self._pictures(x.detach().cpu().float())
        group, low, step = self._grouped(flat)
        q = quantize(flat, self._spread(low[group], flat), self._spread(step[group], flat), self.bits)
        group_bits = (len(low) - 1).bit_length()
        said = {
            "codec": "patches", "shape": list(x.shape), "bits": self.bits, "side": self.side, "group_bits": group_bits,
        }  # fmt: skip
        tensors = {"": pack_bits(q.flatten(), self.bits), ".low": low.half(), ".step": step.half()}
        if group_bits:
            tensors[".group"] = pack_bits(group.flatten(), group_bits)
        return Encoded(tensors, said)

    def fake_quantize(self, x: Tensor, /) -> Tensor:
        """What reading back gives, to the last bit; the gradient is 1, as ranges follow the values."""
        flat = self._pictures(x.detach())
        group, low, step = self._grouped(flat.float())
        lows, steps = (self._spread(t[group].to(x), flat) for t in (low, step))
        read = lows + steps * quantize(flat, lows, steps, self.bits).to(x)
        return read.reshape(x.shape) + (x - x.detach())

    def pack_refined(
        self,
        x: Tensor,
        features: Callable[[Tensor], Tensor],
        rng: Generator,
        steps: int = 500,
        lr: float = 0.01,
        batch: int = 64,
    ) -> Encoded:
        """Pictures moved so that a network sees in the rounded ones what it saw in ``x``, then packed.

        Adam's steps on ``‖f(x) − f(x̂(x′))‖²`` by x′, from x on, where x̂ rounds each patch in its own range, straight
        through: groups come afterwards, as published. Pictures come in random batches.

        Args:
            x: pictures (n, c, h, w), as ``features`` takes them.
            features: pictures to rows, differentiable.
            rng: draws the batches.
            steps: published: 500 for CIFAR, 2,000 for subsets of ImageNet; 0: none.
            lr: Adam's rate, in standard deviations of ``x``.
            batch: pictures of a step.
        """
        x = self._pictures(x.detach())
        moved = x.clone()
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        seen = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        rate = lr * float(x.std())
        with torch.no_grad():
            wanted = torch.cat([features(part) for part in torch.split(x, batch)])
        for _ in range(steps):
            at = torch.randperm(len(x), generator=rng)[:batch].to(x.device)
            with torch.enable_grad():
                leaf = moved[at].requires_grad_()
                loss = (features(self._each(leaf)) - wanted[at]).square().sum()
            (slope,) = torch.autograd.grad(loss, leaf)
            seen[at] += 1
            count = seen[at].reshape(-1, 1, 1, 1)
            first[at] = 0.9 * first[at] + 0.1 * slope
            second[at] = 0.999 * second[at] + 0.001 * slope.square()
            mean, square = first[at] / (1 - 0.9**count), second[at] / (1 - 0.999**count)
            moved[at] -= rate * mean / (square.sqrt() + 1e-12)
        return self.pack(moved)

    def _each(self, x: Tensor) -> Tensor:
        """Pictures with every patch rounded in a range of its own, straight through."""
        fixed = x.detach()
        lows, steps = (self._spread(t, x) for t in self._ranges(*self._ends(fixed)))
        return lows + steps * quantize(fixed, lows, steps, self.bits).to(x) + (x - fixed)

    def _pictures(self, x: Tensor) -> Tensor:
        _check(x.shape)
        return x.reshape(-1, *x.shape[-3:])

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest value of every patch (n, rows, columns); those at the end may be smaller."""
        side = min(self.side, max(x.shape[-2:]))
        return tuple(  # type: ignore[return-value]
            sign * F.max_pool2d((sign * x).amax(1, keepdim=True), side, side, ceil_mode=True)[:, 0] for sign in (-1, 1)
        )

    def _ranges(self, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """l = −z a and a."""
        step = (most - least) / ((1 << self.bits) - 1)
        zero = (-least / torch.where(step > 0, step, torch.ones_like(step))).round()
        return torch.where(step > 0, -zero * step, least), step

    def _spread(self, of_patches: Tensor, x: Tensor) -> Tensor:
        """What belongs to patches (n, rows, columns), at every pixel (n, 1, h, w)."""
        side = min(self.side, max(x.shape[-2:]))
        return _at_pixels(of_patches, side, (x.shape[-2], x.shape[-1]))

    def _count(self, shape: tuple[int, ...]) -> int:
        """Groups of pictures of ``shape`` (n, c, h, w): it alone decides."""
        patches = shape[0] * math.prod(-(-s // self.side) for s in shape[-2:])
        if self.groups:
            return min(self.groups, patches)
        room = _SHARE * packed_bytes(math.prod(shape), self.bits)
        count = 1
        while 2 * count <= min(_MOST_GROUPS, patches):
            if packed_bytes(patches, count.bit_length()) + 4 * 2 * count > room:
                break
            count *= 2
        return count

    def _grouped(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Group of every patch (n, rows, columns), and l and a of every group as the file has them, float32 (G,)."""
        least, most = self._ends(x)
        count = self._count(tuple(x.shape))
        ends = torch.stack([least.flatten(), most.flatten()], 1)[None]
        if count == 1:
            group = torch.zeros(ends.shape[1], dtype=torch.int64, device=x.device)
        else:
            kept = min(_MOST_FITTED, ends.shape[1])
            some = ends[:, torch.arange(kept, device=x.device) * ends.shape[1] // kept]
            group = nearest_colours(ends, fit_colours(some, count))[0]
        empty = torch.zeros(count, device=x.device)
        low = empty.scatter_reduce(0, group, least.flatten(), "amin", include_self=False)
        high = empty.scatter_reduce(0, group, most.flatten(), "amax", include_self=False)
        low, step = self._ranges(low, high)
        return group.reshape(least.shape), low.half().float(), step.half().float()


def _check(shape: Sequence[int]) -> None:
    if len(shape) < 4:
        raise PotstillError(
            f"patches needs pictures (…, channels, height, width), but a tensor has shape {list(shape)}; take uint"
        )


def _at_pixels(of_patches: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    h, w = size
    wide = of_patches.repeat_interleave(side, 1)[:, :h].repeat_interleave(side, 2)[:, :, :w]
    return wide[:, None]


def patched(stored: Encoded) -> Tensor:
    """What the codec ``patches`` stands for.

    Raises:
        PotstillError: codes, groups or ranges are missing, or not as many.
    """
    shape = parse_shape(stored.metadata)
    if len(shape) < 4:
        raise PotstillError(f"patches are of pictures (…, c, h, w), not {list(shape)}")
    side = min(parse_int(stored.metadata, "side", 1, 1024), max(1, *shape[-2:]))
    group_bits = parse_int(stored.metadata, "group_bits", 0, 8)
    low, step = (get_tensor(stored, suffix, (torch.float16,)).float() for suffix in (".low", ".step"))
    n, rows, columns = math.prod(shape[:-3]), -(-shape[-2] // side), -(-shape[-1] // side)
    if low.ndim != 1 or low.shape != step.shape or not 1 <= len(low) <= 1 << group_bits:
        raise PotstillError(f"its {1 << group_bits} groups need as many ranges at most, not {list(low.shape)}")
    group = torch.zeros(n * rows * columns, dtype=torch.int64)
    if group_bits:
        try:
            group = unpack_bits(get_tensor(stored, ".group", (torch.uint8,)), group_bits, n * rows * columns)
        except ValueError as error:
            raise PotstillError(str(error)) from error
    if len(group) and int(group.max()) >= len(low):
        raise PotstillError(f"its patches number more groups than the {len(low)} that there are")
    lows, steps = (_at_pixels(t[group].reshape(n, rows, columns), side, shape[-2:]) for t in (low, step))  # type: ignore[arg-type]
    q = unpack_codes(stored, shape).reshape(n, *shape[-3:])
    return (lows + steps * q.float()).reshape(shape)
