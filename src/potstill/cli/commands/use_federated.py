"""``potstill use federated``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, JobOptions, Parsed, optional
from potstill.cli.option_types import ByteCounts, Names, Numbers, Specs
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table

__all__ = ["UseFederated"]


@dataclass(frozen=True, kw_only=True)
class UseFederated(JobOptions, DataCommand):
    """Measure what clients that share no samples can send to a server: sets or models, by accuracy and bytes.

    DATA are divided among clients. A network is trained on the sets of all, or weights are averaged over rounds. The
    same command again resumes where an interrupted one stopped.
    """

    data: DataArgument
    """The real data, with classes and a test part."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for federated.json, the page federated.html, the partitions and a file for each cell."""
    ways: Annotated[Specs, arg(metavar="NAME,...")] = (
        "averages", "dm+averages", "real", "fedavg:1:3", "fedavg:20", "ensemble", "alone",
    )  # fmt: skip
    """Ways: averages (means of k-means clusters), METHOD (a set distilled from noise), METHOD+averages (distilled from
    averages), fedd3 (kernel ridge regression), feddm:ROUNDS (sets around the server's weights), ensemble-labels[:WAY]
    (sets that all models label), real (random real samples in few bits, which tell what was to stay),
    fedavg:ROUNDS[:EPOCHS], fedprox:ROUNDS[:EPOCHS], ensemble (a model of each client), alone (nothing is sent).
    NAME@CODEC fixes the codec."""
    partition: Annotated[str, arg(metavar="dirichlet|sizes|groups|FILE")] = "dirichlet"
    """Division among clients: skewed classes, skewed sizes, the groups of --group, or a file of an earlier run."""
    alpha: Annotated[Numbers, arg(metavar="A,...")] = (0.1,)
    """Concentration of the skew, or several: 0.1 is strong, inf none."""
    clients: Annotated[int, arg(metavar="N")] = 10
    """Number of clients; with groups, 0 makes one of each."""
    splits: Annotated[int, arg(metavar="K")] = 5
    """Partitions by seed; intervals are over them."""
    bytes: Annotated[ByteCounts, arg(metavar="SIZE,...")] = (16000,)
    """Size of all clients' sets together, or several, with commas between them: 8kB,32kB."""
    networks: Annotated[Names | None, optional("NAME,...")] = None
    """Networks of the clients in turn; with several, sets train each of them, and weights cannot be averaged."""
    drop: Annotated[int, arg(metavar="N")] = 0
    """Clients of each partition that never answer; the run goes on with the others and says which classes are gone."""
    parametrization: Annotated[str | None, optional("NAME")] = None
    """Parametrization of the methods' sets."""
    codec: Annotated[str | None, optional("NAME")] = None
    """Codec of the methods' sets."""
    preset: Annotated[str | None, optional("NAME")] = None
    """Preset of the methods."""
    distill_steps: Annotated[int | None, optional("N")] = None
    """Largest number of steps of a method."""
    updates: Annotated[int, arg(metavar="N")] = 300
    """Updates of each network that is trained on sets."""
    batch: Annotated[int, arg(metavar="N")] = 64
    """Samples of an update, at most."""
    lr: Annotated[float, arg(metavar="LR")] = 0.03
    """Learning rate of the networks."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first partition."""

    main_options: ClassVar[tuple[str, ...]] = (
        "out", "ways", "partition", "alpha", "clients", "splits", "bytes", "networks", "drop", "seed",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Methods": ("parametrization", "codec", "preset", "distill_steps"),
        "Learner": ("updates", "batch", "lr"),
    }
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.uses.federated import Learner, federated

        splits = load_data(parsed, self.data, progress)
        arguments = self.arguments_for(federated)
        arguments["networks"] = self.networks or ()
        learner = Learner(
            network=self.networks[0] if self.networks else None, steps=self.updates, batch=self.batch, lr=self.lr
        )  # fmt: skip
        result = federated(splits, learner=learner, progress=progress.report_count, **arguments)
        text = [*federated_blocks(result), f"Page: {self.out / 'federated.html'}"]
        return Answer({**result, "command": parsed.line}, text)


def federated_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Return a federated run as text: a table, reasons of ways that cannot be taken, and what it shows."""
    from potstill.reports.continual import percent, points, span
    from potstill.reports.federated import traffic

    n = result["splits"]
    head = ["clients", "bytes", "way", "accuracy", "minus the best set", "kB up", "kB down", "inputs"]
    rows = [
        [
            r["partition"], f"{r['bytes']:,}", r["way"],
            *(
                [percent(r["accuracy"]), points(r.get("difference")), traffic(r["up"]), traffic(r["down"]),
                 span(r["items"])]
                if "accuracy" in r else ["–", "", "", "", ""]
            ),
        ]
        for r in result["rows"]
    ]  # fmt: skip
    reasons = dict.fromkeys(r["reason"] for r in result["rows"] if "reason" in r)
    return [
        f"{result['source']}: accuracy in percent on the test data, {n} partition{'' if n == 1 else 's'}, 95% "
        "intervals over them",
        Table(head, rows), "", *result["sentences"], *reasons,
    ]  # fmt: skip
