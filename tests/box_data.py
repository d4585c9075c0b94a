"""Small pictures with boxes, written as people have them: bright and dark rectangles on noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["rectangles", "write_coco", "write_voc", "write_yolo"]

Rows = list[npt.NDArray[np.float32]]
NAMES = ("bright", "dark")


def rectangles(n: int, side: int = 24, seed: int = 0) -> tuple[npt.NDArray[np.uint8], Rows]:
    """Return pictures (n, h, w, 3), and rows (m, 5) of one bright and, in every other picture, one dark rectangle."""
    rng = np.random.default_rng(seed)
    x = rng.integers(90, 130, (n, side, side, 3)).astype(np.uint8)
    rows: Rows = []
    for i in range(n):
        boxes = []
        for c in range(1 + i % 2):
            w, h = rng.integers(5, 9, 2)
            left, top = int(rng.integers(0, side // 2 - 8) + c * side // 2), int(rng.integers(0, side - h))
            x[i, top : top + h, left : left + w] += np.array(90 if c == 0 else 166).astype(np.uint8)  # 166: -90
            boxes.append([left, top, left + w, top + h, c])
        rows.append(np.array(boxes, np.float32))
    return x, rows


def write_coco(root: Path, n: int = 20, *, suffix: str = "png", inner: str = "images", side: int = 24) -> Path:
    """Write ``instances.json`` and its pictures; return the file."""
    x, rows = rectangles(n, side)
    (root / inner).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(n):
        Image.fromarray(x[i]).save(root / inner / f"{i:03}.{suffix}")
        images.append({"id": i + 1, "file_name": f"{i:03}.{suffix}", "height": side, "width": side})
        for left, top, right, bottom, c in rows[i].tolist():
            box = [left, top, right - left, bottom - top]
            annotations.append({
                "id": len(annotations) + 1, "image_id": i + 1, "category_id": int(c) + 5, "bbox": box, "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": c + 5, "name": name} for c, name in enumerate(NAMES)]
    path = root / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_voc(root: Path, n: int = 10) -> Path:
    """Write ``Annotations/`` and ``JPEGImages/``; return the folder."""
    x, rows = rectangles(n)
    for inner in ("Annotations", "JPEGImages"):
        (root / inner).mkdir(parents=True)
    for i in range(n):
        Image.fromarray(x[i]).save(root / "JPEGImages" / f"{i:03}.png")
        objects = "".join(
            f"<object><name>{NAMES[int(c)]}</name><bndbox><xmin>{left + 1:g}</xmin><ymin>{top + 1:g}</ymin>"
            f"<xmax>{right:g}</xmax><ymax>{bottom:g}</ymax></bndbox></object>"
            for left, top, right, bottom, c in rows[i].tolist()
        )
        (root / "Annotations" / f"{i:03}.xml").write_text(
            f"<annotation><filename>{i:03}.png</filename><size><width>24</width><height>24</height></size>{objects}"
            "</annotation>"
        )
    return root


def write_yolo(root: Path, n: int = 10, *, parts: bool = False) -> Path:
    """Write ``images/`` and ``labels/`` (within ``train/`` and ``valid/``) and ``data.yaml``; return the folder."""
    x, rows = rectangles(n)
    for i in range(n):
        part = root / (("valid" if i % 5 == 0 else "train") if parts else "")
        for inner in ("images", "labels"):
            (part / inner).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(part / "images" / f"{i:03}.png")
        lines = [
            f"{int(c)} {(left + right) / 48} {(top + bottom) / 48} {(right - left) / 24} {(bottom - top) / 24}"
            for left, top, right, bottom, c in rows[i].tolist()
        ]
        (part / "labels" / f"{i:03}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text(f"names: [{', '.join(NAMES)}]\n")
    return root
