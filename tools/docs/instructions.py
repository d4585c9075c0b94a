"""Selections of instructions for a target: benchmarks/instructions.py."""

import json
from pathlib import Path
from typing import Any

from potstill.uses.instructions import WAYS
from tools.docs.parts import table

__all__ = ["instructions"]


def instructions(root: Path) -> str:
    """A sentence on the best rows, a row for each way, and how it was measured."""
    path = root / "results" / "instructions.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    forms = list(held["rows"]["less"]["bits"])
    rows: list[list[object]] = []
    for way, row in held["rows"].items():
        own = [share for share in row["own"].values() if share is not None]
        rows.append([
            WAYS[way], f"{row['items']:,}", f"{row['bytes']:,.0f}",
            f"{100 * sum(own) / len(own):.0f}" if own else "",
            *(_cell(row["bits"][form]) for form in forms),
            *("" if way == "less" else _gap(row["less minus it"][form]) for form in forms),
        ])  # fmt: skip
    head = [
        "learned", "samples", "bytes", "of the target's task, %", *forms, *(f"LESS minus it, {form}" for form in forms)
    ]  # fmt: skip
    many = len(held["targets"])
    over = (
        f"mean over {many} targets ({', '.join(held['targets'])})" if many > 1 else f"one target, {held['targets'][0]}:"
    )
    spread = "with 95% intervals over targets; differences are paired" if many > 1 else "and no interval"
    text = (
        f"Bits a byte of {held['test']} test responses, less is better; {over} "
        f"{'of' if many > 1 else 'the mean of'} {', '.join(map(str, held['students']))} models of a form, "
        f"{spread}. Pool: {held['pool']:,} of {len(held['tasks'])} tasks: "
        "descriptions of functions of Python packages, and of Debian packages of a section. "
        f"{held['items']} are chosen for {held['target']} "
        f"samples of the target; models learn {held['base']:,} others as plain texts first. "
        f"{held['machine']['processor']}, one thread. "
        "`benchmarks/instructions.py`"
    )
    findings = [_findings(held["rows"], forms)] if many > 1 else []
    each = [_by_target(held["by target"], forms)] if many > 1 else []
    return "\n\n".join([*findings, table(head, rows), *each, text])


def _by_target(targets: dict[str, Any], forms: list[str]) -> str:
    """Return a row for each target and model with the means of its models."""
    ways = ("random", "bm25", "tfidf", "states", "less")
    rows: list[list[object]] = []
    for target, one in targets.items():
        bits = {row["name"]: row["bits"] for row in one["rows"]}
        rows += [[target, form, *(f"{bits[way][form]['mean']:.3f}" for way in ways)] for form in forms]
    return table(["target", "learner", *(WAYS[way] for way in ways)], rows)


def _cell(value: dict[str, Any]) -> str:
    ci = value["ci95"]
    return f"{value['mean']:.3f}" + ("" if ci is None else f" [{ci[0]:.3f}, {ci[1]:.3f}]")


def _gap(value: dict[str, Any]) -> str:
    ci = value["ci95"]
    return f"{value['mean']:+.3f}" + ("" if ci is None else f" [{ci[0]:+.3f}, {ci[1]:+.3f}]")


def _findings(rows: dict[str, Any], forms: list[str]) -> str:
    """Return which rivals LESS is ahead of, behind, and not told apart from, for each model."""
    lines = []
    for form in forms:
        sides: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
        for way in ("random", "lengths", "bm25", "tfidf", "states", "target", "all"):
            ci = rows[way]["less minus it"][form]["ci95"]
            side = "ahead of" if ci and ci[1] < 0 else "behind" if ci and ci[0] > 0 else "not told apart from"
            sides[side].append(WAYS[way])
        said = "; ".join(f"{side} {', '.join(names)}" for side, names in sides.items() if names)
        lines.append(f"- **{form}**: LESS is {said}.")
    return "\n".join(lines)
