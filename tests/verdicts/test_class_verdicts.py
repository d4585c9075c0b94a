"""Unequal classes: the rate of the largest one, small classes and the spread, in verdicts and sentences."""

from typing import Any

import pytest

from potstill.verdicts import class_spread, class_warnings, judge_scorecard, largest_class_line


def _scorecard(mean: float, rate: float = 0.769, **changes: Any) -> dict[str, Any]:
    gap = {"mean": 0.1, "ci95": [0.05, 0.15]}
    return {
        "n": 5, "score": {"metric": "accuracy", "mean": mean, "ci95": [mean - 0.05, mean + 0.05]},
        "baselines": {"random": {"mean": mean - 0.1, "bytes": 900, "codec": "uint4", "difference": gap}},
        "set": {"method": "dm", "items": 12, "source": "photos", "kind": "image"}, "bytes": {"total": 994},
        "naive": {"largest class": {"score": rate, "class": "no"}},
        "per_class": [{"name": "no", "mean": 0.95, "n": 30}, {"name": "yes", "mean": 0.5, "n": 8},
                      {"name": "maybe", "mean": 0.0, "n": 1}], **changes,
    }  # fmt: skip


@pytest.mark.parametrize(("mean", "word"), [(0.7, "beats"), (0.769, "is as good as")])
def test_a_set_that_is_not_above_the_largest_class_says_so(mean: float, word: str) -> None:
    found = judge_scorecard(_scorecard(mean))
    assert (found.kind, found.against) == ("naive", "largest class")
    assert found.text == (
        f"Always answering the largest class (no) {word} a model trained on 12 distilled pictures of photos in 994 "
        "bytes"
    )
    assert found.reason == f"Accuracy {100 * mean:.1f}% against 76.9%."


def test_the_largest_class_within_the_interval_is_named_beside_the_verdict() -> None:
    near, far = judge_scorecard(_scorecard(0.8)), judge_scorecard(_scorecard(0.9))
    assert near.kind == far.kind == "better"
    assert near.reason.endswith(
        "Always answering the largest class (no) is right 76.9% of the time, which the set's interval includes."
    )
    assert "largest" not in far.reason
    assert "largest" not in judge_scorecard(_scorecard(0.35, 0.34)).reason  # equal classes: it says nothing


def test_the_rate_is_said_where_classes_are_unequal() -> None:
    assert largest_class_line(_scorecard(0.9)) == "always the largest class (no): 76.9%"
    assert largest_class_line(_scorecard(0.9, 0.34)) == ""
    assert largest_class_line({}) == ""


def test_small_and_unequal_classes_are_warned_of() -> None:
    few, unequal = class_warnings(_scorecard(0.9))
    assert few == (
        "2 classes have fewer than 10 test samples (maybe 1, yes 8): their accuracy is little more than a guess"
    )
    assert unequal == "classes are unequal (no 30 test samples, maybe 1): the accuracy is mostly that of no"
    assert (
        class_warnings({"per_class": [{"name": "a", "mean": 0.5, "n": 30}, {"name": "b", "mean": 0.5, "n": 20}]}) == []
    )
    assert class_warnings({"per_class": [{"name": "a", "mean": 0.5}, {"name": "b", "mean": 0.5}]}) == []  # an older one


def test_a_wide_spread_is_shown_class_by_class() -> None:
    assert class_spread(_scorecard(0.9)) == "maybe 0.0%, yes 50.0%, no 95.0%"
    rows = [{"name": str(c), "mean": 0.5 + c / 25, "n": 36} for c in range(10)]
    assert class_spread({"per_class": rows}) == "lowest 0 50.0%, 1 54.0%, 2 58.0%, highest 9 86.0%"
    assert class_spread({"per_class": rows[:4]}) == ""


def test_a_baseline_that_was_left_out_is_named_in_the_sentence() -> None:
    out = {"random": "float16 holds no more", "random-soft": "a quick look"}
    assert judge_scorecard(_scorecard(0.9, left_out=out)).text.endswith("; random and random-soft were left out")
    quick = judge_scorecard(_scorecard(0.9, left_out=out, quick=True))
    assert quick.text.endswith("same bytes; random was left out")
    del out["random"]
    assert "left out" not in judge_scorecard(_scorecard(0.9, left_out=out, quick=True)).text


@pytest.mark.parametrize(
    ("mean", "said"),
    [(-0.073, "they are 7.3 points lower"), (0.01, "they are 1.0 point higher"), (0.0, "they are level")],
)
def test_not_told_apart_is_not_said_as_equal(mean: float, said: str) -> None:
    held = _scorecard(0.9)
    held["baselines"]["random"]["difference"] = {"mean": mean, "ci95": [mean - 0.08, mean + 0.08]}
    found = judge_scorecard(held)
    assert found.kind == "not told apart"
    assert found.advice == (
        f"In this run {said}: more students (`seeds`) or test samples would tell. Keep real pictures until a gain is "
        "shown."
    )
