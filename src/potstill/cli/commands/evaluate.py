"""``potstill evaluate``."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import (
    Answer,
    DataCommand,
    Flag,
    ForceOption,
    JobOptions,
    Misuse,
    Parsed,
    SetArgument,
    optional,
)
from potstill.cli.option_types import Names
from potstill.cli.reading import load_set_and_data
from potstill.cli.text import Block, Table, json_document
from potstill.errors import PotstillWarning

if TYPE_CHECKING:
    from potstill.evaluation.scorecard import Scorecard

__all__ = ["Evaluate", "scorecard_blocks"]


@dataclass(frozen=True, kw_only=True)
class Evaluate(ForceOption, JobOptions, DataCommand):
    """Measure how well models train on a distilled set: train on it under a protocol, score on the real test split.

    The baselines are measured alike: real samples in the same bytes, random and selected, in the codec that serves them
    best; as many random samples; and the full data. The protocol's own settings are options too (--protocol NAME --help
    lists them); changing one changes the fingerprint.
    """

    file: SetArgument
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    protocol: Annotated[str, arg(metavar="NAME")] = "potstill"
    """Protocol: one of `potstill protocols`."""
    network: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")] = ()
    """Networks to train on it; more than one also measures transfer between networks."""
    quick: Flag = False
    """A shortened protocol, to look at a set and not to report it: 3 students, at most 100 epochs or 60 updates, no
    robust scores, no full data, few ways to store real samples, and with labels that are classes none with soft labels.
    The scorecard says so and its fingerprint differs."""
    seeds: Annotated[int | None, optional("K")] = None
    """Number of networks trained on each set (else the protocol's). The fingerprint stays; `n` on the scorecard says
    it."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """The first of those seeds."""
    no_baselines: Flag = False
    """Do not measure the baselines: trains on this set alone, and is the cheapest with --no-full."""
    baselines: Annotated[Names | None, optional("NAME,…")] = None
    """Further baselines. model: a small quantised network in the same bytes, trained on all of DATA. arima, ets: of
    forecasts, models fitted to the whole training series (needs statsmodels)."""
    no_full: Flag = False
    """Do not train a network on the full data for reference. The baseline random-soft still trains its teacher on
    them, for 200 steps: --no-baselines leaves that out, too."""
    no_robust_scores: Flag = False
    """Do not measure hlr, ior, lrs and ars."""
    no_weights: Flag = False
    """Ignore the samples' weights, if the set has any."""
    stored: Annotated[Path | None, optional("LABELS.safetensors")] = None
    """A teacher's soft labels of this set, as `potstill label` writes them."""
    decoder: Annotated[Literal["counted", "shared"], arg(metavar="counted|shared")] = "counted"
    """Bytes of what the set decodes by and its file lacks, such as a generator. counted: the baselines get as many
    more. shared: readers have it already."""
    side_by_side: Annotated[int | None, optional("S")] = None
    """Number of students to train as one network (else 32 on a GPU, 1 on a CPU)."""
    out: Annotated[Path | None, optional("scorecard.json")] = None
    """Also write the scorecard to this file."""

    options_of: ClassVar[Literal["method", "protocol"] | None] = "protocol"
    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "protocol", "network", "quick", "seeds", "no_baselines", "no_full", "seed",
        "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Protocol": ("baselines", "no_robust_scores", "no_weights", "stored", "decoder"),
        "Machine": ("side_by_side",),
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill evaluate small.safetensors --data photos/ --out small.scorecard.json",
        "potstill evaluate small.safetensors --data photos/ --quick",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".json",)}

    def check(self) -> None:
        if self.baselines and self.no_baselines:
            raise Misuse("evaluate: --baselines names further ones, --no-baselines takes none; give one of the two")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.api.evaluate import evaluate
        from potstill.dataset_file import write_atomic
        from potstill.evaluation.horizons import names_forecast
        from potstill.evaluation.scorecard import describe_other_scorecard

        if self.out is not None:
            check_output(self.out, force=self.force, found=lambda at: describe_other_scorecard(at, self.file))
        small, card, splits = load_set_and_data(parsed, self.file, self.data, progress, other_horizon=True)
        if self.out is not None:
            check_output(self.out, reads=[splits], force=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PotstillWarning)  # printed by load_set_and_data
            named = {**self.arguments_for(evaluate), "baselines": self.baselines or not self.no_baselines}
            if names_forecast(card, self.reading.task):
                named["task"] = self.reading.task
            score = evaluate(
                small, splits, networks=list(self.network) or None, full=not self.no_full,
                robust_scores=not self.no_robust_scores, weights=not self.no_weights, progress=progress,
                **named, **parsed.options,
            )  # fmt: skip
        value = {**score.to_dict(), "file": str(self.file), "command": parsed.line}
        if self.out is not None:
            # Named from the scorecard's own folder, so that both can be moved together.
            relative = os.path.relpath(self.file, self.out.parent)
            write_atomic(self.out, (json_document({**value, "file": relative}) + "\n").encode())
        return Answer(value, scorecard_blocks(score))


def scorecard_blocks(score: "Scorecard") -> list[Block]:
    """Return a scorecard as a text, this set's row in bold."""
    parts = score.parts()
    plain_form = "\n".join(str(score).splitlines()[1 : 2 + len(parts.rows)])
    styles = ["bold", *("" for _ in parts.rows[1:])]
    return [parts.title, Table(parts.head, parts.rows, styles, plain_form), "\n".join(parts.lines)]
