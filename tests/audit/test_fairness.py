"""Fairness of a set: equalised odds by hand, planted biases, chance, and what cannot be measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.audit.fairness import audit_fairness, equalised_odds, odds_by_chance
from potstill.audit.fairness.odds import _resampled, compare_odds, make_cells
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.data.attributes import Attribute
from potstill.errors import PotstillError

QUICK: dict[str, Any] = {"students": 2, "steps": 60, "full_steps": 60, "network": "mlp-w16", "progress": None}


def rows(agree: float, per_class: int = 80, seed: int = 0, values: int = 2) -> TensorSource:
    """Return rows of a weak column of the class and a strong one of the group, which agree in so many rows."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(2).repeat(per_class)
    same = torch.arange(per_class).repeat(2) % 20 < round(20 * agree)
    group = torch.where(same, y, 1 - y)
    x = torch.stack([2.0 * y - 1, 4.0 * (2 * group - 1)], 1) + 0.5 * torch.randn(len(y), 2, generator=rng)
    made = TensorSource.make(x, y.tolist(), classes=["ill", "well"], name="patients")
    return replace(made, attribute=Attribute(group % values, ("f", "m")[:values]))


def patients(agree: float) -> Splits:
    test = rows(0.5, per_class=100, seed=1)
    train = rows(agree)
    return Splits(train=train, test=replace(test, normalization=train.normalization))


def random_set(splits: Splits, **options: Any) -> potstill.Distilled:
    return potstill.distill(splits, "random", ipc=4, progress=None, **options)


def cells(labels: list[int], groups: list[int], least: int = 1) -> Any:
    return make_cells(torch.tensor(labels), torch.tensor(groups), least)


def test_the_gap_is_the_difference_of_true_positive_rates() -> None:
    labels, groups = [0] * 6 + [1] * 6, [0, 0, 1, 1, 2, 2] * 2
    right = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0]).bool()
    gap = equalised_odds(right, cells(labels, groups))
    assert (gap.mean, gap.max) == (0.75, 1.0)  # rates 1, 1/2, 0 and 1, 1, 1/2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=12, max_size=60))
@settings(max_examples=60, deadline=None)
def test_it_lies_between_0_and_1_and_is_0_for_a_perfect_model(samples: list[tuple[int, int, bool]]) -> None:
    labels, groups, right = (torch.tensor(column) for column in zip(*samples, strict=True))
    try:
        found = make_cells(labels, groups, 2)
    except PotstillError:
        return
    gap = equalised_odds(right, found)
    assert 0 <= gap.mean <= gap.max <= 1
    assert equalised_odds(torch.ones_like(right), found).max == 0
    rates = {}
    for c, g in zip(found.classes, found.groups, strict=True):
        at = (labels == c) & (groups == g)
        assert int(at.sum()) >= 2
        rates.setdefault(c, []).append(float(right[at].double().mean()))
    assert gap.max == pytest.approx(max(max(r) - min(r) for r in rates.values()))


def test_small_cells_and_classes_with_one_cell_are_left_out() -> None:
    found = cells([0] * 5 + [1] * 3, [0, 0, 1, 1, 2, 0, 0, 1], least=2)
    assert (found.classes, found.groups) == ((0, 0), (0, 1))
    assert set(found.left_out) == {(0, 2, 1), (1, 1, 1)}
    assert found.cell.tolist() == [0, 0, 1, 1, -1, -1, -1, -1]
    with pytest.raises(PotstillError, match="no class has two groups of at least 9 test samples"):
        cells([0] * 5, [0, 0, 1, 1, 2], least=9)


def test_chance_alone_gives_a_gap_and_groups_that_matter_a_larger_one() -> None:
    labels, groups = torch.zeros(400, dtype=torch.int64), torch.arange(400) % 4
    found = make_cells(labels, groups)
    rng = torch.Generator().manual_seed(0)
    blind = [torch.rand(400, generator=rng) < 0.7 for _ in range(3)]
    chance = odds_by_chance(blind, found, 0)
    assert 0.04 < chance.mean < 0.16  # four rates of 100 samples: about two standard errors of 0.046
    assert abs(sum(equalised_odds(right, found).mean for right in blind) / 3 - chance.mean) < 0.08
    partial = groups != 0
    assert equalised_odds(partial, found).mean == 1.0 > odds_by_chance([partial], found, 0).mean + 0.7
    assert odds_by_chance(blind, found, 0) == chance


