"""Folders of pictures and their masks: which picture has which mask, the names of classes, and masks as numbers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from potstill.data.error_text import reason
from potstill.data.pictures import SUFFIXES, BadPictureError, read_header, silence_pillow
from potstill.errors import PotstillError
from potstill.tasks import IGNORED

__all__ = ["ClassNames", "MaskPair", "PairedFolder", "is_mask_folder", "list_masks", "read_class_names", "read_mask"]

_LAYOUTS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_LISTS = Path("ImageSets") / "Segmentation"
_SUFFIX = "_mask"
"""End of a mask's name that its picture's name lacks, in some data."""
_UNNAMED = ("void", "ignore")
"""Names in a list of colours that are no class."""
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class MaskPair:
    """Files of a picture and of its mask."""

    picture: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class PairedFolder:
    """Pairs of the training part, and of the test part if there is one; no file has been opened."""

    name: str
    root: Path
    train: tuple[MaskPair, ...]
    test: tuple[MaskPair, ...] | None
    is_voc: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Class names of a ``classes.txt``, and their colours if it has any."""

    path: Path
    names: tuple[str, ...]
    colours: Mapping[tuple[int, int, int], int]
    """Number of each colour's class; `IGNORED` for those called void or ignore."""


def _children(base: Path) -> dict[str, Path]:
    try:
        return {p.name: p for p in base.iterdir() if p.is_dir()}
    except OSError:
        return {}


def _pair_folders(base: Path) -> tuple[Path, Path] | None:
    """Return the folders of pictures and masks directly in ``base``."""
    below = _children(base)
    for pictures, masks in _LAYOUTS:
        if pictures in below and masks in below:
            return below[pictures], below[masks]
    return None


def _split_folders(root: Path) -> tuple[tuple[Path, Path], tuple[Path, Path] | None] | None:
    """Return the folders (pictures, masks) of the training part and of the test part."""

    def named(below: Mapping[str, Path], names: Sequence[str]) -> Path | None:
        return next((below[name] for name in names if name in below), None)

    below = _children(root)
    if (train := named(below, _TRAIN)) is not None and (found := _pair_folders(train)) is not None:
        test = named(below, _TEST)
        return found, None if test is None else _pair_folders(test)
    if (found := _pair_folders(root)) is None:
        return None
    pictures, masks = map(_children, found)
    first, second = named(pictures, _TRAIN), named(masks, _TRAIN)
    if first is None or second is None:
        return found, None
    test_pictures, test_masks = named(pictures, _TEST), named(masks, _TEST)
    return (first, second), None if test_pictures is None or test_masks is None else (test_pictures, test_masks)


def is_mask_folder(data: object) -> bool:
    """Return True for a folder of ``images/`` and ``masks/``, or of ``JPEGImages/`` and ``SegmentationClass/``, also
    within ``train/``."""
    if not isinstance(data, str | Path) or not os.path.isdir(data):
        return False
    return _split_folders(Path(data)) is not None


