"""Samples that are there more than once: equal ones by a hash of their bytes, nearly equal ones by their features."""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from potstill.core import Inputs
from potstill.functional.distances import chunks, lengths, products, spread
from potstill.inputs import one
from potstill.rng import generator

__all__ = ["WITHIN", "Digests", "NearCopies", "near_copies", "near_duplicates"]

WITHIN = 0.05
"""Two samples are nearly equal where their distance is at most this part of the typical distance of two samples."""

_SIDE = 16
"""Pixels a side of pictures that are compared, at most."""
_RANK, _RATIO, _FAR = 20, 0.22, 0.2
"""A picture's near copy is nearer than this part of the distance to its 20th nearest one, and of the typical distance.
Ours: each picture of digits, mnist-5k and 403 clip-arts beside all others, no ratio is below 0.245."""
_COARSE, _LIKELY, _MOVED = 8, 48, 8
"""Pixels a side of pictures by which those are found that are likely the 20 nearest, how many these are, and how many
of the nearest are then moved about."""
_FEW = 2048
"""Rows up to which every pair is compared."""
_TABLES, _FOLLOWING = 8, 3
_SLACK = 3.0


class Digests:
    """Which of n samples are equal to an earlier one, told from 128 bits of BLAKE2b of their bytes, batch by batch.

    That two different samples have equal digests is less likely than one in 10²⁶ among a million.
    """

    def __init__(self, n: int) -> None:
        self._of = [b""] * n

    def add(self, positions: Int[Tensor, " b"], x: Inputs) -> None:
        """The samples (b, …) at ``positions`` of the n, in any order."""
        if not isinstance(x, Tensor):
            for i, place in enumerate(positions.tolist()):
                held = one(x, i)
                content = b"".join(len(t.flatten()).to_bytes(8) + t.cpu().numpy().tobytes() for t in held.values())
                self._of[place] = hashlib.blake2b(content, digest_size=16).digest()
            return
        for place, row in zip(positions.tolist(), x.detach().cpu().contiguous().flatten(1).numpy(), strict=True):
            self._of[place] = hashlib.blake2b(row.tobytes(), digest_size=16).digest()

    def first(self) -> Int[Tensor, " n"]:
        """The position of the first sample that equals each; its own where there is no earlier one."""
        seen: dict[bytes, int] = {}
        return torch.tensor([seen.setdefault(digest, i) for i, digest in enumerate(self._of)], dtype=torch.int64)


def near_duplicates(
    x: Float[Tensor, "n d"], within: float = WITHIN, across: Bool[Tensor, " n"] | None = None
) -> Bool[Tensor, " n"]:
    """The rows that have another row within ``within`` times the typical distance of two: √ of `spread`.

    With ``across``, only two rows count of which one is in that part and the other is not.

    Up to 2,048 rows every pair is compared. Beyond, rows are sorted by the sides of random hyperplanes on which they
    lie (as locality-sensitive hashing does), eight times with other planes, and each is compared with the next three:
    what is found is near, and little that is near is missed. The planes are the same at every call.
    """
    n, d = x.shape
    near = torch.zeros(n, dtype=torch.bool, device=x.device)
    limit = within**2 * spread(x)
    if n < 2 or limit == 0:  # all rows coincide
        return near.fill_(n > 1 if across is None else bool(across.any() and not across.all()))
    if n <= _FEW:
        shifted = x - x.mean(0)
        of_x = lengths(shifted)
        for part in chunks(n, n):
            gaps = products(shifted[part], shifted, of_x[part], of_x)
            gaps[torch.arange(len(gaps)), torch.arange(part.start, part.stop)] = torch.inf
            row, column = (gaps <= 2 * limit + 1e-5 * of_x.mean()).nonzero().unbind(1)
            _mark(near, x, row + part.start, column, limit, across)
        return near
    bits = min(24, max(8, n.bit_length()))
    mean, rng = x.mean(0), generator(0, "near duplicates")
    for _ in range(_TABLES):
        planes = torch.randn(d, bits, generator=rng).to(x)
        sides = torch.cat([(x[part] - mean) @ planes for part in chunks(n, d)])
        order = (sides > 0).long().mul_(2 ** torch.arange(bits, device=x.device)).sum(1).argsort(stable=True)
        for step in range(1, _FOLLOWING + 1):
            a, b = order[:-step], order[step:]
            # the planes' own distance is near the rows', and cheap: what it puts far apart is not compared
            like = torch.cat([
                (sides[a[part]] - sides[b[part]]).square().sum(1) <= _SLACK * bits * limit
                for part in chunks(len(a), bits)
            ])  # fmt: skip
            _mark(near, x, a[like], b[like], limit, across)
    return near


