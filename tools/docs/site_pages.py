"""The pages of the site that are made when it is built, out of the code and the measured tables: see `MAKERS`.

A hook of MkDocs (``mkdocs.yml``), so that what the code says of itself is written once.
"""

import functools
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs.family_page import family_pages
from tools.docs.gallery import gallery_pages
from tools.docs.generated_page import GeneratedPage
from tools.docs.method_page import method_pages
from tools.docs.site_cite import cite_pages
from tools.docs.site_commands import command_pages
from tools.docs.site_extension import extension_pages
from tools.docs.site_links import link_names
from tools.docs.site_python import python_pages
from tools.docs.site_registries import registry_pages

__all__ = ["MAKERS", "on_config", "on_files", "on_page_content", "pages"]


@functools.cache
def pages() -> list[GeneratedPage]:
    """Return every page that is made, in the order of the menu."""
    return [page for make in MAKERS for page in make()]


MAKERS = (
    gallery_pages, family_pages, method_pages, command_pages, python_pages, registry_pages, extension_pages, cite_pages,
)  # fmt: skip
"""Functions that return generated pages; a new group of pages is a module with one and a line here."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the menu."""
    pages.cache_clear()  # ``mkdocs serve`` builds again and again
    made = pages()
    for page in made:
        section = config.nav
        for heading in page.menu:
            section = _below(section, heading)
        if page.place not in (entry if isinstance(entry, str) else next(iter(entry.values())) for entry in section):
            section.append({page.title: page.place})
    return config


def _below(section: list[Any], heading: str) -> list[Any]:
    """Return the entries under a heading of the menu, which is added where it is missing."""
    for entry in section:
        if isinstance(entry, dict) and isinstance(entry.get(heading), list):
            return entry[heading]
    below: list[Any] = []
    section.append({heading: below})
    return below


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the files of the site."""
    for page in pages():
        files.append(File.generated(config, page.place, content=page.text))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link public names and commands to their reference pages."""

    def address(place: str) -> str | None:
        file = files.get_file_from_path(place)
        return None if file is None or file is page.file else file.url_relative_to(page.file)

    return link_names(html, address)
