"""Load real data onto the device that computes on it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from potstill.core import Splits
from potstill.data import load as load_splits
from potstill.data.read_options import merge_read_options
from potstill.dataset_file import Distilled, is_index_file, load, materialize, read_indices
from potstill.errors import PotstillError

__all__ = ["as_splits", "load_as_made", "load_data", "load_set_and_splits", "pick_device"]


def pick_device(device: str) -> torch.device:
    """Return the torch device; ``auto`` is the first GPU if there is one.

    Raises:
        PotstillError: the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PotstillError(f"device {device!r} was asked for, but torch finds no GPU; use device auto or cpu")
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
    device: torch.device | str = "cpu",
    **options: Any,
) -> Splits:
    """Return real data as a training split and a test split, with notes on what the loader decided.

    Args:
        data_root: folder of the files of known names; default: ``$POTSTILL_DATA``, else the system's folders.
        split_seed: seed of the test split where the data have none. Keep it the same for one data set.
        data, label, test_fraction, size, skip_bad, stream, device, options: as for `potstill.data.load`.

    Raises:
        PotstillError: with one line on what was required, what was found and what to change.
    """
    return load_splits(
        data, label=label, root=data_root, seed=split_seed, test_fraction=test_fraction, size=size, skip_bad=skip_bad,
        stream=stream, device=device, **options,
    )  # fmt: skip


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
