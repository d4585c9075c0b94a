"""The documentation is run: python blocks and commands marked ``<!-- run -->``; all other commands are parsed."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from potstill.api.listing import list_methods
from potstill.cli.commands import find_command
from potstill.cli.main import main
from potstill.cli.parsing import parse
from tests.rotating import commit_day, third
from tools import docs as tables
from tools.docs.workplace import make_workplace

ROOT = Path(__file__).resolve().parents[2]
SLOW = (
    "docs/explanation/accuracy.md",
    "docs/guides/audit-privacy.md",
    "docs/guides/audit.md",
    "docs/guides/augmentation.md",
    "docs/guides/automatic.md",
    "docs/guides/continual.md",
    "docs/guides/control.md",
    "docs/guides/deletion.md",
    "docs/guides/detection.md",
    "docs/guides/edge.md",
    "docs/guides/fairness.md",
    "docs/guides/federated.md",
    "docs/guides/graphs.md",
    "docs/guides/image-text.md",
    "docs/guides/private-sets.md",
    "docs/guides/provenance.md",
    "docs/guides/recommendation.md",
    "docs/guides/representations.md",
    "docs/guides/search.md",
    "docs/guides/selection.md",
    "docs/guides/soft-labels.md",
    "docs/guides/validation-set.md",
    "docs/index.md",
    "docs/learn/first-comparison.md",
    "docs/learn/pictures.md",
    "docs/learn/tables.md",
)
"""Pages whose examples take long: a third is run for each change (`tests.rotating`), ``make test-all`` runs all."""
LEFT_OUT = frozenset(SLOW) - set(third(SLOW, commit_day()))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"(?P<run><!-- run -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start()].count("\n") + 2, m["language"], m["code"], bool(m["run"])) for m in BLOCK.finditer(text)]


def commands(code):
    return [shlex.split(line, comments=True) for line in code.splitlines() if line.startswith("potstill ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the pages speak of: photos/, flowers.csv, flow.csv, gentle.yaml, pull.py."""
    make_workplace(tmp_path)
    recipe = next(code for _, language, code, _ in blocks(ROOT / "docs/guides/integrations.md") if language == "yaml")
    (tmp_path / "gentle.yaml").write_text(recipe)
    method = next(code for _, language, code, _ in blocks(ROOT / "docs/extend/method.md") if language == "python")
    (tmp_path / "pull.py").write_text(method)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hurried(words):
    """Those words with a time limit of a few seconds in place of one of minutes."""
    return [re.sub(r"\d+m", "6s", word) if before == "--time-limit" else word
            for before, word in zip(["", *words], words, strict=False)]  # fmt: skip


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=named(p), marks=[pytest.mark.slow] * (named(p) in LEFT_OUT)) for p in PAGES]
)
def test_what_a_page_shows_works(page, workplace, monkeypatch):
    module = ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for line, language, code, run in blocks(page):
        if language == "python":
            exec(compile("\n" * (line - 1) + code, str(page), "exec", dont_inherit=True), module.__dict__)
        for words in commands(code) if language == "bash" else []:
            if run:
                assert main([*hurried(words[1:]), "--quiet"]) == 0, f"{page.name}: {shlex.join(words)}"
            else:
                name, rest = find_command(words[1:])
                assert parse(name, rest).name == name


def test_the_tables_are_current(capsys):
    assert tables.main(ROOT, check=True) == 0, capsys.readouterr().out


def test_links_between_pages_lead_somewhere():
    site = pytest.importorskip("tools.docs.site_pages", reason="the site is built with the docs extra")
    made = {(ROOT / "docs" / page.place).resolve() for page in site.pages()}
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            place = (page.parent / target).resolve()
            assert place.exists() or place in made, f"{page.name}: {target}"


def test_every_page_of_the_documentation_is_in_its_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in {*(ROOT / "docs").glob("**/*.md")} - {*(ROOT / "docs/adr").iterdir()}:
        assert page.relative_to(ROOT / "docs").as_posix() in menu


def test_the_readme_is_short():
    """It was 23,941 bytes, of which one in six said what a newcomer asks."""
    assert len((ROOT / "README.md").read_bytes()) < 8_000


def test_methods_are_found_by_family_and_five_come_first():
    page = (ROOT / "docs/methods/index.md").read_text(encoding="utf-8")
    first, families = page.split("<!-- methods:begin -->")
    assert len(re.findall(r"\[`[\w-]+`\]\(\.\./method/", first)) == 5
    for method in list_methods(outside=False):
        link = rf"\[`{re.escape(method['name'])}`\]\(\.\./method/{method['name'].replace('+', 'p')}\.md\)"
        assert len(re.findall(link, families)) == 1, method["name"]


def test_the_advice_is_the_same_on_every_page():
    """One line tries the methods to start with, and one page says which they are."""
    lines = {
        page.name: [w for _, language, code, _ in blocks(page) if language == "bash" for w in commands(code)
                    if w[:3] == ["potstill", "compare", "photos/"]]
        for page in PAGES
    }  # fmt: skip
    said = [words for found in lines.values() for words in found]
    assert len(said) >= 2
    assert all(words == said[0] for words in said), lines
    assert not [page.name for page in PAGES if "\n## Choose a method\n" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "phrase", ["what supervises", "stands beside", "beside it stand", "what it is worth", "is worth what"]
)
def test_pages_and_help_use_plain_words(phrase):
    read = [*PAGES, *(ROOT / "src/potstill/cli/commands").glob("*.py")]
    found = [page.name for page in read if phrase in page.read_text(encoding="utf-8").lower()]
    assert not found


def test_the_methods_to_start_with_are_those_that_the_advice_compares():
    page = (ROOT / "docs/guides/choose-a-method.md").read_text(encoding="utf-8")
    section = page.split("## Five to start with\n")[1].split("\n## ")[0]
    first = re.findall(r"^\| `([\w-]+)`", section, re.MULTILINE)
    compared = next(words for words in commands(section) if words[1] == "compare")
    assert len(first) == 5
    assert compared[compared.index("--methods") + 1].split(",") == first[:4]
