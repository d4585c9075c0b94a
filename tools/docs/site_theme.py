"""Order of the site's search, and the version in its footer.

Guides come before reference, and reference before measurements; decisions are left out.

A hook of MkDocs (``mkdocs.yml``). Synonyms of a page are the ``tags`` of its front matter, which Material's search
reads; ``benchmarks/site.py search`` tries forty searches.
"""

from typing import Any

import potstill

__all__ = ["BOOSTS", "on_config", "on_page_markdown", "on_post_page"]

BOOSTS = {"learn": 4.0, "guides": 4.0, "extend": 3.0, "explanation": 2.0, "examples": 1.5, "methods": 1.5}
"""Weight of a page's hits by its folder; 1 of those that are not named, less of the many that are made."""
LICENCE = "Apache-2.0"
MADE = {"method": 0.6, "reference": 0.8, "benchmarks": 0.8}

PAGES = {"benchmarks/published.md": 0.4, "explanation/limitations.md": 5.0, "guides/large-data.md": 5.0}
"""Weight of single pages: of published numbers, a method's page has most; others share their words with a guide."""


def on_config(config: Any) -> Any:
    """Name the version and the licence in the footer."""
    config.copyright = f"Potstill {potstill.__version__}, {LICENCE}"
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Weigh a page by its folder, and leave decisions out of the search."""
    folder, _, below = page.file.src_uri.partition("/")
    settings = page.meta.setdefault("search", {})
    if folder == "adr":
        settings["exclude"] = True
    elif below:
        settings.setdefault("boost", PAGES.get(page.file.src_uri) or {**BOOSTS, **MADE}.get(folder, 1.0))
    return markdown


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Name the search dialog, which the theme leaves without a name, and link the page about citing in the footer."""
    up = "../" * page.url.count("/")
    link = f'<a href="{up}reference/cite/">{LICENCE} · Cite</a>'
    return output.replace(f"{potstill.__version__}, {LICENCE}", f"{potstill.__version__}, {link}").replace(
        'class="md-search" data-md-component="search" role="dialog"',
        'class="md-search" data-md-component="search" role="dialog" aria-label="Search"',
    )
