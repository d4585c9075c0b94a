"""``potstill use continual``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, JobOptions, Misuse, Parsed, optional
from potstill.cli.option_types import ByteCounts, Specs
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseContinual"]


@dataclass(frozen=True, kw_only=True)
class UseContinual(JobOptions, DataCommand):
    """Measure memories of a continual learner at equal bytes: DATA come in steps, a network learns from the memory.

    After each step a fresh network learns from the memory alone. Memories are coded real samples, raw ones, or
    distilled sets of each step. The same command again resumes where an interrupted one stopped.
    """

    data: DataArgument
    """The real data, with classes and a test part."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for continual.json, the page continual.html and a file for each cell."""
    memories: Annotated[Specs, arg(metavar="NAME,...")] = ("coded", "raw")
    """Memories of real samples: coded (its codec is chosen on training data of the first step), raw (random,
    exact), random, herding, k-means, soft (labels of the network of that time), balanced and reservoir (one pass, all
    bytes at every step). NAME@CODEC fixes the codec."""
    methods: Annotated[Specs | None, optional("NAME,...")] = None
    """Distillation methods as memories: each step's data alone, in its share of the bytes."""
    bytes: Annotated[ByteCounts, arg(metavar="SIZE,...")] = (8000,)
    """Size of the whole memory, or several, with commas between them: 2kB,8kB."""
    scenario: Annotated[Literal["class", "domain", "online"], arg(metavar="class|domain|online")] = "class"
    """Parts that come in steps: classes, groups (of --group) with every class, or classes read once."""
    classes_per_step: Annotated[int, arg(metavar="N")] = 2
    """Classes of a step."""
    step_classes: Annotated[str | None, optional("A,B/C,D")] = None
    """Classes of each step by name, in place of drawn orders."""
    steps: Annotated[int, arg(metavar="N")] = 5
    """Steps of a domain stream."""
    orders: Annotated[int, arg(metavar="K")] = 5
    """Orders of classes or groups; intervals are over them."""
    parametrization: Annotated[str | None, optional("NAME")] = None
    """Parametrization of the methods' sets."""
    codec: Annotated[str | None, optional("NAME")] = None
    """Codec of the methods' sets."""
    preset: Annotated[str | None, optional("NAME")] = None
    """Preset of the methods."""
    distill_steps: Annotated[int | None, optional("N")] = None
    """Largest number of steps of a method."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the learner."""
    updates: Annotated[int, arg(metavar="N")] = 300
    """Updates of each learner."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    lr: Annotated[float, arg(metavar="LR")] = 0.03
    """Learning rate of the learners."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first order."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "memories", "methods", "bytes", "scenario", "classes_per_step", "step_classes", "steps", "orders",
        "seed",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Methods": ("parametrization", "codec", "preset", "distill_steps"),
        "Learner": ("network", "updates", "batch", "lr"),
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def check(self) -> None:
        if self.step_classes is not None and self.scenario != "class":
            raise Misuse("--step-classes names the classes of each step, so it goes with --scenario class alone")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.continual import Learner, continual

        splits = load_data(parsed, self.data, progress)
        arguments = self.arguments_for(continual)
        if self.step_classes is not None:
            arguments["scenario"] = [step.split(",") for step in self.step_classes.split("/")]
            arguments["orders"] = arguments["orders"] if "orders" in parsed.explicit else 1
        learner = Learner(network=self.network, steps=self.updates, batch=self.batch, lr=self.lr)
        result = continual(splits, learner=learner, progress=progress.report_count, **arguments)
        text = [*continual_blocks(result), f"Page: {self.out / 'continual.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def continual_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a continual run as text: a table, reasons of memories that do not fit, and what it shows."""
    from potstill.reports.continual import percent, points, span

    n, settings = result["orders"], result["settings"]
    head = ["bytes", "memory", "final", "average", "forgetting", "minus the best real", "samples"]
    rows = [
        [
            f"{r['bytes']:,}", f"{r['memory']} (made)" if r["made"] else r["memory"],
            *([percent(r[m]) for m in ("final", "average", "forgetting")] if "final" in r else ["no fit", "", ""]),
            *([points(r.get("difference")), span(r["items"])] if "final" in r else ["", ""]),
        ]
        for r in result["rows"]
    ]  # fmt: skip
    reasons = dict.fromkeys(r["reason"] for r in result["rows"] if "reason" in r)
    return [
        f"{result['source']}: accuracy in percent of a network trained on the memory after {settings['steps']} steps, "
        f"{n} order{'' if n == 1 else 's'}, 95% intervals over them",
        Table(head, rows), "", *result["sentences"], *reasons,
    ]  # fmt: skip
