"""Federated learning: partitions, messages in true bytes, averaged weights, ensembles, resuming, verdicts."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.functional.coreset import average_clusters
from potstill.rng import generator
from potstill.uses.continual import continual
from potstill.uses.federated import (
    Averages,
    Client,
    DistilledSets,
    Ensemble,
    FedAvg,
    Learner,
    NoMessages,
    RealSets,
    dirichlet_partition,
    federated,
    group_partition,
    parse_way,
    read_partition,
    size_partition,
    write_partition,
)
from potstill.uses.federated.audit import nearest_members
from potstill.uses.federated.models import send_weights, train_local
from potstill.uses.federated.summary import conclude
from potstill.uses.search import search

QUICK = Learner(network="convnet-w8-d1", steps=10, batch=32)


def pictures(classes: int = 4, per_class: int = 30, seed: int = 0, groups: int = 0) -> TensorSource:
    """Return pictures of 8 × 8 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(per_class)
    x = torch.randint(0, 80, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 150
    source = TensorSource.make(x, y.tolist(), classes=[f"c{c}" for c in range(classes)], name="rows")
    return replace(source, groups=torch.arange(len(y)) // per_class % groups) if groups else source


def clients(source: TensorSource, number: int = 2, budget: int = 400) -> list[Client]:
    parts = dirichlet_partition(source, number, float("inf"), 0).clients
    return [Client(source=source.subset(at), byte_budget=budget, seed=n) for n, at in enumerate(parts)]


def run(out: Path, **options: Any) -> dict[str, Any]:
    """Return a run of a second."""
    data = Splits(train=pictures(), test=pictures(per_class=10, seed=1))
    given = {
        "bytes": 800, "splits": 2, "clients": 3, "ways": ("averages", "real", "fedavg:2"), "learner": QUICK,
        "executor": "serial",
    }  # fmt: skip
    return federated(data, out=out, **{**given, **options})


# Partitions


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.sampled_from([0.02, 0.1, 0.5, 10.0, float("inf")]), st.integers(0, 99))
def test_a_partition_has_each_sample_once_and_no_client_is_empty(number: int, alpha: float, seed: int) -> None:
    source = pictures(classes=3, per_class=41)
    for draw in (dirichlet_partition, size_partition):
        made = draw(source, number, alpha, seed)
        assert torch.cat(made.clients).sort().values.tolist() == list(range(len(source)))
        assert min(map(len, made.clients)) >= min(10, len(source) // (2 * number))
        assert [p.tolist() for p in draw(source, number, alpha, seed).clients] == [p.tolist() for p in made.clients]


def test_a_small_alpha_skews_classes_and_an_infinite_one_does_not() -> None:
    source = pictures(classes=5, per_class=200)
    skewed = dirichlet_partition(source, 5, 0.05, 0).class_counts(source)
    even = dirichlet_partition(source, 5, float("inf"), 0).class_counts(source)
    assert int((skewed > 0).sum()) < 25
    assert even.tolist() == [[40] * 5] * 5


def test_sizes_are_skewed_and_classes_are_not() -> None:
    source = pictures(classes=2, per_class=500)
    made = size_partition(source, 5, 0.3, 1)
    assert max(map(len, made.clients)) > 3 * min(map(len, made.clients))
    counts = made.class_counts(source)[torch.tensor([len(c) > 200 for c in made.clients])]
    assert bool(((counts[:, 0] / counts.sum(1)).sub(0.5).abs() < 0.1).all())


def test_groups_stay_whole() -> None:
    source = pictures(groups=4)
    assert source.groups is not None
    made = group_partition(source, 3, 0)
    groups = [set(source.groups[at].tolist()) for at in made.clients]
    assert sorted(g for own in groups for g in own) == [0, 1, 2, 3]
    assert len(group_partition(source, 0, 0).clients) == 4


def test_a_partition_is_written_and_read_again(tmp_path: Path) -> None:
    source = pictures()
    made = dirichlet_partition(source, 3, 0.1, 0)
    write_partition(tmp_path / "p.json", made, source)
    assert [p.tolist() for p in read_partition(tmp_path / "p.json", source).clients] == [
        p.tolist() for p in made.clients
    ]
    with pytest.raises(PotstillError, match="divides other data than rows"):
        read_partition(tmp_path / "p.json", pictures(seed=5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[0, 1], []]", "client 1 has no samples; leave it out"),
        ("[[0, 1], [1, 2]]", "sample 1 stands twice; give it to one client"),
        ("[[0, 1], [999]]", "each with positions from 0 to 119"),
        ("[[0, 1]]", "a list of two clients or more"),
        ('[[0, 1], ["2"]]', "a list of two clients or more"),
        ("nonsense", "no partition can be read"),
    ],
)
def test_a_bad_partition_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(PotstillError, match=message) as error:
        read_partition(tmp_path / "p.json", pictures())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: dirichlet_partition(s, 1, 0.1, 0), "make 2 to 60 clients, not 1"),
        (lambda s: dirichlet_partition(s.subset(torch.arange(3)), 2, 0.1, 0), "has 3; give more data"),
        (lambda s: dirichlet_partition(s, 3, 0.0, 0), "alpha must be above 0, but is 0"),
        (lambda s: size_partition(s, 3, -1.0, 0), "alpha must be above 0, but is -1"),
        (lambda s: group_partition(s, 3, 0), "needs groups, but rows has none"),
        (lambda s: group_partition(replace(s, groups=s.labels), 9, 0), "4 groups make 2 to 4 clients, not 9"),
        (lambda s: group_partition(replace(s, groups=0 * s.labels), 0, 0), "needs two groups or more, but rows has"),
    ],
)
def test_a_bad_division_is_refused(call: Any, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        call(pictures())


# Messages


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9))
def test_no_average_has_fewer_samples_than_the_least(clusters: int, least: int, seed: int) -> None:
    rows = torch.randn(40, 3, generator=generator(seed, "rows"))
    rows[0] += 50  # an outlier that k-means would give a cluster of its own
    means, sizes = average_clusters(rows, clusters, least, generator(seed, "clusters"))
    assert int(sizes.min()) >= least
    assert int(sizes.sum()) == 40
    assert torch.allclose((means * sizes[:, None]).sum(0) / 40, rows.mean(0), atol=1e-4)


