"""Pictures with boxes around objects, for ``--task detection``: COCO, VOC and YOLO, and arrays."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from potstill.core import InputSpec, Splits
from potstill.data.arrays import canonicalize_inputs, to_array
from potstill.data.box_folders import list_boxes
from potstill.data.detection import BoxedImage, Detection
from potstill.data.pictures import BadPictureError, decode_images, read_header, silence_pillow
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError
from potstill.tasks import ObjectDetection, pad_targets

__all__ = ["fit_boxes", "read_boxes"]

_LEAST_LEFT, _LEAST_SIDE = 0.25, 1.0
"""Share of a box's area that must stay where pictures are resized, and its shortest side then, in pixels."""
_ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""


def read_boxes(task: ObjectDetection, data: object, options: ReadOptions) -> Splits:
    """Read COCO's ``.json``, a folder of COCO, VOC or YOLO (`box_folders.list_boxes`), or arrays (x, y).

    Args:
        task: the requested task; names of classes and the size of pictures are filled in.
        data: what holds them. Arrays are pictures as for classes, and for each picture rows (m, 5) of left, top, right,
            bottom and class number.
        options: how to read it.

    Raises:
        PotstillError: a box without area or outside its picture, a picture that is missing or of another size than its
            annotation says, no boxes at all; and as for pictures with classes.
    """
    for name in ("label", "text", "representation", "encode", "missing"):
        if getattr(options, name) is not None:
            raise PotstillError(f"data for detection are pictures and boxes; leave `{name}=` out")
    if isinstance(data, str | Path):
        return assemble(_read_files(task, Path(data).expanduser(), options), options)
    return assemble(_read_arrays(task, data, options), options)


def fit_boxes(boxes: Float[Tensor, "m 4"], size: tuple[int, int], to: tuple[int, int]) -> Float[Tensor, "m 4"]:
    """Return boxes of a picture that is resized to cover ``to`` and cut in the middle; they are not cut."""
    (h, w), (tall, wide) = size, to
    if size == to:
        return boxes
    scale = max(tall / h, wide / w)
    corner = boxes.new_tensor([(w - wide / scale) / 2, (h - tall / scale) / 2])
    return (boxes - corner.repeat(2)) * scale


def _read_files(task: ObjectDetection, path: Path, options: ReadOptions) -> RawSplits:
    train, test = list_boxes(path)
    name = path.resolve().stem if path.suffix.lower() == ".json" else path.resolve().name
    images, cut = [*train.images, *(() if test is None else test.images)], len(train)
    notes = [note for part in (train, test) if part is not None for note in part.notes]
    images, cut = _check_sizes(images, cut, train, options, notes, name)
    got = decode_images(
        [(str(image.path), image.path) for image in images], size=options.size, skip_bad=options.skip_bad, name=name
    )
    decoded, size = [images[i] for i in got.positions], (got.pixels.shape[2], got.pixels.shape[3])
    rows, more = _fitted(decoded, size, name, options)
    first = sum(i < cut for i in got.positions)
    base = path if path.is_dir() else path.parent
    files = tuple(
        image.path.relative_to(base).as_posix() if image.path.is_relative_to(base) else image.path.name
        for image in decoded
    )
    part = RawPart(
        inputs=got.pixels, labels=torch.zeros(len(decoded), dtype=torch.int64), targets=pad_targets(rows), names=files,
        places=torch.tensor(got.positions, dtype=torch.int64),
    )  # fmt: skip
    _check_present(rows[:first], f"{name}: training part")
    return RawSplits(
        name=name, train=part.select(torch.arange(first)),
        test=None if test is None else part.select(torch.arange(first, len(decoded))),
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])), classes=(),
        task=replace(task, labels=task.labels or train.classes, size=size), notes=(*notes, *got.notes, *more),
    )  # fmt: skip


def _check_sizes(
    images: Sequence[BoxedImage], cut: int, about: Detection, options: ReadOptions, notes: list[str], name: str
) -> tuple[list[BoxedImage], int]:
    """Return the images whose files have the annotated size, and how many are of the training part.

    Files that cannot be read are left to the decoder.
    """
    wrong: list[str] = []
    good: list[BoxedImage] = []
    first = 0
    for i, image in enumerate(images):
        try:
            problem = _size_problem(image, upright=about.upright)
        except BadPictureError:
            problem = None
        if problem is not None and not options.skip_bad:
            raise PotstillError(f"{image.path}: {problem}; `skip_bad=True` leaves such pictures out")
        if problem is not None:
            wrong.append(f"{image.path}: {problem}")
            continue
        good.append(image)
        first += i < cut
    if wrong:
        notes.append(f"{name}: {len(wrong)} pictures of another size left out ({'; '.join(wrong[:3])})")
    if not first:
        raise PotstillError(f"{name}: no picture of the training part has the size that its annotation says")
    return good, first


def _size_problem(image: BoxedImage, *, upright: bool) -> str | None:
    height, width, _ = read_header(image.path)
    if not upright and _is_turned(image.path):
        return "its EXIF orientation turns it, and boxes count stored pixels; save it upright"
    if (height, width) != (image.height, image.width):
        return f"is {height} × {width} (height × width), but its annotation says {image.height} × {image.width}"
    return None


