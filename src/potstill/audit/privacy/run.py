"""`potstill.audit.privacy.audit_privacy`, and `audit_epsilon` for sets that are made again with canaries."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.audit_settings import PrivacySettings, with_changes
from potstill._util.progress import Callback
from potstill.audit.privacy.attacks import Attacker
from potstill.audit.privacy.epsilon import EpsilonBound, bound_epsilon
from potstill.audit.privacy.membership import (
    NEAREST,
    OTHERS,
    STARTS,
    GroupScore,
    check_rates,
    scaled_values,
    score_groups,
    split_held_out,
)
from potstill.audit.privacy.nearest import ItemNeighbours, find_neighbours, nearest_to_items
from potstill.audit.privacy.remake import Make, maker_of, starting_records
from potstill.audit.privacy.shadows import LEAST_SHADOWS, ShadowPlan, lira_scores
from potstill.audit.privacy.summary import Claim, Findings, LabelLeak, summarize
from potstill.audit.result import Audit
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.fitting import check_compatible
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.functional.sampling import sample_distinct
from potstill.rng import generator
from potstill.runs.load_data import as_splits, load_as_made, pick_device
from potstill.uses.continual import Learner
from potstill.verdicts.verdict import mapping_of, number_of

__all__ = ["CANARIES", "MEMBERS", "audit_epsilon", "audit_privacy"]

CANARIES = 500
"""Canaries of shadow runs, by default."""
MEMBERS = 10_000
"""Members and held-out records that are tested, at most, beside those that items started from."""
LEVEL = 0.95
"""Chance that a bound of ε is right."""


def audit_privacy(
    distilled: Distilled | str | Path,
    data: Any,
    settings: PrivacySettings = PrivacySettings(),  # a frozen value
    *,
    fpr: Sequence[float] | None = None,
    learner: Learner | None = None,
    make: Make | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
    **changes: Any,
) -> Audit:
    """Measure what a set gives away of the records that it was made of.

    First the nearest training record of every item; then membership tests of the set alone, for records that items
    started from and for all others apart: distance to the nearest item, tracing by means of values and features, loss
    of students. With ``shadows`` the set is made again, with canaries at random: the likelihood-ratio attack, and a
    lower bound of ε beside the one that the metadata claim.

    Args:
        distilled: the set, or its file.
        data: the data that it was made of: anything `potstill.load_data` takes or returns. Its test part is the
            held-out records.
        settings: numbers of networks, of shadow runs and of canaries.
        fpr: false-positive rates, each at least 1 over the number of tested held-out records. Default: 0.1 % and 1 %,
            where there are records enough.
        learner: training of the students; without a network of its own: a narrow one of the usual kind.
        make: makes a set of records with a seed, ``make(source, seed)``; ``None``: the method in the metadata.
        folder: folder of a file for each shadow run, from which a later call goes on; ``None``: none.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where shadow runs with a folder are made, as for `potstill.distill`.
        progress: callback ``progress(name, done, total)``.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The audit: its sentence is the strongest finding.

    Raises:
        PotstillError: the set does not fit the data, inputs are several tensors, there are no classes, a rate is lower
            than the records can show, or the set cannot be made again.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=5, codec="uint1", progress=None)
        >>> audit_privacy(small, "digits", students=1, learner=Learner(steps=5)).part
        'privacy'
    """
    started = time.perf_counter()
    keep_freed_memory()
    say = progress or (lambda *_: None)
    settings = with_changes(settings, changes)
    shadows, canaries = settings.shadows, settings.canaries
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    splits = _read(small, data, device)
    train, held_out = _sources(small, splits)
    attacker = Attacker(seed=seed, students=settings.students, learner=learner or Learner())
    plan = chosen_make = reference = None
    tested: TensorSource | None = None
    if held_out is not None:
        reference, tested = split_held_out(_at_most(held_out, 2 * MEMBERS, seed, "held out"), seed)
        if len(reference) == 0 or len(tested) == 0:
            reference = tested = None
    rates = check_rates(fpr, 0 if tested is None else len(tested), "tested held-out records", "give more test data")
    if shadows:
        plan = ShadowPlan(
            train=train, held_out=reference, canaries=canaries, shadows=shadows, seed=seed,
        )  # fmt: skip
        chosen_make = make or maker_of(small)
        trials = canaries * (shadows // 2)
        lira_rates = (
            check_rates(fpr, trials, "trials without the canary", "take more canaries or shadow runs") if trials else ()
        )
    say("nearest records", 0, 1)
    starts = starting_records(small, splits.train) if isinstance(splits.train, TensorSource) else "no"
    start_rows = starts if isinstance(starts, Tensor) else None
    neighbours = find_neighbours(small, train, held_out, start_rows, seed)
    say("nearest records", 1, 1)
    findings = Findings(
        distilled=small, neighbours=neighbours, starts_unknown=starts if isinstance(starts, str) else "",
        labels=_label_leak(small, train, neighbours, start_rows), rates=rates,
        claimed=_claim_of(small.metadata),
    )  # fmt: skip
    if tested is not None and reference is not None:
        say("membership tests", 0, 1)
        groups = _Tested.draw(small, train, tested, start_rows, seed)
        findings = replace(
            findings, scores=_membership(small, groups, reference, attacker, rates, seed), groups=groups.counts,
            tested=len(tested), reference=len(reference),
        )  # fmt: skip
        say("membership tests", 1, 1)
    if plan is not None and chosen_make is not None:
        described = {
            "set": small.metadata.get("run_digest"),
            "method": small.metadata.get("method"),
            "made": make is None,
        }
        values = plan.run(
            chosen_make, attacker, None if folder is None else Path(folder), described, resolve_executor(executor), say
        )
        bound = _bound(values[0], plan, findings.claimed)
        lira = lira_scores(values, plan.included, lira_rates, seed) if shadows >= LEAST_SHADOWS else []
        findings = replace(findings, epsilon=bound, lira=lira)
    stated = {
        "seed": seed, "students": settings.students, "steps": attacker.learner.steps, "fpr": list(rates),
        "shadows": shadows, "canaries": canaries if shadows else 0,
        "data": {"name": train.name, "hash": train.content_hash},
        "held_out": 0 if held_out is None else len(held_out),
    }  # fmt: skip
    return summarize(findings, stated, time.perf_counter() - started)


def audit_epsilon(
    make: Callable[[TensorSource, int], Distilled],
    data: Any,
    *,
    epsilon: float | None = None,
    delta: float = 0.0,
    canaries: int = CANARIES,
    attacks: Sequence[str] = ("distance", "means", "features"),
    level: float = LEVEL,
    seed: int = 0,
    device: str = "auto",
) -> EpsilonBound:
    """Return a lower bound of ε of a way to make sets, from one run (arXiv:2305.08846).

    Each canary, a training record with another class, is put among the records with probability one half; one set is
    made; the attacks guess which canaries were in.

    Args:
        make: makes a set of records with a seed: ``make(source, seed)``.
        data: anything `potstill.load_data` takes or returns. Where it has a test part, tracing has its reference there,
            else in the training records that are no canaries.
        epsilon: the claim to test; ``None``: none.
        delta: δ of the claim.
        canaries: number of canaries, less than the training records.
        attacks: ``distance``, ``means``, ``features`` and ``loss``.
        level: chance that the bound is right.
        seed: of the canaries and of the set.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The bound; ``refutes`` says if it is above the claim.

    Raises:
        PotstillError: a number is out of range, or the data do not suit the audit.

    Examples:
        >>> make = lambda records, seed: potstill.distill(
        ...     potstill.Splits(train=records, test=None), "random", ipc=20, seed=seed, progress=None
        ... )
        >>> audit_epsilon(make, "digits", epsilon=1.0, canaries=500).refutes
        True
    """
    if epsilon is not None and epsilon <= 0:
        raise PotstillError(
            f"a claimed epsilon must be above 0, not {epsilon:g}; leave it out where nothing is claimed"
        )
    if not 0 < level < 1:
        raise PotstillError(f"the level of a bound must be between 0 and 1, not {level:g}; take 0.95")
    splits = as_splits(data, pick_device(device))
    train = _checked(splits.train)
    if not 0 <= delta < 1 / len(train):
        raise PotstillError(f"delta must be at least 0 and below 1/n = {1 / len(train):.3g}, not {delta:g}; change it")
    held_out = splits.test if isinstance(splits.test, TensorSource) and len(splits.test) else None
    plan = ShadowPlan(train=train, held_out=held_out, canaries=canaries, shadows=1, seed=seed)
    values = plan.run(make, Attacker(seed=seed, attacks=tuple(attacks)), None, {}, None, lambda *_: None)
    return bound_epsilon(values[0], plan.included[0], delta=delta, level=level, claimed=epsilon)


def _claim_of(metadata: Mapping[str, Any]) -> Claim | None:
    """Return ε and δ that the metadata claim, which may be a stranger's; ``None`` without valid numbers."""
    claim = mapping_of(metadata.get("privacy"))
    epsilon, delta = (number_of(claim.get(name, 0.0)) for name in ("epsilon", "delta"))
    if epsilon is None or delta is None or not 0 < epsilon < math.inf or not 0 <= delta < 1:
        return None
    return Claim(epsilon=epsilon, delta=delta)