def test_averages_fit_their_bytes_and_are_no_samples() -> None:
    source = pictures()
    for budget in (400, 1500):
        for client in clients(source, budget=budget):
            sent = Averages(least=5, codec="uint8").message(client)
            assert sent is not None
            assert sent.bytes <= budget
            assert sent.least_members is not None
            assert sent.least_members >= 5
            real = client.source.fetch(torch.arange(len(client.source))).x.flatten(1)
            assert float(torch.cdist(sent.x.flatten(1), real).min()) > 0.1


def test_a_message_too_small_for_one_input_is_not_sent() -> None:
    client = clients(pictures(), budget=3)[0]
    for way in (RealSets(), Averages(), parse_way("dm+averages", steps=1, network="convnet-w8-d1")):
        assert way.message(client) is None  # type: ignore[union-attr]


def test_real_samples_fill_their_bytes() -> None:
    client = clients(pictures(per_class=100), budget=300)[0]
    sent = RealSets(codec="uint4").message(client)
    more = RealSets(codec="uint4").message(replace(client, byte_budget=600))
    assert sent is not None
    assert more is not None
    assert 250 < sent.bytes <= 300
    assert len(more.x) > 1.5 * len(sent.x)
    assert sent.least_members == 1


def test_a_client_distils_its_own_classes_from_averages_of_them() -> None:
    source = pictures(per_class=60)
    of_two = source.subset((source.labels % 2 == 1).nonzero().flatten())
    client = Client(source=of_two, byte_budget=600, seed=0)
    way = DistilledSets(
        name="dm", method="dm", start=Averages(least=2), codec="uint4", network="convnet-w8-d1", steps=0,
        options={"iterations": 1},
    )  # fmt: skip
    sent = way.message(client)
    assert sent is not None
    assert set(sent.y.tolist()) == {1, 3}
    assert sent.bytes <= 600
    assert sent.least_members is not None
    assert sent.least_members >= 2
    counts = torch.bincount(sent.y)
    starts = Averages(least=2).of_counts(client, {1: int(counts[1]), 3: int(counts[3])})
    x = starts[0].fetch(torch.arange(len(starts[0]))).x.flatten(1)
    gaps = torch.cdist(sent.x.flatten(1), x).amin(1) / x.shape[1] ** 0.5
    near = gaps < 0.35  # half a step of four bits in model space, and rounding to 8 bits before
    assert float(near.double().mean()) >= 0.7  # of a class whose clusters were too small, the rest is noise


