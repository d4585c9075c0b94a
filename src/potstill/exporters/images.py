"""A distilled set as images: a PNG for each input in a folder for each class, and one contact sheet."""

import io
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.files import write_atomic
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError
from potstill.exporters.masks import write_masks
from potstill.kinds import get_kind
from potstill.tasks import ObjectDetection, Segmentation

__all__ = [
    "class_folder_names",
    "contact_sheet",
    "encode_png",
    "has_viewable_images",
    "image_inputs",
    "require_images",
    "to_uint8",
    "write_png",
]

_MOST_COLUMNS, _WIDEST, _TALLEST = 20, 4_000, 16_000
_GAP, _MARGIN = 2, 110
_LONGEST_NAME = 120
"""Maximum bytes of a folder's name; file systems allow 255, other programs append to it."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def image_inputs(distilled: Distilled) -> Tensor | None:
    """Return the inputs, or the part of them, that are images (n, c, h, w); ``None``: none are."""
    if not distilled.input.parts:
        return distilled.inputs if get_kind(distilled.input).augmentable and distilled.inputs.ndim == 4 else None
    name = next((name for name, part in distilled.input.parts if get_kind(part).augmentable), None)
    return None if name is None else distilled.inputs[name]


def has_viewable_images(distilled: Distilled) -> bool:
    """Return whether the inputs, or a part of them, are grey or colour images."""
    images = image_inputs(distilled)
    return images is not None and images.shape[1] in (1, 3)


def to_uint8(x: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w 3"]:
    """Return images in data units as 8-bit values, clamped to [0, 1].

    Raises:
        PotstillError: there are neither 1 nor 3 channels.
    """
    if x.shape[1] not in (1, 3):
        raise PotstillError(f"images need 1 or 3 channels, but these have {x.shape[1]}; export npz")
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    array: np.ndarray = pixels[:, 0].numpy() if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1).numpy()
    return array


def encode_png(picture: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Return the PNG file of an image."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG")
    return buffer.getvalue()


def require_images(distilled: Distilled) -> Tensor:
    """Return the inputs, or the part of them, that are images (n, c, h, w).

    Raises:
        PotstillError: neither the inputs nor a part of them are images.
    """
    if (found := image_inputs(distilled)) is None:
        raise PotstillError(f"png needs images, but this set holds {distilled.input.kind} data; export npz or parquet")
    return found


def row_names(distilled: Distilled) -> tuple[str, ...]:
    """Return the classes, or one name for all where there are none."""
    return distilled.classes if distilled.is_classification else ("items",)


def _sheet_rows(labels: Tensor, classes: int, columns: int, most: int) -> tuple[list[tuple[int, list[int]]], int]:
    """Return at most ``most`` rows of the sheet as (class, inputs), and the number of classes left out."""
    by_class = [(c, torch.nonzero(labels == c).flatten().tolist()) for c in range(classes)]
    by_class = [(c, items) for c, items in by_class if items]
    rows = [(c, items[i : i + columns]) for c, items in by_class for i in range(0, len(items), columns)]
    if len(rows) > most:  # then the first row of each class
        rows = [(c, items[:columns]) for c, items in by_class]
    return rows[:most], max(0, len(rows) - most)


def _label(name: str) -> str:
    """Return a name in ASCII, as the built-in font is Latin only."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)[:16]


