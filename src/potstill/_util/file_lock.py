"""File locks: one run at a time per output.

The lock is ``flock`` on a hidden file beside the output, which the system releases when the process ends, however it
ends. (The library filelock uses the same lock, but leaves its file behind, and older versions follow links.) File
systems without such locks do not keep runs apart.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.errors import PotstillError

__all__ = ["OutputBusyError", "exclusive_output", "lock_file", "still_names", "try_lock"]


class OutputBusyError(PotstillError):
    """Another run is writing this output."""


def try_lock(descriptor: int, wait: bool = False, unsupported: bool = True) -> bool:
    """Lock an open file until it is closed; ``False`` where another process, or another opening of the file, holds
    it.

    Args:
        wait: wait until it is free.
        unsupported: result on systems without such locks.
    """
    if sys.platform == "win32":
        return unsupported
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF):
            raise  # EBADF: some network file systems lock only what is open for writing
        return unsupported
    return True


def still_names(descriptor: int, path: Path) -> bool:
    """Return True while ``path`` names the open file: its last owner may have removed or renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def lock_file(path: Path) -> int | None:
    """Open or create the file at ``path`` and lock it; ``None`` where another process holds it. Links are not
    followed.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            if still_names(descriptor, path):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def exclusive_output(path: Path) -> Iterator[None]:
    """Hold the lock of the output ``path`` in the ``with`` block.

    Where no lock file can be created (the folder is missing or closed) there is none; the writer reports that better.

    Raises:
        OutputBusyError: another run has this output.
    """
    try:
        target = path.resolve()
        lock = target.with_name(f".{target.name[:200]}.lock")
        descriptor = lock_file(lock)
    except (OSError, ValueError, RuntimeError):  # ValueError: no name; RuntimeError: links in a circle
        yield
        return
    if descriptor is None:
        whose = _whose(lock)
        raise OutputBusyError(f"{path}: another run{whose} is writing it; wait for it, end it, or choose another path")
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d" % os.getpid())
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _whose(lock: Path) -> str:
    try:
        said = lock.read_text()[:20]
    except (OSError, ValueError):
        return ""
    return f" (process {said})" if said.isdigit() else ""
