"""Pages of methods and families, what stands on them, and the papers that they cite."""

import json
import re
import shlex
import sys

import pytest

from potstill._util.formatting import OPTION_NAMES
from potstill.api.listing import list_methods, list_protocols
from potstill.core.registry import get_method_class

pages = pytest.importorskip("tools.docs.method_page", reason="the site is built with the docs extra")
papers = pytest.importorskip("tools.docs.papers", reason="the site is built with the docs extra")
from tools.docs import family_page, measured, method_pictures, registry, site_registries  # noqa: E402

ROWS = {row["name"]: row for row in list_methods(outside=False)}
SECTIONS = ["Run it", "Equation", "Options", "Published and measured", "Related", "Cite", "Source"]
UNVERIFIED = {"ebert2012ralf", "griffin2024zcore"}
"""Entries without authors, as their full names were found in no source that could be read."""


@pytest.mark.parametrize("name", ROWS)
def test_a_method_has_a_page_with_everything(name):
    row, page = ROWS[name], pages.method_page(ROWS[name])
    text, _, source = page.partition("## Source")
    assert page.startswith(f"# {name}\n\n{row['summary']}\n")
    assert re.findall(r"^## (.*)$", page, flags=re.MULTILINE)[: len(SECTIONS)] == SECTIONS
    plain = re.sub(r"\[`([^`]+)`\]\([^)]*\)", r"\1", text).replace("`", "")
    assert row["use_when"].replace("`", "") in plain
    assert row["avoid_when"].replace("`", "") in plain
    for option in row["options"]:
        switched = "no-" if option["default"] is True else ""
        spelled = OPTION_NAMES.get(option["name"], option["name"]).replace("_", "-")
        assert f"| `--{switched}{spelled}` |" in text
    said = sys.modules[get_method_class(name).__module__].__doc__ or ""
    assert ".. math::" not in text
    assert ":math:" not in text
    assert "\n<math" not in text  # Markdown would make a paragraph of it
    assert text.count("<math") == said.count(".. math::") + said.count(":math:")
    assert all(f"]({pages.file_of(other)}.md)" in text for other in row["related"])
    assert "@" in text.partition("```bibtex\n")[2]
    assert f"class {get_method_class(name).__name__}(" in source


def test_the_options_that_people_change_come_first_and_all_are_folded():
    page = pages.method_page(ROWS["dm"])
    first, _, folded = page.partition("## Options")[2].partition("## Published")[0].partition("??? note")
    assert first.count("\n| `--") == 5
    assert folded.count("\n    | `--") == len(ROWS["dm"]["options"])
    assert "published runs" in pages.method_page(ROWS["mtt"])


def test_options_have_a_column_for_each_preset():
    page = pages.method_page(ROWS["mtt"]).partition("## Options")[2]
    assert "| option | quick (default) | good | published | what it is |" in page
    assert "| `--num-experts` | `3` | `10` | `100` |" in page
    assert "| `--iterations` | `150` | `1000` | `5000` |" in page
    assert "| `--max-start-epoch` | by the data | by the data | by the data |" in page
    assert "| option | default | what it is |" in pages.method_page(ROWS["random-soft"]).partition("## Options")[2]


def test_protocols_show_their_exceptions():
    page = site_registries.protocols()
    dsa = page.partition("\n## dsa\n")[2].partition("\n## ")[0]
    assert "| `mirrored=false` (a mirror image" in dsa
    assert "| `augment=dsa-noflip` |" in dsa
    assert page.count("Exceptions (`cases`)") == sum(
        bool(row["recipe"]["cases"]) for row in list_protocols(outside=False)
    )


def test_rows_of_a_method_stand_under_what_they_are_of():
    text = "**Data A**\n\n| arm | x |\n| --- | --- |\n| `dm` | 1 |\n| `dm-frequency160` | 2 |\n| `dc` | 3 |\n\nNote."
    (found,) = measured.rows_of("dm", text)
    assert found == "**Data A**\n\n| arm | x |\n| --- | --- |\n| `dm` | 1 |\n| `dm-frequency160` | 2 |"
    assert measured.rows_of("datm", text) == []
    below = "| set | x |\n| --- | --- |\n| `dm` | 1 |\n\n`data-b`, 1 per class: percent."
    assert measured.rows_of("dm", below) == ["`data-b`, 1 per class:\n\n| set | x |\n| --- | --- |\n| `dm` | 1 |"]


def test_a_page_shows_what_was_measured_and_published():
    page = measured.measured("dm")
    for block in measured.BLOCKS:
        assert (pages.ROOT / "docs" / block.page).exists()
    for place in ("published", "strong", "choice", "recipes"):
        assert f"](../benchmarks/{place}.md)" in page
    assert "| `dm`, " in page
    assert "| `dc`, " not in page
    assert "| CIFAR-10 | ConvNet-D3-W128 | 26.0 | 48.9 | 63.0 |" in page
    other = measured.measured("dsa")  # the name of a protocol, too
    assert "| `dsa`, " in other
    assert "| `dm`, " not in other


