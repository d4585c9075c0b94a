"""``potstill materialize``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, ForceOption, Parsed, SetArgument
from potstill.cli.reading import load_data, set_summary

__all__ = ["Materialize"]


@dataclass(frozen=True, kw_only=True)
class Materialize(ForceOption, DataCommand):
    """Turn a selection that was stored as indices, and its data, into a set again: the same one, bit by bit."""

    file: SetArgument
    """The indices, as `potstill export --to indices` writes them."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the selection was made of."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The set to write."""

    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.dataset_file import materialize, read_indices
        from potstill.dataset_file.replacing import describe_conflict

        card = read_indices(self.file)[1]
        check_output(self.out, force=self.force, found=lambda at: describe_conflict(at, card))
        splits = load_data(parsed, self.data, progress, card, selected=True)
        small = materialize(self.file, splits.train)
        small.files = (*splits.files, str(self.file))
        small.save(self.out, force=self.force)
        return Answer(
            {"path": str(self.out), "items": len(small), **small.metadata},
            f"{self.out}: {set_summary(small.metadata, len(small), self.out)}",
        )
