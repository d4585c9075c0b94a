"""What loading costs, from benchmarks/decoded.py."""

import json
from pathlib import Path

from tools.docs.parts import table

__all__ = ["decoded"]

_SAID = {
    "first": "first time: decoded, and kept",
    "next": "next time: from the cache",
    "checked": "next time, with `--check-cache`",
}


def decoded(root: Path) -> str:
    path = root / "results" / "decoded.json"
    if not path.exists():
        return "Nothing has been measured yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for kind, words in _SAID.items():
        ratio = f"{made['ratio'][kind]:.0f}" if kind in made["ratio"] else ""
        spread = [
            f"{t['median']:.2f} [{t['least']:.2f}, {t['most']:.2f}]" for t in (made["core"][kind], made["clock"][kind])
        ]
        rows.append([words, *spread, ratio])
    head: list[object] = ["loading", "seconds of a core", "seconds", "times as fast, of the core"]
    return table(head, rows) + (
        f"\n\n{made['count']:,} JPEG files of {made['sizes'][0][0]} × {made['sizes'][0][1]} and sizes near it; medians "
        f"and range over {made['rounds']} turns, ratio of medians. {made['machine']['processor']}."
    )
