"""Diagnostics of a distilled set beyond its score.

After Yang, Zhu, Deng and Russakovsky, "What is Dataset Distillation Learning?" (arXiv:2406.04284): the value of the set
beside real samples, the networks that its students resemble, curvature of the loss, and influence of items; and, beside
the paper, nearest real samples, readability by real networks, calibration, and zero-shot classification of pairs.
Numbers are reported without verdicts.
"""

from potstill.diagnostics.bench import Bench, make_bench
from potstill.diagnostics.report import PARTS, DiagnosticOptions, default_parts, estimate_costs, run_diagnostics
from potstill.diagnostics.zero_shot import ClassDescriptions

__all__ = [
    "PARTS", "Bench", "ClassDescriptions", "DiagnosticOptions", "default_parts", "estimate_costs", "make_bench",
    "run_diagnostics",
]  # fmt: skip
