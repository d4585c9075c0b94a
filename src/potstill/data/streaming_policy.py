"""Decision to stream: on request, or if images would fill more than half of the memory."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from potstill.data.hub import HubDataset
from potstill.data.indexing import Index, index_folder, index_hub, index_parquet, index_shards
from potstill.data.limits import machine_memory
from potstill.data.read_options import ReadOptions
from potstill.data.shards import is_shards, list_shards
from potstill.data.streaming import with_image_size
from potstill.errors import PotstillError

__all__ = ["build_index", "index_if_streamed", "machine_memory"]

_LARGEST = 3 * 128 * 128
"""Largest number of bytes of an image in memory if no size is given (`pictures.choose_common_size`)."""
_MEMBER = 1024
"""Smallest number of bytes of a tar member: a header and a block. A sample has two."""


def index_if_streamed(data: object, reading: ReadOptions) -> Index | None:
    """Return the index of ``data`` if they are to be streamed; ``None`` if they are to be held in memory.

    Args:
        data: a path, a pattern of shards, or an opened Hugging Face set.
        reading: options of ``load``; ``stream`` is ``True``, or ``None``: as the memory decides.

    Raises:
        PotstillError: ``stream`` of data that are not pictures on a disk, or what the index meets.
    """
    label, size, skip_bad = reading.label, reading.size, reading.skip_bad
    if reading.stream:
        if (index := build_index(data, label, skip_bad, reading.group)) is None:
            raise PotstillError(
                "only pictures on a disk can be streamed: a folder, shards, a Parquet file or a Hugging Face set with "
                "a column of pictures; leave streaming out for these data"
            )
        return index
    most = machine_memory() // 2
    at_most = _count(data) * (_LARGEST if size is None else 3 * size[0] * size[1])
    if at_most <= most or (index := build_index(data, label, skip_bad, reading.group)) is None:
        return None
    index = with_image_size(index, size, skip_bad)
    assert index.size is not None
    needed = len(index.labels) * 3 * index.size[0] * index.size[1]
    if needed <= most:
        return None
    return index.noted(
        f"{index.name}: {needed / 2**30:.1f} GiB of pixels are more than half of this machine's memory "
        f"({2 * most / 2**30:.1f} GiB)"
    )


def _count(data: object) -> int:
    """Return an upper bound of the number of images, by a quick look; 0 for other or unreadable data."""
    if isinstance(data, HubDataset):
        parts = data.data.values() if isinstance(data.data, Mapping) else [data.data]
        return sum(int(getattr(part, "num_rows", 0)) for part in parts)
    if not isinstance(data, str | Path):
        return 0
    with suppress(PotstillError, RuntimeError, OSError, UnicodeDecodeError, pa.ArrowException):
        if is_shards(data):
            shards = list_shards(str(data))
            packed = any(s.suffix == ".gz" for s in shards)
            return 0 if packed else sum(s.stat().st_size for s in shards) // (2 * _MEMBER)
        path = Path(data).expanduser()
        if path.is_dir():
            return sum(len(files) for _, _, files in os.walk(path, followlinks=False))
        if _is_parquet(path):
            return int(pyarrow.parquet.read_metadata(path).num_rows)
    return 0


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq") and path.is_file()


def build_index(data: object, label: str | None, skip_bad: bool, group: object = None) -> Index | None:
    """Index a path, a pattern of shards or an opened Hugging Face dataset; ``None`` for other data.

    ``group``: as for ``load``.

    Raises:
        PotstillError: what the index meets.
    """
    if isinstance(data, HubDataset):
        return _grouped(index_hub(data, label=label, group=group), group)
    if not isinstance(data, str | Path):
        return None
    try:
        path = Path(data).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        return None
    if _is_parquet(path):
        return _grouped(index_parquet(path, label=label, group=group), group)
    if not is_shards(data) and not path.is_dir():
        return None
    if label is not None:
        raise PotstillError(f"{data} has its own labels; leave `label=` out (it names the column of a table)")
    if is_shards(data):
        return _grouped(index_shards(str(data), skip_bad=skip_bad, group=group), group)
    return _grouped(index_folder(path, group), group)


def _grouped(index: Index | None, group: object) -> Index | None:
    return None if index is None else index.grouped(group)
