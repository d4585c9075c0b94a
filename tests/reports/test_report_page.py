"""The page in a real browser: what a reader sees, what the browser asks for, what hostile names can do."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from report_samples import HOSTILE, card, estimate, scorecard

from potstill.errors import PotstillError
from potstill.reports import Entry, Gallery, render, write

COMMAND = "potstill report digits.safetensors digits.scorecard.json --out page.html"
WIDTHS = (360, 1280)


@dataclass
class Seen:
    """An open page and everything it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Seen]]:
    """Opens entries as a page, offline, in a browser window of a given width."""
    contexts = []

    def open_page(
        entries: Sequence[Entry], width: int = 1280, title: str = "Digits, distilled", **context: Any
    ) -> Seen:
        path = tmp_path / "page.html"
        write(render(entries, title=title, command=COMMAND), path)
        made = browser.new_context(offline=True, viewport={"width": width, "height": 900}, **context)
        contexts.append(made)
        page = made.new_page()
        seen = Seen(page)
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_function("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => true)")
        return seen

    yield open_page
    for made in contexts:
        made.close()


def text(seen: Seen, selector: str = "body") -> str:
    return " ".join(seen.page.locator(selector).first.inner_text().split())


def overflow(seen: Seen) -> int:
    return int(seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def values(seen: Seen, selector: str) -> list[tuple[float, str]]:
    """The exact numbers and their shown text of every number under ``selector``."""
    script = "nodes => nodes.map(node => [parseFloat(node.value), node.textContent])"
    return [(v, t) for v, t in seen.page.locator(f"{selector} data").evaluate_all(script)]


def section(title: str) -> str:
    return f"section:has(> h2:text-is('{title}'))"


@pytest.mark.parametrize("width", WIDTHS)
def test_page_asks_for_nothing_and_fits(show: Callable[..., Seen], entry: Entry, width: int) -> None:
    seen = show([entry], width)
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in seen.requests) == 1
    assert (seen.complaints, seen.dialogs) == ([], [])
    assert overflow(seen) <= 0


def test_every_picture_decodes_at_its_size(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    sizes = seen.page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.width, i.alt])")
    assert [alt for *_, alt in sizes[:2]] == [f"10 of the set's pictures, row {k}" for k in (1, 2)]
    sizes = sizes[2:]
    assert len(sizes) == 100
    assert {(w, h, shown) for w, h, shown, _ in sizes} == {(28, 28, 56)}
    assert sizes[0][3] == "0, 1 of 10"
    assert seen.page.locator(".shelf img").first.evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"


@pytest.mark.parametrize(("width", "columns"), [(360, 3), (1280, 4)])
def test_classes_of_one_picture_stand_side_by_side(
    show: Callable[..., Seen], digits: Gallery, width: int, columns: int
) -> None:
    few = dataclasses.replace(digits, inputs=digits.inputs[::10], labels=digits.labels[::10])
    seen = show([Entry(name="d", card=card(ipc=1), gallery=few)], width)
    tops = seen.page.locator(".shelf img").evaluate_all("i => i.map(e => Math.round(e.getBoundingClientRect().top))")
    assert tops.count(tops[0]) >= columns
    assert overflow(seen) <= 0


def test_picture_holds_the_pixels_of_the_set(show: Callable[..., Seen], entry: Entry, digits: Gallery) -> None:
    """Read back from the browser's own canvas, so that no copy of the encoder can hide a fault of it."""
    seen = show([entry])
    script = """i => { const c = document.createElement('canvas'); c.width = c.height = 28;
        const x = c.getContext('2d'); x.drawImage(i, 0, 0); return [...x.getImageData(0, 0, 28, 28).data] }"""
    drawn = np.array(seen.page.locator(".shelf img").nth(37).evaluate(script)).reshape(28, 28, 4)[:, :, 0]
    np.testing.assert_array_equal(drawn, np.rint(digits.inputs[37, 0] * 255))


def test_page_of_a_hundred_digits_is_small(entry: Entry) -> None:
    assert len(render([entry], title="t", command=COMMAND).encode()) < 1_000_000