def _files(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names without suffix.

    Raises:
        PotstillError: two differ in their suffix alone.
    """
    by_stem: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in by_stem:
            raise PotstillError(f"{path}: {by_stem[path.stem].name} has the same name but for its suffix; rename one")
        by_stem[path.stem] = path
    return by_stem


def _pairs(folders: tuple[Path, Path], stems: Sequence[str] | None, *, all_masked: bool) -> tuple[MaskPair, ...]:
    """Return the pairs of two folders in the order of names.

    Args:
        stems: names to take; ``None``: all.
        all_masked: a picture without a mask is an error.
    """
    pictures, masks = _files(folders[0]), _files(folders[1])
    masks = {stem.removesuffix(_SUFFIX) if stem not in pictures else stem: path for stem, path in masks.items()}
    if not pictures or not masks:
        which = folders[1] if pictures else folders[0]
        raise PotstillError(f"{which}: there are no pictures; put a PNG file for each picture there")
    if lonely := sorted(masks.keys() - pictures.keys()):
        raise PotstillError(f"{masks[lonely[0]]}: there is no picture of this name in {folders[0]}; add it there")
    wanted = sorted(pictures if all_masked else masks) if stems is None else list(stems)
    for stem in wanted:
        if stem not in pictures or stem not in masks:
            where = folders[1] if stem in pictures else folders[0]
            raise PotstillError(
                f"{pictures.get(stem, folders[0] / stem)}: there is no file {stem}.png in {where.name}/; every picture "
                "needs a mask of the same name: add it, or take the picture out"
            )
    return tuple(MaskPair(pictures[stem], masks[stem]) for stem in wanted)


def _voc_list(root: Path, part: str) -> list[str] | None:
    path = root / _LISTS / f"{part}.txt"
    if not path.is_file():
        return None
    return [line.split()[0] for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.split()]


def list_masks(root: Path) -> PairedFolder:
    """List the pictures of a folder and their masks.

    Args:
        root: for which `is_mask_folder` is true. VOC's lists ``train.txt`` and ``val.txt`` of
            ``ImageSets/Segmentation`` name the two parts; without them, VOC pictures without a mask are left out.

    Raises:
        PotstillError: a picture without a mask, or a mask without a picture.
    """
    found = _split_folders(root)
    if found is None:
        raise PotstillError(
            f"{root}: masks are read from a folder with images/ and masks/ (or JPEGImages/ and SegmentationClass/), "
            "with files of the same name in both; make these"
        )
    train, test = found
    name, is_voc = root.resolve().name, train[0].name == _LAYOUTS[1][0] or train[0].parent.name == _LAYOUTS[1][0]
    notes = [f"{name}: read as pictures whose pixels have classes (task segmentation), by {train[1].name}/"]
    stems, test_stems = (_voc_list(root, "train"), _voc_list(root, "val")) if is_voc else (None, None)
    pairs = _pairs(train, stems, all_masked=not is_voc)
    if is_voc and stems is None and (without := len(_files(train[0])) - len(pairs)):
        notes.append(f"{name}: {without:,} pictures without a mask were left out")
    if stems is not None and test_stems is not None:
        test_pairs: tuple[MaskPair, ...] | None = _pairs(train, test_stems, all_masked=False)
    else:
        test_pairs = None if test is None else _pairs(test, None, all_masked=not is_voc)
    return PairedFolder(name, root, pairs, test_pairs, is_voc, tuple(notes))


def read_class_names(root: Path) -> ClassNames | None:
    """Return the names in ``classes.txt``: a line for each class, ``NAME`` or ``NAME R G B``; ``None``: no such file.

    Raises:
        PotstillError: the file is empty, a name or a colour stands there twice, or only some lines have a colour.
    """
    path = root / "classes.txt"
    if not path.is_file():
        return None
    names: list[str] = []
    colours: dict[tuple[int, int, int], int] = {}
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        words = line.replace(",", " ").split()
        values = tuple(int(word) for word in words[-3:] if word.isdecimal() and int(word) < 256)
        coloured = len(words) > 3 and len(values) == 3
        name = " ".join(words[:-3]) if coloured else line
        number = IGNORED if coloured and name.lower() in _UNNAMED else len(names)
        if number != IGNORED:
            names.append(name)
        if coloured:
            if values in colours:
                raise PotstillError(f"{path}: the colour {values} stands there twice; give each class its own")
            colours[values[0], values[1], values[2]] = number
    if len(set(names)) < len(names) or len(names) < 2:
        twice = next((n for n in names if names.count(n) > 1), None)
        why = f"names {len(names)} classes" if twice is None else f"names {twice!r} twice"
        raise PotstillError(f"{path}: {why}; write one class on each line, two or more, in the order of their numbers")
    if colours and len(colours) != len(lines):
        raise PotstillError(f"{path}: some lines have a colour and some have none; write NAME R G B on all or on none")
    return ClassNames(path, tuple(names), colours)


def read_mask(pair: MaskPair, size: tuple[int, int], names: ClassNames | None) -> npt.NDArray[np.uint16]:
    """Return the mask of a picture as numbers (h, w) of ``size``, resized and cut as its picture is.

    Each pixel of a resized mask has the value with the largest share in it.

    Args:
        names: its colours are looked up.

    Raises:
        PotstillError: another size than the picture's, a broken or lossy file, or a colour that is not in ``names``.
    """
    path = pair.mask
    if path.suffix.lower() in _LOSSY:
        raise PotstillError(
            f"{path}: {path.suffix.lower()} files change the values of a mask; save masks as PNG files, without loss"
        )
    try:
        with silence_pillow(), Image.open(path) as image:
            height, width, _ = read_header(pair.picture)
            if (image.height, image.width) != (height, width):
                raise PotstillError(
                    f"{path}: the mask has {image.height} × {image.width} pixels, its picture {pair.picture.name} has "
                    f"{height} × {width}; save both at one size"
                )
            values = _numbers(image, path, names)
    except (*_ERRORS, UnidentifiedImageError) as error:
        raise PotstillError(f"{path}: not a mask that can be read ({reason(error)}); save it again") from None
    except BadPictureError as error:
        raise PotstillError(f"{pair.picture}: {error}") from None
    return values if values.shape == size else _resized(values, size)


def _numbers(image: Image.Image, path: Path, names: ClassNames | None) -> npt.NDArray[np.uint16]:
    """Return the numbers of a mask: palette indices, grey values, or those of its colours' classes."""
    if image.mode in ("P", "L", "1", "I", "I;16"):
        shown = image.convert("L") if image.mode == "1" else image  # black and white as 0 and 255
        grey = np.asarray(shown).astype(np.int64)
    else:
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
        if names is not None and names.colours:
            return _from_colours(rgb, path, names)
        grey = rgb[..., 0]
        if not (rgb == grey[..., None]).all():
            raise PotstillError(
                f"{path}: a mask in colours; write the colour of each class into classes.txt beside the folders: "
                "NAME R G B on a line for each, or save masks as grey or palette PNG files of class numbers"
            )
    if grey.min() < 0 or grey.max() > 65535:
        raise PotstillError(f"{path}: values go from {grey.min()} to {grey.max()}; write class numbers from 0 up")
    return grey.astype(np.uint16)


def _from_colours(rgb: npt.NDArray[np.int64], path: Path, names: ClassNames) -> npt.NDArray[np.uint16]:
    codes = rgb @ np.array([65536, 256, 1])
    numbers = {r * 65536 + g * 256 + b: number for (r, g, b), number in names.colours.items()}
    found, place = np.unique(codes, return_inverse=True)
    if unknown := [int(code) for code in found if int(code) not in numbers]:
        colour = (unknown[0] >> 16, unknown[0] >> 8 & 255, unknown[0] & 255)
        raise PotstillError(
            f"{path}: the colour {colour} is not in {names.path}; add a line NAME R G B, or void R G B for no class"
        )
    looked_up = np.array([numbers[int(code)] for code in found], dtype=np.uint16)
    return looked_up[place.reshape(codes.shape)]


def _resized(values: npt.NDArray[np.uint16], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    present = np.unique(values)
    shares = [
        np.asarray(ImageOps.fit(Image.fromarray(np.where(values == v, 255, 0).astype(np.uint8)), size[::-1],
                                Image.Resampling.BILINEAR))
        for v in present
    ]  # fmt: skip
    largest: npt.NDArray[np.uint16] = present[np.stack(shares).argmax(0)]
    return largest
