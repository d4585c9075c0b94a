"""The table and the figure of search proxies, made of results that several data sets and an unfit proxy have."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tools.docs.search import crossing, figure, search

BUDGETS = ("1/100", "1/10")


def row(budget: str, proxy: str, tau: float, gap: float | None, half: float = 0.05) -> dict[str, Any]:
    return {
        "proxy": proxy, "budget": budget, "n": 3, "tau": {"value": tau, "ci95": [tau - 0.1, tau + 0.1]},
        "difference": None if gap is None else {"value": gap, "ci95": [gap - half, gap + half]},
        "regret": {"mean": 0.012, "values": [0.012]}, "making": [1.0, 3.0],
    }  # fmt: skip


def result(data: str) -> dict[str, Any]:
    rows = [row(b, "early stopping", 0.6, None) for b in BUDGETS]
    rows += [row("1/100", "dm:10", 0.7, 0.1), row("1/10", "dm:10", 0.55, -0.05)]
    rows += [row("1/10", "random:50", 0.4, -0.2)]
    rows += [{"proxy": "frepo:10", "budget": b, "reason": "making it took 3 s of 2 s"} for b in BUDGETS]
    return {
        "data": data, "samples": 1000, "tested": 500, "updates": 50, "batch": 40, "rows": rows, "truth_seeds": 2,
        "candidates": [{"name": "a", "accuracy": 0.5}, {"name": "b", "accuracy": 0.75}],
        "truth_tau": {"value": 0.9, "ci95": [0.8, 1.0]},
        "machine": {"processor": "P", "gpu": "G", "torch": "2", "device": "cuda"},
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "uses"
    folder.mkdir(parents=True)
    for data in ("fashion-mnist", "photo-patches"):
        (folder / f"search-{data}.json").write_text(json.dumps(result(data)))
    return tmp_path


def test_each_data_set_has_a_table_with_what_is_told_apart(root: Path) -> None:
    text = search(root)
    assert "**Fashion-MNIST, 2 networks**" in text
    assert "**Photo patches, 2 networks**" in text
    assert text.count("| dm:10 | 0.70 [0.60, 0.80] better | 0.55 [0.45, 0.65] | 1.20 | 2.0 |") == 2
    assert "| random:50 | – | 0.40 [0.30, 0.50] worse | 1.20 | 2.0 |" in text
    assert "| frepo:10 | too expensive | too expensive | – | – |" in text
    assert "At 1/100 of the compute, dm:10 ranks better than early stopping; none is worse" in text
    assert "after 50 updates of 40 on 1,000 training samples (2.0 passes)" in text
    assert "G, shared by several processes of one thread, torch 2." in text


def test_a_sentence_says_where_a_made_set_crosses_early_stopping() -> None:
    rows = result("x")["rows"]
    assert crossing(rows, "dm:10") == (
        "The mean tau of `dm:10` is above that of early stopping at 1/100, and crosses it between 1/100 and 1/10 of "
        "the compute."
    )
    assert crossing(rows, "frepo:10") == "`frepo:10` is too expensive to make in every budget."
    assert "below that of early stopping" in crossing(rows, "random:50")
    assert "is above" in crossing([row("1/10", "dm:10", 0.7, 0.1)], "dm:10")


def test_the_figure_has_a_panel_for_each_data_set_and_a_line_for_each_proxy(root: Path) -> None:
    svg = ElementTree.fromstring(figure(root))
    texts = [one.text for one in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Fashion-MNIST, 2 networks", "Photo patches, 2 networks"} <= set(texts)
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}polyline"))) == 4
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 10
