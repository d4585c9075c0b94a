"""Pages of scores of which less is better."""

import dataclasses
import html
import re
from typing import Any

from potstill.reports import Entry, render
from potstill.reports.numbers import Estimate, significant, to_estimate, verdict


def words(page: str) -> str:
    """What a page says."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2])).split())


def in_price(method: str, mean: float, gap: tuple[float, float, float]) -> Entry:
    """A set that was scored by an error in a price: less is better, and so is a difference below zero."""
    said = {"metric": "rmse", "direction": "lower", "unit": "price"}

    def score(mean: float) -> dict[str, Any]:
        held = {"mean": mean, "std": 2.0, "ci95": [mean - 3.0, mean + 3.0], "n": 5}
        return {**held, "score": {**said, **held}}

    random = {"mean": mean - gap[0], "std": 1.0, "ci95": [mean - gap[0] - 2, mean - gap[0] + 2], "n": 5}
    gaps = {"mean": gap[0], "ci95": [gap[1], gap[2]], "p": 0.01}
    card = {
        "protocol": "potstill", "protocol_version": 1, "fingerprint": "0" * 16, "network": "ridge", "n": 5,
        "score": score(mean)["score"], "full": score(90.0) | {"std": None, "ci95": None, "n": 1},
        "baselines": {"random": random | {"score": {**said, **random}, "difference": gaps}},
        "difference": {"random": gaps},
        "networks": {"ridge": score(mean)}, "scores": {"hlr": 90.0 - mean, "ior": gap[0], "lrs": None, "ars": None},
    }  # fmt: skip
    return Entry(name=method, card={"method": method, "source": {"name": "flats"}}, scorecard=card)


def test_where_less_is_better_the_page_says_so_and_ranks_so() -> None:
    good, bad = in_price("dm", 120.0, (-35.0, -40.0, -30.0)), in_price("k-center", 170.0, (15.0, 5.0, 25.0))
    assert (good.score, good.metric.direction) == (to_estimate(good.scorecard["score"]), "lower")  # type: ignore[index]
    alone = words(render([good], title="Flats", command="potstill report x"))
    assert "Rmse on real test data 120 Price, less is better." in alone
    assert "trains to rmse lower by 35 (price) than random real pictures" in alone
    assert "−35 better −40 to −30" in alone
    assert "−35 price, 95% interval −40 to −30; less is better" in alone
    assert "Less is better: left of zero." in alone
    assert "points" not in alone
    assert "%" not in alone.replace("95% interval", "")
    assert "+15 worse" in words(render([bad], title="Flats", command="potstill report x"))
    both = words(render([bad, good], title="Flats", command="potstill report x"))
    assert "Lowest mean: dm, 120." in both
    assert "That is −35 price against random real samples of the same bytes." in both
    assert both.index("dm") < both.index("k-center") or both.index("Lowest mean") > 0


def test_sizes_without_classes_are_of_what_is_counted() -> None:
    board = [in_price(m, v, (-35.0, -40.0, -30.0)) for m, v in (("dm", 120.0), ("dc", 121.0))]
    of_windows = {"ipc": 10, "task": {"name": "forecast"}, "input": {"kind": "series"}}
    shown = [dataclasses.replace(e, card={**e.card, **of_windows}) for e in board]
    said = words(render(shown, title="Flow", command="potstill report x"))
    assert "10 windows" in said
    assert "per class" not in said


def test_an_error_that_is_surely_lower_is_better() -> None:
    metric = in_price("dm", 1.0, (0.0, 0.0, 0.0)).metric
    below, above = Estimate(mean=-1.0, low=-2.0, high=-0.5), Estimate(mean=1.0, low=0.5, high=2.0)
    assert (significant(below, metric), significant(above, metric)) == (1, -1)
    assert (significant(below), significant(above)) == (-1, 1), "of accuracies it is the other way"
    assert verdict(below, "random", metric) == "better than random"
