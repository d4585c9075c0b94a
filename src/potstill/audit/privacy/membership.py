"""Membership tests of a set alone: can records that it was made of be distinguished from held-out ones?

Values of each class are put on one scale by reference records, which are tested neither as members nor as held-out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from scipy.special import bdtrc, ndtr  # type: ignore[import-untyped]
from torch import Generator, Tensor

from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.functional.roc import auc_within_strata, hits_at_rate, proportion_interval
from potstill.rng import generator

__all__ = [
    "DEFAULT_RATES",
    "LEAST_REFERENCE",
    "GroupScore",
    "check_rates",
    "scaled_values",
    "score_groups",
    "split_held_out",
]

DEFAULT_RATES = (0.001, 0.01)
"""False-positive rates that are measured where there are records enough."""
STARTS, NEAREST, OTHERS = "started an item", "nearest to an item", "all others"
"""Groups of members."""
LEAST_REFERENCE = 3
"""Reference records of a class below which its records are not tested."""
ALPHA = 0.05
"""Chance that any of an audit's tests distinguishes members from held-out records where they are alike."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """Result of one attack on one group of records."""

    attack: str
    group: str
    auc: float
    """Chance that a record of the group looks more like a member than a held-out one of its class."""
    ci95: tuple[float, float]
    p: float
    """Least chance of this attack's statistics on the group, times their number; two-sided for the AUC."""
    records: int
    held_out: int
    hits: Mapping[float, int]
    """Records that are recognised, by false-positive rate."""

    def rate(self, fpr: float) -> float:
        """Return the part of the group that is recognised at a false-positive rate."""
        return self.hits[fpr] / self.records

    def interval(self, fpr: float) -> tuple[float, float]:
        """Return its Clopper-Pearson interval, at the threshold that was found."""
        return proportion_interval(self.hits[fpr], self.records)

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        return {
            "attack": self.attack, "group": self.group, "auc": self.auc, "ci95": list(self.ci95), "p": self.p,
            "records": self.records, "held_out": self.held_out,
            "tpr": {
                str(fpr): {"tpr": self.rate(fpr), "hits": n, "ci95": list(self.interval(fpr))}
                for fpr, n in self.hits.items()
            },
        }  # fmt: skip


def check_rates(fpr: Sequence[float] | None, negatives: int, what: str, more: str) -> tuple[float, ...]:
    """Return the false-positive rates that so many negatives can show.

    Args:
        fpr: rates; ``None``: those of `DEFAULT_RATES` that can be shown.
        negatives: number of records, or of trials, that are no members.
        what: what they are.
        more: advice for more of them.

    Raises:
        PotstillError: a rate is out of range, or lower than 1/``negatives``.
    """
    if fpr is None:
        return tuple(rate for rate in DEFAULT_RATES if rate * negatives >= 1)
    for rate in fpr:
        if not 0 < rate < 1:
            raise PotstillError(f"a false-positive rate must be between 0 and 1, not {rate:g}; change fpr")
        if rate * negatives < 1 - 1e-9:
            raise PotstillError(
                f"a false-positive rate of {rate:g} needs at least {1 / rate:,.0f} {what}, but there are "
                f"{negatives:,}; {more} or a higher rate"
            )
    return tuple(fpr)


def split_held_out(held_out: TensorSource, seed: int) -> tuple[TensorSource, TensorSource]:
    """Return reference records and tested ones: a half of each class, drawn."""
    rng = generator(seed, "audit", "reference")
    is_reference = torch.zeros(len(held_out), dtype=torch.bool)
    for c in torch.unique(held_out.labels).tolist():
        rows = (held_out.labels == c).nonzero().flatten()
        is_reference[rows[torch.randperm(len(rows), generator=rng)[: len(rows) // 2]]] = True
    halves = [held_out.subset(mask.nonzero().flatten()) for mask in (is_reference, ~is_reference)]
    return halves[0], halves[1]


def scaled_values(values: Float[Tensor, " n"], labels: Tensor, reference: Tensor, classes: Tensor) -> Tensor:
    """Return values less their class's median, over its median deviation, of reference records; infinite without them.

    Args:
        values: of records.
        labels: their classes.
        reference: values of reference records.
        classes: classes of those.
    """
    scaled = torch.full((len(values),), float("inf"))
    for c in torch.unique(labels).tolist():
        own_values = reference[classes == c]
        if len(own_values) >= LEAST_REFERENCE:
            centre = own_values.median()
            spread = (own_values - centre).abs().median()
            scaled[labels == c] = (values[labels == c] - centre) / (spread if spread > 0 else torch.ones(()))
    return scaled


def score_groups(
    attack: str, members: Float[Tensor, " n"], held_out: Float[Tensor, " m"], member_classes: Tensor,
    held_out_classes: Tensor, groups: Mapping[str, tuple[Bool[Tensor, " n"], Bool[Tensor, " m"]]],
    rates: Sequence[float], seed: int,
) -> list[GroupScore]:  # fmt: skip
    """Return the result of one attack on each group of members, those without records left out.

    Args:
        attack: its name.
        members: scaled values, lower for members.
        held_out: scaled values of held-out records.
        member_classes, held_out_classes: classes of both.
        groups: members of each group, and the held-out records that they are compared with.
        rates: false-positive rates.
        seed: of the bootstrap.
    """
    scores = []
    for name, (mask, other_mask) in groups.items():
        rng: Generator = generator(seed, "audit", "bootstrap", attack, name)
        at, others = mask & torch.isfinite(members), other_mask & torch.isfinite(held_out)
        common = torch.unique(member_classes[at][torch.isin(member_classes[at], held_out_classes[others])])
        at, others = at & torch.isin(member_classes, common), others & torch.isin(held_out_classes, common)
        if not bool(at.any()):
            continue
        found = auc_within_strata(members[at], held_out[others], member_classes[at], held_out_classes[others], rng)
        records, negatives = int(at.sum()), int(others.sum())
        hits = {rate: hits_at_rate(members[at], held_out[others], rate) for rate in rates if rate * negatives >= 1}
        chances = [2 * float(ndtr(-abs(found.value - 0.5) / found.null_spread))]
        chances += [_chance(n, records, rate, negatives) for rate, n in hits.items()]
        scores.append(
            GroupScore(
                attack=attack, group=name, auc=found.value, ci95=found.interval(),
                p=min(1.0, len(chances) * min(chances)), records=records, held_out=negatives, hits=hits,
            )
        )  # fmt: skip
    return scores


def _chance(hits: int, records: int, rate: float, negatives: int) -> float:
    """Return the chance of so many hits, if the records were held-out ones.

    The threshold is of a sample: the upper end of its rate's interval stands for it.
    """
    if hits == 0:
        return 1.0
    upper = proportion_interval(int(rate * negatives + 1e-9), negatives)[1]
    return float(bdtrc(hits - 1, records, upper))
