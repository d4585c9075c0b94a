"""Findings of a privacy audit as a sentence, tables and JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from potstill.audit.privacy.attacks import ATTACKS
from potstill.audit.privacy.epsilon import EpsilonBound
from potstill.audit.privacy.membership import ALPHA, OTHERS, STARTS, GroupScore
from potstill.audit.privacy.nearest import STANDS_OUT, ItemNeighbours
from potstill.audit.privacy.shadows import LEAST_CANARIES, LiraScore
from potstill.audit.result import Audit, AuditTable
from potstill.dataset_file import Distilled
from potstill.diagnostics.nearest_real import WITHIN
from potstill.functional.roc import proportion_interval

__all__ = ["Findings", "LabelLeak", "summarize"]

ITEM_ALPHA = 0.01
"""Chance below which items count as lying nearer to training records than to held-out ones."""
SMALL_GROUP = 100
"""Records of a group below which a test that finds nothing has no power."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Differential privacy that the metadata of a set claim."""

    epsilon: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class LabelLeak:
    """Soft labels that name the class of the record that an item comes from."""

    items: int
    right: int
    guess: float
    """Part that is right by always guessing the most frequent class."""
    by: str
    """Record whose class is guessed."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that an audit measured."""

    distilled: Distilled
    neighbours: ItemNeighbours
    starts_unknown: str
    """Reason why the starts are not known; empty: they are."""
    labels: LabelLeak | None
    rates: Sequence[float]
    claimed: Claim | None
    scores: Sequence[GroupScore] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    tested: int = 0
    """Held-out records that are tested; 0: there are none."""
    reference: int = 0
    epsilon: EpsilonBound | None = None
    lira: Sequence[LiraScore] = ()

    @property
    def distinguished(self) -> list[GroupScore]:
        """Scores of groups that differ from held-out records, by their chance over all tests of the audit."""
        return [s for s in self.scores if s.p * len(self.scores) < ALPHA and (s.auc > 0.5 or any(s.hits.values()))]


def summarize(findings: Findings, settings: Mapping[str, Any], seconds: float) -> Audit:
    """Return the audit."""
    tables = [_nearest_table(findings.neighbours)]
    if findings.scores:
        tables.append(_membership_table(findings))
    if findings.lira:
        tables.append(_lira_table(findings))
    if findings.epsilon is not None:
        tables.append(_epsilon_table(findings.epsilon))
    return Audit(
        part="privacy", sentence=_sentence(findings), tables=tables, notes=_notes(findings), settings=settings,
        values={
            "nearest": findings.neighbours.to_json(), "starts_unknown": findings.starts_unknown,
            "groups": dict(findings.groups), "tested_held_out": findings.tested, "reference": findings.reference,
            "membership": [score.to_json() for score in findings.scores],
            "soft_labels": None if findings.labels is None else vars(findings.labels),
            "lira": [score.to_json() for score in findings.lira],
            "epsilon": None if findings.epsilon is None else findings.epsilon.to_json(),
        },
        seconds=seconds,
    )  # fmt: skip


def _sentence(findings: Findings) -> str:
    """Return the strongest findings: copies and starts, then groups that are distinguished, then ε."""
    near = findings.neighbours
    parts = [text for text in (_items_sentence(near), _groups_sentence(findings), _epsilon_sentence(findings)) if text]
    return " ".join(parts)


def _items_sentence(near: ItemNeighbours) -> str:
    """Return what the items give away: the larger number of copies and of items nearest to their own start."""
    copies, own_start = near.exact + near.near, near.own_start or 0
    texts = [
        (copies, f"{copies} of {near.items} are {'near ' if near.near else ''}copies of training records"),
        (own_start, f"{own_start} of {near.started} lie nearest to the training record that they started from"),
    ]
    if own_start < max(2, near.started / 20):  # one may be so by chance
        texts.pop()
    parts = [text for n, text in sorted(texts, key=lambda of: -of[0]) if n]
    if parts:
        return f"Of the items, {', and '.join(parts)}."
    if near.stands_out is not None and proportion_interval(near.stands_out, near.items)[0] > STANDS_OUT:
        return f"{near.stands_out} of {near.items} items lie far nearer to one training record than to all others."
    p = near.nearer_p
    if p is not None and p < ITEM_ALPHA:
        return (
            f"{near.nearer} of {near.items} items lie nearer to a training record than to any held-out one, where "
            f"{near.nearer_chance * near.items:.0f} would by chance."
        )
    return f"None of {near.items} items is a copy of a training record."


