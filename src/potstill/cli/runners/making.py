"""Commands that make a set, or say what making it would take."""

import shlex
from pathlib import Path
from typing import Any

from potstill._util.progress import Watcher
from potstill._util.time_limit import TimeLimit
from potstill.cli.commands import Distill, Making, Plan
from potstill.cli.costs import costs
from potstill.cli.parsing import Parsed
from potstill.cli.runners.parts import Answer, contents, data_words, load_data, workers
from potstill.cli.text import clock
from potstill.errors import PotstillError

__all__ = ["run_distill", "run_plan"]


def _kept(command: Making) -> dict[str, Any]:
    """The amount that was given, by its unit."""
    given: list[tuple[str, int | None]] = [("ipc", command.ipc), ("items", command.items), ("bytes", command.bytes)]
    amounts: dict[str, Any] = {unit: int(amount) for unit, amount in given if amount is not None}
    return {**amounts, "balance": command.balance}


def _settings(command: Making, parsed: Parsed) -> dict[str, Any]:
    """What a run and its plan are asked alike, but for how much to keep."""
    names = (
        "seed",
        "steps",
        "network",
        "parametrization",
        "labels",
        "augment",
        "zca",
        "store",
        "device",
    )
    # auto has none unless it is asked for one, which it then refuses
    effort = command.effort if command.method == "auto" else parsed.effort
    return {
        **{name: getattr(command, name) for name in names},
        "effort": effort,
        "time_limit": None if command.time_limit is None else TimeLimit(float(command.time_limit), parsed.begun),
        "executor": workers(command),
        **parsed.options,
    }


def _beginning(parsed: Parsed) -> str:
    """What is known before anything is read: the method, its effort, where from."""
    command = parsed.command
    assert isinstance(command, Making)
    effort = "" if parsed.effort is None else f", effort {parsed.effort}"
    return f"{command.method}{effort}: reading {command.data}"


def run_distill(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output
    from potstill.api.distill import distill
    from potstill.dataset_file import drop_checkpoint
    from potstill.dataset_file.replacing import is_set, other_set

    command = parsed.command
    assert isinstance(command, Distill)
    kept = _kept(command)
    checkpoint = Path(f"{command.out}.checkpoint")
    if command.out.exists() and not is_set(command.out):  # a set is compared when it is known what this one will be
        check_output(command.out, force=command.force, found=lambda at: other_set(at, {}))
    splits = load_data(parsed, command.data, watcher)
    asked = command.resume or command.resume_anyway
    if asked and not checkpoint.exists() and not command.out.exists():
        watcher.note("there is no unfinished run to resume; this run starts afresh")
    if checkpoint.exists() and not asked:
        watcher.note(f"{checkpoint} holds an interrupted run; this run starts afresh and will replace it")
    watcher.begin(command.method)
    small = distill(
        splits,
        command.method,
        **kept,
        out=command.out,
        force=command.force,
        checkpoint=checkpoint,
        resume=asked,
        resume_anyway=command.resume_anyway,
        checkpoint_every=command.checkpoint_every,
        progress=watcher,
        command=line,
        scores=command.scores,
        experts=command.experts or None,
        log=command.log or None,
        snapshots=Path(f"{command.out}.film") if command.film else None,
        class_shards=command.class_shards,
        **_settings(command, parsed),
    )
    if small.path is not None:
        watcher.note(f"{command.out}: this command has finished before; nothing was done")
        text = f"{command.out}: {contents(small.card, len(small))}, made by {small.card['method']}, was there"
        return Answer({"path": str(command.out), "items": len(small), **small.card}, text)
    drop_checkpoint(checkpoint)
    if not command.film:
        Path(f"{command.out}.film").unlink(missing_ok=True)  # it showed the set that was here before
    card, outcome = small.card, small.card["outcome"]
    following = ["potstill", "evaluate", str(command.out), "--data", command.data]
    following += data_words(command.reading, carded=True)
    if command.network is not None:
        following += ["--network", command.network]
    text = (
        f"{command.out}: {contents(card, len(small))}, made by {card['method']}\n"
        f"{outcome['message']}, in {clock(card['cost']['seconds'])} on {card['cost']['device']}\n"
        f"Measure it: {shlex.join(following)}"
    )
    if (choice := card.get("choice")) is not None:
        text = f"{choice['text']}\n{text}"
    failure = None
    if outcome["kind"] == "not finite":
        failure = f"{command.method} diverged: {outcome['message']} (in {command.out})"
    return Answer({"path": str(command.out), "items": len(small), **card}, text, failure)


def run_plan(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.planning.plan import plan

    command = parsed.command
    assert isinstance(command, Plan)
    kept = _kept(command)
    if command.on is not None:
        return _afar(command, parsed, kept, line, watcher)
    if command.data.startswith("like:"):
        raise PotstillError(
            f"{command.data[:80]} describes data that are not here, which only plan --on takes; say which machines, or "
            "give the data"
        )
    watcher.note(_beginning(parsed))
    splits = load_data(parsed, command.data, watcher)
    made = plan(
        splits,
        command.method,
        **kept,
        profile_steps=command.measure,
        experts=command.experts or None,
        progress=watcher,
        **_settings(command, parsed),
    )
    for note in made.notes[len(splits.notes) :]:  # what the method left out
        watcher.note(note)
    return Answer(
        {**made.to_dict(), "time_limit": command.time_limit, "command": line},
        costs(made, command.time_limit, command.details),
    )


def _afar(command: Plan, parsed: Parsed, kept: dict[str, Any], line: str, watcher: Watcher) -> Answer:
    """The plan of machines that are not here."""
    from potstill.cli.afar import afar
    from potstill.data.synthetic_shape import like
    from potstill.execution.described import described_cluster
    from potstill.planning.cluster import plan_cluster

    cluster = described_cluster(command.on or "")
    data = like(command.data) if command.data.startswith("like:") else load_data(parsed, command.data, watcher)
    settings = {n: v for n, v in _settings(command, parsed).items() if n not in ("time_limit", "device", "executor")}
    made = plan_cluster(data, command.method, cluster, protocol=command.students, **kept, **settings)
    return Answer({**made.to_dict(), "command": line}, afar(made))