def test_a_class_with_too_few_samples_is_not_distilled() -> None:
    source = pictures(classes=2)
    at = torch.cat([(source.labels == 0).nonzero().flatten(), (source.labels == 1).nonzero().flatten()[:3]])
    client = Client(source=source.subset(at), byte_budget=500, seed=0)
    sent = DistilledSets(name="dm", method="dm", network="convnet-w8-d1", steps=1).message(client)
    assert sent is not None
    assert set(sent.y.tolist()) == {0}


def test_the_nearest_sample_of_a_copy_is_a_members_and_that_of_noise_is_at_chance() -> None:
    source, other = pictures(per_class=200), pictures(per_class=200, seed=9)
    few = clients(source, budget=10**6)
    copies = [RealSets(codec="exact").message(c) for c in few]
    nearest, compared = nearest_members(few, copies, other, 0)
    assert nearest > 0.95 * compared
    assert compared == len(source)
    noise = [
        replace(m, x=torch.randn_like(m.x, memory_format=torch.contiguous_format)) for m in copies if m is not None
    ]
    nearest, compared = nearest_members(few, noise, other, 0)
    assert 0.35 < nearest / compared < 0.65


# Models


def test_weights_are_decoded_within_a_step_and_charged_as_coded() -> None:
    server = {"w": torch.zeros(6, 5), "n": torch.tensor(3)}
    weights = {"w": torch.linspace(-1, 1, 30).reshape(6, 5), "n": torch.tensor(9)}
    sent, size = send_weights(weights, server, "uint8")
    assert float((sent["w"] - weights["w"]).abs().max()) <= 2 / 255
    assert int(sent["n"]) == 3
    assert 30 <= size <= 60
    assert send_weights(weights, server, "uint2")[1] < size


def test_one_client_of_all_data_is_plain_training() -> None:
    """Federated averaging of one client in one round, sent exactly, is training on its samples."""
    source = pictures()
    client = Client(source=source, byte_budget=0, seed=0)
    way = FedAvg(rounds=1, epochs=2, codec="exact")
    answer = way.answer([client], ["convnet-w8-d1"], QUICK, source, 5)
    from potstill.evaluation.augmentation import student_augmentation
    from potstill.rng import derive_seed
    from potstill.uses.federated.models import predict_probabilities

    make = QUICK.factory(source, 4)
    recipe = QUICK.protocol(source, make.name)
    network = make(derive_seed(5, "network"))
    train_local(
        network, source, recipe, student_augmentation(recipe.recipe.augment, source), way.lr, 8,
        derive_seed(5, "client", 0, "round", 0),
    )  # fmt: skip
    assert torch.allclose(answer.probabilities[0], predict_probabilities(network, source), atol=1e-5)
    assert answer.down == 0


