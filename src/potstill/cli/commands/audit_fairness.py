"""``potstill audit fairness``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from potstill._util.audit_settings import FairnessSettings
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.command import DataCommand, Parsed, optional
from potstill.cli.reading import load_set_and_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditFairness"]


@dataclass(frozen=True, kw_only=True)
class AuditFairness(FairnessSettings, AuditCommand, DataCommand):
    """Measure whom a set serves badly, and if it amplifies a bias of the data.

    Students of the set, of as many random real samples and of all data are tested by --attribute (sex, colour,
    hospital): accuracy for each value, and the equalised-odds gap, the difference between values in how often a class
    is recognised. Nothing is selected by the results.
    """

    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set was made of, with a test part."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "students", "steps", "full_steps", "network", "seed", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Details": ("lr", "least")}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit fairness small.safetensors --data patients.csv --attribute sex --out small.audit.json",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.data,)

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.fairness import audit_fairness
        from potstill.runs.load_data import load_set_and_splits

        small, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        distilled, splits = load_set_and_splits(small, splits, self.device)
        return audit_fairness(
            distilled, splits, self.settings_as(FairnessSettings), network=self.network, seed=self.seed,
            device=self.device, progress=progress.report_count,
        )  # fmt: skip
