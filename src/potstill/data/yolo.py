"""Detection data as YOLO's tools write them: a text file of boxes beside each picture, and class names in YAML."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from potstill.data.detection import BoxedImage, Detection
from potstill.data.pictures import SUFFIXES, BadPictureError, read_header
from potstill.errors import PotstillError

__all__ = ["is_yolo_folder", "list_yolo"]

_TRAIN, _TEST = ("train", "training"), ("val", "valid", "validation", "test", "testing")
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "labels/classes.txt")

_Folders = tuple[Path, Path]
"""Folders of pictures and of their boxes."""


def _pair(base: Path) -> _Folders | None:
    pictures, labels = base / "images", base / "labels"
    return (pictures, labels) if pictures.is_dir() and labels.is_dir() else None


def _parts(root: Path) -> tuple[_Folders, _Folders | None] | None:
    """Return the folders of the training part and of the test part."""
    for train in _TRAIN:
        if (found := _pair(root / train)) is not None:
            return found, next((pair for name in _TEST if (pair := _pair(root / name)) is not None), None)
    if (found := _pair(root)) is None:
        return None

    def below(names: Sequence[str]) -> _Folders | None:
        inner = ((found[0] / name, found[1] / name) for name in names)
        return next((pair for pair in inner if pair[0].is_dir() and pair[1].is_dir()), None)

    first = below(_TRAIN)
    return (found, None) if first is None else (first, below(_TEST))


def is_yolo_folder(root: Path) -> bool:
    """Return True for a folder of ``images/`` and ``labels/`` with text files, also within ``train/``."""
    found = _parts(root)
    return found is not None and any(found[0][1].glob("*.txt"))


def list_yolo(root: Path) -> tuple[Detection, Detection | None]:
    """Read the boxes of both parts; of pictures only the headers are read, as boxes are shares of their sizes.

    Pictures that cannot be read are left to the decoder, as in other folders.

    Args:
        root: for which `is_yolo_folder` is true.

    Raises:
        PotstillError: there are no class names, a line is no box, a class has no name, or a text file has no picture.
    """
    found = _parts(root)
    if found is None:
        raise PotstillError(f"{root}: YOLO's boxes are read from images/ and labels/; make these")
    classes, name = _class_names(root), root.resolve().name
    parts = [None if pair is None else _read_part(pair, classes, name) for pair in found]
    assert parts[0] is not None
    return parts[0], parts[1]


def _read_part(folders: _Folders, classes: tuple[str, ...], name: str) -> Detection:
    pictures = {p.stem: p for p in sorted(folders[0].iterdir()) if p.suffix.lower() in SUFFIXES}
    texts = {p.stem: p for p in sorted(folders[1].glob("*.txt")) if p.name != "classes.txt"}
    if lonely := sorted(texts.keys() - pictures.keys()):
        raise PotstillError(f"{texts[lonely[0]]}: there is no picture of this name in {folders[0]}; add it there")
    if not pictures:
        raise PotstillError(f"{folders[0]}: there are no pictures; put them there")
    images = []
    for stem, path in pictures.items():
        try:
            height, width, _ = read_header(path)
        except BadPictureError:
            height = width = 0
        rows = _rows(texts[stem], classes) if stem in texts else []
        numbers = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
        sides = torch.tensor([width, height, width, height], dtype=torch.float64)
        images.append(
            BoxedImage(
                id=stem, path=path, height=height, width=width, boxes=numbers[:, 1:] * sides,
                labels=numbers[:, 0].long(),
            )
        )  # fmt: skip
    return Detection(name=name, classes=classes, images=tuple(images), upright=True)


def _rows(path: Path, classes: tuple[str, ...]) -> list[list[float]]:
    """Return rows (class, left, top, right, bottom) in shares of the picture; of outlines, their bounds."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            label, values = -1, []
        is_outline = len(values) >= 6 and len(values) % 2 == 0
        if (len(values) != 4 and not is_outline) or not all(map(math.isfinite, values)):
            raise PotstillError(
                f"{path}: line {number} does not hold a box; write the number of its class, and centre x, centre y, "
                "width and height as shares of the picture"
            )
        if not 0 <= label < len(classes):
            raise PotstillError(
                f"{path}: line {number} is of class {words[0]:.20}, but there are {len(classes)} class names, for 0 … "
                f"{len(classes) - 1}; correct the line or add the name"
            )
        if is_outline:
            xs, ys = values[::2], values[1::2]
            rows.append([float(label), min(xs), min(ys), max(xs), max(ys)])
            continue
        x, y, w, h = values
        rows.append([float(label), x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return rows


def _class_names(root: Path) -> tuple[str, ...]:
    path = next((root / name for name in _NAMES if (root / name).is_file()), None)
    if path is None:
        raise PotstillError(f"{root}: there are no class names; write names: [NAME, …] into data.yaml there")
    if path.suffix not in (".yaml", ".yml"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names: Any = [line.strip() for line in lines if line.strip()]
    else:
        from potstill._util.safe_yaml import read_yaml  # yaml is not needed for other data

        content = read_yaml(path, "the class names", "write names: [NAME, …] into it")
        names = content.get("names") if isinstance(content, Mapping) else None
        if isinstance(names, Mapping):
            ordered = [names.get(i, names.get(str(i))) for i in range(len(names))]
            names = ordered
    if not isinstance(names, list) or not names or any(not isinstance(n, str | int) for n in names):
        raise PotstillError(f"{path}: names must be a list of class names, or those of 0, 1, …; write names: [NAME, …]")
    return tuple(str(n) for n in names)
