"""Recommendation: each user's items are its input and its target, and held-out items score what is recommended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from potstill.tasks.metric import Metric

__all__ = ["Recommendation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """Recommend items that a user has not met yet.

    A sample is a user: a row over all items, 1 where the user met an item. The row is its own target, so that labels
    are 0 and take no bytes. Answers are what a learner recommends (n, 2·top + 1), int64: the numbers of ``top`` items,
    best first, without items that the user has met already; 1 for each that is held out, else 0; and how many are
    held out. `potstill.evaluation` makes them from a learner's scores.
    """

    name: ClassVar[str] = "recommendation"
    unit: ClassVar[str] = "item"
    invariant_to: ClassVar[tuple[str, ...]] = ("*",)
    metric: ClassVar[Metric] = Metric(name="nDCG@10", direction="higher", unit="fraction", high=1.0)
    further_metrics: ClassVar[Mapping[str, Metric]] = {
        "recall@10": Metric(name="recall@10", direction="higher", unit="fraction", high=1.0),
        "coverage": Metric(name="coverage", direction="higher", unit="fraction", high=1.0),
    }
    """Held-out items among the recommended ones over the most that there could be; and items that are recommended to
    anybody over all items."""
    top: ClassVar[int] = 10
    """Items that are recommended to a user."""
    order: str = "auto"
    """Which interactions of a user are held out: the latest by ``time``, or ``random`` ones; ``auto``: by time where
    there are time stamps."""
    validation: float = 0.1
    """Fraction of a user's interactions that choices are made on (infinite_ae_cf: 0.1)."""
    least: int = 5
    """Interactions of a user below which it is left out."""
    rating: float = 0.0
    """Rating from which a rated item counts as met; 0: whatever its rating is."""
    items: int = 0
    """Number of items; filled in when data are read."""
    titles: tuple[str, ...] = ()
    """Titles of the items, where there is a column of them."""

    @property
    def outputs(self) -> int:
        return self.items

    def loss(self, output: Tensor, y: Tensor, /) -> Float[Tensor, ""]:
        """Refuse networks, whose targets would be their inputs.

        Raises:
            ValueError: always.
        """
        raise ValueError("networks do not train on rows of users; learners do")

    def predict(self, output: Tensor, /) -> Tensor:
        """Return scores of items as they are."""
        return output

    def score(self, answers: Int64[Tensor, "n w"], y: Tensor, groups: Tensor | None = None, /) -> float:
        """Return the mean of nDCG@10 over users: gains of held-out items, discounted by the logarithm of their rank,
        over those of the best order."""
        _, hits, held = self._parts(answers)
        discount = 1 / torch.arange(2, self.top + 2).double().log2()
        ideal = discount.cumsum(0)[held.clamp(1, self.top) - 1]
        return float(((hits.double() * discount).sum(1) / ideal).mean())

    def further_scores(self, answers: Int64[Tensor, "n w"], y: Tensor, groups: Tensor | None, /) -> dict[str, float]:
        """Return recall@10 and coverage."""
        chosen, hits, held = self._parts(answers)
        recall = hits.sum(1).double() / held.clamp(1, self.top).double()
        return {"recall@10": float(recall.mean()), "coverage": len(torch.unique(chosen)) / max(1, self.items)}

    def chance_score(self, y: Tensor, /) -> float:
        """Return 0: what recommends nothing that is held out."""
        return 0.0

    def _parts(self, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return answers[:, : self.top], answers[:, self.top : 2 * self.top], answers[:, -1]

    def answers(self, scores: Float[Tensor, "n d"], met: Tensor, held_out: Tensor) -> Int64[Tensor, "n w"]:
        """Return answers from a learner's scores of all items.

        Args:
            scores: any real numbers; a greater one comes first, of equal ones the lower item number.
            met: bool (n, d), items that are not recommended.
            held_out: bool (n, d), items that count.

        Raises:
            ValueError: there are fewer items than are recommended.
        """
        if scores.shape[1] < self.top:
            raise ValueError(f"{self.top} items are recommended, but there are {scores.shape[1]} in all")
        free = torch.where(met, -torch.inf, scores.double())
        best = free.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        counts = held_out.gather(1, best) & ~met.gather(1, best)
        return torch.cat([best, counts.long(), held_out.sum(1, keepdim=True)], 1)
