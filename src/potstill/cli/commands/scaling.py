"""``potstill scaling``: options and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, JobOptions, Parsed, optional
from potstill.cli.option_types import Integers
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table, plain_text, plural

__all__ = ["Scaling", "scaling_text", "worth_cells"]


@dataclass(frozen=True, kw_only=True)
class Scaling(JobOptions, DataCommand):
    """Measure how many hard labels a teacher's soft label is worth, over sizes and teachers, and fit a law to it.

    Teacher and students see training data alone: a split of them is held out to measure on, and the test part is not
    read. The same command again resumes where an interrupted one stopped.
    """

    data: DataArgument
    """The real data."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for scaling.json and the plot scaling.svg."""
    ipc: Integers = (1, 2, 5, 10, 20, 50)
    """Real samples per class, four or more values, with commas between them."""
    teacher_epochs: Integers = (2, 5, 10, 20, 50)
    """Epochs after which the teacher is stopped, with commas between them."""
    repeats: Annotated[int, arg(metavar="K")] = 5
    """Random sets of real samples; intervals are over them."""
    steps: Annotated[int, arg(metavar="N")] = 200
    """Updates of each student."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    lr: Annotated[float, arg(metavar="F")] = 0.03
    """Learning rate of the students."""
    validation: Annotated[float, arg(metavar="F")] = 0.2
    """Fraction of the training data to hold out and measure on, at most 4,000 samples."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of teacher and students."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "ipc", "teacher_epochs", "repeats", "steps", "batch", "lr", "validation", "network", "seed",
    )  # fmt: skip
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.scaling import scaling

        splits = load_data(parsed, self.data, progress)
        result = scaling(splits, progress=progress.report_count, **self.arguments_for(scaling))
        text = [*scaling_blocks(result), f"Plot: {self.out / 'scaling.svg'}"]
        return Answer({**result, "command": parsed.line}, text)


def scaling_text(result: Mapping[str, Any]) -> str:
    """Return a scaling law as plain text."""
    return plain_text(scaling_blocks(result))


def scaling_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a scaling law as text: every cell with its interval, what each budget is worth, and a sentence."""
    stops = result["settings"]["stops"]
    accuracies = {t["stop"]: t["accuracy"] for t in result["teachers"]}
    head = ["per class", "classes", *(f"{plural(s, 'epoch')} ({100 * accuracies[s]:.1f} %)" for s in stops), "n"]
    rows = [
        [n, *(_accuracy(result["cells"][f"{n}-{name}"]) for name in ("hard", *stops)), result["settings"]["sets"]]
        for n in result["settings"]["ipc"]
    ]
    worth = [[r["ipc"], r["stop"], *worth_cells(r, result["settings"]["ipc"])] for r in result["worth"]]
    diverged = sum(cell["diverged"] for cell in result["cells"].values())
    bytes_ = result["bytes"]
    return [
        f"{result['source']}: accuracy in percent with 95% intervals over sets, by real samples per class, with "
        "classes\nand with the labels of a teacher after so many epochs (its own accuracy)", Table(head, rows), "",
        Table(["soft per class", "teacher's epochs", "hard per class", "95% interval"], worth), "",
        result["sentence"],
        f"The law misses cells by {100 * result['law']['misfit']:.1f} % of their error (root of the mean square); a "
        f"sample takes {bytes_['soft']:,} bytes with a soft label and {bytes_['hard']:,} with a hard one.",
        *([f"{diverged} students diverged and count as chance."] if diverged else []),
    ]  # fmt: skip


def _accuracy(cell: Mapping[str, Any]) -> str:
    a = cell["accuracy"]
    return f"{100 * a['mean']:.1f}" + ("" if a["ci95"] is None else " [{:.1f}, {:.1f}]".format(*_percent(a["ci95"])))


def _percent(ends: list[float]) -> list[float]:
    return [100 * end for end in ends]


def worth_cells(row: Mapping[str, Any], budgets: Sequence[int]) -> list[str]:
    """Return what a budget is worth and its interval, within the measured budgets."""
    ends = [f"under {budgets[0]}", f"over {budgets[-1]}"]
    value = {"more": ends[1], "fewer": ends[0], "unknown": "unknown"}.get(row["side"]) or f"{row['value']:.3g}"
    if not row["known"]:
        return [value, "unknown"]
    low, high = (ends[i] if row[e] is None else f"{row[e]:.3g}" for i, e in enumerate(("low", "high")))
    return [value, f"{low} to {high}"]
