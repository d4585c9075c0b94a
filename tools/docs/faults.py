"""Writes that fail, full disks, kills and bits that fall over: benchmarks/faults.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["faults"]


def faults(root: Path) -> str:
    """Of each command: how many faults, and what became of them."""
    path = root / "results" / "faults.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for name in dict.fromkeys(row["command"] for row in held["rows"]):
        of = {row["part"]: row for row in held["rows"] if row["command"] == name}
        calls = next(iter(of.values()))["calls"]
        rows.append([f"`{name}`", calls, *(_cell(of.get(part)) for part in ("errors", "full", "kills"))])
    bits, n = held["bits"], {part: held[part] for part in ("errors", "full", "kills")}
    lost = sum(part["lost"] for part in n.values())
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(bits["kinds"].items(), key=lambda k: -k[1]))
    said = (
        f"In all {n['errors']['faults']} writes that failed, {n['full']['faults']} full disks and "
        f"{n['kills']['faults']} kills: after {sum(part['same'] for part in n.values()):,} of them the same command "
        "again ended with what an undisturbed run writes, every tensor bit for bit (seconds, dates and peak memory "
        f"aside). {lost} unfinished files were left beside an output. One bit was turned in each of {bits['files']} "
        f"files ({bits['distinct']} different ones; {kinds}): `potstill verify` noticed {bits['noticed']}. On digits, "
        "small settings; `experts` is `distill` with trajectories to train, `select` with real samples, and `npz`, "
        f"`png`, `parquet`, `webdataset` and `hf` are `export`; {held['machine']['processor']}, torch "
        f"{held['machine']['torch']}. `benchmarks/faults.py`"
    )
    head = ["command", "calls that write", "one call fails", "the disk is full from a call on", "killed"]
    return f"{table(head, rows)}\n\n{said}"


def _cell(row: dict[str, Any] | None) -> str:
    """So many faults: refused in one line, done all the same, wrong."""
    if row is None or not row["faults"]:
        return "—"
    if row["part"] == "kills":
        return f"{row['faults']}: {row['same']} went on" + (f", {len(row['wrong'])} wrong" if row["wrong"] else "")
    wrong = f", {len(row['wrong'])} wrong" if row["wrong"] else ""
    return f"{row['faults']}: {row['told']} refused, {row['borne']} done{wrong}"
