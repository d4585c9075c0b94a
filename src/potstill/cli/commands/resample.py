"""``potstill resample``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, ForceOption, Parsed, SetArgument
from potstill.cli.reading import set_summary

__all__ = ["Resample"]


@dataclass(frozen=True, kw_only=True)
class Resample(ForceOption, Command):
    """Draw other items, more or fewer, from a set that is a generator (`--parametrization generator`).

    Nothing is trained, and the bytes stay: the file stores the generator, and how many items a reader draws from it.
    """

    file: SetArgument
    """The set."""
    ipc: Annotated[int, arg(metavar="N")]
    """Items drawn of each class."""
    out: Annotated[Path, arg(metavar="SET.safetensors")]
    """The set to write."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of the draw, from 0 to 65535."""

    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".safetensors",)}
    examples: ClassVar[tuple[str, ...]] = ("potstill resample generator.safetensors --ipc 500 --out many.safetensors",)

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.dataset_file import load, resample

        check_output(self.out, reads=[self.file], force=self.force or self.out.exists())
        small = resample(load(self.file), self.ipc, seed=self.seed)
        small.save(self.out, force=self.force)
        return Answer(
            {"path": str(self.out), "items": len(small), **small.metadata},
            f"{self.out}: {set_summary(small.metadata, len(small), self.out)}",
        )
