"""Sets of one series: what the file holds and weighs, and that learned and real windows come back from it."""

import csv

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import potstill
from potstill._util.card import card_to_header, parse_card
from potstill.cli.main import main
from potstill.core.registry import get_method_class, names
from potstill.data.selection_order import order_samples
from potstill.errors import PotstillError
from tests.series_data import seasonal, windows


@pytest.fixture(scope="module")
def data():
    return windows()


def make(data, method="kip", **options):
    known = {"items": 5, "parametrization": "series", "seed": 0, "steps": 2, "preset": "quick", "progress": None}
    return potstill.distill(data, method, **(known | options))


def of_points(points, window=8, horizon=4):
    """Windows and what follows each, of one variable."""
    cut = torch.as_tensor(points, dtype=torch.float32).flatten().unfold(0, window + horizon, 1)
    return cut[:, None, :window], cut[:, window:]


@pytest.mark.parametrize("codec", ["float32", "uint8", "uint4:aware=true", "uint2"])
def test_a_file_holds_the_points_alone_and_comes_back(data, codec, tmp_path):
    small = make(data, codec=codec)
    read = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert torch.equal(read.inputs, small.inputs)
    assert torch.equal(read.labels, small.labels)
    x, y = of_points(read.normalization.invert(read.payload["points"][0].T[None])[0])
    torch.testing.assert_close(read.inputs, x)
    torch.testing.assert_close(read.labels, y)
    sizes = read.metadata["bytes"]
    assert sizes["labels"] == 0
    assert sizes["total"] == sizes["inputs"] <= 40 * {"f": 4, "u": 1}[codec[0]] + 4
    assert not any(name.startswith("labels") for name in read.tensors)


@pytest.mark.parametrize(("budget", "points"), [(40, 36), (104, 100)])
def test_bytes_buy_points(data, budget, points):
    small = make(data, items=None, bytes=budget)
    assert small.metadata["bytes"]["total"] <= budget
    assert small.payload["points"].shape == (1, points, 1)  # of 8 bits, and their range of four bytes
    planned = potstill.plan(data, "kip", bytes=budget, parametrization="series", preset="quick")
    assert planned.bytes["total"] == budget
    assert planned.inputs == len(small) == points - 11


OTHERS = [
    n for n in names("methods", outside=False)
    if not (info := get_method_class(n).info).is_selection and {"*", "forecast"} & set(info.tasks)
    and {"*", "series"} & set(info.kinds) and n != "kip"
]  # fmt: skip


@pytest.mark.parametrize("method", OTHERS)
def test_methods_move_the_points_by_inputs_and_targets(data, method):
    before, after = (make(data, method, steps=n, codec="float32").payload["points"] for n in (0, 2))
    assert before.shape == after.shape == (1, 40, 1)
    moved = (after != before).flatten()
    assert bool(moved[:36].all())  # those of windows
    if method not in ("dm", "condtsf"):  # of which one has no targets, the other moves them in each third step
        assert bool(moved[36:].all())


def test_labels_beside_the_series_are_refused(data):
    with pytest.raises(PotstillError, match="parts of what it stores, so kip learns none beside them"):
        make(data, labels="scores")
    with pytest.raises(PotstillError, match="needs windows of a series"):
        potstill.distill("digits", "kip", items=20, parametrization="series", progress=None)


def test_a_damaged_file_is_refused(data, tmp_path):
    path = make(data, codec="float32", items=15).save(tmp_path / "s.safetensors")
    with pytest.raises(PotstillError, match="windows may decode to 4,320 bytes, more than the 4,000 allowed"):
        potstill.load(path, max_bytes=4000)
    for change, message in (
        ({"parametrization": "pixels"}, "'pixels' holds no targets"),
        ({"parametrization": "series:length=20,harmonics=4"}, "does not fit its decoder"),
        ({"targets": False}, "holds no tensor 'labels'"),
    ):
        damaged = tmp_path / "damaged.safetensors"
        _rewrite(path, damaged, change)
        with pytest.raises(PotstillError, match=message) as caught:
            potstill.load(damaged)
        assert "\n" not in str(caught.value)


