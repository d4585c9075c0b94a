"""Ranges shared by groups of patches: post-training quantization of condensed sets (arXiv:2603.13346).

With Q = 2^b − 1, of each patch of 5 × 5 pixels and all channels::

    a = (max − min) / Q,   z = round(−min / a),   q = clamp(round(x / a + z), 0, Q),   x̂ = (q − z) a

k-means puts patches into G groups, each with one (a, z) from the least and the greatest value of its patches. Codes,
the group of each patch, and G ranges of two float16 are written.

Differences from the paper, of which no program was found: q is clamped, and a patch of one value keeps it (there a =
0); a and l = −z a are written, which is the same x̂ = l + a q; k-means takes distances between (least, greatest)
values, as z grows without bound where a patch is nearly flat; G is the largest power of two with which ranges and group
numbers take at most a tenth of the codes (there: the largest that fits 32-bit slots); codes are not entropy-coded in
the file; rate and batches of `Patches.pack_refined` are ours.
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

__all__ = ["Patches", "decode_patches"]

_SHARE = 0.1
_MOST_GROUPS = 256
_MOST_FITTED = 1 << 14
"""Maximum number of patches, evenly spaced, that groups are fitted to."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Grouped ranges of patches (post-training quantization for condensation; arXiv:2603.13346).

    Raises:
        PotstillError: a setting is out of its range.
    """

    bits: int = 2
    """Bits of a value, 1 … 8 (published: 2)."""
    side: int = 5
    """Pixels of a patch along a side (published: 5)."""
    groups: int = 0
    """Number of ranges, 0 … 256; 0: as many as take at most a tenth of the codes."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""
    aware: bool = False
    """Quantize during distillation too, straight-through (published: after it)."""
    refine: int = 0
    """Steps of `pack_refined` with an untrained network before pixels are written; 0: none (published: 500 for CIFAR,
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
        """Return the bytes of images of ``shape``."""
        _check(shape)
        shape = (math.prod(shape[:-3]), *shape[-3:])
        patches = shape[0] * math.prod(-(-s // self.side) for s in shape[-2:])
        count = self._count(shape)
        group_bits = (count - 1).bit_length()
        return packed_bytes(math.prod(shape), self.bits) + packed_bytes(patches, group_bits) + 4 * count

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode images ``x`` (…, c, h, w).

        Raises:
            PotstillError: ``x`` has another shape.
        """
        flat = self._to_batch(x.detach().cpu().float())
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
        """Return ``decode(pack(x))`` to the last bit; the gradient is 1, as ranges follow the values."""
        flat = self._to_batch(x.detach())
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
        """Encode images after moving them so that their quantized form has the features of ``x``.

        Adam minimises ``‖f(x) − f(x̂(x′))‖²`` by x′, from x on, where x̂ quantizes each patch in its own range,
        straight-through; groups are formed afterwards, as published.

        Args:
            x: images (n, c, h, w).
            features: differentiable function of images.
            rng: generator of the batches.
            steps: published: 500 for CIFAR, 2,000 for subsets of ImageNet; 0: none.
            lr: learning rate, in standard deviations of ``x``.
            batch: images per step.
        """
        x = self._to_batch(x.detach())
        moved = x.clone()
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        updates = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        rate = lr * float(x.std())
        with torch.no_grad():
            targets = torch.cat([features(part) for part in torch.split(x, batch)])
        for _ in range(steps):
            at = torch.randperm(len(x), generator=rng)[:batch].to(x.device)
            with torch.enable_grad():
                leaf = moved[at].requires_grad_()
                loss = (features(self._quantize_patches(leaf)) - targets[at]).square().sum()
            (grad,) = torch.autograd.grad(loss, leaf)
            updates[at] += 1
            count = updates[at].reshape(-1, 1, 1, 1)
            first[at] = 0.9 * first[at] + 0.1 * grad
            second[at] = 0.999 * second[at] + 0.001 * grad.square()
            mean, square = first[at] / (1 - 0.9**count), second[at] / (1 - 0.999**count)
            moved[at] -= rate * mean / (square.sqrt() + 1e-12)
        return self.pack(moved)

    def _quantize_patches(self, x: Tensor) -> Tensor:
        """Quantize every patch in a range of its own, straight-through."""
        fixed = x.detach()
        lows, steps = (self._spread(t, x) for t in self._ranges(*self._ends(fixed)))
        return lows + steps * quantize(fixed, lows, steps, self.bits).to(x) + (x - fixed)

    def _to_batch(self, x: Tensor) -> Tensor:
        _check(x.shape)
        return x.reshape(-1, *x.shape[-3:])

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return least and greatest value of every patch (n, rows, columns); patches at the edge may be smaller."""
        side = min(self.side, max(x.shape[-2:]))
        return tuple(  # type: ignore[return-value]
            sign * F.max_pool2d((sign * x).amax(1, keepdim=True), side, side, ceil_mode=True)[:, 0] for sign in (-1, 1)
        )

    def _ranges(self, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """Return l = −z a and a."""
        step = (most - least) / ((1 << self.bits) - 1)
        zero = (-least / torch.where(step > 0, step, torch.ones_like(step))).round()
        return torch.where(step > 0, -zero * step, least), step

    def _spread(self, of_patches: Tensor, x: Tensor) -> Tensor:
        """Return values of patches (n, rows, columns) at every pixel (n, 1, h, w)."""
        side = min(self.side, max(x.shape[-2:]))
        return _at_pixels(of_patches, side, (x.shape[-2], x.shape[-1]))

    def _count(self, shape: tuple[int, ...]) -> int:
        """Return the number of groups for images of ``shape`` (n, c, h, w)."""
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
        """Return the group of every patch (n, rows, columns), and float32 l and a (G,) as the file has them."""
        least, most = self._ends(x)
        count = self._count(tuple(x.shape))
        ends = torch.stack([least.flatten(), most.flatten()], 1)[None]
        if count == 1:
            group = torch.zeros(ends.shape[1], dtype=torch.int64, device=x.device)
        else:
            fitted = min(_MOST_FITTED, ends.shape[1])
            some = ends[:, torch.arange(fitted, device=x.device) * ends.shape[1] // fitted]
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


def decode_patches(stored: Encoded) -> Tensor:
    """Decode codec ``patches``.

    Raises:
        PotstillError: codes, groups or ranges are missing, or of another number.
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
