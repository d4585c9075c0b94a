"""Numbers as people read them, markup that cannot be broken, and the tables of the documentation."""

import html
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import estimate as written

from potstill._util.html import Html, escape, tag
from potstill.reports.numbers import (
    Estimate,
    format_difference,
    format_duration,
    format_interval,
    format_percent,
    format_size,
    significant,
    to_estimate,
    to_number,
    verdict,
)


@given(st.text())
def test_any_text_stays_text(value: str) -> None:
    made = str(tag("b", value, title=value))
    inside = re.fullmatch(r'<b title="([^"<>]*)">([^<>]*)</b>', made, re.DOTALL)
    assert inside is not None
    kept = html.unescape(inside[2])
    assert len(kept) == len(value)
    assert all(a in (b, "\ufffd") for a, b in zip(kept, value, strict=True))


def test_markup_is_kept_and_undecodable_names_can_be_written() -> None:
    assert escape(Html("<b>")) == "<b>"
    assert tag("p", tag("b", "x"), None) == "<p><b>x</b></p>"
    assert escape("caf\udce9.png").encode("utf-8") == "caf\ufffd.png".encode()
    assert tag("rect", stroke_width=2, class_="a", id=None) == '<rect stroke-width="2" class="a"/>'


def test_how_numbers_read() -> None:
    assert [format_percent(x) for x in (0.9124, 0.0, 1.0, -0.0001, None)] == ["91.2%", "0.0%", "100.0%", "0.0%", "—"]
    assert [format_difference(x) for x in (0.091, -0.091, 0.0, 0.0003, -0.0003, None)] == [
        "+9.1",
        "−9.1",
        "0.0",
        "+0.03",
        "−0.03",
        "—",
    ]
    assert [format_size(x) for x in (0, 800, 313600, 3_136_000, 2.5e9)] == [
        "0 bytes",
        "800 bytes",
        "313.6 kB",
        "3.1 MB",
        "2.5 GB",
    ]
    assert [format_duration(x) for x in (0.0, 0.03, 4.2, 200, 7500)] == [
        "0.0 s", "under 0.1 s", "4.2 s", "3 min 20 s", "2 h 5 min",
    ]  # fmt: skip
    assert [to_number(x) for x in (1, 2.5, True, "3", None, math.nan, math.inf, 10**400)] == [1.0, 2.5, *[None] * 6]
    assert format_interval(Estimate(mean=0.9, low=0.89, high=0.912)) == "89.0 to 91.2%"


def test_difference_is_the_published_combination() -> None:
    """MOVER with unequal, skewed intervals, against its two formulas written out."""
    a, b = Estimate(mean=0.9, low=0.86, high=0.91), Estimate(mean=0.8, low=0.77, high=0.85)
    gap = a - b
    assert gap.mean == pytest.approx(0.1)
    assert gap.low == pytest.approx(0.1 - math.sqrt(0.04**2 + 0.05**2))
    assert gap.high == pytest.approx(0.1 + math.sqrt(0.01**2 + 0.03**2))
    assert (a - Estimate(mean=0.8)).low is None


def test_difference_covers_as_often_as_it_says() -> None:
    """2,000 pairs of five normal runs with a known difference: at least 95% of the intervals hold it."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        runs = [rng.normal(m, s, 5) for m, s in ((0.8, 0.01), (0.7, 0.02))]
        made = [to_estimate(written(r.mean(), r.std(ddof=1))) for r in runs]
        assert made[0] is not None
        assert made[1] is not None
        gap = made[0] - made[1]
        assert gap.low is not None
        assert gap.high is not None
        hits += gap.low <= 0.1 <= gap.high
    assert hits / 2000 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.02, "better than random"),
        (-0.001, 0.02, "not told apart from random"),
        (0.0, 0.02, "not told apart from random"),
        (-0.02, -0.001, "worse than random"),
        (None, None, "not tested against random: there is no interval"),
    ],
)
def test_verdicts_follow_the_interval(low: float | None, high: float | None, said: str) -> None:
    gap = Estimate(mean=0.01, low=low, high=high)
    assert verdict(gap, "random") == said
    assert (significant(gap) > 0) == (said == "better than random")
