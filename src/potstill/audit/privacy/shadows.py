"""Canaries and shadow runs: the likelihood-ratio attack (LiRA, arXiv:2112.03570), and the runs that ε is bounded by.

A canary is a training record with another class, chosen for the audit. Each shadow run makes a set of all other records
and of each canary with probability one half; runs come in pairs, the second with the canaries that the first has not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Generator, Tensor

from potstill._util.progress import Callback
from potstill.audit.privacy.attacks import Attacker
from potstill.audit.privacy.remake import Make
from potstill.data import TensorSource
from potstill.data.groups import source_key
from potstill.errors import PotstillError
from potstill.execution import Executor
from potstill.functional.roc import auc, hits_at_rate, proportion_interval
from potstill.functional.sampling import sample_distinct
from potstill.rng import derive_seed, generator
from potstill.uses.cell_files import run_cells

__all__ = ["LEAST_CANARIES", "LEAST_SHADOWS", "LiraScore", "ShadowPlan", "lira_scores"]

LEAST_CANARIES = 500
"""Canaries below which an audit has no power to show small rates."""
LEAST_SHADOWS = 4
"""Shadow runs of the likelihood-ratio attack, at least."""
_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class ShadowPlan:
    """Canaries and runs."""

    train: TensorSource
    """All records, normalised as the set's students see them."""
    held_out: TensorSource | None
    """Records that no set is made of, for tracing; ``None``: it uses those that every set is made of."""
    canaries: int
    shadows: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.canaries < 2 or self.canaries >= len(self.train):
            raise PotstillError(
                f"canaries must be from 2 to {len(self.train) - 1:,}, less than the training records, not "
                f"{self.canaries}; change canaries"
            )
        if self.shadows != 1 and (self.shadows < LEAST_SHADOWS or self.shadows % 2):
            raise PotstillError(
                f"shadow runs must be 1 (a bound of ε alone) or an even number of at least {LEAST_SHADOWS}, not "
                f"{self.shadows}; change shadows"
            )
        if len(self.train.classes) < 2:
            raise PotstillError("canaries are records with another class, so the data need two classes at least")

    @property
    def rows(self) -> Int[Tensor, " m"]:
        """Canaries as rows of the training records, ascending."""
        rng = generator(self.seed, "audit", "canaries")
        return sample_distinct(len(self.train), self.canaries, rng).sort().values

    @property
    def included(self) -> Bool[Tensor, "k m"]:
        """Canaries that are in each run."""
        rng = generator(self.seed, "audit", "included")
        first = torch.rand((self.shadows + 1) // 2, self.canaries, generator=rng) < 0.5
        return torch.stack([first, ~first], 1).flatten(0, 1)[: self.shadows]

    @property
    def reference(self) -> TensorSource:
        """Records that are no canaries, for tracing."""
        if self.held_out is not None:
            return self.held_out
        others = torch.ones(len(self.train), dtype=torch.bool)
        others[self.rows] = False
        return self.train.subset(others.nonzero().flatten())

    @property
    def canary_records(self) -> TensorSource:
        """The canaries with their drawn classes."""
        return self._mislabelled().subset(self.rows)

    def records(self, shadow: int) -> TensorSource:
        """Return the records of a run."""
        stays = torch.ones(len(self.train), dtype=torch.bool)
        stays[self.rows[~self.included[shadow]]] = False
        return self._mislabelled().subset(stays.nonzero().flatten())

    def _mislabelled(self) -> TensorSource:
        k, labels = len(self.train.classes), self.train.labels.clone()
        shift = torch.randint(1, k, (self.canaries,), generator=generator(self.seed, "audit", "canary classes"))
        labels[self.rows] = (labels[self.rows] + shift) % k
        return replace(self.train, labels=labels)

    def run(
        self, make: Make, attacker: Attacker, folder: Path | None, settings: Mapping[str, Any],
        executor: Executor | None, progress: Callback,
    ) -> list[dict[str, Float[Tensor, " m"]]]:  # fmt: skip
        """Make the sets and return the attacks' values of all canaries, for each run.

        Args:
            make: makes a set of records.
            attacker: the attacks.
            folder: folder of a file for each run, from which a later call goes on; ``None``: none.
            settings: JSON values that decide the sets besides the records.
            executor: where runs are made; ``None``: as many processes as help.
            progress: callback ``progress(name, done, total)``.

        Raises:
            PotstillError: a set cannot be made, or a file is of other settings or data.
        """
        compute = _ShadowRun(plan=self, make=make, attacker=attacker)
        cells = [_Cell(number=n) for n in range(self.shadows)]
        if folder is None:
            results = []
            for n, cell in enumerate(cells):
                results.append(compute(cell))
                progress("shadow runs", n + 1, len(cells))
        else:
            every = {
                **settings, "canaries": self.canaries, "seed": self.seed, "data": source_key(self.train),
                "reference": source_key(self.reference), "attacks": list(attacker.attacks),
                "students": attacker.students, "steps": attacker.learner.steps,
            }  # fmt: skip
            results = run_cells(
                cells, compute, folder, every, executor, self.train.device,
                lambda done, total: progress("shadow runs", done, total), "privacy audit",
            )  # fmt: skip
        return [{name: torch.tensor(v) for name, v in result["values"].items()} for result in results]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    number: int

    @property
    def stem(self) -> str:
        return f"shadow-{self.number}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide its contents besides those of all cells."""
        return {"shadow": self.number}


@dataclass(frozen=True, kw_only=True)
class _ShadowRun:
    """Computes a run; sent to a worker once."""

    plan: ShadowPlan
    make: Make
    attacker: Attacker

    def __call__(self, cell: _Cell) -> dict[str, Any]:
        plan = self.plan
        small = self.make(plan.records(cell.number), derive_seed(plan.seed, "audit", "shadow", cell.number))
        canaries = plan.canary_records
        values = self.attacker.values(small, [canaries], plan.reference, canaries)
        return {"values": {name: of_source[0].tolist() for name, of_source in values.items()}}


@dataclass(frozen=True, kw_only=True)
class LiraScore:
    """Result of the likelihood-ratio attack on one value."""

    attack: str
    online: bool
    auc: float
    ci95: tuple[float, float]
    """Bootstrap over canaries."""
    canaries: int
    shadows: int
    rates: Mapping[float, tuple[float, tuple[float, float]]]
    """Part of the trials that is recognised, by false-positive rate, with its interval."""

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        return {
            "attack": self.attack, "online": self.online, "auc": self.auc, "ci95": list(self.ci95),
            "canaries": self.canaries, "shadows": self.shadows,
            "tpr": {str(fpr): {"tpr": value, "ci95": list(ci95)} for fpr, (value, ci95) in self.rates.items()},
        }  # fmt: skip


def lira_scores(
    values: Sequence[Mapping[str, Float[Tensor, " m"]]],
    included: Bool[Tensor, "k m"],
    rates: Sequence[float],
    seed: int,
) -> list[LiraScore]:
    """Return the attack's results, each run the target of the runs of all other pairs.

    Online: the ratio of the likelihoods of a canary's value under the runs with it and under those without. Offline:
    the runs without it alone. Values are taken as Gaussian, with one variance for all canaries.

    Args:
        values: of all canaries, by attack, for each run.
        included: canaries that were in each run.
        rates: false-positive rates.
        seed: of the bootstrap.
    """
    scores = []
    for attack in values[0]:
        x = torch.stack([of_run[attack] for of_run in values]).double()
        x = _logit_of_loss(x) if attack == "loss" else x
        inside = torch.where(included[::2], x[::2], x[1::2])
        outside = torch.where(included[::2], x[1::2], x[::2])
        for online in (True, False):
            rng = generator(seed, "audit", "lira", attack, str(online))
            ratios = _ratios(inside, outside, online)
            scores.append(_score(attack, online, *ratios, rates, rng))
    return scores


def _logit_of_loss(losses: Float64[Tensor, "k m"]) -> Float64[Tensor, "k m"]:
    """Return minus the logit of the probability of the class, which is nearer to Gaussian than the loss."""
    losses = losses.clamp(1e-6, 50)
    return losses + torch.log(-torch.expm1(-losses))


def _ratios(
    inside: Float64[Tensor, "p m"], outside: Float64[Tensor, "p m"], online: bool
) -> tuple[Float64[Tensor, "p m"], Float64[Tensor, "p m"]]:
    """Return minus the log ratios of each canary in the run with it and in the one without it, of every pair.

    Both have their means from the other pairs, equally many on either side.

    Args:
        inside: value of each canary in the run of each pair that had it.
        outside: in the run that had it not.
        online: take both means, not that of the runs without the canary alone.
    """
    (mean_in, var_in), (mean_out, var_out) = (_of_other_pairs(x) for x in (inside, outside))
    if not online:
        return (inside - mean_out) / var_out.sqrt(), (outside - mean_out) / var_out.sqrt()
    inner, outer = ((x - mean_in) ** 2 / (2 * var_in) - (x - mean_out) ** 2 / (2 * var_out) for x in (inside, outside))
    return inner, outer


def _of_other_pairs(x: Float64[Tensor, "p m"]) -> tuple[Float64[Tensor, "p m"], Float64[Tensor, ""]]:
    """Return the mean of each canary over the other pairs, and one variance within canaries for all."""
    pairs = len(x)
    variance = (x - x.mean(0)).square().sum() / ((pairs - 1) * x.shape[1])
    return (x.sum(0) - x) / (pairs - 1), variance.clamp_min(1e-12)


def _score(
    attack: str, online: bool, inside: Float64[Tensor, "p m"], outside: Float64[Tensor, "p m"], rates: Sequence[float],
    rng: Generator,
) -> LiraScore:  # fmt: skip
    pairs, m = inside.shape

    def auc_of(at: Tensor | slice) -> float:
        return auc(inside[:, at].flatten(), outside[:, at].flatten())

    drawn = torch.tensor(
        [auc_of(torch.randint(m, (m,), generator=rng)) for _ in range(_RESAMPLES)], dtype=torch.float64
    )
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    shown = {}
    for rate in rates:
        part = hits_at_rate(inside.flatten(), outside.flatten(), rate) / inside.numel()
        shown[rate] = (part, proportion_interval(part * m, m))  # trials of one canary count once
    return LiraScore(
        attack=attack, online=online, auc=auc_of(slice(None)), ci95=(low, high), canaries=m, shadows=2 * pairs,
        rates=shown,
    )  # fmt: skip
