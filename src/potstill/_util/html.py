"""Escaped HTML from values, and plain lines for a terminal: no name from a file becomes markup or moves a cursor."""

import html
import re
from collections.abc import Iterable

__all__ = ["Html", "escape", "join_html", "one_line", "plain_line", "tag"]

_VOID = frozenset({"br", "col", "img", "input", "line", "link", "meta", "circle", "polyline", "rect", "path"})
_DRAWN = frozenset({"line", "circle", "polyline", "rect", "path"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Html(str):
    """String that is already markup."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return ``value`` as escaped text; markup is returned unchanged.

    Control characters, marks of reading direction, and file names that are not UTF-8 become U+FFFD.
    """
    if isinstance(value, Html):
        return value
    plain = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Html(html.escape(_CONTROL.sub("\ufffd", plain), quote=True))


def join_html(parts: Iterable[str | None], separator: str = "") -> Html:
    """Join the parts that are not ``None``, escaping those that are not markup."""
    return Html(escape(separator).join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: str | None, **attributes: str | int | float | None) -> Html:
    """Return one element. ``class_`` is written as ``class``, ``aria_label`` as ``aria-label``; ``None`` is omitted."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}/>" if name in _DRAWN else f"<{name}{written}>")
    return Html(f"<{name}{written}>{join_html(children)}</{name}>")


def plain_line(value: object) -> str:
    """Return ``value`` as one line of text without the characters that `escape` replaces."""
    return " ".join(html.unescape(escape(value)).split())


def one_line(text: str) -> str:
    """Return ``text`` as one line, with characters that a terminal acts on shown escaped."""
    return "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
