"""The page about citing, and words that a search finds method pages by."""

from pathlib import Path

import pytest
import yaml

cite = pytest.importorskip("tools.docs.site_cite", reason="the site is built with the docs extra")
from tools.docs import method_page, site_theme  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def test_the_entry_of_the_package_is_what_its_citation_file_says():
    from pybtex.database import parse_string

    (entry,) = parse_string(cite.package_bibtex(), "bibtex").entries.values()
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (entry.fields["title"], entry.fields["version"]) == (known["title"], known["version"])
    assert len(entry.persons["author"]) == len(known["authors"])
    (page,) = cite.cite_pages()
    assert cite.package_bibtex() in page.text
    assert yaml.safe_load(page.text.split("---")[1])["search"]["boost"] > 1


def test_the_footer_leads_to_the_page_about_citing():
    from types import SimpleNamespace

    config = site_theme.on_config(SimpleNamespace(copyright=""))
    page = SimpleNamespace(url="guides/share/")
    shown = site_theme.on_post_page(f"<div>{config.copyright}</div>", page=page, config=config)
    assert '<a href="../../reference/cite/">Apache-2.0 · Cite</a>' in shown


def test_method_pages_are_found_by_their_name_and_published_numbers():
    pages = {page.title: page.text for page in method_page.method_pages()}
    assert pages["mtt"].startswith("---\ntags: [mtt, published numbers, expert trajectories, number of experts]\n")
    assert "\n---\n\n# mtt\n" in pages["mtt"]
    assert pages["random"].startswith("# random\n")
