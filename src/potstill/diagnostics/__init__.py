"""The report card of a set: what students learn from it besides their score.

After Yang, Zhu, Deng and Russakovsky, "What is Dataset Distillation Learning?" (arXiv:2406.04284): whether it can stand
in for real samples beside real ones, which networks those that learned it resemble, how curved the loss is there, which
item matters, and, beside the paper, which real samples its items are near to, whether real networks read them, and
whether its students know how sure they may be. Numbers are reported; none of them is a verdict.
"""

from potstill.diagnostics.bench import Bench, make_bench, with_executor
from potstill.diagnostics.report import PARTS, DiagnosticOptions, estimate_costs, run_diagnostics, total_seconds

__all__ = [
    "PARTS", "Bench", "DiagnosticOptions", "estimate_costs", "make_bench", "run_diagnostics", "total_seconds",
    "with_executor",
]  # fmt: skip
