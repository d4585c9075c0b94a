"""The page of a comparison in a real browser: sorted, filtered, switched, live; and what it refuses."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from question_samples import comparison
from report_samples import HOSTILE

from potstill.api.report import report
from potstill.api.serve import Server, serve
from potstill.comparison.page_data import ComparisonFolder
from potstill.core import Splits
from potstill.data.in_memory import TensorSource
from potstill.errors import PotstillError
from potstill.reports import Gallery
from potstill.reports.comparison_page import NearestReal, read_board, render_board

Show = Callable[..., Page]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens a page offline; it must ask for nothing and complain of nothing."""
    contexts, wrong = [], []

    def open_page(html: str, width: int = 1280, **context: Any) -> Page:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        made = browser.new_context(offline=True, viewport={"width": width, "height": 900}, **context)
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("data:", path.as_uri())) else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for made in contexts:
        made.close()
    assert wrong == []


@pytest.fixture
def real(digits: Gallery) -> Splits:
    """The hundred digits as training data."""
    return Splits(train=TensorSource.make(digits.inputs, digits.labels, digits.classes, name="digits"), test=None)


def methods(page: Page) -> list[str]:
    rows = page.locator("#rows tbody tr:visible th bdi").all_inner_texts()
    return [text.strip() for text in rows]


def test_leaderboard_sorts_filters_and_tells_the_frontier(show: Show, digits: Gallery, tmp_path: Path) -> None:
    page = show(ComparisonFolder(comparison(tmp_path / "board", digits)).page("potstill report board"))
    assert len(methods(page)) == 9
    page.get_by_role("button", name="Accuracy").click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert methods(page)[:4] == ["dm", "k-means", "dm", "random"], "equals keep their order"
    assert methods(page)[-1] == "mtt", "what has no score stands last, either way"
    page.get_by_role("button", name="Accuracy").press("Enter")
    assert methods(page)[0] == "herding"
    assert methods(page)[-1] == "mtt"
    page.locator("#filters [name=method]").select_option("dm")
    assert methods(page) == ["dm", "dm"]
    assert "2 of 9 rows, sorted by accuracy, smallest first" in page.get_by_role("status").inner_text()
    assert page.locator("#front-0-bytes-t").count() == 1
    faded = page.locator(".front g.out").count()
    assert faded == 2 * 6, "both plots fade the six other points"
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Best and not told apart from it").check()
    assert sorted(methods(page)) == ["dm", "dm", "k-means", "k-means"]
    page.locator("#filters [name=size]").select_option("5 per class")
    page.get_by_label("Find").fill("K-ME")
    assert methods(page) == ["k-means"]


def test_the_title_and_the_figure_are_the_verdict(show: Show, digits: Gallery, tmp_path: Path) -> None:
    folder = comparison(tmp_path / "board", digits)
    held = json.loads((folder / "leaderboard.json").read_text())
    test = {"ci95": [-0.02, 0.03], "p": 0.6, "p_holm": 0.6}
    held["tests"] = [
        {"a": f"dm-ipc{n}@potstill", "b": f"k-means-ipc{n}@potstill", "mean": 0.005, **test} for n in (1, 5)
    ]
    held["tests"][1] |= {"ci95": [0.001, 0.009], "p_holm": 0.01}
    (folder / "leaderboard.json").write_text(json.dumps(held))
    page = show(ComparisonFolder(folder).page("c"))
    wins, rest = (
        "distilling wins at 5 per class (dm)",
        "distilled sets are not told apart from real samples at 1 per class",
    )
    assert page.locator("h1").inner_text() == f"digits: {wins}; {rest}."
    rows = page.locator("#found .gaps .row:not(.axis)")
    said = [" ".join(row.split()) for row in rows.all_inner_texts()]
    assert said == [
        "1 per class dm − k-means not told apart +0.5, −2.0 to +3.0",
        "5 per class dm − k-means +0.5 better +0.1 to +0.9",
    ]
    box = rows.first.bounding_box()
    assert box is not None
    assert box["y"] < 800, "above the fold"


