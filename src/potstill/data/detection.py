"""Object detection data: COCO JSON and VOC XML files, and subsets written as COCO JSON.

Annotations come from strangers: JSON of another make and XML with a document type (entities can fill a memory or read
files) are refused in one line.
"""

import hashlib
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from potstill._util.input_limits import check_limit
from potstill._util.paths import path_within
from potstill.data.error_text import reason
from potstill.errors import PotstillError

__all__ = ["BoxedImage", "Detection", "load_detection", "read_picture"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedImage:
    """An image file with its boxes."""

    id: int | str
    path: Path
    height: int
    """0 where only the file says the size and it cannot be read."""
    width: int
    boxes: Float[Tensor, "m 4"]
    """left, top, right, bottom in pixels; the image spans (0, 0) to (width, height)."""
    labels: Int[Tensor, " m"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """A detection dataset: images with boxes of several classes."""

    name: str
    classes: tuple[str, ...]
    images: tuple[BoxedImage, ...]
    notes: tuple[str, ...] = ()
    upright: bool = False
    """Boxes count the pixels of pictures turned as their EXIF orientation says; else those that are stored."""
    raw: Mapping[str, Any] | None = field(default=None, repr=False)
    """The original COCO JSON, so that a subset keeps what is not read here (masks, licences)."""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of class names, ids, boxes, labels and the picture files' bytes.

        Raises:
            PotstillError: a picture cannot be read.
        """
        digest = hashlib.sha256(json.dumps([self.classes, len(self)]).encode())
        for image in self.images:
            digest.update(json.dumps([image.id, image.height, image.width, len(image.labels)]).encode())
            digest.update(image.boxes.double().contiguous().numpy().data)
            digest.update(image.labels.contiguous().numpy().data)
            try:
                digest.update(hashlib.sha256(image.path.read_bytes()).digest())
            except OSError as error:
                raise PotstillError(f"{image.path}: cannot be read ({reason(error)}); check `images=`") from None
        return digest.hexdigest()

    def subset(self, index: Sequence[int], about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The pictures at ``index`` as COCO's JSON: what was read, whole; of VOC, the pictures, boxes and classes.

        Args:
            about: kept under ``potstill``, beside the index and the hash of what it counts in.
        """
        chosen = [self.images[i] for i in index]
        said = {**(about or {}), "index": [int(i) for i in index], "source": {"name": self.name, "samples": len(self)}}
        said["source"]["hash"] = self.content_hash
        if self.raw is not None:
            rows = {row["id"]: row for row in self.raw["images"]}
            taken = {image.id for image in chosen}
            return {
                **self.raw,
                "images": [rows[image.id] for image in chosen],
                "annotations": [a for a in self.raw["annotations"] if a["image_id"] in taken],
                "potstill": said,
            }
        annotations: list[dict[str, Any]] = []
        for number, image in enumerate(chosen, 1):
            for (left, top, right, bottom), label in zip(image.boxes.tolist(), image.labels.tolist(), strict=True):
                w, h = right - left, bottom - top
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                    "bbox": [left, top, w, h], "area": w * h, "iscrowd": 0,
                })  # fmt: skip
        return {
            "images": [
                {"id": n, "file_name": i.path.name, "height": i.height, "width": i.width}
                for n, i in enumerate(chosen, 1)
            ],
            "annotations": annotations,
            "categories": [{"id": n, "name": name} for n, name in enumerate(self.classes, 1)],
            "potstill": said,
        }


def load_detection(path: str | Path, images: str | Path | None = None) -> Detection:
    """Annotations of a detection data set; no picture is opened.

    Args:
        path: a COCO ``.json`` file, or a folder of VOC ``.xml`` files (or one with ``Annotations/`` in it).
        images: the folder of the pictures. Without it: the JSON file's folder, ``images`` or ``data`` in it or beside
            it, or a folder beside it that is named as the file (``annotations/instances_val2017.json``, ``val2017``);
            or VOC's ``JPEGImages`` beside ``Annotations``, or the folder of the XML files.

    Raises:
        PotstillError: the annotations are malformed, or there are none.
    """
    path = Path(path).expanduser()
    base = None if images is None else Path(images).expanduser()
    if path.is_dir():
        return _voc(path, base)
    if not path.is_file():
        raise PotstillError(f"{path}: no such file or folder; give COCO's .json or a folder of VOC's .xml files")
    if path.suffix.lower() != ".json":
        raise PotstillError(f"{path}: annotations are COCO's .json file or a folder of VOC's .xml files")
    return _coco(path, base)


