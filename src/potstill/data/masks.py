"""Pictures whose pixels have classes, for ``--task segmentation``: folders of masks, ``.npz`` files and arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill.core import InputSpec, Splits
from potstill.data.arrays import canonicalize_inputs, to_array
from potstill.data.mask_folders import (
    ClassNames,
    PairedFolder,
    is_mask_folder,
    list_masks,
    read_class_names,
    read_mask,
)
from potstill.data.pictures import decode_images
from potstill.data.python_objects import named_groups, pick_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError
from potstill.tasks import IGNORED, Segmentation

__all__ = ["is_mask_folder", "read_masks"]

_MOST = 255
"""Most classes: their numbers and `IGNORED` take a byte."""
_BINARY = ("background", "foreground")
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_Part = tuple[npt.NDArray[Any], Sequence[str]]
"""Values of masks (n, h, w), and what to call each mask in a message."""


def read_masks(task: Segmentation, data: object, options: ReadOptions) -> Splits:
    """Read a folder of pictures and masks (`mask_folders.list_masks`), an ``.npz`` file or arrays (x, y).

    Args:
        task: the requested task; names of classes are filled in from ``classes.txt``, from ``classes`` of an ``.npz``
            file, or from the values in the training masks.
        data: what holds them. Arrays are pictures as for classes, and masks (n, h, w) of whole numbers.
        options: how to read it.

    Raises:
        PotstillError: a picture without a mask, a mask of another size, values that are no class, masks in colours that
            ``classes.txt`` lacks; and as for pictures with classes.
    """
    _refuse_options(options)
    if isinstance(data, str | Path) and Path(data).suffix.lower() != ".npz":
        return assemble(_read_folder(task, list_masks(Path(data).expanduser()), options), options)
    return assemble(_read_arrays(task, data, options), options)


def _refuse_options(options: ReadOptions) -> None:
    for name in ("label", "text", "representation", "encode", "missing"):
        if getattr(options, name) is not None:
            raise PotstillError(f"data for segmentation are pictures and masks; leave `{name}=` out")


def _read_folder(task: Segmentation, listed: PairedFolder, options: ReadOptions) -> RawSplits:
    pairs, cut = [*listed.train, *(listed.test or ())], len(listed.train)
    items = [(str(pair.picture), pair.picture) for pair in pairs]
    got = decode_images(items, size=options.size, skip_bad=options.skip_bad, name=listed.name)
    names, size = read_class_names(listed.root), (got.pixels.shape[2], got.pixels.shape[3])
    decoded = [pairs[i] for i in got.positions]
    values = np.stack([read_mask(pair, size, names) for pair in decoded])
    first = sum(i < cut for i in got.positions)
    where = [str(pair.mask) for pair in decoded]
    parts = [(values[:first], where[:first]), (values[first:], where[first:])]
    said = task.labels or (() if names is None else names.names)
    labels, masks, notes = _as_classes(parts, said, names, listed.name, is_voc=listed.is_voc)
    places = torch.tensor(got.positions, dtype=torch.int64)
    files = tuple(pair.picture.relative_to(listed.root).as_posix() for pair in decoded)
    part = RawPart(
        inputs=got.pixels, labels=torch.zeros(len(decoded), dtype=torch.int64), targets=torch.cat(masks), names=files,
        places=places,
    )  # fmt: skip
    return RawSplits(
        name=listed.name, train=part.select(torch.arange(first)),
        test=None if listed.test is None else part.select(torch.arange(first, len(decoded))),
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])), classes=(), task=replace(task, labels=labels),
        notes=(*listed.notes, *got.notes, *notes),
    )  # fmt: skip


def _read_arrays(task: Segmentation, data: object, options: ReadOptions) -> RawSplits:
    name, pairs, named = "arrays", data, None
    if isinstance(data, str | Path):
        name, pairs = Path(data).stem, read_npz_arrays(Path(data))
    arrays = pairs if isinstance(pairs, Mapping) else {}
    if isinstance(pairs, Mapping):
        named, pairs = pairs.get("classes"), pick_arrays(pairs, name)
    if not isinstance(pairs, tuple | list) or len(pairs) not in (2, 4):
        raise PotstillError(
            "pictures and their masks are read from a folder with images/ and masks/, an npz file, or arrays (x, y), "
            f"not from a {type(data).__name__}"
        )
    if options.size is not None:
        raise PotstillError(f"{name}: arrays are not resized with their masks; leave `size=` out, and resize both")
    has_test = len(pairs) == 4
    x, x_test, spec, notes = canonicalize_inputs(pairs[0], pairs[2] if has_test else None, kind="image", name=name)
    masks = [_mask_array(y, spec, f"{name}{'' if i == 0 else ' (test)'}") for i, y in enumerate(pairs[1::2])]
    parts = [
        (y, [f"{name}{' (test)' if part else ''}: mask {i}" for i in range(len(y))]) for part, y in enumerate(masks)
    ]
    given = task.labels or (() if named is None else tuple(map(str, to_array(named, f"{name}: classes").tolist())))
    labels, targets, more = _as_classes(parts, given, None, name, is_voc=False)

    def part(inputs: Tensor, y: Tensor) -> RawPart:
        return RawPart(inputs=inputs, labels=torch.zeros(len(y), dtype=torch.int64), targets=y)

    made = RawSplits(
        name=name, train=part(x, targets[0]), test=None if x_test is None else part(x_test, targets[1]), spec=spec,
        classes=(), task=replace(task, labels=labels), notes=(*notes, *more),
    )  # fmt: skip
    return named_groups(made, arrays, options.group) if isinstance(options.group, str) and arrays else made


def _mask_array(y: Any, spec: InputSpec, where: str) -> npt.NDArray[np.uint16]:
    values = to_array(y, f"{where}: masks")
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    height, width = spec.shape[1:]
    if values.ndim != 3 or values.shape[1:] != (height, width) or values.dtype.kind not in "biuf":
        raise PotstillError(
            f"{where}: masks must be whole numbers (n, {height}, {width}), one for each pixel, but they are "
            f"{values.dtype} of shape {values.shape}"
        )
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise PotstillError(f"{where}: masks must hold whole numbers, the class of each pixel, not fractions")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < 65536:
        raise PotstillError(
            f"{where}: values go from {int(values.min())} to {int(values.max())}; number classes from 0 up, and give "
            f"{IGNORED} to pixels without one"
        )
    return values.astype(np.uint16)


def _as_classes(
    parts: Sequence[_Part], names: Sequence[str], listed: ClassNames | None, name: str, *, is_voc: bool
) -> tuple[tuple[str, ...], list[Tensor], list[str]]:
    """Return the names of classes, the masks of each part as uint8 class numbers, and notes.

    Without names, the values in the training masks are the classes; masks of 0 and 255 alone are background and
    foreground.
    """
    present = [int(v) for v in np.unique(parts[0][0])]
    if set(present) == {0, IGNORED} and len(names) in (0, 2):
        numbering = {0: 0, IGNORED: 1}
        labels = tuple(names) or _BINARY
        notes = [f"{name}: masks of 0 and 255 read as {labels[0]} and {labels[1]}"]
    elif names:
        numbering, labels, notes = {v: v for v in range(len(names))} | {IGNORED: IGNORED}, tuple(names), []
    else:
        values = [v for v in present if v != IGNORED]
        numbering, labels, notes = (
            {v: i for i, v in enumerate(values)} | {IGNORED: IGNORED},
            tuple(map(str, values)),
            [],
        )
        if is_voc and values and max(values) < len(_VOC):
            numbering, labels = {v: v for v in range(len(_VOC))} | {IGNORED: IGNORED}, _VOC
        elif values != list(range(len(values))):
            shown = ", ".join(map(str, values[:6])) + (" …" if len(values) > 6 else "")
            notes.append(f"{name}: mask values {shown} numbered anew as 0 … {len(values) - 1}")
    if not 2 <= len(labels) <= _MOST:
        what = f"one value, {labels[0]}" if len(labels) == 1 else f"{len(labels):,} values"
        raise PotstillError(
            f"{name}: masks must hold 2 to {_MOST} classes, but hold {what}; write the class of each pixel, not its "
            "brightness or the number of its object"
        )
    if any(bool((raw == IGNORED).any()) for raw, _ in parts) and numbering[IGNORED] == IGNORED:
        notes.append(f"{name}: pixels of {IGNORED} have no class: no loss and no score counts them")
    table = np.full(65536, _MOST + 1, dtype=np.uint16)
    for value, number in numbering.items():
        table[value] = number
    masks: list[Tensor] = []
    for raw, where in parts:
        numbers = table[raw]
        if (numbers > _MOST).any():
            at = int((numbers > _MOST).any((1, 2)).argmax())
            value = int(raw[at][numbers[at] > _MOST][0])
            source = "the training masks have no such value" if not names else (
                f"there are {len(labels)} class names, for 0 … {len(labels) - 1}" if listed is None
                else f"{listed.path.name} names {len(labels)} classes, for 0 … {len(labels) - 1}"
            )  # fmt: skip
            raise PotstillError(
                f"{where[at]}: the value {value} stands for none of the classes: {source}; correct the mask, or write "
                f"{IGNORED} for pixels without a class"
            )
        masks.append(torch.from_numpy(numbers.astype(np.uint8)))
    if bool((masks[0] == IGNORED).all()):
        raise PotstillError(f"{name}: no pixel of the training masks has a class; write class numbers into them")
    return labels, masks, notes
