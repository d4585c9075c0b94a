"""Pages that are made when the site is built."""

import re
import sys
from types import SimpleNamespace

import pytest

from potstill._util.formatting import OPTION_NAMES
from potstill.api.listing import list_methods
from potstill.core.registry import get_method_class

pages = pytest.importorskip("tools.docs.site_pages", reason="the site is built with the docs extra")
method_page = pytest.importorskip("tools.docs.method_page")
python = pytest.importorskip("tools.docs.site_python")
GeneratedPage = pytest.importorskip("tools.docs.generated_page").GeneratedPage


def test_pages_are_added_to_the_menu_and_missing_ones_left_out(tmp_path, monkeypatch):
    (tmp_path / "written.md").write_text("# Written")
    made = [
        GeneratedPage("reference/new/index.md", "New", ("Reference", "New"), "# New"),
        GeneratedPage("reference/new/one.md", "one", ("Reference", "New"), "# one"),
        GeneratedPage("written/other.md", "Other", ("Another", "Heading"), "# Other"),
    ]
    monkeypatch.setattr(pages, "MAKERS", (lambda: made,))
    config = SimpleNamespace(
        docs_dir=str(tmp_path),
        nav=[{"Reference": [{"New": ["reference/new/index.md"]}, {"Written": "written.md"}, {"Not": "not.md"}]}],
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
    pages.pages.cache_clear()


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in list_methods(outside=False)])
def test_a_method_has_a_page_with_everything(row):
    page = method_page.method_page(row)
    assert page.startswith(f"# {row['name']}\n")
    for option in row["options"]:
        switched = "no-" if option["default"] is True else ""
        name = OPTION_NAMES.get(option["name"], option["name"]).replace("_", "-")
        assert f"| `--{switched}{name}` |" in page
    assert ".. math::" not in page
    said = sys.modules[get_method_class(row["name"]).__module__].__doc__ or ""
    assert page.count("<math") == said.count(".. math::")


def test_a_page_shows_what_was_measured():
    page = method_page.method_page(next(row for row in list_methods() if row["name"] == "dm"))
    assert re.search(r"\[Beside what was published\]\(\.\./benchmarks/published\.md\)", page)
    assert "| `dm`, " in page
    assert "| `dc`, " not in page
    other = method_page.numbers("dsa")  # the name of a protocol, too
    assert "| `dsa`, " in other
    assert "| `dm`, " not in other


def test_every_method_has_a_picture_of_what_it_makes():
    from PIL import Image

    names = [row["name"] for row in list_methods(outside=False)]
    kept = {method_page.file_of(name): method_page.PICTURES / f"{method_page.file_of(name)}.png" for name in names}
    for name, file in kept.items():
        with Image.open(file) as picture:
            picture.load()
            assert picture.size == (6 * (10 * 9 - 1), 6 * (3 * 9 - 1)), name
    assert {p.stem for p in method_page.PICTURES.glob("*.png")} == set(kept)
    assert sum(p.stat().st_size for p in method_page.PICTURES.iterdir()) < 300_000
    page = method_page.method_page(next(row for row in list_methods() if row["name"] == "sre2l++"))
    assert "](../img/methods/sre2lpp.png)" in page


def test_every_public_name_has_its_page_and_stands_in_the_index():
    import potstill

    made = {page.place: page for page in python.python_pages()}
    public = {name for name in potstill.__all__ if not name.startswith("_")}
    assert {name for group in python.GROUPS.values() for name in group} == public == set(python.RELATED)
    assert set(made) == {"reference/python/index.md", *(f"reference/python/{name}.md" for name in public)}
    index = made["reference/python/index.md"].text
    for name in public:
        assert index.count(f"[`{name}`]({name}.md)") == 1
        page = made[f"reference/python/{name}.md"].text
        assert f"::: potstill.{name}\n" in page
        for related in python.RELATED[name]:
            assert f"]({related}.md)" in page
            assert related in public - {name}