def test_without_script_everything_is_there(show: Show, digits: Gallery, tmp_path: Path) -> None:
    page = show(ComparisonFolder(comparison(tmp_path / "board", digits)).page("c"), java_script_enabled=False)
    assert len(methods(page)) == 9
    assert page.locator("#filters, #looking, #theme").locator("visible=true").count() == 0
    assert "dm has the best mean at 5; k-means is not told apart." in page.locator("#found").inner_text()
    short = page.get_by_role("region", name="In short").locator("tbody tr")
    assert short.first.inner_text().split("\t") == [
        "1 per class", "dm", "80.0% [78.8 to 81.2%]", "15.7 kB", "2.0 s", "k-means",
        "k-means (79.5%): 7.8 kB", "dm (80.0%): 2.0 s",
    ]  # fmt: skip
    assert short.last.inner_text().split("\t")[0] == "All real data"
    assert "Paired t tests, Holm." in page.locator("#found").inner_text()
    assert page.locator("#rows tbody button").count() == 0
    assert "Hardest on average: 8, 72.6%." in page.locator("#classes").inner_text()
    mistakes = page.get_by_role("region", name="Commonest mistakes, 1 per class, potstill").locator("tbody tr")
    assert mistakes.nth(1).inner_text().split("\t") == ["dm", "8 as 3 11.0%", "1 as 7 2.0%", "—"]
    matrix = page.locator(".confused table").first
    assert "Best mean: dm, 1 per class" in matrix.locator("caption").inner_text()
    assert "dm, the best mean, in percent" in page.locator("#classes").inner_text()
    assert matrix.locator("tbody tr").nth(8).inner_text().split("\t") == [
        "8", "·", "·", "·", "11", "·", "·", "·", "·", "89", "·",
    ]  # fmt: skip


def test_colours_follow_the_system_until_they_are_chosen(show: Show, digits: Gallery, tmp_path: Path) -> None:
    html = ComparisonFolder(comparison(tmp_path / "board", digits)).page("c")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = show(html, color_scheme="light")
    dark = show(html, color_scheme="dark")
    pale, deep = light.evaluate(colour), dark.evaluate(colour)
    mark = "getComputedStyle(document.querySelector('.m1 .mark path')).fill"
    assert pale != deep
    for page in (light, dark):
        button = page.get_by_role("button", name="Colours")
        button.click()
        assert (page.evaluate(colour), button.inner_text()) == (pale, "Colours: light")
        first = page.evaluate(mark)
        button.click()
        assert (page.evaluate(colour), button.inner_text()) == (deep, "Colours: dark")
        assert page.evaluate(mark) != first
        page.reload()
        assert page.evaluate(colour) == deep


