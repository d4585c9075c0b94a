"""Indexes of streamed image data: the position and class of each image, in the same order as in memory."""

import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.data.arrays import encode_labels
from potstill.data.attributes import refuse_attribute
from potstill.data.error_text import reason
from potstill.data.folder import list_folder, relative_paths
from potstill.data.groups import GroupValues, match_file_groups, read_column_groups, split_group_values
from potstill.data.hub import HubDataset, select_splits
from potstill.data.limits import UnpackBudget
from potstill.data.pictures import SUFFIXES
from potstill.data.readers import ArrowReader, FileReader, PackedStrings, ParquetReader, Reader, TarReader
from potstill.data.shards import (
    check_new_member,
    find_picture,
    is_shards,
    list_shards,
    member_extension,
    parse_cls,
    sample_key,
    shards_name,
)
from potstill.data.table import find_image_column, find_label_column, hub_features, read_labels
from potstill.errors import PotstillError

__all__ = ["Index", "build_index", "index_folder", "is_parquet"]

_BLOCK = 512
"""Bytes of a tar's blocks."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """Positions and labels of the images of a dataset before any is decoded; ``size`` is set once headers were read."""

    name: str
    reader: Reader
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    training: Tensor
    """True for samples of the training part (n,)."""
    split: bool
    """True if there is a test part."""
    notes: tuple[str, ...] = ()
    places: Tensor | None = None
    """Positions in the reader; ``None``: all."""
    size: tuple[int, int] | None = None
    sizing: tuple[str, ...] = ()
    """Notes on the chosen size."""
    bad: Mapping[int, str] = field(default_factory=dict)
    """Broken images that were left out: position in the reader and reason."""
    grey: bool | None = None
    """True if no image has colour; ``None``: not known yet."""
    groups: GroupValues | None = None
    """Group of each image (n,); ``None``: no groups."""
    attributes: GroupValues | None = None
    """Attribute of each image (n,); ``None``: read without one."""

    @property
    def at(self) -> Int[Tensor, " n"]:
        return torch.arange(len(self.labels)) if self.places is None else self.places

    def only(self, mask: Tensor) -> "Index":
        """Return the images where ``kept`` (n,) is True."""
        rows = mask.numpy()
        return replace(
            self, places=self.at[mask], labels=self.labels[mask], training=self.training[mask],
            groups=None if self.groups is None else self.groups[rows],
            attributes=None if self.attributes is None else self.attributes[rows],
        )  # fmt: skip


def build_index(
    data: object, label: str | None, skip_bad: bool, group: object = None, attribute: object = None
) -> Index | None:
    """Index a path, a pattern of shards or an opened Hugging Face dataset; ``None`` for other data.

    Args:
        data: what to index.
        label: the column of labels of a table.
        skip_bad: take what is whole of broken shards.
        group, attribute: as for ``load``.

    Raises:
        PotstillError: what the index meets.
    """
    rules = (rule if isinstance(rule, str) else None for rule in (group, attribute))
    index = _build_index(data, label, skip_bad, *rules)
    if index is None:
        return None
    if isinstance(group, tuple):
        index = replace(index, groups=split_group_values(group, len(index.labels), 0, index.name)[0])
    if isinstance(attribute, tuple):
        values = split_group_values(attribute, len(index.labels), 0, index.name, "attribute")[0]
        index = replace(index, attributes=values)
    if attribute is not None and index.attributes is None:
        refuse_attribute(attribute, f"{index.name}, which is streamed")
    return index


def _build_index(
    data: object, label: str | None, skip_bad: bool, group: str | None, attribute: str | None
) -> Index | None:
    if isinstance(data, HubDataset):
        return _index_hub(data, label, group)
    if not isinstance(data, str | Path):
        return None
    try:
        path = Path(data).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        return None
    if is_parquet(path):
        return _index_parquet(path, label, group)
    if not is_shards(data) and not path.is_dir():
        return None
    if label is not None:
        raise PotstillError(f"{data} has its own labels; leave `label=` out (it names the column of a table)")
    return _index_shards(str(data), skip_bad, group) if is_shards(data) else index_folder(path, group, attribute)


def is_parquet(path: Path) -> bool:
    """Return True for a Parquet file that exists."""
    return path.suffix.lower() in (".parquet", ".pq") and path.is_file()


def index_folder(
    root: Path, group: str | None = None, attribute: str | None = None, *, suffixes: Collection[str] = SUFFIXES,
    noun: str = "pictures",
) -> Index:  # fmt: skip
    """Index a folder of files by class: a listing, no file is opened.

    Args:
        root, suffixes, noun: as for `list_folder`.
        group, attribute: as for `match_file_groups`.
    """
    listed = list_folder(root, suffixes, noun)
    files = list(relative_paths(root, listed.files))
    counts = torch.tensor([len(part.names) for part in listed.files])
    return Index(
        name=listed.name,
        reader=FileReader([(part.folder, part.names) for part in listed.files]),
        labels=torch.repeat_interleave(torch.tensor([part.label for part in listed.files]), counts),
        classes=listed.classes,
        training=torch.repeat_interleave(torch.tensor([part.training for part in listed.files]), counts),
        split=listed.split,
        notes=listed.notes,
        groups=None if group is None else match_file_groups(group, files, listed.name),
        attributes=None if attribute is None else match_file_groups(attribute, files, listed.name, "attribute"),
    )


def _members(shard: Path, skip_bad: bool, notes: list[str]) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, key, offset and size of the files in a tar, from its headers."""
    length = shard.stat().st_size

    def broken(what: str) -> None:
        if not skip_bad:
            raise PotstillError(f"{shard}: {what}; make the shard again, or `skip_bad=True` takes what is whole")
        notes.append(f"{shard}: {what}; only what comes before was taken")

    try:
        with open(shard, "rb") as file:
            if (start := file.read(6))[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start == b"\xfd7zXZ\0":
                raise PotstillError(
                    f"{shard}: is compressed, so no member can be read by its place; decompress it, or load it without "
                    "streaming"
                )
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                last_name, end = "the first member", 0
                unpacked = UnpackBudget(shard)
                while (member := tar.next()) is not None:
                    unpacked.add(member.size if member.isreg() else 0)
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK if member.isreg() else tar.offset
                    if member.isreg() and member.offset_data + member.size > length:
                        missing = member.offset_data + member.size - length
                        broken(f"truncated: {missing:,} of the {member.size:,} bytes of {member.name} are missing")
                        return
                    last_name = member.name
                    folder, _, base = member.name.rpartition("/")
                    if member.isreg() and not base.startswith("."):
                        yield member.name, sample_key(folder, base), member.offset_data, member.size
            # The module takes a header that is cut off or broken for the end.
            file.seek(end)
            if (rest := file.read(_BLOCK)) and (len(rest) < _BLOCK or rest.strip(b"\0")):
                broken(f"{'truncated' if len(rest) < _BLOCK else 'a broken header'} after {last_name}")
    except (tarfile.TarError, EOFError) as error:
        if "unexpected end" in str(error):
            broken("truncated")
            return
        raise PotstillError(f"{shard}: not a readable tar file ({reason(error)}); make the shard again") from None
    except OSError as error:
        raise PotstillError(f"{shard}: not a readable tar file ({reason(error)}); make the shard again") from None


def _index_shards(pattern: str, skip_bad: bool, group: str | None) -> Index:
    """Index WebDataset shards in one pass over their headers, which also reads the ``.cls`` files.

    With ``skip_bad`` what comes before the end of a shard that is cut off is taken.
    """
    shards = list_shards(pattern)
    members, counts, texts, keys = list[str](), list[int](), list[str](), list[str]()
    spans: list[tuple[int, int]] = []
    notes: list[str] = []
    for shard in shards:
        samples: dict[str, dict[str, tuple[str, int, int]]] = {}
        for name, key, offset, size in _members(shard, skip_bad, notes):
            files, extension = samples.setdefault(key, {}), member_extension(name.rpartition("/")[2])
            check_new_member(shard, name, extension, files)
            files[extension] = (name, offset, size)
        before = len(members)
        with open(shard, "rb") as file:
            for number, (key, files) in enumerate(sorted(samples.items()), 1):
                try:
                    picture = find_picture(shard, key, files)
                except PotstillError:
                    if skip_bad and notes and number == len(samples):  # what is cut off of the last sample
                        continue
                    raise
                _, offset, size = files["cls"]
                file.seek(offset)
                texts.append(file.read(size).decode("utf-8", errors="replace").strip())
                members.append(picture[0])
                keys.append(key)
                spans.append(picture[1:])
        counts.append(len(members) - before)
    if not members:
        raise PotstillError(f"{pattern}: there are no samples in {len(shards)} shards; give shards of pictures")
    name = shards_name(pattern, shards)
    y, _, classes, more = encode_labels(parse_cls(texts), None, name=name)
    where: npt.NDArray[np.int64] = np.array(spans, dtype=np.int64)
    return Index(
        name=name,
        reader=TarReader(shards, counts, PackedStrings(members), where),
        labels=y,
        classes=classes,
        training=torch.ones(len(y), dtype=torch.bool),
        split=False,
        notes=(*notes, *more),
        groups=None if group is None else match_file_groups(group, keys, name),
    )


def _index_parquet(path: Path, label: str | None, group: str | None) -> Index | None:
    """Index a Parquet file with an image column, reading only its labels; ``None`` without such a column."""
    name = path.name
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            empty = schema.empty_table()
            features = hub_features(empty)
            column = find_label_column(empty, label, features, name)
            picture = find_image_column(empty, column, features, name)
            if picture is None:
                return None
            labels = read_labels(file.read(columns=[column]), column, name)
            groups = None
            if group is not None:
                table = file.read(columns=[group]) if group in schema.names else empty
                groups = read_column_groups(table, group, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PotstillError(f"{path}: not a Parquet file ({reason(error)}); write it again") from None
    return _of_rows(ParquetReader(path, picture, name), labels, None, features.get(column), name, (), groups)


def _index_hub(opened: HubDataset, label: str | None, group: str | None) -> Index | None:
    """Index a ``datasets.Dataset`` or ``DatasetDict`` with an image column; ``None`` without one.

    Its Arrow files are mapped into memory by Hugging Face, so that nothing but the rows that are read is loaded.
    """
    import datasets

    name = opened.name
    train, test, notes = select_splits(opened.data, name)
    one = train.with_format("arrow")
    first = one[:1] if one.num_rows else one[:0]
    features = hub_features(first)
    column = find_label_column(first, label, features, name)
    picture = find_image_column(first, column, features, name)
    if picture is None:
        return None
    parts = [part for part in (train, test) if part is not None]

    def read_column(part: Any, column: str) -> Any:
        return part.select_columns([c for c in part.column_names if c == column]).with_format("arrow")[:]

    labels = [read_labels(read_column(part, column), column, name) for part in parts]
    groups = None
    if group is not None:
        groups = np.concatenate([read_column_groups(read_column(part, group), group, name) for part in parts])
    images = datasets.concatenate_datasets([part.select_columns([picture]) for part in parts])
    reader = ArrowReader(images, picture, name, opened.base)
    test_labels = None if test is None else labels[1]
    return _of_rows(reader, labels[0], test_labels, features.get(column), name, notes, groups)


def _of_rows(
    reader: Reader, train: list[Any], test: list[Any] | None, about: Any, name: str, notes: tuple[str, ...],
    groups: GroupValues | None,
) -> Index:  # fmt: skip
    if not train:
        raise PotstillError(f"{name}: there are no rows; give at least one sample")
    named = tuple(about["names"]) if isinstance(about, dict) and about.get("_type") == "ClassLabel" else None
    y, z, classes, more = encode_labels(train, test, classes=named, name=name)
    labels = y if z is None else torch.cat([y, z])
    training = torch.arange(len(labels)) < len(y)
    return Index(
        name=name, reader=reader, labels=labels, classes=classes, training=training, split=test is not None,
        notes=(*notes, *more), groups=groups,
    )  # fmt: skip
