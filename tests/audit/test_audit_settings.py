"""Settings of audits: values with the fields that keywords and options have."""

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

import potstill
from potstill._util.audit_settings import AuditSettings, with_changes
from potstill.audit.fairness import FairnessSettings, audit_fairness
from potstill.audit.poisoning import PoisoningSettings, audit_poisoning
from potstill.audit.privacy import PrivacySettings, audit_privacy
from potstill.audit.provenance import ProvenanceSettings, audit_provenance
from potstill.audit.robustness import RobustnessSettings, audit_robustness
from potstill.audit.screening import Screening, audit_screening
from potstill.cli.commands.audit_fairness import AuditFairness
from potstill.cli.commands.audit_poisoning import AuditPoisoning
from potstill.cli.commands.audit_privacy import AuditPrivacy
from potstill.cli.commands.audit_provenance import AuditProvenance
from potstill.cli.commands.audit_robustness import AuditRobustness
from potstill.cli.commands.audit_screening import AuditScreening
from potstill.cli.options import option_fields
from potstill.errors import PotstillError

PARTS: list[tuple[type[AuditSettings], Any, Any, tuple[Any, ...]]] = [
    (FairnessSettings, audit_fairness, AuditFairness, ("digits",)),
    (PoisoningSettings, audit_poisoning, AuditPoisoning, ()),
    (PrivacySettings, audit_privacy, AuditPrivacy, ("digits",)),
    (ProvenanceSettings, audit_provenance, AuditProvenance, (b"sixteen bytes at least",)),
    (RobustnessSettings, audit_robustness, AuditRobustness, ("digits",)),
    (Screening, audit_screening, AuditScreening, ("digits",)),
]
NAMES = [kind.__name__ for kind, *_ in PARTS]


@pytest.mark.parametrize(("kind", "audit", "command", "_"), PARTS, ids=NAMES)
def test_options_are_the_fields_of_the_settings(
    kind: type[AuditSettings], audit: Any, command: Any, _: tuple[Any, ...]
) -> None:
    assert issubclass(command, kind)
    options = {field.name: field for field in option_fields(command)}
    for field in fields(kind):
        assert options[field.name].default == field.default
        assert options[field.name].docstring
        assert field.name not in vars(command)  # declared once


@pytest.mark.parametrize(("kind", "audit", "command", "more"), PARTS, ids=NAMES)
def test_keywords_change_settings_and_unknown_ones_are_one_line(
    kind: type[AuditSettings], audit: Any, command: Any, more: tuple[Any, ...]
) -> None:
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match=r"(?i)'studnts'.*students") as error:
        audit(small, *more, studnts=2)
    assert "\n" not in str(error.value)
    for given, options in ((kind(), {"students": 0}), (with_zero(kind), {})):
        with pytest.raises(PotstillError, match=r"(?i)\b[12] student|students.* at least") as error:
            audit(small, *more, *([None] if audit is audit_poisoning else []), given, **options)
        assert "\n" not in str(error.value)


def with_zero(kind: type[AuditSettings]) -> AuditSettings:
    return kind(students=0)  # type: ignore[call-arg]


def test_changes_keep_the_other_fields() -> None:
    changed = with_changes(FairnessSettings(students=3, least=4), {"steps": 7})
    assert changed == FairnessSettings(students=3, least=4, steps=7)
    assert with_changes(changed, {}) == changed
    with pytest.raises(PotstillError, match=r"a rate of 0.1 % needs at least 1,000 unmarked keys, but `keys=10`"):
        with_changes(ProvenanceSettings(), {"keys": 10})


def test_settings_need_no_torch() -> None:
    code = "import sys, potstill._util.audit_settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