def contact_sheet(distilled: Distilled, scale: int | None = None) -> Image.Image:
    """Return all images on one sheet, rows by class, each enlarged by ``scale`` without smoothing.

    The height is at most 16,000 pixels: beyond it each class has its first row alone, and then the last classes are
    left out, as the last line says.

    Raises:
        PotstillError: the inputs are not images of 1 or 3 channels.
    """
    pictures, labels, names = to_uint8(require_images(distilled)), distilled.hard_labels, row_names(distilled)
    h, w = pictures.shape[1:3]
    scale = scale or max(1, 64 // max(h, w))
    cell_w, cell_h = w * scale + _GAP, h * scale + _GAP
    longest = int(torch.bincount(labels).max())
    columns = max(1, min(_MOST_COLUMNS, longest, (_WIDEST - _MARGIN) // cell_w))
    rows, left_out = _sheet_rows(labels, len(names), columns, max(1, _TALLEST // cell_h))
    note = 16 if left_out else 0
    page = Image.new("RGB", (_MARGIN + columns * cell_w, len(rows) * cell_h + _GAP + note), "white")
    draw = ImageDraw.Draw(page)
    previous = -1
    for r, (c, items) in enumerate(rows):
        top = _GAP + r * cell_h
        if c != previous:
            draw.text((4, top + h * scale // 2 - 5), _label(names[c]), fill="black")
        previous = c
        for n, i in enumerate(items):
            picture = Image.fromarray(np.ascontiguousarray(pictures[i])).convert("RGB")
            enlarged = picture.resize((w * scale, h * scale), Image.Resampling.NEAREST)
            page.paste(enlarged, (_MARGIN + n * cell_w, top))
    if left_out:
        draw.text((4, page.height - 14), f"{left_out} more classes", fill="black")
    return page


def write_png(distilled: Distilled, path: Path) -> None:
    """Write ``CLASS/0000.png``, ``sheet.png`` and ``labels.json`` to a new folder, or the sheet alone to a path with
    .png.

    Images without classes are in ``items``, those with masks as `potstill.exporters.masks` says; captions are in
    ``metadata.jsonl``.

    Raises:
        PotstillError: the set has no images, or ``path`` is taken or cannot be written.
    """
    pictures, labels = to_uint8(require_images(distilled)), distilled.hard_labels.tolist()
    buffer = io.BytesIO()
    contact_sheet(distilled).save(buffer, format="PNG")
    if path.suffix.lower() == ".png":
        write_atomic(path, buffer.getvalue())
        return
    if isinstance(distilled.task, Segmentation):
        write_masks(distilled, distilled.task, path, pictures, encode_png)
        return
    if isinstance(distilled.task, ObjectDetection):
        raise PotstillError(
            'these pictures have boxes, which a folder of pictures does not hold; take `to="coco"` or `to="yolo"`'
        )
    folders = class_folder_names(row_names(distilled))

    def fill(folder: Path) -> None:
        (folder / "sheet.png").write_bytes(buffer.getvalue())
        counts = [0] * len(folders)
        files: list[str] = []
        for picture, c in zip(pictures, labels, strict=True):
            (folder / folders[c]).mkdir(exist_ok=True)
            files.append(f"{folders[c]}/{counts[c]:04}.png")
            (folder / files[-1]).write_bytes(encode_png(picture))
            counts[c] += 1
        said = {
            "classes": list(distilled.classes), "folders": folders, "files": files,
            "labels": distilled.labels.tolist(), "card": distilled.to_dict(),
        }  # fmt: skip
        if distilled.weights is not None:
            said["weights"] = distilled.weights.tolist()
        if distilled.scores is not None:
            said["scores"] = distilled.scores.tolist()
        if distilled.captions:
            rows = zip(files, distilled.captions, strict=True)
            lines = [json.dumps({"file_name": file, "text": text}) + "\n" for file, text in rows]
            (folder / "metadata.jsonl").write_text("".join(lines), encoding="ascii")
        (folder / "labels.json").write_text(json.dumps(said), encoding="ascii")

    write_folder(path, fill)


def _truncate(name: str) -> str:
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore").strip(" ._")


def class_folder_names(classes: tuple[str, ...]) -> list[str]:
    """Return a safe, distinct folder name for each class; unsafe names get their class number.

    Names are distinct also on file systems that ignore case or Unicode composition.
    """

    def folded(name: str) -> str:
        return unicodedata.normalize("NFKC", name).casefold()

    names: list[str] = []
    taken = {"sheet.png", "labels.json"}
    for c, name in enumerate(classes):
        safe = _truncate(re.sub(r"[^\w\- ]+", "_", name.encode("utf-8", "replace").decode()))
        if safe != name or not safe or _RESERVED.fullmatch(safe) or folded(safe) in taken:
            safe = _truncate(f"{c:04}_{safe}")
        while folded(safe) in taken:
            safe = f"_{safe}"
        names.append(safe)
        taken.add(folded(safe))
    return names
