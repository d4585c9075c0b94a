"""``potstill use augmentation``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, JobOptions, Parsed, optional
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseAugmentation"]


@dataclass(frozen=True, kw_only=True)
class UseAugmentation(JobOptions, DataCommand):
    """Measure an augmentation as it is, and with labels and weights adapted by validation data (SAFLEX).

    Adapted, each augmented sample gets the weight and the soft label that lower the loss of validation data most.
    Training on training and validation data together is always measured, too. The same command again resumes where an
    interrupted one stopped.
    """

    data: DataArgument
    """The real data, with classes and a test part."""
    augment: Annotated[str, arg(metavar="NAME|FILE.py:NAME")]
    """Augmentation: one of `potstill augmentations`, or your function of inputs, labels and a torch.Generator."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for augmentation.json, the page augmentation.html and a file for each network."""
    validation: Annotated[float, arg(metavar="F")] = 0.5
    """Fraction of the training data that adapts labels and weights."""
    seeds: Annotated[int, arg(metavar="K")] = 5
    """Networks of each way, each with another validation part; intervals are over them."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the learner."""
    updates: Annotated[int, arg(metavar="N")] = 300
    """Updates of each network."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    lr: Annotated[float, arg(metavar="LR")] = 0.03
    """First learning rate."""
    pull: Annotated[float, arg(metavar="P")] = 2.0
    """Strength that holds labels near those of the augmentation; 0: they are free."""
    temperature: Annotated[float, arg(metavar="T")] = 0.25
    """Softness of adapted labels; 0: one class each."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first network."""

    main_options: ClassVar[tuple[str, ...]] = ("augment", "out", "validation", "seeds", "network", "updates", "seed")
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Learner": ("batch", "lr"),
        "Adapting": ("pull", "temperature"),
    }
    file_options: ClassVar[tuple[str, ...]] = ("augment",)
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.augmentation import compare_augmentation

        splits = load_data(parsed, self.data, progress)
        arguments = self.arguments_for(compare_augmentation)
        result = compare_augmentation(splits, steps=self.updates, progress=progress.report_count, **arguments)
        text = [*augmentation_blocks(result), f"Page: {self.out / 'augmentation.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def augmentation_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a comparison as text: a table and what it shows."""
    from potstill.reports.augmentation import AUGMENTATION_HEAD, cells_of

    n = result["seeds"]
    return [
        f"{result['source']}: accuracy in percent on {result['test_samples']:,} test samples, {n} "
        f"network{'' if n == 1 else 's'} ({result['network']}) of each way, 95% intervals",
        Table([*AUGMENTATION_HEAD], [cells_of(r) for r in result["rows"]]), "", *result["sentences"],
    ]  # fmt: skip
