"""Readers of encoded images by position: files, members of tar shards, rows of Arrow and Parquet.

A position is a number in [0, n); ascending positions follow the order on disk. A reader holds an index and no image.
It can be pickled: files are opened again on the other side.
"""

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

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


@runtime_checkable
class Reader(Protocol):
    """Protocol of readers: the bytes of images by position."""

    @property
    def together(self) -> int:
        """Number of neighbours worth reading at a time; 1 where any order costs the same."""
        ...

    @property
    def window(self) -> int:
        """Number of images, in runs of ``together``, that may be read in any order at little cost."""
        ...

    def __len__(self) -> int: ...
    def read(self, places: Sequence[int], /) -> list[bytes]:
        """Return the encoded images at ``places``, ascending.

        Raises:
            PotstillError: one is no longer there.
        """
        ...

    def opened(self, place: int, /) -> io.BufferedIOBase:
        """Open the encoded image as a file, so that reading its header does not read all of it."""
        ...

    def where(self, place: int, /) -> str:
        """Return a name for messages: the file, or the shard and the member."""
        ...


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


class FileReader:
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

    def read(self, places: Sequence[int], /) -> list[bytes]:
        contents = []
        for place in places:
            path = self.where(place)
            try:
                contents.append(_read_bytes(path))
            except OSError as error:
                raise _unreadable(path, error) from None
        return contents

    def opened(self, place: int, /) -> io.BufferedIOBase:
        path = self.where(place)
        try:
            return open(path, "rb")
        except OSError as error:
            raise _unreadable(path, error) from None


class _ShardFile:
    """An open shard, closed when the last thread drops it."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if (number := getattr(self, "number", None)) is not None:
            os.close(number)


class _FileSlice(io.RawIOBase):
    """A byte range of a shard as a file."""

    def __init__(self, shard: _ShardFile, offset: int, size: int) -> None:
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
        got = os.pread(self._shard.number, wanted, self._offset + self._at)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


class TarReader:
    """Reader of uncompressed tar shards by offset and size; positions follow the shards, and the samples within one."""

    together = 16
    window = 8192

    def __init__(
        self, shards: Sequence[Path], counts: Sequence[int], members: PackedStrings, spans: npt.NDArray[np.int64]
    ):
        """
        Args:
            shards: the files.
            counts: pictures in each.
            members: the pictures' names in their shards.
            spans: (n, 2), where their bytes begin, and how many these are.
        """
        self._shards, self._members, self._spans = [str(s) for s in shards], members, spans
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *counts], dtype=np.int64)
        self._files: OrderedDict[int, _ShardFile] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in ("_files", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files, self._lock = OrderedDict(), threading.Lock()

    def __len__(self) -> int:
        return len(self._members)

    def _shard(self, place: int) -> int:
        return int(np.searchsorted(self._ends, place, side="right")) - 1

    def where(self, place: int, /) -> str:
        return f"{self._shards[self._shard(place)]}:{self._members[place]}"

    def _open(self, shard: int) -> _ShardFile:
        with self._lock:
            file = self._files.pop(shard, None)
            if file is None:
                try:
                    file = _ShardFile(self._shards[shard])
                except OSError as error:
                    raise _unreadable(self._shards[shard], error) from None
            self._files[shard] = file
            if len(self._files) > _OPEN:
                self._files.popitem(last=False)
            return file

    def read(self, places: Sequence[int], /) -> list[bytes]:
        contents = []
        for place in places:
            shard = self._open(self._shard(place))
            offset, size = map(int, self._spans[place])
            try:
                content = os.pread(shard.number, size, offset)
                while len(content) < size and (
                    more := os.pread(shard.number, size - len(content), offset + len(content))
                ):
                    content += more  # one call reads 2 GiB at most
            except OSError as error:
                raise _unreadable(self.where(place), error) from None
            if len(content) < size:
                raise PotstillError(
                    f"{self.where(place)}: the shard ends after {len(content):,} of its {size:,} bytes; "
                    "load the data again"
                )
            contents.append(content)
        return contents

    def opened(self, place: int, /) -> io.BufferedIOBase:
        offset, size = map(int, self._spans[place])
        return io.BufferedReader(_FileSlice(self._open(self._shard(place)), offset, size))


def cell_path(name: object, base: Path | None, where: str) -> Path:
    """Return the path in a cell of images.

    Args:
        base: the folder of the data, which it must lie in; ``None``: the data were made in this process, and so was it.
    """
    return path_within(base, name, where) if base is not None else Path(str(name))


def _cell_bytes(value: Any, base: Path | None, where: str) -> bytes:
    """Return the bytes in a cell of images: the bytes themselves, or a struct of bytes or of a path within ``base``."""
    cell = value if isinstance(value, dict) else {"bytes": value}
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    if not cell.get("path"):
        raise PotstillError(f"{where} has no picture; fill it or remove the row")
    path = cell_path(cell["path"], base, where)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(str(path), error) from None


class ArrowReader:
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
        return [_cell_bytes(v, self._base, self.where(p)) for p, v in zip(places, values, strict=True)]

    def opened(self, place: int, /) -> io.BufferedIOBase:
        return io.BytesIO(self.read([place])[0])


class ParquetReader:
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
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in ("_held", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._groups, self._lock = OrderedDict(), threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def where(self, place: int, /) -> str:
        return f"{self._name}: row {place + 1}"

    def _group(self, group: int) -> Any:
        with self._lock:  # one thread reads a group, the others wait for it
            values = self._groups.pop(group, None)
            if values is None:
                try:
                    # Opened anew: an open file holds what it has decoded.
                    with pyarrow.parquet.ParquetFile(self._path) as file:
                        values = file.read_row_group(group, columns=[self._column]).column(self._column)
                except (pa.ArrowException, OSError) as error:
                    rows = f"rows {self._ends[group] + 1:,} to {self._ends[group + 1]:,}"
                    raise PotstillError(
                        f"{self._path}: {rows} cannot be read ({reason(error)}); write it anew"
                    ) from None
            self._groups[group] = values
            while len(self._groups) > 1 and sum(v.nbytes for v in self._groups.values()) > _HELD:
                self._groups.popitem(last=False)
            return values

    def read(self, places: Sequence[int], /) -> list[bytes]:
        contents = []
        for place in places:
            group = int(np.searchsorted(self._ends, place, side="right")) - 1
            value = self._group(group)[int(place - self._ends[group])].as_py()
            contents.append(_cell_bytes(value, self._path.parent, self.where(place)))
        return contents

    def opened(self, place: int, /) -> io.BufferedIOBase:
        return io.BytesIO(self.read([place])[0])
