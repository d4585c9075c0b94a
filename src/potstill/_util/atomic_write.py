"""Atomic writes: a file or folder is written beside its target and renamed, and survives a power cut."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from potstill._util.file_lock import still_names, try_lock
from potstill.errors import PotstillError

__all__ = [
    "check_writable",
    "create_locked_part",
    "os_error_text",
    "remove_stale_parts",
    "sync_folder",
    "sync_renamed",
    "temporary_path",
    "write_atomic",
]


def os_error_text(error: OSError | ValueError) -> str:
    """Return the system's reason for refusing a path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _target(path: Path) -> Path:
    """Return the path to write: behind a symbolic link, and neither a folder nor a device."""
    try:
        target = path.resolve()
        folder = target.parent.is_dir()
        found = os.stat(target)
    except FileNotFoundError:
        found = None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        said = str(error) if isinstance(error, RuntimeError) else os_error_text(error)
        raise PotstillError(f"{path}: cannot be written ({said}); choose another path") from error
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise PotstillError(f"{path}: must be a file, but it is a folder; add a file name")
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise PotstillError(f"{path}: must be a file, but it is a device or pipe; choose another path")
    if found is not None and not os.access(target, os.W_OK):
        raise PotstillError(f"{path}: is write-protected; choose another path or allow writing")
    if not folder:
        raise PotstillError(f"{path}: its folder {path.parent} does not exist; make it or choose another path")
    return target


def temporary_path(path: Path) -> Path:
    """Return a new name in the same folder, to be renamed to ``path``."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.part")


def _create(part: Path) -> int:
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def create_locked_part(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Create a file or folder beside ``target``, open and locked, so that no other process removes it as stale.

    Args:
        make: creates it at the given path and returns its descriptor.
    """
    remove_stale_parts(target)
    while True:
        part = temporary_path(target)
        descriptor = make(part)
        if try_lock(descriptor, wait=True) and still_names(descriptor, part):
            return part, descriptor
        os.close(descriptor)  # who cleared up was faster


def remove_stale_parts(target: Path) -> None:
    """Remove the parts that killed writers of ``target`` left: those that no process has locked."""
    pattern = re.compile(re.escape(f".{target.name[:40]}.") + r"[0-9a-f]{12}\.part")
    with contextlib.suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(target.parent)):
            part = target.with_name(name)
            with contextlib.suppress(OSError):
                kind = os.O_RDONLY if part.is_dir() else os.O_RDWR
                descriptor = os.open(part, kind | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if not try_lock(descriptor, unsupported=False):
                        continue
                    if part.is_dir():
                        shutil.rmtree(part)
                    else:
                        part.unlink()
                finally:
                    os.close(descriptor)


def check_writable(path: Path) -> None:
    """Check before the work that a file can be written.

    Raises:
        PotstillError: the folder is missing or closed, or the path is a folder, a device or write-protected.
    """
    target = _target(path)
    probe = temporary_path(target)
    try:
        os.close(_create(probe))
        probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be written ({os_error_text(error)}); choose another path") from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system supports it; otherwise a power cut may undo a
    rename.

    Raises:
        OSError: the disk refuses.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:  # one that may be written but not read; and Windows, which opens none
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that do not do it
            raise
    finally:
        os.close(descriptor)


def sync_renamed(path: Path, folder: Path) -> None:
    """Flush the name ``path`` in ``folder`` to the disk after a rename.

    Raises:
        PotstillError: the disk refuses; the file is there, but may not survive a power cut.
    """
    try:
        sync_folder(folder)
    except OSError as error:
        raise PotstillError(
            f"{path}: is written, but the disk does not confirm it ({os_error_text(error)}); check the disk first"
        ) from error


@contextmanager
def _replacing(path: Path, follow: bool) -> Iterator[BinaryIO]:
    target = _target(path) if follow else path.parent.resolve() / path.name
    try:
        part, descriptor = create_locked_part(target, _create)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, target)
        finally:  # also when the user interrupts
            part.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise PotstillError(
            f"{path}: could not be written ({os_error_text(error)}); free space or choose another path, "
            "nothing was changed"
        ) from error
    sync_renamed(path, target.parent)


def write_atomic(path: Path, *content: bytes | memoryview, follow: bool = True) -> None:
    """Write a file so that readers find the old content or the new, never half of it.

    Args:
        content: pieces of the content, in order.
        follow: write the file that a symbolic link at ``path`` points to; otherwise replace the link.

    Raises:
        PotstillError: it cannot be written; the old file is unchanged and nothing is left behind.
    """
    with _replacing(path, follow) as file:
        for piece in content:
            file.write(piece)
