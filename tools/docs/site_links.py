"""Links from the names of functions and commands on any page to their reference pages."""

import re
from collections.abc import Callable

from tools.docs.generated_page import title_of

__all__ = ["link_names"]

_APART = re.compile(r"(<a\b.*?</a>|<h[1-6]\b.*?</h[1-6]>|<pre\b.*?</pre>|<summary\b.*?</summary>)", re.DOTALL)
"""Parts of a page in which nothing is linked: links, headings, blocks of code."""
_NAME = re.compile(r"<code>potstill(?:\.([A-Za-z_]\w*)(?:\(\))?| ([a-z][a-z-]*(?: [a-z][a-z-]*)?))</code>")

_PAGE = re.compile(r"(?<![\w/`>])docs/([\w/-]+\.md)\b")
"""A page as docstrings name it."""


def link_names(html: str, address: Callable[[str], str | None]) -> str:
    """Return a page on which the first mention of each public name and command leads to its page, and ``docs/…`` too.

    Args:
        address: the address of a page below docs/ from here, or None where there is none or it is this one.
    """
    linked: set[str] = set()

    def link(match: re.Match[str]) -> str:
        name, command = match[1], match[2]
        place = f"reference/python/{name}.md" if name else f"reference/commands/{command.replace(' ', '-')}.md"
        if place in linked or (target := address(place)) is None:
            return match[0]
        linked.add(place)
        return f'<a href="{target}">{match[0]}</a>'

    def page(match: re.Match[str]) -> str:
        title, target = title_of(match[1]), address(match[1])
        return match[0] if title is None or target is None else f'<a href="{target}">{title}</a>'

    parts = _APART.split(html)
    return "".join(part if n % 2 else _PAGE.sub(page, _NAME.sub(link, part)) for n, part in enumerate(parts))
