"""Files as MedMNIST writes them: its arrays' names and shapes, class names by the file's name, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import potstill
from potstill.errors import PotstillError


def write(path: Path, shape: tuple[int, ...] = (28, 28), labels: int = 2, columns: int = 1) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, n in (("train", 30), ("val", 6), ("test", 10)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n * columns) % labels).reshape(n, columns).astype(np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "shape", "labels", "first"),
    [
        ("pneumoniamnist", (28, 28), 2, "normal"), ("pathmnist_64", (64, 64, 3), 9, "adipose"),
        ("organsmnist", (28, 28), 11, "bladder"),
    ],
)  # fmt: skip
def test_pictures_with_their_published_class_names(
    tmp_path: Path, name: str, shape: tuple[int, ...], labels: int, first: str
) -> None:
    write(tmp_path / f"{name}.npz", shape, labels)
    splits = potstill.load_data(tmp_path / f"{name}.npz", horizontal_flip=False)
    assert splits.train.classes[0] == first
    assert len(splits.train.classes) == labels
    assert splits.train.input.shape == (3 if len(shape) == 3 else 1, *shape[:2])
    assert (len(splits.train), len(splits.test or ())) == (30, 10)
    assert any("its 6 validation samples are not read" in note for note in splits.notes)
    assert splits.train.labels.tolist()[:3] == [0, 1, 2 % labels]


def test_other_names_keep_their_numbers(tmp_path: Path) -> None:
    write(tmp_path / "mine.npz", labels=3)
    assert potstill.load_data(tmp_path / "mine.npz", horizontal_flip=False).train.classes == ("0", "1", "2")
    write(tmp_path / "pneumoniamnist.npz", labels=3)  # not the published file
    found = potstill.load_data(tmp_path / "pneumoniamnist.npz", horizontal_flip=False)
    assert found.train.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"columns": 14}, "its pictures have 14 labels each"), ({"shape": (8, 8, 8)}, "holds volumes of shape")],
)
def test_what_is_no_classified_picture_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    write(tmp_path / "chestmnist.npz", **options)
    with pytest.raises(PotstillError, match=words):
        potstill.load_data(tmp_path / "chestmnist.npz")
