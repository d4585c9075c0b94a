"""Robustness of a set: attacks, corruptions, calibration and outliers for its students, beside real samples."""

from potstill.audit.robustness.run import audit_robustness

__all__ = ["audit_robustness"]
