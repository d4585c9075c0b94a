"""One function per command: call the API, and say what came of it as JSON and as text."""

import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from potstill.cli.commands import (
    Active,
    Compare,
    Csod,
    DataCommand,
    DataOptions,
    Distill,
    Evaluate,
    Export,
    Inspect,
    Label,
    ListMethods,
    Making,
    Plan,
    Rebuild,
    Report,
    Scaling,
    Score,
)
from potstill.cli.costs import costs
from potstill.cli.parsing import Misuse, Parsed
from potstill.cli.progress import Watcher
from potstill.cli.scaled import scaling_text
from potstill.cli.text import clock, columns, filled, json_document, plural
from potstill.core import Budget, Splits
from potstill.errors import PotstillError

__all__ = ["RUNNERS", "Answer"]


class Answer(NamedTuple):
    """What a command has to say: ``value`` with ``--json``, else ``text``."""

    value: Any
    text: str


def _load_data(command: DataCommand, data: str, watcher: Watcher, card: Mapping[str, Any] | None = None) -> Splits:
    """The data; with the card of a selection, read as they were for that."""
    from potstill.api import load_data
    from potstill.selections import load_for

    reading = command.reading
    read = load_data if card is None else functools.partial(load_for, dict(card))
    splits: Splits = read(
        data,
        label=reading.label,
        root=reading.data_root,
        seed=reading.split_seed,
        test_fraction=reading.test_fraction,
        size=reading.size,
        skip_bad=reading.skip_bad,
        stream=reading.stream or None,
    )
    for note in splits.notes:
        watcher.note(note)
    return splits


def _data_words(options: DataOptions) -> list[str]:
    """The options that make ``--data`` mean the same thing again."""
    words: list[str] = []
    for field in dataclasses.fields(DataOptions):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        words.append("--" + field.name.replace("_", "-"))
        if field.name == "size":
            words.append("x".join(map(str, value)))
        elif value is not True:
            words.append(str(value))
    return words


