"""Poisoning of a set: planted triggers and wrong labels, detectors by hand, and what cannot be looked at."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor

import potstill
from potstill.audit.poisoning import audit_poisoning
from potstill.audit.poisoning.detectors import (
    LEAST,
    anomaly_index,
    disagreement,
    foreign_neighbours,
    mean_by_class,
    ridge_harm,
    silhouettes,
    spectral_scores,
    spectral_shares,
    two_means,
)
from potstill.audit.poisoning.inversion import invert_triggers
from potstill.audit.poisoning.summary import THRESHOLDS, detection
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.testing import poison_source, stamp

QUICK: dict[str, Any] = {
    "students": 2, "steps": 100, "trusted_steps": 200, "inversion_steps": 150, "network": "mlp-w32", "progress": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> tuple[TensorSource, TensorSource]:
    """Real pictures and trusted ones."""
    source = potstill.load_data("digits").train
    assert isinstance(source, TensorSource)
    order = torch.randperm(len(source), generator=generator(0, "halves"))
    return source.subset(order[:1000]), source.subset(order[1000:])


def of_trusted(source: TensorSource) -> Splits:
    return Splits(train=source, test=None)


def test_a_planted_trigger_is_found_with_its_class_and_items_and_a_clean_set_is_not_flagged_by_them(
    digits: tuple[TensorSource, TensorSource],
) -> None:
    real, trusted = digits
    poisoned = poison_source(real, rate=0.1, target=4, side=2, seed=1)
    sets = {
        name: potstill.distill(Splits(train=source, test=None), "random", ipc=10, seed=2, progress=None)
        for name, source in (("clean", real), ("poisoned", poisoned))
    }
    audits = {name: audit_poisoning(small, of_trusted(trusted), **QUICK) for name, small in sets.items()}
    found = audits["poisoned"].values
    assert found["flagged"]
    index = sets["poisoned"].index
    assert index is not None
    stamped = set(torch.where((poisoned.labels != real.labels)[index])[0].tolist())
    assert stamped
    for name in ("agreement", "neighbours"):
        one, clean = found["detectors"][name], audits["clean"].values["detectors"][name]
        assert one["score"] > one["threshold"] == THRESHOLDS[name] > clean["score"]
        assert one["class"] == "4"
        assert len(stamped & set(one["items"])) >= 0.6 * len(stamped)
    assert "4" in found["classes"]
    assert audits["poisoned"].sentence.count("class 4") >= 2
    assert "Clean sets are flagged, too" in audits["poisoned"].sentence
    assert set(found["items"]) <= set(range(100))
    again = audit_poisoning(sets["poisoned"], of_trusted(trusted), **QUICK)
    assert again.to_json() | {"seconds": 0} == audits["poisoned"].to_json() | {"seconds": 0}
    json.dumps(again.to_json(), allow_nan=False)


def test_inversion_finds_the_trigger_of_a_network_that_has_one() -> None:
    """Four classes by the quarter that is bright; class 2 also by a pixel in the corner."""
    weight = torch.zeros(4, 8, 8)
    for c, (a, b) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        weight[c, a : a + 4, b : b + 4] = 1.0
    weight[:, 7, 7] = torch.tensor([0.0, 0.0, 30.0, 0.0])

    def forward(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.flatten(1).T

    labels = torch.arange(4).repeat(20)
    x = 0.1 * torch.rand(80, 1, 8, 8, generator=generator(0, "x"))
    for c, (a, b) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        x[labels == c, :, a : a + 4, b : b + 4] += 0.8
    x[:, :, 7, 7] = 0.0
    assert torch.equal(forward(x).argmax(1), labels)
    found = invert_triggers(forward, x, 4, steps=300, rng=generator(0, "inversion"))
    assert float(found.success.min()) > 0.95
    assert int(found.size.argmin()) == 2
    assert float(found.size[2]) < 0.5 * float(found.size[[0, 1, 3]].min())
    assert int(found.mask[2].argmax()) == 63
    stamped = x * (1 - found.mask[2]) + found.mask[2] * found.pattern[2]
    assert float((forward(stamped).argmax(1) == 2).double().mean()) == pytest.approx(float(found.success[2]))
    assert anomaly_index(found.size).argmax() == 2


def test_thresholds_are_the_largest_scores_of_the_clean_sets_that_are_stored() -> None:
    path = Path(__file__).resolve().parents[2] / "results" / "trust" / "poisoning-thresholds.json"
    held = json.loads(path.read_text())
    assert {name: math.ceil(100 * one) / 100 for name, one in held["largest"].items()} == THRESHOLDS
    assert (held["n"], held["above 2"]) == (36, 11)  # numbers of a docstring


def test_the_anomaly_index_is_that_of_the_median_absolute_deviation() -> None:
    sizes = torch.tensor([10.0, 12.0, 11.0, 9.0, 2.0])
    # median 10, deviations 0, 2, 1, 1, 8: their median is 1
    assert anomaly_index(sizes).tolist() == pytest.approx([0, 0, 0, 1 / 1.4826, 8 / 1.4826])
    assert anomaly_index(torch.full((5,), 3.0)).tolist() == [0] * 5
    assert detection("inversion", [10.0, 12.0, 11.0, 9.0, 2.0], lambda c: [c]).items == [4]
    assert detection("spectral", [0.2, None, 0.5, 0.3], lambda c: []).score == pytest.approx(0.2)
    assert detection("spectral", [0.2, None, 0.5, 0.3], lambda c: []).worst == 2


def test_spectral_scores_are_squared_projections_on_the_first_direction() -> None:
    features = torch.randn(12, 5, generator=generator(0, "features"), dtype=torch.float64)
    features[:2] += 20.0
    scores, share = spectral_scores(features)
    centred = (features - features.mean(0)).numpy()
    values, vectors = np.linalg.eigh(centred.T @ centred)
    assert scores.tolist() == pytest.approx(((centred @ vectors[:, -1]) ** 2).tolist())
    assert share == pytest.approx(values[-1] / values.sum())
    assert set(scores.topk(2).indices.tolist()) == {0, 1}
    assert spectral_scores(torch.ones(6, 3))[1] == 0
    labels = torch.tensor([0] * 8 + [1] * 4)
    shares = spectral_shares(features, labels, 3)
    assert shares[0] == pytest.approx(spectral_scores(features[:8])[1])
    assert shares[1:] == [None, None]
    assert LEAST == 5


def test_clusters_and_their_silhouette_are_those_of_scikit_learn() -> None:
    for seed in range(5):
        x = torch.randn(20, 4, generator=generator(seed, "clusters"), dtype=torch.float64)
        x[:6] += 4.0
        member = two_means(x)
        assert set(torch.where(member)[0].tolist()) == set(range(6))
        theirs = KMeans(2, n_init=10, random_state=0).fit_predict(x.numpy())
        labels = torch.cat([torch.zeros(20), torch.ones(3)]).long()
        scores, small = silhouettes(torch.cat([x, x[:3]]), labels, 2)
        assert scores[0] == pytest.approx(silhouette_score(x.numpy(), theirs))
        assert scores[1] is None
        assert small[0].tolist() == list(range(6))
    assert silhouettes(torch.ones(6, 3), torch.zeros(6, dtype=torch.int64), 1)[0] == [0.0]
    alone = torch.zeros(6, 2, dtype=torch.float64)
    alone[:, 0] = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 50.0])
    assert torch.where(two_means(alone))[0].tolist() == [5]


def test_influence_is_that_of_fits_without_each_item() -> None:
    rng = torch.Generator().manual_seed(0)
    x, tested = (torch.randn(n, 4, generator=rng, dtype=torch.float64) for n in (9, 6))
    labels, wanted = torch.arange(9) % 3, torch.arange(6) % 3
    rows, rows_tested = (torch.cat([one, torch.ones(len(one), 1)], 1) for one in (x, tested))
    ridge = 0.1 * float(rows.square().sum(1).mean())

    def error(kept: torch.Tensor) -> float:
        a, y = rows[kept], torch.eye(3, dtype=torch.float64)[labels[kept]]
        weight = torch.linalg.solve(a.T @ a + ridge * torch.eye(5, dtype=torch.float64), a.T @ y)
        return float((rows_tested @ weight - torch.eye(3)[wanted]).square().sum())

    every = torch.arange(9)
    whole = error(every)
    expected = [9 * (whole - error(every[every != i])) / whole for i in range(9)]
    assert ridge_harm(x, labels, tested, wanted, 3).tolist() == pytest.approx(expected, rel=1e-9)


def test_an_item_of_another_class_harms_most() -> None:
    rng = torch.Generator().manual_seed(0)
    labels, wanted = torch.arange(40) % 4, torch.arange(80) % 4
    x, tested = (torch.eye(4)[y] + 0.2 * torch.randn(len(y), 4, generator=rng) for y in (labels, wanted))
    swapped = labels.clone()
    swapped[7] = (swapped[7] + 1) % 4
    harm = ridge_harm(x, swapped, tested, wanted, 4)
    assert int(harm.argmax()) == 7
    assert float(harm[7]) > 2 * float(harm[torch.arange(40) != 7].max())


def test_disagreement_and_neighbours_by_hand() -> None:
    logits = [torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])]
    wrong, answers = disagreement(logits, torch.tensor([0, 1]))
    one = 1 / (1 + np.exp(2.0))
    assert wrong.tolist() == pytest.approx([0.5, 1 - (one + 0.5) / 2])
    assert answers.tolist() == [0, 0]
    trusted = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    foreign = foreign_neighbours(torch.tensor([[0.5], [9.0]]), torch.tensor([0, 1]), trusted,
                                 torch.tensor([0, 0, 1, 1]), 3)  # fmt: skip
    assert foreign.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert mean_by_class(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3) == [2.0, None, 5.0]


def test_the_fixture_stamps_and_relabels_a_share_of_other_classes(digits: tuple[TensorSource, TensorSource]) -> None:
    real, _ = digits
    x = torch.full((2, 1, 5, 4), 0.25)
    assert stamp(x, 2).sum().item() == pytest.approx(2 * (16 * 0.25 + 4))
    assert stamp(x, 2)[:, :, 3:, 2:].eq(1).all()
    assert x.eq(0.25).all()
    made = poison_source(real, rate=0.05, target=7, side=2, seed=3)
    changed = torch.where(made.labels != real.labels)[0]
    assert len(changed) == 50
    assert made.labels[changed].eq(7).all()
    before, after = real.raw(torch.arange(len(real))), made.raw(torch.arange(len(real)))
    assert isinstance(before, Tensor)
    rest = torch.ones(len(real), dtype=torch.bool)
    rest[changed] = False
    assert torch.equal(after[rest], before[rest])
    assert torch.equal(after[changed], stamp(before[changed], 2))
    assert torch.equal(made.labels, poison_source(real, rate=0.05, target=7, side=2, seed=3).labels)
    assert not torch.equal(made.labels, poison_source(real, rate=0.05, target=7, side=2, seed=4).labels)
    for options, words in (
        ({"rate": 0.0, "target": 1}, "a share of 1,000 pictures that makes 1 to"),
        ({"rate": 0.95, "target": 1}, "not 0.95; change the rate"),
        ({"rate": 0.1, "target": 10}, "the target is 10"),
        ({"rate": 0.1, "target": 1, "side": 9}, "a trigger of 1 to 8 pixels"),
    ):
        with pytest.raises(PotstillError, match=words):
            poison_source(real, **options)  # type: ignore[arg-type]


def halves(per_class: int, classes: int = 2, name: str = "halves") -> TensorSource:
    y = torch.arange(classes).repeat(per_class)
    x = 0.2 * torch.rand(len(y), 1, 4, 4, generator=generator(0, "halves", classes))
    for c in range(classes):
        x[y == c, :, c % 4] += 0.6
    return TensorSource.make(x, [str(c) for c in y.tolist()], name=name)


def test_detectors_that_cannot_say_anything_are_left_out_with_a_note() -> None:
    data = halves(30)
    small = potstill.distill(of_trusted(data), "random", ipc=2, progress=None)
    audit = audit_poisoning(small, **QUICK)
    assert audit.values["detectors"] == {}
    assert audit.sentence == "Nothing was looked at: no detector can say anything of this set."
    assert audit.values["skipped"] == {
        "spectral": "needs 5 items in at least two classes", "clustering": "needs 5 items in at least two classes",
        "inversion": "needs 4 classes, whose masks are compared",
        "agreement": "needs trusted data, which were not given",
        "neighbours": "needs trusted data, which were not given",
        "influence": "needs trusted data, which were not given",
    }  # fmt: skip
    assert "Left out: trigger inversion, which needs 4 classes, whose masks are compared." in audit.notes
    more = audit_poisoning(small, of_trusted(data), **QUICK)
    assert sorted(more.values["detectors"]) == ["agreement", "neighbours"]
    assert more.values["skipped"]["influence"] == "needs 5 items in at least two classes"
    assert not more.values["flagged"]
    assert more.sentence.startswith("All 2 detectors are below their threshold")
    assert any("This set is a selection of real samples" in note for note in more.notes)


def test_what_cannot_be_looked_at_is_refused_in_one_line() -> None:
    data = halves(30)
    small = potstill.distill(of_trusted(data), "random", ipc=2, progress=None)
    rows = TensorSource.make(torch.randn(40, 3), (torch.arange(40) % 2).tolist(), name="rows")
    of_rows = potstill.distill(of_trusted(rows), "random", ipc=2, progress=None)
    one = potstill.distill(of_trusted(halves(30, classes=1)), "random", ipc=2, progress=None)
    swapped = replace(data, classes=("1", "0"))
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (small, None, {"students": 0}, "needs `students=` of at least 1, not 0"),
        (small, None, {"inversion_steps": 0}, "needs `inversion_steps=` of at least 1, not 0"),
        (of_rows, None, {}, "is of pictures in classes, but this set holds table; give a set of pictures"),
        (one, None, {}, "items of at least two classes are required, but this set has them of 1"),
        (small, "digits", {}, "trusted data need the set's shape, 1×4×4, but digits has 1×8×8; read them with `size=`"),
        (small, of_trusted(rows), {}, "but rows has 3"),
        (small, of_trusted(halves(9, 3)), {}, "the set's 2 classes in its order, but in halves they are 3"),
        (small, of_trusted(swapped), {}, "but in halves they are in another order"),
        (small, of_trusted(replace(data, inputs=2 * data.inputs)), {}, r"triggers are pixels in \[0, 1\], but those"),
        (small, None, {"lr": 1e30}, "2 of 2 students of the set diverged; lower `lr=`"),
    ]
    for given, trusted, options, words in cases:
        with pytest.raises(PotstillError, match=words) as caught:
            audit_poisoning(given, trusted, **QUICK | options)
        assert "\n" not in str(caught.value)


def test_the_command_writes_a_part_that_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, said = tmp_path / "s.safetensors", tmp_path / "s.audit.json"
    potstill.distill("digits", "random", ipc=5, progress=None).save(out)
    line = ["audit", "poisoning", str(out), "--students", "1", "--steps", "10", "--quiet", "--network", "mlp-w8"]
    quick = ["--trusted-steps", "20", "--inversion-steps", "10"]
    capsys.readouterr()
    assert main([*line, *quick, "--data", "digits", "--out", str(said)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "trigger inversion" in text
    assert "nearest trusted samples" in text
    part = json.loads(said.read_text())["parts"]["poisoning"]
    assert sorted(part["values"]["detectors"]) == [
        "agreement", "clustering", "influence", "inversion", "neighbours", "spectral",
    ]  # fmt: skip
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "most suspicious class" in (tmp_path / "page.html").read_text()
    capsys.readouterr()
    assert main([*line, "--data", "mnist-5k"]) == 1
    err = capsys.readouterr().err
    assert "trusted data need the set's shape, 1×8×8, but mnist-5k has 1×28×28" in err
    assert err.count("\n") == 1
