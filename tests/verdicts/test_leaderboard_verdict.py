"""The verdict on a comparison: distilled sets beside real samples at each size, and all sizes in one sentence."""

from typing import Any

import pytest

from potstill.verdicts import judge_leaderboard

REAL = {"random", "k-means"}


def row(method: str, mean: float, amount: int = 10, size: str = "ipc", **score: Any) -> dict[str, Any]:
    held = {"metric": "accuracy", "direction": "higher", "unit": "fraction", "mean": mean, **score}
    card = {"score": held, "set": {"selection": method in REAL}}
    return {"id": f"{method}-{amount}", "method": method, "unit": size, "amount": amount, "protocol": "potstill",
            "score": held, "scorecard": card}  # fmt: skip


def pair(a: str, b: str, mean: float, p: float | None, amount: int = 10) -> dict[str, Any]:
    ends = None if p is None else [mean - 0.02, mean + 0.02]
    return {"a": f"{a}-{amount}", "b": f"{b}-{amount}", "mean": mean, "ci95": ends, "p": p, "p_holm": p}


def board(rows: list[dict[str, Any]], tests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"source": "petals", "rows": rows, "tests": tests}


def test_a_distilled_set_wins_against_the_best_real_samples() -> None:
    rows = [row("dm", 0.9), row("k-means", 0.8), row("random", 0.7)]
    found = judge_leaderboard(board(rows, [pair("dm", "k-means", 0.1, 0.001), pair("dm", "random", 0.2, 0.001)]))
    assert found.overall.kind == "better"
    assert found.overall.text == "petals: at 10 per class dm trains 10.0 points better than real samples (k-means)"
    assert "as many items" in found.overall.advice


def test_one_open_row_of_real_samples_is_enough_to_be_not_told_apart() -> None:
    rows = [row("dm", 0.9), row("k-means", 0.8), row("random", 0.7)]
    found = judge_leaderboard(board(rows, [pair("dm", "k-means", 0.1, 0.001), pair("dm", "random", 0.2, 0.3)]))
    assert found.overall.text == "petals: at 10 per class dm is not told apart from random real samples"
    assert (found.sizes[0].real, found.overall.against) == ("random", "random")


def test_the_order_of_a_pair_does_not_matter() -> None:
    rows = [row("dm", 0.7), row("k-means", 0.8)]
    for test in (pair("dm", "k-means", -0.1, 0.001), pair("k-means", "dm", 0.1, 0.001)):
        found = judge_leaderboard(board(rows, [test]))
        assert found.overall.text == "petals: at 10 per class keep real samples (k-means): distilling loses 10.0 points"
        assert found.sizes[0].difference is not None
        assert found.sizes[0].difference.low == pytest.approx(-0.12)


def test_the_corrected_p_decides_and_not_the_interval() -> None:
    rows = [row("dm", 0.9), row("random", 0.8)]
    found = judge_leaderboard(board(rows, [pair("dm", "random", 0.1, 0.2)]))
    assert found.overall.kind == "not told apart"
    assert "dm is not told apart from random real samples" in found.overall.text
    assert "p = 0.2 after correction" in found.overall.reason


def test_several_sizes_are_one_sentence() -> None:
    rows = [row(m, v, n) for n in (1, 5, 50) for m, v in (("dm", 0.9), ("random", 0.8))]
    tests = [pair("dm", "random", 0.1, 0.001, 1), pair("dm", "random", 0.1, 0.001, 5),
             pair("dm", "random", 0.1, 0.6, 50)]  # fmt: skip
    found = judge_leaderboard(board(rows, tests))
    assert found.overall.kind == "mixed"
    assert found.overall.text == (
        "petals: distilling wins at 1 and 5 per class (dm); distilled sets are not told apart from real samples at 50 "
        "per class"
    )
    assert [size.kind for size in found.sizes] == ["better", "better", "not told apart"]
    assert [size["kind"] for size in found.to_dict()["sizes"]] == ["better", "better", "not told apart"]


def test_one_student_and_missing_sides_are_said() -> None:
    rows = [row("dm", 0.9), row("random", 0.8)]
    assert judge_leaderboard(board(rows, [pair("dm", "random", 0.1, None)])).overall.kind == "untested"
    assert judge_leaderboard(board(rows[:1], [])).overall.kind == "no baselines"
    assert judge_leaderboard(board(rows[1:], [])).overall.kind == "reference"
    nothing = judge_leaderboard(board([{"id": "x", "method": "mtt", "error": "experts are needed"}], []))
    assert (nothing.overall.kind, list(nothing.sizes)) == ("unmeasured", [])


def test_without_classes_scores_keep_their_unit_and_direction() -> None:
    how = {"metric": "rmse", "direction": "lower", "unit": "price"}
    rows = [row("dm", 60.0, size="bytes", **how), row("random", 90.0, size="bytes", **how)]
    found = judge_leaderboard(board(rows, [pair("dm", "random", -30.0, 0.001)]))
    assert found.overall.text == ("petals: at 10 bytes dm trains to rmse lower by 30 (price) than random real samples")
    assert "as many items" not in found.overall.advice, "sizes in bytes are fair"