def _groups_sentence(findings: Findings) -> str:
    if not findings.scores:
        return "Without held-out records, nothing is known about the membership of single records."
    sentences = []
    for group in dict.fromkeys(score.group for score in findings.scores):
        of_group = [score for score in findings.scores if score.group == group]
        best = max((s for s in findings.distinguished if s.group == group), key=_strength, default=None)
        count = of_group[0].records
        which = f"the {count:,} records that {'started' if group == STARTS else 'are nearest to'} an item"
        if group == OTHERS:
            which = f"{count:,} {'other ' if len({s.group for s in findings.scores}) > 1 else ''}members"
        if best is not None:
            by = ATTACKS[best.attack]
            sentences.append(f"{which} can be distinguished from held-out records by {by} ({_figure(best)})")
        elif min(count, of_group[0].held_out) >= SMALL_GROUP:
            names = [score.attack for score in of_group]
            listed = " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
            sentences.append(f"{which} cannot be distinguished from held-out records by {listed}")
    text = "; ".join(sentences)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _strength(score: GroupScore) -> float:
    """Return what a test gives away: the part that is recognised at its highest rate, above that rate, or its AUC."""
    recognised = max((score.rate(fpr) - fpr for fpr in score.hits), default=0.0)
    return max(recognised, 2 * abs(score.auc - 0.5))


def _figure(score: GroupScore) -> str:
    """Return the figure that says most: hits at a low false-positive rate where they are many, else the AUC."""
    for fpr in sorted(score.hits, reverse=True):
        low, high = score.interval(fpr)
        if low > 2 * fpr:
            return f"{_percent(score.rate(fpr))} % [{_percent(low)}, {_percent(high)}] at {100 * fpr:g} % false alarms"
    return f"AUC {score.auc:.3f} [{score.ci95[0]:.3f}, {score.ci95[1]:.3f}], 0.5 by chance"


def _epsilon_sentence(findings: Findings) -> str:
    bound = findings.epsilon
    if bound is not None and bound.claimed is not None:
        verdict = "is refuted" if bound.refutes else "is not refuted"
        least = f"ε is at least {bound.bound:.2f} by {bound.canaries:,} canaries"
        return f"The claim ε = {bound.claimed:g} {verdict}: {least}."
    if bound is not None:
        return f"No ε is claimed; it is at least {bound.bound:.2f} by {bound.canaries:,} canaries."
    if findings.claimed is not None:
        return f"The file claims ε = {findings.claimed.epsilon:g}, which was not tested."
    return "No formal privacy is claimed."


def _nearest_table(near: ItemNeighbours) -> AuditTable:
    def count(n: int | None, of: int) -> list[str]:
        if n is None or not of:
            return ["not known", ""]
        low, high = proportion_interval(n, of)
        return [f"{n:,} of {of:,}", f"{_percent(n / of)} % [{_percent(low)}, {_percent(high)}]"]

    rows = [
        ["equal to a training record", *count(near.exact, near.items), "0"],
        [f"nearer to one than {WITHIN:g} of the usual gap", *count(near.near, near.items), "0"],
        ["nearest to the record that it started from", *count(near.own_start, near.started), "0"],
        ["one record stands out", *count(near.stands_out, near.items), f"{100 * STANDS_OUT:g} %"],
        [
            "nearer to a training record than to held-out ones", *count(near.nearer, near.items),
            f"{100 * near.nearer_chance:.1f} %",
        ],
    ]  # fmt: skip
    space = "pixels" if near.pixels else "normalised values"
    return AuditTable(
        caption=f"Nearest training records of the items, in {space}",
        head=["items that are", "number", "95% interval", "by chance"], rows=rows,
    )  # fmt: skip


