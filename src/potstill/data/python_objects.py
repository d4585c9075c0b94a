"""Python objects and ``.npz`` files: arrays, mappings of arrays, torch datasets."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from potstill.core import InputSpec
from potstill.data.arrays import canonicalize_inputs, check_one_dtype, encode_labels, to_array
from potstill.data.groups import check_values, split_group_values
from potstill.data.limits import UnpackBudget, require_memory
from potstill.data.medmnist import is_medmnist, rename_medmnist
from potstill.data.pictures import decode_images
from potstill.data.splits import RawPart, RawSplits
from potstill.errors import PotstillError

__all__ = ["named_groups", "pick_arrays", "read_arrays", "read_dataset", "read_mapping", "read_npz_arrays"]

_NPZ_ERRORS = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    NotImplementedError, MemoryError,
)  # fmt: skip
"""Errors that NumPy and zipfile raise on a damaged or foreign file."""
_KEYS = (("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"))


def read_arrays(
    x: Any, y: Any, x_test: Any = None, y_test: Any = None, *, classes: Any = None, name: str = "arrays"
) -> RawSplits:
    """Read inputs and labels given as arrays, with or without a test part; shapes as for `arrays.canonicalize_inputs`.

    Raises:
        PotstillError: lengths, shapes, values or labels that are not understood.
    """
    train, test, spec, notes = canonicalize_inputs(x, x_test, name=name)
    given = None if classes is None else tuple(str(c) for c in to_array(classes, f"{name}: classes").tolist())
    labels, test_labels, names, more = encode_labels(y, y_test, classes=given, name=name)
    test_part = None
    if test is not None and test_labels is not None:
        test_part = RawPart(inputs=test, labels=test_labels)
    return RawSplits(
        name=name, train=RawPart(inputs=train, labels=labels), test=test_part, spec=spec, classes=names,
        notes=(*notes, *more),
    )  # fmt: skip


def read_mapping(arrays: Mapping[str, Any], name: str, group: object = None, attribute: object = None) -> RawSplits:
    """Read arrays by name: ``x_train y_train x_test y_test``, ``x y``, or those of MedMNIST's files; ``classes`` may
    hold the class names.

    A text as ``group`` or ``attribute`` names the array of the training part's groups or attributes, and with ``_test``
    after it those of the test part.

    Raises:
        PotstillError: the names are others.
    """
    arrays, notes = rename_medmnist(arrays, name) if is_medmnist(arrays) else (arrays, [])
    classes = arrays.get("classes")
    parts = read_arrays(*pick_arrays(arrays, name), classes=classes, name=name)
    parts = replace(parts, notes=(*notes, *parts.notes))
    for option, key in (("group", group), ("attribute", attribute)):
        parts = named_groups(parts, arrays, key, option) if isinstance(key, str) else parts
    return parts


def pick_arrays(arrays: Mapping[str, Any], name: str) -> list[Any]:
    """Return inputs and labels, and those of a test part, by their usual names.

    Raises:
        PotstillError: the names are others.
    """
    for keys in (*_KEYS, ("x", "y"), *(k[:2] for k in _KEYS)):
        if all(k in arrays for k in keys):
            return [arrays[k] for k in keys]
    raise PotstillError(
        f"{name}: needs the arrays x_train, y_train, x_test and y_test (or x and y); it has {', '.join(arrays)}"
    )


def named_groups(parts: RawSplits, arrays: Mapping[str, Any], group: str, option: str = "group") -> RawSplits:
    """Add the groups (or, by ``option``, the attributes) in the array that ``group`` names.

    Raises:
        PotstillError: there is none, or it has not one value for each sample.
    """
    if group not in arrays:
        use = "to group by" if option == "group" else "to take as attribute"
        raise PotstillError(f"{parts.name}: there is no array {group!r} {use}; it has {', '.join(arrays)}")

    def grouped(part: RawPart, key: str) -> RawPart:
        if key not in arrays:
            return part
        values = check_values(to_array(arrays[key], key).reshape(-1).tolist(), option)
        found = split_group_values(values, len(part.labels), 0, parts.name, option)[0]
        return part.with_values(option, found)

    test = None if parts.test is None else grouped(parts.test, f"{group}_test")
    return replace(parts, train=grouped(parts.train, group), test=test)


def read_npz_arrays(path: Path) -> dict[str, Any]:
    """Return the plain arrays in an ``.npz`` file by name; pickled objects in it are refused, not run.

    Raises:
        PotstillError: the file is no ``.npz``, or holds objects.
    """
    try:
        with path.open("rb") as file:  # opened here, because NumPy leaves it open when it finds no archive in it
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise PotstillError(f"{path}: holds one array; an .npz file with x_train, y_train, … is needed")
            _check_claims(path, loaded)
            return {key: loaded[key] for key in loaded.files}
    except _NPZ_ERRORS as error:
        hint = "save string labels as a string array, not as objects" if "pickle" in str(error) else "save it anew"
        raise PotstillError(f"{path}: not an .npz file of plain arrays; {hint}") from None


def _check_claims(path: Path, loaded: Any) -> None:
    total, unpacked = 0, UnpackBudget(path)
    for member in loaded.zip.infolist():
        unpacked.add(member.file_size)
        with loaded.zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            claimed = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and claimed != member.file_size - file.tell():
                raise PotstillError(
                    f"{path}: {member.filename} claims {claimed:,} bytes (shape {shape}), but has "
                    f"{member.file_size - file.tell():,}; save it again"
                )
            total += claimed
    require_memory(total, f"{path}: its arrays", "give fewer samples, or a folder or shards, which can be streamed")


def _samples(data: Any) -> Iterator[tuple[Any, Any]]:
    for i in range(len(data)):
        sample = data[i]
        if not (isinstance(sample, Sequence) and len(sample) == 2):
            raise PotstillError(
                f"{type(data).__name__}: sample {i} is a {type(sample).__name__}; each must be a pair (input, label)"
            )
        yield sample[0], sample[1]


def read_dataset(data: Dataset[Any], *, size: tuple[int, int] | None, skip_bad: bool) -> RawSplits:
    """Read any map-style torch dataset of (input, label) once; inputs are tensors, arrays or Pillow images.

    Its ``classes`` names the classes if it has as many as there are labels.

    Raises:
        PotstillError: an iterable dataset, samples that are no pairs, inputs of different shapes.
    """
    name = type(data).__name__
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise PotstillError(f"{name}: is iterable only; give a map-style dataset with __getitem__ and __len__")
    pairs = list(_samples(data))
    if not pairs:
        raise PotstillError(f"{name}: there are no samples; give at least one")
    labels = [y.item() if isinstance(y, torch.Tensor | np.generic) and np.ndim(y) == 0 else y for _, y in pairs]
    inputs = [x for x, _ in pairs]
    notes: tuple[str, ...] = ()
    if all(isinstance(x, Image.Image) for x in inputs):
        got = decode_images(
            [(f"{name}[{i}]", x) for i, x in enumerate(inputs)], size=size, skip_bad=skip_bad, name=name
        )
        train, notes = got.pixels, got.notes
        spec = InputSpec(kind="image", shape=tuple(train.shape[1:]))
        labels = [labels[i] for i in got.positions]
    else:
        arrays = [to_array(x, f"{name}[{i}]") for i, x in enumerate(inputs)]
        for i, x in enumerate(arrays):
            if x.shape != arrays[0].shape:
                raise PotstillError(
                    f"{name}: input 0 has shape {arrays[0].shape}, input {i} has {x.shape}; give inputs of one shape"
                )
        check_one_dtype(arrays, name)
        train, _, spec, notes = canonicalize_inputs(np.stack(arrays), None, name=name)
    named = getattr(data, "classes", None)
    integers = all(isinstance(v, int) for v in labels)
    usable = isinstance(named, list | tuple) and integers and min(labels) >= 0 and max(labels) < len(named)
    classes = tuple(str(c) for c in named) if usable and named else None
    y, _, names, more = encode_labels(labels, None, classes=classes, name=name)
    part = RawPart(inputs=train, labels=y)
    return RawSplits(name=name, train=part, spec=spec, classes=names, notes=(*notes, *more))
