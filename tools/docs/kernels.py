"""The table of what kernel ridge regression costs."""

import json
from pathlib import Path

from tools.docs.parts import table

__all__ = ["kernel_costs"]


def kernel_costs(root: Path) -> str:
    path = root / "results" / "kernel_costs.json"
    if not path.exists():
        return "Nothing has been counted yet."
    made = json.loads(path.read_text(encoding="utf-8"))
    sides = {"published": "published, CIFAR-10, 10 per class", "quick": "`quick`, 28×28 grey, 1 per class"}
    rows: list[list[object]] = [
        [
            r["what"], sides[r["side"]], r["about"], f"{r['flop'] / 1e9:,.3g}" if r["flop"] < 1e12 else
            f"{r['flop'] / 1e9:,.0f}", "—" if r["steps"] is None else f"{r['steps']:,}",
            f"{1000 * r['seconds']:.0f}" if "seconds" in r else "—",
        ]
        for r in made["rows"]
    ]  # fmt: skip
    m = made["machine"]
    about = (
        f"Counted in closed form (`benchmarks/kernel_costs.py`); milliseconds of one thread, median of {made['steps']} "
        f"steps, convnet-w32; {m['processor']}, {m['cores']} cores shared with others, torch {m['torch']}."
    )
    head: list[object] = ["method", "settings", "with", "10⁹ operations of a step", "steps", "ms of a step"]
    return table(head, rows) + f"\n\n{about}"
