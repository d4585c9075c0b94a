"""A comparison warns where its best row is no better than an answer that learns nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from potstill.cli.main import main
from potstill.comparison.leaderboard import _naive_warning
from potstill.tasks.metric import Metric

ACCURACY = Metric(name="accuracy", direction="higher", unit="fraction", high=1.0)
CARD = {"naive": {"largest class": {"class": "a", "score": 0.75}}}


def row(mean: float, ends: list[float] | None, best: bool = True) -> dict[str, Any]:
    return {"method": "dm", "best": best, "score": {"mean": mean, "ci95": ends}}


def test_only_a_best_row_above_it_is_safe() -> None:
    assert _naive_warning([row(0.8, [0.76, 0.84])], CARD, ACCURACY) == ""
    assert "(largest class) have 75.0%" in _naive_warning([row(0.76, [0.74, 0.78])], CARD, ACCURACY)
    assert "dm (74.0%)" in _naive_warning([row(0.74, None)], CARD, ACCURACY)
    assert _naive_warning([row(0.5, [0.4, 0.6], best=False)], CARD, ACCURACY) == ""
    assert _naive_warning([row(0.5, [0.4, 0.6])], {}, ACCURACY) == ""
    error = Metric(name="mse", direction="lower", unit="squared deviations")
    naive = {"naive": {"last value": {"score": 0.3}, "mean": {"score": 0.9}}}
    assert _naive_warning([row(0.2, [0.1, 0.29])], naive, error) == ""
    assert "(last value) have 0.3" in _naive_warning([row(0.25, [0.1, 0.4])], naive, error)


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "label": ["x"] * 180 + ["y"] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)  # columns that say nothing
    words = ["--methods", "random", "--ipc", "2", "--seeds", "2", "--network", "mlp-w8"]
    assert main(["compare", f"{tmp_path}/t.csv", *words, "--out", f"{tmp_path}/c"]) == 0
    assert "Warning: answers that learn nothing (largest class) have 90.0%" in " ".join(capsys.readouterr().out.split())
