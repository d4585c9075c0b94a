"""A leaderboard on the user's own data: every method at every size, each cell kept as it is done."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from potstill._util.file_lock import exclusive_output
from potstill._util.outputs import check_not_input, read_json_object
from potstill.comparison.cells import CellMaker, Result, SharedSettings, to_json
from potstill.comparison.grid import Grid, as_tuple, check_storage, parse_measures, parse_methods, parse_sizes
from potstill.comparison.leaderboard import FAIR, build_leaderboard
from potstill.core import Method
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.execution import Executor, Serial, resolve_executor
from potstill.nn import CustomNetwork, parse_network
from potstill.runs.arguments import parse_preset, parse_time_limit
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.loop import Progress

__all__ = ["FAIR", "compare"]


def compare(
    data: Any,
    methods: Sequence[str | Method[Any]] | str | Method[Any],
    ipc: Sequence[int] | int | None = None,
    *,
    items: Sequence[int] | int | None = None,
    bytes: Sequence[int | str] | int | str | None = None,
    balance: str | None = None,
    parametrizations: Sequence[str] | str = (),
    codecs: Sequence[str] | str = (),
    repeats: int = 1,
    out: str | Path,
    preset: str | None = None,
    time_limit: str | float | None = None,
    seeds: int | None = None,
    protocol: str | Protocol = "potstill",
    protocols: Sequence[str | Protocol] | str | None = None,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    executor: Executor | str | None = None,
    progress: Callable[[str, Progress], None] | None = None,
    snapshots: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Distil and evaluate every method at every size; ``random`` is always among them.

    The grid is methods × sizes × parametrizations × codecs × repeats × protocols. Each cell is two files in ``out``:
    the set, and its scorecard under a protocol, with settings, versions, cost and the curve of the distillation. A cell
    that is there already, made of the same data with the same settings, is not made again, so an interrupted comparison
    goes on where it stopped, and a larger one takes over what a smaller one made. What is there and was made otherwise
    is neither adopted nor replaced: it may hold samples that this comparison tests on, and it may be all that is left
    of hours of work. The comparison then ends before it begins, and says which file differs in what.

    ``out/leaderboard.json`` is written after every set and holds the rows, best first within each size, with items,
    bytes and codec, and each row's difference from random with its interval: at a size in items from as many random
    samples, at their own bytes, where `evaluate` measures random samples in the bytes of the set. A set that is
    labelled by the teacher that made it is held against random samples of the same bytes that this teacher labels too.
    Every pair at one size under one protocol is tested, corrected by Holm; what cannot be told apart from the best is
    said to be so, which is not to be as good. With one set of each, students and test samples are tested, which tells
    sets apart and not methods; with several, the means of the sets, paired by their seeds, and test samples.

    Args:
        data: anything ``load_data`` takes.
        methods: registered names, ``file.py:Class``, or methods as values, such as ``DM(iterations=5)``, which are
            called so on the board and run as they are, whatever ``preset`` says.
        ipc: items per class.
        items: items in all, in place of ``ipc``: where there are no classes.
        bytes: stored bytes, numbers or text such as ``20kB``, beside or in place of items.
        balance: how items and bytes are shared out between classes, as for `potstill.distill`; ``ipc`` stays equal.
        parametrizations: what is stored and optimised, each in turn, by the methods that have it to choose. Default:
            the methods' own.
        codecs: how values are written, each in turn. Default: as `potstill.distill` does.
        repeats: sets of each, with the seeds ``seed``, ``seed`` + 1, …
        network: to distil and to measure with: a registered name, or one of your own as `potstill.distill` takes it.
        out: folder, made if it is not there.
        preset: how hard each method tries, as for `potstill.distill`.
        time_limit: time for each set that is made, all that it takes: seconds, or text such as ``10m``.
        seeds: students per set; with one, intervals are of this one student, and nothing is tested.
        protocol: how to measure: a registered name, or a protocol as a value.
        protocols: how to measure: several, in place of ``protocol``.
        options: fields of methods, by the method's name: ``{"dm": {"iterations": 500}}``; and of one protocol's recipe:
            ``{"protocol:dc": {"epochs": 50}}``.
        executor: where cells are made: ``serial``, ``processes`` (so many at a time as there are cores), or an
            `potstill.execution.Executor`. Default: one after another here, each with as many processes as help.
        progress: called with the cell's name after every step of distilling, where cells are made in this process.
        snapshots: keep some inputs of each made set at a few steps, beside it, for the page.
        **overrides: fields of every protocol's recipe, e.g. ``epochs=50``.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        PotstillError: ``out`` cannot be written, holds cells that were made otherwise, or another comparison runs
            there; or a method or protocol has no such option.
        Interrupted: a signal came; the same call goes on from the checkpoint of the cell under way.
    """
    sizes, options = parse_sizes(ipc, items, bytes), options or {}
    if type(repeats) is not int or repeats < 1:
        raise PotstillError(f"repeats must be a whole number of at least 1, not {repeats!r}; leave it out for one set")
    requested_methods, out = parse_methods(methods, options), Path(out)
    limit = parse_time_limit(time_limit)
    grid = Grid(
        sizes=sizes, methods=requested_methods, parametrizations=as_tuple(parametrizations), codecs=as_tuple(codecs),
        repeats=repeats, options=options,
    )  # fmt: skip
    measures = parse_measures(as_tuple(protocol if protocols is None else protocols), seeds, overrides, options)
    splits = as_splits(data, pick_device(device))
    check_storage(grid.parametrizations, grid.codecs, splits.train)
    shared = SharedSettings(
        data=source_key(splits.train), seed=seed, network=parse_network(network),
        time_limit=None if limit is None else limit.seconds, preset=parse_preset(preset, ""), balance=balance,
        measures=measures, folder=out, device=device,
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PotstillError(f"{out}: a folder that can be written is needed ({error.strerror})") from error
    leaderboard_file = out / "leaderboard.json"
    if leaderboard_file.exists() and "rows" not in read_json_object(leaderboard_file):
        raise PotstillError(f"{leaderboard_file}: is there already, and is no leaderboard; choose another folder")
    check_not_input(out, [splits], folder=True)
    with exclusive_output(leaderboard_file):
        cells = grid.cells(shared)
        for cell in cells:
            cell.check(splits)
        runner = resolve_executor(executor)
        is_serial = runner is None or isinstance(runner, Serial)
        make = CellMaker(
            splits=splits, executor=None if runner is None else Serial(), progress=progress if is_serial else None,
            snapshots=snapshots,
        )  # fmt: skip
        results: list[list[Result]] = []
        written = b""
        for of_cell in (runner or Serial(torch.get_num_threads())).map(make, cells):
            results.append(of_cell)
            written = to_json(build_leaderboard(cells, results, splits, repeats))
            write_atomic(leaderboard_file, written)  # so that a page can show what is there
    leaderboard: dict[str, Any] = json.loads(written)
    return leaderboard