def _rewrite(path, to, change):
    with safe_open(path, "pt") as held:
        card = parse_card(held.metadata())
    card["decoder"] |= change
    save_file(load_file(path), to, card_to_header(card))


@pytest.mark.parametrize("method", ["random", "k-center", "real"])
def test_real_windows_are_stored_as_the_points_that_they_share(data, method, tmp_path):
    options = {"selection": "stretch"} if method == "real" else {}
    small = make(data, method, items=6, parametrization=None, **options)
    read = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert torch.equal(read.inputs, data.train.raw(small.index))
    assert torch.equal(read.labels, data.train.targets[small.index])
    points = data.train.points_of(small.index)[0]
    assert read.payload["points"].numel() == points.numel()
    assert ("starts" in read.payload) == (method != "real")
    if method == "real":
        assert points.numel() == 6 + 11
    indices = potstill.export(small, "indices", tmp_path / "i.safetensors")
    again = potstill.materialize(indices, data)
    assert torch.equal(again.inputs, read.inputs)
    assert torch.equal(again.labels, read.labels)


def test_a_stretch_is_a_run_of_windows():
    train = windows().train
    train = train.subset(torch.randperm(len(train), generator=torch.Generator().manual_seed(0)))
    seen = set()
    for seed in range(20):
        (order,) = order_samples(train, "stretch", [9], seed)
        starts = train.starts[order]
        assert starts.diff().tolist() == [1] * 8
        seen.add(int(starts[0]))
    assert len(seen) > 10
    (order,) = order_samples(train, "stretch", [10**6], 0)
    assert len(order) == len(train)
    with pytest.raises(PotstillError, match="takes windows of one series, but digits"):
        order_samples(potstill.load_data("digits").train, "stretch", [3] * 10, 0)


def test_real_windows_of_the_same_bytes_include_the_best_stretch(data):
    score = potstill.evaluate(
        make(data, bytes=90, items=None, steps=100), data, networks=["ridge"], seeds=1, quick=True, progress=None
    ).to_dict()
    best = score["baselines"]["real"]
    assert best["selection"] == "stretch"
    assert best["bytes"] <= score["bytes"]["total"] <= 90
    assert best["items"] > score["baselines"]["random"]["items"]


def test_sets_join_with_their_targets(data):
    one, two = make(data), make(data, seed=1)
    both = potstill.concat([one, two])
    assert torch.equal(both.inputs, torch.cat([one.inputs, two.inputs]))
    assert torch.equal(both.labels, torch.cat([one.labels, two.labels]))


def test_the_series_is_exported_as_a_table_that_is_read_again(tmp_path):
    data = windows(variables=2)
    small = make(data, parametrization="series:count=2", items=8)
    path = potstill.export(small, "csv", tmp_path / "s.csv")
    with path.open() as held:
        rows = list(csv.DictReader(held))
    assert list(rows[0]) == ["stretch", "time", "variable 1", "variable 2"]
    assert len(rows) == small.payload["points"].shape[:2].numel() == 64
    values = np.array([[float(row["variable 1"]), float(row["variable 2"])] for row in rows])
    np.testing.assert_allclose(small.inputs[0].T, values[:8], rtol=1e-5)
    again = potstill.load_data(str(path), task="forecast:window=8,horizon=4", series="stretch", test_fraction=0.4)
    assert again.train.task.variables == ("variable 1", "variable 2")


def test_the_commands_take_a_file_to_a_page(tmp_path, capsys):
    source = tmp_path / "series.csv"
    rows = "\n".join(f"{t},{v:.4f}" for t, v in enumerate(seasonal()[:, 0]))
    source.write_text(f"step,load\n{rows}\n")
    out, page = tmp_path / "s.safetensors", tmp_path / "s.html"
    task = ["--task", "forecast:window=8,horizon=4"]
    assert not main(
        ["distill", str(source), *task, "--method", "kip", "--parametrization", "series:length=40", "--items", "5",
         "--steps", "3", "--out", str(out), "--quiet"]
    )  # fmt: skip
    assert not main(["report", str(out), "--out", str(page), "--quiet"])
    assert "the series that is stored" in page.read_text()
    assert "40 points" in page.read_text()
    capsys.readouterr()