def test_rounds_cost_bytes_up_and_down() -> None:
    source = pictures()
    few = clients(source, 3)
    one, three = (
        FedAvg(rounds=n).answer(few, ["convnet-w8-d1"] * 3, QUICK, source, 0) for n in (1, 3)
    )  # fmt: skip
    weights = sum(p.numel() for p in QUICK.factory(source, 4)(0).parameters())
    assert 0.5 * weights < one.up / 3 < 1.2 * weights  # a byte each, entropy-coded
    assert 2.5 * one.up < three.up < 3.5 * one.up
    assert 1.5 * one.up < three.down < 2.5 * one.up


def test_a_proximal_term_holds_weights_near_the_servers() -> None:
    source = pictures()
    gaps = []
    for mu in (0.0, 10.0):
        make = QUICK.factory(source, 4)
        network, first = make(0), make(0)
        recipe = QUICK.protocol(source, make.name)
        from potstill.evaluation.augmentation import student_augmentation

        augment = student_augmentation(recipe.recipe.augment, source)
        train_local(network, source, recipe, augment, 0.01, 20, 0, proximal=mu)
        pairs = zip(network.state_dict().values(), first.state_dict().values(), strict=True)
        gaps.append(sum(float((p - q).square().sum()) for p, q in pairs))
    assert gaps[1] < 0.5 * gaps[0]


def test_different_networks_make_an_ensemble_but_no_average() -> None:
    source = pictures(per_class=60)
    few = clients(source)
    networks = ["convnet-w8-d1", "mlp-w16"]
    with pytest.raises(PotstillError, match="clients need the same network, but they have convnet-w8-d1, mlp-w16"):
        FedAvg().answer(few, networks, QUICK, source, 0)
    answer = Ensemble().answer(few, networks, replace(QUICK, steps=60), source, 0)
    assert answer.up > 0
    assert float((answer.probabilities[0].argmax(1) == source.labels).double().mean()) > 0.6


def test_a_model_that_knows_a_class_alone_decides_it() -> None:
    """Weights by numbers of samples: a client without a class has no say in its probability."""
    source = pictures(classes=2, per_class=60)
    own = [
        Client(source=source.subset((source.labels == c).nonzero().flatten()), byte_budget=0, seed=c) for c in (0, 1)
    ]
    made = [Ensemble(weighted=w).answer(own, ["mlp-w16"] * 2, QUICK, source, 0).probabilities[0] for w in (True, False)]
    alone = NoMessages().answer(own, ["mlp-w16"] * 2, QUICK, source, 0).probabilities
    expected = torch.stack([alone[0][:, 0], alone[1][:, 1]], 1)
    assert torch.allclose(made[0], expected, atol=0.02)
    assert not torch.allclose(made[1], expected, atol=0.1)


# Names


def test_ways_are_read_by_name() -> None:
    assert parse_way("fedavg:20:3") == FedAvg(name="fedavg:20:3", rounds=20, epochs=3)
    assert parse_way("real@uint1") == RealSets(name="real@uint1", codec="uint1")
    way = parse_way("dm+averages", codec="uint2", steps=7)
    assert isinstance(way, DistilledSets)
    assert (way.method, way.start, way.codec, way.steps) == ("dm", Averages(), "uint2", 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("avrages", "no way 'avrages'; did you mean averages"),
        ("dm+noise", "no way 'dm\\+noise'"),
        ("herding", "method herding sends real samples; take real"),
        ("fedavg:0", "write fedavg:ROUNDS or fedavg:ROUNDS:EPOCHS"),
        ("real:3", "write fedavg:ROUNDS"),
        ("alone@uint8", "nothing is sent, so it has no codec"),
        ("real@zip", "zip"),
    ],
)
def test_an_unknown_way_is_refused(text: str, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        parse_way(text)


# Runs


def test_a_run_writes_partitions_cells_result_and_page(tmp_path: Path) -> None:
    result = run(tmp_path / "f")
    assert [(r["way"], r["n"]) for r in result["rows"]] == [("averages", 2), ("real", 2), ("fedavg:2", 2)]
    best = next(r for r in result["rows"] if r["way"] == "averages")
    assert best["up"] <= 800
    assert "difference" not in best
    assert json.loads((tmp_path / "f/federated.json").read_text())["rows"] == result["rows"]
    assert len(list((tmp_path / "f/partitions").glob("*.json"))) == 2
    page = (tmp_path / "f/federated.html").read_text()
    assert "no proof of privacy" in page
    assert "<svg" in page


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "a")
    run(tmp_path / "b", splits=1)
    cell = next((tmp_path / "b/cells").glob("*real*"))
    cell.unlink()
    again = run(tmp_path / "b")

    def timeless(result: dict[str, Any]) -> list[dict[str, Any]]:
        return [{k: v for k, v in c.items() if k != "seconds"} for c in result["cells"]]

    assert timeless(again) == timeless(whole)
    with pytest.raises(PotstillError, match="was measured with other settings or data"):
        run(tmp_path / "b", learner=replace(QUICK, lr=0.5))


