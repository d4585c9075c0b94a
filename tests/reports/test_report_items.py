"""Pages about sets with names and targets that are no classes: what is drawn, and that nothing in it is markup."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_samples import HOSTILE

import potstill
from potstill.core import Source, Splits
from potstill.testing.toy import mixed_source, pairs_source, windows_source


def page(source: Source, tmp_path: Path) -> str:
    made = potstill.distill(Splits(train=source, test=None), "random", items=6, progress=None)
    path = made.save(tmp_path / "small.safetensors")
    return potstill.report(path, tmp_path / "page.html").read_text(encoding="utf-8")


def test_pictures_stand_with_their_texts_and_no_text_is_markup(tmp_path: Path) -> None:
    source: Any = dataclasses.replace(pairs_source(), texts=(" ".join(HOSTILE),) * 40)  # type: ignore[type-var]
    text = page(source, tmp_path)
    assert "The pairs" in text
    assert text.count("<figcaption><bdi>") == 6
    assert not any(hostile in text for hostile in HOSTILE)
    assert "&lt;script&gt;alert(1)" in text


def test_rows_stand_with_their_target(tmp_path: Path) -> None:
    text = page(mixed_source(), tmp_path)
    for name in ("a", "b", "c", "d", "e", "y (target)"):
        assert f'<th scope="col"><bdi>{name}</bdi></th>' in text
    assert "6 of 6 rows" in text
    assert "Per class" not in text


def test_windows_are_lines_with_words_for_who_does_not_see_them(tmp_path: Path) -> None:
    text = page(windows_source(), tmp_path)
    assert text.count('class="ahead v') == 6 * 2 + 4 * 2, "all windows, and four at the top"
    assert 'aria-label="Window 1, 8 values: s from ' in text


@pytest.mark.parametrize("make", [pairs_source, mixed_source, windows_source, lambda: mixed_source(classes=True)])
def test_a_page_runs_nothing(make: Callable[[], Source], tmp_path: Path) -> None:
    text = page(make(), tmp_path)
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
