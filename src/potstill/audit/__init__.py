"""Audits of a set: what it gives away, whom it serves badly, what it hides, and where it comes from.

Each part is a package with one function that returns an `Audit`; `potstill.audit.every.audit_set` runs all that apply.
`potstill audit` writes them into one file beside the set, and the page of the set shows them.
"""

from potstill.audit.result import Audit, AuditTable, check_audit_output, write_audit, write_left_out

__all__ = ["Audit", "AuditTable", "check_audit_output", "write_audit", "write_left_out"]