@pytest.mark.parametrize("width", [360, 1280])
def test_fits_and_has_a_name_for_everything(show: Show, digits: Gallery, tmp_path: Path, width: int) -> None:
    page = show(ComparisonFolder(comparison(tmp_path / "board", digits)).page("c"), width)
    for part in page.locator("details").all():
        part.evaluate("d => { d.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.locator("img:not([alt])").count() == 0
    for plot in page.locator(".front svg[role=img]").all():
        ids = (plot.get_attribute("aria-labelledby") or "").split()
        assert all(page.locator(f"#{key}").text_content() for key in ids)
    ids = page.locator("[id]").evaluate_all("n => n.map(e => e.id)")
    assert len(ids) == len(set(ids))
    regions = page.locator("[role=region]").evaluate_all("n => n.map(e => e.getAttribute('aria-label'))")
    assert len(regions) > 10
    assert len(regions) == len(set(regions)), "each has a name of its own for who hears them"
    table = page.locator(".front table").first
    assert table.locator("tbody tr").count() == 8


def test_nearest_real_pictures_stand_below(show: Show, digits: Gallery, real: Splits, tmp_path: Path) -> None:
    board = comparison(tmp_path / "board", digits, source=real.train.content_hash)
    page = show(ComparisonFolder(board, real).page("c"))
    assert page.locator("#gallery img.near").count() == 20, "one strip for each class of dm, at each of two sizes"
    alt = page.locator("#gallery img.near").first.get_attribute("alt") or ""
    assert alt.startswith("Nearest real pictures, at distance 0.")
    script = """i => { const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = 28;
        const x = c.getContext('2d'); x.drawImage(i, 0, 0); return [...x.getImageData(0, 0, 28, 28).data] }"""
    near = page.locator("#gallery img.near").first
    near.scroll_into_view_if_needed()
    near.evaluate("i => i.decode()")
    drawn = np.array(near.evaluate(script)).reshape(28, 28, 4)[:, :, 0]
    levels = np.rint(digits.inputs[digits.labels == 0][:, 0] * 255)
    assert any((drawn == x).all() for x in levels), "it is one of the real pictures of its class"
    assert page.locator("#gallery table tbody tr").count() == 2
    strip = page.locator("#gallery img").first.bounding_box()
    page.get_by_label("Zoom").fill("3")
    larger = page.locator("#gallery img").first.bounding_box()
    assert strip is not None
    assert larger is not None
    assert larger["width"] - 6 == pytest.approx(3 * (strip["width"] - 6), abs=1), "its edge does not grow"
    page.locator("#looking [name=class]").select_option("7")
    assert page.locator(".wall>li:not([hidden]) h4").all_text_contents() == ["7", "7"], "one at each size"


def test_other_training_data_are_refused(digits: Gallery, real: Splits, tmp_path: Path) -> None:
    board = comparison(tmp_path / "board", digits)
    with pytest.raises(PotstillError, match="other training data than digits"):
        report(board, tmp_path / "page.html", data=real)
    with pytest.raises(PotstillError, match="data are of use"):
        report(board / "dm-ipc1.safetensors", tmp_path / "page.html", data=real)
    assert not (tmp_path / "page.html").exists()


def read_board_of(folder: Path) -> Any:
    held = ComparisonFolder(folder)
    return read_board(folder, held._set)


def test_a_page_before_the_first_cell_names_what_is_made(show: Show, tmp_path: Path) -> None:
    (folder := tmp_path / "board").mkdir()
    with pytest.raises(PotstillError, match="holds no leaderboard"):
        ComparisonFolder(folder).page("c")
    (folder / "dm-ipc10.safetensors.checkpoint").write_bytes(b"half")
    page = show(ComparisonFolder(folder).page("c"))
    assert "being made: dm-ipc10" in page.locator("#live").inner_text()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(show: Show, digits: Gallery, tmp_path: Path, name: str) -> None:
    folder = comparison(tmp_path / "board", digits, name=name)
    held = json.loads((folder / "leaderboard.json").read_text())
    for row in held["rows"]:
        row |= {"method": f"{row['method']}{name}", "id": name, "protocol": name, "error": name}
    held["verdicts"][0]["text"] = name
    (folder / "leaderboard.json").write_text(json.dumps(held))
    page = show(ComparisonFolder(folder).page(name))
    assert page.locator("script").count() == 1
    assert page.locator("img[src=x]").count() == 0
    assert len(methods(page)) == 9


def test_two_thousand_pictures_stay_quick(show: Show, digits: Gallery, tmp_path: Path) -> None:
    folder = comparison(tmp_path / "board", digits)
    board = read_board_of(folder)
    many = np.concatenate([digits.inputs, digits.inputs])
    labels = np.concatenate([digits.labels, digits.labels])
    from dataclasses import replace

    full = Gallery(inputs=many, labels=labels, classes=digits.classes)
    rows = [replace(r, entry=replace(r.entry, gallery=full)) for r in board.rows if r.entry is not None]
    rows += [replace(rows[0], id="more", file="more", method="kip"), replace(rows[4], id="most", file="most")]
    near = {row.id: NearestReal(pictures=many, distances=np.full(200, 0.1)) for row in rows}
    page = show(render_board(replace(board, rows=rows), title="many", command="c", nearest=near), 390)
    took = page.evaluate(
        """async () => { for (const d of document.querySelectorAll('details')) d.open = true;
        const t = performance.now(); document.querySelector('#rows thead button').click();
        scrollTo(0, document.body.scrollHeight / 2); await new Promise(r => requestAnimationFrame(() => setTimeout(r)));
        return performance.now() - t }"""
    )
    assert page.locator("#gallery img").count() == 2 * 2000 // 5
    assert took < 1500, f"a sort and a jump took {took:.0f} ms"


@pytest.fixture
def served(digits: Gallery, tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    folder = tmp_path / "board"
    folder.mkdir()
    server = Server(ComparisonFolder(folder), 0, "potstill serve board")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield folder, server
    server.shutdown()
    server.server_close()


def test_a_live_page_follows_the_run(served: tuple[Path, Server], browser: Browser, digits: Gallery) -> None:
    folder, server = served
    assert server.server_address[0] == "127.0.0.1"
    context = browser.new_context()
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.goto(server.url)
    assert "Nothing to show yet" in page.locator("#live").inner_text()
    comparison(folder, digits)
    page.locator("#live", has_text="8 of 9 cells are done").wait_for(timeout=20_000)
    page.locator("#filters [name=method]").select_option("dm")
    page.locator("#looking [name=class]").select_option("3")
    page.locator("#gallery summary").nth(1).click()
    page.locator("#found").click()
    (folder / "kip-ipc1.safetensors.checkpoint").write_bytes(b"")
    page.locator("#live", has_text="kip-ipc1").wait_for(timeout=20_000)
    assert set(methods(page)) == {"dm"}, "what was filtered stays filtered"
    assert page.locator("#looking [name=class]").input_value() == "3", "what was chosen stays chosen"
    assert page.locator("#gallery details").nth(1).get_attribute("open") is not None, "what was opened stays open"
    assert page.locator("#sets details").first.get_attribute("open") is None
    assert wrong == []
    context.close()


def test_nothing_else_is_served(served: tuple[Path, Server], digits: Gallery) -> None:
    folder, server = served
    comparison(folder, digits)
    for path in ("leaderboard.json", "../board/leaderboard.json", "%2e%2e/", "dm-ipc1.safetensors", "version/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url + path)
    request = urllib.request.Request(server.url, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    with urllib.request.urlopen(server.url) as answer:
        assert "script-src 'sha256-" in answer.headers["Content-Security-Policy"]
        assert "unsafe-inline'; script" in answer.headers["Content-Security-Policy"]
    with pytest.raises(PotstillError, match="choose another `port=`"):
        serve(folder, port=server.server_port)
    with pytest.raises(PotstillError, match="a folder is needed"):
        serve(folder / "none")
