"""Provenance of a set: keyed marks, how many items prove them, and if a model was trained on the set."""

from potstill._util.audit_settings import ProvenanceSettings
from potstill.audit.provenance.carrier import read_secret
from potstill.audit.provenance.mark import mark
from potstill.audit.provenance.run import audit_provenance

__all__ = ["ProvenanceSettings", "audit_provenance", "mark", "read_secret"]
