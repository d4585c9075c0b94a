"""Commands that measure sets, and pages of what was measured."""

import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.cli.commands import Compare, Evaluate, Label, Report, Scaling
from potstill.cli.parsing import Misuse, Parsed
from potstill.cli.runners.parts import Answer, load_data
from potstill.cli.scaled import scaling_text
from potstill.cli.text import columns, json_document, plural
from potstill.errors import PotstillError, PotstillWarning
from potstill.watch import Watcher

__all__ = ["run_compare", "run_evaluate", "run_label", "run_report", "run_scaling"]


def run_evaluate(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import evaluate
    from potstill.evaluation import not_made_of
    from potstill.storage import Distilled, check_writable, holds_indices, load, read_indices, write_atomic

    command = parsed.command
    assert isinstance(command, Evaluate)
    if command.out is not None:
        check_writable(command.out)
    small = command.file if holds_indices(command.file) else load(command.file)
    splits = load_data(command, command.data, watcher)

    card = small.card if isinstance(small, Distilled) else read_indices(small)[1]
    if (doubt := not_made_of(card["source"], splits.train)) is not None:
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
    from potstill.labelling import label
    from potstill.storage import check_writable, load

    command = parsed.command
    assert isinstance(command, Label)
    check_writable(command.out)
    small = load(command.file)
    splits = load_data(command, command.data, watcher)

    store = label(
        small, splits, command.out, protocol=command.protocol, network=command.network, pool=command.pool,
        top_k=command.top_k, dtype=command.dtype, seed=command.seed, device=command.device, progress=watcher.count,
        **parsed.options,
    )  # fmt: skip
    about = store.about
    value = {
        "path": str(command.out),
        "bytes": store.nbytes,
        "file_bytes": store.file_bytes,
        "command": line,
        **about.to_json(),
    }
    network = "" if command.network is None else f" --network {shlex.quote(command.network)}"
    each = store.nbytes / (about.epochs * about.items)
    return Answer(
        value,
        f"{command.out}: labels of {plural(about.items, 'item')} in {about.epochs:,} epochs, {store.nbytes:,} bytes "
        f"({each:.1f} a label)\nMeasure with them: potstill evaluate {shlex.quote(str(command.file))} --data "
        f"{shlex.quote(command.data)} --protocol {command.protocol}{network} --stored {shlex.quote(str(command.out))}",
    )


def run_compare(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.comparison import compare

    command = parsed.command
    assert isinstance(command, Compare)
    splits = load_data(command, command.data, watcher)
    board = compare(
        splits,
        command.methods,
        command.ipc,
        out=command.out,
        effort=command.effort,
        budget=command.budget,
        seeds=command.seeds,
        protocol=command.protocol,
        network=command.network,
        device=command.device,
        seed=command.seed,
        options=parsed.by_method,
        progress=watcher.of,
        **parsed.options,
    )
    failed = [row["error"] for row in board["rows"] if "scorecard" not in row]
    if len(failed) == len(board["rows"]):
        raise PotstillError(f"every cell failed; the first: {failed[0]}")
    page = shlex.join(["potstill", "report", str(command.out), "--out", str(command.out / "report.html")])
    return Answer(board, f"{_leaderboard(board)}\nMake a page of it: {page}")


def _leaderboard(board: Mapping[str, Any]) -> str:
    rows = []
    for row in board["rows"]:
        if "scorecard" not in row:
            rows.append([row["ipc"], row["method"], "failed", "", "", "", row["error"]])
            continue
        score, gap = row["scorecard"], row.get("difference")
        rows.append(
            [
                row["ipc"],
                row["method"],
                f"{100 * score['accuracy']['mean']:.1f} %",
                _interval(score["accuracy"]["ci95"], "{:.1f} to {:.1f}"),
                score["n"],
                f"{score['bytes']['total']:,}",
                ""
                if gap is None
                else f"{100 * gap['mean']:+.1f} {_interval(gap['ci95'], '[{:+.1f}, {:+.1f}]')}".rstrip(),
            ]
        )
    table = columns(["ipc", "method", "accuracy", "95% interval", "n", "bytes", "points over random"], rows)
    ended = [
        f"{row['method']} at {row['ipc']}: {row['scorecard']['outcome']['message']}" for row in board["rows"]
        if row.get("scorecard", {}).get("outcome", {}).get("kind") == "not finite"
    ]  # fmt: skip
    return "\n".join([table, *ended])


def _interval(ends: Sequence[float] | None, form: str) -> str:
    """In percent; nothing where one student has none."""
    return "" if ends is None else form.format(*(100 * end for end in ends))


def run_scaling(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.knowledge import scaling

    command = parsed.command
    assert isinstance(command, Scaling)
    splits = load_data(command, command.data, watcher)

    found = scaling(
        splits, ipc=command.ipc, stops=command.stops, out=command.out, network=command.network, sets=command.sets,
        steps=command.steps, batch=command.batch, lr=command.lr, validation=command.validation, seed=command.seed,
        device=command.device, progress=watcher.count,
    )  # fmt: skip
    return Answer({**found, "command": line}, f"{scaling_text(found)}\nPlot: {command.out / 'scaling.svg'}")


def run_report(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import report
    from potstill.storage import check_writable

    command = parsed.command
    assert isinstance(command, Report)
    if not command.paths:
        raise Misuse("report: give at least one folder or file of results")
    check_writable(command.out)
    page = report(command.paths, command.out)
    return Answer({"path": str(page)}, str(page))
