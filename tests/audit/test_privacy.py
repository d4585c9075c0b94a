"""The privacy audit on sets whose leaks are planted, and on some that have none; the bound of ε; bad input."""

import doctest
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import ndtr

import potstill
from potstill.audit import Audit
from potstill.audit.privacy import audit_epsilon, audit_privacy, bound_epsilon, least_epsilon, maker_of
from potstill.audit.privacy.attacks import Attacker, tracing_values
from potstill.audit.privacy.epsilon import guess_p_value
from potstill.audit.privacy.membership import check_rates
from potstill.audit.privacy.remake import starting_records
from potstill.audit.privacy.shadows import ShadowPlan, lira_scores
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.functional.roc import auc, hits_at_rate, proportion_interval
from potstill.rng import generator
from potstill.uses.continual import Learner

FAST: dict[str, Any] = {"students": 1, "learner": Learner(network="convnet-w8-d1", steps=20)}


def pictures(n: int = 500, classes: int = 4, seed: int = 0, side: int = 8) -> TensorSource:
    """Blurred class pictures under noise, so that classes are not all the same."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.rand(classes, 1, side, side, generator=torch.Generator().manual_seed(7))
    x = 255 * (0.5 * centres[labels] + 0.5 * torch.rand(n, 1, side, side, generator=rng))
    return TensorSource.make(x.to(torch.uint8), labels.tolist(), name="rows")


def both_parts(n: int = 500) -> Splits:
    whole = pictures(2 * n)
    test = whole.subset(torch.arange(n, 2 * n))
    return Splits(train=whole.subset(torch.arange(n)), test=test)


def found(audit: Audit, attack: str, group: str) -> dict[str, Any]:
    (score,) = [s for s in audit.values["membership"] if (s["attack"], s["group"]) == (attack, group)]
    return score


@pytest.fixture(scope="module")
def splits() -> Splits:
    return both_parts()


@pytest.fixture(scope="module")
def matched(splits: Splits) -> Distilled:
    return potstill.distill(
        splits, "dm", ipc=5, steps=10, network="convnet-w8-d1", batch_real=32, codec="uint8", progress=None
    )


def test_a_set_from_real_starts_is_recognised_by_them(splits: Splits, matched: Distilled) -> None:
    audit = audit_privacy(matched, splits, **FAST)
    near = audit.values["nearest"]
    assert (near["started_from_records"], near["nearest_is_own_start"]) == (20, 20)
    assert near["stands_out"] >= 18
    assert found(audit, "distance", "started an item")["tpr"]["0.01"]["hits"] >= 18
    others = found(audit, "distance", "all others")
    assert others["records"] == 480
    assert others["auc"] < 0.65  # an average over all members hides the starts
    assert "the training record that they started from" in audit.sentence
    assert "The 20 records that started an item can be distinguished from held-out records" in audit.sentence


def test_a_set_from_noise_has_no_starts_and_no_copies(splits: Splits) -> None:
    small = potstill.distill(
        splits, "dm", ipc=5, steps=10, network="convnet-w8-d1", batch_real=32, init_from="noise", progress=None
    )
    audit = audit_privacy(small, splits, **FAST)
    near = audit.values["nearest"]
    assert (near["exact"], near["near"], near["started_from_records"]) == (0, 0, 0)
    assert {score["group"] for score in audit.values["membership"]} == {"all others"}
    assert audit.sentence.startswith("None of 20 items is a copy of a training record. 500 members ")


def test_real_samples_are_copies_also_in_one_bit(splits: Splits) -> None:
    exact = audit_privacy(potstill.distill(splits, "random", ipc=5, progress=None), splits, **FAST)
    assert exact.values["nearest"]["exact"] == 20
    assert exact.sentence.startswith("Of the items, 20 of 20 are copies of training records, and 20 of 20 lie")
    coded = potstill.distill(splits, "random", ipc=5, codec="uint1", progress=None)
    audit = audit_privacy(coded, splits, **FAST)
    assert audit.values["nearest"]["exact"] == 0
    assert audit.values["nearest"]["nearest_is_own_start"] >= 18
    assert found(audit, "distance", "started an item")["tpr"]["0.01"]["hits"] >= 10


def averages(records: TensorSource, seed: int, noise: float = 0.0) -> Distilled:
    """A set of one mean per class, of pixels clipped to norm 12, with Gaussian noise on the sums."""
    x = records.raw(torch.arange(len(records))).flatten(1)
    x = x * (12 / x.norm(dim=1, keepdim=True)).clamp(max=1)
    k = len(records.classes)
    sums = torch.zeros(k, x.shape[1]).index_add_(0, records.labels, x)
    sums += 12 * noise * torch.randn(sums.shape, generator=generator(seed, "noise"))
    counts = torch.bincount(records.labels, minlength=k)[:, None]
    means = (sums / counts).reshape(k, *records.input.shape)
    source = replace(records, inputs=means, labels=torch.arange(k), groups=None, places=None, names=())
    return potstill.distill(Splits(train=source, test=None), "random", ipc=1, codec="float32", progress=None)


def test_class_averages_are_no_copies_and_are_traced(splits: Splits) -> None:
    few = Splits(train=splits.train.subset(torch.arange(200)), test=splits.test)
    audit = audit_privacy(averages(few.train, 0), few, **FAST)
    assert audit.values["nearest"]["exact"] + audit.values["nearest"]["near"] == 0
    assert "the set was made of other data" in audit.values["starts_unknown"]
    assert found(audit, "means", "all others")["ci95"][0] > 0.6
    assert "tracing by means of values" in audit.sentence
    near = found(audit, "distance", "nearest to an item")
    assert near["records"] <= 4
    assert near["held_out"] <= 4  # chosen alike
    assert near["tpr"] == {}
    assert near["p"] > 0.05  # one against one of a class shows nothing, whatever the AUC


def test_starts_come_from_the_run_itself(splits: Splits, matched: Distilled) -> None:
    starts = starting_records(matched, splits.train)
    assert isinstance(starts, torch.Tensor)
    assert torch.equal(splits.train.labels[starts], matched.hard_labels)
    chosen = potstill.distill(splits, "herding", ipc=2, progress=None)
    assert torch.equal(starting_records(chosen, splits.train), chosen.index)
    assert "was made of other data" in starting_records(matched, pictures(seed=5))
    chosen.metadata["source"] = {"name": "rows"}
    assert "do not say of which data" in starting_records(chosen, splits.train)


def test_a_table_is_audited_in_its_normalised_values(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=rng).numpy()
    splits = potstill.load_data((x, (x[:, 0] > 0).astype(int)), test_fraction=0.5)
    small = potstill.distill(splits, "random", ipc=5, progress=None)
    audit = audit_privacy(small, splits, students=1, learner=Learner(steps=10))
    assert audit.values["nearest"]["space"] == "normalised values"
    assert audit.values["nearest"]["exact"] == 10
    with pytest.raises(PotstillError, match="needs data with classes"):
        audit_privacy(small, potstill.load_data((x, x[:, 0]), task="regression"))


def test_soft_labels_name_the_class_of_the_record(splits: Splits) -> None:
    few = Splits(train=splits.train.subset(torch.arange(100)), test=splits.test)
    small = potstill.distill(few, "random-soft", ipc=3, network="convnet-w8-d1", progress=None)
    audit = audit_privacy(small, few, **FAST)
    leak = audit.values["soft_labels"]
    assert leak["items"] == 12
    assert leak["right"] > leak["items"] * leak["guess"]
    assert any(note.startswith("Soft labels name the class") for note in audit.notes)


def test_without_held_out_records_only_items_are_looked_at(splits: Splits, matched: Distilled) -> None:
    audit = audit_privacy(matched, Splits(train=splits.train, test=None), **FAST)
    assert audit.values["nearest"]["nearest_is_own_start"] == 20
    assert audit.values["nearest"]["nearer_than_held_out"] is None
    assert audit.values["membership"] == []
    assert "Without held-out records" in audit.sentence


def test_equal_seeds_give_equal_audits(splits: Splits, matched: Distilled) -> None:
    one, two = (audit_privacy(matched, splits, **FAST) for _ in range(2))
    assert one.to_json() | {"seconds": 0} == two.to_json() | {"seconds": 0}


def noise_for(epsilon: float, delta: float) -> float:
    """Noise of a sum of sensitivity 1, by the analytic Gaussian mechanism."""
    low, high = 0.1, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        a, b = 1 / (2 * middle), epsilon * middle
        low, high = (middle, high) if ndtr(a - b) - math.exp(epsilon) * ndtr(-a - b) > delta else (low, middle)
    return high


def test_noise_keeps_its_claim_and_planted_faults_do_not() -> None:
    data = Splits(train=pictures(600, 20, side=16), test=pictures(480, 20, seed=1, side=16))
    settings: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "canaries": 500, "attacks": ("distance", "means")}
    noisy = noise_for(1.0, 1e-5)
    kept = [audit_epsilon(lambda r, s: averages(r, s, noisy), data, seed=seed, **settings) for seed in range(2)]
    assert [bound.refutes for bound in kept] == [False] * 2
    noise_off = audit_epsilon(averages, data, **settings)
    assert noise_off.refutes
    assert noise_off.bound > 1


def test_real_samples_refute_any_small_claim() -> None:
    def real(records: TensorSource, seed: int) -> Distilled:
        return potstill.distill(Splits(train=records, test=None), "random", ipc=40, seed=seed, progress=None)

    data = Splits(train=pictures(600), test=None)
    samples = audit_epsilon(real, data, epsilon=1.0, canaries=500, attacks=("distance",))
    assert samples.bound > 1
    assert samples.best.attack == "distance"
    assert samples.best.correct == samples.best.guesses


def test_the_bound_is_the_binomial_tail_and_right_at_its_level() -> None:
    assert guess_p_value(100, 10, 10, 0.0, 0.0) == pytest.approx(2**-10)
    q = 1 / (1 + math.exp(-1.5))
    assert guess_p_value(100, 8, 7, 1.5, 0.0) == pytest.approx(8 * q**7 * (1 - q) + q**8)
    assert guess_p_value(100, 8, 7, 1.5, 1e-3) > guess_p_value(100, 8, 7, 1.5, 0.0)
    bound = least_epsilon(100, 10, 10, 0.0, 0.05)  # (1 + e^-ε)^-10 = 0.05
    assert bound == pytest.approx(-math.log(0.05**-0.1 - 1))
    assert least_epsilon(100, 10, 5, 0.0, 0.05) == 0
    rng = torch.Generator().manual_seed(0)
    wrong = 0
    for _ in range(100):  # randomised response of ε = 1 is the worst case of the theorem
        included = torch.rand(400, generator=rng) < 0.5
        answer = included ^ (torch.rand(400, generator=rng) > 1 / (1 + math.exp(-1)))
        values = {"any": torch.where(answer, 0.0, 1.0) + 1e-3 * torch.rand(400, generator=rng)}
        wrong += bound_epsilon(values, included, delta=0.0, level=0.95).bound > 1
    assert wrong <= 11


def test_shadow_runs_hold_each_canary_in_one_run_of_a_pair(splits: Splits) -> None:
    plan = ShadowPlan(train=splits.train, held_out=None, canaries=50, shadows=6, seed=1)
    assert torch.equal(plan.included[::2], ~plan.included[1::2])
    assert bool((plan.included.sum(0) == 3).all())
    for run in range(2):
        assert len(plan.records(run)) == len(splits.train) - 50 + int(plan.included[run].sum())
    assert bool((plan.canary_records.labels != splits.train.labels[plan.rows]).all())
    assert len(plan.reference) == 450


def test_likelihood_ratios_find_what_differs_and_nothing_where_nothing_does() -> None:
    rng = torch.Generator().manual_seed(0)
    first = torch.rand(8, 300, generator=rng) < 0.5
    included = torch.stack([first, ~first], 1).flatten(0, 1)
    noise = torch.randn(16, 300, generator=rng) + 3 * torch.randn(300, generator=rng)
    online, offline = lira_scores([{"x": row} for row in noise - 2 * included], included, (0.01,), 0)
    assert online.auc > 0.88
    assert offline.auc > 0.85
    assert online.rates[0.01][0] > 0.15
    for score in lira_scores([{"x": row} for row in noise], included, (0.01,), 0):
        assert score.ci95[0] < 0.5 < score.ci95[1]


def test_shadow_runs_find_canaries_that_are_copied_and_go_on_from_files(tmp_path: Path, splits: Splits) -> None:
    few = Splits(train=splits.train.subset(torch.arange(120)), test=splits.test)
    small = potstill.distill(few, "random", ipc=10, progress=None)
    runs: list[int] = []

    def make(records: TensorSource, seed: int) -> Distilled:
        runs.append(len(records))
        return maker_of(small)(records, seed)

    how: dict[str, Any] = {"shadows": 4, "canaries": 60, "make": make, "folder": tmp_path, "executor": "serial", **FAST}
    audit = audit_privacy(small, few, **how)
    assert len(runs) == 4
    assert audit_privacy(small, few, **how).values == audit.values
    assert len(runs) == 4
    lira = {(s["attack"], s["online"]): s for s in audit.values["lira"]}
    assert lira["distance", False]["ci95"][0] > 0.55
    assert any("no power" in note for note in audit.notes)
    with pytest.raises(PotstillError, match="was measured with other settings or data"):
        audit_privacy(small, few, **{**how, "seed": 3})


@pytest.mark.parametrize(
    "claim",
    [
        {"epsilon": math.nan, "delta": 0.0},
        {"epsilon": "1\x1b[2J"},
        {"epsilon": True},
        {"epsilon": 1, "delta": -1},
        [1],
        {},
    ],
)
def test_a_claim_of_a_stranger_that_is_no_number_is_none(splits: Splits, claim: Any) -> None:
    small = potstill.distill(splits, "random", ipc=5, progress=None)
    small.metadata["privacy"] = claim
    audit = audit_privacy(small, splits, **FAST)
    assert "No formal privacy is claimed." in audit.sentence
    json.dumps(audit.to_json(), allow_nan=False)


def test_a_claim_in_the_metadata_stands_beside_the_bound(splits: Splits) -> None:
    small = potstill.distill(splits, "random", ipc=40, progress=None)  # 160 of 500 records
    make = maker_of(small)
    small.metadata["privacy"] = {"epsilon": 1.0, "delta": 1e-5}
    audit = audit_privacy(small, splits, shadows=1, canaries=400, make=make, **FAST)
    assert audit.values["epsilon"]["claimed"] == 1.0
    assert audit.values["epsilon"]["refuted"]
    assert "The claim ε = 1 is refuted" in audit.sentence
    assert "was not tested" in audit_privacy(small, splits, **FAST).sentence
    with pytest.raises(PotstillError, match="spends its ε again"):
        audit_privacy(small, splits, shadows=1, canaries=50, **FAST)


def test_a_set_is_made_again_with_its_options_on_other_records(splits: Splits, matched: Distilled) -> None:
    again = maker_of(matched)(splits.train, 0)
    assert torch.equal(again.inputs, matched.inputs)
    other = maker_of(matched)(splits.train.subset(torch.arange(200)), 1)
    assert other.metadata["config"] == matched.metadata["config"]
    assert len(other) == len(matched)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"fpr": [0.0001]},
        r"a false-positive rate of 0.0001 needs at least 10,000 tested held-out records, but there are",
    ),
    ({"fpr": [0.0]}, "a false-positive rate must be between 0 and 1, not 0"),
    ({"students": 0}, "students must be at least 1, not 0"),
    ({"shadows": 3, "canaries": 50}, "shadow runs must be 1 .* or an even number of at least 4, not 3"),
    ({"shadows": 4, "canaries": 1}, "canaries must be from 2 to 499, less than the training records, not 1"),
    ({"shadows": 4, "canaries": 500}, "canaries must be from 2 to 499"),
    ({"shadows": 4, "canaries": 20, "fpr": [0.01]}, "needs at least 100 trials without the canary, but there are 40"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_bad_input_is_refused_in_one_line(
    splits: Splits, matched: Distilled, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        audit_privacy(matched, splits, **{**FAST, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "a claimed epsilon must be above 0, not 0"),
        ({"delta": 0.01}, "delta must be at least 0 and below 1/n = 0.0025, not 0.01"),
        ({"level": 1.0}, "the level of a bound must be between 0 and 1, not 1"),
        ({"canaries": 400}, "canaries must be from 2 to 399"),
    ],
)
def test_a_bad_claim_is_refused_before_anything_is_made(options: dict[str, Any], message: str) -> None:
    def never(records: TensorSource, seed: int) -> Distilled:
        raise AssertionError

    with pytest.raises(PotstillError, match=message):
        audit_epsilon(never, Splits(train=pictures(400), test=None), **options)


def test_other_data_are_refused(matched: Distilled) -> None:
    with pytest.raises(PotstillError, match="the set has 4 classes and the data 10"):
        audit_privacy(matched, "digits")


def test_sets_that_metadata_alone_do_not_repeat_are_named(splits: Splits, matched: Distilled) -> None:
    joined = potstill.concat([matched, matched]) if hasattr(potstill, "concat") else matched
    joined.metadata["parts"] = [1]
    with pytest.raises(PotstillError, match="was joined from others"):
        maker_of(joined)


def test_rates_and_intervals() -> None:
    low, high = torch.arange(10.0), torch.arange(10.0) + 5
    assert auc(low, high) == pytest.approx(1 - (15 - 2.5) / 100)
    assert hits_at_rate(low, high, 0.1) == 6  # one of ten may be below the threshold, 6
    with pytest.raises(ValueError, match="10 negatives cannot show"):
        hits_at_rate(low, high, 0.05)
    assert proportion_interval(0, 10) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))
    assert proportion_interval(10, 10)[0] == pytest.approx(0.025 ** (1 / 10))
    assert check_rates(None, 500, "", "") == (0.01,)


def test_tracing_is_at_chance_for_a_set_of_other_records(splits: Splits) -> None:
    small = averages(pictures(200, seed=9), 0)
    small.metadata["classes"] = list(splits.train.classes)
    sources = [splits.train, splits.test.subset(torch.arange(250))]
    values = tracing_values(small, sources, splits.test.subset(torch.arange(250, 500)), 0, networks=0)
    assert 0.44 < auc(values[0], values[1]) < 0.56
    assert set(Attacker(attacks=("means",)).values(small, sources, sources[1])) == {"means"}


def test_the_command_writes_the_audit_and_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    potstill.distill("digits", "random", ipc=2, codec="uint1", progress=None).save("small.safetensors")
    line = ["audit", "privacy", "small.safetensors", "--data", "digits", "--students", "1", "--updates", "5"]
    assert main([*line, "--out", "small.audit.json", "--quiet"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "of 20 lie nearest to the training record that they started from" in text
    part = json.loads(Path("small.audit.json").read_text())["parts"]["privacy"]
    assert part["settings"]["students"] == 1
    assert main([*line, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["values"]["nearest"]["items"] == 20
    assert main([*line, "--fpr", "0.0001", "--quiet"]) == 1
    assert "needs at least 10,000 tested held-out records" in capsys.readouterr().err
    assert main([*line, "--fpr", "few", "--quiet"]) == 2
    assert "--fpr: rates are numbers" in capsys.readouterr().err
    assert main([*line, "--shadows", "5", "--quiet"]) == 1
    assert "an even number of at least 4, not 5" in capsys.readouterr().err


def test_docstring_examples_print_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = doctest.testmod(importlib.import_module("potstill.audit.privacy.run"), extraglobs={"potstill": potstill})
    assert (names.attempted, names.failed) == (4, 0)


def test_the_command_reads_the_indices_of_a_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    potstill.distill("digits", "random", ipc=2, codec="float32", progress=None).save("all.safetensors")
    assert main(["export", "all.safetensors", "--to", "indices", "--out", "few.safetensors", "--quiet"]) == 0
    options = ["--data", "digits", "--students", "1", "--updates", "5", "--quiet", "--json"]
    found = []
    for file in ("all.safetensors", "few.safetensors"):
        capsys.readouterr()
        assert main(["audit", "privacy", file, *options]) == 0
        found.append(json.loads(capsys.readouterr().out)["values"])
    assert found[1]["nearest"]["exact"] == 20
    assert found[0] == found[1]