def test_a_given_partition_is_used(tmp_path: Path) -> None:
    source = pictures()
    made = dirichlet_partition(source, 4, 0.1, 7)
    write_partition(tmp_path / "mine.json", made, source)
    result = run(tmp_path / "f", partition=tmp_path / "mine.json", ways=("averages",))
    assert result["partitions"] == ["mine"]
    assert result["splits"] == 1
    assert result["clients"]["mine"][0] == made.class_counts(source).tolist()


def test_networks_of_several_kinds_learn_from_sets(tmp_path: Path) -> None:
    result = run(tmp_path / "f", networks=["convnet-w8-d1", "mlp-w16"], ways=("averages", "fedavg:1", "alone"))
    cells = {c["way"]: c for c in result["cells"]}
    assert set(cells["averages"]["by_network"]) == {"convnet-w8-d1", "mlp-w16"}
    assert "clients need the same network" in cells["fedavg:1"]["reason"]
    assert "clients need the same network" in (tmp_path / "f/federated.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": ()}, "needs one way at least"),
        ({"ways": ("real", "real")}, "way 'real' is given twice"),
        ({"splits": 0}, "needs one partition at least, not 0"),
        ({"alpha": [0.1, 0.1]}, "alpha must be one or more different numbers above 0"),
        ({"alpha": 0.0}, "alpha must be one or more different numbers above 0"),
        ({"bytes": "0kB"}, "bytes must be one or more different numbers of at least 1"),
        ({"bytes": 20, "ways": ("real",)}, "way real sends nothing: no client has the samples or the bytes"),
        ({"partition": "random"}, "a partition is dirichlet, sizes, groups, or a file"),
        ({"partition": "groups"}, "needs groups, but rows has none"),
        ({"networks": ["resnet-of-mine"]}, "resnet-of-mine"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        run(tmp_path / "f", **options)
    assert "\n" not in str(error.value)


def test_a_foreign_page_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "federated.html").write_text("my notes")
    with pytest.raises(PotstillError, match=r"federated\.html"):
        run(tmp_path)
    assert (tmp_path / "federated.html").read_text() == "my notes"


def test_names_from_the_data_are_escaped_on_the_page(tmp_path: Path) -> None:
    def named(source: TensorSource) -> TensorSource:
        return replace(source, classes=("<script>alert(1)</script>", *source.classes[1:]))

    data = Splits(train=named(pictures()), test=named(pictures(per_class=10, seed=1)))
    federated(
        data, out=tmp_path / "f", ways=("averages",), bytes=800, splits=1, clients=2, learner=QUICK, executor="serial"
    )
    assert "<script>alert" not in (tmp_path / "f/federated.html").read_text()


