"""Privacy audit: what a set gives away of the records that it was made of, and a lower bound of ε."""

from potstill._util.audit_settings import PrivacySettings
from potstill.audit.privacy.epsilon import EpsilonBound, bound_epsilon, least_epsilon
from potstill.audit.privacy.remake import maker_of
from potstill.audit.privacy.run import audit_epsilon, audit_privacy

__all__ = [
    "EpsilonBound",
    "PrivacySettings",
    "audit_epsilon",
    "audit_privacy",
    "bound_epsilon",
    "least_epsilon",
    "maker_of",
]
