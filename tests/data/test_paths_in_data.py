"""A path in data is its author's word: it never reaches a file outside of their folder, however it is written."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import potstill
from potstill._util.paths import path_within
from potstill.data.detection import load_detection
from potstill.errors import PotstillError
from potstill.reports import Entry
from potstill.reports.comparison_page import read_board


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


def _rows(names: list[str]) -> list[dict[str, object]]:
    return [{"bytes": None, "path": name} for name in names]


def _parquet(folder: Path, names: list[str], **reading: object) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(_rows(names), struct), "label": ["a", "b"] * (len(names) // 2)})
    pq.write_table(table, folder / "given.parquet")
    potstill.load_data(folder / "given.parquet", **reading)


def _saved(folder: Path, names: list[str], **reading: object) -> None:
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = {"image": _rows(names), "label": [0, 1] * (len(names) // 2)}
    made = datasets.Dataset.from_dict(rows, features=features)
    state, data = folder / "state.json", pa.RecordBatchStreamWriter
    with data(folder / "data-00000-of-00001.arrow", made.data.table.schema) as writer:
        writer.write_table(made.data.table)
    state.write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0",
                                 "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
                                 "_output_all_columns": False, "_split": None}))  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps({"features": features.to_dict()}))
    potstill.load_data(folder, **reading)


def _pairs(folder: Path, names: list[str], kind: str = "csv") -> None:
    rows = [{"file_name": name, "text": f"picture {n}"} for n, name in enumerate(names)]
    if kind == "csv":
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    potstill.load_data(folder, task="retrieval")


def _coco(folder: Path, names: list[str]) -> None:
    images = [{"id": n, "file_name": name, "height": 8, "width": 8} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 4, 4]} for n in range(len(names))]
    said = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "boxes.json").write_text(json.dumps(said))
    load_detection(folder / "boxes.json")


def _voc(folder: Path, names: list[str]) -> None:
    for n, name in enumerate(names):
        (folder / f"{n}.xml").write_text(
            f"<annotation><filename>{name}</filename><size><width>8</width><height>8</height></size><object><name>x"
            "</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>"
        )
    load_detection(folder)


READERS: dict[str, Callable[[Path, list[str]], None]] = {
    "parquet": _parquet,
    "parquet streamed": lambda folder, names: _parquet(folder, names, stream=True),
    "parquet without bad ones": lambda folder, names: _parquet(folder, names, skip_bad=True),
    "save_to_disk": _saved,
    "save_to_disk streamed": lambda folder, names: _saved(folder, names, stream=True),
    "metadata.csv": _pairs,
    "metadata.jsonl": lambda folder, names: _pairs(folder, names, "jsonl"),
    "COCO": _coco,
    "VOC": _voc,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of data with eight pictures, beside a secret that a link in it points to."""
    made = tmp_path / "data"
    for n in range(8):
        _picture(made / f"inner/{n}.png", 20 * n)
    _picture(tmp_path / "secret.png", 255)
    (made / "link.png").symlink_to(tmp_path / "secret.png")
    (made / "linked").symlink_to(tmp_path)
    return made


def _names(folder: Path, odd: str | None) -> list[str]:
    inner = [f"inner/{n}.png" for n in range(8)]
    return inner if odd is None else [*inner[:-1], odd]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("way", ["absolute", "up", "down and up", "link", "linked folder"])
def test_a_path_that_leaves_the_folder_is_refused_in_one_line(kind: str, way: str, folder: Path) -> None:
    odd = {
        "absolute": str(folder.parent / "secret.png"), "up": "../secret.png", "down and up": "inner/../../secret.png",
        "link": "link.png", "linked folder": "linked/secret.png",
    }[way]  # fmt: skip
    with pytest.raises(PotstillError, match="leads out of the folder") as caught:
        READERS[kind](folder, _names(folder, odd))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_path_within_the_folder_is_read(kind: str, folder: Path) -> None:
    READERS[kind](folder, _names(folder, None))


@pytest.mark.parametrize("kind", ["parquet", "parquet streamed", "metadata.jsonl", "COCO"])
@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "x/" * 3000])
def test_what_is_no_path_is_one_line(kind: str, name: str, folder: Path) -> None:
    with pytest.raises(PotstillError) as caught:
        READERS[kind](folder, _names(folder, name))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("stream", [False, True])
def test_rows_that_hugging_face_reads_from_a_file_are_no_less_foreign(stream: bool, folder: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = [str(folder.parent / "secret.png")] * 8
    pq.write_table(pa.table({"image": pa.array(_rows(names), struct), "label": [0, 1] * 4}), folder / "given.parquet")
    read = datasets.load_dataset("parquet", data_files=str(folder / "given.parquet"), cache_dir=str(folder / "cache"))
    with pytest.raises(PotstillError, match="leads out of the folder"):
        potstill.load_data(read["train"], stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_paths_of_this_process_are_its_own(stream: bool, folder: Path) -> None:
    rows = {"image": [str(folder / f"inner/{n}.png") for n in range(8)], "label": [0, 1] * 4}
    made = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    assert len(
        potstill.load_data(made.cast_column("label", datasets.ClassLabel(names=["a", "b"])), stream=stream).train
    )


def test_names_in_shards_are_no_paths(folder: Path) -> None:
    with tarfile.open(folder / "s.tar", "w") as tar:
        for n in range(8):
            for ending, content in (("png", (folder / f"inner/{n}.png").read_bytes()), ("cls", str(n % 2).encode())):
                info = tarfile.TarInfo(f"../../{n}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        for ending in ("png", "cls"):  # a link in an archive is no file of it
            info = tarfile.TarInfo(f"link.{ending}")
            info.type, info.linkname = tarfile.SYMTYPE, str(folder.parent / "secret.png")
            tar.addfile(info)
    splits = potstill.load_data(folder / "s.tar")
    assert splits.test is not None
    assert len(splits.train) + len(splits.test) == 8


def test_an_absolute_path_within_the_folder_is_one(folder: Path) -> None:
    assert path_within(folder, str(folder / "inner/0.png"), "row 1") == folder / "inner/0.png"
    assert path_within(folder, "inner/../inner/0.png", "row 1").is_file()


@pytest.mark.parametrize("odd", ["../secret.safetensors", "/etc/hostname", "inner/../../secret.safetensors"])
def test_a_row_of_a_leaderboard_names_a_file_beside_it(odd: str, folder: Path) -> None:
    (folder / "leaderboard.json").write_text(json.dumps({"rows": [{"method": "dm", "ipc": 1, "file": odd}]}))
    for at in (folder, folder.parent):
        (at / "secret.safetensors").write_bytes(b"")
    read: list[Path] = []

    def reader(path: Path) -> Entry:
        read.append(path)
        return Entry(name=path.name, card={})

    read_board(folder, reader)
    assert all(path.parent == folder for path in read)
