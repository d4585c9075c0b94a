"""Image folders: ``train/CLASS/**`` with ``test/CLASS/**``, or ``CLASS/**`` alone."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from potstill.core import InputSpec
from potstill.data.decode_cache import decode_cached
from potstill.data.pictures import SUFFIXES
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits
from potstill.errors import PotstillError

__all__ = [
    "ClassFiles", "FolderListing", "first_suffix", "list_folder", "read_folder", "relative_paths", "starts_with_suffix",
]  # fmt: skip

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")


_SYSTEM = frozenset(
    (
        "__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "lost+found",
        "$recycle.bin", "system volume information", "thumbnails", "_thumbnails", "_thumbs", "thumbs.db", "ehthumbs.db",
        "desktop.ini",
    )
)  # fmt: skip
"""Lower-case names that operating systems, storage devices and photo programs create."""


def _shown(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM


def _folders(base: Path) -> list[Path]:
    return sorted((p for p in base.iterdir() if p.is_dir() and _shown(p.name)), key=lambda p: p.name)


def _hidden_folders(base: Path) -> list[str]:
    return [p.name for p in base.iterdir() if p.is_dir() and not _shown(p.name)]


def _list_files(base: Path, skipped: Counter[str], suffixes: Collection[str], noun: str) -> tuple[list[str], int]:
    """List files with these suffixes below ``base``, relative to it and sorted, and count the other files."""
    paths: list[str] = []
    others = 0
    visited: set[str] = set()
    for at, below, files in os.walk(base, followlinks=True):
        real = os.path.realpath(at)
        if real in visited:  # a link that leads back up
            below.clear()
            continue
        visited.add(real)
        skipped.update(f"{d}/" for d in below if not _shown(d))
        below[:] = sorted(d for d in below if _shown(d))
        inner = os.path.relpath(at, base)
        for file in files:
            wanted = os.path.splitext(file)[1].lower() in suffixes
            if _shown(file):
                if wanted:
                    paths.append(file if inner == os.curdir else os.path.join(inner, file))
                others += not wanted
            elif wanted or not file.startswith("."):  # a .DS_Store is not worth a word
                skipped[f"hidden {noun}" if wanted else file] += 1
    return sorted(paths, key=lambda name: name.split(os.sep)), others


def _skipped_note(name: str, skipped: Counter[str]) -> list[str]:
    if not skipped:
        return []
    listed = [what if n == 1 else f"{what} ({n:,})" for what, n in sorted(skipped.items())[:5]]
    more = ", …" if len(skipped) > 5 else ""
    return [f"{name}: skipped as hidden or the system's own: {', '.join(listed)}{more}"]


def _parts(root: Path, suffixes: Collection[str]) -> tuple[Path, Path | None, list[str]]:
    """Return the folders of the training and the test classes, and notes."""
    folders = _folders(root)

    def named(names: Sequence[str]) -> Path | None:
        return next((p for p in folders if p.name.lower() in names), None)

    train, test, validation = named(_TRAIN), named(_TEST), named(_VALIDATION)
    if train is None and (test or validation) and len(folders) == sum(p is not None for p in (test, validation)):
        raise PotstillError(f"{root}: holds {folders[0].name}/ but no train/; name the training part's folder train")
    # A class may be called "train" (beside car and bus): a split's folder holds class folders, not pictures.
    if train is None or not _folders(train) or any(p.suffix.lower() in suffixes for p in train.iterdir()):
        return root, None, []
    notes = []
    if test is None and validation is not None:
        test = validation
        notes.append(f"{root.name}: there is no test/, so {validation.name}/ is the test split")
    unread = [p.name for p in folders if p not in (train, test)]
    if unread:
        notes.append(f"{root.name}: not read: {', '.join(f'{n}/' for n in unread[:5])}")
    return train, test, notes


def _classes(base: Path) -> dict[str, list[Path]]:
    """Return class folders by class name, sorted by name, or by number if all are numbers."""
    folders: dict[str, list[Path]] = {}
    for path in _folders(base):
        folders.setdefault(unicodedata.normalize("NFC", path.name), []).append(path)
    by_number = all(name.isdecimal() for name in folders)
    return {c: folders[c] for c in sorted(folders, key=lambda c: (int(c) if by_number else 0, c))}


def relative_paths(root: Path, parts: Sequence["ClassFiles"]) -> Iterator[str]:
    """Yield the path of each image relative to ``root``, with ``/``."""
    for part in parts:
        inner = part.folder.relative_to(root).as_posix()
        for name in part.names:
            yield f"{inner}/{name.replace(os.sep, '/')}"


def first_suffix(root: Path) -> str:
    """Return the lower-case ending of the first file in a folder of a folder, or one below; empty: there is none."""
    for below in sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] not in "._"):
        inner = sorted(p for p in below.iterdir() if p.name[0] not in "._")
        deeper = [q for p in inner if p.is_dir() for q in sorted(p.iterdir()) if q.is_file()]
        if files := [p for p in inner if p.is_file()] or deeper:
            return files[0].suffix.lower()
    return ""


def starts_with_suffix(data: object, suffixes: Collection[str]) -> bool:
    """Return True for the path of a folder whose first file in a class folder has one of these suffixes."""
    if not isinstance(data, str | Path):
        return False
    try:
        root = Path(data).expanduser()
        return root.is_dir() and first_suffix(root) in suffixes
    except (OSError, RuntimeError):  # a name that is none of a file, or without a home
        return False


class ClassFiles(NamedTuple):
    """The image files of one class in one part of a folder."""

    training: bool
    label: int
    folder: Path
    names: list[str]
    """Relative to ``folder``, sorted."""


@dataclass(frozen=True, kw_only=True)
class FolderListing:
    """Listing of an image folder; no file has been opened."""

    name: str
    classes: tuple[str, ...]
    files: list[ClassFiles]
    """Training classes first, each part in label order as far as it has all classes."""
    split: bool
    """True if there is a test part."""
    notes: tuple[str, ...]


def list_folder(root: Path, suffixes: Collection[str] = SUFFIXES, noun: str = "pictures") -> FolderListing:
    """List the files of a folder with one folder for each class; class names are folder names.

    Hidden files and folders, those of systems and thumbnails (`_SYSTEM`), and files that are no pictures (by suffix)
    are not looked at, which is noted. Links are followed.

    Args:
        root: holds ``train/`` and ``test/`` (or ``val/``), or the class folders themselves.
        suffixes: lower-case endings of the files that are listed.
        noun: what they are, in messages.

    Raises:
        PotstillError: no class folders, one class, a class folder without pictures, test classes that training lacks.
    """
    name = root.resolve().name
    train, test, notes = _parts(root, suffixes)
    folders = _classes(train)
    classes = tuple(folders)
    numbers = {name: i for i, name in enumerate(classes)}
    example = "1.png" if noun == "pictures" else f"1{next(iter(suffixes))}"
    each = f"put each {noun.removesuffix('s')} in a folder named after its class"
    layout = f"{each}: {root}/CLASS/{example} or {root}/train/CLASS/{example}"
    if not folders:
        loose, _ = _list_files(root, Counter(), suffixes, noun)
        what = f"{len(loose)} {noun}, but no class folders" if loose else f"no class folders and no {noun}"
        raise PotstillError(f"{root}: there are {what}; {layout}")
    if len(folders) == 1:
        raise PotstillError(f"{train}: there is one class folder, {classes[0]}/; at least two are needed; {layout}")
    files: list[ClassFiles] = []
    others = 0
    skipped = Counter(f"{d}/" for base in dict.fromkeys((root, train, test)) if base for d in _hidden_folders(base))
    for base, training in [(train, True)] + ([(test, False)] if test else []):
        for label, several in _classes(base).items():
            if label not in numbers:
                raise PotstillError(
                    f"{several[0]}: {train.name}/ has no class {label!r} (it has {', '.join(classes[:5])}"
                    f"{', …' if len(classes) > 5 else ''}); add it there or remove it here"
                )
            if len(several) > 1:
                notes.append(
                    f"{name}: {len(several)} folders of {base.name}/ are called {label!r} in different forms of "
                    "Unicode; they are read as one class"
                )
            for folder in several:
                found, ignored = _list_files(folder, skipped, suffixes, noun)
                others += ignored
                if not found:
                    raise PotstillError(f"{folder}: this class folder has no {noun}; add some or remove the folder")
                files.append(ClassFiles(training, numbers[label], folder, found))
    if test and all(part.training for part in files):
        raise PotstillError(f"{test}: there are no class folders; {layout}")
    if others:
        notes.append(f"{name}: {others} files that are no {noun} were not read")
    notes += _skipped_note(name, skipped)
    return FolderListing(name=name, classes=classes, files=files, split=test is not None, notes=tuple(notes))


def read_folder(root: Path, options: ReadOptions) -> RawSplits:
    """Read a folder in image-folder layout into memory, from the cache if it was decoded before.

    Raises:
        PotstillError: as `list_folder`, or a broken picture.
    """
    listed = list_folder(root)
    files = list(relative_paths(root, listed.files))
    labels = torch.tensor([part.label for part in listed.files for _ in part.names])
    is_train = torch.tensor([part.training for part in listed.files for _ in part.names])
    parts = [(part.folder, part.names) for part in listed.files]
    got = decode_cached(root, parts, listed.name, options)
    places = torch.tensor(got.positions)
    names = tuple(files[i] for i in got.positions)
    part, in_train = RawPart(inputs=got.pixels, labels=labels[places], names=names, places=places), is_train[places]
    return RawSplits(
        name=listed.name,
        train=part.select(torch.where(in_train)[0]),
        test=part.select(torch.where(~in_train)[0]) if listed.split else None,
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])),
        classes=listed.classes,
        notes=(*listed.notes, *got.notes),
    )
