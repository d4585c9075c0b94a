"""Search for networks and settings: successive halving on real data, or a small set beside baselines."""

from potstill.uses.search.estimators import search_estimators
from potstill.uses.search.halving import halving_rounds
from potstill.uses.search.proxy import Calibrated, EarlyStopping, Made, RealSet, SetFile, TrainingFree, parse_proxy
from potstill.uses.search.ranking import break_even, kendall_tau, regret, spearman_top, tau_difference
from potstill.uses.search.run import search
from potstill.uses.search.space import Candidate, convnet_grid, default_networks, draw_candidates, product
from potstill.uses.search.studies import OptunaObjective, optuna_objective, ray_trainable

__all__ = [
    "Calibrated", "Candidate", "EarlyStopping", "Made", "OptunaObjective", "RealSet", "SetFile", "TrainingFree",
    "break_even", "convnet_grid", "default_networks", "draw_candidates", "halving_rounds", "kendall_tau",
    "optuna_objective", "parse_proxy", "product", "ray_trainable", "regret", "search", "search_estimators",
    "spearman_top", "tau_difference",
]  # fmt: skip
