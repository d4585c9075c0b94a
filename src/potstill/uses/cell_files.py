"""Cells of a use: independent measurements, each a JSON file, computed by any executor and read where it is there."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from potstill._util.file_lock import OutputBusyError, exclusive_output
from potstill._util.formatting import parse_size
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.execution import Executor, Serial, choose_executor

__all__ = ["CellFile", "WayCell", "compute_missing", "parse_sizes", "read_json", "run_cells", "write_json"]

POLL = 0.2
"""Seconds between looks at cells that other processes compute."""


class CellFile(Protocol):
    """A cell that says where it is written and what decides its contents."""

    @property
    def stem(self) -> str:
        """Name of its file."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that decide its contents besides those of all cells."""
        ...


@dataclass(frozen=True, kw_only=True)
class WayCell:
    """A network of one way, by its number (a `CellFile`)."""

    way: str
    number: int

    @property
    def stem(self) -> str:
        name = "".join(c if c.isalnum() else "_" for c in self.way)
        return f"{name}-{self.number}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide its contents besides those of all cells."""
        return {"way": self.way, "number": self.number}


C = TypeVar("C", bound=CellFile)


def run_cells(
    cells: Sequence[C], compute: Callable[[C], dict[str, Any]], folder: Path, settings: Mapping[str, Any],
    executor: Executor | None, device: torch.device, progress: Callable[[int, int], object], what: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return all cells in order, from their files where those are there; each new one is written as it is done.

    Args:
        cells: the measurements.
        compute: of one cell; sent to a worker once.
        folder: folder of the use; the files are in ``cells`` there.
        settings: settings that decide the contents of all cells.
        executor: where cells run; ``None``: as many processes as help.
        device: of the computation.
        progress: callback of the numbers of finished and all cells.
        what: name of the use, for errors.

    Raises:
        PotstillError: a file is of something else, or of other settings or data.
    """
    paths = [folder / "cells" / f"{cell.stem}.json" for cell in cells]
    whole = [{**settings, **cell.settings} for cell in cells]
    results = [read_json(path, one, what) for path, one in zip(paths, whole, strict=True)]
    missing = [n for n, result in enumerate(results) if result is None]
    done = len(cells) - len(missing)
    if cells:
        progress(done, len(cells))
    if missing:
        jobs = [cells[n] for n in missing]
        runner = executor or choose_executor(len(jobs), device, compute, *jobs)
        own = [paths[n] for n in missing], [whole[n] for n in missing]
        for at, result in compute_missing(jobs, compute, *own, runner, what):
            results[missing[at]] = result
            done += 1
            progress(done, len(cells))
    return [{name: value for name, value in (one or {}).items() if name != "settings"} for one in results]


J = TypeVar("J")


def compute_missing(
    jobs: Sequence[J], compute: Callable[[J], dict[str, Any]], paths: Sequence[Path],
    settings: Sequence[Mapping[str, Any]], executor: Executor, what: str,
) -> Iterator[tuple[int, dict[str, Any]]]:  # fmt: skip
    """Yield the position and the result of every job, each as soon as its file is there.

    With `Serial`, several processes share the work of a folder: a cell that another process computes is left for
    later and read when it is written, or computed here when that process ends without it.

    Args:
        jobs: cells that had no file.
        compute: of one cell; sent to a worker once.
        paths: files of the cells.
        settings: settings that decide the contents of each.
        executor: where cells run.
        what: name of the use, for errors.

    Raises:
        PotstillError: another process wrote a file of something else, or of other settings or data.
    """
    if not isinstance(executor, Serial):
        for n, result in enumerate(executor.map(compute, jobs)):
            write_json(paths[n], {"settings": settings[n], **result})
            yield n, result
        return
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)  # locks are files there
    left = list(range(len(jobs)))
    while left:
        busy = []
        for n in left:
            with ExitStack() as held:
                try:
                    held.enter_context(exclusive_output(paths[n]))
                except OutputBusyError:
                    busy.append(n)
                    continue
                if (known := read_json(paths[n], settings[n], what)) is None:
                    result = next(executor.map(compute, [jobs[n]]))
                    write_json(paths[n], {"settings": settings[n], **result})
                else:
                    result = known
            yield n, result
        if len(busy) == len(left):
            time.sleep(POLL)
        left = busy


def read_json(path: Path, settings: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """Return what a cell's file holds, or ``None`` where there is no such file.

    Raises:
        PotstillError: the file is of something else, or of other settings or data.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or "settings" not in content:
        raise PotstillError(f"{path}: holds no cell of a {what}; choose another folder")
    if content["settings"] != json.loads(json.dumps(settings)):
        raise PotstillError(f"{path}: was measured with other settings or data; choose another folder")
    return content


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def parse_sizes(sizes: int | str | Sequence[int | str]) -> list[int]:
    """Return sizes in bytes, given as numbers or as text such as ``2kB``.

    Raises:
        PotstillError: one cannot be read, is below 1 or stands twice, or there is none.
    """
    every = [sizes] if isinstance(sizes, int | str) else list(sizes)
    try:
        parsed = [parse_size(size) if isinstance(size, str) else size for size in every]
    except ValueError as error:
        raise PotstillError(f"bytes: {error}") from error
    if not parsed or len(set(parsed)) < len(parsed) or min(parsed) < 1:
        raise PotstillError(f"bytes must be one or more different numbers of at least 1, not {every}; change them")
    return parsed
