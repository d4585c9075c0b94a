"""Distances between two sets of features: Fréchet and kernel distance, precision, recall, density and coverage.

For features x (n, d) of one set and y (m, d) of another:

- Fréchet distance (FID; Heusel et al., arXiv:1706.08500, equation 6):
  ``|μ_x − μ_y|² + tr(C_x + C_y − 2 (C_x C_y)^(1/2))``. Biased upwards where n or m is not far above d.
- Kernel distance (KID; Bińkowski et al., arXiv:1801.01401): the unbiased estimate of the squared maximum mean
  discrepancy with the kernel ``(x·y / d + 1)³``; it can be below 0.
- Precision and recall (Kynkäänniemi et al., arXiv:1904.06991, equation 2), density and coverage (Naeem et al.,
  arXiv:2002.09797, equations 4 and 5), by balls around each sample to its k-th nearest other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.functional.distances import chunks, pairwise_squared

__all__ = ["Manifold", "compare_manifolds", "frechet_distance", "kernel_distance"]


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Return the Fréchet distance of two normal distributions with the means and covariances of features, in float64.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs two rows, but there are {len(x)} and {len(y)}")
    a, b = x.double(), y.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    rows = [(v - v.mean(0)) / (len(v) - 1) ** 0.5 for v in (a, b)]
    # the singular values of R_x R_yᵀ are the roots of the eigenvalues of C_x C_y, whatever the ranks
    cross = torch.linalg.svdvals(rows[0] @ rows[1].T).sum() if max(len(a), len(b)) <= a.shape[1] else _root_trace(rows)
    traces = sum(v.square().sum() for v in rows)
    return float((mean + traces - 2 * cross).clamp(min=0))


def _root_trace(rows: list[Tensor]) -> Tensor:
    """Return tr((C_x C_y)^(1/2)) for C = RᵀR."""
    c_x, c_y = (r.T @ r for r in rows)
    spectrum, vectors = torch.linalg.eigh(c_x)
    root = vectors * spectrum.clamp(min=0).sqrt()
    values: Tensor = torch.linalg.eigvalsh(root.T @ c_y @ root)
    return values.clamp(min=0).sqrt().sum()


def kernel_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Return the unbiased estimate of the squared kernel distance, in float64.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    n, m, d = len(x), len(y), x.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"the unbiased estimate needs two rows of each, but there are {n} and {m}")
    a, b = x.double(), y.double()

    def total(one: Tensor, other: Tensor) -> Tensor:
        parts = [((one[rows] @ other.T / d + 1) ** 3).sum() for rows in chunks(len(one), len(other))]
        return torch.stack(parts).sum()

    own = [total(v, v) - ((v.square().sum(1) / d + 1) ** 3).sum() for v in (a, b)]
    return float(own[0] / (n * (n - 1)) + own[1] / (m * (m - 1)) - 2 * total(a, b) / (n * m))


@dataclass(frozen=True, slots=True)
class Manifold:
    """Overlap of two sets of features."""

    precision: float
    """Share of the set within the ball of some real sample, in [0, 1]."""
    recall: float
    """Share of the real samples within the ball of some item of the set, in [0, 1]."""
    density: float
    """Number of balls of real samples around an item, over k: above 1 where the real ones are dense."""
    coverage: float
    """Share of the real samples whose ball has an item in it, in [0, 1]."""


def compare_manifolds(
    items: Float[Tensor, "n d"], real: Float[Tensor, "m d"], k: int = 5, k_items: int | None = None
) -> Manifold:
    """Return precision, recall, density and coverage of ``items`` as samples of ``real``.

    Args:
        items: features of the set.
        real: features of real samples.
        k: neighbours that the ball of a real sample reaches, at least 1 and below m.
        k_items: neighbours that the ball of an item reaches, for recall, below n. Default: ``k``.

    Raises:
        ValueError: there are not more rows than neighbours.
    """
    k_items = k if k_items is None else k_items
    if not 1 <= k < len(real) or not 1 <= k_items < len(items):
        raise ValueError(f"{k} and {k_items} neighbours need more rows than {len(real)} and {len(items)}")
    radius, own = _radius(real, k), _radius(items, k_items)
    inside, reached, covered = [], [], []
    for rows in chunks(len(real), len(items)):
        gaps = pairwise_squared(real[rows], items)
        within = gaps <= radius[rows, None]
        inside.append(within.sum(0))
        covered.append(within.any(1))
        reached.append((gaps <= own[None]).any(1))
    counts = torch.stack(inside).sum(0).double()
    return Manifold(
        precision=float((counts > 0).double().mean()), recall=float(torch.cat(reached).double().mean()),
        density=float(counts.mean() / k), coverage=float(torch.cat(covered).double().mean()),
    )  # fmt: skip


def _radius(x: Float[Tensor, "n d"], k: int) -> Float[Tensor, " n"]:
    """Return the squared distance of each row to its k-th nearest other."""
    found = []
    for rows in chunks(len(x), len(x)):
        gaps = pairwise_squared(x[rows], x)
        own = torch.arange(rows.start, rows.start + len(gaps))
        gaps[torch.arange(len(gaps)), own] = float("inf")
        found.append(gaps.kthvalue(k, 1).values)
    return torch.cat(found)