def test_headline_is_the_scorecards_numbers(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    assert values(seen, ".keys-row")[0] == (0.8731, "87.3%")
    head = text(seen, ".head")
    assert "95% interval 86.5 to 88.1%, for other students on these test samples, from 5 independent trainings." in head
    assert (0.9688, "96.9%") in values(seen, ".keys-row")
    assert "90% of it is kept with 2.5% of the samples" in head
    assert "digits, distilled" in text(seen, ".kicker").lower()
    assert "100 pictures that stand for the 4,000 of mnist-5k." in text(seen, "main")


def test_the_title_says_data_size_and_verdict(show: Callable[..., Seen], entry: Entry) -> None:
    measured = {
        n: b | {"difference": {"mean": 0.05, "ci95": [0.02, 0.08]}} for n, b in scorecard()["baselines"].items()
    }
    seen = show([dataclasses.replace(entry, scorecard=scorecard(baselines=measured))])
    said = (
        "100 distilled pictures of mnist-5k in 39 kB train 5.0 points better than random real pictures with soft labels"
    )
    assert text(seen, "h1") == f"{said} in the same bytes."
    assert seen.page.title() == f"{said} in the same bytes · Digits, distilled"
    assert "95% interval +2.0 to +8.0. Use the set" in text(seen, ".lede")


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (768, 1024)])
def test_the_figure_stands_above_the_fold(show: Callable[..., Seen], entry: Entry, width: int, height: int) -> None:
    seen = show([entry], width)
    box = seen.page.locator(".hero").bounding_box()
    assert box is not None
    assert box["y"] + 200 < height, "its first rows are seen without scrolling"


def test_each_difference_has_one_interval(show: Callable[..., Seen], entry: Entry) -> None:
    """Two overlapping intervals beside each other say less than that of their difference."""
    seen = show([entry])
    assert seen.page.locator(".gaps .row:not(.axis)").count() == len(scorecard()["baselines"])
    assert seen.page.locator(".hero .whisker").count() == len(scorecard()["baselines"])
    table = seen.page.locator(f"{section('How good is it?')} table")
    assert "95% interval" not in table.locator("thead th").all_inner_texts()


def test_the_icon_is_inside_the_page(show: Callable[..., Seen], entry: Entry) -> None:
    icon = show([entry]).page.locator("link[rel=icon]").get_attribute("href") or ""
    assert icon.startswith("data:image/svg+xml,%3Csvg")
    site = Path(__file__).resolve().parents[2] / "docs/img/favicon.svg"
    assert unquote(icon.partition(",")[2]) == site.read_text(encoding="utf-8").strip(), "as the site has it"


def test_a_long_failure_is_folded(show: Callable[..., Seen], entry: Entry) -> None:
    why = "experts are needed, and they take 40 hours; ask for fewer. " * 8
    seen = show([dataclasses.replace(entry, card=card(outcome={"kind": "not finite", "message": why}),
                                     scorecard=scorecard(left_out={"herding": why}))])  # fmt: skip
    assert (
        seen.page.locator(".warn details:not([open]) summary").inner_text()
        == "experts are needed, and they take 40 hours"
    )
    assert seen.page.locator("details.note:not([open]) summary").count() == 1


