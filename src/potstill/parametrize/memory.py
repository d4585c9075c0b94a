"""Inputs as combinations of shared bases (Deng and Russakovsky, "Remember the Past", arXiv:2206.02916).

Section 3.1: B bases M_b of a lower resolution are shared by all classes, and every decoded input i has its own
addressing coefficients A_ib::

    x_i = up(Σ_b A_ib · M_b)        up: bilinear, align_corners=False

The published code's rule for what a budget of N numbers buys k classes, with d numbers in a base, is
``n = ⌊(N − B · d) / (k · B)⌋`` inputs of each class.

**The start is ours.** The published one is random (Xavier, ``init="random"``). Here decoding starts as near to the
initial inputs, in squared error over all pixels, as B bases allow. With
``up = U_h · U_w`` and thin factors ``U = Q R``, the error of combinations L is ``‖Q_hᵀ X Q_w − R_h L R_wᵀ‖²`` plus what
no picture of the lower resolution can show. The first term is least for the truncated singular value decomposition of
``Q_hᵀ X Q_w`` (Eckart and Young), one row per input.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError, unknown_name
from potstill.functional.transforms import bilinear_matrix, resize
from potstill.parametrize._shared import image_shape, stored_numbers

__all__ = ["Memory"]

_INITS = ("svd", "random")
_NEGLIGIBLE = 1e-6
"""Singular values below this share of the largest are float32 noise; their bases start at random."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Shared bases, and coefficients of every input.

    The payload: ``decoder/bases`` (B, c, ⌈h/scale⌉, ⌈w/scale⌉) and ``coefficients`` (n, B), grouped by class.

    Decoding: ``x_i = up(Σ_b coefficients[i, b] · bases[b])``. ``up`` is bilinear to (h, w), with pixels' centres at
    half numbers (``align_corners=False``).

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    bases: int = 0
    """B. 0: ``n = ⌊1.5 · d / k · √e⌋`` inputs of a class where the budget holds e whole images of a class, and as many
    bases as the rest allows. At one CIFAR-10 image per class that is 16 bases and 115 inputs, the published setting;
    the square root is ours."""
    scale: int = 2
    """Factor between a side of an input and of a base, at least 1 (published: 2)."""
    init: str = "svd"
    """``svd``: the best approximation of the initial inputs (ours); ``random``: Xavier's uniform (published)."""

    def __post_init__(self) -> None:
        if self.init not in _INITS:
            raise unknown_name("init of memory", self.init, _INITS)
        if self.scale < 1 or self.bases < 0:
            raise PotstillError(
                f"memory: scale must be at least 1 and bases at least 0, not {self.scale} and {self.bases}"
            )

    @property
    def bounded(self) -> bool:
        """False: inputs are sums of products."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the inputs of each class, equally many, as bases belong to all.

        Raises:
            PotstillError: the inputs are no images, or the budget is below the bases and one input of each class.
        """
        return (self._plan(sum(numbers), len(numbers), shape)[1],) * len(numbers)

    @property
    def min_side(self) -> int:
        """14 (ours; published bases have 16 and more). Quick sets of ``remember``, 5 images a class, compared with
        whole images of the same bytes on held-out data: bases of 4 pixels (digits) 35 points behind; of 6, 8, 10 and 14
        pixels (MNIST-5k) 14, 6, 9 and 2 behind (results/tiny-pictures-memory.json)."""
        return 14

    def stored_size(self, shape: tuple[int, ...], /) -> tuple[int, int]:
        """Return height and width of the bases.

        Raises:
            PotstillError: the inputs are no images.
        """
        return self._base_shape(shape)[1:]

    def _base_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        c, h, w = image_shape("memory", shape)
        return c, math.ceil(h / self.scale), math.ceil(w / self.scale)

    def _plan(self, total: int, k: int, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return bases, and inputs of each class, for ``total`` values."""
        d = math.prod(self._base_shape(shape))
        if self.bases:
            count, n = self.bases, (total - self.bases * d) // (k * self.bases)
        else:
            wanted = math.floor(1.5 * d / k * math.sqrt(total / (k * math.prod(shape))))
            n = max(1, min(wanted, (total - d) // k))
            count = total // (d + k * n)
        if n < 1 or count < 1:
            least = (self.bases or 1) * (d + k)
            raise PotstillError(
                f"memory: {self.bases or 1} bases and one input of each of {k} classes need {least:,} numbers, but the "
                f"budget has {total:,}; raise it, or change bases or scale"
            )
        return count, n

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the best approximation of ``x``, or a random start; ``svd`` draws only spare bases."""
        numbers, shape = stored_numbers(problem), problem.train.input.shape
        count, _ = self._plan(sum(numbers), len(numbers), shape)
        base = self._base_shape(shape)
        if self.init == "random":
            a, m = _xavier(len(x), count, rng), _xavier(count, math.prod(base), rng)
        else:
            a, m = _factors(x.detach().cpu().double(), count, base[1:], rng)
        return {"decoder/bases": m.reshape(count, *base).to(x), "coefficients": a.to(x)}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the combinations (n, c, h, w), enlarged."""
        bases = payload["decoder/bases"]
        low = (payload["coefficients"] @ bases.flatten(1)).reshape(-1, *bases.shape[1:])
        return resize(low, (context.shape[-2], context.shape[-1]))


def _xavier(rows: int, columns: int, rng: Generator) -> Tensor:
    bound = math.sqrt(6 / (rows + columns))
    return (torch.rand(rows, columns, generator=rng) * 2 - 1) * bound


def _factors(x: Tensor, count: int, small: tuple[int, int], rng: Generator) -> tuple[Tensor, Tensor]:
    """Return coefficients (n, count) and bases (count, d) whose enlarged products come nearest to ``x``.

    Both take the root of the singular values, so that they move at similar speed. Bases beyond the rank of ``x`` are
    drawn, with coefficients 0.
    """
    (qh, rh), (qw, rw) = (
        torch.linalg.qr(bilinear_matrix(a, b, x.dtype, x.device)) for a, b in zip(small, x.shape[-2:], strict=True)
    )
    u, s, vt = torch.linalg.svd((qh.T @ x @ qw).flatten(1), full_matrices=False)
    rank = min(count, int((s > _NEGLIGIBLE * s[0]).sum()))
    a = torch.zeros(len(x), count, dtype=x.dtype)
    a[:, :rank] = u[:, :rank] * s[:rank].sqrt()
    v = torch.randn(count, vt.shape[1], generator=rng).to(x) / math.sqrt(vt.shape[1])
    v[:rank] = vt[:rank] * s[:rank, None].sqrt()
    v = v.reshape(count, x.shape[1], *small)
    low = torch.linalg.solve(rw, torch.linalg.solve(rh, v).mT).mT
    return a, low.flatten(1)
