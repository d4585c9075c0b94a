"""Streaming: on request, or if images would fill more than half of the memory; and the assembly of such sources.

Size, colour, split and normalization are as in memory, with as little decoding as possible.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization, Splits
from potstill.data.attributes import encode_attributes, select_attribute
from potstill.data.groups import encode_groups
from potstill.data.hub import HubDataset
from potstill.data.in_memory import checked_normalization, count_pixels, normalization_of_counts
from potstill.data.indexing import Index, build_index, is_parquet
from potstill.data.iterate import pass_batch_size
from potstill.data.limits import machine_memory
from potstill.data.pictures import (
    BadPictureError,
    LossCounter,
    choose_common_size,
    decode_image,
    read_header,
    silence_pillow,
)
from potstill.data.read_options import ReadOptions
from potstill.data.shards import is_shards, list_shards
from potstill.data.splits import check_splits, draw_test_split, note_given_split
from potstill.data.streamed import StreamSource, num_decode_threads, start_decoding
from potstill.data.train_test_overlap import first_equal_encoded, note_overlap
from potstill.errors import PotstillError
from potstill.functional.sampling import sample_distinct
from potstill.rng import generator

__all__ = ["NORMALIZATION_SAMPLES", "assemble_streamed", "index_if_streamed"]

NORMALIZATION_SAMPLES = 10_000
"""Largest number of training images that the normalization is measured on."""
_FEW = 64
"""Images examined for losses of decoding."""
_CHUNK = 256
"""Images per step of a pass over all of them."""
_LARGEST = 3 * 128 * 128
"""Largest number of bytes of an image in memory if no size is given (`pictures.choose_common_size`)."""
_MEMBER = 1024
"""Smallest number of bytes of a tar member: a header and a block. A sample has two."""


def index_if_streamed(data: object, options: ReadOptions) -> Index | None:
    """Return the index of ``data`` if they are to be streamed; ``None`` if they are to be held in memory.

    Args:
        data: a path, a pattern of shards, or an opened Hugging Face set.
        options: of ``load``; ``stream`` is ``True``, or ``None``: as the memory decides.

    Raises:
        PotstillError: ``stream`` of data that are not pictures on a disk, or what the index meets.
    """
    label, size, skip_bad = options.label, options.size, options.skip_bad
    if options.stream:
        if (index := build_index(data, label, skip_bad, options.group, options.attribute)) is None:
            raise PotstillError(
                "only pictures on a disk can be streamed: a folder, shards, a Parquet file or a Hugging Face set with "
                "a column of pictures; leave streaming out for these data"
            )
        return index
    most = machine_memory() // 2
    at_most = _count(data) * (_LARGEST if size is None else 3 * size[0] * size[1])
    if at_most <= most or (index := build_index(data, label, skip_bad, options.group, options.attribute)) is None:
        return None
    index = _with_image_size(index, size, skip_bad)
    assert index.size is not None
    needed = len(index.labels) * 3 * index.size[0] * index.size[1]
    if needed <= most:
        return None
    note = (
        f"{index.name}: {needed / 2**30:.1f} GiB of pixels are more than half of this machine's memory "
        f"({2 * most / 2**30:.1f} GiB)"
    )
    return replace(index, notes=(*index.notes, note))


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
        if is_parquet(path):
            return int(pyarrow.parquet.read_metadata(path).num_rows)
    return 0


def _heads(index: Index, skip_bad: bool) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
    """Return height, width and greyness of every image (n, 3), and the reason for each unreadable header."""
    headers: npt.NDArray[np.int64] = np.zeros((len(index.labels), 3), dtype=np.int64)
    bad: dict[int, str] = {}
    at, reader = index.at.tolist(), index.reader

    def look(first: int) -> None:
        with silence_pillow():
            for i, place in enumerate(at[first : first + _CHUNK], first):
                try:
                    with reader.opened(place) as file:
                        headers[i] = read_header(file)
                except BadPictureError as error:
                    if not skip_bad:
                        raise PotstillError(
                            f"{reader.where(place)}: {error}; `skip_bad=True` leaves such files out"
                        ) from None
                    bad[place] = str(error)

    with ThreadPoolExecutor(num_decode_threads()) as pool:
        for done in [pool.submit(copy_context().run, look, first) for first in range(0, len(at), _CHUNK)]:
            done.result()
    return headers, bad


def _without(index: Index, bad: dict[int, str]) -> Index:
    """Return the index without the broken images."""
    if not bad:
        return index
    at, every = index.at, {**index.bad, **bad}
    if len(bad) == len(at):
        raise PotstillError(
            f"{index.name}: none of {len(every)} pictures can be read, the first is {_reasons(index, every)[0]}"
        )
    return replace(index.only(~torch.isin(at, torch.tensor(sorted(bad)))), bad=every)


def _reasons(index: Index, bad: Mapping[int, str]) -> list[str]:
    return [f"{index.reader.where(place)}: {why}" for place, why in sorted(bad.items())[:3]]


def _notes(index: Index) -> list[str]:
    """Return notes on what was decided."""
    notes = [*index.notes, *index.sizing]
    if index.bad:
        more = "; …" if len(index.bad) > 3 else ""
        shown = "; ".join(_reasons(index, index.bad))
        notes.append(f"{index.name}: {len(index.bad):,} damaged pictures left out ({shown}{more})")
    return notes


def _with_image_size(index: Index, size: tuple[int, int] | None, skip_bad: bool) -> Index:
    """Set the images' size, from their headers where none is given."""
    if size is not None:
        return replace(index, size=size)
    heads, bad = _heads(index, skip_bad)
    index = _without(index, bad)
    readable = heads[heads[:, 0] > 0]
    kinds, counts = np.unique(readable[:, :2], axis=0, return_counts=True)
    target, note = choose_common_size({(int(h), int(w)): int(n) for (h, w), n in zip(kinds, counts, strict=True)})
    size_notes = () if note is None else (f"{index.name}: {note}",)
    return replace(index, size=target, grey=True if readable[:, 2].all() else None, sizing=size_notes)


