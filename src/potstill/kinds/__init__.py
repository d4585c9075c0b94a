"""Kinds of input, such as images or tables: what other layers ask of a kind instead of comparing its name."""

from potstill._util.html import Html, tag
from potstill.kinds.kind import (
    BUILT_IN,
    IMAGE,
    NODE,
    PAIR,
    RATINGS,
    SERIES,
    SIGNAL,
    SOUND,
    TABLE,
    TEXT,
    TEXTS,
    WAVES,
    Kind,
    get_kind,
    is_of_kinds,
    list_kinds,
)

__all__ = [
    "BUILT_IN",
    "IMAGE",
    "NODE",
    "PAIR",
    "RATINGS",
    "SERIES",
    "SIGNAL",
    "SOUND",
    "TABLE",
    "TEXT",
    "TEXTS",
    "WAVES",
    "Html",
    "Kind",
    "get_kind",
    "is_of_kinds",
    "list_kinds",
    "tag",
]  # fmt: skip
