"""The command that writes a set's report card."""

import warnings
from typing import Any

from potstill.cli.runners.parts import Answer, load_data, workers
from potstill.cli.studied import plan_text, study_text

from potstill._util.progress import Watcher
from potstill.cli.commands import Study
from potstill.cli.parsing import Parsed
from potstill.cli.text import json_document
from potstill.errors import PotstillWarning

__all__ = ["run_study"]


def run_study(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output
    from potstill.api.study import beside, diagnose, other_study
    from potstill.dataset_file import Distilled, holds_indices, load, read_indices, write_atomic
    from potstill.evaluation import describe_data_mismatch

    command = parsed.command
    assert isinstance(command, Study)
    if command.out is not None:
        check_output(command.out, force=command.force, found=lambda at: other_study(at, command.file))
    small = command.file if holds_indices(command.file) else load(command.file)
    card = small.card if isinstance(small, Distilled) else read_indices(small)[1]
    splits = load_data(parsed, command.data, watcher, card, selected=not isinstance(small, Distilled))
    if (doubt := describe_data_mismatch(card, splits)) is not None:
        watcher.warn(doubt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PotstillWarning)  # it has just been said
        found = diagnose(
            small, splits, parts=command.parts, plan=command.plan, on=command.on, students=command.students,
            steps=command.steps, lr=command.lr, real=command.real, stops=command.stops, groups=command.groups,
            network=command.network, seed=command.seed, device=command.device, executor=workers(command),
            progress=watcher,
        )  # fmt: skip
    value: dict[str, Any] = {**found, "file": str(command.file), "command": line}
    if command.plan:
        return Answer(value, plan_text(found))
    if command.out is not None:
        held = {**value, "file": beside(command.file, command.out)}
        write_atomic(command.out, (json_document(held) + "\n").encode())
    return Answer(value, study_text(found))
