"""Text that is shown: as HTML made of values, where every string is escaped as it enters, or in a terminal.

So no name from a file can become markup, or move a cursor.
"""

import html
import re
from collections.abc import Iterable

__all__ = ["Html", "escape", "join_html", "one_line", "plain_line", "tag"]

_VOID = frozenset({"br", "col", "img", "input", "line", "link", "meta", "circle", "polyline", "rect", "path"})
_DRAWN = frozenset({"line", "circle", "polyline", "rect", "path"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Html(str):
    """A string that is already markup."""

    __slots__ = ()


def escape(value: object) -> Html:
    """``value`` as escaped text; markup passes unchanged.

    Control characters, marks that turn the direction of reading, and file names that are not UTF-8 become U+FFFD: they
    could hide or reorder what stands beside them, or make the page impossible to write.
    """
    if isinstance(value, Html):
        return value
    plain = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Html(html.escape(_CONTROL.sub("\ufffd", plain), quote=True))


def join_html(parts: Iterable[str | None], separator: str = "") -> Html:
    """The parts that are not ``None``, escaped where they are not markup, one after another."""
    return Html(escape(separator).join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: str | None, **attributes: str | int | float | None) -> Html:
    """One element. ``class_`` is written ``class``, ``aria_label`` is written ``aria-label``; ``None`` is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}/>" if name in _DRAWN else f"<{name}{written}>")
    return Html(f"<{name}{written}>{join_html(children)}</{name}>")


def plain_line(value: object) -> str:
    """``value`` as one line of text, not as markup, without what `text` takes out."""
    return " ".join(html.unescape(escape(value)).split())


def one_line(text: str) -> str:
    """``text`` as one line; what a terminal would act on (names in data may hold anything) is shown escaped."""
    return "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
