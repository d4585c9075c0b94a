"""Pages of measurements: each opens with an answer that results/ give, shows a figure, and names its raw results."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tools.docs import benchmark_plots, claims
from tools.docs.headlines import OPENINGS, opening
from tools.docs.plot_parts import Axis, Point, Row, Series, rows_chart
from tools.docs.sources import QUESTIONS, SOURCES, sources, version

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "benchmarks"


def held(name: str) -> Any:
    return json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))


def test_every_page_has_a_question_an_answer_and_sources() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == set(QUESTIONS) == set(OPENINGS) == set(SOURCES)


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_a_page_opens_with_its_answer_and_one_figure(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert front.startswith("tags:\n")
    assert front.count("\n  - ") >= 4
    question, figure = QUESTIONS[name]
    assert body.strip().startswith(f"# {question}\n\n<!-- opening-{name}:begin -->")
    after = body.split(f"<!-- opening-{name}:end -->")[1].strip()
    shown = re.match(r"\[!\[([^\]]{30,})\]\(\.\./img/([\w./-]+)\.svg\)\]\(\.\./img/\2\.svg\)\n", after)
    assert shown is not None
    assert shown[2] == figure
    assert "\n## What not to conclude\n" in body
    assert f"<!-- sources-{name}:begin -->" in body
    assert 2 <= body.split("\n## Next\n")[1].count("\n- ") <= 3


@pytest.mark.parametrize("name", sorted(OPENINGS))
def test_an_opening_is_three_sentences_at_most(name: str) -> None:
    said = OPENINGS[name](ROOT)
    assert 1 <= len(said) <= 3
    assert opening(ROOT, name).startswith(f"**{said[0]}**")
    assert all(len(sentence.split()) <= 40 for sentence in said), said


@pytest.mark.parametrize(
    ("name", "file", "change"),
    [
        ("robustness", "faults.json", lambda d: d["errors"].update(same=0)),
        ("robustness", "faults.json", lambda d: d["bits"].update(noticed=299)),
        ("codecs", "stores.json", lambda d: d["rows"]["uint4"]["loss"].update(ci95=[0.01, 0.02])),
        ("labels", "labels.json", lambda d: d["accuracy"]["cells"][2]["less_than_all"].update(ci95=[-0.03, -0.01])),
        ("data", "own_data.json", lambda d: d["rows"][0]["difference"].update(ci95=[-0.1, 0.2])),
        ("selection", "pruning/fashion-mnist-0.json",
         lambda d: d["cells"]["k-means 0.1"]["over_random"].update(ci95=[-1, 1])),
        ("scaling", "knowledge/mnist-5k/scaling.json", lambda d: d["worth"][0].update(low=1.1)),
        ("recipes", "recipes.json", lambda d: d["rows"]["random"]["accuracy"].update(mean=0.99)),
    ],
)  # fmt: skip
def test_an_opening_refuses_results_that_say_something_else(tmp_path: Path, name: str, file: str, change: Any) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    place = tmp_path / "results" / file
    changed = json.loads(place.read_text(encoding="utf-8"))
    change(changed)
    place.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ValueError, match="do not say so any more"):
        opening(tmp_path, name)


def pruned(data: str, noise: str, method: str, kept: str) -> tuple[float, float]:
    low, high = held(f"pruning/{data}-{noise}.json")["cells"][f"{method} {kept}"]["over_random"]["ci95"]
    return low, high


@pytest.mark.parametrize(("row", "kept"), [("a tenth", "0.1"), ("a third", "0.3"), ("most", "0.6")])
def test_a_selection_that_is_recommended_beats_random(row: str, kept: str) -> None:
    """On the table or the pictures, and is below on neither."""
    text = (PAGES / "selection.md").read_text(encoding="utf-8")
    cells = next(line for line in text.splitlines() if line.startswith(f"| {row} |")).split("|")[2:4]
    for cell, noise in zip(cells, ("0", "0.2"), strict=True):
        for method in re.findall(r"`([\w-]+)`", cell):
            ends = [pruned(data, noise, method, kept) for data in ("digits-table", "fashion-mnist")]
            assert any(low > 0 for low, _ in ends), (method, ends)
            assert all(high > 0 for _, high in ends), (method, ends)


def above(one: str, other: str, name: str = "fashion-mnist-ipc1") -> bool:
    """Whether the best cell of an arm is above that of another in results/strong."""
    cells = [c for c in held(f"strong/{name}.json")["cells"].values() if c["where"] == "test"]
    best = [max(c["accuracy"]["mean"] for c in cells if c["arm"] == arm) for arm in (one, other)]
    return best[0] > best[1]


def effort(data: str, method: str) -> tuple[float, float]:
    """Accuracy of a quick run, and the best of the random sets beside it."""
    text = (PAGES / "choice.md").read_text(encoding="utf-8")
    row = next(r for r in text.splitlines() if r.startswith(f"| {data} | `{method}` | quick |")).split("|")
    return float(row[6].split("±")[0]), float(row[7].split(" to ")[1].rstrip(") "))


CLAIMS = [
    ("strong", "Cosine coefficients of real pictures, with no step made, are far above the pictures themselves",
     lambda: above("random-frequency", "random")),
    ("strong", "`ncfm` with rounding in every step ends below real pictures in the same bytes",
     lambda: not above("ncfm-2bits", "random-2bits", "fashion-mnist-true314400")),
    ("choice", "`dm`, `m3d` and `datadam` with `quick` are above all three random sets",
     lambda: all(a > b for a, b in (effort("digits", "dm"), effort("mnist-5k", "m3d"), effort("digits", "datadam")))),
    ("data", "No picture is read more than once in any pass",
     lambda: all(p["most"] <= 1 for r in held("streaming.json")["runs"].values() for p in r["reads"].values())),
    ("labels", "Eight bits cost nothing that shows",
     lambda: held("labels.json")["accuracy"]["cells"][4]["less_than_all"]["ci95"][0] < 0
     < held("labels.json")["accuracy"]["cells"][4]["less_than_all"]["ci95"][1]),
    ("robustness", "All files were those of one process, and none was left over",
     lambda: held("partitions.json")["equal"] and not held("partitions.json")["other_files"]),
    ("speed", "`potstill plan` foresees memory within its bounds in all runs of the table",
     lambda: all(abs(r["error"]) <= held("scaling.json")["within"] for r in held("scaling.json")["rows"].values())),
    ("strong", "both real [baselines](../reference/glossary.md) have intervals that hold the accuracy of all data, "
     "and `datm` has not",
     lambda: all((c["behind_full"][1] < 0) == (not k.startswith("datm"))
                 for k, c in held("lossless-digits.json")["cells"].items() if k.split("|")[1] in ("20", "40"))),
]  # fmt: skip
"""Comparisons in the prose of these pages: page, words, and what results/ have to say."""


@pytest.mark.parametrize(("page", "words", "holds"), CLAIMS)
def test_a_comparison_in_prose_is_what_the_results_say(page: str, words: str, holds: Any) -> None:
    assert words in (PAGES / f"{page}.md").read_text(encoding="utf-8")
    assert holds()


@pytest.mark.parametrize("name", sorted(benchmark_plots.FIGURES))
def test_a_figure_is_named_and_stays_within_its_borders(name: str) -> None:
    svg = ElementTree.fromstring(benchmark_plots.FIGURES[name](ROOT))
    space = "{http://www.w3.org/2000/svg}"
    width, height = (float(v) for v in svg.attrib["viewBox"].split()[2:])
    assert len((svg.findtext(f"{space}title") or "").split()) > 8
    for text in svg.iter(f"{space}text"):
        size = float(text.attrib.get("font-size", 13))
        length = 0.55 * size * len(text.text or "")  # of a usual sans serif
        start = {"end": length, "middle": length / 2}.get(text.attrib.get("text-anchor", "start"), 0.0)
        x = float(text.attrib["x"]) - start
        assert x > -4, text.text
        assert x + length < width + 12, text.text
        assert 0 < float(text.attrib["y"]) < height, text.text


def test_a_chart_draws_means_intervals_and_single_values() -> None:
    series = Series("here", "#d55e00", 5)
    rows = [Row("a", [Point(series, 50.0, (40.0, 60.0), (45.0, 55.0))], "end"), Row("b", [Point(series, 500.0)])]
    drawn = rows_chart("A chart of two rows.", rows, Axis("value, %", 0, 100, 50), left=100)
    assert drawn.count('r="5"') == 3  # two points and the legend
    assert 'cx="380.0"' in drawn  # the middle of 100 to 660
    assert 'cx="660.0"' in drawn  # what is outside lies at the end
    assert 'x1="324.0"' in drawn
    assert ">value, %<" in drawn


def test_a_source_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results/recipes\.json is not there"):
        sources(tmp_path, "recipes")
    assert "results/recipes.json" in sources(ROOT, "recipes")


def test_the_version_says_how_many_runs_keep_their_bits() -> None:
    assert re.search(r"measured with Potstill 0\.1\.0, .* 239 of 659 compared runs have the same bits", version(ROOT))


def test_raw_results_lie_on_the_site() -> None:
    hook = pytest.importorskip("tools.docs.site_results", reason="the site is built with the docs extra")
    on_site = {path.relative_to(ROOT).as_posix() for paths in hook.used().values() for path in paths}
    listed = hook.results_page()
    for page in PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(\.\./\.\./results/([\w./-]+)\)", text):
            if target.endswith(".json"):
                assert f"results/{target}" in on_site
            else:
                assert f"## {target}\n" in listed
        moved = hook.rewritten(text, "benchmarks/x.md")
        assert "](../../results" not in moved
    assert hook.rewritten("[all](../../results)", "benchmarks/x.md") == "[all](../benchmarks/results.md)"


PROSE = """---
tags: [a]
---
# Only a heading

A set is small. It takes 3 kB,
and is always [smaller](than-9.md) than `8` of them.

- Nothing here to see.
- Better than before. Not a claim to see.

| only | a table |

<!-- made:begin -->
Only made.
<!-- made:end -->
"""


def test_claims_are_sentences_with_numbers_and_comparisons() -> None:
    found = claims.claims(PROSE, "p.md")
    assert [(c.line, c.sentence) for c in found] == [
        (6, "It takes 3 kB, and is always [smaller](than-9.md) than `8` of them."),
        (10, "Better than before."),
    ]


def test_a_draw_of_claims_is_its_seeds() -> None:
    assert claims.draw(12, 3) == claims.draw(12, 3)
    assert claims.draw(12, 3) != claims.draw(12, 4)
    assert len(set(claims.draw(40, 0))) == 40
