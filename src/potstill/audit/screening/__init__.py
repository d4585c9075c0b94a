"""Screening by a set's students: AUROC of one class, and its sensitivity at a fixed specificity."""

from potstill.audit.screening.run import Screening, audit_screening
from potstill.audit.screening.threshold import Rates, rates, threshold_at

__all__ = ["Rates", "Screening", "audit_screening", "rates", "threshold_at"]
