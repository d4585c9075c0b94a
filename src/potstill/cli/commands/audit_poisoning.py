"""``potstill audit poisoning``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from potstill._util.audit_settings import PoisoningSettings
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.command import DataCommand, Parsed, optional
from potstill.cli.reading import load_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditPoisoning"]


@dataclass(frozen=True, kw_only=True)
class AuditPoisoning(PoisoningSettings, AuditCommand, DataCommand):
    """Look for a trigger or wrong labels that somebody put into a set of pictures, or into the data it was made of.

    By students of the set: trigger inversion, spectral signatures, activation clustering. With trusted data also: do
    networks trained on these, and their nearest samples, agree with the labels? No result proves that a set is clean.
    """

    data: Annotated[str | None, optional("DATA")] = None
    """Real data that are trusted, of the set's shape and classes; not those that may be poisoned themselves."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""

    main_options: ClassVar[tuple[str, ...]] = ("data", "out", "students", "network", "seed", "device")
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Details": ("samples", "steps", "trusted_steps", "inversion_steps", "lr")
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit poisoning small.safetensors --data mine/ --out small.audit.json",
        "potstill audit poisoning small.safetensors",
    )

    def inputs(self) -> tuple[object, ...]:
        return () if self.data is None else (self.data,)

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.poisoning import audit_poisoning
        from potstill.dataset_file import load

        small = load(self.file)
        splits = None if self.data is None else load_data(parsed, self.data, progress, small.metadata)
        return audit_poisoning(
            small, splits, self.settings_as(PoisoningSettings), network=self.network, seed=self.seed,
            device=self.device, progress=progress.report_count,
        )  # fmt: skip
