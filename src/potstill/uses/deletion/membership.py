"""Membership test: do deleted records differ from held-out ones by their distance to a set, or by a student's loss?

The value of a test is its AUC within classes: the chance that a deleted record looks more like a training record than a
held-out one of its class. One half: no better than guessing. This is a small test for one deletion, no audit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill.audit.privacy.attacks import nearest_distances, student_losses
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.functional.roc import auc_within_strata
from potstill.rng import generator
from potstill.uses.continual import Learner

__all__ = ["LEAST_RECORDS", "MembershipScore", "auc_within_classes", "membership"]

LEAST_RECORDS = 100
"""Records below which a test says nothing about small effects: the interval is then wider than 0.1 on either side."""


@dataclass(frozen=True, kw_only=True)
class MembershipScore:
    """Result of one membership test."""

    auc: float
    """0.5: deleted records look like held-out ones; 1: all look like training records."""
    ci95: tuple[float, float]
    """Bootstrap interval over records of both kinds."""
    deleted: int
    held_out: int

    @property
    def verdict(self) -> str:
        """``no power``, ``at chance``, ``distinguished`` (deleted records look like members), or ``below chance``."""
        if min(self.deleted, self.held_out) < LEAST_RECORDS:
            return "no power"
        if self.ci95[0] <= 0.5 <= self.ci95[1]:
            return "at chance"
        return "distinguished" if self.auc > 0.5 else "below chance"

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        return {
            "auc": round(self.auc, 4), "ci95": [round(v, 4) for v in self.ci95], "deleted": self.deleted,
            "held_out": self.held_out, "verdict": self.verdict,
        }  # fmt: skip


def membership(
    distilled: Distilled, deleted: TensorSource, held_out: TensorSource, *, students: int = 3,
    learner: Learner | None = None, seed: int = 0,
) -> Mapping[str, MembershipScore]:  # fmt: skip
    """Test whether deleted records look more like a set's training records than held-out ones do.

    Args:
        distilled: the set, before or after the deletion.
        deleted: the deleted records.
        held_out: records of the same source that the set was never made of, such as the test split.
        students: networks whose mean loss is taken.
        learner: training of the networks; without a network of its own: a narrow one of the usual kind.
        seed: of the networks and the bootstrap.

    Returns:
        ``distance`` (to the nearest item of the record's class, in data units) and ``loss`` (of the students).

    Raises:
        PotstillError: no class has both deleted and held-out records, or the set lacks a class of theirs.

    Examples:
        >>> from potstill.uses.deletion import make_deletable
        >>> splits = potstill.load_data("digits")
        >>> small = make_deletable(splits, "random", ipc=2).distilled
        >>> gone = splits.train.subset(torch.arange(200))
        >>> sorted(membership(small, gone, splits.test, learner=Learner(steps=5)))
        ['distance', 'loss']
    """
    learner = learner or Learner()
    shared = [c for c in deleted.classes if c in held_out.classes and c in distilled.classes]
    both = [_of_classes(source, shared, distilled) for source in (deleted, held_out)]
    common = set(both[0].labels.tolist()) & set(both[1].labels.tolist())
    if not common:
        raise PotstillError(
            "a membership test needs deleted and held-out records of one class of the set; give data with a test part"
        )
    labels = [source.labels for source in both]
    scores = {
        "distance": [nearest_distances(distilled, source) for source in both],
        "loss": student_losses(distilled, both, learner, students, seed),
    }
    return {
        name: auc_within_classes(
            values[0], values[1], labels[0], labels[1], generator(seed, "membership", "bootstrap", name)
        )
        for name, values in scores.items()
    }  # fmt: skip


def auc_within_classes(
    deleted: Float[Tensor, " n"], held_out: Float[Tensor, " m"], deleted_classes: Tensor, held_out_classes: Tensor,
    rng: Generator,
) -> MembershipScore:  # fmt: skip
    """Return the AUC of values that are lower for training records, averaged over classes by their deleted records."""
    score = auc_within_strata(deleted, held_out, deleted_classes, held_out_classes, rng)
    return MembershipScore(auc=score.value, ci95=score.interval(), deleted=score.positives, held_out=score.negatives)


def _of_classes(source: TensorSource, names: list[str], distilled: Distilled) -> TensorSource:
    """Return the records of these classes, numbered as in the set and normalised as its students see them."""
    number = torch.tensor([distilled.classes.index(c) if c in names else -1 for c in source.classes])
    labels = number[source.labels]
    part = source.subset((labels >= 0).nonzero().flatten())
    return replace(
        part, classes=distilled.classes, labels=labels[labels >= 0],
        normalization=distilled.normalization.to(source.device),
    )  # fmt: skip