def _drop_broken(index: Index, size: tuple[int, int] | None) -> Index:
    """Return the index without images that cannot be decoded, found by decoding everything once."""
    assert index.size is not None
    bad, grey = _decode_all(index, index.size)
    rest = _without(index, bad)
    if bad and size is None:  # a picture with a whole header but broken pixels must not decide the size
        rest = _with_image_size(rest, None, False)
    return replace(rest, grey=grey)


def _decode_all(index: Index, size: tuple[int, int]) -> tuple[dict[int, str], bool]:
    """Return the broken images with reasons, and whether all others are grey."""
    bad: dict[int, str] = {}
    grey = True
    for places in torch.split(index.at.sort().values, _CHUNK):
        before = len(bad)
        x = start_decoding(index.reader, places, (3, *size), bad)()
        if len(bad) > before:
            x = x[~torch.isin(places, torch.tensor(sorted(bad)))]
        grey = grey and bool((x[:, :1] == x).all())
    return bad, grey


def _is_grey(index: Index, size: tuple[int, int]) -> bool:
    """Return True if no image has colour, looking in a random order until one has."""
    order = index.at[torch.randperm(len(index.labels), generator=generator(0, "grey"))]
    with silence_pillow():
        for place in order.tolist():
            try:
                with index.reader.opened(place) as file:
                    if read_header(file)[2]:
                        continue
                x, _ = decode_image(index.reader.read([place])[0], size)
            except BadPictureError as error:
                where = index.reader.where(place)
                raise PotstillError(f"{where}: {error}; `skip_bad=True` leaves such files out") from None
            if not bool((x[..., :1] == x).all()):
                return False
    return True


def _loss_notes(index: Index, size: tuple[int, int]) -> list[str]:
    """Return notes on what decoding loses, from a few images."""
    losses = LossCounter(index.name)
    few = index.at[sample_distinct(len(index.labels), _FEW, generator(0, "losses"))].sort().values.tolist()
    with silence_pillow():
        for place in few:
            with suppress(BadPictureError):  # whoever needs its pixels says so
                losses.add(decode_image(index.reader.read([place])[0], size)[1], index.reader.where(place))
    return losses.notes("" if len(few) == len(index.labels) else f" of {len(few)}")


