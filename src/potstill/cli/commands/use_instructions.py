"""``potstill use instructions``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Parsed, optional
from potstill.cli.text import Block, Table

__all__ = ["UseInstructions"]


@dataclass(frozen=True, kw_only=True)
class UseInstructions(Command):
    """Select prompts with responses for a target, by gradients of a small language model that is trained here (LESS).

    POOL and the others are JSON lines, CSV or Parquet with columns such as instruction and output, prompt and
    completion, or messages. With --test, models learn this selection and others of as many samples. The same command
    again resumes where an interrupted one stopped.
    """

    pool: Annotated[Positional[Path], arg(metavar="POOL")]
    """Samples to choose from."""
    target: Annotated[Path, arg(metavar="FILE")]
    """A few samples of what models shall become good at."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for selected.jsonl, instructions.json and a file for each row."""
    items: Annotated[int | None, optional("N")] = None
    """Samples to choose."""
    bytes: Annotated[str | None, optional("SIZE")] = None
    """Bytes of all chosen prompts and responses, such as 200kB."""
    test: Annotated[Path | None, optional("FILE")] = None
    """Other samples of the target, by which selections are measured."""
    base: Annotated[Path | None, optional("FILE")] = None
    """Texts on which models are trained before all else. (default: those of POOL)"""
    way: Literal["less", "bm25", "tfidf", "states", "random", "lengths"] = "less"
    """Way of choosing."""
    prompt: Annotated[str | None, optional("COLUMN")] = None
    """Column of the prompts, if its name is not known."""
    response: Annotated[str | None, optional("COLUMN")] = None
    """Column of the responses, if its name is not known."""
    group: Annotated[str | None, optional("COLUMN")] = None
    """Column of the target, each of whose values is a task of its own."""
    students: Annotated[int, arg(metavar="K")] = 3
    """Models of each form that learn a selection; intervals are over them."""
    words: Annotated[int, arg(metavar="N")] = 2048
    """Pieces of the models' vocabulary beside the bytes."""
    length: Annotated[int, arg(metavar="N")] = 96
    """Pieces of a sample that models read."""
    width: Annotated[int, arg(metavar="N")] = 64
    """Numbers of a piece inside the models."""
    layers: Annotated[int, arg(metavar="N")] = 2
    """Blocks of the transformer."""
    base_updates: Annotated[int, arg(metavar="N")] = 1000
    """Updates on plain texts."""
    warm_up: Annotated[float, arg(metavar="X")] = 0.05
    """Fraction of the pool on which LESS trains first."""
    updates: Annotated[int, arg(metavar="N")] = 100
    """Updates of a model that learns a selection."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of every draw."""

    main_options: ClassVar[tuple[str, ...]] = (
        "pool", "target", "out", "items", "bytes", "test", "base", "way", "students",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Columns": ("prompt", "response"),
        "Models": ("words", "length", "width", "layers", "base_updates", "warm_up", "updates", "seed"),
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.cell_files import parse_sizes
        from potstill.uses.instructions import Settings, select_instructions

        names = ("words", "length", "width", "layers", "base_updates", "warm_up", "updates")
        result = select_instructions(
            self.pool, self.target, out=self.out, items=self.items,
            size=None if self.bytes is None else parse_sizes(self.bytes)[0], test=self.test, base=self.base,
            way=self.way, prompt=self.prompt, response=self.response, group=self.group, students=self.students,
            settings=Settings(**{name: getattr(self, name) for name in names}), seed=self.seed,
            progress=progress.report_count,
        )  # fmt: skip
        for note in result["notes"]:
            progress.note(note)
        text = [*instruction_blocks(result), f"Chosen: {self.out / 'selected.jsonl'}"]
        return Answer({**result, "command": parsed.line}, text)


def instruction_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a selection as text: a table, where it was measured, and what it shows."""
    if not result["rows"]:
        return list(result["sentences"])

    def cell(value: Mapping[str, Any]) -> str:
        ci = value["ci95"]
        return f"{value['mean']:.3f}" + ("" if ci is None else f" [{ci[0]:.3f}, {ci[1]:.3f}]")

    forms = list(result["rows"][0]["bits"])
    rows = [
        [row["label"], f"{row['items']:,}", f"{row['bytes']:,}", *(cell(row["bits"][form]) for form in forms)]
        for row in result["rows"]
    ]
    return [
        f"{result['pool']}: bits a byte of {result['test_samples']:,} test responses of {result['target']} (less is "
        f"better), {result['students']} models of a form, each with the target's {result['target_samples']:,} samples, "
        "too",
        Table(["learned beside the target", "samples", "bytes", *forms], rows), "", *result["sentences"],
    ]  # fmt: skip