def _bound(values: dict[str, Tensor], plan: ShadowPlan, claimed: Claim | None) -> EpsilonBound:
    """Return the bound by the first run, which is fixed before any is made."""
    delta, epsilon = (0.0, None) if claimed is None else (claimed.delta, claimed.epsilon)
    return bound_epsilon(values, plan.included[0], delta=delta, level=LEVEL, claimed=epsilon)


def _read(small: Distilled, data: Any, device: str) -> Splits:
    if isinstance(data, Splits):
        return as_splits(data, pick_device(device))
    return as_splits(load_as_made(small.metadata, data), pick_device(device))


def _checked(source: Any) -> TensorSource:
    """Return a source that can be audited.

    Raises:
        PotstillError: it is streamed, has no classes, or inputs of several tensors.
    """
    if not isinstance(source, TensorSource) or not source.classes or source.targets is not None:
        raise PotstillError(
            f"a privacy audit needs data with classes that are held in memory, but {source.name} is not; give a folder "
            "of images or arrays, without `stream=True`"
        )
    if source.input.parts or not isinstance(source.inputs, Tensor):
        raise PotstillError(
            f"a privacy audit needs inputs of one tensor, but those of {source.name} have several with names; join them"
        )
    return source


def _sources(small: Distilled, splits: Splits) -> tuple[TensorSource, TensorSource | None]:
    """Return training and held-out records as the set's students see them."""
    train = _checked(splits.train)
    check_compatible(small, train)
    if not small.is_classification or not isinstance(small.inputs, Tensor):
        raise PotstillError("a privacy audit needs a set with classes and inputs of one tensor; this one has others")
    seen = normalize_like(train, small)
    held_out = None if splits.test is None else normalize_like(_checked(splits.test), small)
    assert isinstance(seen, TensorSource)
    assert held_out is None or isinstance(held_out, TensorSource)
    return seen, held_out


