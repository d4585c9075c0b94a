"""Measured and published numbers of one method: its rows of every table that scripts make, with what they are of."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tools.docs import choice, labels, matching, selection, strong
from tools.docs.parts import table

__all__ = ["BLOCKS", "Block", "measured", "rows_of"]

ROOT = Path(__file__).resolve().parents[2]


class Block(NamedTuple):
    """Tables of one page."""

    page: str
    """Below docs/."""
    about: str
    """Text before the rows of a method."""
    make: Callable[[Path], str]
    """Function that returns the tables as Markdown, as on their page."""


BLOCKS = (
    Block("benchmarks/published.md", "Short runs here beside the published numbers", matching.results),
    Block("benchmarks/strong.md", "The smallest sets: accuracy by stored bytes and seconds", strong.strong),
    Block("benchmarks/choice.md", "Fashion-MNIST, 40 seconds of a core, over each parametrization", choice.choose),
    Block("benchmarks/selection.md", "Parts of the data kept, beside random samples", selection.pruning),
    Block("benchmarks/labels.md", "Labelled by teachers, beside real samples with the same labels", labels.labellers),
    Block("benchmarks/recipes.md", "Its recipe, in a minute or so", matching.recipes),
)  # fmt: skip
TITLES = ("method", "arm", "recipe", "objective", "set")
"""Headings of the column that names a method."""


def measured(name: str) -> str:
    """Return all rows of a method, each group under a link to the page that says how they were made."""
    found = [*_quick(name), *_published(name)]
    for block in BLOCKS:
        if groups := rows_of(name, _made(block)):
            found.append(f"[{block.about}](../{block.page}):\n\n" + "\n\n".join(groups))
    return "\n\n".join(found) or "Nothing has been measured of it yet."


@functools.cache
def _made(block: Block) -> str:
    return block.make(ROOT)


def rows_of(name: str, text: str) -> list[str]:
    """Return the tables of a text with the rows of a method alone, each under what it is of.

    That is the bold line above a table, or the data that the line below it begins with.
    """
    named = re.compile(rf"`(?:recipes/)?{re.escape(name)}(?:-now)?(?:-frequency\d*|-tiles|\.yaml|:[^`]*)?`(?:,|$)")
    found, caption = [], ""
    parts = re.split(r"\n{2,}", text)
    for part, after in zip(parts, [*parts[1:], ""], strict=True):
        if not part.startswith("|"):
            caption = part if part.startswith("**") and len(part) < 300 else ""
            continue
        if after.startswith("`"):
            caption = f"{after.partition(':')[0]}:"
        head, rule, *rows = part.splitlines()
        titles = [cell.strip().partition(",")[0] for cell in head.split("|")]
        at = next((titles.index(title) for title in TITLES if title in titles), 0)
        if kept := [row for row in rows if named.match(row.split("|")[at].strip())]:
            found.append("\n".join([*([caption, ""] if caption else []), head, rule, *kept]))
    return found


def _quick(name: str) -> list[str]:
    """Return its quick preset on small data beside random samples."""
    made = json.loads((ROOT / "results/sane-digits.json").read_text(encoding="utf-8"))
    cell, random = made["methods"].get(name, {}), made["methods"]["random"]["accuracy"]
    if "accuracy" not in cell:
        return []
    options = made["options"]
    points = [f"{100 * cell['accuracy']:.1f}", f"{100 * random:.1f}", f"{100 * (cell['accuracy'] - random):+.1f}"]
    rows: list[list[object]] = [[f"`{name}`", *points]]
    head: list[object] = ["method", "accuracy, %", "random samples, %", "difference, points"]
    return [
        f"[Preset quick, {options['ipc']} of each class of `{options['data']}`](../explanation/limitations.md) "
        f"(one set: five points to either side say nothing):\n\n{table(head, rows)}"
    ]


def _published(name: str) -> list[str]:
    """Return the published accuracies of `results/published_figures.json`."""
    made = json.loads((ROOT / "results/published_figures.json").read_text(encoding="utf-8"))
    if name not in made["methods"]:
        return []
    found = made["methods"][name]
    rows: list[list[object]] = [
        [row["data"], row["network"], *(row["accuracy"].get(ipc, "—") for ipc in ("1", "10", "50")),
         _reported(row["source"], row.get("own", False)), row.get("remark", "")]
        for row in found
    ]  # fmt: skip
    head: list[object] = ["data", "student", "1 a class, %", "10", "50", "as reported by", "remark"]
    second = "" if all(row.get("own") for row in found) else f" {SECOND_HAND}"
    note = f"{made['note'][:1].upper()}{made['note'][1:]}."
    return [
        f"### Published numbers\n\nBy each paper's own protocol. {note} No spread is kept here: the source may have it."
        f"{second} [Measure one again](../explanation/accuracy.md#reproduce-a-published-number).\n\n{table(head, rows)}"
    ]


SECOND_HAND = (
    "Where the source is not *the authors*, another paper printed the number in its table of rivals; its own paper may "
    "print another."
)


def _reported(source: str, own: bool) -> str:
    """Return a source as a link, and whether it is the authors of the method."""
    address, _, where = source.partition(", ")
    link = f"[{address.rpartition('/')[2]}](https://{address}), {where}"
    return f"{link} (the authors)" if own else link
