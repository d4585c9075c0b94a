"""``potstill diagnose``: options and text."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, Flag, ForceOption, JobOptions, Parsed, SetArgument, optional
from potstill.cli.option_types import Integers, Names
from potstill.cli.reading import load_set_and_data
from potstill.cli.text import Block, Table, filled, json_document, plural
from potstill.errors import PotstillWarning

__all__ = ["Diagnose", "diagnosis_text", "estimate_text"]


@dataclass(frozen=True, kw_only=True)
class Diagnose(ForceOption, JobOptions, DataCommand):
    """Diagnose a distilled set: what students learn from it besides their score.

    Parts, cheap ones first: nearest (the nearest real sample of each item, and copies), likeness (FID, KID, precision,
    recall and coverage beside random real samples), labeller (if networks of real data read the items), calibration,
    mixing (the set beside real samples), agreement (with networks of real data that were stopped early), curvature of
    the loss, influence (students without each item), zero-shot (pictures with texts by names and descriptions of
    classes, which --attribute reads). The time of each is printed before it runs. Nothing is selected by
    the results.
    """

    file: SetArgument
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    parts: Annotated[Names | None, optional("A,B,C")] = None
    """Parts, with commas between them (else all)."""
    plan: Flag = False
    """Only estimate the time."""
    split: Annotated[Literal["test", "validation"] | None, optional("test|validation")] = None
    """Real samples that students predict; validation is a fifth of the training part, which the set may have been made
    of. (default: test, where there is one)"""
    students: Annotated[int | None, optional("K")] = None
    """Students of each training set (else 3)."""
    steps: Annotated[int | None, optional("N")] = None
    """Updates of every student (else 180)."""
    lr: Annotated[float | None, optional("R")] = None
    """Learning rate of the students (else the one learned with the set, or 0.03)."""
    real: Annotated[Integers | None, optional("N,…")] = None
    """For mixing: real samples per class that are added (else 1,5,20)."""
    teacher_steps: Annotated[Integers | None, optional("N,…")] = None
    """For agreement and labeller: updates after which networks of real data are measured (else 1,3,10,30,100,300)."""
    groups: Annotated[int | None, optional("N")] = None
    """For influence: items that are left out one by one, at most; of larger sets groups of a class (else 100)."""
    descriptions: Annotated[Path | None, optional("CLASSES.json")] = None
    """For zero-shot: lists of texts that describe each class, by class (else their names alone)."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""
    out: Annotated[Path | None, optional("SET.study.json")] = None
    """Also write the result to this file; beside the set, `potstill report` shows it."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "parts", "plan", "split", "students", "steps", "network", "seed", "out", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "One part": ("lr", "real", "teacher_steps", "groups", "descriptions")
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill diagnose small.safetensors --data photos/ --parts nearest,calibration",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ("study.json",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.api.diagnose import diagnose, other_study, relative_path
        from potstill.dataset_file import write_atomic

        if self.out is not None:
            check_output(self.out, force=self.force, found=lambda at: other_study(at, self.file))
        small, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PotstillWarning)  # printed by load_set_and_data
            result = diagnose(small, splits, progress=progress, **self.arguments_for(diagnose))
        value: dict[str, Any] = {**result, "file": str(self.file), "command": parsed.line}
        if self.plan:
            return Answer(value, estimate_text(result))
        if self.out is not None:
            document = {**value, "file": relative_path(self.file, self.out)}
            write_atomic(self.out, (json_document(document) + "\n").encode())
        return Answer(value, diagnosis_text(result))


def estimate_text(plan: Mapping[str, Any]) -> list[Block]:
    """Return the expected cost of each part as text."""
    rows = [
        [name, of["students"] or "", of["networks"] or "", format_estimate_words(of["seconds"]).removeprefix("about ")]
        for name, of in plan["expected"].items()
    ]
    table = Table(["part", "students", "networks of real data", "about"], rows)
    return [
        table, f"all of it: {format_estimate_words(plan['seconds'])} on one worker, with {plan['network']} "
        "asked about "
        f"{plural(plan['asked'], 'real sample')}\nA part that needs students of an earlier one takes them over.",
    ]  # fmt: skip


def diagnosis_text(result: Mapping[str, Any]) -> list[Block]:
    """Return a diagnosis as text: sentences, and tables below their captions."""
    from potstill.reports.diagnosis import describe_diagnosis  # imports torch

    small = result["set"]
    lines: list[Block] = [f"{small['method']} set of {plural(small['items'], 'item')} of {result['data']['name']}"]
    for block in describe_diagnosis(result):
        if isinstance(block, str):
            lines += ["", *filled(block)]
        else:
            table = Table(block.head, block.rows)
            indented = "\n".join(f"  {line}" for line in table.plain.split("\n"))
            lines += [f"{block.caption}:", table._replace(plain_form=indented)]
    return lines
