"""A comparison warns where its best row is no better than an answer that learns nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from potstill.cli.main import main
from potstill.verdicts import judge_leaderboard


def board(mean: float, ends: list[float] | None, naive: dict[str, Any], **metric: Any) -> dict[str, Any]:
    card = {"score": {"metric": "accuracy", "direction": "higher", "unit": "fraction", **metric}, "naive": naive}
    row = {"id": "a", "method": "dm", "unit": "ipc", "amount": 2, "protocol": "p", "scorecard": card}
    return {"source": "t", "rows": [row | {"score": {"mean": mean, "ci95": ends}}]}


LARGEST_CLASS = {"largest class": {"class": "a", "score": 0.75}}


def test_only_a_best_row_above_it_is_safe() -> None:
    def warned(*arguments: Any, **metric: Any) -> str:
        verdict = judge_leaderboard(board(*arguments, **metric)).to_dict()
        assert verdict.get("warning", "") in verdict["advice"]  # which the page shows
        return str(verdict.get("warning", ""))

    assert warned(0.8, [0.76, 0.84], LARGEST_CLASS) == ""
    assert "(largest class, which has 75.0%): dm (76.0%). Look at the accuracy of each class" in warned(
        0.76, [0.74, 0.78], LARGEST_CLASS
    )
    assert "dm (74.0%)" in warned(0.74, None, LARGEST_CLASS)
    assert warned(0.5, [0.4, 0.6], {}) == ""
    error = {"metric": "mse", "direction": "lower", "unit": "squared deviations"}
    naive = {"last value": {"score": 0.3}, "mean": {"score": 0.9}}
    assert warned(0.2, [0.1, 0.29], naive, **error) == ""
    assert "(last value, which has 0.3): dm (0.25)." in warned(0.25, [0.1, 0.4], naive, **error)


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "label": ["x"] * 180 + ["y"] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)  # columns that say nothing
    words = ["--methods", "random", "--ipc", "2", "--seeds", "2", "--network", "mlp-w8"]
    assert main(["compare", f"{tmp_path}/t.csv", *words, "--out", f"{tmp_path}/c"]) == 0
    assert "not shown to be better than an answer that learns nothing (largest class, which has 90.0%)" in " ".join(
        capsys.readouterr().out.split()
    )
