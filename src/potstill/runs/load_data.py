"""Load real data onto the device that computes on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from potstill._util.progress import Callback
from potstill.core import Splits, Task
from potstill.data import load as load_splits
from potstill.data.read_options import merge_read_options
from potstill.data.unlabelled import UNLABELLED, find_unlabelled
from potstill.dataset_file import Distilled, is_index_file, load, materialize, read_indices
from potstill.errors import PotstillError
from potstill.runs.vector_targets import VectorTargets, with_vector_targets

__all__ = ["as_splits", "load_as_made", "load_data", "load_set_and_splits", "pick_device"]


def pick_device(device: str) -> torch.device:
    """Return the torch device; ``auto`` is the first GPU if there is one.

    Raises:
        PotstillError: the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PotstillError(f"device {device!r} was requested, but torch finds no GPU; use device auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise PotstillError(f"device must be auto, cpu or cuda, not {device!r}") from error


def load_data(
    data: object,
    *,
    label: str | None = None,
    data_root: str | Path | None = None,
    split_seed: int = 0,
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
    targets: VectorTargets | None = None,
    preparing: Callback | None = None,
) -> Splits:
    """Read real data as a training split and a test split, with notes on what was decided.

    Args:
        data: the data, in one of these forms:

            - a bundled or known name: ``digits``, ``mnist-5k``, ``cifar10``; ``potstill data`` lists them
            - a folder of images: ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``
            - a folder of texts or sounds, ``.txt``, ``.wav``, ``.flac``, ``.ogg`` or ``.mp3`` files in the same folders
            - a file: ``.npz`` (``x_train``, ``y_train``, ``x_test``, ``y_test``), ``.csv``, ``.tsv``, ``.parquet``,
              ``.jsonl`` (JSON lines)
            - WebDataset shards: ``train-{000..099}.tar``
            - ``hub:NAME`` or ``hub:NAME:CONFIG`` of the Hugging Face Hub, or a folder that ``save_to_disk`` wrote
            - arrays: ``(x, y)``, ``(x_train, y_train, x_test, y_test)``, or a mapping with these names
            - a data frame of pandas, polars or Arrow, with its labels in a column, or ``(frame, y)``
            - a torch ``Dataset`` of (input, label), or a Hugging Face ``Dataset``
            - a `potstill.TensorSource`; a `potstill.Splits` is returned as it is

        label: column of the labels, for tables and Hugging Face data. Default: ``label``, ``labels`` or ``fine_label``.
            With ``task="regression"`` several columns of targets may be named, with commas between them.
        data_root: folder of the files of known names. Default: ``$POTSTILL_DATA``, else the system's folders.
        split_seed: seed of the test split where the data have none. Keep it the same for one data set.
        test_fraction: fraction of each class that this split takes, at least 0 and below 1. With 0 there is no test
            split.
        size: height and width that images are resized to, in pixels; one number for a square. Default: their own.
        skip_bad: leave out image files that cannot be read, with a note, instead of raising at the first. Streamed data
            are decoded once for it.
        stream: decode images when they are needed instead of holding all of them in memory: for folders, shards,
            Parquet and Hugging Face data. Default: where they would take more than half of the memory, with a note.
        missing: treatment of missing values in a table: ``impute`` them from the training part (the median; a category
            of its own), ``drop`` their rows, or ``refuse`` (default). Series with classes are imputed on lines between
            neighbours.
        remove_columns: columns of a table that are not read (identifiers, names, what is known only afterwards): one
            name, or several. Default: none.
        text: column of a table that holds texts. Default: the only column of texts of several words, if there is one.
        representation: vectors of texts: ``latent:size=64,words=4096`` (TF-IDF and its leading directions, fitted on
            training texts), ``tokens:size=64,words=4096,updates=1000`` (word vectors of a small network that learns
            training texts without labels) or ``hashed:size=1024`` (no state). Default: ``latent``; of pairs, words. Of
            series with classes: ``resample`` or ``pad``, which make them equally long, with ``length`` and ``scale``.
            Default: as they are. Of sounds ``log-mel`` with ``rate``, ``mels``, ``seconds``, ``level=file`` and
            ``trim``. Of clips ``thirds`` (default), ``dynamic``, ``mean``, ``middle`` or ``grid:frames=9``.
        encode: your own representation: a function from a list of texts to an array (n, d). Default: none.
        series: column that tells several series apart, for the task ``forecast`` or where each series has a class.
            Default: one series.
        horizontal_flip: True if a mirrored image keeps its class, so that augmentations may mirror it. Default: False
            for the known digits, True for other images, with a note.
        duplicates: test samples that are in the training part, too. ``exact`` copies are counted by default, of
            streamed data on request; ``near`` counts nearly equal ones as well; ``together`` keeps copies on one side
            of a split that is drawn here.
        check_cache: compare the contents of files that were decoded before, not only their names, sizes and times.
        device: device that holds the inputs and makes batches.
        task: learning task: ``regression``, ``forecast:window=96,horizon=24``, ``retrieval`` or ``multi-label``, with
            settings after a colon, or a task as a value. Default: classification.
        kind: kind of data, which chooses among several loaders: ``series`` for arrays (n, channels, length) of series
            with classes. Default: as the data show.
        group: related samples that stay on one side of a drawn split (frames of a clip, images of a patient): a column
            of a table; for files ``parent`` (the folder of each) or a regular expression on the path of each; the name
            of an array of an ``.npz``; or an array of n groups, the training part first. Default: no groups.
        attribute: sex, colour, hospital: an attribute of each sample that has its values on both sides of a split, for
            `potstill.audit.fairness.audit_fairness` and ``real_weights``: the same forms as ``group``. A table's column
            stays an input; ``COLUMN:excluded`` leaves it out. Default: none.
        normalization: normalization to use instead of published constants or a fit on the training part: a
            ``Normalization``, or an earlier set or source that has one. Default: none.
        targets: vectors in place of labels, which need not be there (docs/guides/representations.md):
            ``representations``, of a network that is trained here without labels, with settings as in
            ``representations:size=32``; a file ``….npy`` or an array of n vectors, the training part's first; or your
            own function of pictures (n, c, h, w) in [0, 1] to vectors (n, d). Default: none.
        preparing: callback ``preparing(name, done, total)`` while a network of targets or of words is trained. Default:
            silent.

    Returns:
        The splits. ``train`` and ``test`` are sources: inputs (n, …) in memory, or decoded as they are streamed.

    Raises:
        PotstillError: the data do not exist, are damaged or have no labels, or an option does not suit them.

    Examples:
        >>> splits = potstill.load_data("digits")
        >>> len(splits.train), len(splits.test)
        (1438, 359)
        >>> x, y = np.random.default_rng(0).random((60, 4)), np.arange(60) % 3
        >>> splits = potstill.load_data((x, y), test_fraction=0.25)
        >>> splits.train.classes
        ('0', '1', '2')
    """
    if targets is not None:
        if task is not None:
            raise PotstillError("vectors as targets are a task of their own; leave `task=` or `targets=` out")
        task = None if find_unlabelled(data) is None else UNLABELLED
    read = load_splits(
        data, label=label, root=data_root, seed=split_seed, test_fraction=test_fraction, size=size, skip_bad=skip_bad,
        stream=False if targets is not None and stream is None else stream, missing=missing,
        remove_columns=remove_columns, text=text, representation=representation, encode=encode, series=series,
        horizontal_flip=horizontal_flip, duplicates=duplicates, check_cache=check_cache, device=device, task=task,
        kind=kind, group=group, attribute=attribute, normalization=normalization, progress=preparing,
    )  # fmt: skip
    if targets is None:
        return read
    if stream is None:
        read = replace(read, reading={name: value for name, value in read.reading.items() if name != "stream"})
    return with_vector_targets(read, targets, progress=preparing)


def load_as_made(card: Mapping[str, Any], data: object, **options: Any) -> Splits:
    """Read data with the options in the metadata of a set that was made of them.

    Args:
        card: metadata of the set.
        data: as for `load_data`; ``Splits`` are returned as they are.
        options: options of `load_data` that win over those of the set, with a note; ``None``: not given.

    Raises:
        PotstillError: as `load_data` raises it, or the set's options are not valid.
    """
    if isinstance(data, Splits):
        return data
    reading, notes = merge_read_options(card, options)
    if str(card.get("source", {}).get("hash")).startswith("encoded:"):
        reading.setdefault("stream", True)  # else its samples would have other hashes
    splits = load_data(data, **reading)
    return replace(splits, notes=(*notes, *splits.notes))


def as_splits(data: Any, device: torch.device, card: Mapping[str, Any] | None = None) -> Splits:
    """Return ``data``, which `load_data` takes or returned, as splits on ``device``.

    Args:
        card: metadata of a set that was made of ``data``, whose reading options apply.
    """
    splits = data if isinstance(data, Splits) else load_data(data) if card is None else load_as_made(card, data)
    test = None if splits.test is None else splits.test.to(device)
    return replace(splits, train=splits.train.to(device), test=test)


def load_set_and_splits(distilled: Distilled | str | Path, data: Any, device: str) -> tuple[Distilled, Splits]:
    """Return a distilled set with the real data that it was made of.

    Args:
        distilled: a set, or the path of one, also of one that holds the indices of a selection alone.
        data: as for `load_data`; the set's own reading options apply.
        device: device of the data.
    """
    if isinstance(distilled, Distilled):
        return distilled, as_splits(data, pick_device(device), distilled.metadata)
    path = Path(distilled)
    if not is_index_file(path):
        return load_set_and_splits(load(path), data, device)
    splits = as_splits(data, pick_device(device), read_indices(path)[1])
    return materialize(path, splits.train), splits
