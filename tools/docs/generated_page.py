"""A page of the site that is made when it is built, as a value."""

from typing import NamedTuple

__all__ = ["GeneratedPage"]


class GeneratedPage(NamedTuple):
    """A page that lies nowhere on disk."""

    place: str
    """Its path below docs/: ``reference/networks.md``."""
    title: str
    """Its entry in the menu."""
    menu: tuple[str, ...]
    """Headings of the menu above it, from the tab down: ``("Reference", "Commands")``; missing ones are added."""
    text: str
    """Markdown."""
