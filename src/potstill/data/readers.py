"""Readers of encoded images by position: files, members of tar shards, rows of Arrow and Parquet.

A position is a number in [0, n); ascending positions follow the order on disk. A reader holds an index and no image.
It can be pickled: files are opened again on the other side.
"""

import hashlib
import io
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from potstill._util.input_limits import check_limit
from potstill._util.paths import path_within
from potstill.data.error_text import reason
from potstill.errors import PotstillError

__all__ = ["ArrowReader", "FileReader", "PackedStrings", "ParquetReader", "Reader", "TarReader", "content_digest"]

_OPEN = 64
"""Shards kept open at a time."""
_HELD = 128 * 2**20
"""Bytes of row groups that a Parquet reader keeps, unless one alone is larger."""
_READ = 64
"""Images whose bytes are in memory at a time for a digest."""


class Reader(ABC):
    """Reader of encoded images by position."""

    together: int
    """Number of neighbours worth reading at a time; 1 where any order costs the same."""
    window: int
    """Number of images, in runs of ``together``, that may be read in any order at little cost."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def where(self, place: int, /) -> str:
        """Return a name for messages: the file, or the shard and the member."""

    @abstractmethod
    def read_one(self, place: int, /) -> bytes:
        """Return the encoded image at ``place``.

        Raises:
            PotstillError: it is no longer there.
        """

    def read(self, places: Sequence[int], /) -> list[bytes]:
        """Return the encoded images at ``places``, ascending. Errors as `read_one`."""
        return [self.read_one(place) for place in places]

    def opened(self, place: int, /) -> io.BufferedIOBase:
        """Open the encoded image as a file; where possible, reading its header does not read all of it."""
        return io.BytesIO(self.read_one(place))


def content_digest(reader: Reader, places: Iterable[int]) -> bytes:
    """Return the SHA-256 over the SHA-256 of each image's bytes, in order. Reads all of them and decodes none."""
    digest, waiting = hashlib.sha256(), list[int]()

    def flush() -> None:
        order = sorted(waiting)  # read as they lie, told in the order that was asked for
        digests = {p: hashlib.sha256(b).digest() for p, b in zip(order, reader.read(order), strict=True)}
        for place in waiting:
            digest.update(digests[place])
        waiting.clear()

    for place in places:
        waiting.append(place)
        if len(waiting) == _READ:
            flush()
    flush()
    return digest.digest()


class PackedStrings(Sequence[str]):
    """Many short texts in one block of bytes, a tenth of the memory of Python strings."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        encoded = bytearray()
        ends = [0]
        for name in names:
            encoded += os.fsencode(name)
            ends.append(len(encoded))
        self._bytes = bytes(encoded)
        self._ends: npt.NDArray[np.int64] = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return os.fsdecode(self._bytes[self._ends[i] : self._ends[i + 1]])


def _unreadable(where: str, error: OSError) -> PotstillError:
    return PotstillError(f"{where}: can no longer be read ({error.strerror or reason(error)}); load the data again")


def _read_bytes(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))  # half the time of Python's own file objects
    try:
        content = os.read(file, os.fstat(file).st_size + 1)
        while more := os.read(file, 2**20):  # one call reads 2 GiB at most, and a file may have grown
            content += more
        return content
    finally:
        os.close(file)


class FileReader(Reader):
    """Reader of image files; positions follow the given folders, and the names within one."""

    together = 1
    window = 1

    def __init__(self, folders: Sequence[tuple[Path, Sequence[str]]]) -> None:
        """``folders``: each with the names of its pictures, relative to it."""
        self._folders = [str(folder) for folder, _ in folders]
        self._names = PackedStrings(name for _, names in folders for name in names)
        counts = [len(names) for _, names in folders]
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def where(self, place: int, /) -> str:
        folder = self._folders[int(np.searchsorted(self._ends, place, side="right")) - 1]
        return os.path.join(folder, self._names[place])

    def name(self, place: int, /) -> str:
        """Return the file's path relative to the common parent of all folders."""
        return os.path.relpath(self.where(place), os.path.commonpath(self._folders))

    def read_one(self, place: int, /) -> bytes:
        path = self.where(place)
        try:
            return _read_bytes(path)
        except OSError as error:
            raise _unreadable(path, error) from None

    def opened(self, place: int, /) -> io.BufferedIOBase:
        path = self.where(place)
        try:
            return open(path, "rb")
        except OSError as error:
            raise _unreadable(path, error) from None