def _wrong(path: Path, what: str) -> PotstillError:
    return PotstillError(f"{path}: {what}; get the annotations again")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _boxes(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def _picture_folder(path: Path, name: str) -> Path:
    """Return the folder in which the picture ``name`` of a COCO file is; the file's own if it is in none."""
    part, above = path.stem.rpartition("_")[2], path.parent.parent
    inner = [path.parent, *(path.parent / n for n in ("images", "data"))]
    beside = [above / part, *(above / "images" / n for n in (part, "")), above] if path.parent.name else []
    return next((folder for folder in [*inner, *beside] if (folder / name).is_file()), path.parent)


def _coco(path: Path, base: Path | None) -> Detection:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: not a JSON file ({reason(error)}); get the annotations again") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(raw, dict) or any(not isinstance(raw.get(part), list) for part in parts):
        raise _wrong(path, "COCO's JSON has the lists images, annotations and categories, but these are not all here")
    for part in parts:
        if any(not isinstance(row, dict) for row in raw[part]):
            raise _wrong(path, f"{part} must hold objects")
    names: dict[Any, str] = {}
    for row in raw["categories"]:
        if not isinstance(row.get("id"), int) or not isinstance(row.get("name"), str) or row["id"] in names:
            raise _wrong(path, "every category needs an id of its own and a name")
        names[row["id"]] = row["name"]
    order = sorted(names)
    label_of = {category: n for n, category in enumerate(order)}
    boxes: dict[Any, list[list[float]]] = {}
    labels: dict[Any, list[int]] = {}
    for row in raw["images"]:
        sides = [row.get("height"), row.get("width")]
        file = row.get("file_name")
        if not isinstance(row.get("id"), int | str) or row["id"] in boxes:
            raise _wrong(path, "every image needs an id of its own")
        if not isinstance(file, str) or any(not isinstance(s, int) or s < 1 for s in sides):
            raise _wrong(path, f"image {row['id']} needs file_name, height and width")
        boxes[row["id"]], labels[row["id"]] = [], []
    if base is None and raw["images"]:
        first = raw["images"][0]["file_name"]
        path_within(path.parent, first, f"{path}: image {raw['images'][0]['id']}")
        base = _picture_folder(path, first)
    base, crowds = base or path.parent, 0
    for n, row in enumerate(raw["annotations"]):
        box = row.get("bbox")
        of, category = row.get("image_id"), row.get("category_id")
        known = isinstance(of, int | str) and isinstance(category, int) and of in boxes and category in label_of
        if not known:
            raise _wrong(path, f"annotation {n} is of an image or a category that is not here")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_number, box)) or min(box[2:]) < 0:
            raise _wrong(path, f"annotation {n} needs a bbox of four numbers: left, top, width, height")
        if row.get("iscrowd"):
            crowds += 1
            continue
        if min(box[2:]) > 0:
            boxes[row["image_id"]].append([box[0], box[1], box[0] + box[2], box[1] + box[3]])
            labels[row["image_id"]].append(label_of[row["category_id"]])
    images = tuple(
        BoxedImage(
            id=row["id"], path=path_within(base, row["file_name"], f"{path}: image {row['id']}"),
            height=row["height"], width=row["width"],
            boxes=_boxes(boxes[row["id"]]), labels=torch.tensor(labels[row["id"]], dtype=torch.int64),
        )
        for row in raw["images"]
    )  # fmt: skip
    if not images or not names:
        raise _wrong(path, "there are no images or no categories")
    notes = (f"{path.name}: {crowds:,} crowds were not read",) if crowds else ()
    return Detection(name=path.stem, classes=tuple(names[c] for c in order), images=images, notes=notes, raw=raw)


def _xml(path: Path) -> ET.Element:
    """Parse an XML file; document types and entities are refused."""
    try:
        check_limit("xml_bytes", path.stat().st_size, str(path))
        content = path.read_bytes()
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({reason(error)})") from None
    if b"\0" in content or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise _wrong(path, "XML with a document type or entities, or not in 8-bit letters, is refused")
    try:
        return ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise PotstillError(f"{path}: not an XML file ({reason(error)}); get the annotations again") from None


def _text(node: ET.Element, tag: str, path: Path) -> str:
    text = node.findtext(tag)
    if text is None or not text.strip():
        raise _wrong(path, f"VOC's annotation needs {tag}")
    return text.strip()


def _value(node: ET.Element, tag: str, path: Path) -> float:
    text = _text(node, tag, path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(path, f"{tag} must be a number, not {text[:40]!r}")
    return value


def _voc(folder: Path, base: Path | None) -> Detection:
    inner = folder / "Annotations"
    at = inner if inner.is_dir() else folder
    files = sorted(at.glob("*.xml"))
    if not files:
        raise PotstillError(f"{folder}: there are no .xml files; give COCO's .json or a folder of VOC's .xml files")
    pictures = base or (at.parent / "JPEGImages" if (at.parent / "JPEGImages").is_dir() else at)
    annotated: list[tuple[Path, Path, int, int, list[list[float]], list[str]]] = []
    for file in files:
        root = _xml(file)
        name = _text(root, "filename", file)
        height, width = (int(_value(root, f"size/{side}", file)) for side in ("height", "width"))
        boxes: list[list[float]] = []
        labels: list[str] = []
        for node in root.iter("object"):
            left, top, right, bottom = (_value(node, f"bndbox/{t}", file) for t in ("xmin", "ymin", "xmax", "ymax"))
            if right < left or bottom < top:
                raise _wrong(file, f"a box goes from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
            # VOC counts pixels from 1 and the last one belongs to the box
            boxes.append([left - 1, top - 1, right, bottom])
            labels.append(_text(node, "name", file))
        annotated.append((file, path_within(pictures, name, str(file)), height, width, boxes, labels))
    classes = tuple(sorted({label for *_, labels in annotated for label in labels}))
    if not classes:
        raise _wrong(folder, "there are no objects in any annotation")
    images = tuple(
        BoxedImage(
            id=file.stem, path=picture, height=height, width=width, boxes=_boxes(boxes),
            labels=torch.tensor([classes.index(label) for label in labels], dtype=torch.int64),
        )
        for file, picture, height, width, boxes, labels in annotated
    )  # fmt: skip
    return Detection(name=folder.resolve().name, classes=classes, images=images)


def read_picture(image: BoxedImage) -> Float[Tensor, "3 h w"]:
    """Read the image in [0, 1] as stored: boxes count stored pixels, so no EXIF orientation is applied.

    Raises:
        PotstillError: it is not there, broken, or of another size than the annotation says.
    """
    try:
        with Image.open(image.path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PotstillError(f"{image.path}: not an image ({reason(error)}); check `images=`") from None
    if pixels.shape[:2] != (image.height, image.width):
        raise PotstillError(
            f"{image.path}: is {pixels.shape[0]} × {pixels.shape[1]} (height × width), but its annotation says "
            f"{image.height} × {image.width}"
        )
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