def test_two_gaps_are_compared_as_by_hand() -> None:
    labels, groups = torch.arange(240) % 2, torch.arange(240) // 2 % 3
    found, rng = make_cells(labels, groups), torch.Generator().manual_seed(0)
    harsh = [(torch.rand(240, generator=rng) < 0.9) & (groups != 1) for _ in range(4)]
    blind = [torch.rand(240, generator=rng) < 0.9 for _ in range(4)]
    compared = compare_odds(harsh, blind, found, 0)
    for size in ("mean", "max"):
        by_pair = [
            getattr(equalised_odds(a, found), size) - getattr(equalised_odds(b, found), size)
            for a, b in zip(harsh, blind, strict=True)
        ]
        assert compared[size].mean == pytest.approx(sum(by_pair) / 4)
        chances = [getattr(odds_by_chance(of, found, 1, draws=200), size) for of in (harsh, blind)]
        assert compared[size].by_chance == pytest.approx(chances[0] - chances[1], abs=0.03)
        assert compared[size].side == 1
    assert compare_odds(blind, harsh, found, 0)["mean"].side == -1
    assert compare_odds(blind, blind, found, 0)["mean"].ci95 == (0.0, 0.0)
    assert compare_odds(harsh, blind, found, 0) == compared


def test_resampled_test_samples_stay_in_their_cell() -> None:
    found = cells([0] * 5 + [1] * 7, [0, 0, 1, 1, 2, 0, 0, 1, 1, 1, 1, 2], least=2)
    at = _resampled(found, torch.Generator().manual_seed(0))
    sizes = torch.bincount(found.cell[found.cell >= 0])
    assert torch.equal(torch.bincount(found.cell[at]), sizes)
    many = torch.cat([_resampled(found, torch.Generator().manual_seed(n)) for n in range(200)])
    assert set(many.tolist()) == set(torch.where(found.cell >= 0)[0].tolist())


def test_less_accurate_students_alone_are_no_bias() -> None:
    """An attribute that means nothing: the gap of a few samples is larger by chance, at any number of students."""
    labels, groups = torch.arange(300) % 3, torch.arange(300) // 3 % 2
    found, rng = make_cells(labels, groups), torch.Generator().manual_seed(0)
    sides = []
    for trial in range(40):
        difficulty = torch.rand(300, generator=rng)  # the same test samples are difficult for all students
        weak, strong = (
            [difficulty + 0.2 * torch.rand(300, generator=rng) < part for _ in range(5)] for part in (0.7, 1.08)
        )
        gaps = [sum(equalised_odds(right, found).mean for right in of) / 5 for of in (weak, strong)]
        compared = compare_odds(weak, strong, found, trial)["mean"]
        assert compared.mean == pytest.approx(gaps[0] - gaps[1])
        assert compared.by_chance > 0.03
        sides.append(compared.side)
    assert sum(side != 0 for side in sides) <= 4


def test_a_biased_set_of_unbiased_data_is_found_and_a_balanced_set_of_biased_data_too() -> None:
    fair, biased = patients(0.5), patients(0.95)
    from_biased = random_set(biased)
    amplified = audit_fairness(from_biased, fair, **QUICK | {"students": 8})
    assert amplified.sentence.startswith("The set amplifies a bias of the data, more than as many random real samples")
    assert amplified.values["difference"]["all data"]["mean"]["ci95"][0] > 0
    balanced = random_set(biased, real_weights="attribute")
    reduced = audit_fairness(balanced, biased, **QUICK | {"students": 8})
    assert reduced.sentence.startswith("The set reduces a bias of the data, more than as many random real samples")
    worst = reduced.values["worst"]
    assert worst["set"][0] > worst["all data"][0]
    again = audit_fairness(balanced, biased, **QUICK | {"students": 8})
    assert again.to_json() | {"seconds": 0} == reduced.to_json() | {"seconds": 0}


def test_the_set_of_all_data_changes_nothing() -> None:
    splits = patients(0.8)
    whole = potstill.distill(splits, "random", ipc=80, progress=None)
    audit = audit_fairness(whole, splits, **QUICK | {"students": 3})
    assert audit.sentence.startswith("No change of a bias of the data by the set is shown")
    assert audit.values["difference"]["all data"]["mean"]["mean"] == pytest.approx(0, abs=0.1)


