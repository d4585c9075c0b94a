"""Sets of nodes of graphs: benchmarks/graphs.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import interval, table

__all__ = ["graph_findings", "graphs"]


def graphs(root: Path) -> str:
    """A table for each graph and number of nodes, a row for each way to make a set."""
    path = root / "results" / "graphs.json"
    if not path.exists():
        return "Nothing has been measured yet."
    held = json.loads(path.read_text(encoding="utf-8"))
    s, blocks = held["settings"], []
    for graph in held["graphs"]:
        parts = [part for part in graph["parts"] if part["rows"]]
        blocks += [_block(graph, part, list(s["learners"])) for part in parts]
    about = [
        f"Public splits; test accuracy in percent: means of {s['seeds']} sets with 95 % intervals (Student's t), each",
        f"the mean of {s['students']} students. Values have 8 bits where a row does not say otherwise, bytes are",
        "arithmetic-coded, and rows have equal nodes, not equal bytes. Nodes of `real` are a mean.",
        "Published figures are of a GCN and stand in",
        f"{held['published']}. There real nodes keep their own features and",
        "edges; here they have propagated features, so that rows of real nodes are not those of the papers.",
        f"Seconds are of making a set. {held['machine']['processor']}, one thread, torch {held['machine']['torch']}.",
        *_other_machine(held.get("other_machine")),
        "`benchmarks/graphs.py`",
    ]
    note = " ".join(about)
    return "\n\n".join([*blocks, note])


def _other_machine(other: Mapping[str, Any] | None) -> list[str]:
    """Return a sentence on rows that were measured on another processor."""
    return [f"On {other['processor']}: {'; '.join(other['rows'])}."] if other else []


def graph_findings(root: Path) -> str:
    """The highest mean of a distilled set, of means of clusters and of real nodes under a GCN, beside the graph."""
    path = root / "results" / "graphs.json"
    if not path.exists():
        return "Nothing has been measured yet."
    lines = []
    for graph in json.loads(path.read_text(encoding="utf-8"))["graphs"]:
        for part in (part for part in graph["parts"] if part["rows"]):
            best = [
                max((r for r in part["rows"] if _family(r) == family), key=lambda r: r["scores"]["gcn"]["mean"],
                    default=None)
                for family in ("distilled", "means", "real")
            ]  # fmt: skip
            words = [_in_words(row) for row in best if row is not None]
            published = graph["published"][str(part["nodes"])]
            lines.append(
                f"- **{graph['graph'].capitalize()}, {part['nodes']} nodes.** {'; '.join(words)}. Published: GCond "
                f"{published['GCond']} %, SFGC {published['SFGC']} %. The graph itself: "
                f"{100 * graph['full']['gcn']['mean']:.1f} %."
            )
    return "\n".join(
        [
            "Highest means of a GCN by a distilled set, by means of clusters, and by selected real nodes, at equal "
            "nodes (not equal bytes), each picked among its rows by this test score and so somewhat high:",
            "",
            *lines,
        ]
    )


def _family(row: Mapping[str, Any]) -> str:
    name = str(row["row"])
    if ", bytes of " in name or name.endswith((" bit", " bits")):
        return "of other bytes"
    if name.startswith(("dc", "dm", "kip", "frepo")):
        return "distilled"
    return "means" if "means (" in name else "real"


def _in_words(row: Mapping[str, Any]) -> str:
    return f"{100 * row['scores']['gcn']['mean']:.1f} % by {row['row']} ({row['bytes']:,.0f} bytes)"


def _block(graph: Mapping[str, Any], part: Mapping[str, Any], learners: list[str]) -> str:
    head: list[object] = ["set", "bytes", "seconds", *learners]
    rows: list[list[object]] = [
        [
            _name(row), f"{row['bytes']:,.0f}", f"{row['seconds']:.1f}",
            *(interval(row["scores"][n], 100, ".1f") for n in learners),
        ]
        for row in part["rows"]
    ]  # fmt: skip
    rows += [[f"published: {name}", "", "", f"{value:.1f}", *("" for _ in learners[1:])]
             for name, value in graph["published"][str(part["nodes"])].items()]  # fmt: skip
    rows.append(
        ["all training nodes and the graph", "", "", *(f"{100 * graph['full'][n]['mean']:.1f}" for n in learners)]
    )
    title = f"**{graph['graph'].capitalize()}, {part['nodes']} nodes ({100 * part['ratio']:.1f} % of all)**"
    return f"{title}\n\n{table(head, rows)}"


def _name(row: Mapping[str, Any]) -> str:
    """Return a row's name, with its nodes where they are those that some bytes hold."""
    return f"{row['row']} ({row['items']} nodes)" if ", bytes of " in row["row"] else str(row["row"])