def _mark(near: Tensor, x: Tensor, a: Tensor, b: Tensor, limit: float, across: Tensor | None) -> None:
    if across is not None:
        apart = across[a] != across[b]
        a, b = a[apart], b[apart]
    for part in chunks(len(a), x.shape[1]):
        close = (x[a[part]] - x[b[part]]).square().sum(1) <= limit
        near[a[part][close]] = True
        near[b[part][close]] = True


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Of n pictures: which have a near copy among others, the nearest of those, and how far it is."""

    found: Bool[Tensor, " n"]
    nearest: Int[Tensor, " n"]
    distance: Float[Tensor, " n"]
    """In typical distances of two of the others."""


def near_copies(x: Float[Tensor, "n c h w"], y: Float[Tensor, "m c h w"]) -> NearCopies:
    """Which pictures ``x`` have a near copy among ``y``: the same but for noise, brightness, and a shift of little.

    Pictures are compared at no more than 16 × 16, less their mean, with the others moved by a pixel each way; those
    that are compared so are found at 8 × 8. A near
    copy is within `WITHIN` of the typical distance of two of ``y``; or, where these are 40 or more, nearer than
    0.22 of the distance to the 20th nearest and 0.2 of the typical one: a distance by itself cannot tell
    a near copy from two plain pictures, such as two ones among digits, of which every picture has many near.
    """
    x, y = _small(x, _SIDE), _small(y, _SIDE)
    rows, others = _flat(x), _flat(y)
    coarse, coarse_others = _flat(_small(x, _COARSE)), _flat(_small(y, _COARSE))
    typical = spread(others) ** 0.5
    n, m = len(x), len(y)
    nearest, distance, far = (torch.zeros(n, dtype=t, device=x.device) for t in (torch.int64, x.dtype, x.dtype))
    shift = coarse_others.mean(0)
    coarse, coarse_others = coarse - shift, coarse_others - shift
    of_others = lengths(coarse_others)
    moved = [_flat(functional.pad(y, (1, 1, 1, 1), mode="replicate")[..., i : i + y.shape[2], j : j + y.shape[3]])
             for i in range(3) for j in range(3)]  # fmt: skip
    for part in chunks(n, max(m, _LIKELY * rows.shape[1])):
        least = products(coarse[part], coarse_others, lengths(coarse[part]), of_others)
        place = least.topk(min(m, _LIKELY), largest=False, sorted=False).indices
        gaps, order = (others[place] - rows[part, None]).norm(dim=2).sort(1)
        far[part] = gaps[:, min(m, _RANK) - 1]
        place = place.gather(1, order[:, :_MOVED])
        gaps = torch.stack([(by[place] - rows[part, None]).norm(dim=2) for by in moved]).amin(0)
        distance[part], first = gaps.min(1)
        nearest[part] = place.gather(1, first[:, None])[:, 0]
    found = distance <= WITHIN * typical
    if m >= 2 * _RANK:
        found |= (distance < _RATIO * far) & (distance < _FAR * typical)
    return NearCopies(found, nearest, distance / typical if typical else distance)


def _small(x: Tensor, side: int) -> Tensor:
    return functional.adaptive_avg_pool2d(x, (min(x.shape[2], side), min(x.shape[3], side)))


def _flat(x: Tensor) -> Tensor:
    """Rows less their mean."""
    rows = x.flatten(1)
    return rows - rows.mean(1, keepdim=True)
