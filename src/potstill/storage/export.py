"""A distilled set in formats that other programs read: pictures, numpy, parquet, WebDataset."""

import io
import json
import math
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from potstill.errors import PotstillError, unknown
from potstill.storage.artefact import Distilled
from potstill.storage.files import check_writable, write_atomic

__all__ = ["FORMATS", "ExportFormat", "export", "sheet"]

ExportFormat = Literal["png", "npz", "parquet", "webdataset"]
SHARD = 10_000
"""Samples in one tar file."""


def export(distilled: Distilled, to: str, path: str | Path) -> Path:
    """Write a set in another format. Numbers are kept exactly, except in png, which holds 8 bits per channel in [0,1].

    - ``png``: a folder ``CLASS/0000.png`` and ``sheet.png``; a path that ends in .png gets the sheet alone.
    - ``npz``: ``x`` float32 in data units, ``y``, ``classes``, ``mean``, ``std``, ``card``.
    - ``parquet``: columns ``input`` (float32 list; its shape in the schema's metadata), ``label`` or ``soft_label``,
      and for pictures ``image`` (PNG bytes as Hugging Face stores them).
    - ``webdataset``: tar shards with ``.npy`` (float32), ``.cls`` or ``.json`` (row), and for pictures ``.png``.

    Raises:
        PotstillError: no such format, pictures asked of a table, or a path that is taken or cannot be written.
    """
    writers: dict[str, Callable[[Distilled, Path], None]] = {
        "png": _png, "npz": _npz, "parquet": _parquet, "webdataset": _webdataset,
    }  # fmt: skip
    if to not in writers:
        raise unknown("export format", to, writers)
    path = Path(path)
    if to == "png" and distilled.input.kind != "image":
        raise PotstillError(
            f"png needs pictures, but this set holds {distilled.input.kind} data; export npz or parquet"
        )
    writers[to](distilled, path)
    return path


FORMATS = ("png", "npz", "parquet", "webdataset")


def _pictures(x: Tensor) -> np.ndarray:
    """uint8 (n, h, w) or (n, h, w, 3), clamped to [0,1] first."""
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    if pixels.shape[1] not in (1, 3):
        raise PotstillError(f"pictures need 1 or 3 channels, but these have {pixels.shape[1]}; export npz")
    array: np.ndarray = pixels[:, 0].numpy() if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1).numpy()
    return array


