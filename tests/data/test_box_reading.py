"""Pictures with boxes are read from COCO, VOC and YOLO, and from arrays; wrong boxes are refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import potstill
from potstill.core import Splits
from potstill.data.box_folders import is_boxed
from potstill.data.boxes import fit_boxes
from potstill.data.in_memory import TensorSource
from potstill.data.pictures import resize_and_crop
from potstill.errors import PotstillError
from potstill.tasks import ObjectDetection, get_targets, list_targets
from tests.box_data import NAMES, rectangles, write_coco, write_voc, write_yolo


def read(data: object, **options: Any) -> Splits:
    return potstill.load_data(data, test_fraction=0, **options)


def rows_of(splits: Splits) -> list[list[list[float]]]:
    return [rows.tolist() for rows in list_targets(get_targets(splits.train))]


def pixels_of(splits: Splits) -> Tensor:
    assert isinstance(splits.train, TensorSource)
    assert isinstance(splits.train.inputs, Tensor)
    return splits.train.inputs


def test_coco_voc_yolo_and_arrays_hold_the_same_boxes(tmp_path: Path) -> None:
    x, rows = rectangles(10)
    several = {
        "coco file": str(write_coco(tmp_path / "c", 10)), "coco folder": tmp_path / "c",
        "voc": write_voc(tmp_path / "v"), "yolo": write_yolo(tmp_path / "y"),
    }  # fmt: skip
    for name, data in several.items():
        assert is_boxed(data), name
        splits = read(data)
        assert splits.train.task == ObjectDetection(labels=NAMES, size=(24, 24)), name
        assert splits.train.classes == ()
        assert rows_of(splits) == [r.tolist() for r in rows], name
        assert torch.equal(pixels_of(splits), torch.from_numpy(x).permute(0, 3, 1, 2)), name
    splits = read((x, rows), task="detection")
    assert rows_of(splits) == [r.tolist() for r in rows]
    assert splits.train.task == ObjectDetection(labels=("0", "1"), size=(24, 24))
    assert not is_boxed(tmp_path / "c" / "images")
    assert not is_boxed(x)


def test_parts_are_found_by_their_folders_and_lists(tmp_path: Path) -> None:
    splits = read(write_yolo(tmp_path / "y", parts=True))
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (8, 2)
    for part in ("train2017", "val2017"):
        made = write_coco(tmp_path / "made" / part, 6 if part == "train2017" else 3)
        (tmp_path / "c" / "annotations").mkdir(parents=True, exist_ok=True)
        (made.parent / "images").rename(tmp_path / "c" / part)
        made.rename(tmp_path / "c" / "annotations" / f"instances_{part}.json")
    (tmp_path / "c" / "annotations" / "captions_train2017.json").write_text("{}")
    splits = read(tmp_path / "c")
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (6, 3)
    for part in ("train", "valid"):
        write_coco(tmp_path / "r" / part, 4).rename(tmp_path / "r" / part / "_annotations.coco.json")
    splits = read(tmp_path / "r")
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (4, 4)
    lists = write_voc(tmp_path / "v") / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000\n003 1\n")
    (lists / "val.txt").write_text("005\n")
    splits = read(tmp_path / "v")
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (2, 1)
    (lists / "val.txt").write_text("077\n")
    with pytest.raises(PotstillError, match=r"val\.txt: there is no 077\.xml in Annotations"):
        read(tmp_path / "v")


def test_boxes_follow_the_resizing_of_their_pictures() -> None:
    """A bright rectangle is where its box says after the picture was resized and cut."""
    for size, to in (((40, 60), (20, 20)), ((30, 20), (24, 32)), ((24, 24), (24, 24))):
        picture = np.zeros((*size, 3), np.uint8)
        picture[8:20, 6:18] = 255
        small = np.asarray(resize_and_crop(Image.fromarray(picture), to))[..., 0]
        down, across = np.nonzero(small > 127)
        seen = torch.tensor([across.min(), down.min(), across.max() + 1, down.max() + 1]).double()
        found = fit_boxes(torch.tensor([[6.0, 8, 18, 20]], dtype=torch.float64), size, to)[0]
        torch.testing.assert_close(
            found.clamp(torch.zeros(4), torch.tensor([to[1], to[0]] * 2)), seen, atol=0.6, rtol=0
        )


def test_a_size_resizes_both_and_says_which_boxes_it_cuts_away(tmp_path: Path) -> None:
    path = write_coco(tmp_path, 6)
    splits = read(path, size=(12, 12))
    assert splits.train.input.shape == (3, 12, 12)
    halved = [(np.array(rows)[:, :4] / 2).tolist() for rows in rectangles(6)[1]]
    assert [np.array(rows)[:, :4].tolist() for rows in rows_of(splits)] == halved
    narrow = read(path, size=(24, 6))
    assert any("boxes left out, of which less than a quarter" in note for note in narrow.notes)
    assert sum(map(len, rows_of(narrow))) < sum(map(len, halved))


def edited(path: Path, edit: Any) -> Path:
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))
    return path


def test_a_box_outside_its_picture_is_refused_in_one_line_or_left_out(tmp_path: Path) -> None:
    path = edited(write_coco(tmp_path, 6), lambda raw: raw["annotations"][2].update(bbox=[30, 2, 5, 5]))
    with pytest.raises(
        PotstillError, match=r"001\.png: the box \(30, 2, 35, 7\) lies outside its picture of 24 × 24"
    ) as e:
        read(path)
    assert "\n" not in str(e.value)
    splits = read(path, skip_bad=True)
    assert any("1 boxes outside their pictures left out" in note for note in splits.notes)
    assert [len(rows) for rows in rows_of(splits)] == [1, 1, 1, 2, 1, 2]
    edited(path, lambda raw: raw["annotations"][2].update(bbox=[20, 2, 9, 5]))
    splits = read(path)
    assert rows_of(splits)[1][1] == [20, 2, 24, 7, 1]
    assert any("1 boxes that reached out of their pictures were cut" in note for note in splits.notes)


def test_missing_and_wrong_pictures_are_refused_in_one_line_or_left_out(tmp_path: Path) -> None:
    path = write_coco(tmp_path, 6)
    (tmp_path / "images" / "002.png").unlink()
    with pytest.raises(PotstillError, match=r"002\.png: no such file; `skip_bad=True` leaves such files out"):
        read(path)
    splits = read(path, skip_bad=True)
    assert len(splits.train) == 5
    assert [len(rows) for rows in rows_of(splits)] == [1, 2, 2, 1, 2]
    Image.new("RGB", (24, 30)).save(tmp_path / "images" / "002.png")
    with pytest.raises(
        PotstillError, match=r"002\.png: is 30 × 24 \(height × width\), but its annotation says 24 × 24"
    ):
        read(path)
    assert len(read(path, skip_bad=True).train) == 5


def test_a_picture_that_its_orientation_turns_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path, 4, suffix="jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = tmp_path / "images" / "001.jpg"
    Image.open(picture).save(picture, exif=exif)
    with pytest.raises(PotstillError, match="EXIF orientation turns it"):
        read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 1 is of class 2, but there are 2 class names, for 0 … 1"),
        ("0 0.5 0.5 0.1", "line 1 does not hold a box"),
        ("cat 0.5 0.5 0.1 0.1", "line 1 does not hold a box"),
        ("0 0.5 nan 0.1 0.1", "line 1 does not hold a box"),
        ("0 1.5 0.5 0.1 0.1", "lies outside its picture"),
    ],
)
def test_wrong_lines_of_yolo_are_refused(tmp_path: Path, line: str, message: str) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "003.txt").write_text(line + "\n")
    with pytest.raises(PotstillError, match=message) as raised:
        read(root)
    assert "003" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_yolo_takes_outlines_empty_pictures_and_names_of_several_forms(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "001.txt").unlink()
    (root / "labels" / "002.txt").write_text("1 0.25 0.25 0.5 0.25 0.5 0.75\n\n")
    (root / "data.yaml").write_text("names:\n  0: bright\n  1: dark\n")
    found = rows_of(read(root))
    assert found[1] == []
    assert found[2] == [[6, 6, 12, 18, 1]]
    (root / "data.yaml").unlink()
    with pytest.raises(PotstillError, match="there are no class names"):
        read(root)
    (root / "classes.txt").write_text("bright\ndark\n")
    assert read(root).train.task == ObjectDetection(labels=NAMES, size=(24, 24))
    (root / "labels" / "099.txt").write_text("")
    with pytest.raises(PotstillError, match=r"099\.txt: there is no picture of this name"):
        read(root)
    (root / "labels" / "099.txt").unlink()
    (root / "images" / "000.png").write_bytes(b"none")
    with pytest.raises(PotstillError, match=r"000\.png: not an image"):
        read(root)
    assert len(read(root, skip_bad=True).train) == 9


@pytest.mark.parametrize("size", [None, (16, 16)])
def test_damaged_pictures_of_yolo_are_said_as_those_of_other_folders(
    tmp_path: Path, size: tuple[int, int] | None
) -> None:
    """Of both parts and with whole headers too: they are named, or left out and said in one line."""
    root = write_yolo(tmp_path / "boxes", parts=True)
    (root / "train" / "images" / "001.png").write_bytes(b"none")
    (root / "valid" / "images" / "005.png").write_bytes(b"")
    cut = root / "train" / "images" / "002.png"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(PotstillError, match=r"001\.png: not an image.*; `skip_bad=True` leaves such files out$"):
        read(root, size=size)
    splits = read(root, size=size, skip_bad=True)
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (6, 1)
    (note,) = (note for note in splits.notes if "left out" in note)
    assert note.startswith("boxes: 3 damaged pictures left out (")
    assert note.count(".png: ") == 3
    for picture in root.rglob("*.png"):
        picture.write_bytes(b"none")
    with pytest.raises(PotstillError, match=r"boxes: none of 10 pictures can be read, the first is .*001\.png: not an"):
        read(root, size=size, skip_bad=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[[0, 0, 40, 4, 0]]], r"within 24 × 24 pixels"),
        ([[[0, 0, 4, 4]]], r"boxes of picture 0 must be rows \(m, 5\)"),
        ([[]], "there are no boxes"),
    ],
)
def test_wrong_arrays_are_refused(rows: list, message: str) -> None:
    x = rectangles(4)[0]
    with pytest.raises(PotstillError, match=message):
        read((x, [np.array(r, np.float32) for r in rows] * 4), task="detection")


def test_options_of_other_data_and_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="leave `label=` out"):
        read(write_coco(tmp_path, 3), label="x")
    with pytest.raises(PotstillError, match="not from a dict"):
        read({}, task="detection")
    with pytest.raises(PotstillError, match="no such file"):
        read(tmp_path / "nothing.json")
    empty = edited(tmp_path / "instances.json", lambda raw: raw.update(annotations=[]))
    with pytest.raises(PotstillError, match="training part: there are no boxes"):
        read(empty)
