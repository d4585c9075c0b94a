"""The journal of a choice, from which an interrupted one continues."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.import_from_file import source_digests
from potstill.core import Source
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.nn import CustomNetwork, parse_network
from potstill.runs.spec import NetworkOption

__all__ = ["Journal", "own_files", "pack_rows", "stopwatch", "unpack_rows"]

T = TypeVar("T")
_FILE = "choice.json"
_FLOATS = "float64:"


def own_files(train: Source, network: NetworkOption) -> dict[str, str]:
    """Return the hashes of a person's own files that decide a set: those of the data and of the network."""
    parsed = parse_network(network)
    return source_digests([train, *([parsed.constructor] if isinstance(parsed, CustomNetwork) else [])])


def stopwatch(before: float = 0.0) -> Callable[[], float]:
    """Return a clock on the wall that shows the seconds from now on, and ``before``."""
    begun = time.monotonic() - before
    return lambda: time.monotonic() - begun


class Journal:
    """Finds by name, in one JSON file of a folder, which also holds the checkpoints of what is under way.

    Args:
        about: what a choice must be of to go on from them: JSON values.
        resume: go on from what is there; else it is removed.
        anyway: go on also where other versions computed it.

    Raises:
        PotstillError: there is nothing to go on from, or it is of another choice.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], versions: Mapping[str, Any], *, resume: bool, anyway: bool = False
    ) -> None:
        self.folder, self._path = folder, folder / _FILE
        self._head = json.loads(json.dumps({"about": about, "versions": versions}))
        self._found: dict[str, Any] = {}
        self.spent = 0.0
        """Seconds until the last find."""
        if resume:
            self._read(anyway)
        else:
            self.clear()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PotstillError(f"{folder}: must be a folder that you can write to ({error.strerror})") from error

    def _read(self, anyway: bool) -> None:
        try:
            kept = json.loads(self._path.read_text())
            head, self._found, self.spent = kept["head"], dict(kept["found"]), float(kept["spent"])
            about, versions = head["about"], head["versions"]
        except OSError as error:
            raise PotstillError(
                f"there is no unfinished choice to resume at {self.folder}; leave resume out to start one"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PotstillError(f"{self._path} is damaged; start again without resume") from error
        other = [name for name, value in self._head["about"].items() if about.get(name) != value]
        if not anyway and versions != self._head["versions"]:
            other.append("versions")
        if other:
            raise PotstillError(
                f"{self.folder}: a choice that was requested otherwise ({', '.join(other)}); repeat its command, or "
                "begin again without resume"
            )

    def once(self, name: str, find: Callable[[], T], seconds: Callable[[], float]) -> T:
        """Return the value of that name, or compute it by ``find`` and keep it; it is a JSON value.

        Args:
            seconds: of the choice until now.
        """
        if name not in self._found:
            self._found[name] = find()
            self.spent = seconds()
            kept = {"head": self._head, "found": self._found, "spent": self.spent}
            write_atomic(self._path, json.dumps(kept).encode())
        result: T = self._found[name]
        return result

    def clear(self) -> None:
        """Remove what is there, files of a choice alone."""
        if self.folder.is_file():
            self.folder.unlink()
        for path in (self._path, *self.folder.glob("*.checkpoint"), *self.folder.glob("*.checkpoint.before")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # none, or something else lies there
            self.folder.rmdir()


def pack_rows(rows: Float[Tensor, "n m"]) -> str:
    """Return numbers as text for the journal: bits where all are 0 or 1, else float64."""
    values = rows.double().numpy()
    if bool(np.isin(values, (0.0, 1.0)).all()):
        return np.packbits(values.astype(bool)).tobytes().hex()
    return _FLOATS + values.astype("<f8").tobytes().hex()


def unpack_rows(text: str, shape: tuple[int, int]) -> Float[Tensor, "n m"]:
    """Return what `pack_rows` packed, float64."""
    if text.startswith(_FLOATS):
        return torch.from_numpy(np.frombuffer(bytes.fromhex(text.removeprefix(_FLOATS)), "<f8").reshape(shape).copy())
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=shape[0] * shape[1])
    return torch.from_numpy(bits.reshape(shape).astype(np.float64))
