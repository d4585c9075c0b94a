"""What pages say of other files must be what those files hold: formats, figures of the demonstration, tables."""

import json
import re
from pathlib import Path

import pytest

from potstill.dataset_file.metadata import FORMAT

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def rows(text: str, name: str) -> list[list[str]]:
    """Cells of the table between the marks of ``name``, without its head."""
    table = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    assert table is not None, name
    lines = [line for line in table[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", ["reference/versions", "reference/file-format"])
def test_a_page_names_the_format_that_is_written(name: str) -> None:
    named = set(re.findall(r"potstill/\d+", page(name)))
    assert named == {FORMAT}


def test_seconds_that_were_asked_are_not_called_seconds_of_a_core() -> None:
    assert "seconds of a core" not in page("benchmarks/strong")
    table = rows(page("benchmarks/strong"), "strong")
    asked = [row for row in table if len(row) == 10 and row[3].isdigit()]
    assert asked
    assert all(re.fullmatch(r"[\d,]+", row[4]) for row in asked)  # the clock beside it


def test_a_protocol_that_is_not_the_publications_is_said() -> None:
    """Rows of DC that another recipe than its own measured."""
    others = {
        row[0]
        for row in rows(page("benchmarks/published"), "results")
        if row[2].startswith("`dc`") and "`dc`" not in row[3]
    }
    assert others == {"mnist"}
    assert re.search(
        r"two MNIST rows of DC were measured by `dsa`, which is not the recipe", page("benchmarks/published")
    )


def test_a_recipe_that_promises_a_score_has_one() -> None:
    measured = {re.sub(r"`recipes/(.*)\.yaml`", r"\1", row[0]) for row in rows(page("benchmarks/recipes"), "recipes")}
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        if "Expected score: docs/benchmarks/recipes.md" in path.read_text(encoding="utf-8"):
            assert path.stem in measured, path.name


def test_published_figures_have_a_source() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        assert not re.search(r"[Ff]rom memory", path.read_text(encoding="utf-8")), path.name


def test_the_numbers_of_the_demonstration_are_those_of_its_scorecard() -> None:
    score = json.loads((ROOT / "results/demo/mnist-5k.scorecard.json").read_text(encoding="utf-8"))
    shown = re.search(r"`make demo` writes: (\d\d) to (\d\d) % in (\d+) bytes, beside (\d\d\.\d) for herding", README)
    assert shown is not None
    assert int(shown[1]) <= 100 * score["accuracy"]["mean"] <= int(shown[2]) + 0.5
    assert int(shown[3]) == score["bytes"]["total"]
    assert float(shown[4]) == pytest.approx(100 * score["baselines"]["herding"]["mean"], abs=0.051)


def test_the_home_page_shows_what_its_program_prints() -> None:
    stored = json.loads((ROOT / "results/home.json").read_text(encoding="utf-8"))
    assert stored["code"] in page("index")
    assert re.search(r"(?m)^this set +\d\d\.\d%", page("index"))
