"""Generated pages of the reference: commands, Python names, registries, changelog, and links to them."""

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

import potstill
import potstill.testing
from potstill.api import listing
from potstill.cli.commands import COMMANDS
from potstill.cli.help import command_help
from potstill.cli.parsing import options_of, parse
from potstill.core import registry

pages = pytest.importorskip("tools.docs.site_pages", reason="the site is built with the docs extra")

from tools.docs import command_examples, site_commands, site_extension, site_links, site_python, site_registries  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MADE = {page.place: page for page in pages.pages()}


def test_the_menu_has_each_page_once_and_every_maker_adds_some():
    assert len(MADE) == len(pages.pages())
    for make in pages.MAKERS:
        made = make()
        assert made
        assert all(page.text.strip() and page.title and page.place.endswith(".md") for page in made)


def test_every_public_name_has_its_page_and_stands_in_the_index():
    public = {name for name in potstill.__all__ if not name.startswith("_")}
    assert {name for group in site_python.GROUPS.values() for name in group} == public == set(site_python.RELATED)
    index = MADE["reference/python/index.md"].text
    for name in public:
        assert index.count(f"[`{name}`]({name}.md)") == 1
        page = MADE[f"reference/python/{name}.md"].text
        assert f"::: potstill.{name}\n" in page
        for related in site_python.RELATED[name]:
            assert f"]({related}.md)" in page
            assert related in public - {name}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_page_with_every_option_once(name):
    page = MADE[f"reference/commands/{site_commands.page_of(name)}.md"].text
    assert page.startswith(f"# potstill {name}\n")
    for field in options_of(name):
        assert len(re.findall(rf"\| <code>{field.flag}[< ]", page)) == 1, field.flag
    for argument in command_help(name).arguments:
        assert f"| <code>{argument.flag}</code> |" in page.replace("&#124;<wbr>", "|")
    first = page.partition("## Options")[2].partition("???")[0]
    assert first.count("\n| <code>--") <= 12
    assert f"[`{name}`]({site_commands.page_of(name)}.md)" in MADE["reference/commands/index.md"].text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_can_be_typed(name):
    line = site_commands.example_of(name)
    words = shlex.split(line)
    assert site_commands.command_of(line) == name
    assert parse(name, words[1 + len(name.split()) :]).name == name
    assert f"```bash\n{line}\n```" in MADE[f"reference/commands/{site_commands.page_of(name)}.md"].text
    assert (name in command_examples.NOT_RUN) != (line in command_examples.EXAMPLES)
    if line in command_examples.EXAMPLES:
        assert (
            "```text\n"
            in MADE[f"reference/commands/{site_commands.page_of(name)}.md"]
            .text.partition("## Example")[2]
            .partition("##")[0]
        )


def test_stored_output_is_of_the_examples_and_holds_nothing_of_a_machine():
    stored = command_examples.stored_examples()
    assert tuple(stored) == command_examples.EXAMPLES
    text = command_examples.PATH.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)
    for line in command_examples.EXAMPLES:
        assert stored[line]["output"].strip(), line


@pytest.mark.slow
def test_examples_of_commands_print_what_the_pages_show(tmp_path):
    """Numbers differ between processors and from run to run; the words and the keys do not."""
    stored = command_examples.stored_examples()
    for line, found in command_examples.run_examples(tmp_path).items():
        assert _words(found["output"]) == _words(stored[line]["output"]), f"{line}: {AGAIN}"
        assert found["keys"] == stored[line]["keys"], line


AGAIN = "python -m tools.docs.command_examples stores what is printed now"
QUICK = tuple(
    line for line in command_examples.EXAMPLES
    if shlex.split(line)[1] in ("export", "materialize", "inspect", "kinds", "tasks", "codecs", "parametrizations")
    or "--method herding" in line
    or line.startswith("potstill distill digits --method dm")
)  # fmt: skip


def test_quick_examples_print_what_the_pages_show(tmp_path):
    stored = command_examples.stored_examples()
    for line, found in command_examples.run_examples(tmp_path, QUICK, with_keys=False).items():
        assert _words(found["output"]) == _words(stored[line]["output"]), f"{line}: {AGAIN}"


def _words(text):
    text = re.sub(r"\b[0-9a-f]{8,}", "", text)  # digests, such as those of kernels
    units = "seconds?|minutes?|hours?|min|ms|s|h|MB|GB|kB|MiB"
    return re.findall(r"[A-Za-z]{3,}", re.sub(rf"\b\d[\d.,]*\s*({units})\b", "", text))


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("parametrizations", registry.names("parametrizations", outside=False)),
        ("codecs", registry.names("codecs", outside=False)),
        ("tasks", registry.names("tasks", outside=False)),
        ("protocols", registry.names("protocols", outside=False)),
    ],
)
def test_every_registered_part_has_a_section_and_all_its_settings(place, names):
    page = MADE[f"reference/{place}.md"].text
    sections = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert [name for name in sections if name not in ("Defaults", "Network")] == list(names)
    rows = {row["name"]: row for row in getattr(listing, f"list_{place}")(outside=False)}
    for name in names:
        assert f"](#{name})" in page
        for option in rows[name].get("options", ()):
            assert f"| `{option['name']}` |" in sections[name], f"{name}: {option['name']}"


