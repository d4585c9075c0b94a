"""Each part held against Potstill's contract, and against a number that a person can work out."""

import math
from pathlib import Path

import pytest
import torch
from potstill_counts.captioned import Captioned
from potstill_counts.graph import GraphNet, graph_source
from potstill_counts.method import KennardStone
from potstill_counts.network import Rates
from potstill_counts.node_values import NodeValues, with_node_values
from potstill_counts.pool import Mixtures, NearestRow
from potstill_counts.reader import read_counts
from potstill_counts.task import Counts

import potstill
from potstill.data import TensorSource
from potstill.data.read_options import ReadOptions
from potstill.errors import PotstillError
from potstill.nn import factory, parse_network
from potstill.tasks import list_targets, pad_targets
from potstill.testing import check_method, check_network, check_parametrization, check_source, check_task, toy_source
from potstill.testing.toy import pairs_source

ROWS = [f"{a / 7:.3f},{b / 3:.3f},{(a + 2 * b) % 9}" for a in range(8) for b in range(5)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "visits.csv").write_text("\n".join(["age,wait,visits", *ROWS]) + "\n")
    return tmp_path / "visits.csv"


def test_the_task() -> None:
    y = torch.arange(24.0).remainder(7)[:, None]
    check_task(Counts(), y)
    # y = 2, rate 1: 2 (2 log 2 − 1); y = 0, rate 1: 2
    assert Counts().score(torch.ones(2, 1), torch.tensor([[2.0], [0.0]])) == pytest.approx(2 * math.log(2))
    assert Counts(mean=3.0).predict(torch.zeros(1, 1)).item() == pytest.approx(3)


def test_the_source(file: Path) -> None:
    splits = read_counts(Counts(), file, ReadOptions(label="visits"))
    check_source(splits.train)
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (32, 8)
    assert splits.train.task.mean == pytest.approx(float(splits.train.targets.mean()))
    with pytest.raises(PotstillError, match="name the column of counts"):
        read_counts(Counts(), file, ReadOptions(label="visit"))
    file.write_text("age,visits\n1,0.5\n")
    with pytest.raises(PotstillError, match="whole numbers of at least 0"):
        read_counts(Counts(), file, ReadOptions(label="visits"))


def test_the_network() -> None:
    spec = toy_source("table").input
    check_network(factory(parse_network(Rates), spec, 1), spec.shape, 1)


def test_the_network_of_pictures_and_texts() -> None:
    source = pairs_source()
    make = factory(parse_network(Captioned), source.input, source.task.outputs)
    check_network(make, source.input, source.task.outputs)
    data = potstill.Splits(train=source, test=source)
    small = potstill.distill(data, "random", items=8, progress=None)
    score = potstill.evaluate(
        small, data, networks=["captioned"], protocol="dc", epochs=3, seeds=2, baselines=False, full=False
    )
    assert "potstill_counts.captioned:Captioned" in score.to_dict()["network"]


def test_the_method(file: Path) -> None:
    check_method(KennardStone())
    source = read_counts(Counts(), file, ReadOptions(label="visits")).train
    check_method(KennardStone(), kind="table", source=source)
    line = TensorSource.make(torch.tensor([[4.0], [0.0], [5.0], [10.0], [9.0]]), [0] * 5, classes=("all",))
    small = potstill.distill(potstill.Splits(train=line, test=None), KennardStone(), items=3, progress=None)
    assert small.inputs.flatten().tolist() == [10.0, 0.0, 5.0] or small.inputs.flatten().tolist() == [0.0, 10.0, 5.0]


def test_the_parametrization(tmp_path: Path) -> None:
    check_parametrization(Mixtures)
    table = potstill.Splits(train=toy_source("table"), test=None)
    small = potstill.distill(table, "dm", ipc=8, parametrization="mixtures:rows=12", steps=2, codec="float32")
    assert set(small.payload) == {"logits"}
    assert [asset["name"] for asset in small.metadata["decoder"]["assets"]] == ["pool"]
    assert torch.equal(potstill.load(small.save(tmp_path / "small.safetensors")).inputs, small.inputs)


