"""Commands that look at a set, or turn it into other files."""

import shlex

from potstill._util.progress import Watcher
from potstill.cli.commands import Export, Import, Inspect, Rebuild
from potstill.cli.parsing import Parsed
from potstill.cli.runners.parts import Answer, contents, data_words, load_data
from potstill.cli.text import plural

__all__ = ["run_export", "run_import", "run_inspect", "run_rebuild"]


def run_inspect(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.dataset_file import describe, inspect

    command = parsed.command
    assert isinstance(command, Inspect)
    found = inspect(command.file)
    return Answer({"path": str(command.file), **found}, f"{command.file}\n{describe(found)}")


def run_export(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.export import export, export_selection
    from potstill.dataset_file import check_selection, load

    command = parsed.command
    assert isinstance(command, Export)
    small = load(command.file)
    if command.data is None:
        written = export(small, command.to, command.out, license=command.license, force=command.force)
    else:
        check_selection(small, f"an export to {command.to}")
        splits = load_data(parsed, command.data, watcher, small.card, selected=True)
        written = export_selection(
            small, command.to, command.out, command.data, splits.train, link=command.link,
            label=splits.reading.get("label"), skip_bad=splits.reading.get("skip_bad", False),
        )  # fmt: skip
    return Answer(
        {"path": str(written), "to": command.to, "items": len(small)}, f"{written}: {plural(len(small), 'item')}"
    )


def run_import(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output
    from potstill.dataset_file.replacing import is_set
    from potstill.interop.import_set import import_set

    command = parsed.command
    assert isinstance(command, Import)
    check_output(command.out, force=command.force or is_set(command.out))
    small = import_set(
        command.path, command.format, known=command.known,
        data=None if command.data is None else load_data(parsed, command.data, watcher), mean=command.mean,
        std=command.std, zca=command.zca, factor=command.factor, run=-1 if command.run is None else command.run,
        lr=command.lr, method=command.method, size=command.reading.size,
    )  # fmt: skip
    small.files = (*small.files, str(command.path))
    small.save(command.out, force=command.force)
    following = ["potstill", "evaluate", str(command.out), "--data", command.data or command.known or "DATA"]
    following += data_words(command.reading)
    then = f"Measure it: {shlex.join(following)}"
    if small.input.kind == "texts":
        then = "Its texts are captions in Python (docs/how-to.md): no loader here reads real texts to measure it on"
    return Answer(
        {"path": str(command.out), "items": len(small), **small.card},
        f"{command.out}: {contents(small.card, len(small))}\n{then}",
    )


def run_rebuild(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output
    from potstill.dataset_file import read_indices, rebuild
    from potstill.dataset_file.replacing import other_set

    command = parsed.command
    assert isinstance(command, Rebuild)
    card = read_indices(command.file)[1]
    check_output(command.out, force=command.force, found=lambda at: other_set(at, card))
    splits = load_data(parsed, command.data, watcher, card, selected=True)
    small = rebuild(command.file, splits.train)
    small.files = (*splits.files, str(command.file))
    small.save(command.out, force=command.force)
    return Answer(
        {"path": str(command.out), "items": len(small), **small.card},
        f"{command.out}: {contents(small.card, len(small))}",
    )
