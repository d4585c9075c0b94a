"""Deletion and growth: sets of units that are made by themselves, so that one can be made again without the others."""

from potstill.uses.deletion.job import Update
from potstill.uses.deletion.membership import MembershipScore, membership
from potstill.uses.deletion.records import named_rows, numbered_rows, training_records
from potstill.uses.deletion.units import content_hash
from potstill.uses.deletion.update import delete_records, extend, make_again, make_deletable

__all__ = [
    "MembershipScore", "Update", "content_hash", "delete_records", "extend", "make_again", "make_deletable",
    "membership", "named_rows", "numbered_rows", "training_records",
]  # fmt: skip
