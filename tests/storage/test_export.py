"""Exports, opened by the programs they are for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_artefact import make

from potstill.errors import PotstillError
from potstill.storage import describe, export, inspect


def test_png_folder_and_sheet(tmp_path: Path) -> None:
    small = make(n=6, shape=(3, 5, 4))
    folder = export(small, "png", tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b", "c", "labels.json", "sheet.png"]
    picture = np.asarray(Image.open(folder / "b" / "0001.png"))
    expected = (small.inputs[4].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(picture, expected)
    assert Image.open(folder / "sheet.png").width > 100
    alone = export(small, "png", tmp_path / "sheet.png")
    assert Image.open(alone).size == Image.open(folder / "sheet.png").size


def test_hostile_class_names_stay_inside_the_folder(tmp_path: Path) -> None:
    classes = ("../../evil", "a/b", "", ".", "CON", "con", "été")
    export(make(n=14, classes=classes), "png", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    folders = [p for p in (tmp_path / "out").iterdir() if p.is_dir()]
    assert len(folders) == 7
    assert all(len(list(f.glob("*.png"))) == 2 for f in folders)
    said = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert said["classes"] == list(classes)
    assert len({f.lower() for f in said["folders"]}) == 7


@pytest.mark.parametrize("soft", [False, True])
def test_npz(tmp_path: Path, soft: bool) -> None:
    small = make(soft=soft)
    with np.load(export(small, "npz", tmp_path / "s.npz")) as f:
        assert np.array_equal(f["x"], small.inputs.numpy())
        assert np.array_equal(f["y"], small.labels.numpy())
        assert list(f["classes"]) == ["a", "b", "c"]
        assert json.loads(str(f["card"]))["method"] == "dm"


@pytest.mark.parametrize("soft", [False, True])
def test_parquet_opens_as_a_hugging_face_dataset(tmp_path: Path, soft: bool) -> None:
    import datasets

    small = make(soft=soft)
    path = export(small, "parquet", tmp_path / "s.parquet")
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert rows.features["label"].names == ["a", "b", "c"]
    assert np.allclose(np.asarray(rows[1]["input"]).reshape(1, 4, 4), small.inputs[1].numpy())
    assert rows[1]["image"].size == (4, 4)
    if soft:
        assert np.allclose(rows[2]["soft_label"], small.labels[2].numpy())


def test_webdataset_shards_read_back(tmp_path: Path) -> None:
    import webdataset

    small = make(soft=True)
    path = export(small, "webdataset", tmp_path / "s.tar")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert len(samples) == 6
    assert np.array_equal(samples[3]["npy"], small.inputs[3].numpy())
    assert samples[3]["cls"] == int(small.hard_labels[3])
    assert np.allclose(samples[3]["soft.json"], small.labels[3].numpy())


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="did you mean parquet"):
        export(make(), "parquett", tmp_path / "x")
    with pytest.raises(PotstillError, match="png needs pictures"):
        export(make(shape=(7,)), "png", tmp_path / "x")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(PotstillError, match="is there already"):
        export(make(), "png", tmp_path / "taken")
    assert (tmp_path / "taken" / "mine.txt").read_text() == "keep"
    with pytest.raises(PotstillError, match="does not exist"):
        export(make(), "npz", tmp_path / "no" / "x.npz")


def test_inspect_counts_what_is_there(tmp_path: Path) -> None:
    small = make(index=True)
    found = inspect(small.save(tmp_path / "s.safetensors"))
    assert found["per_class"] == {"a": 2, "b": 2, "c": 2}
    assert found["tensors"]["inputs"] == {"shape": [6, 1, 4, 4], "dtype": "float32", "bytes": 6 * 16 * 4}
    assert found["range"] == [float(small.inputs.min()), float(small.inputs.max())]
    text = describe(found)
    assert "6 inputs of shape 1×4×4 (image), 2 per class" in text
    assert "finished: done" in text
    assert json.loads(json.dumps(found)) == found
    assert torch.equal(small.index, torch.arange(6) * 2)