def test_the_command_prints_a_table_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "f")
    words = [
        "use", "federated", "digits", "--out", out, "--ways", "averages,alone", "--splits", "1", "--clients", "3",
        "--bytes", "2kB", "--updates", "5", "--networks", "convnet-w8-d1", "--alpha", "0.5,inf",
    ]  # fmt: skip
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "alpha 0.5, 2,000 bytes up (one partition, so no intervals): averages reaches" in shown
    assert "alpha inf" in shown
    assert main([*words, "--lr", "9"]) == 1
    assert "was measured with other settings" in capsys.readouterr().err
    assert main([*words[:-1], "0"]) == 2


def test_a_verdict_says_what_intervals_say() -> None:
    def cells(way: str, size: int | None, values: list[float], up: int) -> list[dict[str, Any]]:
        return [
            {"way": way, "partition": "alpha 0.1", "number": n, "bytes": size, "accuracy": v, "up": up, "down": 0,
             "items": 9, "silent": 0, "least_members": 5, "nearest": 5, "compared": 10, "seconds": 1.0}
            for n, v in enumerate(values)
        ]  # fmt: skip

    result = {
        "partitions": ["alpha 0.1"], "bytes": [100],
        "ways": [
            {"name": "averages", "sends": "averages"}, {"name": "real", "sends": "real samples"},
            {"name": "fedavg:1", "sends": "models"}, {"name": "fedavg:20", "sends": "models"},
        ],
        "cells": [
            *cells("averages", 100, [0.70, 0.71, 0.72], 100), *cells("real", 100, [0.69, 0.73, 0.71], 90),
            *cells("fedavg:1", None, [0.50, 0.52, 0.51], 4000), *cells("fedavg:20", None, [0.80, 0.81, 0.83], 80000),
        ],
    }  # fmt: skip
    verdict = conclude(result)["verdicts"][0]
    assert verdict["kind"] == "mixed"
    assert verdict["text"] == (
        "alpha 0.1, 100 bytes up: averages reaches 71.0 %; models have less with fedavg:1 (51.0 %, 4 kB up and down); "
        "models have more with fedavg:20 (81.3 %, 80 kB up and down); real samples, where they may be sent, are not "
        "told apart (real: 71.0 %)."
    )


def test_the_same_seed_gives_the_same_messages() -> None:
    client = clients(pictures(per_class=100), budget=600)[0]
    for way in (Averages(), RealSets(), parse_way("dm", steps=2, network="convnet-w8-d1")):
        digests = [hashlib.sha256(way.message(client).x.numpy().tobytes()).hexdigest() for _ in range(2)]  # type: ignore[union-attr]
        assert digests[0] == digests[1]


def test_rows_of_a_table_are_sent_too(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(40)
    rows = torch.randn(120, 4, generator=rng) + 3 * torch.nn.functional.one_hot(y, 4)
    parts = [TensorSource.make(rows[n::2], y[n::2].tolist(), name="t") for n in (0, 1)]
    data = Splits(train=parts[0], test=parts[1])
    result = federated(
        data, out=tmp_path / "f", ways=(Averages(codec="uint8", least=3), "alone"), bytes=600, splits=1, clients=3,
        learner=Learner(steps=60), executor="serial",
    )  # fmt: skip
    assert result["rows"][0]["accuracy"]["mean"] > 0.8


def test_data_without_classes_are_refused_by_the_words_of_the_use(tmp_path: Path) -> None:
    rng = generator(0, "numbers")
    numbers = potstill.load_data((torch.randn(40, 3, generator=rng), torch.randn(40, generator=rng)), task="regression")
    with pytest.raises(PotstillError, match=r"a partition needs data with two classes or more, but .* has 0"):
        federated(numbers, out=tmp_path / "out")
    with pytest.raises(PotstillError, match=r"a stream needs data with two classes or more, but .* has 0"):
        continual(numbers, out=tmp_path / "out")
    with pytest.raises(PotstillError, match=r"but .* has task regression and table inputs; give others"):
        search(numbers, ["mlp-w4", "mlp-w8"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
