"""Where sets lie among real samples: the directions, and their drawing in a real browser."""

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser
from question_samples import comparison

from potstill.comparison.page_data import ComparisonFolder
from potstill.comparison.pca_map import PcaProjection
from potstill.core import Splits
from potstill.data.in_memory import TensorSource
from potstill.reports import Gallery


@pytest.fixture
def real(digits: Gallery) -> Splits:
    return Splits(train=TensorSource.make(digits.inputs, digits.labels, digits.classes, name="digits"), test=None)


def test_directions_are_those_of_the_real_samples(real: Splits, digits: Gallery) -> None:
    found = PcaProjection.fit(real.train)
    assert found is not None
    assert found.real.samples == 100
    flat = digits.inputs.reshape(100, -1).astype(np.float64)
    held = np.linalg.eigvalsh(np.cov(flat.T))[::-1]
    assert found.real.variance_shares == pytest.approx((held[0] / held.sum(), held[1] / held.sum()), rel=1e-6)
    own = found.project(digits.inputs)
    assert own is not None
    assert own.var(0, ddof=1) == pytest.approx(held[:2], rel=1e-4)
    assert np.abs(own.mean(0)).max() < 1e-4
    assert own == pytest.approx(found.real.positions, abs=1e-4), "real samples lie where they are drawn"
    assert found.project(digits.inputs[:, :, :14]) is None
    again = PcaProjection.fit(real.train)
    assert again is not None
    assert (again.real.positions == found.real.positions).all()


def test_a_column_in_other_units_does_not_rule_a_table() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4)) @ np.diag([1.0, 1.0, 1.0, 1e6])
    labels = np.arange(60) % 2
    found = PcaProjection.fit(TensorSource.make(rows.astype(np.float32), labels, ("a", "b"), name="rows"))
    assert found is not None
    assert sum(found.real.variance_shares) < 0.8
    constant = np.tile(rows[:1], (60, 1)).astype(np.float32)
    assert PcaProjection.fit(TensorSource.make(constant, labels, ("a", "b"), name="same")) is None


def test_a_large_picture_is_made_small_first() -> None:
    pictures = torch.rand(6, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    found = PcaProjection.fit(TensorSource.make(pictures, torch.arange(6) % 2, ("a", "b"), name="large"))
    assert found is not None
    assert found.mean.numel() == 3 * 32 * 32


def test_every_set_is_drawn_among_the_real(
    browser: Browser, digits: Gallery, real: Splits, tmp_path: Path
) -> None:  # fmt: skip
    folder = comparison(tmp_path / "board", digits, source=real.train.content_hash)
    (tmp_path / "page.html").write_text(ComparisonFolder(folder, real).page("c"), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator(".maps svg[role=img]").count() == 8, "four methods at two sizes"
    said = page.locator(".maps svg[role=img]").first.get_attribute("aria-label") or ""
    assert said.startswith("10 inputs of dm at 1 per class among 100 real samples: spread 0.")
    marks = page.get_by_role("img", name="10 inputs of random at 1 per class").locator("text")
    assert marks.all_text_contents() == [str(c) for c in range(10)]
    place = f"M{marks.nth(3).get_attribute('x')} {marks.nth(3).get_attribute('y')}h0"
    assert place in (page.locator("#map-real path[data-class='3']").get_attribute("d") or "")
    page.locator("#looking [name=class]").select_option("3")
    assert page.locator("#map-real path.out").count() == 9
    assert page.locator(".maps figure").first.locator("text.out").count() == 9
    plain = ComparisonFolder(folder).page("c")
    assert "Among real samples" not in plain
    page.close()
