"""Commands that measure sets, and pages of what was measured."""

import os
import shlex
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from potstill.cli.ranked import board_text
from potstill.cli.runners.parts import Answer, carded, load_data, workers
from potstill.cli.scaled import scaling_text

from potstill._util.progress import Watcher
from potstill.cli.commands import Compare, Evaluate, Label, Report, Scaling, View
from potstill.cli.parsing import Parsed
from potstill.cli.text import json_document, plural
from potstill.errors import PotstillError, PotstillWarning

if TYPE_CHECKING:
    from potstill.labels.label_file import LabelStore

__all__ = ["run_compare", "run_evaluate", "run_label", "run_report", "run_scaling", "run_view"]

_LITTLE = 0.5
"""Of the probability: labels that keep less say little of what the teacher said."""


def run_evaluate(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output
    from potstill.api.evaluate import evaluate
    from potstill.dataset_file import Distilled, holds_indices, load, read_indices, write_atomic
    from potstill.evaluation import describe_data_mismatch
    from potstill.evaluation.scorecard import describe_other_scorecard

    command = parsed.command
    assert isinstance(command, Evaluate)
    if command.out is not None:
        check_output(command.out, force=command.force, found=lambda at: describe_other_scorecard(at, command.file))
    small = command.file if holds_indices(command.file) else load(command.file)
    card = small.card if isinstance(small, Distilled) else read_indices(small)[1]
    splits = load_data(parsed, command.data, watcher, card, selected=not isinstance(small, Distilled))
    if command.out is not None:
        check_output(command.out, reads=[splits], force=True)
    if (doubt := describe_data_mismatch(card, splits)) is not None:
        watcher.warn(doubt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PotstillWarning)  # it has just been said
        score = evaluate(
            small,
            splits,
            protocol=command.protocol,
            network=list(command.network) or None,
            quick=command.quick,
            seeds=command.seeds,
            seed=command.seed,
            baselines=not command.no_baselines,
            full=not command.no_full,
            robust_scores=not command.no_robust_scores,
            stored=command.stored,
            weights=not command.no_weights,
            side_by_side=command.side_by_side,
            device=command.device,
            executor=workers(command),
            progress=watcher,
            **parsed.options,
        )
    value = {**score.to_dict(), "file": str(command.file), "command": line}
    if command.out is not None:
        # Named from the scorecard's own folder, so that both can be moved together.
        beside = os.path.relpath(command.file, command.out.parent)
        write_atomic(command.out, (json_document({**value, "file": beside}) + "\n").encode())
    return Answer(value, str(score))


def run_label(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.label import label, label_bytes
    from potstill.dataset_file import load
    from potstill.labels.label_file import LabelStore

    command = parsed.command
    assert isinstance(command, Label)
    small = load(command.file)
    splits = load_data(parsed, command.data, watcher, small.card)

    asked: dict[str, Any] = {
        "protocol": command.protocol, "network": command.network, "pool": command.pool, "top_k": command.top_k,
        "dtype": command.dtype, "device": command.device, **parsed.options,
    }  # fmt: skip
    sizes = label_bytes(small, splits, **asked) if command.fkd is None else {}
    store = label(
        small, splits, command.out, store_as=command.store_as, fkd=command.fkd, force=command.force, seed=command.seed,
        executor=workers(command), progress=watcher.count, **asked,
    )  # fmt: skip
    about = store.about
    value = {
        "path": str(command.out), "bytes": store.nbytes, "file_bytes": store.file_bytes, "bytes_as": sizes,
        "command": line, **about.to_json(),
    }  # fmt: skip
    if isinstance(store, LabelStore):
        value["kept_mass"] = store.kept_mass()
        text = _of_rows(store, sizes)
    else:
        text = (
            f"the teacher itself, {store.nbytes:,} bytes, {about.to_json()['dtype']}: it labels whenever it is asked "
            f"(rows would take {sizes['rows']:,} bytes)"
        )
    network = "" if command.network is None else f" --network {shlex.quote(command.network)}"
    return Answer(
        value,
        f"{command.out}: {text}\nMeasure with them: potstill evaluate {shlex.quote(str(command.file))} --data "
        f"{shlex.quote(command.data)} --protocol {command.protocol}{network} --stored {shlex.quote(str(command.out))}",
    )


def _of_rows(store: "LabelStore", sizes: Mapping[str, int]) -> str:
    about = store.about
    each = store.nbytes / (about.epochs * about.items)
    text = (
        f"labels of {plural(about.items, 'item')} in {about.epochs:,} epochs, {store.nbytes:,} bytes "
        f"({each:.1f} a label)"
    )
    coding = about.coding
    if coding.top_k < coding.classes:
        mass = store.kept_mass()
        text += (
            f"; those kept, {coding.top_k:,} of {coding.classes:,} classes, have {100 * mass:.2g} % of the "
            f"probability at temperature {coding.temperature:g}"
        )
        if mass < _LITTLE:
            text += ", and the rest is stored as even: keep more, or train at a lower temperature"
    if (teacher := sizes.get("teacher")) is not None and teacher < store.nbytes:
        text += (
            f"\nSmaller: the teacher itself, {teacher:,} bytes ({store.nbytes / teacher:.1f} times less) and nothing "
            "left out: --store-as teacher"
        )
    return text


def run_compare(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.compare import compare

    command = parsed.command
    assert isinstance(command, Compare)
    splits = load_data(parsed, command.data, watcher, carded(command.out))
    board = compare(
        splits,
        command.methods,
        command.ipc,
        items=command.items,
        bytes=command.bytes,
        balance=command.balance,
        parametrizations=command.parametrizations or (),
        codecs=command.stores or (),
        repeats=command.sets,
        out=command.out,
        preset=command.effort,
        time_limit=command.time_limit,
        seeds=command.seeds,
        protocol=command.protocol,
        protocols=command.protocols,
        network=command.network,
        device=command.device,
        executor=workers(command),
        seed=command.seed,
        options=parsed.by_method,
        progress=watcher.of,
        snapshots=command.film,
        **parsed.options,
    )
    failed = [row["error"] for row in board["rows"] if "scorecard" not in row]
    if len(failed) == len(board["rows"]):
        raise PotstillError(f"every cell failed; the first: {failed[0]}")
    page = shlex.join(["potstill", "report", str(command.out), "--out", str(command.out / "report.html")])
    return Answer(board, f"{board_text(board)}\nMake a page of it: {page}")


def run_scaling(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.scaling import scaling

    command = parsed.command
    assert isinstance(command, Scaling)
    splits = load_data(parsed, command.data, watcher)

    found = scaling(
        splits, ipc=command.ipc, teacher_epochs=command.stops, out=command.out, network=command.network,
        repeats=command.sets,
        steps=command.steps, batch=command.batch, lr=command.lr, validation=command.validation, seed=command.seed,
        device=command.device, executor=workers(command), progress=watcher.count,
    )  # fmt: skip
    return Answer({**found, "command": line}, f"{scaling_text(found)}\nPlot: {command.out / 'scaling.svg'}")


def run_report(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output, marked
    from potstill.api.report import report

    command = parsed.command
    assert isinstance(command, Report)
    if command.out.exists():
        check_output(command.out, force=command.force, found=marked)
    data = None
    if command.data is not None:
        data = load_data(parsed, command.data, watcher, carded(command.paths[0]))
    page = report(command.paths, command.out, data=data, force=command.force)
    return Answer({"path": str(page)}, str(page))


def run_view(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.view import serve

    command = parsed.command
    assert isinstance(command, View)
    data = None if command.data is None else load_data(parsed, command.data, watcher, carded(command.folder))

    def ready(url: str) -> None:
        watcher.note(f"{url} shows {command.folder} until Ctrl-C")

    serve(command.folder, port=command.port, data=data, command=line, ready=ready)
    return Answer({"folder": str(command.folder)}, "Stopped.")
