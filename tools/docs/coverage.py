"""How often 95 % intervals miss on real data: benchmarks/coverage.py."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["coverage"]

_COLUMNS = {
    "score": "a score",
    "difference": "a difference",
    "wrong_sign": "wrong sign of claims",
    "equal": "equal sets called different",
}


def coverage(root: Path) -> str:
    """Rows of test samples; rates over all numbers of students, and the least and the greatest of now."""
    path = root / "results" / "coverage.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    rows: list[list[object]] = []
    for case in held["cases"]:
        name = f"{case['data']}, {case['ipc']} a class, {case['network']}"
        cells = [cell for cell in case["cells"] if cell["students"] > 1]
        for m in dict.fromkeys(cell["samples"] for cell in cells):
            of = [cell for cell in cells if cell["samples"] == m]
            rows.append([name, f"{m:,}", *(_rates(of, kind) for kind in _COLUMNS)])
            name = ""
    name = "methods, 2 to 10 sets (digits, mlp-w64)"
    for m in dict.fromkeys(cell["samples"] for cell in held["of_sets"]):
        of = [cell for cell in held["of_sets"] if cell["samples"] == m]
        rows.append([name, f"{m:,}", _rates(of, "score"), _rates(of, "difference"), "", _rates(of, "equal")])
        name = ""
    one = [cell for case in held["cases"] for cell in case["cells"] if cell["students"] == 1]
    machine = held["machine"]
    own, of_set, learners = (
        _span(cell[kind]["after"] for cell in one) for kind in ("score", "score_of_set", "difference")
    )
    said = (
        f"{held['times']:,} draws of test samples and students for each of 2, 3, 5 and 10 students: means, and of now "
        "the least and the greatest of the four. Wrong signs are per cent of the claims. Of one student the interval "
        f"misses this student's own accuracy in {own}, and the mean of the set's students, for which it is not, in "
        f"{of_set}; a difference of two learners that draw nothing is missed in {learners}. {machine['processor']}, "
        f"torch {machine['torch']}. `benchmarks/coverage.py`"
    )
    return f"{table(['data', 'test samples', *_COLUMNS.values()], rows)}\n\n{said}"


def _rates(cells: list[dict[str, Any]], kind: str) -> str:
    def of(when: str) -> list[float]:
        return [100 * cell[kind][when] for cell in cells]

    before, now = of("before"), of("after")
    return f"{sum(before) / len(before):.1f} → {sum(now) / len(now):.1f} ({min(now):.1f}–{max(now):.1f})"


def _span(rates: Iterable[float]) -> str:
    held = [100 * rate for rate in rates]
    return f"{min(held):.1f} to {max(held):.1f} %"
