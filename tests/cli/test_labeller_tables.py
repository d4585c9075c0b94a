"""The tables of labeller × student: what is told apart from real samples with the same labels, and by whom."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.docs import labels


def row(agreement: float = 1.0, **cells: list[float]) -> dict[str, Any]:
    """Values of sets by cell; ``own_batch`` is own → batch, ``two_batch`` that of a committee."""
    names = {"own": "own", "two": "two of batch", "both": "batch and instance", "instance": "instance"}
    made = {}
    for key, values in cells.items():
        labeller, _, student = key.partition("_")
        made[f"{names[labeller]} → {student}"] = {"values_of_sets": [[v] for v in values], "seconds": 1.0}
    return {"cells": made, "agreement": {key.partition(" →")[0]: [agreement] for key in made}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    settings = {
        "iterations": 200, "sets": 3, "students": 1, "steps": 200, "lr": 0.03, "temperature": 4.0,
        "networks": ["bn", "in", "bn2"],
    }  # fmt: skip
    made = {
        "data": "photo-patches", "ipc": 1, "test": 10_000, "settings": settings,
        "machine": {"processor": "a core", "torch": "2"}, "labellers": {"own": {"accuracy": 0.8}},
        "rows": {
            "random": row(
                own_batch=[0.50, 0.51, 0.49], two_batch=[0.70, 0.71, 0.69], own_instance=[0.3, 0.31, 0.29],
                both_batch=[0.4, 0.4, 0.4], both_instance=[0.4, 0.4, 0.4],
            ),
            "random-tiles": row(own_batch=[0.60, 0.61, 0.59], two_batch=[0.60, 0.61, 0.59]),
            "better": row(own_batch=[0.65, 0.66, 0.64], own_instance=[0.1, 0.11, 0.09]),
            "between": row(two_batch=[0.65, 0.66, 0.64]),
            "sre2l": row(own_batch=[0.2, 0.2, 0.2]),
            "sre2l of batch and instance": row(both_batch=[0.25, 0.25, 0.25], both_instance=[0.24, 0.24, 0.24]),
        },
    }  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "labellers-photo-patches-1.json").write_text(json.dumps(made))
    return tmp_path


def test_a_row_is_held_against_real_samples_with_its_own_labels(root: Path) -> None:
    shown = labels.labellers(root)
    rows = {line.split("|")[1].strip(): line for line in shown.splitlines() if line.startswith("| `")}
    assert list(rows) == ["`better`", "`between`", "`random-tiles`", "`random`", "`sre2l`"]
    assert "+15.0" in rows["`better`"]  # minus random under the one teacher
    assert "-5.0" in rows["`between`"]  # minus random under its committee's labels
    assert "own → BatchNorm (3 methods): above `random` 1 (`better`), below 2; above `random-tiles` 2" in shown
    assert "own → InstanceNorm (1 method): above `random` 0, below 1" in shown
    assert "of batch and instance" not in shown


def test_committees_stand_beside_the_preset_alone(root: Path) -> None:
    shown = [line for line in labels.committees(root).splitlines() if line.startswith("| `")]
    assert [line.split("|")[1:3] for line in shown] == [
        [" `sre2l` ", " BatchNorm "], [" `sre2l` ", " both "], [" `random` ", " two of BatchNorm "],
        [" `random` ", " BatchNorm "], [" `random` ", " both "], [" `random-tiles` ", " two of BatchNorm "],
        [" `random-tiles` ", " BatchNorm "],
    ]  # fmt: skip
    assert "25.0" in shown[1]
    assert "24.0" in shown[1]


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    assert labels.labellers(tmp_path) == labels.committees(tmp_path) == "Nothing has been measured yet."
