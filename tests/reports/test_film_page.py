"""Films on both pages, in a real browser: by arrow keys, without a script, of a run that is under way."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from question_samples import comparison

import potstill
from potstill.api.report import report
from potstill.comparison.page_data import ComparisonFolder
from potstill.reports import Gallery


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of digits with its film: steps 0, 1, 2, 4, 5."""
    out = tmp_path_factory.mktemp("film") / "small.safetensors"
    small = potstill.distill(
        "digits", "dm", ipc=2, steps=5, network="mlp", snapshots=f"{out}.film", codec="float32", progress=None
    )
    small.save(out)
    return out


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    made = []

    def open_page(html: str, **context: Any) -> Page:
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        made.append(browser.new_context(offline=True, **context))
        page = made[-1].new_page()
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    for context in made:
        context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_arrow_keys_move_through_the_steps_without_a_script(
    show: Callable[..., Page], filmed: Path, tmp_path: Path, width: int
) -> None:
    html = report(filmed, tmp_path / "one.html").read_text(encoding="utf-8")
    assert "<script" not in html
    page = show(html, java_script_enabled=False, viewport={"width": width, "height": 800})
    row = page.get_by_role("group", name="small: Pictures after so many steps")
    assert row.get_by_role("radio").count() == 5
    assert row.get_by_role("radio", name="5").is_checked()
    seen = page.locator(".stage:visible")
    assert seen.count() == 1
    assert seen.locator(".when").inner_text() == "After 5 steps, the last."
    assert seen.get_by_role("img").count() == 10
    assert seen.get_by_role("img", name="small, 3, after 5 steps").is_visible()
    row.get_by_role("radio", name="5").focus()
    page.keyboard.press("ArrowLeft")
    assert seen.locator(".when").inner_text() == "After 4 steps."
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert seen.locator(".when").inner_text() == "Before the first step."
    boxes = [label.bounding_box() for label in row.locator("label").all()]
    assert len({round(box["y"]) for box in boxes if box}) == 1, "one row, on a phone too"
    assert all(box and box["width"] >= 24 and box["height"] >= 24 for box in boxes)


def test_rows_and_windows_move_on_one_scale(show: Callable[..., Page], tmp_path: Path) -> None:
    rows = "".join(f"{n % 7},{n % 5 - 3 * (n % 2)},{n / 50},{'ab'[n % 2]}\n" for n in range(60))
    (tmp_path / "t.csv").write_text("weight,<i>height</i>,age,class\n" + rows)
    (tmp_path / "s.csv").write_text("hot,cold\n" + "".join(f"{n % 9},{n % 11}\n" for n in range(200)))
    of_rows = potstill.load_data(str(tmp_path / "t.csv"), label="class")
    of_windows = potstill.load_data(str(tmp_path / "s.csv"), task="forecast:window=8,horizon=2")
    for name, data, many in (("rows", of_rows, {"ipc": 2}), ("windows", of_windows, {"items": 3})):
        out = tmp_path / f"{name}.safetensors"
        potstill.distill(
            data, "dm", **many, steps=2, network="mlp", snapshots=f"{out}.film", codec="float32", progress=None
        ).save(out)
        html = report(out, tmp_path / f"{name}.html").read_text(encoding="utf-8")
        page = show(html, java_script_enabled=False, viewport={"width": 390, "height": 800})
        row = page.get_by_role("group", name=f"{name}: {name.capitalize()} after so many steps")
        seen = page.locator(".film .stage:visible")
        assert seen.count() == 1
        drawn = seen.get_by_role("img")
        assert drawn.count() == (1 if name == "rows" else 3)
        after = seen.locator("svg[role=img] polyline").first.get_attribute("points")
        row.get_by_role("radio", name="2").focus()
        for _ in range(2):
            page.keyboard.press("ArrowLeft")
        assert seen.locator(".when").inner_text() == "Before the first step."
        assert seen.locator("svg[role=img] polyline").first.get_attribute("points") != after
        if name == "rows":
            ends = [
                stage.locator("svg[role=img] text").all_text_contents() for stage in page.locator(".film .stage").all()
            ]
            assert ends[0] == ends[1] == ends[2], "the axes stay"
            assert any("<i>height" in text for text in ends[0])
        assert page.locator("i").count() == 0


def test_a_comparison_shows_those_that_are_done_and_the_one_that_is_being_made(
    show: Callable[..., Page], filmed: Path, digits: Gallery, tmp_path: Path
) -> None:
    board = comparison(tmp_path / "board", digits)
    folder = ComparisonFolder(board)
    assert 'id="film"' not in folder.page("c")
    before = folder.version()
    shutil.copy(f"{filmed}.film", board / "dm-ipc1.safetensors.film")
    assert folder.version() != before
    shutil.copy(f"{filmed}.film", board / "dc-ipc1.safetensors.film")
    for n in (1, 2):  # of a row's further sets there is no film on the page, and they are done
        shutil.copy(f"{filmed}.film", board / f"dm-ipc1-set{n}.safetensors.film")
        shutil.copy(filmed, board / f"dm-ipc1-set{n}.safetensors")
    (board / "dm-ipc5.safetensors.film").write_bytes(b"<b>not one</b>")
    page = show(folder.page("c"))
    titles = page.locator("#film summary").all_inner_texts()
    assert titles == ["dc-ipc1, being made", "dm, 1 per class", "dm, 5 per class"]
    for part in page.locator("#film details").all():
        part.evaluate("d => { d.open = true }")
    assert "no snapshots of a set, or damaged" in page.locator("#film details").last.inner_text()
    assert page.locator("#film .stage:visible .when").first.inner_text() == "After 5 steps, the latest as yet."
    first, second = page.locator("#film fieldset").all()
    first.get_by_role("radio", name="0").focus()
    page.keyboard.press("Space")  # a click would miss it where the page says just then that no server answers
    assert second.get_by_role("radio", name="5").is_checked(), "each film has its own row"
    assert page.locator("#film .stage:visible .when").all_inner_texts() == [
        "Before the first step.", "After 5 steps, the last.",
    ]  # fmt: skip
    page.reload()
    assert page.locator("#film fieldset").first.get_by_role("radio", name="0").is_checked(), "as it was"
    assert page.locator("#film b b").count() == 0
