"""Duplicate samples: exact ones by a hash of their bytes, near duplicates by their features."""

import hashlib

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from potstill.core import Inputs
from potstill.core.nested import sample
from potstill.functional.distances import chunks, mean_squared_distance, pairwise_from_norms, squared_norms
from potstill.rng import generator

__all__ = ["WITHIN", "Digests", "near_duplicates"]

WITHIN = 0.05
"""Distance of near duplicates, as a fraction of the root mean squared distance of two samples."""

_FEW = 2048
"""Rows up to which every pair is compared."""
_TABLES, _FOLLOWING = 8, 3
_SLACK = 3.0


class Digests:
    """Finds samples that equal an earlier one, by 128 bits of BLAKE2b of their bytes, batch by batch.

    The probability of a collision among a million samples is below 1e-26.
    """

    def __init__(self, n: int) -> None:
        self._of = [b""] * n

    def add(self, positions: Int[Tensor, " b"], x: Inputs) -> None:
        """Add the samples (b, …) at ``positions`` of the n, in any order."""
        if not isinstance(x, Tensor):
            for i, place in enumerate(positions.tolist()):
                held = sample(x, i)
                content = b"".join(len(t.flatten()).to_bytes(8) + t.cpu().numpy().tobytes() for t in held.values())
                self._of[place] = hashlib.blake2b(content, digest_size=16).digest()
            return
        for place, row in zip(positions.tolist(), x.detach().cpu().contiguous().flatten(1).numpy(), strict=True):
            self._of[place] = hashlib.blake2b(row.tobytes(), digest_size=16).digest()

    def first_positions(self) -> Int[Tensor, " n"]:
        """Return the position of the first sample that equals each one; its own if there is no earlier one."""
        positions: dict[bytes, int] = {}
        return torch.tensor([positions.setdefault(digest, i) for i, digest in enumerate(self._of)], dtype=torch.int64)


def near_duplicates(
    x: Float[Tensor, "n d"], within: float = WITHIN, across: Bool[Tensor, " n"] | None = None
) -> Bool[Tensor, " n"]:
    """Return the rows that have another row within ``within`` · √ `mean_squared_distance`.

    With ``across``, only pairs count of which one row is in that mask and the other is not.

    Up to 2,048 rows every pair is compared. Beyond, rows are sorted by the signs of random projections
    (locality-sensitive hashing), eight times with other planes, and each is compared with the next three: no false
    positives, few misses. The planes are the same at every call.
    """
    n, d = x.shape
    near = torch.zeros(n, dtype=torch.bool, device=x.device)
    limit = within**2 * mean_squared_distance(x)
    if n < 2 or limit == 0:  # all rows coincide
        return near.fill_(n > 1 if across is None else bool(across.any() and not across.all()))
    if n <= _FEW:
        shifted = x - x.mean(0)
        of_x = squared_norms(shifted)
        for part in chunks(n, n):
            gaps = pairwise_from_norms(shifted[part], shifted, of_x[part], of_x)
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
