"""Tables of input limits (`potstill._util.input_limits`) and of results of fuzzing (tests/fuzz/targets.py)."""

import json
from dataclasses import fields
from pathlib import Path

from potstill._util.input_limits import Limits, limit_description
from tools.docs.parts import table

__all__ = ["fuzzed", "limits"]


def limits(root: Path) -> str:
    """Of each limit: its name, its value, what it counts."""
    rows: list[list[object]] = [
        [f"`{f.name}`", _shown(f.name, int(getattr(Limits(), f.name))), limit_description(f.name)]
        for f in fields(Limits)
    ]
    return table(["limit", "at most", "counts"], rows)


def _shown(name: str, value: int) -> str:
    if name.endswith("_bytes"):
        for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
            if value % 2**power == 0:
                return f"{value >> power:,} {unit}"
    return f"{value:,}"


def fuzzed(root: Path) -> str:
    """How many inputs were tried, and what was found."""
    path = root / "results" / "fuzz.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows, found = made["rows"], made["found"]
    least, most = (pick(rows, key=lambda r: int(r["tried"])) for pick in (min, max))
    where = ", ".join(f"{r['target']} {len(r['found'])}" for r in rows if r["found"])
    ended = f"{found} kinds of them ({where}) ended otherwise; each has a test" if found else "none did"
    return (
        f"{len(rows)} readers were given {made['tried']:,} damaged inputs by atheris in {made['seconds'] / 60:,.0f} "
        f"minutes of one process, start included ({most['target']} {most['tried']:,}, {least['target']} "
        f"{least['tried']:,}). All should end in a result or in one line: {ended}. `tests/fuzz/targets.py`, "
        f"{made['machine']['processor']}."
    )
