"""``potstill audit privacy``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from potstill._util.audit_settings import PrivacySettings
from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.command import DataCommand, Misuse, Parsed, optional
from potstill.cli.option_types import Specs
from potstill.cli.reading import load_set_and_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditPrivacy"]


@dataclass(frozen=True, kw_only=True)
class AuditPrivacy(PrivacySettings, AuditCommand, DataCommand):
    """Measure what a set gives away of the records that it was made of.

    First, in seconds: items that are near copies of a training record, or nearest to the one that they started from.
    Then, by the set alone, if members can be distinguished from held-out records of the test part: those that items
    started from, and all others. --shadows makes the set again on other records: likelihood ratios of canaries, and a
    lower bound of ε beside the one that the file claims.
    """

    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set was made of, with a test part."""
    fpr: Annotated[Specs | None, optional("RATE,...")] = None
    """False-positive rates, each at least 1 over the tested held-out records. (default: 0.001,0.01, where there are
    records enough)"""
    updates: Annotated[int, arg(metavar="N")] = 300
    """Updates of each of these networks."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "fpr", "shadows", "canaries", "students", "updates", "seed", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit privacy small.safetensors --data photos/ --out small.audit.json",
        "potstill audit privacy small.safetensors --data photos/ --shadows 16 --out small.audit.json",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.data,)

    def check(self) -> None:
        for rate in self.fpr or ():
            try:
                float(rate)
            except ValueError:
                raise Misuse(f"--fpr: rates are numbers such as 0.001,0.01, but {rate[:40]!r} is not") from None

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.privacy import audit_privacy
        from potstill.audit.privacy.remake import seconds_of
        from potstill.runs.load_data import load_set_and_splits
        from potstill.uses.continual import Learner

        given, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        small, splits = load_set_and_splits(given, splits, self.device)
        if self.shadows:
            seconds = self.shadows * seconds_of(small)
            estimate = format_estimate_words(seconds)
            progress.note(f"{self.shadows} shadow runs: {estimate} to make the sets, and more to attack them")
        return audit_privacy(
            small, splits, self.settings_as(PrivacySettings),
            fpr=None if self.fpr is None else [float(rate) for rate in self.fpr], learner=Learner(steps=self.updates),
            folder=None if self.out is None else self.out.with_name(f"{self.out.name}.shadows"), seed=self.seed,
            device=self.device, progress=progress.report_count,
        )  # fmt: skip
