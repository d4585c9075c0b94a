"""``potstill inspect``."""

from dataclasses import dataclass

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Parsed, SetArgument

__all__ = ["Inspect"]


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """Show what is in a distilled set: its metadata, its tensors and their sizes."""

    file: SetArgument
    """The distilled set."""

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.dataset_file import describe, inspect

        found = inspect(self.file)
        return Answer({"path": str(self.file), **found}, f"{self.file}\n{describe(found)}")