def test_a_board_that_does_not_say_what_is_real_may_be_told() -> None:
    rows = [row("dm", 0.9), row("k-means", 0.8)]
    for one in rows:
        one["scorecard"]["set"] = {}
    assert judge_leaderboard(board(rows, [])).overall.kind == "no baselines"
    told = judge_leaderboard(board(rows, [pair("dm", "k-means", 0.1, 0.001)]), {"k-means-10": True})
    assert told.overall.kind == "better"


def beside(
    mean: float, gaps: dict[str, float], p: float | None, amount: int = 900, size: str = "bytes"
) -> dict[str, Any]:
    """A model, and by the row's id the difference of each set from it."""
    held = {"metric": "accuracy", "direction": "higher", "unit": "fraction", "mean": mean}
    differences = [
        {"row": name, "mean": gap, "ci95": None if p is None else [gap - 0.02, gap + 0.02], "p": p, "p_holm": p}
        for name, gap in gaps.items()
    ]
    return {"unit": size, "amount": amount, "protocol": "potstill", "score": held, "differences": differences}


def two_rows(amount: int, size: str = "bytes") -> list[dict[str, Any]]:
    return [row("dm", 0.9, amount, size), row("random", 0.8, amount, size)]


def judged(models: list[dict[str, Any]], *amounts: int, size: str = "bytes") -> Any:
    rows = [one for amount in amounts for one in two_rows(amount, size)]
    tests = [pair("dm", "random", 0.1, 0.001, amount) for amount in amounts]
    return judge_leaderboard({**board(rows, tests), "models": models})


def test_a_model_that_is_better_than_every_set_is_what_to_ship() -> None:
    model = beside(0.97, {"dm-900": -0.07, "random-900": -0.17}, 0.001)
    found = judged([model], 900)
    assert found.model == (
        "Shipping a quantised network of the same bytes is better at 900 bytes where nothing has to be trained (97.0% "
        "accuracy beside 90.0% of the best set, dm); only a set trains other networks."
    )
    assert found.overall.kind == "better"  # of sets
    assert found.overall.advice.endswith(f" {found.model}")
    assert found.to_dict()["model"] == found.model


@pytest.mark.parametrize(
    ("gaps", "p"),
    [
        ({"dm-900": -0.01, "random-900": -0.17}, 0.3),
        ({"dm-900": 0.05, "random-900": -0.17}, 0.001),
        ({"dm-900": -0.07, "random-900": -0.17}, None),
    ],
)
def test_a_model_that_is_not_shown_to_be_better_leaves_the_sets_their_use(gaps: dict[str, float], p: Any) -> None:
    found = judged([beside(0.91, gaps, p)], 900)
    assert found.model == (
        "A quantised network of the same bytes is not shown to be better to ship at 900 bytes, and only a set trains "
        "other networks."
    )


def test_sizes_where_a_model_is_better_are_told_from_others() -> None:
    ahead = beside(0.97, {"dm-900": -0.07, "random-900": -0.17}, 0.001)
    level = beside(0.9, {"dm-2000": 0.0, "random-2000": -0.1}, 0.9, amount=2000)
    found = judged([ahead, level], 900, 2000)
    assert "is better at 900 bytes where" in found.model
    assert "of the best set, dm at 900 bytes); at 2,000 bytes it is not shown to be; only a set" in found.model
    items = judged([beside(0.97, {"dm-5": -0.07, "random-5": -0.17}, 0.001, 5, "ipc")], 5, size="ipc")
    assert items.model.startswith("Shipping a quantised network of no more bytes is better at 5 per class where")


@pytest.mark.parametrize(
    "models", [[], [{}], ["x"], [{"protocol": "potstill", "error": "no room"}], [{"protocol": "dc"}]]
)
def test_without_a_measured_model_nothing_is_said(models: list[Any]) -> None:
    found = judged(models, 900)
    assert found.model is None
    assert "model" not in found.to_dict()
    assert "ship" not in found.overall.advice


def test_a_row_that_takes_more_than_its_size_with_its_decoder_decides_nothing() -> None:
    rows = [row("latents", 0.95, 2000, "bytes"), row("dm", 0.9, 2000, "bytes"), row("random", 0.8, 2000, "bytes")]
    for each, size in zip(rows, (29_579, 1_791, 1_957), strict=True):
        each["bytes"] = size
    tests = [pair("latents", "random", 0.15, 0.001, 2000), pair("dm", "random", 0.1, 0.001, 2000)]
    uncounted = judge_leaderboard(board(rows, tests))
    assert (uncounted.sizes[0].distilled, uncounted.warning) == ("latents", None)
    rows[0]["scorecard"]["shared_decoder"] = {"bytes": 27_788, "counted": True}
    found = judge_leaderboard(board(rows, tests))
    assert (found.sizes[0].distilled, found.sizes[0].real) == ("dm", "random")
    assert found.warning == (
        "Not at equal bytes, and so left out of the verdict: latents takes 29,579 bytes at 2,000, with the decoder "
        "that its file lacks."
    )
    assert found.warning in found.overall.advice
    alone = judge_leaderboard(board(rows[:1], []))
    assert (alone.overall.kind, alone.overall.text) == ("unmeasured", "petals: no set keeps to its size")
    assert alone.overall.advice == alone.warning == found.warning
    per_class = judge_leaderboard(board([{**rows[0], "unit": "ipc", "amount": 10}], []))
    assert (per_class.sizes[0].distilled, per_class.warning) == ("latents", None)