def test_published_figures_are_of_methods_and_name_their_source():
    made = json.loads((pages.ROOT / "results/published_figures.json").read_text(encoding="utf-8"))
    assert set(made["methods"]) <= set(ROWS)
    for row in (row for rows in made["methods"].values() for row in rows):
        assert row["source"].startswith("github.com/")
        assert row["accuracy"]
        assert set(row["accuracy"]) <= {"1", "10", "50"}
        assert all(0 < value < 100 for value in row["accuracy"].values())


def test_every_method_has_a_picture_and_the_command_that_made_it():
    from PIL import Image

    infos = {name: get_method_class(name).info for name in ROWS}
    of_pictures = [
        name for name, info in infos.items()
        if {"*", "image"} & set(info.kinds) and {"*", "classification"} & set(info.tasks)
    ]  # fmt: skip
    kept = {name: pages.PICTURES / f"{pages.file_of(name)}.png" for name in of_pictures}
    for name, file in kept.items():
        with Image.open(file) as picture:
            picture.load()
            assert picture.size == (6 * (10 * 9 - 1), 6 * (3 * 9 - 1)), name
    assert {p.stem for p in pages.PICTURES.glob("*.png")} == {file.stem for file in kept.values()}
    assert sum(p.stat().st_size for p in pages.PICTURES.iterdir()) < 300_000
    made = json.loads((pages.PICTURES / "made.json").read_text(encoding="utf-8"))
    assert set(made) == set(of_pictures)
    for name, record in made.items():
        known = [method_pictures.command(name, network) for network in (*method_pictures.SMALL, None)]
        assert shlex.split(record["command"])[1:] in known
        assert f"made by {name}\n" in record["printed"]
    assert "](../img/methods/sre2lpp.png)" in pages.method_page(ROWS["sre2l++"])


def test_every_paper_has_an_entry_and_every_entry_a_use():
    named = [row["paper"] for row in (*ROWS.values(), *list_protocols(outside=False)) if row["paper"] != "Potstill"]
    used = {key for text in named for key in papers.keys_of(text)}
    entries = papers.papers().entries
    assert used == set(entries)
    for text in named:
        for number in re.findall(r"arXiv:(\d{4}\.\d{4,5})", text):
            assert any(entry.fields.get("eprint") == number for entry in entries.values()), number
    assert {key for key, entry in entries.items() if not entry.persons} == UNVERIFIED
    for key, entry in entries.items():
        assert entry.fields["title"], key
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"]), key


def test_every_protocol_of_a_paper_shows_its_bibtex():
    page = site_registries.protocols()
    of_papers = [row for row in list_protocols(outside=False) if row["paper"] != "Potstill"]
    assert page.count("```bibtex") == len(of_papers)
    for row in of_papers:
        key = papers.keys_of(row["paper"])[0]
        section = page.partition(f"\n## {row['name']}\n")[2].partition("\n## ")[0]
        assert f"{{{key}," in section


def test_bibtex_reads_back_as_it_was_and_names_what_it_lacks():
    from pybtex.database import parse_string

    shown = parse_string(papers.bibtex("ICML 2009; arXiv:1611.07725"), "bibtex")
    assert set(shown.entries) == {"welling2009herding", "rebuffi2017icarl"}
    for key, entry in shown.entries.items():
        assert entry == papers.papers().entries[key]
    with pytest.raises(KeyError):
        papers.keys_of("arXiv:0000.00000")


@pytest.mark.parametrize("page", [pytest.param(page, id=page.place) for page in family_page.family_pages()])
def test_a_family_has_a_page_with_its_methods(page):
    family = page.place.removeprefix("methods/").removesuffix(".md")
    mine = [name for name, row in ROWS.items() if row["family"] == family]
    assert re.findall(r"^\| \[`(.+?)`\]\(\.\./method/", page.text, flags=re.MULTILINE) == mine


def test_a_sentence_links_methods_and_marks_options():
    said = "Take sre2l++, not sre2l, over --parametrization frequency; random samples margin."
    links = "Take [`sre2l++`](m/sre2lpp.md), not [`sre2l`](m/sre2l.md), over"
    assert registry.with_links(said, "m/") == f"{links} `--parametrization frequency`; random samples margin."


def test_the_filter_reads_columns_that_the_tables_have():
    script = (pages.ROOT / "docs/javascripts/methods.js").read_text(encoding="utf-8")
    asked = re.findall(r'"([^"]+)"', script.partition("const choices = [")[2].partition("]")[0])
    head = registry.methods(pages.ROOT).partition("| method |")[2].splitlines()[0]
    assert asked
    assert all(f"| {title} |" in f"| method |{head}" for title in asked)
    assert 'id="method-filter"' in (pages.ROOT / "docs/methods/index.md").read_text(encoding="utf-8")
