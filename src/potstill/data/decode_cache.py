"""Cache of decoded image folders, memory-mapped by later runs.

A file there is named by a digest of what decides its pixels: where the folder is, the name, size and times of every
picture, how they are decoded, and by which versions. It is written beside and renamed, so two processes may make the
same one. Its pixels have a check sum, so a damaged file is found and made again.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import PIL
import torch
from PIL import features
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from potstill._util.atomic_write import temporary_path
from potstill._util.cache import cached_files, make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.data.pictures import DecodedImages, decode_images
from potstill.data.read_options import ReadOptions
from potstill.data.readers import FileReader, content_digest

__all__ = ["MAX_CACHE_BYTES", "decode_cached"]

MAX_CACHE_BYTES = 8 * 2**30
"""Bytes of all decoded folders together; the one that was used longest ago goes first."""
_FEWEST = 64  # pictures; fewer are decoded in no time
_VERSION = 2  # of what is decoded here and how: another one, another file
_TICK = 20_000_000  # ns: a file that changed so shortly before may change again under the same times
_ABANDONED = 86_400  # s

_Stamp: TypeAlias = tuple[str, int, int, int]


def decode_cached(
    root: Path, parts: Sequence[tuple[Path, Sequence[str]]], name: str, options: ReadOptions
) -> DecodedImages:
    """``pictures.decode_images`` of files, read from the cache if the files have not changed since they were decoded.

    Args:
        root: the folder that all of them are in.
        parts: folders, each with the names of its pictures, in order.
        name: of the data, for notes.
        options: ``size`` and ``skip_bad``; with ``check_cache`` the contents of the files are compared with those that
            were decoded, not only their names, sizes and times.

    Raises:
        PotstillError: as ``pictures.decode_images``.
    """
    size, skip_bad = options.size, options.skip_bad
    paths = [Path(folder, file) for folder, files in parts for file in files]
    items = [(str(path), path) for path in paths]
    stamps = _stamps(paths) if len(paths) >= _FEWEST else None
    if stamps is None:
        return decode_images(items, size=size, skip_bad=skip_bad, name=name)
    file = _place(root, stamps, size, skip_bad)
    cached, why = _read(file)
    if (
        cached is not None
        and options.check_cache
        and cached[1] != content_digest(FileReader(parts), range(len(paths))).hex()
    ):
        cached, why = None, "did not match the files' contents"
    if cached is not None:
        with suppress(OSError):
            os.utime(file)  # used now
        return cached[0]
    began = time.time_ns()
    got = decode_images(items, size=size, skip_bad=skip_bad, name=name)
    settled = max(max(stamp[2:]) for stamp in stamps) < began - _TICK
    if settled and got.pixels.nbytes <= MAX_CACHE_BYTES // 2:
        # Read again before the times are looked at again: what was changed meanwhile is not kept.
        content = content_digest(FileReader(parts), range(len(paths))).hex()
        if _stamps(paths) == stamps:
            _write(file, got, content)
    if why is None:
        return got
    return replace(got, notes=(*got.notes, f"{name}: the decoded pictures in the cache {why}; they were made again"))


def _stamps(paths: Sequence[Path]) -> list[_Stamp] | None:
    """Return name, size, mtime and ctime of each file; ``None`` if one cannot be read."""
    stamps = []
    try:
        for path in paths:
            status = os.stat(path)
            stamps.append((os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except OSError:
        return None
    return stamps


def _place(root: Path, stamps: list[_Stamp], size: tuple[int, int] | None, skip_bad: bool) -> Path:
    codecs = {name: features.version(name) for name in ("jpg", "zlib", "libtiff", "webp", "libjpeg_turbo")}
    versions = [_VERSION, PIL.__version__, codecs, torch.__version__]
    whole = hashlib.sha256(json.dumps([os.path.realpath(root), size, skip_bad, versions]).encode())
    for stamp in stamps:
        whole.update(json.dumps(stamp).encode())
    return cache_dir() / "pictures" / f"{whole.hexdigest()}.safetensors"


def _sum(pixels: Tensor, positions: Tensor, *texts: str) -> str:
    checksum = zlib.crc32(positions.numpy().tobytes(), zlib.crc32(pixels.numpy().reshape(-1).data))
    forms = [[str(t.dtype), list(t.shape)] for t in (pixels, positions)]  # or the same bytes would do in another form
    return f"{zlib.crc32(json.dumps([*texts, forms]).encode(), checksum):08x}"


def _read(file: Path) -> tuple[tuple[DecodedImages, str] | None, str | None]:
    """Read a cached file: its content and the digest of its source, or the reason why it is not valid."""
    if not file.is_file():
        return None, None
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            pixels, positions = opened.get_tensor("pixels"), opened.get_tensor("kept")
        if metadata["sum"] == _sum(pixels, positions, metadata["notes"], metadata["content"]):
            return (
                DecodedImages(pixels, positions.tolist(), tuple(json.loads(metadata["notes"]))),
                metadata["content"],
            ), None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        pass
    return None, "were damaged"


def is_intact(file: Path) -> bool:
    """Return True if a file of decoded images is readable and matches its checksum."""
    return _read(file)[0] is not None


def _write(file: Path, got: DecodedImages, content: str) -> None:
    """Write decoded images to the cache. Failures (a full disk) are ignored: the images are in memory."""
    positions = torch.tensor(got.positions, dtype=torch.int64)
    notes = json.dumps(got.notes)
    metadata = {"notes": notes, "content": content, "sum": _sum(got.pixels, positions, notes, content)}
    part = temporary_path(file)
    with suppress(OSError, SafetensorError):
        make_cache_folder(file.parent)
        save_file({"pixels": got.pixels, "kept": positions}, part, metadata=metadata)
        os.replace(part, file)
        _prune(file)
    with suppress(OSError):
        part.unlink()


def _prune(newest: Path) -> None:
    """Delete least recently used files until the cache is within its limit, and leftovers of killed processes."""
    now, files = time.time(), list[tuple[float, int, Path]]()
    root = newest.parent.parent
    cached = [*cached_files(root), *cached_files(root, parts=True)]
    for path in (path for kind, path in cached if kind == newest.parent.name):
        with suppress(OSError):
            status = path.stat()
            if path.suffix == ".part" and now - status.st_mtime > _ABANDONED:
                path.unlink()
            elif path.suffix == ".safetensors" and path != newest:
                files.append((status.st_mtime, status.st_size, path))
    total = newest.stat().st_size + sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= MAX_CACHE_BYTES:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
