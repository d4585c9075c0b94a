"""``load``: whatever people have → ``Splits``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from potstill.core import Source, Splits
from potstill.data.auto import streamable
from potstill.data.bundled import BUNDLED, read_bundled
from potstill.data.folder import read_folder
from potstill.data.hub import opened, read_hub
from potstill.data.known import STANDARD, read_known
from potstill.data.memory import TensorSource, fit_normalization
from potstill.data.objects import read_arrays, read_dataset, read_mapping, read_npz
from potstill.data.shards import is_shards, read_shards
from potstill.data.splits import Parts, as_size, assemble
from potstill.data.streaming import assemble_streamed
from potstill.data.table import read_arrow, read_csv, read_parquet
from potstill.errors import PotstillError, unknown

__all__ = ["KNOWN", "load"]

KNOWN: dict[str, str] = {**BUNDLED, **{name: s.title for name, s in STANDARD.items()}}
"""Every name that ``load`` knows → what it is, in one line. Bundled ones come first."""

_FILES = (".npz", ".csv", ".tsv", ".parquet", ".tar")


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
    device: torch.device | str = "cpu",
) -> Splits:
    """Real data as sources: a training split, a test split, and notes on what was decided.

    Args:
        data: a name in ``KNOWN``; a folder of pictures (``train/CLASS/*``, ``test/CLASS/*``, or ``CLASS/*``) or one
            that ``save_to_disk`` made; an ``.npz``, ``.csv``, ``.parquet`` or ``.tar`` file (``train-{000..099}.tar``);
            ``hub:NAME`` or ``hub:NAME:CONFIG``. Also arrays ``(x, y)`` or ``(x_train, y_train, x_test, y_test)``, a
            mapping of arrays by these names, a torch or Hugging Face dataset, a ``TensorSource``, a ``Splits``.
        label: the label column of a table or a Hugging Face set.
        root: where the files of known names are; else ``$POTSTILL_DATA``, else the system's folders.
        seed: draws the test split where the data has none.
        test_fraction: of each class, in [0, 1), for that split; 0 leaves ``test`` out.
        size: height and width that pictures are resized to.
        skip_bad: leave broken picture files out (noted) instead of raising. Streamed data are decoded once for it.
        stream: read and decode pictures when they are needed, in place of holding all of them: folders, shards, Parquet
            and Hugging Face sets. ``None``: where they would take more than half of the machine's memory (noted).
        device: where inputs are held and batches made.

    Returns:
        ``Splits`` of ``TensorSource``, or of ``StreamSource``. A ``Splits`` is returned as it is.

    Raises:
        PotstillError: with one line on what was required, what was found and what to change.
    """
    if isinstance(data, Splits):
        return data
    if not 0 <= test_fraction < 1:
        raise PotstillError(f"the test fraction must be at least 0 and below 1, not {test_fraction}")
    target = as_size(size)
    known = isinstance(data, str) and data in KNOWN
    hub = None if known else opened(data)
    if stream is not False and not (known and stream is None):
        index = streamable(None if known else hub or data, label, target, skip_bad, stream)
        if index is not None:
            return assemble_streamed(
                index, seed=seed, test_fraction=test_fraction, size=target, skip_bad=skip_bad, device=device
            )
    if isinstance(data, TensorSource):
        parts = _of_source(data)
    elif hub is not None:
        parts = read_hub(hub, label=label, size=target, skip_bad=skip_bad)
    elif isinstance(data, str | Path):
        parts = _of_name(data, label, None if root is None else Path(root), target, skip_bad)
    else:
        parts = _of_object(data, target, skip_bad)
    return assemble(parts, seed=seed, test_fraction=test_fraction, size=target, device=device)


def _of_source(source: TensorSource) -> Parts:
    """A source to be split. If its normalization is no more than the fit of all its inputs, it is fitted anew on what
    stays in training, so that nothing of the test split gets in."""
    fitted = fit_normalization(source.inputs)
    own = source.normalization
    same = own.whitening is None and torch.equal(own.mean.cpu(), fitted.mean) and torch.equal(own.std.cpu(), fitted.std)
    return Parts(
        name=source.name,
        train=source.inputs,
        train_labels=source.labels,
        spec=source.input,
        classes=source.classes,
        normalization=None if same else own,
        places=source.places,
    )


def _of_object(data: object, size: tuple[int, int] | None, skip_bad: bool) -> Parts:
    if isinstance(data, tuple | list):
        flat = [v for pair in data for v in pair] if _nested(data) else list(data)
        if len(flat) in (2, 4):
            return read_arrays(*flat)
        raise PotstillError(
            f"a {type(data).__name__} of {len(data)} was given; give (x, y) or (x_train, y_train, x_test, y_test)"
        )
    if isinstance(data, Mapping):
        return read_mapping(data, "arrays")
    if isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_array(data)):
        return read_dataset(cast("Dataset[Any]", data), size=size, skip_bad=skip_bad)
    if isinstance(data, Source):
        raise PotstillError(f"{type(data).__name__} is a source already; give Splits(train=…, test=…)")
    what = "an array without labels" if _is_array(data) else f"a {type(data).__name__}"
    raise PotstillError(
        f"{what} is no data set; give a name, a path, arrays (x, y), or a torch or Hugging Face dataset"
    )


def _is_array(data: object) -> bool:
    return isinstance(data, np.ndarray | torch.Tensor)


def _nested(data: tuple[Any, ...] | list[Any]) -> bool:
    """Whether it is ((x_train, y_train), (x_test, y_test)), as Keras gives it."""
    return len(data) == 2 and all(isinstance(v, tuple) and len(v) == 2 for v in data)


def _of_name(
    data: str | Path, label: str | None, root: Path | None, size: tuple[int, int] | None, skip_bad: bool
) -> Parts:
    text = str(data)
    if isinstance(data, str):
        if data in KNOWN:
            _no_label(label, data)
            return read_bundled(data) if data in BUNDLED else read_known(data, root=root)
        if is_shards(data):
            _no_label(label, data)
            return read_shards(data, size=size, skip_bad=skip_bad)
    try:
        path = Path(data).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        raise PotstillError(f"{text}: no such file or folder; check the path") from None
    if path.is_dir():
        _no_label(label, text)
        return read_folder(path, size=size, skip_bad=skip_bad)
    if path.is_file():
        return _of_file(path, label, size, skip_bad)
    if isinstance(data, Path) or "/" in text or "\\" in text or text.startswith(("~", ".")) or path.suffix in _FILES:
        raise PotstillError(f"{text}: no such file or folder; check the path")
    raise unknown("data set", text, KNOWN)


def _of_file(path: Path, label: str | None, size: tuple[int, int] | None, skip_bad: bool) -> Parts:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_arrow(read_csv(path), None, label=label, name=path.name, base=path.parent, size=size)
    if suffix in (".parquet", ".pq"):
        table = read_parquet(path)
        return read_arrow(table, None, label=label, name=path.name, base=path.parent, size=size, skip_bad=skip_bad)
    _no_label(label, str(path))
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".tar":
        return read_shards(str(path), size=size, skip_bad=skip_bad)
    raise PotstillError(f"{path}: files ending in {suffix or 'nothing'} are not read; give one of {', '.join(_FILES)}")


def _no_label(label: str | None, what: str) -> None:
    if label is not None:
        raise PotstillError(f"{what} has its own labels; leave --label out (it names the column of a table)")