def test_values_with_few_test_samples_are_named() -> None:
    splits = patients(0.5)
    assert isinstance(splits.test, TensorSource)
    codes = splits.test.attribute.codes.clone()  # type: ignore[union-attr]
    codes[0], codes[1] = 2, 2
    test = replace(splits.test, attribute=Attribute(codes, ("f", "m", "unknown")))
    audit = audit_fairness(random_set(splits), replace(splits, test=test), **QUICK)
    assert [row["value"] for row in audit.values["by_value"]] != []
    assert "unknown" not in {row["value"] for row in audit.values["by_value"]}
    assert any("left out of the gap: unknown in class ill (1); unknown in class well (1)" in n for n in audit.notes)


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    splits = patients(0.5)
    small = random_set(splits)
    assert isinstance(splits.test, TensorSource)
    plain = replace(splits, test=replace(splits.test, attribute=None))
    one = replace(splits, test=rows(0.5, seed=1, values=1))
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (plain, {}, "needs an attribute of each test sample, but that of patients has none; read it"),
        (one, {}, "every test sample of patients has the attribute 'f'; give data with two values"),
        (replace(splits, test=None), {}, "has no test part, on which groups are compared"),
        (splits, {"students": 1}, "needs at least 2 students, 1 update and cells of 1 test sample, not 1"),
        (splits, {"full_steps": 0}, "at least 2 students, 1 update"),
        (splits, {"least": 0}, "cells of 1 test sample"),
        (splits, {"least": 90}, "no class has two groups of at least 90 test samples"),
        (splits, {"attribute": "sex"}, "data that are read already have their attribute or none"),
        (splits, {"lr": 1e30}, "2 of 2 students diverged, and two have to remain"),
    ]
    for data, options, words in cases:
        with pytest.raises(PotstillError, match=words) as caught:
            audit_fairness(small, data, **QUICK | options)
        assert "\n" not in str(caught.value)


def table(path: Path) -> Path:
    source = rows(0.9, per_class=200)
    x, sex = source.raw(torch.arange(400)), source.attribute
    assert sex is not None
    lines = [
        f"{a:.3f},{b:.3f},{sex.values[int(g)]},{source.classes[int(y)]}"
        for (a, b), g, y in zip(x.tolist(), sex.codes, source.labels, strict=True)
    ]
    path.write_text("\n".join(["a,b,sex,label", *lines]) + "\n")
    return path


def test_the_command_writes_a_part_that_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, said = table(tmp_path / "d.csv"), tmp_path / "s.safetensors", tmp_path / "s.audit.json"
    given = ["--attribute", "sex"]
    assert main(["distill", str(data), "--method", "random", "--ipc", "5", *given, "--out", str(out), "--quiet"]) == 0
    audit = ["audit", "fairness", str(out), "--data", str(data), "--students", "2", "--steps", "20"]
    quick = ["--full-steps", "20", "--network", "mlp-w8", "--least", "1"]
    capsys.readouterr()
    assert main([*audit, *quick, "--out", str(said), "--quiet"]) == 0  # the set knows its attribute
    text = " ".join(capsys.readouterr().out.split())  # lines are folded at a width
    assert "mean equalised-odds gap" in text
    assert "beyond chance" in text
    part = json.loads(said.read_text())["parts"]["fairness"]
    assert set(part["values"]["odds"]) == {"set", "random", "all data"}
    assert {row["value"] for row in part["values"]["by_value"]} == {"f", "m"}
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "Equalised-odds gap in points" in (tmp_path / "page.html").read_text()


def test_the_command_fails_with_1_for_data_and_2_for_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = table(tmp_path / "d.csv"), tmp_path / "s.safetensors"
    potstill.distill(data, "random", ipc=2, progress=None).save(out)
    line = ["audit", "fairness", str(out), "--data", str(data), "--quiet"]
    for more, status, words in (
        ([], 1, "was read without one; read it with --attribute"),
        (["--attribute", "age"], 1, "there is no column 'age' to take as attribute"),
        (["--students", "many"], 2, "--students"),
    ):
        capsys.readouterr()
        assert main([*line, *more]) == status
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
