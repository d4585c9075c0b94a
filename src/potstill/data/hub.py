"""Hugging Face datasets: from the Hub, from a ``save_to_disk`` folder, or in Python."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from potstill._util.optional import import_optional
from potstill.data.error_text import reason
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawSplits
from potstill.data.table import read_tables
from potstill.errors import PotstillError

__all__ = ["HubDataset", "fetch_hub", "is_hub_object", "is_saved", "open_hub", "read_hub", "select_splits"]

_TYPES = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
_OF_ROWS = ("parquet", "arrow", "json", "csv", "text", "sql")
"""Builders that read rows as a person wrote them, so that paths in them are that person's; folder builders such as
``imagefolder`` find their files themselves."""
_VALIDATION = ("validation", "valid", "val", "dev")


class HubDataset(NamedTuple):
    """A Hugging Face dataset, or several by split."""

    data: Any
    name: str
    base: Path | None = None
    """Folder that relative image paths must lie in; ``None`` for a dataset made in this process."""


def open_hub(data: object) -> HubDataset | None:
    """Open the dataset that ``data`` is or names (``hub:NAME``, a ``save_to_disk`` folder); ``None`` for anything
    else.

    Raises:
        PotstillError: it cannot be fetched, or the folder is incomplete.
    """
    if is_hub_object(data):
        first = next(iter(data.values()), None) if isinstance(data, Mapping) else data
        builder = getattr(first, "builder_name", None)
        return HubDataset(
            data, str(getattr(first, "dataset_name", None) or builder or "dataset"),
            _downloads() if builder in _OF_ROWS else None,
        )  # fmt: skip
    if isinstance(data, str) and data.startswith("hub:"):
        name, _, config = data.removeprefix("hub:").partition(":")
        if not name:
            raise PotstillError("hub: needs a name, as in hub:ylecun/mnist or hub:ufldl-stanford/svhn:cropped_digits")
        return HubDataset(fetch_hub(name, config or None), name, _downloads())
    if not isinstance(data, str | Path):
        return None
    with suppress(RuntimeError):  # ~somebody who has no home here
        path = Path(data).expanduser()
        if os.path.isdir(path) and is_saved(path):  # as Path.is_dir, but False where no file can have that name
            return HubDataset(_saved(path), path.resolve().name, path)
    return None


def _downloads() -> Path:
    datasets = import_optional("datasets", "data of the Hugging Face Hub", "hub")
    return Path(datasets.config.HF_CACHE_HOME)


def is_hub_object(data: object) -> bool:
    """Return True for a Hugging Face dataset; does not import ``datasets``."""
    return any(c.__module__.partition(".")[0] == "datasets" and c.__name__ in _TYPES for c in type(data).__mro__)


def is_saved(path: Path) -> bool:
    """Return True if ``path`` was written by ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def fetch_hub(name: str, config: str | None = None) -> Any:
    """Load ``datasets.load_dataset(name, config)`` and turn its many errors into one.

    Raises:
        PotstillError: the Hub cannot be reached, has no such data set, or has none that loads without running its code.
    """
    datasets = import_optional("datasets", f"hub:{name}", "hub")
    cached = (Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()
    if not cached and not _reachable(datasets.config.HF_ENDPOINT):
        raise PotstillError(f"hub:{name}: the Hub cannot be reached and no copy is cached; check the network")
    try:
        return datasets.load_dataset(name, config)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise PotstillError(f"hub:{name}: cannot be loaded ({reason(error)}); check the name and the network") from None


def _reachable(endpoint: str) -> bool:
    """Return True if the Hub's host answers; the client itself retries for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    if any(os.environ.get(k) for k in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def _saved(path: Path) -> Any:
    datasets = import_optional("datasets", str(path), "hub")
    try:
        return datasets.load_from_disk(str(path))
    except (datasets.exceptions.DatasetsError, OSError, ValueError, KeyError) as error:
        raise PotstillError(f"{path}: not a whole save_to_disk folder ({reason(error)}); save it again") from None


def select_splits(data: Any, name: str) -> tuple[Any, Any, tuple[str, ...]]:
    """Return the training and the test dataset of ``data``, and notes.

    Raises:
        PotstillError: no ``train`` among several splits, or a set that is read from the net as it goes.
    """
    train, test, notes = _choose_splits(data, name)
    for part in (train, test):
        if part is not None and not (hasattr(part, "with_format") and hasattr(part, "num_rows")):
            raise PotstillError(f"{name}: is streamed ({type(part).__name__}); load it with streaming=False")
    return train, test, notes


def _choose_splits(data: Any, name: str) -> tuple[Any, Any, tuple[str, ...]]:
    if not isinstance(data, Mapping):
        return data, None, ()
    keys = list(data)
    if "train" not in data and len(keys) != 1:
        raise PotstillError(f"{name}: has the splits {', '.join(keys) or 'none'}, but no train; pass one of them alone")
    first = "train" if "train" in data else keys[0]
    second = next((k for k in ("test", *_VALIDATION) if k in data and k != first), None)
    notes = [] if second in (None, "test") else [f"{name}: there is no test split, so {second} is the test split"]
    if unread := [k for k in keys if k not in (first, second)]:
        notes.append(f"{name}: not read: the splits {', '.join(unread)}")
    return data[first], data[second] if second else None, tuple(notes)


def read_hub(opened: HubDataset, options: ReadOptions) -> RawSplits:
    """Read a ``datasets.Dataset`` or ``DatasetDict``. Errors as `select_splits` and ``table.read_tables``."""
    train, test, notes = select_splits(opened.data, opened.name)
    tables = [part.with_format("arrow")[:] for part in (train, test) if part is not None]
    parts = read_tables(tables, options, name=opened.name, base=opened.base)
    return replace(parts, notes=(*notes, *parts.notes))
