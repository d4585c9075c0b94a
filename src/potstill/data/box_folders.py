"""Folders and files of detection data: which hold boxes, in which format, and which parts they have."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from potstill.data.detection import Detection, load_detection
from potstill.data.yolo import is_yolo_folder, list_yolo
from potstill.errors import PotstillError

__all__ = ["is_boxed", "list_boxes"]

_TRAIN, _TEST = ("train",), ("val", "test")
_VOC_LISTS = Path("ImageSets") / "Main"


def _jsons(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))


def _coco_files(root: Path) -> tuple[Path, Path | None] | None:
    """Return the COCO files of the training part and of the test part."""
    listed = _jsons(root / "annotations")
    instances = [p for p in listed if p.stem.startswith("instances")] or listed

    def named(parts: Sequence[str], files: Sequence[Path]) -> Path | None:
        return next((p for part in parts for p in files if part in p.stem), None)

    if (train := named(_TRAIN, instances)) is not None:
        return train, named(_TEST, instances)
    by_folder = [p for part in ("train", "valid", "val", "test") for p in _jsons(root / part)[:1]]
    if by_folder and by_folder[0].parent.name == "train":
        return by_folder[0], by_folder[1] if len(by_folder) > 1 else None
    single = instances or _jsons(root)
    if len(single) > 1 and named(_TRAIN, single) is not None:
        return named(_TRAIN, single) or single[0], named(_TEST, single)
    return (single[0], None) if len(single) == 1 else None


def is_boxed(data: object) -> bool:
    """Return True for a ``.json`` file, and for folders of detection data: COCO's with ``annotations/``, VOC's with
    ``Annotations/``, and YOLO's with ``images/`` and ``labels/``."""
    if not isinstance(data, str | Path):
        return False
    text = os.path.expanduser(str(data))  # unlike a Path's methods, these raise for no text
    if not os.path.isdir(text):
        return text.lower().endswith(".json")
    path = Path(text)
    if bool(_jsons(path / "annotations")) or any((path / "Annotations").glob("*.xml")) or is_yolo_folder(path):
        return True
    found = _coco_files(path)
    return found is not None and ((path / "images").is_dir() or "coco" in found[0].name)


def list_boxes(path: Path) -> tuple[Detection, Detection | None]:
    """Read the boxes of a COCO file or of a folder, of the training part and of the test part if there is one.

    Args:
        path: for which `is_boxed` is true, or a folder of VOC's XML files.

    Raises:
        PotstillError: there are no such files, or they are malformed.
    """
    if not path.exists():
        raise PotstillError(f"{path}: no such file or folder; give COCO's .json, or a folder of COCO, VOC or YOLO")
    if not path.is_dir():
        return load_detection(path), None
    if is_yolo_folder(path) and not _jsons(path / "annotations"):
        return list_yolo(path)
    if (found := _coco_files(path)) is not None:
        train, test = (None if file is None else load_detection(file) for file in found)
        assert train is not None
        return train, None if test is None else _numbered_as(test, train.classes)
    if len(_jsons(path)) + len(_jsons(path / "annotations")) > 1:
        raise PotstillError(f"{path}: there are several .json files, none named train; give the path of one of them")
    return _voc_parts(load_detection(path), path)


def _numbered_as(data: Detection, classes: tuple[str, ...]) -> Detection:
    """Return the data with the numbers of other class names, which must hold all of its boxes' classes."""
    if data.classes == classes:
        return data
    number = {name: n for n, name in enumerate(classes)}
    images = []
    for image in data.images:
        names = [data.classes[c] for c in image.labels.tolist()]
        if unknown := [name for name in names if name not in number]:
            raise PotstillError(
                f"{data.name}: {image.path.name} has a box of class {unknown[0]!r}, which the training part does not "
                "name; correct the class, or leave the picture out"
            )
        images.append(replace(image, labels=image.labels.new_tensor([number[name] for name in names])))
    return replace(data, classes=classes, images=tuple(images))


def _voc_parts(data: Detection, path: Path) -> tuple[Detection, Detection | None]:
    """Return the parts that VOC's lists ``train.txt`` and ``val.txt`` of ``ImageSets/Main`` name."""
    lists = [path / _VOC_LISTS / f"{part}.txt" for part in ("train", "val")]
    if not all(file.is_file() for file in lists):
        return data, None
    by_id = {str(image.id): image for image in data.images}
    parts = []
    for file in lists:
        names = [line.split()[0] for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line]
        if missing := [name for name in names if name not in by_id]:
            raise PotstillError(f"{file}: there is no {missing[0]:.80}.xml in Annotations/; add it, or cut the line")
        parts.append(replace(data, images=tuple(by_id[name] for name in names)))
    return parts[0], parts[1]
