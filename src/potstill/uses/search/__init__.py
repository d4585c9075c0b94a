"""Search for networks and settings: successive halving on real data, or a small set beside its rivals."""

from potstill.uses.search.halving import halving_rounds
from potstill.uses.search.proxy import EarlyStopping, Made, RealSet, SetFile, TrainingFree, parse_proxy
from potstill.uses.search.ranking import break_even, kendall_tau, regret, spearman_top, tau_difference
from potstill.uses.search.run import search
from potstill.uses.search.space import Candidate, convnet_grid, draw_candidates, product

__all__ = [
    "Candidate", "EarlyStopping", "Made", "RealSet", "SetFile", "TrainingFree", "break_even", "convnet_grid",
    "draw_candidates", "halving_rounds", "kendall_tau", "parse_proxy", "product", "regret", "search", "spearman_top",
    "tau_difference",
]  # fmt: skip
