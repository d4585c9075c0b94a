"""Published FKD folders read into a store, without running what is in them (`potstill.labels.fkd_files`).

**Which pictures a batch holds** stands in ``index``. Without it, they follow from the producer's sampler: for every
epoch one ``torch.randperm`` of a generator that is seeded once, by 42, and after it one more that torch's RandomSampler
draws and throws away when it ends; batch b holds places b·B … of the first.

**What is not the same**: the producers cut pictures of 8 bits with PIL or torchvision's antialiasing, this library cuts
floats (`potstill.augment.integer_ops`), so views differ from those that were labelled by rounding, at sharp edges by
more.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from potstill.augment.imported_views import ImportedViews
from potstill.errors import PotstillError
from potstill.labels.fkd_files import FKDBatch, read_batch
from potstill.labels.label_file import LabelFile
from potstill.labels.metadata import LabelMetadata
from potstill.labels.write import DEFAULT_WRITING, RowSettings, WriteSettings, write_rows

__all__ = ["import_fkd", "sampler_order"]

PUBLISHED_ROWS = RowSettings(temperature=20.0, level=True)
SEED = 42
"""Seed of the sampler, hard-coded in the consumer (get_img2batch_idx_list)."""


def sampler_order(items: int, epochs: int, seed: int = SEED) -> list[Int[Tensor, " n"]]:
    """Return the order of all items in each epoch, as the producer's RandomSampler drew it."""
    rng = torch.Generator()
    rng.manual_seed(seed)
    made = []
    for _ in range(epochs):
        made.append(torch.randperm(items, generator=rng))
        torch.randperm(items, generator=rng)  # drawn and thrown away by RandomSampler at the end of an epoch
    return made


def import_fkd(
    folder: str | Path,
    path: str | Path,
    *,
    classes: Sequence[str],
    items: int,
    picture: tuple[int, int],
    size: tuple[int, int],
    epochs: int | None = None,
    network: str = "unknown",
    rows: RowSettings = PUBLISHED_ROWS,
    settings: WriteSettings = DEFAULT_WRITING,
) -> LabelFile:
    """Import the labels of a published folder, with its crops, flips and mixes.

    Args:
        folder: holds ``epoch_0``, ``epoch_1``, ….
        path: of the store; it gets this name when it is whole.
        classes: in the order of the logits. The folder does not say, so this is the caller's word.
        items: pictures of the set, in the order of the producer's ImageFolder (folders, then files, sorted).
        picture: (height, width) of the stored pictures.
        size: (height, width) of the views that were labelled.
        epochs: the first so many; all if ``None``.
        network: the teacher's name, where it is known.
        rows: storage of the rows.
        settings: writing of the file; ``inputs_hash`` is required: the hash of the pictures in the producer's order.

    Raises:
        PotstillError: a file is missing, of another form, holds other objects, or says what cannot be: one line.
    """
    if settings.inputs_hash is None:
        raise PotstillError("imported labels need the hash of the pictures; give settings with inputs_hash")
    folder = Path(folder)
    found = sum(1 for p in folder.glob("epoch_*") if re.fullmatch(r"epoch_\d+", p.name)) if folder.is_dir() else 0
    stored = found if epochs is None else epochs
    if not 1 <= stored <= found:
        raise PotstillError(f"{folder}: {max(stored, 1)} folders epoch_0, epoch_1, … are required, but it has {found}")
    first = _batches(folder, 0, picture, len(classes))[0]
    mix = "none" if first.perm is None else "mixup" if first.bbox is None else "cutmix"
    views = ImportedViews(picture=picture, size=size, mix=mix)
    if first.index is not None and picture[0] != picture[1]:
        # G-VBSM and EDC divide rows by the width and columns by the height; which, differs between their versions.
        raise PotstillError(f"{folder}: boxes of this variant are only known for square pictures, not {picture}")
    orders = sampler_order(items, stored) if first.index is None else None
    about = LabelMetadata(
        classes=tuple(classes), items=items, content_hash=settings.inputs_hash, epochs=stored,
        coding=rows.codec(len(classes)), views=views, networks=((network, ""),), version=version("potstill"),
    )  # fmt: skip

    def make(start: int, end: int) -> Mapping[str, NDArray[Any]]:
        epoch = start // items
        batches = _batches(folder, epoch, picture, len(classes))
        return _epoch(f"{folder}/epoch_{epoch}", batches, None if orders is None else orders[epoch], about)

    parts = [(e * items, (e + 1) * items) for e in range(stored)]
    return write_rows(Path(path), about, parts, make, settings)


def _epoch(
    where: str, batches: Sequence[FKDBatch], order: Tensor | None, about: LabelMetadata
) -> dict[str, NDArray[Any]]:
    """All fields of one epoch, by item."""
    views, n = about.views, about.items
    assert isinstance(views, ImportedViews)
    if (total := sum(len(b.box) for b in batches)) != n:
        raise PotstillError(f"{where}: labels of {n} items are required, but it holds {total}; give items={total}")
    place = np.concatenate([b.index for b in batches if b.index is not None]) if order is None else order.numpy()
    if len(place) != n or not np.array_equal(np.sort(place), np.arange(n)):
        raise PotstillError(f"{where}: every item must be labelled once, but its index does not number {n} items")
    made = {name: np.zeros((n, *shape), _TYPES[kind]) for name, (kind, shape) in views.fields().items()}
    logits = torch.cat([b.logits for b in batches])
    if not bool(torch.isfinite(logits).all()):
        raise PotstillError(f"{where}: logits must be finite, but some are not; get the folder again")
    at = 0
    for b in batches:
        mine = place[at : at + len(b.box)]
        at += len(b.box)
        made["box"][mine], made["flip"][mine] = b.box, b.flip
        if (b.perm is None) != (views.mix == "none") or (b.bbox is None) != (views.mix != "cutmix"):
            raise PotstillError(f"{where}: some batches are mixed otherwise than others; import them apart")
        if b.perm is None:
            continue
        made["partner"][mine] = mine[b.perm]
        if b.bbox is None:
            made["share"][mine] = b.lam
            continue
        top, left, bottom, right = b.bbox  # named x1, y1, x2, y2 there, but x counts rows
        if not (0 <= top <= bottom <= views.size[0] and 0 <= left <= right <= views.size[1]):
            raise PotstillError(f"{where}: box {b.bbox} lies outside views of {views.size}; give their size")
        made["mixed"][mine] = (top, bottom, left, right)
    return made | about.coding.encode(torch.empty_like(logits).index_copy_(0, torch.from_numpy(place), logits))


_TYPES = {"I16": np.int16, "U8": np.uint8, "I32": np.int32, "F32": np.float32}


def _batches(folder: Path, epoch: int, picture: tuple[int, int], classes: int) -> list[FKDBatch]:
    inside = folder / f"epoch_{epoch}"
    count = sum(1 for p in inside.glob("batch_*.tar") if re.fullmatch(r"batch_\d+\.tar", p.name))
    if count == 0:
        raise PotstillError(f"{inside}: files batch_0.tar, batch_1.tar, … are required, but there are none")
    return [read_batch(inside / f"batch_{b}.tar", picture, classes) for b in range(count)]
