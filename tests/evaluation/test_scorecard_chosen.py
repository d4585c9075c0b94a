"""What a protocol left to a choice stands beside its fingerprint: two results of one fingerprint may differ in it."""

import potstill


def test_the_chosen_learning_rates_stand_beside_the_fingerprint() -> None:
    data = potstill.load_data("digits", size=4)
    small = potstill.distill(data, "random", ipc=2, codec="exact", progress=None)
    score = potstill.evaluate(small, data, networks="linear", seeds=2, quick=True, full=False, robust_scores=False)
    sides = {"this set": score.content, **score.content["baselines"]}
    rates = {name: side["chosen"]["lr"] for name, side in sides.items()}
    lines = str(score).splitlines()
    (line,) = [line for line in lines if line.startswith("students trained with learning rate ")]
    for name, rate in rates.items():
        assert f"{rate:g}" in line
        assert len(set(rates.values())) == 1 or f"{name} {rate:g}" in line
    assert f"{score.content['chosen']['steps']:,} updates" in line
    verdict = score.content["verdict"]
    assert verdict.keys() == {"kind", "text", "reason", "advice", "against", "difference"}
    assert lines[-2:] == [f"Verdict: {verdict['text']}.", f"  {verdict['advice']}"], (
        "of random samples there is no reason"
    )
    assert verdict["kind"] == "reference"
    assert {"kind": "image", "selection": True}.items() <= score.content["set"].items()


def test_rates_that_differ_are_said_of_each_side() -> None:
    from potstill.evaluation.scorecard import _selected_settings

    content = {"chosen": {"lr": 0.03, "steps": 1800}, "baselines": {"random": {"chosen": {"lr": 0.1}}, "model": {}}}
    assert _selected_settings(content) == [
        "students trained with learning rate this set 0.03, random 0.1; 1,800 updates"
    ]
    assert _selected_settings({"chosen": {}, "baselines": {}}) == []
