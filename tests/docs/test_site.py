"""Pages that are made when the site is built."""

import functools
from types import SimpleNamespace

import pytest

pages = pytest.importorskip("tools.docs.site_pages", reason="the site is built with the docs extra")
GeneratedPage = pytest.importorskip("tools.docs.generated_page").GeneratedPage


def test_pages_are_added_to_the_menu(tmp_path, monkeypatch):
    (tmp_path / "written.md").write_text("# Written")
    made = [
        GeneratedPage("reference/new/index.md", "New", ("Reference", "New"), "# New"),
        GeneratedPage("reference/new/one.md", "one", ("Reference", "New"), "# one"),
        GeneratedPage("written/other.md", "Other", ("Another", "Heading"), "# Other"),
    ]
    monkeypatch.setattr(pages, "pages", functools.cache(lambda: made))
    config = SimpleNamespace(
        docs_dir=str(tmp_path),
        nav=[{"Reference": [{"New": ["reference/new/index.md"]}, {"Written": "written.md"}]}],
    )
    assert pages.on_config(config).nav == [
        {
            "Reference": [
                {"New": ["reference/new/index.md", {"one": "reference/new/one.md"}]},
                {"Written": "written.md"},
            ]
        },
        {"Another": [{"Heading": [{"Other": "written/other.md"}]}]},
    ]