def _png_bytes(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def sheet(distilled: Distilled, scale: int | None = None) -> Image.Image:
    """All pictures on one sheet, a row per class (long classes wrap), each enlarged by ``scale`` without smoothing."""
    pictures, labels = _pictures(distilled.inputs), distilled.hard_labels
    h, w = pictures.shape[1:3]
    scale = scale or max(1, 64 // max(h, w))
    shelves = [torch.nonzero(labels == c).flatten().tolist() for c in range(len(distilled.classes))]
    columns = min(20, max(map(len, shelves)))
    rows = [shelf[i : i + columns] for shelf in shelves for i in range(0, len(shelf), columns)]
    gap, margin = 2, 110
    size = (margin + columns * (w * scale + gap), max(1, len(rows)) * (h * scale + gap) + gap)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    previous = -1
    for r, row in enumerate(rows):
        top = gap + r * (h * scale + gap)
        c = int(labels[row[0]])
        if c != previous:
            name = distilled.classes[c].encode("ascii", "replace").decode()  # the built-in font is Latin only
            draw.text((4, top + h * scale // 2 - 5), name[:16], fill="black")
        previous = c
        for n, i in enumerate(row):
            picture = Image.fromarray(pictures[i]).convert("RGB")
            enlarged = picture.resize((w * scale, h * scale), Image.Resampling.NEAREST)
            page.paste(enlarged, (margin + n * (w * scale + gap), top))
    return page


def _png(distilled: Distilled, path: Path) -> None:
    buffer = io.BytesIO()
    sheet(distilled).save(buffer, format="PNG")
    if path.suffix.lower() == ".png":
        write_atomic(path, buffer.getvalue())
        return
    pictures, labels = _pictures(distilled.inputs), distilled.hard_labels.tolist()
    folders = _folder_names(distilled.classes)

    def fill(folder: Path) -> None:
        (folder / "sheet.png").write_bytes(buffer.getvalue())
        counts = dict.fromkeys(folders, 0)
        for picture, c in zip(pictures, labels, strict=True):
            (folder / folders[c]).mkdir(exist_ok=True)
            (folder / folders[c] / f"{counts[folders[c]]:04}.png").write_bytes(_png_bytes(picture))
            counts[folders[c]] += 1
        (folder / "labels.json").write_text(
            json.dumps({"classes": list(distilled.classes), "folders": folders, "labels": distilled.labels.tolist()})
        )

    _write_folder(path, fill)


def _folder_names(classes: tuple[str, ...]) -> list[str]:
    """A safe, distinct folder name for each class: names from strangers may hold slashes, dots or nothing at all."""
    names: list[str] = []
    for c, name in enumerate(classes):
        safe = re.sub(r"[^\w\- ]+", "_", name).strip(" ._")[:80]
        if safe != name or not safe or safe.lower() in {n.lower() for n in names}:
            safe = f"{c:04}_{safe}".rstrip("_")
        names.append(safe)
    return names


def _write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A new folder, filled beside and renamed, so that there is all of it or none."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise PotstillError(f"{path}: is there already; choose another path or remove it first")
    if not path.absolute().parent.is_dir():
        raise PotstillError(f"{path}: its folder {path.parent} does not exist; make it or choose another path")
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent))
    except OSError as error:
        raise PotstillError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    try:
        fill(part)
        part.chmod(0o755)
        if path.exists():
            path.rmdir()
        os.replace(part, path)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise PotstillError(f"{path}: could not be written ({error.strerror}); free space or choose another") from error


def _npz(distilled: Distilled, path: Path) -> None:
    buffer = io.BytesIO()
    n = distilled.normalization
    np.savez_compressed(
        buffer,
        x=distilled.inputs.numpy(),
        y=distilled.labels.numpy(),
        classes=np.array(distilled.classes),
        mean=n.mean.numpy(),
        std=n.std.numpy(),
        card=np.array(json.dumps(distilled.card)),
    )
    write_atomic(path, buffer.getvalue())


def _parquet(distilled: Distilled, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = distilled.inputs.flatten(1).numpy()
    columns: dict[str, object] = {"input": pa.array(list(flat), type=pa.list_(pa.float32(), flat.shape[1]))}
    features: dict[str, object] = {
        "input": {"feature": {"dtype": "float32", "_type": "Value"}, "length": flat.shape[1], "_type": "List"}
    }
    if distilled.input.kind == "image" and distilled.inputs.shape[1] in (1, 3):
        encoded = [{"bytes": _png_bytes(p), "path": None} for p in _pictures(distilled.inputs)]
        columns["image"] = pa.array(encoded, type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        features["image"] = {"_type": "Image"}
    columns["label"] = pa.array(distilled.hard_labels.numpy())
    features["label"] = {"names": list(distilled.classes), "_type": "ClassLabel"}
    if distilled.labels.ndim == 2:
        rows = distilled.labels.numpy()
        columns["soft_label"] = pa.array(list(rows), type=pa.list_(pa.float32(), rows.shape[1]))
        features["soft_label"] = {
            "feature": {"dtype": "float32", "_type": "Value"}, "length": rows.shape[1], "_type": "List",
        }  # fmt: skip
    metadata = {
        "huggingface": json.dumps({"info": {"features": features}}),
        "potstill": json.dumps({"shape": list(distilled.inputs.shape[1:]), "card": distilled.card}),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    write_atomic(path, buffer.getvalue())


def _webdataset(distilled: Distilled, path: Path) -> None:
    shards = math.ceil(len(distilled) / SHARD)
    image = distilled.input.kind == "image" and distilled.inputs.shape[1] in (1, 3)
    pictures = _pictures(distilled.inputs) if image else None
    if path.suffix == ".tar" and shards == 1:
        check_writable(path)
        write_atomic(path, _tar(distilled, pictures, 0, len(distilled)))
        return

    def fill(folder: Path) -> None:
        (folder / "classes.json").write_text(json.dumps(list(distilled.classes)))
        for s in range(shards):
            (folder / f"train-{s:06}.tar").write_bytes(_tar(distilled, pictures, s * SHARD, (s + 1) * SHARD))

    _write_folder(path, fill)


def _tar(distilled: Distilled, pictures: np.ndarray | None, first: int, last: int) -> bytes:
    buffer = io.BytesIO()
    hard = distilled.hard_labels.tolist()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for i in range(first, min(last, len(distilled))):
            array = io.BytesIO()
            np.save(array, distilled.inputs[i].numpy())
            files = {"cls": str(hard[i]).encode(), "npy": array.getvalue()}
            if distilled.labels.ndim == 2:
                files["soft.json"] = json.dumps(distilled.labels[i].tolist()).encode()
            if pictures is not None:
                files["png"] = _png_bytes(pictures[i])
            for ending, content in sorted(files.items()):
                info = tarfile.TarInfo(f"{i:08}.{ending}")  # modification time 0: equal sets, equal bytes
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
