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
from potstill.comparison.models import ModelCell, ModelMaker, model_cells
from potstill.core import Method
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.evaluation.model_baseline import MODEL
from potstill.execution import Executor, Serial, resolve_executor
from potstill.nn import CustomNetwork, parse_network
from potstill.runs.arguments import parse_baselines, parse_preset, parse_time_limit
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
    baselines: Sequence[str] | str = (),
    **overrides: Any,
) -> dict[str, Any]:
    """Distil and evaluate every method at every size, and rank them; ``random`` is always among them.

    The grid is methods × sizes × parametrizations × codecs × repeats × protocols. Each cell is two files in ``out``:
    the set, and its scorecard under a protocol, with settings, versions, cost and the curve of the distillation. A cell
    that is there already, made of the same data with the same settings, is not made again, so an interrupted comparison
    continues where it stopped, and a larger one takes over what a smaller one made. A cell that was made otherwise is
    neither adopted nor replaced: the comparison then ends before it begins, and names the file and the difference.

    ``out/leaderboard.json`` is written after every set and holds the rows, best first within each size, with items,
    bytes and codec, and each row's difference from random with its interval: at a size in items from as many random
    samples, at their own bytes, where `evaluate` measures random samples in the bytes of the set. A set that is
    labelled by the teacher that made it is held against random samples of the same bytes that this teacher labels too.
    Every pair at one size under one protocol is tested, corrected by Holm; rows that are not told apart from the best
    are marked, which does not mean that they are as good. With one set of each, students and test samples are tested,
    which tells sets apart and not methods; with several, the means of the sets, paired by their seeds, and test
    samples.

    Args:
        data: anything `potstill.load_data` takes or returns.
        methods: registered names, ``file.py:Class``, or methods as values, such as ``DM(iterations=5)``, which run as
            they are, whatever ``preset`` is.
        ipc: size budgets: items per class, one or several. At least one budget is required; default: none.
        items: size budgets: items in all, for data without classes. Default: none.
        bytes: size budgets: stored bytes, numbers or text such as ``20kB``, beside or in place of ``ipc``. Default:
            none.
        balance: division of ``items`` and ``bytes`` among classes: ``natural`` (default) or ``equal``. ``ipc`` stays
            equal.
        parametrizations: parametrizations to try, for the methods that have a choice. Default: each method's own.
        codecs: codecs to try. Default: as for `potstill.distill`.
        repeats: sets of each cell, with the seeds ``seed``, ``seed`` + 1, …
        out: folder of the results, made if it is not there.
        preset: ``quick``, ``good`` or ``published``, as for `potstill.distill`. Default: ``quick``.
        time_limit: time for each set, preparation included: seconds, or text such as ``10m``. Default: none.
        seeds: students per set. With one, intervals are of this one student, and nothing is tested. Default: the
            protocol's number.
        protocol: a registered name, or a `potstill.Protocol`.
        protocols: several protocols, in place of ``protocol``. Default: ``protocol`` alone.
        network: network to distil and to measure with, as for `potstill.distill`. Default: each method's and
            protocol's.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: seed of the first set of each cell.
        options: fields of methods by the method's name: ``{"dm": {"iterations": 500}}``; and of one protocol:
            ``{"protocol:dc": {"epochs": 50}}``. Default: none.
        executor: where cells are made: ``serial``, ``processes`` (as many at a time as there are cores), or a
            `potstill.execution.Executor`. Default: one after another here, each with as many processes as help.
        progress: callback ``progress(cell, progress)`` after every step of distilling and every student, where cells
            are made in this process, and after every network of the baseline ``model``. Default: silent.
        snapshots: save some inputs of each made set at a few steps, for the page.
        baselines: names of further baselines. ``model`` is a small quantised network in the same bytes, trained on all
            training data: what to ship where nothing has to be trained. One is measured at each size, and every set
            of that size is tested against it (``models`` of the result). At a size in items it has the bytes of the
            smallest set of that size. Default: none.
        **overrides: fields of every protocol, e.g. ``epochs=50``.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        PotstillError: ``out`` cannot be written, holds cells that were made otherwise, or another comparison runs
            there; or a method or protocol has no such option.
        Interrupted: a signal came; the same call continues from the checkpoint of the cell in progress.

    Examples:
        >>> board = potstill.compare(
        ...     "digits", ["herding"], ipc=1, out="board", seeds=1, network="convnet-w8-d1", epochs=1
        ... )
        >>> sorted(row["method"] for row in board["rows"])
        ['herding', 'random']
    """
    sizes, options = parse_sizes(ipc, items, bytes), options or {}
    if type(repeats) is not int or repeats < 1:
        raise PotstillError(f"repeats must be a whole number of at least 1, not {repeats!r}; leave it out for one set")
    requested_methods, out = parse_methods(methods, options), Path(out)
    limit = parse_time_limit(time_limit)
    extra = parse_baselines(baselines)
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
        raise PotstillError(f"{out}: must be a folder that you can write to ({error.strerror})") from error
    leaderboard_file = out / "leaderboard.json"
    if leaderboard_file.exists() and "rows" not in read_json_object(leaderboard_file):
        raise PotstillError(f"{leaderboard_file}: is there already, and is not a leaderboard; choose another folder")
    check_not_input(out, [splits], folder=True)
    with exclusive_output(leaderboard_file):
        cells = grid.cells(shared)
        for cell in cells:
            cell.check(splits)
        with_model = MODEL in extra
        for model_cell in model_cells(cells) if with_model else ():
            model_cell.read()  # one that was made otherwise is refused before any work
        runner = resolve_executor(executor)
        is_serial = runner is None or isinstance(runner, Serial)
        make = CellMaker(
            splits=splits, executor=None if runner is None else Serial(), progress=progress if is_serial else None,
            snapshots=snapshots,
        )  # fmt: skip
        results: list[list[Result]] = []
        models: list[tuple[ModelCell, Result]] | None = [] if with_model else None
        written = b""
        for of_cell in (runner or Serial(torch.get_num_threads())).map(make, cells):
            results.append(of_cell)
            written = to_json(build_leaderboard(cells, results, splits, repeats, models))
            write_atomic(leaderboard_file, written)  # so that a page can show what is there
        make_model = ModelMaker(splits=splits, executor=runner, progress=progress)
        for model_cell in model_cells(cells, results) if models is not None else ():
            models = [*(models or ()), (model_cell, make_model(model_cell))]
            written = to_json(build_leaderboard(cells, results, splits, repeats, models))
            write_atomic(leaderboard_file, written)
    leaderboard: dict[str, Any] = json.loads(written)
    return leaderboard
