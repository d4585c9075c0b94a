"""Noise of a whole run: Gaussian mechanisms composed as a privacy loss distribution by the library dp-accounting."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from potstill._util.optional import import_optional

__all__ = ["NEIGHBOURS", "Query", "accountant_name", "calibrate", "composed_epsilon"]

NEIGHBOURS = "add or remove one record"
_STEP = 1.0005
"""Factor by which the noise grows while the accountant's ε is above the limit."""
_HALVINGS = 60
"""Halvings of the interval of one mechanism's noise."""
_INTERVAL = 1e-4
"""Discretisation of privacy losses, at ε of 1 or less; in proportion beyond."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A Gaussian mechanism: sums of vectors of norm 1 at most, of which each record is in one group alone."""

    name: str
    noise: float
    """Standard deviation of the noise over the sensitivity."""
    times: int = 1
    """Number of its releases."""
    sensitivity: float = 1.0
    """Largest change of the sums, in L2 norm, by one record that is added or removed."""

    def to_json(self) -> dict[str, Any]:
        """Return the query as JSON values."""
        return {"name": self.name, "times": self.times, "noise": self.noise, "sensitivity": self.sensitivity}


@cache
def composed_epsilon(queries: tuple[Query, ...], delta: float) -> float:
    """Return ε at ``delta`` of all releases together.

    Raises:
        PotstillError: dp-accounting is not installed.
    """
    dp = import_optional("dp_accounting", "a private set", "private")
    pld = import_optional("dp_accounting.pld", "a private set", "private")
    losses = sum(query.times / query.noise**2 for query in queries) / 2  # expected privacy loss
    accountant = pld.PLDAccountant(
        dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=_INTERVAL * max(1.0, losses)
    )  # fmt: skip
    for query in queries:
        accountant.compose(dp.GaussianDpEvent(query.noise), query.times)
    return float(accountant.get_epsilon(delta))


def calibrate(shares: Mapping[str, tuple[float, int]], epsilon: float, delta: float) -> tuple[Query, ...]:
    """Return queries with the least noise that together are (ε, δ)-differentially private.

    Args:
        shares: share of the budget and number of releases of each query. A query of share w that is released t times
            has √(t / w) times the noise that a single release with the whole budget would have.
        epsilon: of all queries together.
        delta: of all queries together.

    Raises:
        PotstillError: dp-accounting is not installed.
    """
    total = sum(share for share, _ in shares.values())
    scales = {name: math.sqrt(times * total / share) for name, (share, times) in shares.items()}
    noise = _single_noise(epsilon, delta)
    while True:
        queries = tuple(Query(name=name, noise=noise * scales[name], times=shares[name][1]) for name in shares)
        if composed_epsilon(queries, delta) <= epsilon:
            return queries
        noise *= _STEP  # the distribution is discretised upwards


def _single_noise(epsilon: float, delta: float) -> float:
    """Return the least noise of one Gaussian mechanism (Balle and Wang 2018, theorem 8), to which all others compose.

    It is where the search for the noise of a composition begins; what holds is the accountant's ε.
    """

    low, high = math.log(1e-3), math.log(1e6)
    for _ in range(_HALVINGS):
        noise = math.exp((low + high) / 2)
        ends = torch.tensor([0.5 / noise, -0.5 / noise], dtype=torch.float64) - epsilon * noise
        inside, outside = torch.special.log_ndtr(ends).tolist()
        excess = math.exp(inside) - math.exp(epsilon + outside)
        low, high = (math.log(noise), high) if excess > delta else (low, math.log(noise))
    return math.exp(high)


def accountant_name() -> str:
    """Return the name and version of what computes ε."""
    return f"privacy loss distribution, dp-accounting {version('dp-accounting')}"
