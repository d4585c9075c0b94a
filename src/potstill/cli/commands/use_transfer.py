"""``potstill use transfer``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, JobOptions, Parsed, SetArgument, optional
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseTransfer"]


@dataclass(frozen=True, kw_only=True)
class UseTransfer(JobOptions, DataCommand):
    """Measure pre-training on a small set of vectors: accuracy with few labels of other data afterwards.

    The set is one of --targets representations. Compared are no pre-training, real pictures with their vectors in
    the same bytes, all real pictures, and the teacher's vectors themselves. The same command again resumes where an
    interrupted one stopped.
    """

    file: SetArgument
    """The distilled set, whose targets are vectors."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    target: Annotated[str, arg(metavar="DATA")]
    """Other data, with classes and a test part; their pictures are resized to those of the set."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for transfer.json and a file for each network."""
    labels: Annotated[str, arg(metavar="N|P%")] = "10"
    """Labelled samples of each class, or a part of all labels such as 1%."""
    seeds: Annotated[int, arg(metavar="K")] = 5
    """Networks of each way, each with other labels; intervals are over them."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the learner. (default: that of the set)"""
    steps: Annotated[int, arg(metavar="N")] = 500
    """Updates of pre-training."""
    tuning_steps: Annotated[int, arg(metavar="N")] = 200
    """Updates of fine-tuning."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    lr: Annotated[float, arg(metavar="LR")] = 0.1
    """First learning rate of pre-training."""
    tuning_lr: Annotated[tuple[float, ...], arg(metavar="LR ...")] = (0.01, 0.05)
    """First learning rates of fine-tuning: each network takes the one that does best on half of its labels."""
    weight_decay: Annotated[float, arg(metavar="W")] = 1e-3
    """Weight decay."""
    augment: Annotated[str, arg(metavar="NAME")] = "dsa"
    """Augmentation of fine-tuning: one of `potstill augmentations`."""
    test_samples: Annotated[int, arg(metavar="N")] = 2000
    """Test samples, at most."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first network."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "target", "out", "labels", "seeds", "network", "steps", "tuning_steps",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Learner": ("batch", "lr", "tuning_lr", "weight_decay", "augment", "test_samples", "seed"),
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.dataset_file import load
        from potstill.uses.transfer import measure_transfer

        small = load(self.file)
        splits = load_data(parsed, self.data, progress, small.metadata)
        arguments = self.arguments_for(measure_transfer)
        result = measure_transfer(small, splits, progress=progress.report_count, **arguments)
        if "doubt" in result:
            progress.warn(result["doubt"])
        return Answer({**result, "command": parsed.line}, transfer_blocks(result))


def transfer_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a transfer as text: a table and what it shows."""
    from potstill.uses.transfer import NAMES, describe_labels

    def cell(row: Mapping[str, Any], measure: str) -> str:
        if measure not in row:
            return "–"
        ci = row[measure]["ci95_same_test"] or row[measure]["ci95"]
        mean = f"{100 * row[measure]['mean']:.1f}"
        return mean if ci is None else f"{mean} [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"

    n = result["seeds"]
    rows = [
        [
            NAMES[row["way"]], f"{row['items']:,}" if "items" in row else "–",
            f"{row['bytes']:,}" if "bytes" in row else "–", row.get("codec") or "–", cell(row, "accuracy"),
            cell(row, "probe"),
        ]
        for row in result["rows"]
    ]  # fmt: skip
    return [
        f"{result['source']}, then {describe_labels(result['labels'])} each of {result['classes']} classes of "
        f"{result['target']}: accuracy in percent on {result['test_samples']:,} test samples, {n} "
        f"network{'' if n == 1 else 's'} ({result['network']}) of each way, 95% intervals over them",
        Table(["first learned", "pictures", "bytes", "stored", "fine-tuned", "ridge on its features"], rows), "",
        *result["sentences"],
    ]  # fmt: skip
