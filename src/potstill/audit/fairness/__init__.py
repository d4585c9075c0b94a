"""Fairness of a set: accuracy by attribute, the equalised-odds gap, and if it amplifies a bias of the data."""

from potstill._util.audit_settings import FairnessSettings
from potstill.audit.fairness.odds import equalised_odds, odds_by_chance
from potstill.audit.fairness.run import audit_fairness

__all__ = ["FairnessSettings", "audit_fairness", "equalised_odds", "odds_by_chance"]
