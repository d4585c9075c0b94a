"""The result of all cells: a row for each way, partition and size, paired intervals over partitions, and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary

__all__ = ["conclude"]


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, ``verdicts`` and ``sentences`` of a result.

    ``difference`` of a row is its accuracy minus that of the best way that sends neither real samples nor models,
    paired over partitions.
    """
    rows, verdicts = [], []
    for partition in result["partitions"]:
        for size in result["bytes"]:
            here = [_row(result, partition, size, way) for way in result["ways"]]
            measured = [r for r in here if "accuracy" in r]
            best = _best(measured, ("averages", "distilled inputs"))
            for row in measured:
                if best is not None and row is not best:
                    row["difference"] = _paired(row, best)
            rows += here
            verdicts.append(_verdict(partition, size, best, measured))
    return {"rows": rows, "verdicts": verdicts, "sentences": [*(v["text"] for v in verdicts), *_dropouts(result)]}


def _dropouts(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each partition of which clients did not answer: which, and the classes that went."""
    said = []
    for name, every in result.get("dropped", {}).items():
        if not any(every):
            continue
        counts = result["clients"][name]
        gone = [
            result["classes"][c] for c in range(len(result["classes"]))
            if any(_lost(table, absent, c) for table, absent in zip(counts, every, strict=True))
        ]  # fmt: skip
        lost = (
            f"no sample at the others, in one partition at least, of {', '.join(gone)}" if gone else "no class is lost"
        )
        which = "; ".join(", ".join(map(str, absent)) for absent in every)
        said.append(f"{name}: {len(every[0])} of {len(counts[0])} clients did not answer ({which}); {lost}.")
    return said


def _lost(table: Sequence[Sequence[int]], absent: Sequence[int], c: int) -> bool:
    """Return whether only absent clients have samples of a class."""
    return any(row[c] for row in table) and not any(row[c] for n, row in enumerate(table) if n not in absent)


def _row(result: Mapping[str, Any], partition: str, size: int, way: Mapping[str, Any]) -> dict[str, Any]:
    cells = [
        c for c in result["cells"]
        if (c["way"], c["partition"]) == (way["name"], partition) and c["bytes"] in (size, None)
    ]  # fmt: skip
    row = {"way": way["name"], "sends": way["sends"], "partition": partition, "bytes": size, "n": len(cells)}
    if reason := next((c["reason"] for c in cells if "reason" in c), None):
        return {**row, "reason": reason}
    compared = sum(c["compared"] for c in cells)
    members = [c["least_members"] for c in cells if c["least_members"] is not None]
    return {
        **row, "accuracy": summary([c["accuracy"] for c in cells]),
        **{name: sum(c[name] for c in cells) / len(cells) for name in ("up", "down", "seconds")},
        "classes": [len(c["covered"]) for c in cells if "covered" in c],
        "items": [c["items"] for c in cells], "silent": [c["silent"] for c in cells],
        "nearest": sum(c["nearest"] for c in cells) / compared if compared else None, "compared": compared,
        "least_members": min(members, default=None),
    }  # fmt: skip


def _best(rows: Sequence[Mapping[str, Any]], sends: Sequence[str]) -> Mapping[str, Any] | None:
    return max((r for r in rows if r["sends"] in sends), key=lambda r: float(r["accuracy"]["mean"]), default=None)


def _paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return paired_difference(a["accuracy"]["values"], b["accuracy"]["values"])


def _verdict(
    partition: str, size: int, best: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how the best sets without real samples stand beside models and beside real samples."""
    at = f"{partition}, {size:,} bytes up"
    if best is not None and best["n"] < 2:
        at += " (one partition, so no intervals)"
    if best is None:
        return {
            "partition": partition,
            "bytes": size,
            "kind": "untested",
            "text": f"{at}: no way sends averages or distilled inputs.",
        }
    said = [f"{best['way']} reaches {_percent(best)}"]
    kind = "untested"
    models = [r for r in rows if r["sends"] in ("models", "sets and models") and r["up"]]
    if models:
        ahead = [r for r in models if _side(_paired(r, best)) > 0]
        behind = [r for r in models if _side(_paired(r, best)) < 0]
        kind = "sets" if len(behind) == len(models) else "models" if len(ahead) == len(models) else "mixed"
        for rows_of, words in ((behind, "less with"), (ahead, "more with")):
            if rows_of:
                said.append(
                    f"models have {words} " + ", ".join(f"{r['way']} ({_percent(r)}, {_traffic(r)})" for r in rows_of)
                )
        level = [r for r in models if r not in ahead and r not in behind]
        if level:
            said.append("not told apart: " + ", ".join(f"{r['way']} ({_percent(r)}, {_traffic(r)})" for r in level))
    real = _best(rows, ("real samples",))
    if real is not None:
        side = _side(_paired(real, best))
        words = {1: "have more", -1: "have less", 0: "are not told apart"}[side]
        said.append(f"real samples, where they may be sent, {words} ({real['way']}: {_percent(real)})")
    return {
        "partition": partition,
        "bytes": size,
        "kind": kind,
        "best": best["way"],
        "text": f"{at}: {'; '.join(said)}.",
    }


def _side(difference: Mapping[str, Any]) -> int:
    """Return 1 or -1 where a paired interval excludes zero, else 0."""
    ci = difference["ci95"]
    return 0 if ci is None else 1 if ci[0] > 0 else -1 if ci[1] < 0 else 0


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['accuracy']['mean']:.1f} %"


def _traffic(row: Mapping[str, Any]) -> str:
    return f"{(row['up'] + row['down']) / 1000:,.0f} kB up and down"
