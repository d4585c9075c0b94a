"""The report card of a set: what students learn from it besides their score.

After Yang, Zhu, Deng and Russakovsky, "What is Dataset Distillation Learning?" (arXiv:2406.04284): whether it can stand
in for real samples beside real ones, which networks those that learned it resemble, how curved the loss is there, which
item matters, and, beside the paper, which real samples its items are near to, whether real networks read them, and
whether its students know how sure they may be. Numbers are reported; none of them is a verdict.
"""

from potstill.diagnostics.bench import Bench, bench_of, with_executor
from potstill.diagnostics.report import PARTS, Asked, expected, study, total

__all__ = ["PARTS", "Asked", "Bench", "bench_of", "expected", "study", "total", "with_executor"]
