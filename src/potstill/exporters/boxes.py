"""A set of pictures with boxes as folders that detectors' tools read, and Potstill again: COCO's and YOLO's."""

import json
from pathlib import Path
from typing import Any

from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError
from potstill.exporters.images import encode_png, require_images, to_uint8
from potstill.tasks import ObjectDetection, list_targets

__all__ = ["write_coco", "write_yolo"]


def write_coco(distilled: Distilled, path: Path) -> None:
    """Write ``images/0000.png`` and ``annotations.json`` of COCO to a new folder; its ``potstill`` holds the metadata.

    Raises:
        PotstillError: the set has no boxes, or ``path`` is taken or cannot be written.
    """
    task, (h, w) = _boxes_task(distilled, "coco"), distilled.inputs.shape[2:]
    annotations: list[dict[str, Any]] = []
    for number, rows in enumerate(list_targets(distilled.labels.cpu()), 1):
        for left, top, right, bottom, c in rows.tolist():
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(c) + 1,
                "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top), "iscrowd": 0,
            })  # fmt: skip
    content = {
        "info": {"description": f"{len(distilled)} pictures made by Potstill"}, "licenses": [],
        "images": [
            {"id": n + 1, "file_name": f"{n:04}.png", "height": h, "width": w} for n in range(len(distilled))
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": name, "supercategory": ""} for n, name in enumerate(task.labels, 1)],
        "potstill": {"card": distilled.to_dict()},
    }  # fmt: skip

    def fill(folder: Path) -> None:
        _write_pictures(distilled, folder)
        (folder / "annotations.json").write_text(json.dumps(content), encoding="ascii")

    write_folder(path, fill)


def write_yolo(distilled: Distilled, path: Path) -> None:
    """Write ``images/0000.png``, ``labels/0000.txt`` and ``data.yaml`` of YOLO's tools to a new folder.

    Raises:
        PotstillError: the set has no boxes, or ``path`` is taken or cannot be written.
    """
    task, (h, w) = _boxes_task(distilled, "yolo"), distilled.inputs.shape[2:]

    def fill(folder: Path) -> None:
        _write_pictures(distilled, folder)
        (folder / "labels").mkdir()
        for n, rows in enumerate(list_targets(distilled.labels.cpu())):
            lines = [
                f"{int(c)} {(left + right) / 2 / w} {(top + bottom) / 2 / h} {(right - left) / w} {(bottom - top) / h}"
                for left, top, right, bottom, c in rows.tolist()
            ]
            (folder / "labels" / f"{n:04}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        names = "".join(f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(task.labels))  # JSON is YAML
        (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}", encoding="ascii")
        (folder / "potstill.json").write_text(json.dumps({"card": distilled.to_dict()}), encoding="ascii")

    write_folder(path, fill)


def _boxes_task(distilled: Distilled, to: str) -> ObjectDetection:
    if not isinstance(distilled.task, ObjectDetection):
        raise PotstillError(
            f'an export to {to} is of pictures with boxes, but this set has none; take `to="png"` for pictures'
        )
    return distilled.task


def _write_pictures(distilled: Distilled, folder: Path) -> None:
    (folder / "images").mkdir()
    for n, picture in enumerate(to_uint8(require_images(distilled))):
        (folder / "images" / f"{n:04}.png").write_bytes(encode_png(picture))