def _distill(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import distill
    from potstill.driver import Progress
    from potstill.execution.memory import return_freed_memory
    from potstill.storage import check_writable

    command = parsed.command
    assert isinstance(command, Distill)
    budget = _budget(command, parsed.name)
    if command.out.suffix != ".safetensors":
        raise Misuse(f"--out {command.out}: the file's name must end in .safetensors")
    check_writable(command.out)
    checkpoint = Path(f"{command.out}.checkpoint")
    splits = _load_data(command, command.data, watcher)
    if checkpoint.exists() and not command.resume:
        watcher.note(f"{checkpoint} holds an interrupted run; this run starts afresh and will replace it")

    def show(p: Progress) -> None:
        watcher.step(
            command.method, step=p.step, total=p.total, seconds=p.seconds, budget=p.budget, metrics=dict(p.metrics)
        )

    small = distill(
        splits,
        command.method,
        budget=budget,
        seed=command.seed,
        steps=command.steps,
        time_budget=command.budget,
        network=command.network,
        parametrization=command.parametrization,
        labels=command.labels,
        augment=command.augment,
        zca=command.zca,
        device=command.device,
        checkpoint=checkpoint,
        resume=command.resume,
        checkpoint_every=command.checkpoint_every,
        progress=show,
        preparing=lambda what, done, total: watcher.show(what, done / total, f"{done:,} of {total:,}"),
        command=line,
        scores=command.scores,
        **parsed.options,
    )
    return_freed_memory()  # the state is gone, and the file is written as one piece
    small.save(command.out)
    checkpoint.unlink(missing_ok=True)
    card, outcome = small.card, small.card["outcome"]
    following = ["potstill", "evaluate", str(command.out), "--data", command.data, *_data_words(command.reading)]
    if command.network is not None:
        following += ["--network", command.network]
    text = (
        f"{command.out}: {_contents(card, len(small))}, made by {card['method']}\n"
        f"{outcome['message']}, in {clock(card['cost']['seconds'])} on {card['cost']['device']}\n"
        f"Measure it: {shlex.join(following)}"
    )
    return Answer({"path": str(command.out), "items": len(small), **card}, text)


def _plan(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.planning import plan

    command = parsed.command
    assert isinstance(command, Plan)
    budget = _budget(command, parsed.name)
    if command.measure < 0:
        raise Misuse(f"plan: --measure must be at least 0, but it is {command.measure}")
    splits = _load_data(command, command.data, watcher)
    made = plan(
        splits,
        command.method,
        budget=budget,
        seed=command.seed,
        steps=command.steps,
        network=command.network,
        parametrization=command.parametrization,
        labels=command.labels,
        augment=command.augment,
        zca=command.zca,
        device=command.device,
        measure=command.measure,
        **parsed.options,
    )
    return Answer({**made.to_dict(), "time_budget": command.budget, "command": line}, costs(made, command.budget))


def _budget(command: Making, name: str) -> Budget:
    given: list[tuple[Any, int | None]] = [("ipc", command.ipc), ("items", command.items), ("bytes", command.bytes)]
    chosen = [(unit, amount) for unit, amount in given if amount is not None]
    if len(chosen) != 1:
        raise Misuse(f"{name}: say once how much to keep: --ipc N (items per class), --items N or --bytes N")
    unit, amount = chosen[0]
    if amount < 1:
        raise Misuse(f"{name}: --{unit} must be at least 1, but it is {amount}")
    return Budget(unit=unit, amount=amount)


def _contents(card: Mapping[str, Any], items: int) -> str:
    """``100 pictures of 1×28×28 in 10 classes, 314,400 bytes``."""
    spec, classes = card["input"], len(card["classes"])
    noun = "picture" if spec["kind"] == "image" else "row"
    shape = "×".join(map(str, spec["shape"]))
    return f"{plural(items, noun)} of {shape} in {classes} classes, {card['bytes']['total']:,} bytes"


def _evaluate(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import evaluate
    from potstill.storage import check_writable, holds_indices, load, write_atomic

    command = parsed.command
    assert isinstance(command, Evaluate)
    if command.out is not None:
        check_writable(command.out)
    small = command.file if holds_indices(command.file) else load(command.file)
    splits = _load_data(command, command.data, watcher)

    def show(what: str, done: int, total: int) -> None:
        watcher.show(what, done / total if total else None, f"{done:,} of {total:,}")

    score = evaluate(
        small,
        splits,
        protocol=command.protocol,
        networks=list(command.network) or None,
        seeds=command.seeds,
        seed=command.seed,
        baselines=not command.no_baselines,
        full=not command.no_full,
        robust_scores=not command.no_robust_scores,
        stored=command.stored,
        device=command.device,
        progress=show,
        **parsed.options,
    )
    value = {**score.to_dict(), "file": str(command.file), "command": line}
    if command.out is not None:
        # Named from the scorecard's own folder, so that both can be moved together.
        beside = os.path.relpath(command.file, command.out.parent)
        write_atomic(command.out, (json_document({**value, "file": beside}) + "\n").encode())
    return Answer(value, str(score))


def _label(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.labelling import label
    from potstill.storage import check_writable, load

    command = parsed.command
    assert isinstance(command, Label)
    check_writable(command.out)
    small = load(command.file)
    splits = _load_data(command, command.data, watcher)

    def show(what: str, done: int, total: int) -> None:
        watcher.show(what, done / total if total else None, f"{done:,} of {total:,}")

    store = label(
        small, splits, command.out, protocol=command.protocol, network=command.network, pool=command.pool,
        top_k=command.top_k, dtype=command.dtype, seed=command.seed, device=command.device, progress=show,
        **parsed.options,
    )  # fmt: skip
    about = store.about
    value = {"path": str(command.out), "bytes": store.nbytes, "command": line, **about.to_json()}
    network = "" if command.network is None else f" --network {shlex.quote(command.network)}"
    each = store.nbytes / (about.epochs * about.items)
    return Answer(
        value,
        f"{command.out}: labels of {plural(about.items, 'item')} in {about.epochs:,} epochs, {store.nbytes:,} bytes "
        f"({each:.1f} a label)\nMeasure with them: potstill evaluate {shlex.quote(str(command.file))} --data "
        f"{shlex.quote(command.data)} --protocol {command.protocol}{network} --stored {shlex.quote(str(command.out))}",
    )


def _score(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.scoring import score
    from potstill.storage import check_writable, write_atomic

    command = parsed.command
    assert isinstance(command, Score)
    if command.out.suffix != ".parquet":
        raise Misuse(f"--out {command.out}: the file's name must end in .parquet")
    if command.map is not None:
        if "cartography" not in command.methods:
            raise Misuse("score: --map draws what cartography says; add cartography to --methods")
        check_writable(command.map)
    for option, number in (("epochs", command.epochs), ("runs", command.runs)):
        if number is not None and number < 1:
            raise Misuse(f"score: --{option} must be at least 1, but it is {number}")
    given = {"epochs_recorded": command.epochs, "runs": command.runs}
    made = score(
        _load_data(command, command.data, watcher), command.methods, command.out, network=command.network,
        device=command.device,
        progress=lambda what, done, total: watcher.show(what, done / total, f"{done:,} of {total:,}"),
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if command.map is not None:
        write_atomic(command.map, _map(made).encode())
    equal = 0 if made.first is None else len(made) - len(set(made.first.tolist()))
    columns = [name for said in made.methods.values() for name in said.columns]
    value = {
        "path": str(command.out), "samples": len(made), "hash": made.hash, "columns": columns, "duplicates": equal,
        "regions": {r: list(made.region).count(r) for r in dict.fromkeys(made.region)},
        "map": None if command.map is None else str(command.map), "command": line,
        "methods": {name: {"config": dict(m.config), "seconds": m.seconds} for name, m in made.methods.items()},
    }  # fmt: skip
    following = ["potstill", "distill", command.data, *_data_words(command.reading), "--method", command.methods[0]]
    following += ["--ipc", "10", "--scores", str(command.out), "--out", "chosen.safetensors"]
    verb = "equals" if equal == 1 else "equal"
    same = f"{plural(equal, 'sample')} {verb} an earlier one" if equal else "no two samples are equal"
    return Answer(
        value,
        f"{command.out}: {plural(len(made), 'sample')}, {', '.join(columns)}; {same}\n"
        f"Select by it: {shlex.join(following)}",
    )


def _map(scores: Any) -> str:
    from potstill.reports.data_map import MapPoint, data_map

    columns = scores.methods["cartography"].columns
    rows = zip(
        columns["variability"].tolist(), columns["confidence"].tolist(), scores.region, scores.labels.tolist(),
        strict=True,
    )  # fmt: skip
    points = [
        MapPoint(
            variability=v, confidence=c, region=region,
            label=f"{scores.classes[y]}: {scores.names[i] if scores.names else i}",
        )
        for i, (v, c, region, y) in enumerate(rows)
    ]  # fmt: skip
    return data_map(points, scores.source)


def _compare(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.comparison import compare
    from potstill.driver import Progress

    command = parsed.command
    assert isinstance(command, Compare)
    splits = _load_data(command, command.data, watcher)

    def show(cell: str, p: Progress) -> None:
        watcher.step(cell, step=p.step, total=p.total, seconds=p.seconds, budget=p.budget, metrics=dict(p.metrics))

    board = compare(
        splits,
        command.methods,
        command.ipc,
        out=command.out,
        time_budget=command.budget,
        seeds=command.seeds,
        protocol=command.protocol,
        network=command.network,
        device=command.device,
        seed=command.seed,
        progress=show,
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
        score = row["scorecard"]
        low, high = score["accuracy"]["ci95"]
        gap = row.get("difference")
        rows.append(
            [
                row["ipc"],
                row["method"],
                f"{100 * score['accuracy']['mean']:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f}",
                score["n"],
                f"{score['bytes']['total']:,}",
                ""
                if gap is None
                else f"{100 * gap['mean']:+.1f} [{100 * gap['ci95'][0]:+.1f}, {100 * gap['ci95'][1]:+.1f}]",
            ]
        )
    return columns(["ipc", "method", "accuracy", "95% interval", "n", "bytes", "points over random"], rows)


def _scaling(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.knowledge import scaling

    command = parsed.command
    assert isinstance(command, Scaling)
    splits = _load_data(command, command.data, watcher)

    def show(what: str, done: int, total: int) -> None:
        watcher.show(what, done / total if total else None, f"{done:,} of {total:,}")

    found = scaling(
        splits, ipc=command.ipc, stops=command.stops, out=command.out, network=command.network, sets=command.sets,
        steps=command.steps, batch=command.batch, lr=command.lr, validation=command.validation, seed=command.seed,
        device=command.device, progress=show,
    )  # fmt: skip
    return Answer({**found, "command": line}, f"{scaling_text(found)}\nPlot: {command.out / 'scaling.svg'}")


def _active(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import as_splits, pick_device
    from potstill.applications import ACQUISITIONS, label_cost
    from potstill.applications.active import Learner
    from potstill.errors import unknown
    from potstill.reports.label_curves import label_curves
    from potstill.storage import check_writable, write_atomic

    command = parsed.command
    assert isinstance(command, Active)
    for name in command.acquire:
        if name not in ACQUISITIONS:
            raise Misuse(str(unknown("acquisition", name, ACQUISITIONS)))
    if min(command.rounds, command.per_round, command.seeds, command.steps, command.batch) < 1:
        raise Misuse("active: --rounds, --per-round, --seeds, --steps and --batch must be at least 1")
    for path in (command.out, command.plot):
        if path is not None:
            check_writable(path)
    splits = as_splits(_load_data(command, command.data, watcher), pick_device(command.device))
    if splits.test is None:
        raise PotstillError(f"{command.data}: accuracy needs a test split; give a --test-fraction above 0")
    parts = (splits.train, splits.test)
    result = label_cost(
        lambda seed: parts,
        command.acquire,
        rounds=command.rounds,
        per_round=command.per_round,
        start=command.start,
        candidates=command.candidates,
        learner=Learner(network=command.network, steps=command.steps, batch=command.batch, lr=command.lr),
        fraction=command.fraction,
        seeds=command.seeds,
        seed=command.seed,
        progress=lambda what, done, total: watcher.show(what, done / total, f"run {done} of {total}"),
    )
    value = {"data": command.data, **result, "command": line}
    if command.out is not None:
        write_atomic(command.out, (json_document(value) + "\n").encode())
    if command.plot is not None:
        write_atomic(command.plot, label_curves(result, f"Accuracy against labels on {command.data}").encode())
    return Answer(value, _costs_of_labels(result))


def _costs_of_labels(result: Mapping[str, Any]) -> str:
    """A table of what `label_cost` found."""
    rows = []
    for name, curve in result["curves"].items():
        cost, saved, last = curve["needed"], curve["saved"], curve["accuracy"][-1]
        least = f" ({cost['at_least']} of {cost['n']} never)" if cost["at_least"] else ""
        ci = saved["ci95"]
        rows.append(
            [
                name,
                f"{100 * last['mean']:.1f} %",
                f"{cost['mean']:,.0f}{least}",
                "" if name == "random" or ci is None else f"{saved['mean']:+,.0f} [{ci[0]:+,.0f}, {ci[1]:+,.0f}]",
            ]
        )
    full, last = result["full"], result["labels"][-1]
    part = f"{100 * result['fraction']:g} %"
    heads = ["acquire", f"at {last:,} labels", f"labels to {part} of full", "fewer than random"]
    return f"{columns(heads, rows)}\nAll {result['pool']:,} labels: {100 * full['mean']:.1f} %"


def _csod(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.applications import select_images
    from potstill.data.detection import load_detection
    from potstill.storage import check_writable, write_atomic

    command = parsed.command
    assert isinstance(command, Csod)
    if command.n < 1:
        raise Misuse(f"csod: --n must be at least 1, but it is {command.n}")
    check_writable(command.out)
    data = load_detection(command.annotations, command.images)
    for note in data.notes:
        watcher.note(note)
    index = select_images(
        data,
        command.n,
        redundancy=command.redundancy,
        size=command.crop,
        progress=lambda done, total: watcher.show("boxes", done / total, f"{done:,} of {total:,} images"),
    ).tolist()
    about = {"method": "csod", "config": {"redundancy": command.redundancy, "crop": command.crop}, "command": line}
    subset = data.subset(index, about)
    write_atomic(command.out, (json_document(subset) + "\n").encode())
    boxes = sum(len(data.images[i].labels) for i in index)
    value = {"path": str(command.out), "images": len(index), "boxes": boxes, **subset["potstill"]}
    return Answer(value, f"{command.out}: {plural(len(index), 'image')} of {len(data):,}, with {boxes:,} boxes")


def _report(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api import report
    from potstill.storage import check_writable

    command = parsed.command
    assert isinstance(command, Report)
    if not command.paths:
        raise Misuse("report: give at least one folder or file of results")
    check_writable(command.out)
    page = report(command.paths, command.out)
    return Answer({"path": str(page)}, str(page))


def _inspect(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.storage import describe, inspect

    command = parsed.command
    assert isinstance(command, Inspect)
    found = inspect(command.file)
    return Answer({"path": str(command.file), **found}, f"{command.file}\n{describe(found)}")


def _export(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.selections import WITH_DATA, export, export_selection
    from potstill.storage import check_selection, load

    command = parsed.command
    assert isinstance(command, Export)
    if (command.data is None) == (command.to in WITH_DATA):
        needs = "needs the data that the selection was made of: --data DATA"
        raise Misuse(f"export: --to {command.to} {needs if command.data is None else 'needs no --data; leave it out'}")
    small = load(command.file)
    if command.data is None:
        written = export(small, command.to, command.out)
    else:
        check_selection(small, f"an export to {command.to}")
        train = _load_data(command, command.data, watcher, small.card).train
        written = export_selection(
            small, command.to, command.out, command.data, train, link=command.link, label=command.reading.label,
            skip_bad=command.reading.skip_bad,
        )  # fmt: skip
    return Answer(
        {"path": str(written), "to": command.to, "items": len(small)}, f"{written}: {plural(len(small), 'item')}"
    )


def _rebuild(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.storage import check_writable, read_indices, rebuild

    command = parsed.command
    assert isinstance(command, Rebuild)
    check_writable(command.out)
    card = read_indices(command.file)[1]
    small = rebuild(command.file, _load_data(command, command.data, watcher, card).train)
    small.save(command.out)
    return Answer(
        {"path": str(command.out), "items": len(small), **small.card},
        f"{command.out}: {_contents(small.card, len(small))}",
    )


def _methods(rows: list[dict[str, Any]]) -> str:
    cells = [[r["name"], r["family"], r["year"], r["paper"], r["title"]] for r in rows]
    hint = "`potstill methods NAME` shows a method's options."
    return columns(["method", "family", "year", "paper", "title"], cells) + f"\n\n{hint}"


def _method(row: dict[str, Any]) -> str:
    """One method with everything that can be set: the option and its default on a line, below it what it is."""
    lines = [f"{row['name']}: {row['title']} ({row['year']}), {row['paper']}", *filled(row["summary"])]
    for option in row["options"]:
        off = "no-" if option["default"] is True else ""  # a switch that is on is named by what turns it off
        default = '""' if option["default"] == "" else option["default"]
        lines += ["", f"  --{off}{option['name'].replace('_', '-')}  (default: {default})"]
        lines += filled(option["help"], indent=6)
    return "\n".join(lines if row["options"] else [*lines, "", "  It has no options."])


def _list_methods(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.errors import unknown
    from potstill.listings import list_methods

    command, rows = parsed.command, list_methods()
    assert isinstance(command, ListMethods)
    by_name = {row["name"]: row for row in rows}
    if strange := next((name for name in command.names if name not in by_name), None):
        raise Misuse(str(unknown("method", strange, by_name)))
    if not command.names:
        return Answer(rows, _methods(rows))
    chosen = [by_name[name] for name in dict.fromkeys(command.names)]
    return Answer(chosen, "\n\n".join(map(_method, chosen)))


def _protocols(rows: list[dict[str, Any]]) -> str:
    cells = [[r["name"], r["version"], r["paper"], "yes" if r["optimistic"] else "no", r["summary"]] for r in rows]
    return columns(["protocol", "version", "paper", "optimistic", "what it does"], cells)


def _any(noun: str) -> Callable[[list[dict[str, Any]]], str]:
    """A table of all the keys that there are, ``name`` first."""

    def show(rows: list[dict[str, Any]]) -> str:
        keys = list(rows[0])[1:]
        return columns([noun, *keys], [[r["name"], *(_cell(r[key]) for key in keys)] for r in rows])

    return show


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value['name']}={value['default']}" if isinstance(value, Mapping) else str(value)


_OWN_DATA = """
Your own data: a folder of pictures (train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png), an .npz file with
x_train, y_train, x_test and y_test, a .csv or .parquet file with --label COLUMN, hub:NAME (Hugging Face Hub),
or WebDataset shards 'train-{000..099}.tar'."""


def _data(rows: list[dict[str, Any]]) -> str:
    return _any("data")(rows) + "\n" + _OWN_DATA


def _listing(group: str, show: Callable[[list[dict[str, Any]]], str]) -> Callable[[Parsed, str, Watcher], Answer]:
    def listing(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
        from potstill import listings

        rows: list[dict[str, Any]] = getattr(listings, f"list_{group}")()
        return Answer(rows, show(rows))

    return listing


RUNNERS: dict[str, Callable[[Parsed, str, Watcher], Answer]] = {
    "distill": _distill,
    "plan": _plan,
    "evaluate": _evaluate,
    "label": _label,
    "score": _score,
    "compare": _compare,
    "scaling": _scaling,
    "active": _active,
    "csod": _csod,
    "report": _report,
    "inspect": _inspect,
    "export": _export,
    "rebuild": _rebuild,
    "methods": _list_methods,
    "protocols": _listing("protocols", _protocols),
    "networks": _listing("networks", _any("network")),
    "data": _listing("data", _data),
    "parametrizations": _listing("parametrizations", _any("parametrization")),
    "augmentations": _listing("augmentations", _any("augmentation")),
}
"""What each command does."""
