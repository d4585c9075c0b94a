"""A page of the site that is made when it is built, as a value."""

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["GeneratedPage", "title_of"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
GENERATED = {
    "reference/protocols.md": "Protocols",
    "reference/networks.md": "Networks",
    "reference/data.md": "Data sets",
    "reference/kinds.md": "Kinds of input",
    "reference/tasks.md": "Tasks",
    "reference/parametrizations.md": "Parametrizations",
    "reference/codecs.md": "Codecs",
    "reference/augmentations.md": "Augmentations",
}
"""Titles of generated pages that other generated pages link to."""


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


def title_of(place: str) -> str | None:
    """Return the title of a page below docs/, or None where there is none."""
    path = DOCS / place
    if place in GENERATED or not path.exists():
        return GENERATED.get(place)
    heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return path.stem if heading is None else heading[1]
