"""Pictures with masks as people have them: folders, archives and arrays, and what is wrong with them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.data.in_memory import TensorSource
from potstill.errors import PotstillError
from potstill.tasks import IGNORED, Segmentation
from tests.mask_data import squares, write_masks


def labels_of(splits: potstill.Splits) -> tuple[str, ...]:
    assert isinstance(splits.train.task, Segmentation)
    return splits.train.task.labels


def masks_of(splits: potstill.Splits) -> torch.Tensor:
    """Return all masks in the order in which they were read."""
    parts = [part for part in (splits.train, splits.test) if isinstance(part, TensorSource)]
    places = torch.cat([part.places for part in parts if part.places is not None])
    return torch.cat([part.targets for part in parts if part.targets is not None])[places.argsort()]


def save(path: Path, values: object, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).convert(mode).save(path)


def test_a_folder_of_pictures_and_masks_is_found_by_its_layout(tmp_path: Path) -> None:
    splits = potstill.load_data(write_masks(tmp_path / "fields"))
    assert labels_of(splits) == ("0", "1", "2")
    assert splits.train.input.shape == (3, 16, 16)
    assert torch.equal(masks_of(splits), torch.from_numpy(squares(20)[1]))
    assert "read as pictures whose pixels have classes (task segmentation), by masks/" in splits.notes[0]
    assert splits.test is not None
    assert len(splits.test) == 4
    assert splits.reading == {}
    quiet = potstill.load_data(tmp_path / "fields", horizontal_flip=False)
    assert not quiet.train.input.horizontal_flip


@pytest.mark.parametrize("layout", ["train/images test/masks", "images/train masks/val"])
def test_parts_are_found_in_either_order(tmp_path: Path, layout: str) -> None:
    flat = write_masks(tmp_path / "flat", 12)
    by_part = layout.startswith("train")
    for part, numbers in (("train", range(9)), ("test" if by_part else "val", range(9, 12))):
        for what in ("images", "masks"):
            folder = tmp_path / "set" / (f"{part}/{what}" if by_part else f"{what}/{part}")
            folder.mkdir(parents=True)
            for i in numbers:
                shutil.copy(flat / what / f"{i:03}.png", folder)
    splits = potstill.load_data(tmp_path / "set")
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (9, 3)
    assert torch.equal(torch.cat([p.targets for p in (splits.train, splits.test)]), masks_of_flat(flat))


def masks_of_flat(flat: Path) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(p))) for p in sorted((flat / "masks").iterdir())])


def test_vocs_folders_have_lists_and_pixels_without_a_class(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "voc", 6, pictures="JPEGImages", masks="SegmentationClass")
    (root / "SegmentationClass" / "005.png").unlink()
    loose = potstill.load_data(root)
    assert "1 pictures without a mask were left out" in " ".join(loose.notes)
    assert labels_of(loose)[:3] == ("background", "aeroplane", "bicycle")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("003\n001\n000\n")
    (lists / "val.txt").write_text("002\n\n004\n")
    mask = Image.open(root / "SegmentationClass" / "003.png")
    values = np.asarray(mask).copy()
    values[:2] = 255
    edged = Image.fromarray(values)
    edged.putpalette(mask.getpalette() or [])
    edged.save(root / "SegmentationClass" / "003.png")
    splits = potstill.load_data(root)
    assert splits.test is not None
    assert splits.train.names == ("JPEGImages/003.png", "JPEGImages/001.png", "JPEGImages/000.png")
    assert splits.test.names == ("JPEGImages/002.png", "JPEGImages/004.png")
    assert (splits.train.targets[0, :2] == IGNORED).all()
    assert any("pixels of 255 have no class" in note for note in splits.notes)


def test_black_and_white_masks_are_background_and_foreground(tmp_path: Path) -> None:
    x, y = squares(8)
    for i in range(8):
        save(tmp_path / "cells" / "images" / f"{i}.jpg", x[i], "RGB")
        save(tmp_path / "cells" / "masks" / f"{i}_mask.png", np.where(y[i] > 0, 255, 0), "1" if i % 2 else "L")
    splits = potstill.load_data(tmp_path / "cells")
    assert labels_of(splits) == ("background", "foreground")
    assert torch.equal(masks_of(splits), torch.from_numpy(y > 0).to(torch.uint8))
    (tmp_path / "cells" / "classes.txt").write_text("# of cells\nglass\nnucleus\n")
    assert labels_of(potstill.load_data(tmp_path / "cells")) == ("glass", "nucleus")


def test_colours_are_looked_up_in_the_list_of_classes(tmp_path: Path) -> None:
    x, y = squares(6)
    colours = np.array([[0, 0, 0], [250, 0, 10], [10, 200, 0]], np.uint8)
    painted = colours[y]
    painted[2, 0] = (9, 9, 9)
    for i in range(6):
        save(tmp_path / "c" / "images" / f"{i}.png", x[i], "RGB")
        save(tmp_path / "c" / "masks" / f"{i}.png", painted[i], "RGB")
    with pytest.raises(PotstillError, match=r"0.png: a mask in colours; .*NAME R G B"):
        potstill.load_data(tmp_path / "c")
    listed = tmp_path / "c" / "classes.txt"
    listed.write_text("sky 0 0 0\nred roof, 250, 0, 10\ntree 10 200 0\n")
    with pytest.raises(PotstillError, match=r"2.png: the colour \(9, 9, 9\) is not in .*classes.txt"):
        potstill.load_data(tmp_path / "c")
    listed.write_text("sky 0 0 0\nred roof 250 0 10\ntree 10 200 0\nvoid 9 9 9\n")
    splits = potstill.load_data(tmp_path / "c")
    assert labels_of(splits) == ("sky", "red roof", "tree")
    y[2, 0] = IGNORED
    assert torch.equal(masks_of(splits), torch.from_numpy(y))


def test_numbers_with_gaps_become_classes_in_their_order(tmp_path: Path) -> None:
    x, y = squares(10)
    splits = potstill.load_data((x, np.array([0, 40, 7])[y]), task="segmentation", test_fraction=0)
    assert labels_of(splits) == ("0", "7", "40")
    assert torch.equal(masks_of(splits), torch.from_numpy(np.array([0, 2, 1], np.uint8)[y]))
    assert any("mask values 0, 7, 40 numbered anew as 0 … 2" in note for note in splits.notes)
    assert splits.reading["task"] == "segmentation"
    np.savez(tmp_path / "a.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:], classes=["a", "b", "c"])
    named = potstill.load_data(tmp_path / "a.npz", task="segmentation")
    assert labels_of(named) == ("a", "b", "c")
    assert named.test is not None
    assert named.train.content_hash != potstill.load_data((x[:8], y[:8] * 0 + 1 - y[:8] // 2), task="segmentation",
        test_fraction=0).train.content_hash  # fmt: skip


def test_masks_are_resized_and_cut_as_their_pictures_are(tmp_path: Path) -> None:
    """A square twice as large, in a picture whose left and right thirds are cut off."""
    for i in range(4):
        x = np.zeros((32, 64, 3), np.uint8)
        x[8:20, 20 + 2 * i : 36 + 2 * i] = 255
        save(tmp_path / "w" / "images" / f"{i}.png", x, "RGB")
        save(tmp_path / "w" / "masks" / f"{i}.png", x[..., 0] // 255)
    splits = potstill.load_data(tmp_path / "w", size=(16, 16), test_fraction=0)
    pixels = splits.train.raw(torch.arange(4))[:, 0]
    assert torch.equal(splits.train.targets.bool(), pixels > 0.5)
    assert splits.train.targets[0].nonzero().amin(0).tolist() == [4, 2]


def wrong(tmp_path: Path, what: str) -> Path:
    root = write_masks(tmp_path / what.replace(" ", "-"), 5)
    mask = root / "masks" / "003.png"
    if what == "no mask":
        mask.unlink()
    elif what == "no picture":
        (root / "images" / "003.png").unlink()
    elif what == "size":
        save(mask, np.zeros((16, 17)))
    elif what == "value":
        (root / "classes.txt").write_text("field\nbright\n")
    elif what == "jpeg":
        mask.unlink()
        save(root / "masks" / "003.jpg", np.zeros((16, 16)))
    elif what == "broken":
        mask.write_bytes(mask.read_bytes()[:60])
    elif what == "one value":
        for path in (root / "masks").iterdir():
            save(path, np.zeros((16, 16)))
    elif what == "twice":
        shutil.copy(root / "images" / "003.png", root / "images" / "003.bmp")
    elif what == "empty":
        shutil.rmtree(root / "masks")
        (root / "masks").mkdir()
    elif what == "names":
        (root / "classes.txt").write_text("field\nfield\nroad\n")
    elif what == "half":
        (root / "classes.txt").write_text("field 0 0 0\nroad\n")
    return root


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no mask", r"images/003.png: there is no file 003.png in masks/; every picture needs a mask"),
        ("no picture", r"masks/003.png: there is no picture of this name in"),
        ("size", r"masks/003.png: the mask has 16 × 17 pixels, its picture 003.png has 16 × 16; save both at one size"),
        ("value", r"masks/001.png: the value 2 stands for none of the classes: classes.txt names 2 classes, for 0 … 1"),
        ("jpeg", r"masks/003.jpg: .jpg files change the values of a mask; save masks as PNG"),
        ("broken", r"masks/003.png: not a mask that can be read"),
        ("one value", r"masks must hold 2 to 255 classes, but hold one value, 0"),
        ("twice", r"003.png: 003.bmp has the same name but for its suffix"),
        ("empty", r"masks: there are no pictures"),
        ("names", r"classes.txt: names 'field' twice"),
        ("half", r"some lines have a colour and some have none"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(PotstillError, match=message) as raised:
        potstill.load_data(wrong(tmp_path, what))
    assert "\n" not in str(raised.value)


def test_what_is_wrong_with_arrays_is_said_in_one_line() -> None:
    x, y = squares(4)
    for masks, message in (
        (y[:, :5], r"masks must be whole numbers \(n, 16, 16\)"),
        (y + 0.5, "not fractions"),
        (y.astype(int) - 1, "number classes from 0 up"),
    ):
        with pytest.raises(PotstillError, match=message):
            potstill.load_data((x, masks), task="segmentation")
    with pytest.raises(PotstillError, match='`task="segmentation"` for masks'):
        potstill.load_data((x, y))
    with pytest.raises(PotstillError, match="leave `size=` out"):
        potstill.load_data((x, y), task="segmentation", size=8)
    with pytest.raises(PotstillError, match="leave `label=` out"):
        potstill.load_data((x, y), task="segmentation", label="mask")
    with pytest.raises(PotstillError, match="not streamed"):
        potstill.load_data((x, y), task="segmentation", stream=True)
    with pytest.raises(
        PotstillError, match=r"test\): mask 0: the value 9 stands for none of the classes: the training masks"
    ):
        potstill.load_data((x, y, x, y * 0 + 9), task="segmentation")


def test_other_folders_are_read_as_before(tmp_path: Path) -> None:
    x, _ = squares(4)
    for i in range(4):
        save(tmp_path / "p" / ("images" if i % 2 else "drawings") / f"{i}.png", x[i], "RGB")
    assert potstill.load_data(tmp_path / "p").train.classes == ("drawings", "images")
    with pytest.raises(PotstillError, match="images/ and masks/"):
        potstill.load_data(tmp_path / "p", task="segmentation")
