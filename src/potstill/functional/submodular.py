r"""Greedy maximisation of submodular set functions: facility location and graph cut.

For a monotone submodular f with f(∅) = 0, greedy selection reaches at least 1 − 1/e of the best (Nemhauser, Wolsey and
Fisher 1978). `lazy_greedy` (Minoux 1978) selects the same with fewer evaluations. `stochastic_greedy` (Mirzasoleiman et
al., AAAI 2015, arXiv:1409.7938) evaluates (n/m) ln(1/ε) random elements per step: 1 − 1/e − ε in expectation.

Similarities are in [0, 1] and computed in chunks when needed; no n × n matrix is held.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.errors import PotstillError
from potstill.functional.coreset import check_size
from potstill.functional.distances import CHUNK, chunks, mean_squared_distance, squared_norms
from potstill.functional.neighbours import Neighbours
from potstill.functional.sampling import sample_distinct

__all__ = [
    "Kernel", "Similarity", "facility_location", "facility_location_sparse", "graph_cut", "lazy_greedy",
    "row_similarity", "stochastic_greedy",
]  # fmt: skip

Kernel: TypeAlias = Literal["cosine", "rbf"]
Gains: TypeAlias = Callable[[Int[Tensor, " b"]], Float[Tensor, " b"]]

_TILE = 1 << 19
"""Similarities per chunk, which stay in a core's cache."""
_BATCH = 512
"""Maximum number of elements evaluated together."""


@dataclass(frozen=True)
class Similarity:
    """Similarities of rows, computed on demand.

    ``cosine``: (1 + cos) / 2. ``rbf``: exp(−‖x − y‖² / v), where v is the mean squared distance of two rows.
    """

    x: Float[Tensor, "n d"]
    kernel: Kernel
    norms: Float[Tensor, " n"]
    """Cosine: inverse norms of the rows (0 for a row of zeros). RBF: squared norms."""
    width: float

    def of(self, rows: slice | Tensor, columns: Tensor) -> Float[Tensor, "a b"]:
        """Return similarities of some rows with some rows, in [0, 1] up to rounding."""
        a, b = self.norms[rows].unsqueeze(1), self.norms[columns]
        if self.kernel == "cosine":
            return (self.x[rows] @ (self.x[columns] * b.unsqueeze(1)).T).mul_(a / 2).add_(0.5)
        return (self.x[rows] @ self.x[columns].T).mul_(-2).add_(a).add_(b).clamp_min_(0).mul_(-1 / self.width).exp_()

    def totals(self) -> Float[Tensor, " n"]:
        """Return the sum of each row's similarities to all rows, in float64."""
        n = len(self.x)
        if self.kernel == "cosine":  # the sum of products is the product with the sum
            sums = torch.zeros(self.x.shape[1], dtype=torch.float64, device=self.x.device)
            for part in chunks(n, self.x.shape[1]):
                sums += (self.norms[part] @ self.x[part]).double()
            along = torch.cat([self.x[part] @ sums.to(self.x) for part in chunks(n, self.x.shape[1])])
            return (n + (along * self.norms).double()) / 2
        total = torch.empty(n, dtype=torch.float64, device=self.x.device)
        every = torch.arange(n, device=self.x.device)
        for part in chunks(n, n, max(CHUNK, 32 * n)):
            total[part] = self.of(part, every).sum(1, dtype=torch.float64)
        return total


def row_similarity(x: Float[Tensor, "n d"], kernel: Kernel) -> Similarity:
    """Return the similarities of the rows of ``x``; a row of zeros has cosine 0 with every row."""
    squares = squared_norms(x)
    if kernel == "cosine":
        return Similarity(x, kernel, torch.where(squares > 0, squares.rsqrt(), 0.0), 1.0)
    return Similarity(x, kernel, squares, mean_squared_distance(x) or 1.0)


