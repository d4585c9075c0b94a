"""Deletion and growth, in seconds, hashes, membership and accuracy: benchmarks/uses/deletion.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.reports.continual import percent, points
from tools.docs.parts import interval, table

__all__ = ["deletion"]

_KINDS = {"class": "of one class", "source": "of one source in all classes", "uniform": "uniformly drawn"}


def deletion(root: Path) -> str:
    """A row for each set and kind of deletion, membership, accuracy, and growth."""
    path = root / "results" / "uses" / "deletion-fashion-mnist.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    head: list[object] = ["set", "deleted: 1 %", "units made", "seconds", "from scratch", "times faster", "equal bits"]
    rows: list[list[object]] = []
    for row in held["rows"]:
        made = sorted(set(row["remade"]))
        units = f"{made[0]}" if len(made) == 1 else f"{made[0]} to {made[-1]}"
        rows.append(
            [row["set"], _KINDS[row["kind"]], f"{units} of {row['units']}", f"{row['seconds']['mean']:.1f}",
             f"{row['anew_seconds']['mean']:.1f}", ", ".join(f"{v:.1f}" for v in row["times_faster"]["values"]),
             f"{row['equal']} of {row['n']}"]
        )  # fmt: skip
    said = (
        f"{held['source']}, {held['samples']:,} records in {held['sources']} drawn sources; the processor's seconds "
        f"with reading, hashing and joining, one thread, {held['machine']['processor']}, torch "
        f"{held['machine']['torch']}; means over the deletions, and how many times faster each was. Groups of `dm, 10 "
        "parts` have no names, so that one may move to another part. `benchmarks/uses/deletion.py`"
    )
    return "\n\n".join([table(head, rows), said, _membership(held), _accuracy(held), _growth(held["growth"])])


def _auc(score: Mapping[str, Any]) -> str:
    low, high = score["ci95"]
    return f"{score['auc']:.2f} [{low:.2f}, {high:.2f}]"


def _membership(held: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    cases = [(f"{row['set']}, {_KINDS[row['kind']]}", row["membership"]) for row in held["rows"]]
    cases += [(f"{c['set']}: its own {c['deleted']} records, against {c['against']}", c) for c in held["controls"]]
    for name, scores in cases:
        cells = [_auc(scores[when][by]) for by in ("distance", "loss") for when in ("before", "after")]
        rows.append([name, *cells])
    after = [scores["after"][by]["verdict"] for _, scores in cases for by in ("distance", "loss")]
    near, counted = after.count("at chance"), len(after)
    head: list[object] = ["deleted from", "distance, before", "after", "loss, before", "after"]
    said = (
        "Do the deleted records differ from held-out ones? AUC within classes, with 95% intervals over records (0.5: "
        f"no). After the deletion, {near} of {counted} intervals hold 0.5; tests of one kind share their deleted "
        "records, so that they are not independent. The last rows are a control that the test must see: all records "
        "of the set itself."
    )
    repeated = held["repeated"]
    n = len(repeated["loss"]["values"])
    over = (
        f"Over {n} further draws of such a set, the AUC after deleting all of its records is "
        f"{interval(repeated['distance'], 1, '.2f')} by distance and {interval(repeated['loss'], 1, '.2f')} by loss, "
        "with 95% intervals over the draws."
    )
    return "\n\n".join([said, table(head, rows), over])


def _accuracy(held: Mapping[str, Any]) -> str:
    learner = held["learner"]
    rows: list[list[object]] = [
        [row["set"], f"{row['items']:,}", f"{row['bytes']:,}", percent(row["accuracy"])] for row in held["accuracy"]
    ]
    n = len(held["accuracy"][0]["accuracy"]["values"])
    return "\n\n".join([
        f"What the sets are worth: accuracy in percent of {n} students ({learner['network']}, {learner['updates']} "
        "updates). The sets of `dm` are short runs, for the seconds above; `herding` and `random` are real samples in "
        "1 bit a value and half the size. `dm, cosines, one run` is the first set with all classes in one run.",
        table(["set", "items", "bytes", "accuracy"], rows),
    ])  # fmt: skip


def _growth(held: Mapping[str, Any]) -> str:
    ways = held["ways"]
    rows: list[list[object]] = []
    names = {
        "unchanged": "the set of the first half", "anew": f"made from scratch, {held['steps']} steps",
        "warm": f"goes on from its items, {held['warm_steps']} steps",
    }  # fmt: skip
    for way, name in names.items():
        lost = "" if way == "anew" else points(held["minus_anew"][way])
        rows.append([name, percent(ways[way]["accuracy"]), lost, f"{ways[way]['seconds']['mean']:.1f}"])
    classes = held["classes"]
    equal = "with the bits of" if classes["equal"] else "NOT with the bits of"
    return "\n\n".join([
        f"Growth of `dm, cosines`: {held['records']:,} more records of the same classes, n = {held['n']} pairs.",
        table(["set", "accuracy", "minus from scratch", "seconds"], rows),
        f"Two new classes beside eight take {classes['seconds']:.1f} seconds, {equal} a set made from scratch in "
        f"{classes['anew_seconds']:.1f}.",
    ])  # fmt: skip
