"""Folders of pictures: ``train/CLASS/**`` with ``test/CLASS/**``, or ``CLASS/**`` alone."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from potstill.core import InputSpec
from potstill.data.pictures import SUFFIXES, gather
from potstill.data.splits import Parts
from potstill.errors import PotstillError

__all__ = ["read_folder"]

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _folders(base: Path) -> list[Path]:
    return sorted((p for p in base.iterdir() if p.is_dir() and _shown(p.name)), key=lambda p: p.name)


def _pictures(base: Path) -> tuple[list[Path], int]:
    """Picture files anywhere under ``base``, in sorted order, and how many other files there are."""
    found: list[Path] = []
    others = 0
    visited: set[str] = set()
    for at, below, files in os.walk(base, followlinks=True):
        real = os.path.realpath(at)
        if real in visited:  # a link that leads back up
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(d for d in below if _shown(d))
        for file in files:
            if Path(file).suffix.lower() in SUFFIXES and _shown(file):
                found.append(Path(at, file))
            else:
                others += _shown(file)
    return sorted(found, key=lambda p: p.relative_to(base).parts), others


def _parts(root: Path) -> tuple[Path, Path | None, list[str]]:
    """The folder that holds the training classes, the one that holds the test classes, and notes."""
    folders = _folders(root)

    def named(names: Sequence[str]) -> Path | None:
        return next((p for p in folders if p.name.lower() in names), None)

    train, test, validation = named(_TRAIN), named(_TEST), named(_VALIDATION)
    if train is None and (test or validation) and len(folders) == sum(p is not None for p in (test, validation)):
        raise PotstillError(f"{root}: holds {folders[0].name}/ but no train/; name the training part's folder train")
    # A class may be called "train" (beside car and bus): a split's folder holds class folders, not pictures.
    if train is None or not _folders(train) or any(p.suffix.lower() in SUFFIXES for p in train.iterdir()):
        return root, None, []
    notes = []
    if test is None and validation is not None:
        test = validation
        notes.append(f"{root.name}: there is no test/, so {validation.name}/ is the test split")
    unread = [p.name for p in folders if p not in (train, test)]
    if unread:
        notes.append(f"{root.name}: not read: {', '.join(f'{n}/' for n in unread[:5])}")
    return train, test, notes


def _classes(base: Path) -> list[Path]:
    """Class folders, sorted by name, or by number if all are numbers."""
    folders = _folders(base)
    if all(p.name.isdecimal() for p in folders):
        folders.sort(key=lambda p: (int(p.name), p.name))
    return folders


def read_folder(root: Path, *, size: tuple[int, int] | None, skip_bad: bool) -> Parts:
    """Reads a folder in image-folder layout; class names are folder names.

    Hidden files and files that are no pictures (by suffix) are not looked at. Links are followed.

    Args:
        root: holds ``train/`` and ``test/`` (or ``val/``), or the class folders themselves.
        size: (height, width), or ``None``: see ``pictures.gather``.
        skip_bad: leave broken pictures out instead of raising.

    Raises:
        PotstillError: no class folders, one class, a class folder without pictures, test classes that training lacks,
            a broken picture.
    """
    name = root.resolve().name
    train, test, notes = _parts(root)
    folders = _classes(train)
    classes = tuple(p.name for p in folders)
    layout = f"put each picture in a folder named after its class: {root}/CLASS/1.png or {root}/train/CLASS/1.png"
    if not folders:
        loose, _ = _pictures(root)
        what = f"{len(loose)} pictures, but no class folders" if loose else "no class folders and no pictures"
        raise PotstillError(f"{root}: there are {what}; {layout}")
    if len(folders) == 1:
        raise PotstillError(f"{train}: there is one class folder, {classes[0]}/; at least two are needed; {layout}")
    sides = [(train, True)] + ([(test, False)] if test else [])
    items: list[tuple[str, Path]] = []
    labels: list[int] = []
    is_train: list[bool] = []
    others = 0
    for base, training in sides:
        for folder in _classes(base):
            found, ignored = _pictures(folder)
            others += ignored
            if folder.name not in classes:
                raise PotstillError(
                    f"{folder}: {train.name}/ has no class {folder.name!r} (it has {', '.join(classes[:5])}"
                    f"{', …' if len(classes) > 5 else ''}); add it there or remove it here"
                )
            if not found:
                raise PotstillError(f"{folder}: this class folder has no pictures; add some or remove the folder")
            items += [(str(p), p) for p in found]
            labels += [classes.index(folder.name)] * len(found)
            is_train += [training] * len(found)
    if test and all(is_train):
        raise PotstillError(f"{test}: there are no class folders; {layout}")
    if others:
        notes.append(f"{name}: {others} files that are no pictures were not read")
    got = gather(items, size=size, skip_bad=skip_bad, name=name)
    kept = torch.tensor(got.kept)
    y = torch.tensor(labels)[kept]
    here = torch.tensor(is_train)[kept]
    return Parts(
        name=name,
        train=got.pixels[here],
        train_labels=y[here],
        test=got.pixels[~here] if test else None,
        test_labels=y[~here] if test else None,
        spec=InputSpec(kind="image", shape=tuple(got.pixels.shape[1:])),
        classes=classes,
        names=tuple(str(items[i][1].relative_to(root)) for i in got.kept if is_train[i]),
        notes=(*notes, *got.notes),
    )
