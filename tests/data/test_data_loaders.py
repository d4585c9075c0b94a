"""Loaders by kind of data and task: registered ones are called, for classification too."""

from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.core import InputSpec, Normalization, Splits, registry
from potstill.data import TensorSource, load
from potstill.data.read_options import ReadOptions
from potstill.errors import PotstillError


def read_points(task: Any, data: object, options: ReadOptions) -> Splits:
    """Two-dimensional points from a file of lines ``x y class``."""
    rows = [line.split() for line in Path(str(data)).read_text().splitlines()]
    x = torch.tensor([[float(a), float(b)] for a, b, _ in rows])
    source = TensorSource(
        name="points", input=InputSpec(kind="points", shape=(2,)), classes=("in", "out"),
        normalization=Normalization(torch.zeros(2), torch.ones(2)), inputs=x,
        labels=torch.tensor([["in", "out"].index(c) for *_, c in rows]),
    )  # fmt: skip
    return Splits(train=source, test=None, notes=(f"kind {options.kind}",))


read_points.accepts = lambda data: str(data).endswith(".points")  # type: ignore[attr-defined]


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of points, and their loader registered as an installed package would."""
    outside = {"points/classification": f"{__name__}:read_points"}
    monkeypatch.setattr(registry, "_outside", lambda group: outside if group == "loaders" else {})
    file = tmp_path / "some.points"
    file.write_text("0 0 in\n1 1 out\n0 1 in\n2 1 out\n")
    return file


def test_a_registered_loader_of_classes_reads_data_that_it_accepts(points: Path) -> None:
    splits = load(points)
    assert splits.train.input.kind == "points"
    assert splits.train.classes == ("in", "out")
    assert splits.reading == {}
    assert splits.files == (str(points),)


def test_a_loader_is_chosen_by_the_kind_that_is_given(points: Path) -> None:
    renamed = points.rename(points.with_suffix(".txt"))
    splits = load(renamed, kind="points")
    assert splits.notes == ("kind points",)
    assert splits.reading == {"kind": "points"}


def test_other_data_are_read_as_before(points: Path) -> None:
    assert load("digits").train.input.kind == "image"


def test_a_kind_without_a_loader_is_refused(points: Path) -> None:
    with pytest.raises(PotstillError, match="there is no loader for kind 'graphs' and task classification"):
        load(points, kind="graphs")
    with pytest.raises(PotstillError, match="kind 'table' and task retrieval"):
        load(points, kind="table", task="retrieval")


def test_the_kind_of_built_in_readers_may_be_given() -> None:
    x, y = [[0.0, 1.0], [1.0, 0.0]] * 4, [0.5, 1.5] * 4
    assert load((x, y), task="regression", kind="table").train.task.name == "regression"
