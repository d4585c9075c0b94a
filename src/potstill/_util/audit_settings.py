"""Settings of the audits, as frozen values. Imports no torch: the command line has the same fields as options."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, TypeVar

from potstill.errors import PotstillError, unknown_name

__all__ = [
    "AuditSettings", "FairnessSettings", "Option", "PoisoningSettings", "PrivacySettings", "ProvenanceSettings",
    "RobustnessSettings", "Screening", "with_changes",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Option:
    """Name of a field's value in the help of the command line."""

    metavar: str
    help_behavior_hint: str | None = None
    """Text in place of the default; empty: none is shown."""


_K, _N, _RATE = Option(metavar="K"), Option(metavar="N"), Option(metavar="R", help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Base of the settings of all audits."""

    def validate(self) -> None:
        """Check the fields.

        Raises:
            PotstillError: one is out of its range.
        """


_Settings = TypeVar("_Settings", bound=AuditSettings)


def with_changes(settings: _Settings, changes: Mapping[str, Any]) -> _Settings:
    """Return checked settings with some fields changed: the keywords of an audit that are fields of its settings.

    Args:
        settings: the settings.
        changes: new values by name of the field.

    Raises:
        PotstillError: there is no such field, or a value is out of its range.
    """
    known = [f.name for f in fields(settings)]
    for name in changes:
        if name not in known:
            raise unknown_name("setting of this audit", name, known)
    changed = replace(settings, **changes)
    changed.validate()
    return changed


def _check_least(part: str, settings: AuditSettings, **least: int) -> None:
    for name, number in least.items():
        if (given := getattr(settings, name)) < number:
            raise PotstillError(f"{part} needs `{name}=` of at least {number}, not {given}; change it")


@dataclass(frozen=True, kw_only=True)
class PrivacySettings(AuditSettings):
    """Settings of `potstill.audit.privacy.audit_privacy`."""

    students: Annotated[int, _K] = 2
    """Networks whose mean loss is taken."""
    shadows: Annotated[int, Option(metavar="K", help_behavior_hint="")] = 0
    """Runs that make the set again, with canaries: 1 (a bound of ε alone), or an even number of at least 4."""
    canaries: Annotated[int, _N] = 500
    """Training records that get another class, and are in each run with probability one half."""

    def validate(self) -> None:
        """Check the fields; numbers of shadow runs and canaries are checked with the data."""
        if self.students < 1:
            raise PotstillError(f"students must be at least 1, not {self.students}; change it")


@dataclass(frozen=True, kw_only=True)
class _StudentSettings(AuditSettings):
    """Settings of audits that train students of a set and of real samples."""

    steps: Annotated[int, _N] = 180
    """Updates of a student of the set and of as many real samples."""
    full_steps: Annotated[int, _N] = 600
    """Updates of a student of all training data."""
    lr: Annotated[float | None, _RATE] = None
    """Learning rate of the students (else the one learned with the set, or 0.03)."""


@dataclass(frozen=True, kw_only=True)
class FairnessSettings(_StudentSettings):
    """Settings of `potstill.audit.fairness.audit_fairness`."""

    students: Annotated[int, _K] = 5
    """Students of each training set; intervals are over them."""
    least: Annotated[int, _N] = 10
    """Test samples below which a value, or a value in a class, is left out and named."""

    def validate(self) -> None:
        """Check the fields."""
        if self.students < 2 or min(self.least, self.steps, self.full_steps) < 1:
            raise PotstillError(
                "a fairness audit needs at least 2 students, 1 update and cells of 1 test sample, not "
                f"{self.students}, {min(self.steps, self.full_steps)} and {self.least}; change them"
            )


@dataclass(frozen=True, kw_only=True)
class Screening(_StudentSettings):
    """Settings of `potstill.audit.screening.audit_screening`."""

    positive: Annotated[str | None, Option(metavar="CLASS", help_behavior_hint="")] = None
    """The class to be found (else the rarer of two)."""
    specificity: Annotated[float, Option(metavar="F")] = 0.9
    """Share of the other samples that the threshold lets through, in [0.5, 1)."""
    students: Annotated[int, _K] = 5
    """Students of each training set, at least 2; intervals are over them."""

    def validate(self) -> None:
        """Check the fields."""
        if self.students < 2 or min(self.steps, self.full_steps) < 1:
            raise PotstillError(
                "a screening audit needs at least 2 students and 1 update, not "
                f"{self.students} and {min(self.steps, self.full_steps)}; change them"
            )
        if not 0.5 <= self.specificity < 1:
            raise PotstillError(f"specificity must be at least 0.5 and below 1, not {self.specificity:g}; change it")


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings(_StudentSettings):
    """Settings of `potstill.audit.robustness.audit_robustness`, beside the radii."""

    attack_steps: Annotated[int, _N] = 20
    """Steps of PGD."""
    queries: Annotated[int, _N] = 100
    """Forward passes of random search for each picture."""
    autoattack: Annotated[bool, Option(metavar="", help_behavior_hint="")] = False
    """Also run AutoAttack (the extra attacks); it takes several times as long as all else."""
    samples: Annotated[int, _N] = 1000
    """Test pictures at most."""
    students: Annotated[int, _K] = 3
    """Students of each training set; intervals are over them."""
    adversary: Annotated[str, Option(metavar="NAME")] = "none"
    """Train all students on adversarial examples: pgd:eps=8/255,steps=7 or fgsm:eps=8/255."""

    def validate(self) -> None:
        """Check the fields."""
        _check_least(
            "a robustness audit", self, students=2, steps=1, full_steps=1, attack_steps=1, queries=1, samples=2
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PoisoningSettings(AuditSettings):
    """Settings of `potstill.audit.poisoning.audit_poisoning`."""

    students: Annotated[int, _K] = 3
    """Students of the set, and networks of trusted data."""
    samples: Annotated[int, _N] = 500
    """Trusted pictures at most that triggers are put on."""
    steps: Annotated[int, _N] = 180
    """Updates of a student."""
    trusted_steps: Annotated[int, _N] = 600
    """Updates of a network of trusted data."""
    inversion_steps: Annotated[int, _N] = 400
    """Updates of the triggers that are looked for."""
    lr: Annotated[float | None, _RATE] = None
    """Learning rate of the networks (else the one learned with the set, or 0.03)."""

    def validate(self) -> None:
        """Check the fields."""
        _check_least(
            "an audit of poisoning", self, students=1, steps=1, trusted_steps=1, inversion_steps=1, samples=1
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProvenanceSettings(AuditSettings):
    """Settings of `potstill.audit.provenance.audit_provenance`."""

    keys: Annotated[int, _N] = 1000
    """Keys that marked nothing, at least 1,000 for a rate of 0.1 %."""
    students: Annotated[int, _K] = 3
    """Students of each training set."""
    steps: Annotated[int, _N] = 180
    """Updates of a student."""
    queries: Annotated[int, _N] = 10_000
    """Largest number of pictures that go to a model, in the test by its outputs alone."""

    def validate(self) -> None:
        """Check the fields."""
        if self.keys < 1000:
            raise PotstillError(
                f"a rate of 0.1 % needs at least 1,000 unmarked keys, but `keys={self.keys}`; give more"
            )
        if self.students < 1 or self.steps < 1:
            raise PotstillError(
                f"at least 1 student and 1 update are required, not {self.students} and {self.steps}; change them"
            )