def _at_most(source: TensorSource, most: int, seed: int, name: str) -> TensorSource:
    if len(source) <= most:
        return source
    return source.subset(sample_distinct(len(source), most, generator(seed, "audit", name)).sort().values)


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """Members and held-out records that are tested, and their groups."""

    members: TensorSource
    held_out: TensorSource
    groups: dict[str, tuple[Tensor, Tensor]]
    """Masks of both by name."""

    @property
    def counts(self) -> dict[str, int]:
        return {name: int(mask.sum()) for name, (mask, _) in self.groups.items()}

    @classmethod
    def draw(
        cls, small: Distilled, train: TensorSource, held_out: TensorSource, starts: Int[Tensor, " k"] | None, seed: int
    ) -> "_Tested":
        """Draw members, with all records that items started from.

        Where these are not known, the records nearest to an item are a group of their own, and are compared with the
        held-out records nearest to an item, both among equally many.
        """
        taken = torch.zeros(len(train), dtype=torch.bool)
        taken[sample_distinct(len(train), MEMBERS, generator(seed, "audit", "members"))] = True
        if starts is not None:
            special = torch.unique(starts[starts >= 0])
            taken[special] = True
            at = taken.nonzero().flatten()
            is_start, every = torch.isin(at, special), torch.ones(len(held_out), dtype=torch.bool)
            return cls(
                members=train.subset(at),
                held_out=held_out,
                groups={STARTS: (is_start, every), OTHERS: (~is_start, every)},
            )
        members = train.subset(taken.nonzero().flatten())
        equal = min(len(members), len(held_out))
        near = [_nearest_mask(small, source, equal, seed) for source in (members, held_out)]
        return cls(
            members=members, held_out=held_out,
            groups={NEAREST: (near[0], near[1]), OTHERS: (~near[0], ~near[1])},
        )  # fmt: skip


def _nearest_mask(small: Distilled, source: TensorSource, number: int, seed: int) -> Tensor:
    """Return which records are nearest to an item among ``number`` drawn ones."""
    rows = sample_distinct(len(source), number, generator(seed, "audit", "nearest")).sort().values
    mask = torch.zeros(len(source), dtype=torch.bool)
    mask[rows[nearest_to_items(small, source.subset(rows))]] = True
    return mask


def _membership(
    small: Distilled, tested: _Tested, reference: TensorSource, attacker: Attacker, rates: Sequence[float], seed: int
) -> list[GroupScore]:
    scores = []
    sources = [tested.members, tested.held_out, reference]
    for attack, values in attacker.values(small, sources, reference).items():
        scaled = [scaled_values(v, s.labels, values[2], reference.labels) for v, s in zip(values, sources, strict=True)]
        scores += score_groups(
            attack, scaled[0], scaled[1], tested.members.labels, tested.held_out.labels, tested.groups, rates, seed
        )
    return scores


def _label_leak(small: Distilled, train: TensorSource, near: ItemNeighbours, starts: Tensor | None) -> LabelLeak | None:
    """Return how often a soft label names the class of the record that its item comes from."""
    if not small.has_soft_labels:
        return None
    rows = near.index if starts is None else torch.where(starts >= 0, starts, near.index)
    classes = train.labels[rows]
    right = int((small.labels.argmax(1) == classes).sum())
    return LabelLeak(
        items=len(small), right=right, guess=float(torch.bincount(classes).max()) / len(small),
        by="nearest training record" if starts is None or not near.started else "record that it started from",
    )  # fmt: skip
