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

from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.candidate_trials import narrow_network
from potstill.evaluation.student import TEST_CHUNK, StudentJob, train
from potstill.functional.distances import pairwise_squared
from potstill.rng import derive_seed, generator
from potstill.uses.continual import Learner

__all__ = ["LEAST_RECORDS", "MembershipScore", "auc_within_classes", "membership"]

LEAST_RECORDS = 100
"""Records below which a test says nothing about small effects: the interval is then wider than 0.1 on either side."""
RESAMPLES = 500
"""Bootstrap samples of an interval."""


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
        "distance": [_distances(distilled, source) for source in both],
        "loss": _losses(distilled, both, learner, students, seed),
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
    pairs, used = [], [0, 0]
    for c in torch.unique(deleted_classes).tolist():
        a, b = deleted[deleted_classes == c].double(), held_out[held_out_classes == c].double()
        if len(a) and len(b):
            pairs.append((a, b))
            used = [used[0] + len(a), used[1] + len(b)]

    def mean_auc(draw: bool) -> float:
        total = 0.0
        for a, b in pairs:
            if draw:
                a, b = (v[torch.randint(len(v), (len(v),), generator=rng)] for v in (a, b))
            total += len(a) / used[0] * _auc(a, b)
        return total

    drawn = torch.tensor([mean_auc(True) for _ in range(RESAMPLES)], dtype=torch.float64)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return MembershipScore(auc=mean_auc(False), ci95=(low, high), deleted=used[0], held_out=used[1])


def _auc(a: Tensor, b: Tensor) -> float:
    """Return the chance that a value of ``a`` is below one of ``b``; equal values count one half."""
    ranked = b.sort().values
    above = len(b) - torch.searchsorted(ranked, a, right=True)
    equal = torch.searchsorted(ranked, a, right=True) - torch.searchsorted(ranked, a)
    return float((above + equal / 2).double().mean() / len(b))


def _of_classes(source: TensorSource, names: list[str], distilled: Distilled) -> TensorSource:
    """Return the records of these classes, numbered as in the set and normalised as its students see them."""
    number = torch.tensor([distilled.classes.index(c) if c in names else -1 for c in source.classes])
    labels = number[source.labels]
    part = source.subset((labels >= 0).nonzero().flatten())
    return replace(
        part, classes=distilled.classes, labels=labels[labels >= 0],
        normalization=distilled.normalization.to(source.device),
    )  # fmt: skip


def _distances(distilled: Distilled, source: TensorSource) -> Float[Tensor, " n"]:
    items = single_tensor(distilled.inputs, "a distance").flatten(1).to(source.device)
    rows = single_tensor(source.raw(torch.arange(len(source))), "a distance").flatten(1)
    nearest = torch.zeros(len(source))
    for c in torch.unique(source.labels).tolist():
        own = items[(distilled.hard_labels == c).to(items.device)]
        for at in torch.split((source.labels == c).nonzero().flatten(), 1024):
            nearest[at] = pairwise_squared(rows[at], own).amin(1).clamp_min(0).sqrt().cpu()
    return nearest


def _losses(
    distilled: Distilled, sources: list[TensorSource], learner: Learner, students: int, seed: int
) -> list[Float[Tensor, " n"]]:
    """Return the mean loss of each record over students that are trained on the set."""
    first = sources[0]
    make = learner.factory(first, len(distilled.classes))
    make = narrow_network(make, first) if learner.network is None else make
    protocol = learner.protocol(first, make.name)
    totals = [torch.zeros(len(source)) for source in sources]
    for number in range(students):
        job = StudentJob(
            make=make, x=distilled.model_space().to(first.device), y=distilled.labels.to(first.device),
            protocol=protocol, lr=learner.lr, steps=learner.steps,
            augment=student_augmentation(protocol.recipe.augment, first),
            seed=derive_seed(seed, "membership", number),
        )  # fmt: skip
        network = train(job).eval()
        with torch.no_grad():
            for total, source in zip(totals, sources, strict=True):
                for at in torch.split(torch.arange(len(source)), TEST_CHUNK):
                    outputs = network(single_tensor(source.fetch(at).x, "a loss")).cpu()
                    total[at] += torch.nn.functional.cross_entropy(outputs, source.labels[at], reduction="none")
    return [total / students for total in totals]