def test_scorecard_table_holds_every_number(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    shown = {number for number, _ in values(seen, f"{section('How good is it?')} table")}
    score = scorecard()
    for held in (score["accuracy"], score["full"], *score["baselines"].values()):
        assert {held["mean"], held["std"]} <= shown
    assert {39250.0, 32570.0, 39010.0, 39100.0, 78410.0} <= shown
    said = text(seen, "main")
    assert "156 per class, 1 bit, half size" in said
    assert "The fair comparison is at equal bytes" in said


def test_unequal_classes_are_warned_of_before_any_number_and_shown_beside_the_title() -> None:
    rows = [
        {"name": "0", "mean": 0.95, "n": 30},
        {"name": "1", "mean": 0.5, "n": 8},
        {"name": "2", "mean": 0.0, "n": 1},
    ]
    naive = {"largest class": {"score": 0.769, "class": "0"}}
    said = re.sub(
        r"<[^>]+>",
        " ",
        render(
            [Entry(name="d", card=card(), scorecard=scorecard(per_class=rows, naive=naive))], title="t", command=COMMAND
        ),
    )
    said = " ".join(said.split())
    warned = said.index("2 classes have fewer than 10 test samples (2 1, 1 8)")
    assert warned < said.index("Accuracy on real test data")
    assert "classes are unequal (0 30 test samples, 2 1)" in said
    assert "Class by class 0.0% to 95.0% 2 0.0%, 1 50.0%, 0 95.0%." in said
    assert "Always the largest class (0)" in said
    assert "76.9% · learns nothing" in said


@pytest.mark.parametrize(("counts", "shown"), [((4, 6), "4 to 6"), ((9, 2, 1), "1 to 9"), ((3, 3), "3")])
def test_items_of_unequal_classes_are_said_as_a_range(counts: tuple[int, ...], shown: str) -> None:
    names = tuple("abc"[: len(counts)])
    held = Gallery(
        inputs=np.zeros((len(counts), 1, 8, 8), np.float32), labels=np.arange(len(counts)), classes=names, counts=counts
    )
    entry = Entry(name="d", card=card(classes=list(names), ipc=max(counts)), gallery=held)
    assert entry.per_class == shown
    assert f"Per class <b><bdi>{shown}</bdi></b>" in render([entry], title="t", command=COMMAND)


def test_every_shown_number_reads_as_the_exact_one(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    pairs = [(v, t) for v, t in values(seen, "main") if t.endswith("%")]
    assert len(pairs) > 25
    assert all(t == f"{100 * v:.1f}%" for v, t in pairs)


def test_sections_of_a_full_entry(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    assert seen.page.locator("h1").count() == 1
    assert seen.page.locator("h2").all_inner_texts() == [
        "The pictures",
        "How good is it?",
        "On other networks",
        "Class by class",
        "Robust scores",
        "Trust",
        "While it was distilled",
        "Storage and cost",
        "Where it comes from",
        "How it was made and measured",
        "Repeat it",
    ]
    assert values(seen, section("Class by class")) == [(v, f"{100 * v:.1f}%") for v in scorecard()["per_class"]]
    assert [v for v, _ in values(seen, ".scores")] == [0.0957, 0.0807, 0.2655, 0.3012]
    provenance = text(seen, section("Where it comes from"))
    for fact in ("9c41f0a7be22d9e1", "5f0e8a4c19b2d377", "torch 2.13.0", "Seed 0", "all 1,000 steps were made"):
        assert fact in provenance
    cost = text(seen, section("Storage and cost"))
    assert "3 min 41 s" in cost
    assert "1.25% of the bytes of the real data (as they are)" in cost
    assert text(seen, "#command") == COMMAND


def test_dots_lie_where_their_numbers_say(show: Callable[..., Seen], entry: Entry) -> None:
    """Positions on the common axis are an affine function of the means, the same for every row."""
    seen = show([entry])
    script = """rows => rows.map(r => [parseFloat(r.querySelector('data').value),
        parseFloat(r.querySelector('circle').getAttribute('cx'))])"""
    assert seen.page.locator(".gaps data").count() == len(scorecard()["baselines"])
    pairs = np.array(seen.page.locator(".plot .row:not(.axis)").evaluate_all(script))
    slope, offset = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    assert slope > 0
    np.testing.assert_allclose(pairs[:, 1], slope * pairs[:, 0] + offset, atol=0.02)


def test_curve_has_all_records_and_falls(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    drawn = seen.page.locator(".curve polyline").get_attribute("points") or ""
    where = np.array([[float(x) for x in pair.split(",")] for pair in drawn.split()])
    assert len(where) == len(card()["history"])
    assert where[0, 1] < 20
    assert where[-1, 1] > 280
    assert "41.7 at the start" in text(seen, ".curve figcaption")


@pytest.mark.parametrize(
    ("random", "said", "unsaid"),
    [
        (0.8702, "not told apart", "better"),
        (0.9312, "worse", "better"),
    ],
)
def test_page_claims_no_more_than_the_interval(
    show: Callable[..., Seen], digits: Gallery, random: float, said: str, unsaid: str
) -> None:
    seen = show([Entry(name="d", card=card(), scorecard=scorecard(random=random), gallery=digits)])
    row = text(seen, ".gaps .row:has(.lab bdi:text-is('Random real samples'))")
    assert said in row
    assert unsaid not in row


def test_one_training_claims_no_interval(show: Callable[..., Seen]) -> None:
    one = {"mean": 0.9, "std": 0.0, "ci95": [0.9, 0.9]}
    score = scorecard(
        n=1, accuracy=one, baselines={"random": dict(one, mean=0.7, ci95=[0.7, 0.7])}, full=None, networks={}
    )
    seen = show([Entry(name="d", card=card(), scorecard=score)])
    assert "one training: no interval can be given" in text(seen, ".head")
    assert "not tested" in text(seen, ".gaps")
    assert "one student cannot tell" in text(seen, "h1")


def test_what_a_reader_must_know_stands_first(show: Callable[..., Seen], digits: Gallery) -> None:
    stopped = card(outcome={"kind": "not finite", "message": "loss was nan at step 412", "step": 411})
    seen = show(
        [
            Entry(
                name="d",
                card=stopped,
                scorecard=scorecard(optimistic=True, quick=True, data={"made_of_train": False}),
                gallery=digits,
            )
        ]
    )
    assert seen.page.locator("main > .warn").count() == 4
    said = " ".join(seen.page.locator("main > .warn").all_inner_texts())
    assert "Optimistic." in said
    assert "Quick. The protocol was shortened" in " ".join(said.split())
    assert "Not finished: not finite." in said
    assert "loss was nan at step 412" in said
    assert "Made of other data." in said


def hostile_entry(digits: Gallery) -> Entry:
    names = (*HOSTILE, *(f"{HOSTILE[k % 2]}{k}" for k in range(6)))
    bad = HOSTILE[0]
    held = card(
        method=HOSTILE[1],
        classes=list(names),
        source={"name": HOSTILE[1], "samples": 4000, "hash": bad, "notes": [bad]},
        outcome={"kind": bad, "message": HOSTILE[1], "step": 1},
        versions={bad: HOSTILE[1], "potstill": bad},
        config={bad: HOSTILE[1]},
        network=HOSTILE[2],
        command=f"potstill distill '{HOSTILE[1]}' </pre><script>alert(4)</script>",
        history=[{"step": 1, bad: 2.0}, {"step": 2, bad: 1.0}],
    )
    score = scorecard(
        protocol=bad,
        fingerprint=HOSTILE[1],
        network=HOSTILE[1],
        baselines={HOSTILE[0]: estimate(0.8, 0.01), "random": estimate(0.7, 0.01)},
        networks={HOSTILE[1]: estimate(0.8, 0.01)},
    )
    return Entry(name=HOSTILE[1], card=held, scorecard=score, gallery=dataclasses.replace(digits, classes=names))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("copies", [1, 2])
def test_hostile_names_are_only_text(show: Callable[..., Seen], digits: Gallery, width: int, copies: int) -> None:
    hostile = hostile_entry(digits)
    seen = show([hostile] * copies, width, title="</title><script>alert(5)</script>")
    seen.page.mouse.move(200, 400)
    assert (seen.dialogs, seen.complaints) == ([], [])
    assert seen.page.locator("script, [onerror], [onmouseover], iframe, object").count() == 0
    assert seen.page.evaluate("[...document.images].every(i => i.src.startsWith('data:image/png;base64,'))")
    assert all(url.startswith(("file:", "data:")) for url in seen.requests)
    assert "alert(1)" in text(seen, ".shelf")
    assert "\u202e" not in seen.page.content()
    assert overflow(seen) <= 0


def test_policy_refuses_scripts_even_if_markup_slipped_in(browser: Browser, entry: Entry, tmp_path: Path) -> None:
    html = render([entry], title="t", command=COMMAND).replace(
        "</main>", "<script>document.title='ran'</script></main>"
    )
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.title().endswith(" · t")
    page.close()


def several(digits: Gallery, patches: Gallery) -> list[Entry]:
    made = [
        Entry(
            name=f"{method}-ipc{ipc}",
            card=card(method=method, ipc=ipc, history=None),
            scorecard=scorecard(mean, random=random),
            gallery=digits,
        )
        for method, ipc, mean, random in [
            ("random", 10, 0.7924, 0.7924),
            ("dm", 10, 0.8731, 0.7924),
            ("dsa", 10, 0.8684, 0.7924),
            ("dm", 1, 0.6712, 0.4519),
        ]
    ]
    colour = card(
        classes=list(patches.classes),
        input={"kind": "image", "shape": [3, 32, 32], "units": "pixels in [0,1]"},
        source={"name": "photographs", "samples": 900, "hash": "77aa"},
        ipc=8,
    )
    return [*made, Entry(name="photographs", card=colour, gallery=patches)]


@pytest.mark.parametrize("width", WIDTHS)
def test_several_sets_make_a_leaderboard(
    show: Callable[..., Seen], digits: Gallery, patches: Gallery, width: int
) -> None:
    seen = show(several(digits, patches), width)
    assert (seen.complaints, seen.dialogs, overflow(seen)) == ([], [], 0)
    rows = seen.page.locator("#leaderboard tbody tr")
    assert rows.locator("th a").all_inner_texts() == ["dm", "dm", "dsa", "random"]
    means = [float(v) for v in rows.evaluate_all("rows => rows.map(r => r.querySelector('data').value)")]
    assert means == [0.6712, 0.8731, 0.8684, 0.7924]
    board = text(seen, "#leaderboard")
    assert "Not told apart from it: dsa." in board
    assert "Not measured: photographs." in board
    links = seen.page.locator("#leaderboard a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert all(seen.page.locator(link).count() == 1 for link in links)
    assert seen.page.locator("h1").count() == 1
    assert seen.page.locator("h2").count() == 7


def test_scores_of_different_protocols_are_kept_apart(show: Callable[..., Seen], digits: Gallery) -> None:
    entries = [
        Entry(name="a", card=card(), scorecard=scorecard(), gallery=digits),
        Entry(
            name="b", card=card(), scorecard=scorecard(protocol="dc", fingerprint="other", optimistic=True, quick=True)
        ),
    ]
    seen = show(entries)
    assert seen.page.locator("#leaderboard table").count() == 2
    assert "Compare only within one table" in text(seen, "#leaderboard")
    assert "dm optimistic quick" in text(seen, "#leaderboard")


def test_colour_is_clipped_counted_and_kept_in_order(show: Callable[..., Seen], patches: Gallery) -> None:
    seen = show([Entry(name="p", card=card(classes=["temple", "dahlia"]), gallery=patches)])
    assert "8 of 50 shown" in text(seen, ".shelf")
    assert "of the values lie outside the range of a pixel" in text(seen, section("The pictures"))
    script = """i => { const c = document.createElement('canvas'); c.width = c.height = 32;
        const x = c.getContext('2d'); x.drawImage(i, 0, 0); return [...x.getImageData(0, 0, 32, 32).data] }"""
    drawn = np.array(seen.page.locator("img").first.evaluate(script)).reshape(32, 32, 4)[:, :, :3]
    wanted = np.rint(np.clip(patches.inputs[0], 0, 1) * 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(drawn, wanted)
    assert "not measured yet." in text(seen, "h1")


def test_table_rows_are_shown_as_a_table(show: Callable[..., Seen]) -> None:
    rows = np.linspace(-2, 2, 24, dtype=np.float32).reshape(4, 6)
    held = Gallery(
        inputs=rows,
        labels=np.array([0, 0, 1, 1]),
        classes=("no", "yes"),
        columns=("age", "bmi", "bp", "s1", "s2", "<b>s3</b>"),
    )
    described = card(classes=["no", "yes"], input={"kind": "table", "shape": [6], "units": "as given"}, history=None)
    seen = show([Entry(name="t", card=described, scorecard=scorecard(per_class=[0.7, 0.9]), gallery=held)], 360)
    assert seen.page.locator("h2").first.inner_text() == "The rows"
    assert seen.page.locator(f"{section('The rows')} > .scroll thead th").all_inner_texts() == [
        "class",
        "age",
        "bmi",
        "bp",
        "s1",
        "s2",
        "<b>s3</b>",
    ]
    assert seen.page.locator(f"{section('The rows')} > .scroll tbody td").all_inner_texts()[:2] == ["-2", "-1.826"]
    assert "4 rows that stand for the 4,000" in text(seen, "main")
    assert overflow(seen) <= 0


@pytest.mark.parametrize("held", [{}, {"classes": 3, "source": "x", "bytes": None, "outcome": None, "history": 7}])
def test_little_is_enough_for_a_page(show: Callable[..., Seen], held: Mapping[str, Any]) -> None:
    seen = show([Entry(name="bare", card=held, scorecard={"accuracy": {"mean": 0.5}})])
    assert "50.0%" in text(seen, ".head")
    assert "beside no real samples" in text(seen, "h1")


def test_many_classes_stay_small(digits: Gallery) -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"class {c}" for c in range(1000))
    held = Gallery(inputs=rng.random((1000, 3, 64, 64), dtype=np.float32), labels=np.arange(1000), classes=names)
    html = render([Entry(name="m", card=card(), gallery=held)], title="t", command="c")
    assert html.count("<img") == 100 + 2, "and two rows at the top"
    assert "900 more classes are in the file." in html


def test_large_pictures_are_shown_smaller(show: Callable[..., Seen]) -> None:
    held = Gallery(
        inputs=np.zeros((1, 3, 200, 400), dtype=np.float32), labels=np.zeros(1, dtype=np.int64), classes=("a",)
    )
    seen = show([Entry(name="m", card={}, gallery=held)])
    script = "i => [i.naturalWidth, i.naturalHeight]"
    assert seen.page.locator(".shelf img").first.evaluate(script) == [128, 64]
    assert "Shown smaller than they are (200×400)." in text(seen)


def luminance(colour: str) -> float:
    parts = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_palettes(show: Callable[..., Seen], digits: Gallery, scheme: str) -> None:
    """WCAG 2 level AA: at least 4.5 between every text and what is behind it."""
    entry = Entry(name="d", card=card(), scorecard=scorecard(optimistic=True, n=5), gallery=digits)
    seen = show([entry], color_scheme=scheme)
    script = """() => { const out = {}; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) { const node = walk.currentNode.parentElement, none = 'rgba(0, 0, 0, 0)';
          if (!walk.currentNode.textContent.trim()) continue;
          let back = node, paint = none;
          while (back && paint === none) { paint = getComputedStyle(back).backgroundColor; back = back.parentElement }
          const style = getComputedStyle(node); const ink = node.ownerSVGElement ? style.fill : style.color;
          out[ink + '|' + paint] = node.textContent.slice(0, 40) } return out }"""
    found = seen.page.evaluate(script)
    assert len(found) > 6
    for pair, sample in found.items():
        high, low = sorted((luminance(colour) for colour in pair.split("|")), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{sample!r}: {pair}"
    background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.1) == (scheme == "dark")


def test_page_is_accessible_in_structure(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry])
    page = seen.page
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("svg:not([aria-hidden]):not([aria-label])").count() == 0
    assert page.locator("table").count() == page.locator("table > caption").count() > 0
    assert page.locator("th").count() == page.locator("th[scope]").count() > 0
    levels = [int(level) for level in page.locator("h1,h2,h3,h4").evaluate_all("h => h.map(e => e.tagName[1])")]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_page_prints_in_ink_on_paper(show: Callable[..., Seen], entry: Entry) -> None:
    seen = show([entry], color_scheme="dark")
    seen.page.emulate_media(media="print")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_write_is_whole_or_nothing(tmp_path: Path, entry: Entry) -> None:
    path = tmp_path / "new" / "page.html"
    write("first", path)
    write("second é", path)
    assert path.read_text(encoding="utf-8") == "second é"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file" / "page.html", tmp_path / "new", Path("/")):
        with pytest.raises(PotstillError, match=r"out|add a file name") as caught:
            write("x", wrong)
        assert "\n" not in str(caught.value)
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_a_page_of_nothing_is_refused() -> None:
    with pytest.raises(PotstillError, match="at least one"):
        render([], title="t", command="c")


@pytest.mark.parametrize("width", WIDTHS)
def test_axis_numbers_stand_under_their_lines(show: Callable[..., Seen], entry: Entry, width: int) -> None:
    seen = show([entry], width)
    script = """plot => { const middle = e => { const b = e.getBoundingClientRect(); return b.left + b.width / 2 };
        const row = plot.querySelector('.row'); return [[...row.querySelectorAll('.grid, .zero')].map(middle),
            [...plot.querySelectorAll('.axis text')].map(middle)] }"""
    lines, numbers = seen.page.locator(".plot").first.evaluate(script)
    assert len(lines) == len(numbers) > 2
    np.testing.assert_allclose(numbers, lines, atol=1.5)


def test_a_measured_difference_is_shown_as_measured(show: Callable[..., Seen]) -> None:
    """A paired difference is narrower than what the two intervals allow; the scorecard's own one is used."""
    random = estimate(0.8702, 0.0139) | {"difference": {"mean": 0.0029, "ci95": [0.0011, 0.0047]}}
    seen = show([Entry(name="d", card=card(), scorecard=scorecard(baselines={"random": random}))])
    assert "+0.3 better +0.1 to +0.5" in text(seen, ".gaps")
    assert "train 0.3 points better than random real pictures" in text(seen, "h1")


def test_random_is_not_asked_to_beat_itself(show: Callable[..., Seen]) -> None:
    seen = show([Entry(name="r", card=card(method="random"), scorecard=scorecard(baselines={}))])
    assert "every distilled set of these bytes has to be better" in text(seen, ".lede")