def test_the_codec(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    splits = read_counts(Counts(), file, ReadOptions(label="visits"))
    small = potstill.distill(splits, KennardStone(), items=9, codec=NearestRow(rows=8), progress=None)
    assert small.metadata["bytes"]["inputs"] == math.ceil(9 * 3 / 8)
    pool = splits.train.raw(torch.arange(8) * len(splits.train) // 8)
    assert float(torch.cdist(small.inputs, pool).min(1).values.max()) < 1e-5, "rows of the pool, and no others"
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs)
    (asset,) = (tmp_path / "cache" / "decoders").iterdir()
    asset.unlink()
    with pytest.raises(PotstillError, match="it decodes by the asset 'pool' of hash"):
        _ = potstill.load(path).inputs


def rings_and_stars(first: int, count: int = 24) -> TensorSource:
    """Rings (class 0) and stars (class 1) of 3 to 9 nodes, all nodes alike."""
    sizes, labels = [3 + (first + i) % 7 for i in range(count)], torch.arange(count) % 2
    edges = []
    for n, star in zip(sizes, labels.tolist(), strict=True):
        a = torch.arange(1 if star else 0, n)
        b = torch.zeros_like(a) if star else (a + 1) % n
        edges.append(torch.cat([torch.stack([a, b], 1), torch.stack([b, a], 1)]))
    return graph_source([torch.ones(n, 1) for n in sizes], edges, labels, ("ring", "star"))


def test_graphs_of_any_size(tmp_path: Path) -> None:
    data = potstill.Splits(train=rings_and_stars(0), test=rings_and_stars(3, 12))
    check_source(data.train)
    small = potstill.distill(data, "random", ipc=3, codec="exact", seed=1)
    assert small.index is not None
    path = small.save(tmp_path / "graphs.safetensors")
    again = potstill.load(path)
    for i, at in enumerate(small.index.tolist()):
        graph, whole = again[i][0], data.train.raw(torch.tensor([at]))
        assert torch.equal(graph["nodes"], whole["nodes/values"])
        assert torch.equal(graph["edges"], whole["edges/values"])
    joined = potstill.concat([small, potstill.distill(data, "random", ipc=2, codec="exact", seed=2)])
    assert len(joined) == 10
    bought = potstill.distill(data, "random", bytes=300, codec="exact")
    assert 2 <= len(bought) < len(data.train)
    assert bought.metadata["bytes"]["total"] <= 300
    card = potstill.evaluate(
        path, data, networks=GraphNet, protocol="dc", seeds=2, epochs=150, baselines=False, full=False
    )
    assert card.score > 0.6, "rings and stars are told apart"
    with pytest.raises(PotstillError, match="no values to optimise"):
        potstill.distill(data, "dm", ipc=3, network=GraphNet)


def test_targets_of_any_number(tmp_path: Path) -> None:
    def degrees(graphs: TensorSource) -> TensorSource:
        each = [graphs.raw(torch.tensor([i])) for i in range(len(graphs))]
        return with_node_values(
            graphs, [torch.bincount(g["edges/values"][:, 0], minlength=len(g["nodes/values"])).float() for g in each]
        )

    # a star of 3 nodes has degrees 2, 1 and 1: who says 1 is off by 1, 0 and 0
    assert NodeValues().score(torch.ones(1, 1), pad_targets([torch.tensor([2.0, 1, 1])])) == pytest.approx(3**-0.5)
    data = potstill.Splits(train=degrees(rings_and_stars(0)), test=degrees(rings_and_stars(3, 12)))
    check_source(data.train)
    check_task(
        NodeValues(), pad_targets([torch.full((1 + i % 3,), float(i)) for i in range(24)]), torch.arange(24.0)[:, None]
    )
    sets = [potstill.distill(data, "random", items=n, codec="exact", seed=n, progress=None) for n in (6, 3)]
    path = sets[0].save(tmp_path / "graphs.safetensors")
    again = potstill.load(path)
    assert again.index is not None
    for item, at in enumerate(again.index.tolist()):
        assert torch.equal(list_targets(again.labels)[item], list_targets(data.train.targets)[at])
    assert len(list_targets(potstill.concat(sets).labels)) == 9
    card = potstill.evaluate(
        path, data, networks=GraphNet, protocol="dc", seeds=2, epochs=60, baselines=False, full=False
    )
    assert card.score < data.test.task.chance_score(data.test.targets)
