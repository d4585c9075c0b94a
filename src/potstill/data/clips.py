"""Loader of clips with a class each: folders of videos, animated pictures or frames, read as one picture for each clip.

A representation makes the picture, so that every method, network and codec of pictures works on clips.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from potstill.core import InputSpec, Splits, Task, registry
from potstill.data.clip_files import (
    ANIMATED_SUFFIXES,
    VIDEO_SUFFIXES,
    BadClipError,
    Clip,
    number_order,
    read_frames,
    read_size,
    require_clip_folder,
)
from potstill.data.damaged_files import DamagedFiles
from potstill.data.folder import ClassFiles, FolderListing, first_suffix, list_folder, starts_with_suffix
from potstill.data.limits import require_memory
from potstill.data.pictures import SUFFIXES, choose_common_size
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError, unknown_name
from potstill.functional.clip_pictures import dynamic_image, frame_grid, grid_columns, mean_thirds

__all__ = ["read_clips"]

_REFUSED = ("label", "stream", "text", "encode", "series", "missing")
_FILES = (*VIDEO_SUFFIXES, *ANIMATED_SUFFIXES)
_MOST_TILES = 64

Picture: TypeAlias = Callable[[Tensor], Tensor]
"""From a clip (t, 3, h, w) in [0, 1] to its picture (3, h', w')."""


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """A representation without settings."""


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Frames side by side.

    Raises:
        PotstillError: ``frames`` is out of its range, or fills no rectangle of ``columns``.
    """

    frames: int = 9
    columns: int = 0
    """Tiles in a row; 0: the square root of ``frames``, rounded up to a divisor."""

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= _MOST_TILES:
            raise PotstillError(f"a grid has 1 to {_MOST_TILES} frames, but frames is {self.frames}; change it")
        if self.columns and (self.columns < 0 or self.frames % self.columns):
            raise PotstillError(
                f"a grid of {self.frames} frames needs a divisor of it as columns, but columns is {self.columns}; "
                "change it"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        columns = self.columns or grid_columns(self.frames)
        return self.frames // columns, columns


_THIRDS = (3, 1)
"""Rows and columns of the frames of ``thirds``."""
_FORMS: dict[str, type[_Plain] | type[_Grid]] = {
    "thirds": _Plain, "dynamic": _Plain, "mean": _Plain, "middle": _Plain, "grid": _Grid,
}  # fmt: skip


def _parse_form(spelled: str | None) -> tuple[str, Picture, tuple[int, ...]]:
    """Return the words and the function of ``thirds``, ``dynamic``, ``mean``, ``middle`` or ``grid:frames=9``, and rows
    and columns of the frames in such a picture; (): it is one frame."""
    name, _, settings = (spelled or "thirds").partition(":")
    if name not in _FORMS:
        raise unknown_name("representation of clips", name, _FORMS)
    form = registry.with_settings(f"representation {name}", _FORMS[name], settings)
    if isinstance(form, _Grid):
        rows, columns = form.shape
        return (
            f"{form.frames} frames of each side by side",
            lambda clip: frame_grid(clip, rows, columns),
            (rows, columns),
        )
    plain: dict[str, tuple[str, Picture]] = {
        "thirds": ("the means of its thirds, one below the other", mean_thirds),
        "dynamic": ("its dynamic image, which shows what moves and when", dynamic_image),
        "mean": ("its mean frame, which forgets the order of time", lambda clip: clip.mean(0)),
        "middle": ("its middle frame alone", lambda clip: clip[len(clip) // 2]),
    }
    return *plain[name], (_THIRDS if name == "thirds" else ())


def read_clips(task: Task, data: object, options: ReadOptions) -> Splits:
    """Read a folder of clips with a folder for each class, each clip as one picture.

    Args:
        task: classification.
        data: the folder: ``CLASS/**`` of videos or animated pictures, or ``CLASS/CLIP/**`` of frames in the order of
            their names; or ``train/CLASS/**`` with ``test/CLASS/**``.
        options: ``representation`` makes the picture; ``size`` is that of a frame; ``group`` may tell recordings by the
            names of clips.

    Raises:
        PotstillError: no such folder, a damaged clip (unless ``skip_bad``), or options of other data.
    """
    for option in _REFUSED:
        if getattr(options, option) not in (None, False):
            raise PotstillError(f"clips are read without `{option}=`; leave it out")
    words, picture, tiles = _parse_form(options.representation)
    root = require_clip_folder(data)
    listed = _list_clips(root)
    clips = [clip for part in listed.parts for clip in part]
    bad = DamagedFiles("clips", skip_bad=options.skip_bad)
    sides: dict[int, tuple[int, int]] = {}
    for place, clip in enumerate(clips):
        try:
            sides[place] = read_size(clip)
        except BadClipError as error:
            bad.add(clip.path, error)
    size, note = (options.size, None) if options.size else choose_common_size(Counter(sides.values()) or {(1, 1): 1})
    pictures, lengths = dict[int, Tensor](), dict[int, int]()
    for place in sides:
        try:
            frames = read_frames(clips[place], size)
        except BadClipError as error:
            bad.add(clips[place].path, error)
            continue
        made = picture(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
        if not pictures:
            require_memory(3 * made.numel() * len(sides), listed.listing.name, "give a smaller size")
        pictures[place], lengths[place] = (made * 255).round().to(torch.uint8), len(frames)
    if not pictures:
        raise bad.none_left(root.name, len(clips))
    places = torch.tensor(list(pictures))
    labels, training = (torch.tensor(values)[places] for values in (listed.labels, listed.training))
    x = torch.stack(list(pictures.values()))
    if bool((x == x[:, :1]).all()):
        x = x[:, :1].contiguous()
    names = tuple(clips[p].path.relative_to(root).as_posix() for p in pictures)
    part = RawPart(inputs=x, labels=labels, names=names)
    raw = RawSplits(
        name=listed.listing.name, train=part.select(torch.where(training)[0]),
        test=part.select(torch.where(~training)[0]) if listed.listing.split else None,
        spec=InputSpec(
            kind="image", shape=tuple(x.shape[1:]), horizontal_flip=bool(options.horizontal_flip), frames=tiles
        ),
        classes=listed.listing.classes, normalization=options.normalization,
        notes=(*listed.listing.notes, *_notes(listed.listing, options, words, list(lengths.values()), note, bad)),
    )  # fmt: skip
    return assemble(raw, replace(options, size=None))  # which is that of a frame


def _accepts(data: object) -> bool:
    """Return True for folders whose first file in a class folder is a video."""
    return starts_with_suffix(data, VIDEO_SUFFIXES)


read_clips.accepts = _accepts  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class _Clips:
    """Clips of a folder, class by class."""

    listing: FolderListing
    parts: list[list[Clip]]

    @property
    def labels(self) -> list[int]:
        return [c.label for c, part in zip(self.listing.files, self.parts, strict=True) for _ in part]

    @property
    def training(self) -> list[bool]:
        return [c.training for c, part in zip(self.listing.files, self.parts, strict=True) for _ in part]


def _list_clips(root: Path) -> _Clips:
    """List files of clips; where the first picture is none of these, folders of frames."""
    if first_suffix(root) in _FILES:
        listing = list_folder(root, _FILES, "clips")
        return _Clips(
            listing=listing, parts=[[Clip(path=part.folder / n) for n in part.names] for part in listing.files]
        )
    listing = list_folder(root, SUFFIXES, "pictures")
    return _Clips(listing=listing, parts=[_frame_folders(part) for part in listing.files])


def _frame_folders(part: ClassFiles) -> list[Clip]:
    """Return a clip for each folder of frames below a class.

    Raises:
        PotstillError: a frame lies in the folder of the class itself.
    """
    by_folder: dict[str, list[str]] = {}
    for name in part.names:
        folder, _, file = name.rpartition(os.sep)
        if not folder:
            raise PotstillError(
                f"{part.folder / name}: a picture beside folders of clips; frames are in a folder for each clip: "
                "CLASS/CLIP/0001.png"
            )
        by_folder.setdefault(folder, []).append(file)
    return [Clip(path=part.folder / f, frames=tuple(sorted(names, key=number_order))) for f, names in by_folder.items()]


def _notes(
    listing: FolderListing, options: ReadOptions, words: str, lengths: Sequence[int], sized: str | None,
    bad: DamagedFiles,
) -> list[str]:  # fmt: skip
    name, notes = listing.name, list[str]()
    low, middle, high = min(lengths), float(np.median(lengths)), max(lengths)
    count = f"{low:,}" if low == high else f"{low:,} to {high:,} (median {middle:,.0f})"
    notes.append(f"{name}: each clip of {count} frames is one picture: {words}; a representation chooses another")
    if sized is not None:
        notes.append(f"{name}: {sized.replace('pictures of', 'frames of')}")
    notes += bad.notes(name)
    if options.horizontal_flip is None:
        notes.append(
            f"{name}: pictures of clips are not mirrored, as a mirrored clip moves the other way; "
            "`horizontal_flip=True` where it keeps its class"
        )
    if not listing.split and options.group is None and options.test_fraction:
        notes.append(
            f"{name}: where clips of one recording or person are in training and test, scores are too high; "
            '`group="REGEX"` of file names keeps them together'
        )
    return notes
