"""``audit_fairness``: students of a set, of as many real samples and of all data, tested by attribute."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.audit_settings import FairnessSettings, with_changes
from potstill.audit.fairness.odds import (
    Cells,
    OddsComparison,
    compare_odds,
    equalised_odds,
    make_cells,
    odds_by_chance,
)
from potstill.audit.result import Audit, AuditTable
from potstill.core import Splits
from potstill.data.attributes import Attribute, get_attribute
from potstill.dataset_file import Distilled, load
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, Condition, TrainingData
from potstill.errors import PotstillError
from potstill.evaluation.statistics import summary
from potstill.execution.memory import keep_freed_memory
from potstill.nn import CustomNetwork, parse_network
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_as_made, load_set_and_splits

__all__ = ["audit_fairness"]

MAX_TEST = 10_000
"""Largest number of test samples."""
_ROWS = 20
"""Largest number of groups in the table; those with the lowest accuracy of the set."""


def audit_fairness(
    distilled: Distilled | str | Path,
    data: Any,
    settings: FairnessSettings = FairnessSettings(),  # a frozen value
    *,
    attribute: object = None,
    network: str | CustomNetwork | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    **changes: Any,
) -> Audit:
    """Measure whom a set serves badly: accuracy by attribute and equalised odds of its students.

    Students of three training sets are tested on the same test samples: the set, as many random real samples with the
    same class shares (another draw for each student), and all training data. The equalised-odds gap of a class is the
    difference of the largest and the smallest true-positive rate among the values of the attribute; its mean and
    maximum over classes are reported. The sentence calls a bias of the data amplified or reduced where the gap differs
    from that of all data as measured, and beyond what the accuracies alone do by chance; it then compares the set with
    as many random real samples. Nothing is selected by the results.

    Args:
        distilled: a set, or its path.
        data: anything `potstill.load_data` takes or returns; the set's own reading options apply.
        settings: number and training of the students, and the smallest number of test samples that counts.
        attribute: as for `potstill.load_data`, if ``data`` are not splits that have one. Default: the set's own.
        network: network of the students. Default: the one that the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The part ``fairness`` of an audit. ``values`` has ``odds``, ``odds_by_chance``, ``accuracy``, ``worst`` and
        ``difference`` by training set.

    Raises:
        PotstillError: the data have no classes, no test part or no attribute with two values in it, too few test
            samples, or a number is out of its range.

    Examples:
        >>> from potstill.data.biased import cmnist_dd
        >>> splits = cmnist_dd("digits", ratio=0.95, test="every")
        >>> small = potstill.distill(splits, "random", ipc=1, progress=None)
        >>> from potstill.audit.fairness import audit_fairness
        >>> audit = audit_fairness(small, splits, students=2, steps=5, full_steps=5, progress=None)
        >>> sorted(audit.values["odds"])
        ['all data', 'random', 'set']
    """
    started = time.monotonic()
    keep_freed_memory()
    settings = with_changes(settings, changes)
    if attribute is not None and isinstance(data, Splits):
        raise PotstillError(
            "data that are read already have their attribute or none; give `attribute=` where they are read"
        )
    if attribute is not None:
        small = distilled if isinstance(distilled, Distilled) else load(distilled)
        data, distilled = load_as_made(small.metadata, data, attribute=attribute), small
    small, splits = load_set_and_splits(distilled, data, device)
    if not splits.train.classes:
        raise PotstillError(f"equalised odds are of classes, but {splits.train.name} has none")
    if splits.test is None:
        raise PotstillError(f"{splits.train.name} has no test part, on which groups are compared; read it with one")
    bench = make_bench(
        small, splits, network=parse_network(network), eval_split="test", students=settings.students,
        steps=settings.steps, lr=settings.lr, seed=seed, most=MAX_TEST,
    )  # fmt: skip
    tested = get_attribute(bench.eval_source)
    if tested is None:
        name = splits.train.name
        where = f"{name} was read without one" if get_attribute(splits.train) is None else f"that of {name} has none"
        raise PotstillError(
            f"a fairness audit needs an attribute of each test sample, but {where}; read it with `attribute=`"
        )
    if len(torch.unique(tested.codes)) < 2:
        raise PotstillError(
            f"every test sample of {splits.train.name} has the attribute {tested.values[int(tested.codes[0])]!r}; give "
            "data with two values of it at least"
        )
    cells = make_cells(bench.eval_source.labels, tested.codes, settings.least)
    with progress_context(progress) as watcher:
        bench = replace(bench, report=count_callback(progress, watcher))
        correct, diverged = _correct_answers(bench, settings.full_steps)
    result = _Result(bench, tested, cells, correct, settings.least)
    comparisons = {other: compare_odds(correct["set"], correct[other], cells, seed) for other in ("all data", "random")}
    values = result.values(comparisons)
    notes = _notes(bench, tested, cells, settings, diverged)
    return Audit(
        part="fairness", sentence=_sentence(values, comparisons), tables=_tables(values), notes=notes, values=values,
        settings={
            **asdict(settings), "lr": bench.protocol.recipe.lr[0], "network": bench.make.name, "seed": seed,
            "test_samples": len(bench.eval_source),
        },
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _correct_answers(bench: Bench, full_steps: int) -> tuple[dict[str, list[Tensor]], int]:
    """Return which test samples each student has right, by training set, and the number of students that diverged.

    A student that diverged is left out with its pairs.
    """
    every = bench.real.fetch(torch.arange(len(bench.real)))
    assert every.y is not None
    whole = TrainingData(x=every.x, y=every.y)
    full = replace(bench, protocol=bench.protocol.change(steps=(full_steps,)), output_cache={})
    outputs = {
        "set": bench.outputs(bench.distilled_condition()),
        "random": bench.outputs(bench.random_condition()),
        "all data": full.outputs(Condition(name="all data", items=len(bench.real), data_for=lambda _: whole)),
    }
    complete = [n for n in range(bench.students) if all(o[n] is not None for o in outputs.values())]
    if len(complete) < 2:
        raise PotstillError(
            f"{bench.students - len(complete)} of {bench.students} students diverged, and two have to remain; lower "
            "`lr=`"
        )
    labels = bench.eval_source.labels
    correct = {
        name: [bench.task.predict(o) == labels for n in complete if (o := found[n]) is not None]
        for name, found in outputs.items()
    }
    return correct, bench.students - len(complete)


class _Result:
    """Numbers of an audit from the right and wrong answers of students."""

    def __init__(
        self, bench: Bench, tested: Attribute, cells: Cells, correct: Mapping[str, Sequence[Tensor]], least: int
    ) -> None:
        self.bench, self.tested, self.cells, self.correct = bench, tested, cells, correct
        counts = torch.bincount(tested.codes, minlength=len(tested.values)).tolist()
        self.groups = {v: n for v, n in enumerate(counts) if n >= least}

    def values(self, comparisons: Mapping[str, Mapping[str, OddsComparison]]) -> dict[str, Any]:
        """Return the results as JSON values."""
        n = len(self.tested)
        odds = {name: [equalised_odds(right, self.cells) for right in of] for name, of in self.correct.items()}
        chance = {name: odds_by_chance(of, self.cells, self.bench.seed) for name, of in self.correct.items()}
        accuracy = {name: self._accuracy(of, torch.arange(n)) for name, of in self.correct.items()}
        by_group = [
            {
                "value": self.tested.values[group], "n": count,
                **{name: self._accuracy(of, torch.where(self.tested.codes == group)[0])
                   for name, of in self.correct.items()},
            }
            for group, count in self.groups.items()
        ]  # fmt: skip
        return {
            "n": len(self.correct["set"]),
            "odds": {
                name: {size: _summary([getattr(gap, size) for gap in of]) for size in ("mean", "max")}
                for name, of in odds.items()
            },
            "odds_by_chance": {name: {"mean": gap.mean, "max": gap.max} for name, gap in chance.items()},
            "difference": {
                other: {size: found.to_json() for size, found in of.items()} for other, of in comparisons.items()
            },
            "accuracy": accuracy,
            "by_value": sorted(by_group, key=lambda row: row["set"]["mean"]),
            "worst": {
                name: min(((row[name]["mean"], row["value"]) for row in by_group), default=None)
                for name in self.correct
            },
        }

    def _accuracy(self, correct: Sequence[Tensor], at: Tensor) -> dict[str, Any]:
        return summary([float(right[at].double().mean()) for right in correct], len(at), 0.0)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and interval of gaps, in [0, 1]."""
    found = summary(values, low=0.0)
    ends = found["ci95"]
    return {**found, "ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def _sentence(values: Mapping[str, Any], comparisons: Mapping[str, Mapping[str, OddsComparison]]) -> str:
    odds = {name: of["mean"]["mean"] for name, of in values["odds"].items()}
    full, random = (comparisons[name]["mean"] for name in ("all data", "random"))
    answer = {
        1: "The set amplifies a bias of the data", -1: "The set reduces a bias of the data",
        0: "No change of a bias of the data by the set is shown",
    }[full.side]  # fmt: skip
    if full.side:
        more = {0: "and is not told apart from", full.side: "more than", -full.side: "less than"}[random.side]
        answer += f", {more} as many random real samples"
    worst, group = values["worst"]["set"] or (None, None)
    said = "" if worst is None else f" The worst value is {str(group)[:40]!r}, with an accuracy of {_percent(worst)}."
    full_gap, random_gap = (_signed(c.to_json()) for c in (full, random))
    return (
        f"{answer}: the mean equalised-odds gap is {_points(odds['set'])} points after training on the set, "
        f"{_points(odds['all data'])} on all data ({full_gap}; {100 * full.by_chance:+.1f} by chance), and "
        f"{_points(odds['random'])} on as many random real samples ({random_gap} from these to the set; "
        f"{100 * random.by_chance:+.1f} by chance).{said}"
    )


def _tables(values: Mapping[str, Any]) -> list[AuditTable]:
    names, shown = ("set", "random", "all data"), values["by_value"][:_ROWS]
    head = ["", "test samples", "the set", "as many random", "all data"]
    rows = [
        [str(row["value"]), f"{row['n']:,}", *(_interval(row[name], 100) for name in names)] for row in shown
    ]  # fmt: skip
    rows.append(["all", "", *(_interval(values["accuracy"][name], 100) for name in names)])
    more = f", the lowest {_ROWS} of {len(values['by_value'])}" if len(values["by_value"]) > _ROWS else ""
    odds = []
    for size in ("mean", "max"):
        compared = [values["difference"][other][size] for other in ("all data", "random")]
        odds += [
            [f"{size} over classes", *(_interval(values["odds"][name][size], 100) for name in names),
             *map(_signed, compared)],
            [f"{size} by chance", *(_points(values["odds_by_chance"][name][size]) for name in names),
             *(f"{100 * found['by_chance']:+.1f}" for found in compared)],
            [f"{size} beyond chance", "", "", "", *(_signed(found["beyond_chance"]) for found in compared)],
        ]  # fmt: skip
    return [
        AuditTable(
            caption=f"Accuracy in percent by value of the attribute{more}", head=["value", *head[1:]], rows=rows
        ),
        AuditTable(
            caption="Equalised-odds gap in points: largest minus smallest rate of right answers among the values",
            head=["gap", *head[2:], "set minus all data", "set minus random"], rows=odds,
        ),
    ]  # fmt: skip


def _notes(
    bench: Bench, tested: Attribute, cells: Cells, settings: FairnessSettings, diverged: int
) -> list[str]:  # fmt: skip
    notes = [
        f"Intervals of 95 % of a gap are over {bench.students - diverged} students on these {len(bench.eval_source):,} "
        "test samples, those of differences also over test samples; all are of one set. By chance: the attribute is "
        "shuffled within each class. Of less accurate students this gap is larger, so that a change is shown only "
        "where both differences exclude 0 on one side.",
        f"Students of all data had {settings.full_steps:,} updates, the others {bench.protocol.recipe.steps[0]:,}.",
    ]
    if cells.left_out:
        classes = bench.eval_source.classes
        named = "; ".join(f"{tested.values[g]} in class {classes[c]} ({n})" for c, g, n in cells.left_out[:5])
        more = f" and {len(cells.left_out) - 5} more" if len(cells.left_out) > 5 else ""
        notes.append(f"With fewer than {settings.least} test samples, left out of the gap: {named}{more}.")
    if diverged:
        notes.append(f"{diverged} of {bench.students} students diverged in a training set and were left out of all.")
    return notes


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(value: Mapping[str, Any], times: float) -> str:
    mean, ends = times * value["mean"], value["ci95"]
    return f"{mean:.1f}" if ends is None else f"{mean:.1f} [{times * ends[0]:.1f}, {times * ends[1]:.1f}]"


def _signed(difference: Mapping[str, Any]) -> str:
    mean, ends = 100 * difference["mean"], difference["ci95"]
    return f"{mean:+.1f}" if ends is None else f"{mean:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