def assemble_streamed(index: Index, options: ReadOptions) -> Splits:
    """Assemble ``Splits`` of streaming sources, with the same split and sizes as in memory.

    Args:
        index: where the pictures are.
        options: options of ``load``. Without a size pictures have that of ``pictures.decode_images``, from headers;
            broken ones are left out by a pass over all of them; copies are looked for where ``duplicates`` is given,
            by encoded bytes, because that reads all of them. Without a ``normalization`` it is measured on at most
            `NORMALIZATION_SAMPLES` training images.

    Raises:
        PotstillError: a broken picture among those that are looked at here, fewer than two classes, a class without
            training samples.
    """
    if index.size is None:
        index = _with_image_size(index, options.size, options.skip_bad)
    if options.skip_bad:
        index = _drop_broken(index, options.size)
    assert index.size is not None
    name, classes, notes = index.name, index.classes, _notes(index)
    at, labels, training = index.at, index.labels, index.training
    groups = None if index.groups is None else encode_groups(index.groups)[0]
    attribute = None if index.attributes is None else encode_attributes(index.attributes, None)[0]
    of_test = (int((~training).sum()), labels[~training]) if index.split else None
    check_splits(name, classes, (int(training.sum()), labels[training]), of_test)
    train, test = torch.where(training)[0], torch.where(~training)[0] if index.split else None
    is_drawn = test is None and options.test_fraction != 0
    if is_drawn:
        copies = first_equal_encoded(index.reader, at) if options.duplicates == "together" else None
        train, test, more = draw_test_split(name, classes, labels, options, groups, copies)
        notes += more
    elif test is not None:
        of_parts = (None, None) if groups is None else (groups[train], groups[test])
        notes += note_given_split(name, classes, of_parts[0], labels[test], of_parts[1])
    notes += _loss_notes(index, index.size)
    grey = _is_grey(index, index.size) if index.grey is None else index.grey
    spec = InputSpec(kind="image", shape=(1 if grey else 3, *index.size))

    def source(part: Tensor, normal: Normalization) -> StreamSource:
        return StreamSource(
            name=name, input=spec, classes=classes, normalization=normal, reader=index.reader, places=at[part],
            labels=labels[part], groups=None if groups is None else groups[part],
            attribute=select_attribute(attribute, part),
        )  # fmt: skip

    channels = spec.shape[0]
    normalization = checked_normalization(options.normalization, channels, name)
    if normalization is None:
        plain = Normalization(torch.zeros(channels), torch.ones(channels))
        normalization, used = _measure_normalization(source(train, plain))
        notes.append(f"{name}: streamed; normalised by {used:,} of {len(train):,} training pictures")
    else:
        notes.append(f"{name}: streamed")
    sources = [None if part is None else source(part, normalization).to(options.device) for part in (train, test)]
    assert sources[0] is not None
    splits = Splits(train=sources[0], test=sources[1])
    return replace(splits, notes=(*notes, *note_overlap(splits, options.duplicates, is_drawn)))


def _measure_normalization(source: StreamSource) -> tuple[Normalization, int]:
    """Return mean and standard deviation per channel of at most `NORMALIZATION_SAMPLES` images, and their number.

    Pixels are counted by value, so that a pass of any length takes little memory. Of all pictures it is what
    ``fit_normalization`` gives, to the bit.
    """
    index = sample_distinct(len(source), NORMALIZATION_SAMPLES, generator(0, "normalization"))
    counts = torch.zeros(source.input.shape[0], 256, dtype=torch.int64)
    for places in torch.split(source.places[index].sort().values, pass_batch_size(source, _CHUNK)):
        x = start_decoding(source.reader, places, source.input.shape)()
        counts += count_pixels(x)
    return normalization_of_counts(counts), len(index)