def _is_turned(path: Path) -> bool:
    with silence_pillow(), Image.open(path) as image:
        return image.format != "PNG" and bool(image.getexif().get(_ORIENTATION, 1) != 1)


def _fitted(
    images: Sequence[BoxedImage], size: tuple[int, int], name: str, options: ReadOptions
) -> tuple[list[Tensor], list[str]]:
    """Return the boxes of resized pictures as rows (m, 5), and notes on those that were cut or left out."""
    rows, over, lost, outside = [], 0, 0, list[str]()
    for image in images:
        boxes, h, w = image.boxes.double(), image.height, image.width
        inside = _cut(boxes, (h, w))
        beyond = (inside[:, 2:] - inside[:, :2]).amin(1) <= 0
        if bool(beyond.any()):
            shown = ", ".join(f"{value:g}" for value in boxes[beyond][0].tolist())
            message = f"{image.path}: the box ({shown}) lies outside its picture of {h} × {w} (height × width)"
            if not options.skip_bad:
                raise PotstillError(f"{message}; correct it, or `skip_bad=True` leaves such boxes out")
            outside.append(message)
        over += int(((inside - boxes).abs().amax(1) > 1)[~beyond].sum())
        whole = fit_boxes(inside, (h, w), size)
        shown_part = _cut(whole, size)
        sides, before = shown_part[:, 2:] - shown_part[:, :2], (whole[:, 2:] - whole[:, :2]).prod(1)
        stays = (sides.prod(1) >= _LEAST_LEFT * before) & (sides.amin(1) >= min(_LEAST_SIDE, 1e-3)) & ~beyond
        if size != (h, w):
            stays &= sides.amin(1) >= _LEAST_SIDE
        lost += int((~stays & ~beyond).sum())
        label = image.labels.double()[:, None]
        rows.append(torch.cat([shown_part, label], 1)[stays].float())
    notes = [f"{name}: {over:,} boxes that reached out of their pictures were cut at the edge"] if over else []
    if lost:
        notes.append(
            f"{name}: {lost:,} of {lost + sum(map(len, rows)):,} boxes left out, of which less than a quarter, or less "
            f"than a pixel, is in the pictures of {size[0]} × {size[1]}; a size of the pictures' own shape keeps more"
        )
    if outside:
        notes.append(f"{name}: {len(outside)} boxes outside their pictures left out ({'; '.join(outside[:3])})")
    return rows, notes


def _cut(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def _check_present(rows: Sequence[Tensor], where: str) -> None:
    if not sum(map(len, rows)):
        raise PotstillError(f"{where}: there are no boxes; annotate objects, or give another file")


def _read_arrays(task: ObjectDetection, data: object, options: ReadOptions) -> RawSplits:
    name = "arrays"
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        raise PotstillError(
            "pictures and their boxes are read from COCO's .json, from a folder of COCO, VOC or YOLO, or from arrays "
            f"(x, y), not from a {type(data).__name__}"
        )
    if options.size is not None:
        raise PotstillError(f"{name}: arrays are not resized with their boxes; leave `size=` out, and resize both")
    has_test = len(data) == 4
    x, x_test, spec, notes = canonicalize_inputs(data[0], data[2] if has_test else None, kind="image", name=name)
    size = (spec.shape[1], spec.shape[2])
    parts = [_array_rows(y, f"{name}{' (test)' if i else ''}") for i, y in enumerate(data[1::2])]
    most = max((int(row[:, 4].max()) for rows in parts for row in rows if len(row)), default=-1)
    made = replace(task, labels=task.labels or tuple(map(str, range(most + 1))), size=size)
    for rows, where in zip(parts, (name, f"{name} (test)"), strict=False):
        try:
            made.check_targets(pad_targets(rows))
        except ValueError as error:
            raise PotstillError(f"{where}: {error}; correct it") from None
    _check_present(parts[0], name)

    def part(inputs: Tensor, rows: Sequence[Tensor]) -> RawPart:
        return RawPart(inputs=inputs, labels=torch.zeros(len(rows), dtype=torch.int64), targets=pad_targets(rows))

    return RawSplits(
        name=name, train=part(x, parts[0]), test=None if x_test is None else part(x_test, parts[1]), spec=spec,
        classes=(), task=made, notes=tuple(notes),
    )  # fmt: skip


def _array_rows(y: object, where: str) -> list[Tensor]:
    """Return rows (m, 5) of each picture."""
    if not isinstance(y, Sequence) or isinstance(y, str):
        raise PotstillError(f"{where}: boxes must be a list with an array (m, 5) for each picture")
    rows = []
    for i, boxes in enumerate(y):
        values = torch.from_numpy(to_array(boxes, f"{where}: boxes of picture {i}").astype("float32"))
        if values.numel() and (values.ndim != 2 or values.shape[1] != 5):
            raise PotstillError(
                f"{where}: boxes of picture {i} must be rows (m, 5) of left, top, right, bottom and class, but they "
                f"are {tuple(values.shape)}"
            )
        rows.append(values.reshape(-1, 5))
    return rows
