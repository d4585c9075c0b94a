"""A set of pictures with masks as a folder that is read as such again."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from potstill._util.class_colours import class_colours
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.folders import write_folder
from potstill.tasks import Segmentation

__all__ = ["write_masks"]


def write_masks(
    distilled: Distilled, task: Segmentation, path: Path, pictures: np.ndarray, encode: Callable[[Any], bytes]
) -> None:
    """Write ``images/0000.png``, ``masks/0000.png`` (palette files of class numbers, 255 for pixels without a class),
    ``classes.txt`` and ``labels.json`` (class names, metadata) to a new folder.

    Args:
        distilled: the set.
        task: its task.
        path: the folder.
        pictures: its pictures in 8 bits.
        encode: makes a PNG file of one.

    Raises:
        PotstillError: ``path`` is taken or cannot be written.
    """
    masks = distilled.labels.numpy().astype(np.uint8)
    used = [value for colour in class_colours(task.outputs) for value in colour]
    palette = used + [255] * (768 - len(used))

    def fill(folder: Path) -> None:
        for inner in ("images", "masks"):
            (folder / inner).mkdir()
        for i, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            drawn, buffer = Image.fromarray(np.ascontiguousarray(mask)), io.BytesIO()
            drawn.putpalette(palette)
            drawn.save(buffer, format="PNG")
            (folder / "images" / f"{i:04}.png").write_bytes(encode(picture))
            (folder / "masks" / f"{i:04}.png").write_bytes(buffer.getvalue())
        names = [re.sub(r"\s+", " ", name).strip().lstrip("#") or f"class {c}" for c, name in enumerate(task.labels)]
        (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        said = {"classes": list(task.labels), "card": distilled.to_dict()}
        (folder / "labels.json").write_text(json.dumps(said), encoding="ascii")

    write_folder(path, fill)
