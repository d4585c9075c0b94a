"""Kinds of input, such as images or tables: what other layers ask of a kind instead of comparing its name."""

from potstill.kinds.kind import IMAGE, PAIR, SERIES, TABLE, TEXTS, WAVES, Kind, get_kind, list_kinds

__all__ = ["IMAGE", "PAIR", "SERIES", "TABLE", "TEXTS", "WAVES", "Kind", "get_kind", "list_kinds"]
