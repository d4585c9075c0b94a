"""Sensitivity at a fixed specificity: rates by hand and by scikit-learn, planted differences, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import potstill
from potstill.audit.screening import Screening, audit_screening, rates, threshold_at
from potstill.audit.screening.threshold import Scores, compare_rates
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.data.attributes import Attribute
from potstill.errors import PotstillError

QUICK = Screening(students=2, steps=60, full_steps=60)
OPTIONS: dict[str, Any] = {"network": "mlp-w16", "progress": None}


def rows(distance: float, ill: int, well: int, seed: int = 0) -> TensorSource:
    rng = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.zeros(ill), torch.ones(well)]).long()
    x = torch.randn(len(y), 3, generator=rng)
    x[:, 0] += distance * (1 - y)
    return TensorSource.make(x, y.tolist(), classes=["ill", "well"], name="patients")


def patients(distance: float = 2.0, test_distance: float | None = None, ill: int = 60) -> Splits:
    train = rows(distance, ill, 200)
    test = rows(distance if test_distance is None else test_distance, 100, 300, seed=1)
    return Splits(train=train, test=replace(test, normalization=train.normalization))


def test_rates_by_hand() -> None:
    scores = Scores(torch.tensor([3.0, 1.0, 2.0, 0.0, 2.0]), torch.tensor([0.0, 1.0, 2.0, 5.0]))
    found = rates(scores, torch.tensor([True, True, False, False, False]), 0.5)
    assert threshold_at(scores.held_out, 0.5) == 1.0
    assert threshold_at(scores.held_out, 0.75) == 2.0
    assert (found.sensitivity, found.specificity) == (0.5, pytest.approx(1 / 3))
    assert found.auroc == pytest.approx((3 + 1) / 6)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.floats(0.5, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_threshold_lets_enough_negatives_through_and_no_smaller_one_does(values: list[int], share: float) -> None:
    negatives = torch.tensor(values).float()
    cut = threshold_at(negatives, share)
    assert float((negatives <= cut).double().mean()) >= share - 1e-9
    assert float((negatives < cut).double().mean()) < share


def test_the_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, values = rng.integers(0, 2, 200).astype(bool), rng.integers(0, 20, 200).astype(float)
    found = rates(Scores(torch.tensor(values), torch.tensor([1.0])), torch.tensor(truth), 0.9)
    assert found.auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-12)


def test_equal_students_do_not_differ_and_better_ones_do() -> None:
    rng = torch.Generator().manual_seed(0)
    positive = torch.arange(400) % 4 == 0

    def students(distance: float) -> list[Scores]:
        made = [torch.randn(400, generator=rng) + distance * positive for _ in range(4)]
        return [Scores(test, torch.randn(200, generator=rng)) for test in made]

    a, b = students(1.0), students(3.0)
    same = compare_rates(a, a, positive, 0.9, torch.Generator().manual_seed(1))
    assert all(of["mean"] == 0 and of["ci95"] == [0, 0] for of in same.values())
    less = compare_rates(a, b, positive, 0.9, torch.Generator().manual_seed(1))
    assert less["sensitivity"]["ci95"][1] < -0.3
    assert less["auroc"]["ci95"][1] < 0
    low, high = less["specificity"]["ci95"]
    assert low < 0 < high


def test_a_set_of_wrong_labels_finds_less_than_random_samples_do() -> None:
    splits = patients(3.0)
    small = potstill.distill(splits, "random", ipc=10, progress=None)
    audit = audit_screening(small, splits, replace(QUICK, students=3), **OPTIONS)
    assert audit.values["positive"] == "ill"  # the rarer one
    assert audit.values["rates"]["set"]["sensitivity"]["mean"] > 0.6
    wrong = replace(splits, train=rows(-3.0, 60, 200))
    bad = potstill.distill(wrong, "random", ipc=10, progress=None)
    worse = audit_screening(bad, splits, replace(QUICK, students=3), **OPTIONS)
    assert worse.values["rates"]["set"]["auroc"]["mean"] < 0.2
    assert worse.values["difference"]["random"]["sensitivity"]["ci95"][1] < 0
    assert "AUROC" in worse.sentence
    assert "'ill'" in worse.sentence
    again = audit_screening(bad, splits, replace(QUICK, students=3), **OPTIONS)
    assert again.to_json() | {"seconds": 0} == worse.to_json() | {"seconds": 0}


def test_the_threshold_is_not_chosen_on_test_samples() -> None:
    """Where the test part is shifted, the specificity reached says so."""
    splits = patients(2.0)
    shifted = splits.test.inputs.clone()  # type: ignore[union-attr]
    shifted[:, 0] += 2
    moved = replace(splits, test=replace(splits.test, inputs=shifted))  # type: ignore[type-var]
    small = potstill.distill(splits, "random", ipc=20, progress=None)
    before, after = (audit_screening(small, s, QUICK, **OPTIONS).values["rates"]["all data"] for s in (splits, moved))
    assert before["specificity"]["mean"] == pytest.approx(0.9, abs=0.08)
    assert after["specificity"]["mean"] < 0.6


def test_rates_by_value_of_an_attribute() -> None:
    splits = patients(3.0)
    assert isinstance(splits.test, TensorSource)
    codes = torch.zeros(400, dtype=torch.long)
    codes[50:100], codes[100:105] = 1, 2  # half of the ill; five of the others
    test = replace(splits.test, attribute=Attribute(codes, ("a", "b", "c")))
    x = test.inputs.clone()
    x[50:100, 0] -= 6  # those of hospital b look well
    small = potstill.distill(splits, "random", ipc=20, progress=None)
    audit = audit_screening(small, replace(splits, test=replace(test, inputs=x)), QUICK, **OPTIONS)
    a, b, c = audit.values["by_value"]
    assert a["sensitivity"]["set"]["mean"] > 0.8 > 0.1 > b["sensitivity"]["set"]["mean"]
    assert b["specificity"] is None
    assert c["sensitivity"] is None
    assert c["specificity"] is None
    assert len(audit.tables) == 2
    assert any("too few" in cell for row in audit.tables[1].rows for cell in row)


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    splits = patients()
    small = potstill.distill(splits, "random", ipc=4, progress=None)
    digits = potstill.load_data("digits")
    of_digits = potstill.distill(digits, "random", ipc=1, progress=None)
    assert isinstance(splits.test, TensorSource)
    healthy = replace(splits, test=splits.test.subset(torch.where(splits.test.labels == 1)[0]))
    cases: list[tuple[Any, Any, Screening, str]] = [
        (small, splits, replace(QUICK, positive="sick"), "unknown class 'sick'"),
        (small, replace(splits, test=None), QUICK, "has no test part, on which rates are measured"),
        (small, splits, replace(QUICK, specificity=0.99), "needs 100 held-out negatives, but there are 40"),
        (small, healthy, QUICK, "has samples of 'ill' alone, or none"),
        (small, splits, replace(QUICK, lr=1e30), "2 of 2 students diverged, and two have to remain"),
        (of_digits, digits, QUICK, "has 10 classes: name the one to find"),
    ]
    for made, data, how, words in cases:
        with pytest.raises(PotstillError, match=words) as caught:
            audit_screening(made, data, how, **OPTIONS)
        assert "\n" not in str(caught.value)
    for wrong in ({"students": 1}, {"steps": 0}, {"specificity": 0.4}, {"specificity": 1.0}):
        with pytest.raises(PotstillError, match="at least"):
            audit_screening(small, splits, replace(QUICK, **wrong), **OPTIONS)  # type: ignore[arg-type]


def test_the_command_writes_the_part_into_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = ["a,b,outcome"]
    for i in range(300):
        ill = i % 4 == 0
        lines.append(f"{rng.normal() + 2 * ill:.4f},{rng.normal():.4f},{'ill' if ill else 'well'}")
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    data = ["--data", f"{tmp_path}/p.csv", "--label", "outcome"]
    made = f"{tmp_path}/s.safetensors"
    assert (
        main(["distill", f"{tmp_path}/p.csv", "--label", "outcome", "--method", "random", "--ipc", "5", "--out", made])
        == 0
    )
    out = tmp_path / "s.audit.json"
    quick = ["--students", "2", "--steps", "20", "--full-steps", "20", "--specificity", "0.8"]
    assert main(["audit", "screening", made, *data, *quick, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "Students of the set find" in text
    assert "AUROC" in text
    part = json.loads(out.read_text())["parts"]["screening"]
    assert part["values"]["positive"] == "ill"
    assert part["values"]["specificity"] == 0.8