class _CachingReader(Reader):
    """Reader that keeps what it used last (open shards, row groups), but not in a pickle."""

    def __init__(self) -> None:
        self._cached: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in ("_cached", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _CachingReader.__init__(self)

    def _get(self, number: int, make: Callable[[int], Any], is_full: Callable[[], bool]) -> Any:
        """Return what ``make`` gives for a number; one thread makes it, the others wait."""
        with self._lock:
            value = self._cached.pop(number, None)
            self._cached[number] = value = make(number) if value is None else value
            while len(self._cached) > 1 and is_full():
                self._cached.popitem(last=False)
            return value


class _FileSlice(io.RawIOBase):
    """A byte range of a shard as a file."""

    def __init__(self, shard: pa.NativeFile, offset: int, size: int) -> None:
        self._shard, self._offset, self._size, self._at = shard, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        got = self._shard.read_at(wanted, self._offset + self._at)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


class TarReader(_CachingReader):
    """Reader of uncompressed tar shards by offset and size; positions follow the shards, and the samples within one."""

    together = 16
    window = 8192

    def __init__(
        self, shards: Sequence[Path], counts: Sequence[int], members: PackedStrings, spans: npt.NDArray[np.int64]
    ):
        """``counts``: pictures in each shard; ``spans`` (n, 2): where their bytes begin, and how many these are."""
        self._shards, self._members, self._spans = [str(s) for s in shards], members, spans
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts], dtype=np.int64)
        super().__init__()

    def __len__(self) -> int:
        return len(self._members)

    def _shard(self, place: int) -> int:
        return int(np.searchsorted(self._ends, place, side="right")) - 1

    def where(self, place: int, /) -> str:
        return f"{self._shards[self._shard(place)]}:{self._members[place]}"

    def _open(self, shard: int) -> pa.NativeFile:
        try:
            return pa.OSFile(self._shards[shard])
        except OSError as error:
            raise _unreadable(self._shards[shard], error) from None

    def _located(self, place: int) -> tuple[pa.NativeFile, int, int]:
        """Return the open shard of an image, the offset of its bytes and their number."""
        shard = self._get(self._shard(place), self._open, lambda: len(self._cached) > _OPEN)
        offset, size = map(int, self._spans[place])
        return shard, offset, size

    def read_one(self, place: int, /) -> bytes:
        shard, offset, size = self._located(place)
        try:
            content: bytes = shard.read_at(size, offset)
        except OSError as error:
            raise _unreadable(self.where(place), error) from None
        if len(content) < size:
            raise PotstillError(
                f"{self.where(place)}: the shard ends after {len(content):,} of its {size:,} bytes; load the data again"
            )
        return content

    def opened(self, place: int, /) -> io.BufferedIOBase:
        return io.BufferedReader(_FileSlice(*self._located(place)))


def cell_picture(value: Any, column: str, base: Path | None, where: str) -> bytes | Path:
    """Return the picture in a cell, which holds bytes, or a struct of bytes or of a path.

    Args:
        base: the folder of the data, which paths must lie in; ``None``: the data were made in this process, as paths.

    Raises:
        PotstillError: the cell holds no picture, too large a one, or a path out of the folder.
    """
    cell = value if isinstance(value, dict) else {"bytes": value}
    if cell.get("bytes") is not None:
        check_limit("cell_bytes", len(cell["bytes"]), where)
        return bytes(cell["bytes"])
    if not cell.get("path"):
        raise PotstillError(f"{where} has no picture in column {column!r}; fill it or remove the row")
    return path_within(base, cell["path"], where) if base is not None else Path(str(cell["path"]))


def _cell_bytes(value: Any, column: str, base: Path | None, where: str) -> bytes:
    picture = cell_picture(value, column, base, where)
    try:
        return picture.read_bytes() if isinstance(picture, Path) else picture
    except OSError as error:
        raise _unreadable(str(picture), error) from None


class ArrowReader(Reader):
    """Reader of rows of a Hugging Face dataset, whose Arrow files are memory-mapped."""

    together = 16
    window = 8192

    def __init__(self, data: Any, column: str, name: str, base: Path | None) -> None:
        """``data`` is a ``datasets.Dataset``; ``base`` is the folder that paths in ``column`` lie in."""
        self._data = data.select_columns([column]).with_format("arrow")
        self._column, self._name, self._base = column, name, base

    def __len__(self) -> int:
        return int(self._data.num_rows)

    def where(self, place: int, /) -> str:
        return f"{self._name}: row {place + 1}"

    def read(self, places: Sequence[int], /) -> list[bytes]:
        if not places:
            return []
        values = self._data[list(places)].column(self._column).to_pylist()
        return [_cell_bytes(v, self._column, self._base, self.where(p)) for p, v in zip(places, values, strict=True)]

    def read_one(self, place: int, /) -> bytes:
        return self.read([place])[0]


class ParquetReader(_CachingReader):
    """Reader of rows of a Parquet file by row groups, the latest of which are cached: near rows should come
    together.
    """

    def __init__(self, path: Path, column: str, name: str) -> None:
        self._path, self._column, self._name = path, column, name
        about = pyarrow.parquet.read_metadata(path)
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *(g.num_rows for g in groups)], dtype=np.int64)
        self.together = max(1, len(self) // max(1, len(groups)))
        self.window = max(self.together, len(self) * _HELD // max(1, sum(g.total_byte_size for g in groups)))
        super().__init__()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def where(self, place: int, /) -> str:
        return f"{self._name}: row {place + 1}"

    def _read_group(self, group: int) -> Any:
        try:
            with pyarrow.parquet.ParquetFile(self._path) as file:  # opened anew: an open one holds what it has decoded
                return file.read_row_group(group, columns=[self._column]).column(self._column)
        except (pa.ArrowException, OSError) as error:
            rows = f"rows {self._ends[group] + 1:,} to {self._ends[group + 1]:,}"
            raise PotstillError(f"{self._path}: {rows} cannot be read ({reason(error)}); write it again") from None

    def read_one(self, place: int, /) -> bytes:
        group = int(np.searchsorted(self._ends, place, side="right")) - 1
        values = self._get(group, self._read_group, lambda: sum(v.nbytes for v in self._cached.values()) > _HELD)
        value = values[int(place - self._ends[group])].as_py()
        return _cell_bytes(value, self._column, self._path.parent, self.where(place))