def test_networks_learners_kinds_augmentations_data_and_limits_are_listed():
    from potstill._util.input_limits import Limits

    for place, names in {
        "networks": [row["name"] for row in listing.list_networks()],
        "augmentations": registry.names("augmentations", outside=False),
        "kinds": [row["name"] for row in listing.list_input_kinds()],
        "data": [row["name"] for row in listing.list_data()],
        "limits": Limits.__dataclass_fields__,
    }.items():
        outside = {name for group in ("learners", "kinds", "networks") for name in registry.names(group)} - {
            name for group in ("learners", "kinds", "networks") for name in registry.names(group, outside=False)
        }
        for name in names:
            assert f"| `{name}` |" in MADE[f"reference/{place}.md"].text or name in outside, f"{place}: {name}"


def test_every_recipe_is_on_its_page_as_it_is():
    page = MADE["reference/recipes.md"].text
    for path in (ROOT / "recipes").rglob("*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert f"    {line}".rstrip() in page, path.name


def test_every_group_of_entry_points_has_its_contract_and_every_check_its_section():
    groups = {group for group, _, _ in site_extension.CONTRACTS.values()}
    assert set(get_args(registry.Group)) - groups == {"learners"}  # networks or estimators: `potstill.evaluation`
    checks = MADE["reference/extension/testing.md"].text
    for name, (group, classes, check) in site_extension.CONTRACTS.items():
        page = MADE[f"reference/extension/{name}.md"].text
        assert f"`potstill.{group}`" in page
        assert len(re.findall(r"^::: potstill\.", page, re.MULTILINE)) == len(classes)
        assert not check or f"::: potstill.testing.{check}\n" in checks
    for name in potstill.testing.__all__:
        assert f"::: potstill.testing.{name}\n" in checks


def test_docstrings_lose_their_sections_and_the_double_backticks():
    def documented():
        """Return ``x``.

        More about it.

        Args:
            x: a value.
        """

    assert site_registries.prose(documented) == "Return `x`.\n\nMore about it."


def test_links_of_the_changelog_lead_somewhere():
    text = MADE["reference/changelog.md"].text
    assert text.startswith("# Changelog\n")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / "docs/reference" / target).exists(), target


def test_names_of_functions_and_commands_are_linked_once():
    known = {"reference/python/distill.md": "../distill/", "reference/commands/plan.md": "plan/"}
    html = (
        "<h2><code>potstill.distill</code></h2><p><code>potstill.distill</code> <code>potstill.distill</code> "
        "<code>potstill plan</code> <a href='x'><code>potstill plan</code></a> <code>potstill.other</code></p>"
        "<pre><code>potstill plan</code></pre>"
    )
    assert site_links.link_names(html, known.get) == (
        "<h2><code>potstill.distill</code></h2><p>"
        '<a href="../distill/"><code>potstill.distill</code></a> <code>potstill.distill</code> '
        "<a href=\"plan/\"><code>potstill plan</code></a> <a href='x'><code>potstill plan</code></a> "
        "<code>potstill.other</code></p><pre><code>potstill plan</code></pre>"
    )


def test_pages_that_docstrings_name_are_linked():
    html = "<p>as it says (docs/reference/glossary.md), docs/none.md <code>docs/index.md</code></p>"
    assert site_links.link_names(html, lambda place: f"../{place}") == (
        '<p>as it says (<a href="../reference/glossary.md">Glossary</a>), docs/none.md <code>docs/index.md</code></p>'
    )


def test_terms_of_the_glossary_have_anchors():
    text = (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| <span id="([a-z-]+)"></span>(.+?) \|', text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| (?!word)", text, re.MULTILINE)) > 40
    assert len({anchor for anchor, _ in rows}) == len(rows)
    assert all(term.lower().startswith(anchor.split("-")[0]) for anchor, term in rows)


def test_the_page_of_the_file_explains_every_key_tensor_and_encoding(tmp_path):
    page = (ROOT / "docs/reference/file-format.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([\w_]+)", "\n".join(re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE))))
    data = potstill.load_data("digits")
    sets = [
        potstill.distill(data, "dm", ipc=1, steps=1, progress=None),
        potstill.distill(data, "herding", ipc=1, progress=None),
    ]
    for small in [*sets, potstill.concat(sets)]:
        assert set(small.metadata) <= explained
        assert {name.partition("/")[0].partition(".")[0] for name in small.tensors} <= explained
        assert {stored["codec"] for stored in small.metadata["codec"]["tensors"].values()} <= explained


def test_each_parametrization_has_its_formula_of_decoding():
    text = {page.place: page.text for page in site_registries.registry_pages()}["reference/parametrizations.md"]
    entries = text.split("\n## ")[1:]
    assert len(entries) >= 10
    assert [entry.splitlines()[0] for entry in entries if "\nDecoding: " not in entry] == []
    assert "`x · std + mean`" in text