def lazy_greedy(gains: Gains, take: Callable[[int], None], upper: Float[Tensor, " n"], m: int) -> Int[Tensor, " m"]:
    """Select greedily, evaluating only elements whose last known gain could still be the largest (Minoux 1978).

    Args:
        gains: returns the current gains of some elements.
        take: adds an element to the set.
        upper: upper bounds of the first gains, on the CPU; overwritten.
        m: number to select, 1 ≤ m ≤ n.

    Returns:
        Elements in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(upper), m)
    order: list[int] = []
    fresh = torch.zeros(len(upper), dtype=torch.bool)
    for _ in range(m):
        fresh.zero_()
        batch = 8
        while not fresh[best := int(upper.argmax())]:
            top = upper.topk(min(batch, len(upper))).indices
            stale = torch.unique(torch.cat([top[~fresh[top] & (upper[top] > -math.inf)], torch.tensor([best])]))
            upper[stale] = gains(stale).to(upper)
            fresh[stale] = True
            batch = min(2 * batch, _BATCH)
        take(best)
        order.append(best)
        upper[best] = -math.inf
    return torch.tensor(order)


def stochastic_greedy(
    gains: Gains, take: Callable[[int], None], n: int, m: int, epsilon: float, rng: Generator
) -> Int[Tensor, " m"]:
    """Select in each step the best of ⌈(n/m) ln(1/ε)⌉ random remaining elements: n ln(1/ε) evaluations in all.

    Returns:
        Elements in order of selection; a prefix is not the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n, or ``epsilon`` not between 0 and 1.
    """
    check_size(n, m)
    if not 0 < epsilon < 1:
        raise PotstillError(f"epsilon must lie between 0 and 1, but it is {epsilon}; the paper's examples use 0.1")
    num_candidates = math.ceil(n / m * math.log(1 / epsilon))
    is_left = torch.ones(n, dtype=torch.bool)
    order: list[int] = []
    for _ in range(m):
        rest = is_left.nonzero().flatten()
        candidates = rest[sample_distinct(len(rest), num_candidates, rng)].sort().values
        values = torch.cat([gains(part) for part in torch.split(candidates, _BATCH)])
        best = int(candidates[int(values.argmax())])
        take(best)
        order.append(best)
        is_left[best] = False
    return torch.tensor(order)


def facility_location(
    x: Float[Tensor, "n d"], m: int, kernel: Kernel = "cosine", *, greedy: Literal["lazy", "stochastic"] = "lazy",
    epsilon: float = 0.1, rng: Generator | None = None,
) -> Int[Tensor, " m"]:  # fmt: skip
    r"""Maximise the facility location :math:`f(S) = \sum_i \max_{s \in S} k(i, s)` greedily.

    An evaluation costs n · d; the initial bounds of lazy greedy n · d for ``cosine`` and n² · d for ``rbf``.

    Args:
        x: n rows.
        m: number to select, 1 ≤ m ≤ n.
        kernel: see `Similarity`.
        greedy: ``lazy`` or ``stochastic`` (with ``epsilon`` and ``rng``).

    Returns:
        Distinct rows in order of selection; with lazy greedy every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n, ``epsilon`` is not between 0 and 1, or stochastic greedy has no generator.
    """
    check_size(len(x), m)
    k = row_similarity(x, kernel)
    reached = torch.zeros(len(x), dtype=x.dtype, device=x.device)

    def gains(elements: Tensor) -> Tensor:
        elements = elements.to(x.device)
        total = torch.zeros(len(elements), dtype=torch.float64, device=x.device)
        for part in chunks(len(x), max(len(elements), x.shape[1]), _TILE):
            more = k.of(part, elements).sub_(reached[part].unsqueeze(1)).clamp_min_(0)
            total += more.sum(0, dtype=torch.float64)
        return total.cpu()

    def take(element: int) -> None:
        at = torch.tensor([element], device=x.device)
        for part in chunks(len(x), x.shape[1]):
            reached[part] = torch.maximum(reached[part], k.of(part, at).squeeze(1))

    if greedy == "lazy":
        return lazy_greedy(gains, take, k.totals().cpu() * (1 + 1e-5) + 1e-6, m)  # above what rounding may add
    if rng is None:
        raise PotstillError("stochastic greedy draws at random: give it a generator (rng)")
    return stochastic_greedy(gains, take, len(x), m, epsilon, rng)


def facility_location_sparse(nearest: Neighbours, m: int) -> Int[Tensor, " m"]:
    r"""Maximise facility location with :math:`k(i, s) = 0` unless s is i or a neighbour of i; a step costs O(n).

    A row has similarity 1 to itself and ``exp(−d² / v)`` to a neighbour, v the mean squared distance of neighbours.

    Args:
        nearest: neighbours of n rows.
        m: number to select, 1 ≤ m ≤ n.

    Returns:
        Distinct rows in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    n, k = nearest.others.shape
    check_size(n, m)
    index, distance = nearest.others.cpu(), nearest.distance.cpu().double()
    width = float(distance.square().mean()) or 1.0
    alike = torch.exp(-distance.square() / width)
    index = torch.cat([torch.arange(n).unsqueeze(1), index], 1)
    alike = torch.cat([torch.ones(n, 1, dtype=torch.float64), alike], 1)
    gain = torch.bincount(index.flatten(), alike.flatten(), minlength=n)
    served = torch.argsort(index.flatten(), stable=True)  # who has a row among its neighbours, by row
    ends = [0, *torch.bincount(index.flatten(), minlength=n).cumsum(0).tolist()]
    reached = torch.zeros(n, dtype=torch.float64)
    order: list[int] = []
    for _ in range(m):
        best = int(gain.argmax())
        order.append(best)
        entries = served[ends[best] : ends[best + 1]]
        rows, value = entries // (k + 1), alike.flatten()[entries]
        rows, value = rows[value > reached[rows]], value[value > reached[rows]]
        before = (alike[rows] - reached[rows].unsqueeze(1)).clamp_min(0)
        after = (alike[rows] - value.unsqueeze(1)).clamp_min(0)
        gain.index_add_(0, index[rows].flatten(), (after - before).flatten())
        reached[rows] = value
        gain[best] = -math.inf
    return torch.tensor(order)


def graph_cut(x: Float[Tensor, "n d"], m: int, kernel: Kernel = "cosine", weight: float = 2.0) -> Int[Tensor, " m"]:
    r"""Maximise the graph cut :math:`\lambda \sum_{i, s \in S} k - \sum_{s, s' \in S} k` greedily.

    A step costs n · d; the initial sums n · d for ``cosine`` and n² · d for ``rbf``. The bound 1 − 1/e holds for λ ≥ 2,
    where the function never falls.

    Args:
        x: n rows.
        m: number to select, 1 ≤ m ≤ n.
        weight: λ.

    Returns:
        Distinct rows in order of selection; every prefix is the selection for a smaller ``m``.

    Raises:
        PotstillError: ``m`` is not in 1…n.
    """
    check_size(len(x), m)
    k = row_similarity(x, kernel)
    self_similarity = (
        (k.norms > 0).to(torch.float64) / 2 + 0.5
        if kernel == "cosine"
        else torch.ones_like(k.norms, dtype=torch.float64)
    )
    gain = weight * k.totals() - self_similarity
    order: list[int] = []
    for _ in range(m):
        best = int(gain.argmax())
        order.append(best)
        at = torch.tensor([best], device=x.device)
        for part in chunks(len(x), x.shape[1]):
            gain[part] -= 2 * k.of(part, at).squeeze(1).double()
        gain[best] = -math.inf
    return torch.tensor(order)
