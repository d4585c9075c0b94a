"""Privacy audit: what a set gives away of the records that it was made of, and a lower bound of ε."""

from potstill.audit.privacy.epsilon import EpsilonBound, bound_epsilon, least_epsilon
from potstill.audit.privacy.remake import maker_of
from potstill.audit.privacy.run import audit_epsilon, audit_privacy

__all__ = ["EpsilonBound", "audit_epsilon", "audit_privacy", "bound_epsilon", "least_epsilon", "maker_of"]
