"""Potstill: turn a large training set into a small one that trains models nearly as well, and say honestly how well."""
