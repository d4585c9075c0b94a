"""Poisoning of a set: detectors of triggers and of wrong labels, each with a score, a threshold and its limits."""

from potstill._util.audit_settings import PoisoningSettings
from potstill.audit.poisoning.run import audit_poisoning

__all__ = ["PoisoningSettings", "audit_poisoning"]
