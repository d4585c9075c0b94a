"""``load``: reads data in any supported form and returns ``Splits``."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from potstill._util.progress import Callback
from potstill.core import Normalization, Source, Splits, Task
from potstill.core.registry import create, names, resolve
from potstill.data.arrays import to_array
from potstill.data.attributes import refuse_attribute
from potstill.data.box_folders import is_boxed
from potstill.data.bundled import BUNDLED, read_bundled
from potstill.data.folder import read_folder
from potstill.data.frames import to_arrow_tables
from potstill.data.groups import check_values
from potstill.data.hub import open_hub, read_hub
from potstill.data.in_memory import TensorSource, fit_normalization
from potstill.data.mask_folders import is_mask_folder
from potstill.data.python_objects import read_arrays, read_dataset, read_mapping, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.removed_columns import parse_removed_columns, refuse_removed_columns
from potstill.data.shards import expand_braces, is_shards, read_shards
from potstill.data.splits import RawPart, RawSplits, assemble, parse_size
from potstill.data.standard_datasets import STANDARD, find_hub_standard, read_standard
from potstill.data.streamed import StreamSource
from potstill.data.streaming import assemble_streamed, index_if_streamed
from potstill.data.table import TABLE_SUFFIXES, read_file_with_labels, read_tables
from potstill.data.table_encoding import parse_missing
from potstill.data.text_representations import FittedRepresentation
from potstill.data.texts import is_text_folder, read_text_folder, to_text_tables
from potstill.data.train_test_overlap import parse_duplicates
from potstill.errors import PotstillError, unknown_name
from potstill.tasks import Classification, ObjectDetection, PixelTask, Retrieval, Segmentation

__all__ = ["KNOWN", "Loader", "find_loader", "load"]

Loader: TypeAlias = Callable[[Task, object, ReadOptions], Splits]
"""Reader of the data of one kind for one task, registered as ``KIND/TASK``."""

KNOWN: dict[str, str] = {**BUNDLED, **{name: s.title for name, s in STANDARD.items()}}
"""Every dataset name that ``load`` knows, with a one-line description; bundled ones first."""

_FILES = (".npz", ".csv", ".tsv", ".jsonl", ".parquet", ".tar")


def load(
    data: object,
    *,
    label: str | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
    size: int | tuple[int, int] | None = None,
    skip_bad: bool = False,
    stream: bool | None = None,
    missing: str | None = None,
    remove_columns: str | Sequence[str] | None = None,
    text: str | None = None,
    representation: str | None = None,
    encode: Callable[[list[str]], Any] | None = None,
    series: str | None = None,
    horizontal_flip: bool | None = None,
    duplicates: str | None = None,
    check_cache: bool = False,
    device: torch.device | str = "cpu",
    task: str | Task | None = None,
    kind: str | None = None,
    group: object = None,
    attribute: object = None,
    normalization: object = None,
    progress: Callback | None = None,
) -> Splits:
    """Load real data as a training split, a test split, and notes on what was decided.

    Args:
        data: any form of data that `potstill.load_data` takes.
        root: its ``data_root``: folder of the files of known names.
        seed: its ``split_seed``: draws the test split where the data have none.
        label, test_fraction, size, skip_bad, stream, missing, remove_columns, text, representation, encode, series,
            horizontal_flip, duplicates, check_cache, device, task, kind, group, attribute, normalization: as for
            `potstill.load_data`.
        progress: its ``preparing``.

    Returns:
        ``Splits`` of ``TensorSource``, or of ``StreamSource``. A ``Splits`` is returned as it is.

    Raises:
        PotstillError: with one line on what was required, what was found and what to change.
    """
    if isinstance(data, Splits):
        return data
    options = ReadOptions(
        label=label, task=task, kind=kind, root=None if root is None else Path(root), seed=seed,
        test_fraction=test_fraction, size=parse_size(size), skip_bad=skip_bad, stream=stream, missing=missing,
        remove_columns=parse_removed_columns(remove_columns), text=text, representation=representation, encode=encode,
        series=series, horizontal_flip=horizontal_flip, duplicates=parse_duplicates(duplicates),
        group=_parse_values(group, "group"), attribute=_parse_values(attribute, "attribute"),
        check_cache=check_cache, device=device, normalization=_parse_normalization(normalization),
        progress=progress,
    )  # fmt: skip
    return replace(_load(data, options), reading=options.to_json(), files=_files(data, options.root))


def _files(data: object, root: Path | None) -> tuple[str, ...]:
    if not isinstance(data, str | Path) or str(data).startswith("hub:"):
        return ()
    if isinstance(data, str) and data in KNOWN:
        return () if root is None else (str(root),)
    names = expand_braces(str(data)) if is_shards(data) else [str(data)]
    return tuple(os.path.abspath(os.path.expanduser(name)) for name in names)


def _parse_values(value: object, option: str) -> str | tuple[Any, ...] | None:
    if value is None or isinstance(value, str):
        return value
    return tuple(check_values(to_array(value, option).reshape(-1).tolist(), option))


def _parse_normalization(value: object) -> Normalization | None:
    found = value if value is None or isinstance(value, Normalization) else getattr(value, "normalization", None)
    if value is not None and not isinstance(found, Normalization):
        raise PotstillError(
            f"normalization must be a Normalization, or a set or source that has one, not a {type(value).__name__}"
        )
    return found


def _load(data: object, options: ReadOptions) -> Splits:
    refuse_removed_columns(data, options.remove_columns, TABLE_SUFFIXES)
    task = create("tasks", options.task) if isinstance(options.task, str) else options.task or _task_of(options, data)
    if options.series is not None and task.name not in ("forecast", "classification"):
        raise PotstillError(
            "series are told apart in data that are forecast or have classes; leave `series=` out, or say "
            '`task="forecast"`'
        )
    if options.series is not None and task.name == "classification" and options.kind is None:
        options = replace(options, kind="series")
    masked = isinstance(task, PixelTask)
    if task.name != "classification" and (options.stream or (options.horizontal_flip is not None and not masked)):
        raise PotstillError(f"data for {task.name} are not streamed and not mirrored; leave these options out")
    if (read := find_loader(options.kind, task.name, data)) is not None:
        if not isinstance(task, Retrieval):
            refuse_attribute(options.attribute, f"data for {task.name}")
        splits = read(task, data, options)
        return _set_horizontal_flip(splits, data, options.horizontal_flip) if masked else splits
    return _set_horizontal_flip(_read_classes(data, options), data, options.horizontal_flip)


def _task_of(options: ReadOptions, data: object) -> Task:
    """Return the task where none is named: that of the kind's only loader, that of masks or boxes beside pictures, or
    else classification."""
    kind = options.kind
    if kind is None and is_mask_folder(data):
        return Segmentation()
    if kind is None and is_boxed(data):
        return ObjectDetection()
    of_kind = [name.rpartition("/")[2] for name in names("loaders") if name.rpartition("/")[0] == kind]
    builtin = kind in (None, "image", "table", "text")
    if len(of_kind) != 1 or builtin:
        return Classification()
    return cast("Task", create("tasks", of_kind[0]))


def find_loader(kind: str | None, task: str, data: object) -> Loader | None:
    """Return the registered loader (``KIND/TASK``) of ``data``; ``None``: the built-in readers of classes.

    Without a kind it is the one that accepts the data (its attribute ``accepts(data)``), or the only one of the task.

    Raises:
        PotstillError: there is no loader for the kind and the task, or several and none accepts the data.
    """
    kinds = [name.rpartition("/")[0] for name in names("loaders") if name.rpartition("/")[2] == task]
    builtin = ["image", "table", "text"] if task == "classification" else []
    if kind is None and not builtin and len(kinds) == 1:
        kind = kinds[0]
    elif kind is None:
        accepting = (k for k in kinds if getattr(resolve("loaders", f"{k}/{task}"), "accepts", lambda _: False)(data))
        kind = next(accepting, None)
        if kind is None and not builtin:
            raise PotstillError(
                f"task {task} has loaders for the kinds {', '.join(kinds)}, and none accepts these data; say which "
                "with `kind=`"
                if kinds else f"there is no loader for task {task}; an installed package may register KIND/{task}"
            )  # fmt: skip
    elif kind not in (*builtin, *kinds):
        raise PotstillError(
            f"there is no loader for kind {kind!r} and task {task}; kinds with one: {', '.join([*builtin, *kinds])}"
        )
    return cast("Loader", resolve("loaders", f"{kind}/{task}")) if kind in kinds else None


def _read_classes(data: object, options: ReadOptions) -> Splits:
    if not 0 <= options.test_fraction < 1:
        raise PotstillError(f"the test fraction must be at least 0 and below 1, not {options.test_fraction}")
    is_known = isinstance(data, str) and data in KNOWN
    hub = None if is_known else open_hub(data)
    if options.stream is not False and not (is_known and options.stream is None):
        index = index_if_streamed(None if is_known else hub or data, options)
        if index is not None:
            return assemble_streamed(index, options)
    if isinstance(data, TensorSource):
        parts = _of_source(data, options)
    elif hub is not None:
        parts = read_hub(hub, options)
    elif isinstance(data, str | Path):
        parts = _of_name(data, options)
    elif (texts := to_text_tables(data)) is not None:
        named = replace(options, label=texts[1], text="text")
        parts = replace(read_tables(texts[0], named, name="texts"), notes=())
    elif (tables := to_arrow_tables(data, options.label)) is not None:
        parts = read_tables(tables[0], replace(options, label=tables[1]), name="frame")
    else:
        _refuse_missing(options, "arrays and datasets of samples")
        parts = _of_object(data, options)
    if parts.representation is None:
        _refuse_text_options(options, parts.name)
    return assemble(parts, options)


def _refuse_text_options(options: ReadOptions, what: str) -> None:
    """Refuse options of texts for other data."""
    for option in ("text", "representation", "encode"):
        if getattr(options, option) is not None:
            raise PotstillError(f"{what} holds no texts with classes; leave `{option}=` out")


def _set_horizontal_flip(splits: Splits, data: object, flip: bool | None) -> Splits:
    """Set whether images may be mirrored, as given or known; else add a note."""
    kind = splits.train.input.kind
    if kind != "image":
        if flip is not None:
            raise PotstillError(
                f"only images are mirrored, but {splits.train.name} is a {kind}; leave `horizontal_flip=` out"
            )
        return splits
    if flip is None and isinstance(data, str) and data.startswith("hub:"):
        flip = standard.mirrored if (standard := find_hub_standard(data.removeprefix("hub:"))) else None
    if flip is not None:
        parts = [
            part if part is None else replace(part, input=replace(part.input, horizontal_flip=flip))
            for part in (splits.train, splits.test)
            if part is None or isinstance(part, TensorSource | StreamSource)
        ]
        assert parts[0] is not None
        return replace(splits, train=parts[0], test=parts[1])
    if (isinstance(data, str) and data in KNOWN) or isinstance(data, TensorSource):
        return splits
    note = (
        f"{splits.train.name}: augmentations may mirror these pictures; where a mirrored one is of another class "
        "(digits, letters, left and right) say `horizontal_flip=False`; `horizontal_flip=True` leaves this note out"
    )
    return replace(splits, notes=(*splits.notes, note))


def _of_source(source: TensorSource, options: ReadOptions) -> RawSplits:
    """Return a source as parts to be split."""
    normalization = source.normalization
    is_fit = _equals_fit(normalization, fit_normalization(source.inputs))
    part = RawPart(
        inputs=source.inputs, labels=source.labels, targets=source.targets, places=source.places, names=source.names,
        groups=None if source.groups is None or options.group is not None else source.groups.numpy(),
        attributes=source.attribute if options.attribute is None else None, texts=source.texts,
    )  # fmt: skip
    return RawSplits(
        name=source.name, train=part, spec=source.input, classes=source.classes, task=source.task,
        normalization=None if is_fit else normalization,
        representation=None if source.encoder is None else FittedRepresentation(encoder=source.encoder),
    )  # fmt: skip


def _equals_fit(result: Normalization, fitted: Normalization) -> bool:
    equal = torch.equal(result.mean.cpu(), fitted.mean) and torch.equal(result.std.cpu(), fitted.std)
    return equal and result.whitening is None and all(_equals_fit(n, fitted.parts[k]) for k, n in result.parts.items())


def _of_object(data: object, options: ReadOptions) -> RawSplits:
    if isinstance(data, tuple | list):
        is_nested = len(data) == 2 and all(isinstance(v, tuple) and len(v) == 2 for v in data)  # as Keras gives it
        flat = [v for pair in data for v in pair] if is_nested else list(data)
        if len(flat) in (2, 4):
            return read_arrays(*flat)
        raise PotstillError(
            f"a {type(data).__name__} of {len(data)} was given; give (x, y) or (x_train, y_train, x_test, y_test)"
        )
    if isinstance(data, Mapping):
        return read_mapping(data, "arrays", options.group, options.attribute)
    if isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_array(data)):
        return read_dataset(cast("Dataset[Any]", data), size=options.size, skip_bad=options.skip_bad)
    if isinstance(data, Source):
        raise PotstillError(f"{type(data).__name__} is a source already; give Splits(train=…, test=…)")
    found = "an array without labels" if _is_array(data) else f"a {type(data).__name__}"
    raise PotstillError(
        f"{found} is not a data set; give a name, a path, arrays (x, y), or a torch or Hugging Face dataset"
    )


def _is_array(data: object) -> bool:
    return isinstance(data, np.ndarray | torch.Tensor)


def _of_name(data: str | Path, options: ReadOptions) -> RawSplits:
    text = str(data)
    if isinstance(data, str):
        if data in KNOWN:
            _refuse_table_options(options, data)
            return read_bundled(data) if data in BUNDLED else read_standard(data, root=options.root)
        if is_shards(data):
            _refuse_table_options(options, data)
            return read_shards(data, options)
    try:
        path = Path(data).expanduser()
    except RuntimeError:  # ~USER without a home here
        raise PotstillError(f"{text}: no such file or folder; check the path") from None
    if os.path.isdir(path):  # as Path.is_dir, but False for a name too long for a file
        if options.kind == "text" or (options.kind is None and is_text_folder(path)):
            if options.label is not None or options.text is not None:
                raise PotstillError(f"{text}: the folders name the classes; leave `label=` and `text=` out")
            return read_text_folder(path, options)
        _refuse_table_options(options, text)
        return read_folder(path, options)
    if os.path.isfile(path):
        return _of_file(path, options)
    if isinstance(data, Path) or "/" in text or "\\" in text or text.startswith(("~", ".")) or path.suffix in _FILES:
        raise PotstillError(f"{text}: no such file or folder; check the path")
    raise unknown_name("data set", text, KNOWN)


def _of_file(path: Path, options: ReadOptions) -> RawSplits:
    suffix = ".tar" if path.name.endswith(".tar.gz") else path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return read_tables([read_file_with_labels(path, options)], options, name=path.name, base=path.parent)
    _refuse_table_options(options, str(path))
    if suffix == ".npz":
        return read_mapping(read_npz_arrays(path), path.stem, options.group, options.attribute)
    if suffix == ".tar":
        return read_shards(str(path), options)
    if suffix == ".tsf":
        raise PotstillError(f'{path}: a tsf file holds series to forecast; say `task="forecast:window=W,horizon=H"`')
    raise PotstillError(f"{path}: files ending in {suffix or 'nothing'} are not read; give one of {', '.join(_FILES)}")


def _refuse_missing(options: ReadOptions, what: str) -> None:
    if parse_missing(options.missing) != "refuse":
        raise PotstillError(f"missing values are dealt with in tables (csv, parquet, data frames), not in {what}")


def _refuse_table_options(options: ReadOptions, what: str) -> None:
    if options.label is not None:
        raise PotstillError(f"{what} has its own labels; leave `label=` out (it names the column of a table)")
    _refuse_missing(options, what)
