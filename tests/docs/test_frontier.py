"""k of benchmarks/frontier.py: how many times the bytes of a distilled set real samples of its accuracy need."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.docs import frontier

CURVE = [(1000, [0.70, 0.70]), (4000, [0.80, 0.80])]


def test_k_is_read_off_the_logarithm_of_bytes() -> None:
    found = frontier.fewer_bytes(CURVE, [0.75, 0.75], 500.0)
    assert found["k"] == pytest.approx(4.0)  # half way from 1,000 to 4,000 by ratio is 2,000
    assert found["low"] == pytest.approx(4.0)
    assert found["high"] == pytest.approx(4.0)
    assert frontier.multiple(found) == "4.0 [4.0, 4.0]"


@pytest.mark.parametrize(("accuracy", "said"), [(0.9, "> 4.0 [> 4.0, > 4.0]"), (0.6, "< 1.0 [< 1.0, < 1.0]")])
def test_k_beyond_the_curve_is_a_bound(accuracy: float, said: str) -> None:
    assert frontier.multiple(frontier.fewer_bytes(CURVE, [accuracy], 1000.0)) == said


def test_k_is_below_one_where_real_samples_need_fewer_bytes() -> None:
    assert frontier.fewer_bytes(CURVE, [0.75], 4000.0)["k"] == pytest.approx(0.5)


def test_more_bytes_are_never_worth_less() -> None:
    """A real set that falls behind a smaller one does not count."""
    curve = [*CURVE, (16000, [0.78])]
    assert frontier.fewer_bytes(curve, [0.79], 1000.0)["k"] < 4.0


def test_the_interval_of_k_widens_with_the_spread_of_sets() -> None:
    found = frontier.fewer_bytes(CURVE, [0.72, 0.75, 0.78], 1000.0)
    assert found["low"] < found["k"] < found["high"]


def cells() -> dict[str, Any]:
    real, made = {"codec": "exact", "selection": "random", "labels": "hard", "items": 9}, {"arm": "dm"}
    return {
        "1000|real": {**real, "bytes": 900}, "1000|real|mlp-w128": {"accuracy": [0.7, 0.72]},
        "4000|real": {**real, "bytes": 4000}, "4000|real|mlp-w128": {"accuracy": [0.8, 0.82]},
        "1000|made|mlp-w128": {**made, "accuracy": [0.75, 0.76], "bytes": [980, 990]},
        "1000|model": {"accuracy": [0.9, 0.9], "bytes": 500},
    }  # fmt: skip


def test_a_table_and_a_figure_have_all_sides(tmp_path: Path) -> None:
    (tmp_path / "results/frontier").mkdir(parents=True)
    (tmp_path / "results/frontier/letters.json").write_text(json.dumps({"data": "letters", "cells": cells()}))
    first, second = frontier.measured_rows(tmp_path)
    assert first["k"]["k"] > 1
    assert second["made"] is second["model"] is second["k"] is None
    rows = frontier.frontier(tmp_path).splitlines()
    assert len(rows) == 4
    assert "`dm`: 985 B | 75.5" in rows[2]
    assert "90.0 (500 B)" in rows[2]
    svg = frontier.figure(tmp_path)
    assert svg.count("<circle") == 4
    assert "letters" in svg
