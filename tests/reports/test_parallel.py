"""Rows of a table as lines over parallel axes."""

import re

import numpy as np
from sklearn.datasets import load_wine

from potstill.reports import Gallery
from potstill.reports.drawings import parallel_axes
from potstill.reports.gallery import gallery


def points(drawn: str) -> list[list[tuple[float, float]]]:
    body = drawn.split("</ul>")[-1]
    return [
        [(float(x), float(y)) for x, y in (at.split(",") for at in line.split())]
        for line in re.findall(r'<polyline points="([^"]*)"', body)
    ]


def test_each_column_runs_from_its_least_to_its_greatest_value() -> None:
    wine = load_wine()
    drawn = parallel_axes(wine.data[::10], wine.feature_names, wine.target[::10], tuple(wine.target_names))
    assert drawn is not None
    lines = points(drawn)
    assert len(lines) == 18
    assert {len(line) for line in lines} == {12}
    for j in range(12):
        heights = [line[j][1] for line in lines]
        assert min(heights) == 34.0
        assert max(heights) == 208.0
        assert heights.index(min(heights)) == int(wine.data[::10, j].argmax())
    assert "1 more columns are not drawn" in drawn


def test_odd_tables() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert parallel_axes(np.zeros((0, 4)), (), none, ()) is None
    assert parallel_axes(np.zeros((3, 1)), ("a",), np.zeros(3, dtype=np.int64), ()) is None
    level = parallel_axes(np.array([[1.0, np.nan], [1.0, 2.0]]), ("<i>", "b"), np.zeros(2, dtype=np.int64), ())
    assert level is not None
    assert "<i>" not in level
    assert [line[0][1] for line in points(level)] == [121.0, 121.0], "a column of one value lies in the middle"
    many = parallel_axes(
        np.random.default_rng(0).normal(size=(1000, 3)), "abc", np.arange(1000) % 9, tuple("abcdefghi")
    )
    assert many is not None
    assert len(points(many)) == 200
    assert "One row of 5 is drawn" in many
    assert "repeat after eight classes" in many


def test_the_gallery_of_a_table_has_it() -> None:
    wine = load_wine()
    held = Gallery(inputs=wine.data[::30], labels=wine.target[::30], classes=tuple(wine.target_names),
                   columns=tuple(wine.feature_names))  # fmt: skip
    shown = gallery(held)
    assert len(points(shown)) == 6
    assert shown.index("<svg") > shown.index("Distilled rows by class"), "the table comes first"
    twice = gallery(held, "dm") + gallery(held, "random")
    named = re.findall(r'aria-label="([^"]*)"', twice)
    assert len(named) == len(set(named)) == 6, "who hears the names of a page's parts must tell them apart"
