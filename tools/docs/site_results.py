"""Raw results on the site: a hook of MkDocs (``mkdocs.yml``).

Pages link ``../../results/NAME``, which leads somewhere in the repository too. On the site a file lies under
``results/``, and a folder is a heading of the page ``benchmarks/results.md``.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs.sources import SOURCES

__all__ = ["on_files", "on_page_markdown", "results_page", "rewritten", "used"]

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\]\((?:\.\./)+results(?:/([\w./-]+))?\)")


def used() -> dict[str, list[Path]]:
    """Return the files of every entry that a page has among its raw results."""
    places = sorted({place for entries in SOURCES.values() for place, _ in entries})
    found = {place: ROOT / "results" / place for place in places}
    return {place: sorted(path.rglob("*.json")) if path.is_dir() else [path] for place, path in found.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the results that pages name, and the page that lists them."""
    for paths in used().values():
        for path in paths:
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, content=path.read_text(encoding="utf-8")))
    files.append(File.generated(config, "benchmarks/results.md", content=results_page()))
    return files


def results_page() -> str:
    """Return the list of all raw results, by folder."""
    lines = ["# Raw results", "", "Every number of the benchmarks is made of these files."]
    for place, paths in used().items():
        links = "\n".join(
            f"- [`{path.relative_to(ROOT).as_posix()}`](../{path.relative_to(ROOT).as_posix()}), "
            f"{path.stat().st_size / 1000:.1f} kB"
            for path in paths
        )
        lines += ["", f"## {anchor(place)}", "", links]
    return "\n".join(lines) + "\n"


def anchor(place: str) -> str:
    """Return the heading of a file or folder, from which its anchor is made."""
    return place.removesuffix(".json")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to results lead to their copy on the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, place: str) -> str:
    """Return a page's text with its links to results as they are on the site, where it lies at ``place``."""
    up = "../" * place.count("/")

    def moved(link: re.Match[str]) -> str:
        if link[1] is None:
            return f"]({up}benchmarks/results.md)"
        if (ROOT / "results" / link[1]).is_dir():
            return f"]({up}benchmarks/results.md#{link[1].strip('./')})"
        return f"]({up}results/{link[1]})"

    return _LINK.sub(moved, markdown)
