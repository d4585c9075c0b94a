"""``potstill score``."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, ForceOption, JobOptions, Misuse, Parsed, optional
from potstill.cli.option_types import Names
from potstill.cli.reading import data_words, load_data
from potstill.cli.text import plural

__all__ = ["Score"]


@dataclass(frozen=True, kw_only=True)
class Score(ForceOption, JobOptions, DataCommand):
    """Score every training sample of DATA by several methods, in one file that can be sorted.

    Networks are trained once, and their answers are cached for all methods and later runs. `potstill distill --scores`
    then selects at any size at once.
    """

    data: DataArgument
    """The real data."""
    methods: Names
    """Scores, with commas between them: methods such as forgetting,aum,cartography."""
    out: Annotated[Path, arg(metavar="SCORES.parquet")]
    """The file to write: one row per sample."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network that is trained: one of `potstill networks`."""
    epochs: Annotated[int | None, optional("N")] = None
    """Epochs of the recorded training (else the methods' own)."""
    runs: Annotated[int | None, optional("K")] = None
    """Independent trainings (else the methods' own)."""
    map: Annotated[Path | None, optional("MAP.svg")] = None
    """Also draw the data map of cartography, which must be among the methods."""

    examples: ClassVar[tuple[str, ...]] = ("potstill score photos/ --methods forgetting,aum --out scores.parquet",)
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".parquet",), "map": (".svg",)}

    def check(self) -> None:
        if self.map is not None and "cartography" not in self.methods:
            raise Misuse("score: --map draws what cartography says; add cartography to --methods")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output, describe_foreign_page
        from potstill.api.score import score
        from potstill.dataset_file import write_atomic

        if self.map is not None:
            check_output(self.map, force=self.force, found=describe_foreign_page)
        given = {"record_epochs": self.epochs, "runs": self.runs}
        scores = score(
            load_data(parsed, self.data, progress), self.methods, self.out, force=self.force,
            network=self.network, device=self.device, executor=self.executor_spec, progress=progress.report_count,
            **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip
        if self.map is not None:
            write_atomic(self.map, _data_map(scores).encode())
        equal = 0 if scores.first_duplicate is None else len(scores) - len(set(scores.first_duplicate.tolist()))
        columns = [name for of_method in scores.methods.values() for name in of_method.columns]
        value = {
            "path": str(self.out), "samples": len(scores), "hash": scores.content_hash, "columns": columns,
            "duplicates": equal, "regions": {r: list(scores.region).count(r) for r in dict.fromkeys(scores.region)},
            "map": None if self.map is None else str(self.map), "command": parsed.line,
            "methods": {n: {"config": dict(m.config), "seconds": m.seconds} for n, m in scores.methods.items()},
        }  # fmt: skip
        following = ["potstill", "distill", self.data, *data_words(self.reading), "--method", self.methods[0]]
        following += ["--ipc", "10", "--scores", str(self.out), "--out", "chosen.safetensors"]
        verb = "equals" if equal == 1 else "equal"
        same = f"{plural(equal, 'sample')} {verb} an earlier one" if equal else "no two samples are equal"
        return Answer(
            value,
            f"{self.out}: {plural(len(scores), 'sample')}, {', '.join(columns)}; {same}\n"
            f"Select by it: {shlex.join(following)}",
        )


def _data_map(scores: Any) -> str:
    from potstill.reports.data_map import MapPoint, draw_data_map

    columns = scores.methods["cartography"].columns
    rows = zip(
        columns["variability"].tolist(), columns["confidence"].tolist(), scores.region, scores.labels.tolist(),
        strict=True,
    )  # fmt: skip
    points = [
        MapPoint(
            variability=v, confidence=c, region=region,
            label=f"{scores.classes[y]}: {scores.names[i] if scores.names else i}",
        )
        for i, (v, c, region, y) in enumerate(rows)
    ]  # fmt: skip
    return draw_data_map(points, scores.source)
