"""Proxies for architecture search at equal compute: benchmarks/uses/search.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.reports.search import interval
from tools.docs.parts import table

__all__ = ["search"]


def search(root: Path) -> str:
    """A row for each budget and proxy, what they show, and how it was measured."""
    parts = []
    for path in sorted((root / "results" / "uses").glob("search-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        rows: list[list[object]] = []
        for row in held["rows"]:
            if "reason" in row:
                rows.append([row["budget"], row["proxy"], row["reason"], "", "", ""])
                continue
            regret = row["regret"]
            points = ", ".join(f"{100 * value:.1f}" for value in regret["values"])
            rows.append([
                row["budget"], row["proxy"], interval(row["tau"]),
                "" if row["difference"] is None else interval(row["difference"]),
                f"{100 * regret['mean']:.2f} ({points})", f"{sum(row['making']) / len(row['making']):.1f}",
            ])  # fmt: skip
        head = ["compute", "proxy", "tau", "minus early stopping", "regret, points (by seed)", "seconds to make"]
        accuracies = [c["accuracy"] for c in held["candidates"]]
        n = max(row.get("n", 0) for row in held["rows"])
        said = (
            f"{len(accuracies)} ConvNets of {held['data']}, {held['samples']:,} training samples; the truth is the "
            f"accuracy on {held['tested']:,} test samples after {held['updates']} updates of 64, the mean of "
            f"{held['truth_seeds']} seeds ({100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %). Compute is a "
            f"part of one seed of the truth, making included. Kendall's tau is a mean over {n} seeds of the proxy, "
            "with 95% bootstrap intervals over networks, paired for differences. Two seeds of the truth agree with tau "
            f"{interval(held['truth_tau'])}. {held['machine']['processor']}, one thread, torch "
            f"{held['machine']['torch']}. `benchmarks/uses/search.py`"
        )
        parts.append("\n\n".join([_verdict(held), table(head, rows), said]))
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _verdict(held: Mapping[str, Any]) -> str:
    """Return which proxies rank better or worse than early stopping, for each budget."""
    lines = []
    for budget in dict.fromkeys(row["budget"] for row in held["rows"]):
        rows = [r for r in held["rows"] if r["budget"] == budget and r.get("difference") and r["difference"]["ci95"]]
        better = [r["proxy"] for r in rows if r["difference"]["ci95"][0] > 0]
        worse = [r["proxy"] for r in rows if r["difference"]["ci95"][1] < 0]
        unfit = [r["proxy"] for r in held["rows"] if r["budget"] == budget and "reason" in r]
        line = f"- At {budget} of the compute, {', '.join(better) or 'no proxy'} ranks better than early stopping"
        line += f"; worse: {', '.join(worse)}" if worse else "; none is worse beyond its interval"
        line += f"; too expensive to make: {', '.join(unfit)}" if unfit else ""
        lines.append(f"{line}.")
    return "\n".join(lines)
