"""Both pages under axe-core, in light, dark and on a phone, everything opened: no violation of its rules."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser
from question_samples import comparison
from report_samples import card, scorecard

from potstill.comparison.page_data import ComparisonFolder
from potstill.reports import Entry, Gallery, Snapshots, render

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
LOOKS: Mapping[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}},
}

RULES = {"dark": "{runOnly: ['color-contrast']}"}
"""Rules that can differ from the light page; the rest see the same elements."""


def violations(browser: Browser, html: str, path: Path, look: str) -> list[str]:
    """Each as its rule and the first of its places."""
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(offline=True, bypass_csp=True, **LOOKS[look])  # the policy would refuse axe itself
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        page.evaluate(AXE)
        found: dict[str, Any] = page.evaluate(f"axe.run({RULES.get(look, '')})")
    finally:
        context.close()
    assert len(found["passes"]) > (0 if look in RULES else 20), "axe saw no page"
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


def films(digits: Gallery) -> list[Snapshots]:
    """Of pictures, rows and windows."""
    draw = np.random.default_rng(0)
    pictures = tuple((digits.inputs[:20] * share * 255).astype(np.uint8) for share in (0.5, 1.0))
    labels = np.repeat(np.arange(2, dtype=np.int64), 10)
    rows = tuple(draw.normal(size=(20, 4)).astype(np.float32) for _ in range(2))
    windows = tuple(draw.normal(size=(20, 2, 9)).astype(np.float32) for _ in range(2))
    return [
        Snapshots(steps=(0, 7), stages=stages, labels=labels, classes=("no <b>", "yes"), columns=names)
        for stages, names in ((pictures, ()), (rows, ("a", "b", "c", "d")), (windows, ("hot", "cold")))
    ]


@pytest.mark.parametrize("look", [pytest.param(n, marks=[pytest.mark.slow] * (n == "phone")) for n in LOOKS])
def test_the_page_of_sets_breaks_no_rule(browser: Browser, digits: Gallery, tmp_path: Path, look: str) -> None:
    flat = digits.inputs.reshape(len(digits.inputs), -1)[:, 300:306]
    table = Gallery(inputs=np.ascontiguousarray(flat), labels=digits.labels, classes=digits.classes)
    entries = [
        Entry(name=name, card=card(), scorecard=scorecard(), gallery=gallery, snapshots=film)
        for name, gallery, film in zip(("digits", "rows", "series"), (digits, table, table), films(digits), strict=True)
    ]
    assert (
        violations(browser, render(entries, title="Sets", command="potstill report"), tmp_path / "page.html", look)
        == []
    )


@pytest.mark.parametrize("look", [pytest.param(n, marks=[pytest.mark.slow] * (n != "light")) for n in LOOKS])
def test_the_page_of_a_comparison_breaks_no_rule(browser: Browser, digits: Gallery, tmp_path: Path, look: str) -> None:
    html = ComparisonFolder(comparison(tmp_path / "board", digits)).page("c")
    assert violations(browser, html, tmp_path / "page.html", look) == []


def test_axe_sees_what_is_wrong(browser: Browser, digits: Gallery, tmp_path: Path) -> None:
    html = (
        ComparisonFolder(comparison(tmp_path / "board", digits)).page("c").replace("</main>", "<img src=x></main>", 1)
    )
    assert any(one.startswith("image-alt") for one in violations(browser, html, tmp_path / "page.html", "light"))
