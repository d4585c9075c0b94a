"""Robustness of a set: attacks, corruptions, calibration and outliers for its students, beside real samples."""

from potstill._util.audit_settings import RobustnessSettings
from potstill.audit.robustness.run import audit_robustness

__all__ = ["RobustnessSettings", "audit_robustness"]
