"""``study``: the report card of a set, part by part, with what each will take said before it runs."""

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from potstill._util.outputs import read_json_object
from potstill._util.progress import ProgressReporter
from potstill._util.strict_json import parse_json
from potstill.dataset_file import Distilled
from potstill.diagnostics import PARTS, ClassDescriptions, DiagnosticOptions, default_parts, estimate_costs, make_bench
from potstill.diagnostics import run_diagnostics as measure
from potstill.errors import PotstillError, PotstillWarning
from potstill.evaluation import describe_data_mismatch
from potstill.execution import Executor, Serial, choose_executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.nn import CustomNetwork, parse_network
from potstill.reports.diagnosis import is_study
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_set_and_splits

__all__ = ["diagnose", "parts"]

SHORT = 20.0
"""Seconds below which processes are not started."""


def parts() -> tuple[str, ...]:
    """The parts of a study, cheap ones first."""
    return tuple(PARTS)


def diagnose(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    parts: Sequence[str] | str | None = None,
    plan: bool = False,
    split: str | None = None,
    students: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    real: Sequence[int] | None = None,
    teacher_steps: Sequence[int] | None = None,
    groups: int | None = None,
    descriptions: ClassDescriptions | str | Path | None = None,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: CountCallback = "auto",
) -> dict[str, Any]:
    """Diagnose a distilled set: copies of real samples, calibration, influence of items, and more, as JSON values.

    Args:
        distilled: a set, or the path of one, also of a file with the indices of a selection alone.
        data: the data that it was made of: anything `potstill.load_data` takes or returns.
        parts: parts to compute, one or several names of `potstill.api.diagnose.parts`. Default: all that suit the data.
        plan: return only the cost: ``expected`` (students, networks and seconds of each part) and ``seconds``.
        split: ``test`` or ``validation``: real samples that students are tested on. Default: ``test``, if there is one.
        students: students of each training set. Default: 3.
        steps: updates of a student. Default: 180.
        lr: learning rate of students. Default: what was learned with the set, else 0.03.
        real: for ``mixing``: real samples per class that are added to the set. Default: the part's own amounts.
        teacher_steps: for ``agreement`` and ``labeller``: updates after which networks of real data are compared.
            Default: the part's own.
        groups: for ``influence``: largest number of items that are left out one by one; of larger sets groups of one
            class are left out. Default: the part's own.
        descriptions: for ``zero-shot``, of pictures with texts that were read with ``attribute=``, the class of each:
            texts that describe each class, by class, or the path of a JSON file of such lists. Default: the names of
            the classes alone.
        network: network of the students. Default: what the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where students are trained, as for `potstill.distill`; the result does not depend on it. Default:
            processes where they help.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.

    Returns:
        The diagnosis, by part; with ``plan`` the cost of it.

    Raises:
        PotstillError: the set does not fit the data, there is no such part, or a number is out of its range.

    Warns:
        PotstillWarning: the set was not made of this training data.

    Examples:
        >>> small = potstill.distill("digits", "dm", ipc=1, steps=2, progress=None)
        >>> found = potstill.diagnose(small, "digits", parts="nearest", progress=None)
        >>> list(found["parts"])
        ['nearest']
    """
    keep_freed_memory()
    requested: dict[str, Any] = {n: tuple(v) for n, v in (("amounts", real), ("stops", teacher_steps)) if v is not None}
    requested |= {} if groups is None else {"groups": groups}
    requested |= {} if descriptions is None else {"descriptions": _read_descriptions(descriptions)}
    named = tuple(PARTS) if parts is None else (parts,) if isinstance(parts, str) else tuple(dict.fromkeys(parts))
    asked = DiagnosticOptions(
        parts=tuple(sorted(named, key=lambda n: [*PARTS].index(n) if n in PARTS else -1)), **requested
    )
    small, splits = load_set_and_splits(distilled, data, device)
    bench = make_bench(
        small, splits, network=parse_network(network), eval_split=split, students=students, steps=steps, lr=lr,
        seed=seed,
    )  # fmt: skip
    if parts is None:
        asked = dataclasses.replace(asked, parts=default_parts(bench))
    forecast = estimate_costs(bench, asked)
    seconds = math.fsum(part["seconds"] for part in forecast.values())
    if plan:
        return {"expected": forecast, "seconds": seconds, "network": bench.make.name, "asked": len(bench.eval_source)}
    if (doubt := describe_data_mismatch(small.metadata, splits)) is not None:
        warnings.warn(doubt, PotstillWarning, stacklevel=2)
    runner = resolve_executor(executor)
    if runner is None:
        runner = choose_executor(bench.students, bench.make.device, bench.make) if seconds > SHORT else Serial()
    with progress_context(progress) as watcher:
        said = ", ".join(f"{name} {of['seconds']:.2g} s" for name, of in forecast.items())
        if progress == "auto" or isinstance(progress, ProgressReporter):
            watcher.begin("study", '`parts=["nearest", "labeller"]`')
            watcher.note(f"to be computed, about, on one worker: {said}") if watcher.command_line else None
        count = count_callback(progress, watcher)
        return measure(dataclasses.replace(bench, executor=runner, report=count), asked, forecast)


def _read_descriptions(descriptions: ClassDescriptions | str | Path) -> ClassDescriptions:
    """Return descriptions as they are given, or those of a JSON file.

    Raises:
        PotstillError: the file is not there, or no JSON object.
    """
    if not isinstance(descriptions, str | Path):
        return descriptions
    path = Path(descriptions)
    try:
        content: ClassDescriptions = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: needs a JSON object of lists of texts by class, but {error}; write it") from None
    return content


def other_study(path: Path, file: Path) -> str:
    """Say what is at ``path`` instead of a report card of the set at ``file``."""
    held = read_json_object(path)
    if not is_study(held):
        return "is there already, and is no report card of a set"
    named = str(held.get("file"))
    return "" if (path.parent / named).resolve() == file.resolve() else f"holds the report card of {named[:80]}"


def relative_path(path: Path, out: Path) -> str:
    """Return the path of the set relative to the report card's folder, so that both can be moved together."""
    return os.path.relpath(path, out.parent)
