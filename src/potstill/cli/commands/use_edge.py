"""``potstill use edge``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, Flag, Parsed, SetArgument, optional
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseEdge"]

_COLUMNS = (0, 1, 2, 3, 5, 6, 7, 8)
"""Columns of the page that a terminal shows."""


@dataclass(frozen=True, kw_only=True)
class UseEdge(DataCommand):
    """Measure how a small device without Python trains on a set: seconds, memory, bytes and accuracy on one core.

    Writes the set as a C header of 8- or 4-bit integers and a trainer in plain C beside it. Real samples of the same
    bytes, all real data and a quantised model of the same bytes are measured alike. The same command again resumes
    where an interrupted one stopped.
    """

    file: SetArgument
    """The distilled set, or coded real samples (--method real)."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of, with a test part."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for set.h, train.c, test.bin, edge.json, the page edge.html and a file for each row."""
    to: Annotated[str, arg(metavar="P%")] = "90%"
    """Accuracy on held-out training data until which updates and seconds count."""
    head: Annotated[str, arg(metavar="NAME")] = "linear"
    """Head that the device trains: linear, mlp, or mlp:hidden=64."""
    bits: Annotated[Literal[8, 4], arg(metavar="8|4")] = 8
    """Bits of an input value on the device."""
    updates: Annotated[int, arg(metavar="N")] = 1000
    """Updates of each head at most: all, a fifth or a twentieth, as is best on held-out training data."""
    batch: Annotated[int, arg(metavar="N")] = 32
    """Samples of an update, at most."""
    lr: Annotated[float | None, optional("LR")] = None
    """First learning rate (else for each row the best of five on held-out training data)."""
    seeds: Annotated[int, arg(metavar="K")] = 5
    """Heads of each row; intervals are over them."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first of those seeds."""
    quick: Flag = False
    """Try few ways to store real samples, and train the model briefly: to look, not to report."""

    main_options: ClassVar[tuple[str, ...]] = ("data", "out", "to", "head", "bits", "updates", "seeds", "quick")
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Learner": ("batch", "lr", "seed")}
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.dataset_file import load
        from potstill.uses.edge import edge

        small = load(self.file)
        splits = load_data(parsed, self.data, progress, small.metadata)
        arguments = self.arguments_for(edge)
        result = edge(small, splits, target=self.to, progress=progress.report_count, **arguments)
        text = [*edge_blocks(result), f"Page: {self.out / 'edge.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def edge_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return an edge run as text: a table and what it shows."""
    from potstill.reports.edge import EDGE_HEAD, cells_of

    return [
        f"{result['source']}: accuracy in percent of a {result['settings']['head']} head on {result['test_samples']:,} "
        f"test samples; updates until {100 * result['settings']['target']:g} % on held-out training samples",
        Table([EDGE_HEAD[n] for n in _COLUMNS], [[cells_of(r)[n] for n in _COLUMNS] for r in result["rows"]]), "",
        *result["sentences"],
        *(f"{r['label']}: {r['reason']}" for r in result["rows"] if "reason" in r),
    ]  # fmt: skip
