"""``potstill audit screening``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from potstill._util.audit_settings import Screening
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.command import DataCommand, Parsed, optional
from potstill.cli.reading import load_set_and_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditScreening"]


@dataclass(frozen=True, kw_only=True)
class AuditScreening(Screening, AuditCommand, DataCommand):
    """Measure how well students of a set find one class: AUROC, and sensitivity at a fixed specificity.

    Students of the set, of as many random real samples and of all data are tested on the same samples. The threshold is
    that of held-out training samples: no test sample has a part in it. With --attribute, by its values.
    """

    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set was made of, with a test part."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "positive", "specificity", "out", "students", "network", "seed", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Details": ("steps", "full_steps", "lr")}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit screening small.safetensors --data patients.csv --positive ill --specificity 0.95",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.data,)

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.screening import audit_screening
        from potstill.runs.load_data import load_set_and_splits

        settings = self.settings_as(Screening)
        small, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        distilled, splits = load_set_and_splits(small, splits, self.device)
        return audit_screening(
            distilled, splits, settings, network=self.network, seed=self.seed, device=self.device,
            progress=progress.report_count,
        )  # fmt: skip
