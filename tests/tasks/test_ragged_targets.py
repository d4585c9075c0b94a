"""Targets whose number differs by sample: padded in memory, without padding in files."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import potstill
from potstill.core import registry
from potstill.data import TensorSource
from potstill.dataset_file.selection import materialize, write_indices
from potstill.errors import PotstillError
from potstill.exporters.formats import to_arrow
from potstill.rng import generator
from potstill.tasks import (
    MultiLabel,
    RaggedTask,
    Regression,
    concat_targets,
    is_ragged,
    join_targets,
    list_targets,
    pad_targets,
    split_targets,
    target_mask,
)
from potstill.testing import check_source

SEVERAL = [torch.tensor([4, -1]), torch.tensor([], dtype=torch.int64), torch.tensor([0, 2, 2])]
NAMES = ("warm", "dry", "late")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """120 rows of three numbers; each has the labels of its numbers above 0.3."""
    lines = ["a,b,c,tags"]
    for row in torch.randn(120, 3, generator=generator(0, "rows")).tolist():
        tags = "; ".join(name for name, value in zip(NAMES, row, strict=True) if value > 0.3)
        lines.append(",".join(f"{value:.4f}" for value in row) + f",{tags}")
    path = tmp_path / "weather.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_padding_is_undone() -> None:
    y = pad_targets(SEVERAL)
    assert target_mask(y).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    values, offsets = split_targets(y)
    assert values.tolist() == [4, -1, 0, 2, 2]
    assert offsets.tolist() == [0, 2, 2]
    assert torch.equal(join_targets(values, offsets), y)
    boxes = pad_targets([torch.rand(m, 4, generator=generator(m, "boxes")) for m in (2, 0, 5)])
    assert boxes.shape == (3, 5, 4)
    assert target_mask(boxes).sum(1).tolist() == [2, 0, 5]
    joined = concat_targets([y, y[:1, :2]])
    assert torch.equal(joined[:3], y)
    assert torch.equal(joined[3], y[0])


def test_padding_before_a_target_is_refused() -> None:
    y = pad_targets(SEVERAL)
    with pytest.raises(ValueError, match="must stand after the last"):
        split_targets(y.flip(1))
    with pytest.raises(ValueError, match="need rows"):
        split_targets(torch.arange(3))


def test_a_task_says_that_its_targets_are_ragged() -> None:
    assert isinstance(MultiLabel(), RaggedTask)
    assert is_ragged(MultiLabel())
    assert not is_ragged(Regression())
    assert not is_ragged(None)


def test_the_score_of_several_labels() -> None:
    task, y = MultiLabel(labels=("a", "b", "c")), pad_targets([torch.tensor([0, 2]), torch.tensor([1])])
    # present: 3, predicted: 3, found: 2
    assert task.score(torch.tensor([[1, 1, 1], [0, 0, 0]]), y) == pytest.approx(2 * 2 / (3 + 3))
    assert task.chance_score(y) == 0
    assert task.loss(torch.zeros(2, 3), y).item() == pytest.approx(0.693147, abs=1e-6)
    with pytest.raises(ValueError, match="numbers of 3 labels"):
        task.chance_score(torch.tensor([[3]]))


def test_a_column_with_several_labels(file: Path) -> None:
    splits = potstill.load_data(file, label="tags", task="multi-label")
    train = splits.train
    check_source(train)
    assert train.task == MultiLabel(labels=("dry", "late", "warm"))
    assert not train.classes
    at = torch.tensor([3, 0, 7])
    held, raw = train.fetch(at).y, train.raw(at)
    assert held is not None
    for row, x in zip(held, raw, strict=True):
        names = {train.task.labels[i] for i in row[target_mask(row[None])[0]].tolist()}
        assert names == {name for name, value in zip(NAMES, x.tolist(), strict=True) if value > 0.3}
    assert torch.equal(train.subset(at).targets, train.targets[at])


def test_a_test_part_with_other_labels_is_refused(file: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(file)
    with pytest.raises(PotstillError, match="label 'cold' is not among the 3 labels"):
        potstill.load_data((frame, frame.assign(tags="cold")), label="tags", task="multi-label")
    with pytest.raises(PotstillError, match="no labels"):
        potstill.load_data(frame.assign(tags=""), label="tags", task="multi-label")
    with pytest.raises(PotstillError, match="csv or parquet file or a data frame"):
        potstill.load_data((torch.zeros(4, 2), torch.zeros(4)), task="multi-label")


def test_sets_keep_the_targets_of_their_samples(file: Path, tmp_path: Path) -> None:
    data = potstill.load_data(file, label="tags", task="multi-label")
    sets = [potstill.distill(data, "random", items=n, seed=n, codec="exact", progress=None) for n in (10, 5)]
    for small in sets:
        assert {n.partition(".")[0] for n in small.tensors} >= {"labels/values", "labels/offsets"}
        again = potstill.load(small.save(tmp_path / f"{len(small)}.safetensors"))
        assert small.index is not None
        for row, own in zip(again.labels, data.train.targets[small.index], strict=True):
            assert torch.equal(row[target_mask(row[None])[0]], own[target_mask(own[None])[0]])
    joined = potstill.concat(sets)
    assert torch.equal(joined.labels, concat_targets([s.labels for s in sets]))
    bought = potstill.distill(data, "random", bytes=200, codec="exact", progress=None)
    assert bought.metadata["bytes"]["total"] <= 200
    made = potstill.distill(data, "dm", items=6, steps=2, progress=None)
    assert made.labels.dtype == torch.int64
    assert made.labels.ndim == 2


def test_indices_alone_bring_the_targets_back(file: Path, tmp_path: Path) -> None:
    data = potstill.load_data(file, label="tags", task="multi-label")
    small = potstill.distill(data, "random", items=8, codec="exact", progress=None)
    write_indices(small, tmp_path / "index.safetensors")
    assert torch.equal(materialize(tmp_path / "index.safetensors", data.train).labels, small.labels)


def test_students_learn_several_labels(file: Path) -> None:
    data = potstill.load_data(file, label="tags", task="multi-label")
    small = potstill.distill(data, "random", items=40, codec="exact", progress=None)
    card = potstill.evaluate(small, data, networks=["mlp"], seeds=2, epochs=40)
    assert card.to_dict()["score"]["metric"] == "F1"
    assert card.score > 0.7
    assert "random" in card.to_dict()["baselines"]


@pytest.mark.parametrize("method", sorted(registry.names("methods", outside=False)))
def test_methods_keep_the_targets_or_refuse_in_one_line(file: Path, method: str) -> None:
    data = potstill.load_data(file, label="tags", task="multi-label")
    try:
        made = potstill.distill(data, method, items=4, steps=1, progress=None)
    except PotstillError as refused:
        message = str(refused)
    else:
        message = ""
        assert made.has_ragged_targets
        assert 0 <= made.task.chance_score(made.labels) <= 1
    assert "\n" not in message


def test_labels_are_not_learned_where_their_number_differs(file: Path) -> None:
    data = potstill.load_data(file, label="tags", task="multi-label")
    with pytest.raises(PotstillError, match=r"makes labels of its own.*with labels hard"):
        potstill.distill(data, "dm", items=4, labels="learned", steps=1, progress=None)


def test_a_source_refuses_targets_that_are_no_rows(file: Path) -> None:
    train: TensorSource = potstill.load_data(file, label="tags", task="multi-label").train
    with pytest.raises(PotstillError, match="ragged targets need rows"):
        replace(train, targets=torch.zeros(len(train), dtype=torch.int64))


@dataclass(frozen=True)
class _Plain:
    ragged: bool = False


def test_a_trait_that_is_false() -> None:
    assert not is_ragged(_Plain())


def test_exports_have_no_padding(file: Path, tmp_path: Path) -> None:
    small = potstill.distill(
        potstill.load_data(file, label="tags", task="multi-label"), "random", items=8, codec="exact", progress=None
    )
    with np.load(potstill.export(small, "npz", tmp_path / "small.npz")) as held:
        assert held["y/offsets"].tolist() == split_targets(small.labels)[1].tolist()
        assert held["y/values"].tolist() == split_targets(small.labels)[0].tolist()
    table = pq.read_table(potstill.export(small, "parquet", tmp_path / "small.parquet"))
    names = [";".join(small.task.labels[i] for i in t.tolist()) for t in list_targets(small.labels)]
    assert table.column("tags").to_pylist() == names
    assert to_arrow(small).column("target").to_pylist() == [t.tolist() for t in list_targets(small.labels)]
    path = potstill.export(small, "csv", tmp_path / "small.csv")
    again = potstill.load_data(path, label="tags", task=small.task, test_fraction=0)
    assert torch.equal(again.train.targets, small.labels)
