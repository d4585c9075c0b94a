"""Exports, opened by the programs they are for."""

import errno
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_artefact import make

from potstill.data import load as load_data
from potstill.dataset_file import describe, inspect
from potstill.errors import PotstillError
from potstill.exporters import contact_sheet, export
from potstill.exporters.images import class_folder_names


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def samples_of(tar: Path) -> list[dict[str, Any]]:
    """What WebDataset makes of a shard, from a stream that is closed (its own opener leaves that to chance)."""
    from webdataset.autodecode import Decoder, imagehandler
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with tar.open("rb") as stream:
        groups = group_by_keys(tar_file_expander([{"url": str(tar), "stream": stream}]))
        return [Decoder([imagehandler("rgb8")])(group) for group in groups]


def test_png_folder_and_sheet(tmp_path: Path) -> None:
    small = make(n=6, shape=(3, 5, 4))
    folder = export(small, "png", tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b", "c", "labels.json", "sheet.png"]
    picture = pixels(folder / "b" / "0001.png")
    expected = (small.inputs[4].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(picture, expected)
    alone = export(small, "png", tmp_path / "sheet.png")
    assert np.array_equal(pixels(alone), pixels(folder / "sheet.png"))
    said = json.loads((folder / "labels.json").read_text())
    assert [said["files"][4], said["labels"][4]] == ["b/0001.png", 1]
    enlarged = picture.repeat(12, axis=0).repeat(12, axis=1)  # 64 // 5
    top, left = 2 + 1 * (5 * 12 + 2), 110 + 1 * (4 * 12 + 2)
    assert np.array_equal(pixels(alone)[top : top + 60, left : left + 48], enlarged)


def test_hostile_class_names_stay_inside_the_folder(tmp_path: Path) -> None:
    classes = (
        "../../evil", "a/b", "", ".", "CON", "con", "été", "e\u0301te\u0301", "0001_a_b", "é" * 200, "é" * 201,
        "\udcff", "x\x1b[31m\n", "sheet.png",
    )  # fmt: skip
    n = len(classes)
    export(make(n=2 * n, classes=classes), "png", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    folders = [p for p in (tmp_path / "out").iterdir() if p.is_dir()]
    assert len(folders) == n
    assert all(len(list(f.glob("*.png"))) == 2 for f in folders)
    said = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert said["classes"] == list(classes)
    assert len({f.lower() for f in said["folders"]}) == n
    assert said["folders"][6] == "été"


@given(st.lists(st.text(max_size=150), min_size=1, max_size=8, unique=True).map(tuple))
def test_any_class_name_gives_its_own_safe_folder(classes: tuple[str, ...]) -> None:
    folders = class_folder_names(classes)
    assert len({unicodedata.normalize("NFKC", f).casefold() for f in folders}) == len(classes)
    for folder in folders:
        assert re.fullmatch(r"[\w\- ]+", folder)
        assert folder == folder.strip()
        assert len(folder.encode()) < 140


@pytest.mark.parametrize("soft", [False, True])
def test_npz(tmp_path: Path, soft: bool) -> None:
    small = make(soft=soft)
    with np.load(export(small, "npz", tmp_path / "s.npz")) as f:
        assert np.array_equal(f["x"], small.inputs.numpy())
        assert np.array_equal(f["y"], small.labels.numpy())
        assert list(f["classes"]) == ["a", "b", "c"]
        assert json.loads(str(f["card"]))["method"] == "dm"


def test_npz_holds_all_that_training_needs(tmp_path: Path) -> None:
    small = make(whitening=True, index=True)
    with np.load(export(small, "npz", tmp_path / "s.npz"), allow_pickle=False) as f:
        z = ((f["x"] - f["mean"].reshape(1, -1, 1, 1)) / f["std"].reshape(1, -1, 1, 1)).reshape(6, -1)
        z = (z - f["whitening_mean"]) @ f["whitening_matrix"]
        assert np.allclose(z, small.model_space().flatten(1).numpy(), atol=1e-5)
        assert f["index"].tolist() == [0, 2, 4, 6, 8, 10]


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
        assert np.array_equal(np.float32(rows[2]["soft_label"]), small.labels[2].numpy())


def test_a_table_becomes_rows_and_columns(tmp_path: Path) -> None:
    small = make(shape=(7,), soft=True)
    table = pq.read_table(export(small, "parquet", tmp_path / "t.parquet"))
    assert table.column_names == [*(f"x{n}" for n in range(7)), "label", "soft_label"]
    assert np.array_equal(table["x3"].to_numpy(), small.inputs[:, 3].numpy())
    # by their names: they were numbers, which lost the classes in every program but those that read the metadata
    assert table["label"].to_pylist() == [small.classes[c] for c in small.hard_labels.tolist()]


@pytest.mark.parametrize(
    ("to", "name", "shape"),
    [("png", "d", (3, 8, 8)), ("npz", "d.npz", (1, 8, 8)), ("parquet", "d.parquet", (3, 8, 8)),
     ("parquet", "t.parquet", (7,)), ("webdataset", "d.tar", (1, 8, 8))],
)  # fmt: skip
def test_exports_are_data_again(tmp_path: Path, to: str, name: str, shape: tuple[int, ...]) -> None:
    small = make(n=12, shape=shape)
    splits = load_data(export(small, to, tmp_path / name))
    assert splits.train.input.shape == shape
    assert len(splits.train) + len(splits.test or ()) == 12
    assert splits.train.classes == (("0", "1", "2") if to == "webdataset" else ("a", "b", "c"))
    nearest = (splits.train.raw(torch.tensor([0])) - small.inputs).abs().flatten(1).amax(1).min()  # type: ignore[operator]
    assert float(nearest) <= (0.5 / 255 + 1e-6 if len(shape) == 3 and to != "npz" else 0)


def test_webdataset_shards_read_back(tmp_path: Path) -> None:
    small = make(soft=True)
    samples = samples_of(export(small, "webdataset", tmp_path / "s.tar"))
    assert len(samples) == 6
    assert np.array_equal(samples[3]["npy"], small.inputs[3].numpy())
    assert samples[3]["cls"] == int(small.hard_labels[3])
    assert np.array_equal(np.float32(samples[3]["soft.json"]), small.labels[3].numpy())
    assert samples[3]["png"].shape == (4, 4, 3)


def test_webdataset_folder_has_shards_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["potstill.exporters.formats"], "SHARD_SAMPLES", 4)
    small = make(n=6, shape=(7,))
    folder = export(small, "webdataset", tmp_path / "s")
    assert sorted(p.name for p in folder.iterdir()) == ["classes.json", "train-000000.tar", "train-000001.tar"]
    samples = [s for n in range(2) for s in samples_of(folder / f"train-{n:06}.tar")]
    assert np.array_equal(np.stack([s["npy"] for s in samples]), small.inputs.numpy())
    assert [s["cls"] for s in samples] == small.labels.tolist()
    assert json.loads((folder / "classes.json").read_text())["classes"] == ["a", "b", "c"]


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="did you mean parquet"):
        export(make(), "parquett", tmp_path / "x")
    with pytest.raises(PotstillError, match="png needs images"):
        export(make(shape=(7,)), "png", tmp_path / "x")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(PotstillError, match="is there already"):
        export(make(), "png", tmp_path / "taken")
    assert (tmp_path / "taken" / "mine.txt").read_text() == "keep"
    for to, name in (("npz", "x.npz"), ("png", "x"), ("webdataset", "x")):
        with pytest.raises(PotstillError, match="does not exist"):
            export(make(), to, tmp_path / "no" / name)
    with pytest.raises(PotstillError, match="1 or 3 channels, but these have 2; export npz"):
        export(make(shape=(2, 4, 4)), "png", tmp_path / "x")


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("potstill.exporters.images.encode_png", full)
    with pytest.raises(PotstillError, match="No space left on device"):
        export(make(), "png", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_file_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(make(), "png", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "0000.png").exists()
    (tmp_path / "s.npz").write_text("old")
    with pytest.raises(PotstillError, match="is no exported set"):
        export(make(), "npz", tmp_path / "s.npz")
    export(make(), "npz", tmp_path / "s.npz", force=True)
    assert (tmp_path / "s.npz").read_bytes()[:2] == b"PK"
    export(make(), "npz", tmp_path / "s.npz")  # its own export is replaced


def test_a_sheet_of_very_many_classes_stays_small() -> None:
    k = 2_000
    small = make(n=2 * k, classes=tuple(f"class {n}" for n in range(k)))
    page = contact_sheet(small)
    assert page.height <= 16_100
    rows = 16_000 // 66
    assert np.array_equal(np.asarray(page)[2 + (rows - 1) * 66, 110], np.repeat(np.uint8(round(float(
        small.inputs[rows - 1, 0, 0, 0]) * 255)), 3))  # fmt: skip


def test_a_description_does_not_steer_the_terminal() -> None:
    text = describe(inspect(make(classes=("\x1b[31mred", "line\nbreak", "\udcff"))))
    assert "\x1b" not in text
    assert r"\x1b[31mred, line\nbreak, \udcff" in text
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)


def test_inspect_counts_what_is_there(tmp_path: Path) -> None:
    small = make(index=True)
    found = inspect(small.save(tmp_path / "s.safetensors"))
    assert found["per_class"] == {"a": 2, "b": 2, "c": 2}
    assert found["tensors"]["inputs"] == {"shape": [6, 1, 4, 4], "dtype": "float32", "bytes": 6 * 16 * 4}
    assert found["range"] == [float(small.inputs.min()), float(small.inputs.max())]
    assert found["tensors"].keys() == {"inputs", "labels", "index"}
    text = describe(found)
    assert "6 inputs of shape 1×4×4 (image), 2 per class" in text
    assert "finished: done" in text
    assert json.loads(json.dumps(found)) == found
    assert torch.equal(small.index, torch.arange(6) * 2)
