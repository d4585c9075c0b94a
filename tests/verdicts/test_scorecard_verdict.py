"""The verdict on one set: wins, loses, not told apart, and what cannot be said."""

from typing import Any

import pytest

from potstill.verdicts import judge_scorecard

BETTER, OPEN, WORSE = (0.01, 0.05), (-0.02, 0.05), (-0.09, -0.03)


def baseline(mean: float, gap: float, ends: tuple[float, float] | None, **about: Any) -> dict[str, Any]:
    found = {"mean": gap, "ci95": None if ends is None else list(ends), "p": None}
    return {"mean": mean, "items": 121, "bytes": 900, "codec": "uint4", "difference": found, **about}


def scorecard(baselines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    about = {"method": "dm", "items": 40, "source": "petals", "kind": "image", "selection": False}
    score = {"metric": "accuracy", "direction": "higher", "unit": "fraction", "mean": 0.9}
    held = {"n": 5, "score": score, "baselines": baselines, "bytes": {"total": 994}, "full": {"mean": 0.98}}
    return held | {"set": about | changes.pop("set", {})} | changes


def test_it_wins_if_it_is_better_than_every_baseline_of_its_bytes() -> None:
    found = judge_scorecard(scorecard({
        "random": baseline(0.80, 0.10, (0.05, 0.15)), "herding": baseline(0.873, 0.027, (0.014, 0.04)),
        "random-items": baseline(0.95, -0.05, WORSE),
    }))  # fmt: skip
    assert (found.kind, found.against) == ("better", "herding")
    assert found.text == (
        "40 distilled pictures of petals in 994 bytes train 2.7 points better than herding in the same bytes"
    )
    assert found.reason == "This set minus herding: +2.7 points, 95% interval +1.4 to +4.0."
    assert found.advice == "Use the set where its bytes are the limit; all real data reach 98.0%."


def test_one_open_baseline_is_enough_to_be_not_told_apart() -> None:
    found = judge_scorecard(scorecard({
        "random": baseline(0.80, 0.10, (-0.05, 0.25)), "herding": baseline(0.873, 0.027, BETTER),
    }))  # fmt: skip
    assert (found.kind, found.against) == ("not told apart", "random")
    assert "are not told apart from random real pictures in the same bytes" in found.text
    assert found.advice.endswith("Keep real pictures until a gain is shown.")


def test_where_it_loses_the_title_says_what_to_keep_and_how() -> None:
    rivals = {"random": baseline(0.96, -0.06, WORSE, codec="mosaic:kind=jpeg,quality=20"),
              "herding": baseline(0.88, 0.02, BETTER)}  # fmt: skip
    found = judge_scorecard(scorecard(rivals))
    assert found.kind == "worse"
    assert found.text == "Keep 121 real pictures of petals as JPEG: distilling loses 6.0 points here"


def test_random_samples_that_a_network_in_the_file_labels_are_no_baseline() -> None:
    about = {"method": "random", "selection": True}
    rivals = {"random": baseline(0.80, 0.10, (0.05, 0.15))}
    assert judge_scorecard(scorecard(rivals, set=about)).kind == "reference"
    found = judge_scorecard(scorecard(rivals, set=about, bytes={"total": 994, "labeller": 400}))
    assert found.kind == "better"
    assert found.text.startswith("40 random real pictures of petals with a network that labels them in 994 bytes train")


def test_a_private_set_that_loses_says_what_its_rival_lacks() -> None:
    """Real samples are no rival where they must not be shared."""
    rivals = {"random": baseline(0.96, -0.06, WORSE)}
    plain = judge_scorecard(scorecard(rivals))
    claim = {"epsilon": 1.0, "delta": 1e-5}
    for found in (judge_scorecard(scorecard(rivals, set={"privacy": claim})),
                  judge_scorecard(scorecard(rivals), {"privacy": claim})):  # fmt: skip
        assert (found.kind, found.text) == (plain.kind, plain.text)
        assert found.advice == plain.advice + (
            " But real pictures have no formal privacy: where they must not be shared, the set, which claims ε = 1, "
            "may be."
        )
    for bad in ({"epsilon": "1", "delta": 0}, {"epsilon": float("nan"), "delta": 0}, "ε"):
        assert judge_scorecard(scorecard(rivals, set={"privacy": bad})) == plain
    better = scorecard({"random": baseline(0.86, 0.04, BETTER)}, set={"privacy": claim})
    assert "formal privacy" not in judge_scorecard(better).advice


@pytest.mark.parametrize(
    ("ends", "kind"), [((-0.04, -0.0001), "worse"), ((-0.04, 0.0), "not told apart"), ((0.0, 0.02), "not told apart")]
)
def test_an_interval_that_touches_zero_tells_nothing(ends: tuple[float, float], kind: str) -> None:
    assert judge_scorecard(scorecard({"random": baseline(0.9, sum(ends) / 2, ends)})).kind == kind


def test_without_baselines_it_says_how_to_get_them() -> None:
    found = judge_scorecard(scorecard({}))
    assert found.kind == "no baselines"
    assert found.text.endswith("train to 90.0% accuracy, beside no real samples")
    assert "baselines" in found.advice
    assert found.difference is None


def test_one_student_tells_nothing_whatever_the_difference() -> None:
    found = judge_scorecard(scorecard({"random": baseline(0.5, 0.4, None)}, n=1))
    assert found.kind == "untested"
    assert "one student cannot tell them from random real pictures" in found.text
    assert "`seeds` 5" in found.advice


def test_as_many_samples_count_only_where_nothing_has_the_same_bytes() -> None:
    found = judge_scorecard(scorecard({"random-items": baseline(0.8, 0.1, (0.05, 0.15), bytes=31370)}))
    assert found.text.endswith("train 10.0 points better than as many random real pictures, which take 31 kB")


@pytest.mark.parametrize(
    ("metric", "gap", "ends", "kind", "text"),
    [
        (("rmse", "lower", "price"), -26.52, (-39.3, -13.7), "better",
         "40 distilled rows of petals in 994 bytes train to rmse lower by 26.5 (price) than random real rows in the "
         "same bytes"),
        (("rmse", "lower", "price"), 26.52, (13.7, 39.3), "worse",
         "Keep 121 real rows of petals at 4 bits: distilling raises the rmse by 26.5 (price) here"),
        (("R²", "higher", "R²"), -0.2, (-0.3, -0.1), "worse",
         "Keep 121 real rows of petals at 4 bits: distilling lowers the R² by 0.2 here"),
    ],
)  # fmt: skip
def test_scores_without_fractions_keep_their_unit(
    metric: tuple[str, str, str], gap: float, ends: tuple[float, float], kind: str, text: str
) -> None:
    score = dict(zip(("metric", "direction", "unit"), metric, strict=True)) | {"mean": 60.0}
    held = scorecard({"random": baseline(60.0 - gap, gap, ends)}, score=score, set={"kind": "table"})
    found = judge_scorecard(held)
    assert (found.kind, found.text) == (kind, text)
    assert ("less is better" in found.reason) == (metric[1] == "lower")
    assert "point" not in found.text + found.reason


def test_a_forecast_that_learns_nothing_comes_before_random_windows() -> None:
    score = {"metric": "mse", "direction": "lower", "unit": "squared deviations", "mean": 0.14}
    held = scorecard({"random": baseline(0.22, -0.08, (-0.1, -0.06))}, score=score, set={"kind": "series"})
    naive = {"last value": {"score": 1.7}, "seasonal (24)": {"score": 0.117}}
    assert judge_scorecard(held).kind == "better"
    found = judge_scorecard(held | {"naive": naive})
    assert (found.kind, found.against) == ("naive", "seasonal (24)")
    assert found.text == (
        "The seasonal (24) forecast, which learns nothing, beats a model trained on 40 distilled windows of petals in "
        "994 bytes"
    )
    assert judge_scorecard(held | {"naive": {"last value": {"score": 1.7}}}).kind == "better"


def test_selected_samples_are_not_called_distilled() -> None:
    held = scorecard({"random": baseline(0.95, -0.05, WORSE)}, set={"method": "k-center", "selection": True})
    assert (
        judge_scorecard(held).text
        == "Keep 121 real pictures of petals at 4 bits: 40 selected ones lose 5.0 points here"
    )
    won = scorecard({"random": baseline(0.85, 0.05, BETTER)}, set={"method": "k-center", "selection": True})
    assert judge_scorecard(won).text.startswith("40 selected real pictures of petals in 994 bytes train 5.0 points")
    random = judge_scorecard(scorecard({"random": baseline(0.9, 0.0, OPEN)}, set={"method": "random"}))
    assert random.kind == "reference"
    assert "distilling" not in random.text + random.advice


def auto(ends: tuple[float, float]) -> dict[str, Any]:
    return {
        "method": "random", "input": {"kind": "image"}, "source": {"name": "petals"}, "items": 121,
        "codec": {"name": "mosaic:kind=jpeg,quality=20"},
        "choice": {"answer": "real", "difference": {"mean": sum(ends) / 2, "ci95": list(ends)}},
    }  # fmt: skip


@pytest.mark.parametrize("with_scorecard", [True, False])
def test_what_auto_kept_is_the_verdict_with_and_without_a_scorecard(with_scorecard: bool) -> None:
    held = scorecard({"random": baseline(0.9, 0.0, OPEN)}, set={"method": "random", "choice": "real", "items": 121})
    score = held if with_scorecard else None
    gained = judge_scorecard(score, auto((-0.02, 0.03)))
    assert gained.text == "Keep 121 real pictures of petals as JPEG: distilling shows no gain here"
    untried = auto((-0.02, 0.03))
    untried["choice"]["difference"] = None
    assert (
        judge_scorecard(score, untried).text == "Keep 121 real pictures of petals as JPEG: no way to distil was tried"
    )
    lost = judge_scorecard(score, auto((-0.06, -0.02)))
    assert (lost.kind, lost.text[-36:]) == ("worse", "as JPEG: distilling loses 4.0 points here"[-36:])
    assert "held-out training data" in lost.reason


def test_a_scorecard_alone_says_what_it_said_beside_the_set() -> None:
    """It said that no way to distil was tried, though two had lost: what was tried is on the set's card alone."""
    held = scorecard({"random": baseline(0.9, 0.0, OPEN)}, set={"method": "random", "choice": "real", "items": 121})
    beside = judge_scorecard(held, auto((-0.06, -0.02)))
    alone = judge_scorecard({**held, "verdict": beside.to_dict()})
    assert alone.lines() == beside.lines()
    assert "distilling loses" in alone.text


@pytest.mark.parametrize(("reason", "said"), [
    ("no time was left to try it; a longer time limit reaches it", "a longer time limit lets distilling begin."),
    ("44 distinct samples are required", "a way to distil was left out, as 44 distinct samples are required."),
])  # fmt: skip
def test_why_nothing_was_tried_is_the_advice(reason: str, said: str) -> None:
    untried = auto((-0.02, 0.03))
    untried["choice"] = {"answer": "real", "difference": None, "tried": [{"real": False, "left_out": reason}]}
    assert judge_scorecard(None, untried).advice == f"The file holds these samples; {said}"


def test_a_set_that_auto_made_is_judged_as_any_other() -> None:
    held = scorecard({"random": baseline(0.8, 0.1, (0.05, 0.15))}, set={"choice": "made"})
    assert judge_scorecard(held).kind == "better"


def test_shortened_and_optimistic_scores_say_so_first() -> None:
    rivals = {"random": baseline(0.96, -0.06, WORSE)}
    assert judge_scorecard(scorecard(rivals, quick=True)).text.startswith("Quick: keep 121 real pictures")
    assert judge_scorecard(scorecard(rivals, quick=True, optimistic=True)).text.startswith("Optimistic and quick: ")


def test_one_item_and_no_scorecard_are_worded_too() -> None:
    one = judge_scorecard(scorecard({"random": baseline(0.8, 0.1, BETTER)}, set={"items": 1}))
    alike = judge_scorecard(scorecard({"random": baseline(0.8, 0.1, BETTER)}, set={"source": "pictures"}))
    assert alike.text.startswith("40 distilled pictures in 994 bytes"), "a folder may be called so"
    assert one.text.startswith("1 distilled picture of petals in 994 bytes trains 10.0 points better")
    none = judge_scorecard(None, {"method": "dm", "source": {"name": "petals"}, "bytes": {"total": 994}})
    assert (none.kind, none.text) == (
        "unmeasured",
        "A set of distilled pictures of petals in 994 bytes, not measured yet",
    )


def test_its_json_holds_what_decided() -> None:
    value = judge_scorecard(scorecard({"random": baseline(0.8, 0.1, (0.05, 0.15))})).to_dict()
    assert value["difference"] == {"mean": 0.1, "ci95": [0.05, 0.15]}
    assert {"kind", "text", "reason", "advice", "against", "difference"} == value.keys()


BROKEN = ({"baselines": 3}, {"bytes": None}, {"set": {"items": "4"}}, {"score": {"mean": "x"}})


@pytest.mark.parametrize("broken", BROKEN)
def test_a_damaged_scorecard_has_a_verdict_without_a_crash(broken: dict[str, Any]) -> None:
    assert judge_scorecard(scorecard({"random": {"mean": None}}) | broken).kind in ("no baselines", "unmeasured")
