"""Privacy audits of several sets, and bounds of ε beside claims: benchmarks/trust/privacy_audit.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["privacy_audit"]


def privacy_audit(root: Path) -> str:
    """A row for each set: its items, its starts, and its other members by each attack; then bounds of ε."""
    path = root / "results" / "trust" / "privacy-audit.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    head: list[object] = [
        "set", "near copies", "nearest to own start", "starts found at 1 % FPR", "at 0.1 %", "others found at 1 %",
        "others: AUC by distance", "by means", "by features", "by loss",
    ]  # fmt: skip
    rows: list[list[object]] = []
    for row in held["rows"]:
        attacks = {(a["attack"], a["group"]): a for a in row["attacks"]}
        items, others = (
            row["items"],
            [attacks[name, "all others"] for name in ("distance", "means", "features", "loss")],
        )
        starts = attacks.get(("distance", "started an item"))
        best = max(others, key=lambda a: a["tpr"]["0.01"]["hits"])
        rows.append(
            [row["set"], _part(items["copies"]), _part(items["nearest_is_own_start"]),
             *(["", ""] if starts is None else [_part(starts["tpr"][rate]) for rate in ("0.01", "0.001")]),
             f"{_part(best['tpr']['0.01'])}, by {best['attack']}",
             *(interval(a["auc"], 1, ".3f") for a in others)]
        )  # fmt: skip
    n = held["rows"][0]["n"]
    said = (
        f"Sets of 10 items per class, {n} draws of {held['members']:,} members and {held['held_out']:,} held-out "
        f"records of {held['source']}, half of them reference: percent of the items or records of all draws "
        "with Clopper-Pearson intervals, at the threshold that was found; AUC within classes as means over draws with "
        f"Student's t, 0.5 by chance. Others found at 1 %: the best of four attacks. {held['machine']['processor']}, "
        f"one thread, torch {held['machine']['torch']}. `benchmarks/trust/privacy_audit.py`"
    )
    return "\n\n".join([table(head, rows), said, _epsilon(held)])


def _part(value: Mapping[str, Any]) -> str:
    if not value["n"]:
        return "none"
    low, high = value["ci95"]
    return f"{100 * value['hits'] / value['n']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _epsilon(held: Mapping[str, Any]) -> str:
    rows: list[list[object]] = [
        [row["way"], f"{row['claimed']:g}", ", ".join(f"{bound:.2f}" for bound in row["bounds"]),
         f"{sum(bound > row['claimed'] for bound in row['bounds'])} of {row['n']}"]
        for row in held["epsilon"]
    ]  # fmt: skip
    first = held["epsilon"][0]
    said = (
        f"Lower bounds of ε at 95 % from one run each, {first['canaries']} canaries among {first['records']} records, "
        f"δ = {first['delta']:g}; {first['n']} draws. The noise is that of the analytic Gaussian mechanism, with "
        "numbers of records taken as public."
    )
    return f"{table(['way', 'ε claimed', 'ε at least', 'claim refuted'], rows)}\n\n{said}"
