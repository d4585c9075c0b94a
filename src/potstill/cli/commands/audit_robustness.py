"""``potstill audit robustness``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from potstill._util.audit_settings import RobustnessSettings
from potstill._util.progress import ProgressReporter
from potstill.cli.audits import AuditCommand
from potstill.cli.command import DataCommand, Misuse, Parsed, optional
from potstill.cli.option_types import Specs
from potstill.cli.reading import load_set_and_data

if TYPE_CHECKING:
    from potstill.audit import Audit

__all__ = ["AuditRobustness"]


@dataclass(frozen=True, kw_only=True)
class AuditRobustness(RobustnessSettings, AuditCommand, DataCommand):
    """Measure how much of the accuracy of a set's students is left under attack and on changed pictures.

    Students of the set, of as many random real samples and of all data are attacked by FGSM, PGD, transfer and random
    search, which also checks for masked gradients. Beside it: corruptions, calibration, and outliers.
    """

    data: Annotated[str, arg(metavar="DATA")]
    """The real data that the set was made of, with a test part. Pictures."""
    eps: Annotated[Specs, arg(metavar="RADIUS,...")] = ("2/255", "8/255")
    """Radii of L∞, where pixels are in [0, 1]."""
    eps_l2: Annotated[Specs, arg(metavar="RADIUS,...")] = ("0.5",)
    """Radii of L2, in the same units."""
    ood: Annotated[str | None, optional("DATA")] = None
    """Pictures of no class, of the same shape (else uniform noise, and test pictures in shuffled patches)."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "data", "out", "eps", "eps_l2", "autoattack", "ood", "students", "network", "seed", "device",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Details": ("samples", "attack_steps", "queries", "steps", "full_steps", "lr", "adversary")
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill audit robustness small.safetensors --data photos/ --out small.audit.json",
        "potstill audit robustness small.safetensors --data photos/ --eps 1/255,4/255 --ood others/",
    )

    def inputs(self) -> tuple[object, ...]:
        return (self.data, *([] if self.ood is None else [self.ood]))

    def check(self) -> None:
        for option, radii in (("--eps", self.eps), ("--eps-l2", self.eps_l2)):
            for radius in radii:
                _radius(radius, option)

    def measure(self, parsed: Parsed, progress: ProgressReporter) -> "Audit":
        from potstill.audit.robustness import audit_robustness
        from potstill.runs.load_data import load_set_and_splits

        small, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        distilled, splits = load_set_and_splits(small, splits, self.device)
        return audit_robustness(
            distilled, splits, self.settings_as(RobustnessSettings),
            eps=[_radius(radius, "--eps") for radius in self.eps],
            eps_l2=[_radius(radius, "--eps-l2") for radius in self.eps_l2], ood=self.ood, network=self.network,
            seed=self.seed, device=self.device, progress=progress.report_count,
        )  # fmt: skip


def _radius(text: str, option: str) -> float:
    """Return a radius such as ``8/255`` or ``0.03``."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise Misuse(f"{option}: radii are numbers such as 2/255,0.03, but {text[:40]!r} is not") from None
