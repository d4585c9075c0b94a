"""A network in the set that labels views: benchmarks/network_labels.py."""

import json
from pathlib import Path
from typing import Any

from tools.docs.frontier import NAMES, fewer_bytes, multiple
from tools.docs.parts import interval, table

__all__ = ["network_labels"]

WORDS = {
    "labelled": "`--labels network`", "real": "best coded real samples",
    "mixed": "those real samples, mixed with their classes", "network": "that network alone, no student",
}  # fmt: skip


def network_labels(root: Path) -> str:
    """A table for each data set, a row for each budget and way."""
    path = root / "results" / "network_labels.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    parts = sorted(held["data"].values(), key=lambda part: (part["name"], part["updates"]))
    about = (
        "Test accuracy in percent: means over sets with 95 % intervals (Student's t), "
        f"{' or '.join(str(n) for n in sorted({part['students'] for part in parts}))} students a set; minus real: the "
        f"difference in pairs and its interval. {held['machine']['processor']}, torch {held['machine']['torch']}. "
        "`benchmarks/network_labels.py`"
    )
    return "\n\n".join([*map(_block, parts), about])


def _block(part: dict[str, Any]) -> str:
    first = next(ways for ways in part["rows"].values() if "labelled" in ways)
    networks = list(first["labelled"]["scores"])
    head: list[object] = ["budget", "set", "bytes", "samples"]
    head += [cell for n in networks for cell in (f"`{n}`", "minus real")]
    rows: list[list[object]] = []
    for size, ways in sorted(part["rows"].items(), key=lambda item: int(item[0])):
        for way, of in ways.items():
            how = ", ".join(f"`{codec}`" for codec in of.get("codecs", ())) or of.get("way") or ""
            set_ = f"{WORDS[way]}{f', {how}' if how and how != 'of the search' else ''}"
            cells: list[object] = [f"{int(size) / 1000:g} kB", set_, f"{of['bytes']:,}", of["items"] or ""]
            for n in networks:
                own = of["scores"].get(n) or (of["scores"].get("") if n == networks[0] else None)
                gap = of.get("over real", {}).get(n)
                cells.append("" if own is None else interval(own, 100, ".1f"))
                cells.append("" if gap is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(
                    *(100 * value for value in (gap["mean"], *gap["ci95"]))
                ))  # fmt: skip
            rows.append(cells)
    name, sets = NAMES.get(part["name"], part["name"]), first["labelled"]["n"]
    title = f"**{name}, students of {part['updates']:,} updates, {part['views']:,} views, n = {sets} sets**"
    return f"{title}\n\n{table(head, rows)}" + "".join(f"\n\n{line}" for line in _multiples(part, networks[0]))


def _multiples(part: dict[str, Any], network: str) -> list[str]:
    """Return sentences for each budget: the gain over mixed real rows, and k where more bytes were measured, too."""
    best = [
        max(
            (ways[way] for way in ("real", "mixed") if way in ways),
            key=lambda row: float(row["scores"][network]["mean"]),
        )
        for ways in part["rows"].values() if "real" in ways
    ]  # fmt: skip
    curve = sorted((row["bytes"], row["scores"][network]["values"]) for row in best)
    lines = []
    for size, ways in sorted(part["rows"].items(), key=lambda item: int(item[0])):
        if "over mixed" in ways.get("labelled", {}):
            gaps = (
                f"`{n}` " + "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * v for v in (gap["mean"], *gap["ci95"])))
                for n, gap in ways["labelled"]["over mixed"].items()
            )
            lines.append(f"At {int(size) / 1000:g} kB `--labels network` minus mixed real samples: {', '.join(gaps)}.")
        if "labelled" in ways and len(curve) > 1 and curve[-1][0] > 2 * int(size):
            own = ways["labelled"]
            k = fewer_bytes(curve, own["scores"][network]["values"], own["bytes"])
            lines.append(
                f"For the accuracy of the set of {int(size) / 1000:g} kB (`{network}`), real samples need "
                f"{multiple(k)} times its bytes, on the line through those that were measured."
            )
    return lines
