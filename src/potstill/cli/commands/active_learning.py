"""``potstill active-learning``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, DeviceOption, ForceOption, Misuse, Parsed, optional
from potstill.cli.option_types import Names
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table, json_document
from potstill.errors import PotstillError

__all__ = ["ActiveLearning"]


@dataclass(frozen=True, kw_only=True)
class ActiveLearning(ForceOption, DeviceOption, DataCommand):
    """Simulate active learning on DATA, whose labels are revealed a few at a time, to measure what labels cost.

    A learner is trained anew after each round, and an acquisition function selects the next samples. Random selection
    runs beside it, and training on all labels. To label data of your own, call `potstill.active.learning`.
    """

    data: DataArgument
    """The real data, with labels: only revealed ones are read, but for the accuracy on all of them."""
    acquire: Annotated[Names, arg(metavar="NAME,...")] = ("margin",)
    """Acquisition functions, with commas between them: random, least-confidence, entropy, margin, badge, core-set."""
    rounds: Annotated[int, arg(metavar="R")] = 10
    """Rounds after the start."""
    per_round: Annotated[int, arg(metavar="B")] = 20
    """Labels revealed in each round."""
    start: Annotated[int | None, optional("N")] = None
    """Random samples labelled first (else as many as in a round)."""
    candidates: Annotated[int | None, optional("N")] = None
    """Random samples of the pool that a round considers (else all)."""
    fraction: Annotated[float, arg(metavar="F")] = 0.95
    """Labels are counted until this fraction of the full accuracy is reached."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the learner: one of `potstill networks`."""
    steps: Annotated[int, arg(metavar="N")] = 200
    """Updates of the learner in each round."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update."""
    lr: Annotated[float, arg(metavar="LR")] = 0.01
    """Learning rate of the learner."""
    seeds: Annotated[int, arg(metavar="K")] = 5
    """Independent runs of each."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first of their seeds."""
    out: Annotated[Path | None, optional("active.json")] = None
    """Also write the result to this file."""
    plot: Annotated[Path | None, optional("active.svg")] = None
    """Draw accuracy against labels into this file."""

    main_options: ClassVar[tuple[str, ...]] = (
        "acquire", "rounds", "per_round", "start", "network", "steps", "seeds", "seed", "out", "plot",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Learner": ("candidates", "fraction", "batch", "lr")}
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".json",), "plot": (".svg",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output, describe_foreign_page
        from potstill.active import ACQUISITIONS, label_cost
        from potstill.active.learning import LabelingSchedule, Learner
        from potstill.dataset_file import write_atomic
        from potstill.errors import unknown_name
        from potstill.reports.label_curves import draw_label_curves
        from potstill.runs.load_data import as_splits, pick_device

        for name in self.acquire:
            if name not in ACQUISITIONS:
                raise Misuse(str(unknown_name("acquisition", name, ACQUISITIONS)))
        if self.out is not None:
            check_output(self.out, force=self.force, found=lambda at: _other_result(at, self.data))
        if self.plot is not None:
            check_output(self.plot, force=self.force, found=describe_foreign_page)
        splits = as_splits(load_data(parsed, self.data, progress), pick_device(self.device))
        if splits.test is None:
            raise PotstillError(f"{self.data}: accuracy needs a test split; give a --test-fraction above 0")
        sources = (splits.train, splits.test)
        result = label_cost(
            lambda seed: sources, self.acquire,
            schedule=LabelingSchedule(
                rounds=self.rounds, per_round=self.per_round, initial_labels=self.start, candidates=self.candidates
            ),
            learner=Learner(network=self.network, steps=self.steps, batch=self.batch, lr=self.lr),
            fraction=self.fraction, seeds=self.seeds, seed=self.seed, progress=progress.report_count,
        )  # fmt: skip
        value = {"data": self.data, **result, "command": parsed.line}
        if self.out is not None:
            write_atomic(self.out, (json_document(value) + "\n").encode())
        if self.plot is not None:
            write_atomic(self.plot, draw_label_curves(result, f"Accuracy against labels on {self.data}").encode())
        return Answer(value, _label_cost_text(result))


def _other_result(path: Path, data: str) -> str:
    """Describe what is at ``path`` if it is no result of these data, else return ``""``."""
    from potstill._util.outputs import read_json_object

    held = read_json_object(path)
    if not {"curves", "pool", "labels"} <= held.keys():
        return "is there already, and is no result of active-learning"
    return "" if held.get("data") == data else f"holds the result of other data ({str(held.get('data'))[:80]})"


def _label_cost_text(result: Mapping[str, Any]) -> list[Block]:
    """Return what labels cost: a table, and the accuracy on all of them."""
    rows = []
    for name, curve in result["curves"].items():
        cost, saved, last = curve["needed"], curve["saved"], curve["accuracy"][-1]
        never = f" ({cost['at_least']} of {cost['n']} never)" if cost["at_least"] else ""
        ci = saved["ci95"]
        rows.append(
            [
                name,
                f"{100 * last['mean']:.1f} %",
                f"{cost['mean']:,.0f}{never}",
                "" if name == "random" or ci is None else f"{saved['mean']:+,.0f} [{ci[0]:+,.0f}, {ci[1]:+,.0f}]",
            ]
        )
    full, labels = result["full"], result["labels"][-1]
    percent = f"{100 * result['fraction']:g} %"
    head = ["acquire", f"at {labels:,} labels", f"labels to {percent} of full", "fewer than random"]
    return [Table(head, rows), f"All {result['pool']:,} labels: {100 * full['mean']:.1f} %"]