def _membership_table(findings: Findings) -> AuditTable:
    rows = []
    significant = set(map(id, findings.distinguished))
    for score in findings.scores:
        cells = []
        for fpr in findings.rates:
            if fpr not in score.hits:
                cells.append("")
                continue
            low, high = score.interval(fpr)
            cells.append(f"{_percent(score.rate(fpr))} [{_percent(low)}, {_percent(high)}]")
        power = "no" if min(score.records, score.held_out) >= SMALL_GROUP else "no power"
        rows.append(
            [score.attack, score.group, f"{score.records:,}",
             f"{score.auc:.3f} [{score.ci95[0]:.3f}, {score.ci95[1]:.3f}]", *cells,
             "yes" if id(score) in significant else power]
        )  # fmt: skip
    heads = [f"% found at {100 * fpr:g} % FPR" for fpr in findings.rates]
    return AuditTable(
        caption=f"Members against {findings.tested:,} held-out records of their classes, by the set alone",
        head=["by", "members", "n", "AUC", *heads, "distinguished"], rows=rows,
    )  # fmt: skip


def _lira_table(findings: Findings) -> AuditTable:
    rates = list(findings.lira[0].rates)
    rows = []
    for score in findings.lira:
        cells = [
            f"{_percent(v)} [{_percent(ci95[0])}, {_percent(ci95[1])}]" for v, ci95 in (score.rates[r] for r in rates)
        ]
        auc = f"{score.auc:.3f} [{score.ci95[0]:.3f}, {score.ci95[1]:.3f}]"
        rows.append([score.attack, "online" if score.online else "offline", auc, *cells])
    first = findings.lira[0]
    power = "" if first.canaries >= LEAST_CANARIES else " (no power: fewer than 500 canaries)"
    return AuditTable(
        caption=f"Likelihood ratios (LiRA) of {first.canaries:,} canaries over {first.shadows} shadow runs{power}",
        head=["by", "shadow runs", "AUC", *(f"% found at {100 * r:g} % FPR" for r in rates)], rows=rows,
    )  # fmt: skip


def _epsilon_table(bound: EpsilonBound) -> AuditTable:
    guesses = sorted(bound.guesses, key=lambda g: -g.bound)[:3]
    rows = [
        [
            g.attack, "in and out" if g.both else "in", f"{g.correct:,} of {g.guesses:,}", f"{g.bound:.2f}",
            "none" if bound.claimed is None else f"{bound.claimed:g}",
        ]
        for g in guesses
    ]  # fmt: skip
    return AuditTable(
        caption=f"Lower bound of ε by one run with {bound.canaries:,} canaries, at {100 * bound.level:g} % for all "
        f"{len(bound.guesses)} sets of guesses together",
        head=["by", "guessed", "right", "ε at least", "ε claimed"], rows=rows,
    )  # fmt: skip


def _notes(findings: Findings) -> list[str]:
    notes = []
    if findings.starts_unknown:
        notes.append(f"Records that items started from are not known: {findings.starts_unknown}.")
    if (leak := findings.labels) is not None:
        low, high = proportion_interval(leak.right, leak.items)
        notes.append(
            f"Soft labels name the class of the {leak.by} for {leak.right} of {leak.items} items "
            f"({_percent(leak.right / leak.items)} % [{_percent(low)}, {_percent(high)}]; by guessing "
            f"{_percent(leak.guess)} %)."
        )
    if findings.scores:
        notes.append(
            "Distinguished: by AUC or by hits, at 5 % for all tests of this audit together. A no proves no privacy: a "
            "stronger attack, or one that has other records, may succeed. Held-out records stand for the members only "
            "if they were drawn alike."
        )
    if findings.starts_unknown and findings.scores:
        notes.append(
            "Records nearest to an item are compared with held-out records nearest to one, among equally many."
        )
    missing = [rate for rate in (0.001, 0.01) if findings.tested and rate * findings.tested < 1]
    if missing and findings.scores:
        shown = " and ".join(f"{100 * rate:g} %" for rate in missing)
        notes.append(f"{findings.tested:,} held-out records cannot show false-positive rates of {shown}.")
    if findings.lira and findings.lira[0].canaries < LEAST_CANARIES:
        notes.append(f"With {findings.lira[0].canaries} canaries the shadow runs have no power; take {LEAST_CANARIES}.")
    elif findings.epsilon is not None and findings.epsilon.canaries < LEAST_CANARIES:
        notes.append(f"With {findings.epsilon.canaries} canaries the bound of ε has no power; take {LEAST_CANARIES}.")
    if findings.lira:
        notes.append("Intervals of shadow runs count each canary once, over all of its trials.")
    return notes


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
