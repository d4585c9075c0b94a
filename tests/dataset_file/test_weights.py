"""Sets that carry weights: they stay with the set in every file, and what cannot be a weight is refused."""

import dataclasses
import io
import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import potstill
from potstill.core import Splits, registry
from potstill.core.registry import make_method
from potstill.dataset_file import Distilled, inspect, load
from potstill.dataset_file.inspect import describe
from potstill.errors import PotstillError
from potstill.functional.gradient_norms import Factors
from potstill.methods.selection._gradient_selection import GradientSelection
from potstill.rng import generator
from potstill.runs.loop import Interrupted, Progress
from potstill.testing import check_method, toy_problem, toy_source
from tests.build_set import build_set

WEIGHING = [n for n in registry.names("methods") if registry.resolve("methods", n).info.weighted]
QUICK: dict[str, Any] = {"record_epochs": 2, "network": "convnet-d1-w4"}
WEIGHTS = st.lists(st.floats(0, 2.0**99, width=32), min_size=8, max_size=8).filter(lambda w: max(w) > 0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def small(weights: list[float] | None = None) -> Distilled:
    """Two samples of each of four classes, with these weights."""
    made = potstill.distill(Splits(train=toy_source("image"), test=None), "random", ipc=2)
    card, source = made.metadata, made.metadata["source"]
    return build_set(
        made.inputs, made.labels, index=made.index, weights=None if weights is None else torch.tensor(weights),
        method="random", config={}, seed=0, ipc=2, classes=made.classes, input=made.input,
        normalization=made.normalization, training={}, source=source, outcome=card["outcome"], cost=card["cost"],
    )  # fmt: skip


def same(a: Distilled, b: Distilled) -> bool:
    assert a.weights is not None
    assert b.weights is not None
    return torch.equal(a.weights, b.weights) and torch.equal(a.inputs, b.inputs) and a.metadata == b.metadata


def test_craig_and_grad_match_weigh() -> None:
    assert {"craig", "grad-match"} == set(WEIGHING)


@pytest.mark.parametrize("kind", ["image", "table"])
@pytest.mark.parametrize("name", WEIGHING)
def test_a_method_that_weighs_keeps_the_contract(name: str, kind: str) -> None:
    check_method(make_method(name, {"record_epochs": 2})[1], kind=kind)


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_go_through_every_form(name: str, tmp_path: Path) -> None:
    data = Splits(train=toy_source("image"), test=None)
    made = potstill.distill(data, name, ipc=3, **QUICK)
    assert made.weights is not None
    assert made.weights.dtype == torch.float32
    assert float(made.weights.std()) > 0
    assert made.metadata["bytes"]["weights"] == 4 * 12
    assert made.metadata["bytes"]["total"] == sum(t.numel() * t.element_size() for t in made.tensors.values())
    # the plan codes other samples than those that are chosen
    assert abs(potstill.plan(data, name, ipc=3, **QUICK).bytes["total"] - made.metadata["bytes"]["total"]) <= 8
    made.save(tmp_path / "a.safetensors")
    assert same(load(tmp_path / "a.safetensors"), made)
    potstill.export(made, "indices", tmp_path / "i.safetensors")
    again = potstill.materialize(tmp_path / "i.safetensors", data)
    assert same(again, made)
    expected = made.weights.tolist()
    potstill.export(again, "npz", tmp_path / "a.npz")
    assert np.load(tmp_path / "a.npz")["weights"].tolist() == expected
    potstill.export(made, "parquet", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")["weight"].to_pylist() == expected
    potstill.export(made, "png", tmp_path / "png")
    assert json.loads((tmp_path / "png" / "labels.json").read_text())["weights"] == expected
    potstill.export(made, "webdataset", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        parts = [tar.extractfile(m) for m in tar.getmembers() if m.name.endswith(".weight.json")]
        assert [json.load(io.BytesIO(p.read())) for p in parts if p is not None] == expected


def test_files_and_hugging_face_sets_have_them_beside(tmp_path: Path) -> None:
    import datasets
    from PIL import Image

    rng = np.random.default_rng(0)
    for c, n in ((c, n) for c in "ab" for n in range(8)):
        (tmp_path / "photos" / c).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "photos" / c / f"{n}.png")
    made = potstill.distill(tmp_path / "photos", "craig", ipc=2, **QUICK)
    assert made.weights is not None
    potstill.export(made, "files", tmp_path / "files", data=tmp_path / "photos")
    assert json.loads((tmp_path / "files" / "selection.json").read_text())["weights"] == made.weights.tolist()
    potstill.export(made, "hf", tmp_path / "hf", data=tmp_path / "photos")
    assert datasets.load_from_disk(str(tmp_path / "hf"))["weight"][:] == made.weights.tolist()


@settings(max_examples=30, deadline=None)
@given(weights=WEIGHTS)
def test_any_weights_are_kept_to_the_bit_and_have_mean_1_in_training(
    weights: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("w")
    made = small(weights)
    made.save(folder / "a.safetensors")
    read = load(folder / "a.safetensors")
    assert same(read, made)
    potstill.export(read, "indices", folder / "i.safetensors")
    rebuilt = potstill.materialize(folder / "i.safetensors", Splits(train=toy_source("image"), test=None))
    assert rebuilt.weights is not None
    assert rebuilt.weights.tolist() == weights
    potstill.export(rebuilt, "npz", folder / "a.npz")
    assert np.load(folder / "a.npz")["weights"].tolist() == weights
    share = read.sample_weight
    assert share is not None
    assert float(share.double().mean()) == pytest.approx(1, rel=1e-5)
    assert bool(((share == 0) == (torch.tensor(weights) / max(weights) < 1e-44)).logical_or(share < 1e-30).all())


@pytest.mark.parametrize(
    "bad", [[1.0] * 7, [1.0] * 9, [-1.0] + [1.0] * 7, [0.0] * 8, [float("nan")] + [1.0] * 7, [float("inf")] + [1.0] * 7]
)
def test_what_is_no_weight_is_refused(bad: list[float], tmp_path: Path) -> None:
    said = "weights must be one finite float32 ≥ 0 for each of 8 inputs, and not all 0"
    with pytest.raises(PotstillError, match=said):
        small(bad)
    good = small([1.0] * 8)
    good.tensors["weights"] = torch.tensor(bad)
    said = "weights must be" if len(bad) == 8 else "tensor 'weights': its values tensor is"
    good.save(tmp_path / "bad.safetensors")
    with pytest.raises(PotstillError, match=said):
        load(tmp_path / "bad.safetensors")


def test_a_file_without_its_weights_is_refused(tmp_path: Path) -> None:
    made = small([1.0] * 8)
    del made.tensors["weights"]
    made.save(tmp_path / "cut.safetensors")
    with pytest.raises(PotstillError, match="holds no tensor 'weights'"):
        load(tmp_path / "cut.safetensors")


def test_a_reader_gets_pairs_and_on_request_triples() -> None:
    weights = [1.0, 3.0, 0.0, 4.0, 1.0, 1.0, 1.0, 5.0]
    plain, made = small(), small(weights)
    assert len(made[0]) == 2
    triples = [made.with_weights()[i] for i in range(8)]
    assert [float(w) for _, _, w in triples] == [w / 2 for w in weights]
    for (x, y, _), (a, b) in zip(triples, (made[i] for i in range(8)), strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    assert [float(w) for _, _, w in (plain.with_weights()[i] for i in range(8))] == [1.0] * 8
    assert plain.sample_weight is None


def test_inspect_says_them() -> None:
    found = inspect(small([1.0, 3.0, 0.0, 4.0, 1.0, 1.0, 1.0, 5.0]))
    assert found["weights"] == {"mean": 2.0, "min": 0.0, "max": 5.0, "zero": 1}
    assert "weights     0 to 5, 2 on the mean, 1 of them 0" in describe(found)
    assert found["tensors"]["weights"]["bytes"] == 32
    plain = inspect(small())
    assert plain["weights"] is None
    assert "weights" not in describe(plain)


def test_weights_of_craig_are_the_sizes_of_its_clusters() -> None:
    method: Any = make_method("craig", {"record_epochs": 2})[1]
    problem = toy_problem(method, ipc=3)
    state = method.init(problem, generator(0))
    assert all(w.tolist() == [4.0] * 3 for w in state.weights)  # twelve samples of a class, before they are looked at
    while not method.done(problem, state):
        state, _ = method.step(problem, state, generator(0))
    result = method.result(problem, state)
    for c, index in enumerate(problem.class_indices):
        g = _full(method.gradients(problem, index)[0])
        mine = [index.tolist().index(i) for i in result.index[3 * c : 3 * c + 3].tolist()]
        nearest = torch.cdist(g, g[mine]).argmin(1)
        assert result.weights[3 * c : 3 * c + 3].tolist() == torch.bincount(nearest, minlength=3).tolist()


def test_weights_of_grad_match_are_its_coefficients() -> None:
    from scipy.optimize import nnls

    method: Any = make_method("grad-match", {"record_epochs": 2})[1]
    problem = toy_problem(method, ipc=4)
    state = method.init(problem, generator(0))
    while not method.done(problem, state):
        state, _ = method.step(problem, state, generator(0))
    result = method.result(problem, state)
    for c, index in enumerate(problem.class_indices):
        g = _full(method.gradients(problem, index)[0]).double()
        mine = [index.tolist().index(i) for i in result.index[4 * c : 4 * c + 4].tolist()]
        rows = torch.cat([g[mine].T, method.ridge**0.5 * torch.eye(4, dtype=torch.float64)])  # λ as further rows
        wanted = torch.cat([g.sum(0), torch.zeros(4, dtype=torch.float64)])
        by_scipy = nnls(rows.numpy(), wanted.numpy())[0]
        assert result.weights[4 * c : 4 * c + 4].tolist() == pytest.approx(by_scipy.tolist(), rel=1e-4, abs=1e-5)


def _full(factors: Factors) -> Tensor:
    return (factors.delta[:, :, None] * factors.features[:, None, :]).flatten(1)


def test_glister_weighs_nothing() -> None:
    method: Any = make_method("glister", {"record_epochs": 2, "holdout": 0.25})[1]
    assert isinstance(method, GradientSelection)
    problem = toy_problem(method)
    assert method.result(problem, method.init(problem, generator(0))).weights is None


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = Splits(train=toy_source("image"), test=None)
    whole = potstill.distill(data, "craig", ipc=3, seed=4, **QUICK)

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        potstill.distill(data, "craig", ipc=3, seed=4, checkpoint=tmp_path / "c", progress=stop, **QUICK)
    resumed = potstill.distill(data, "craig", ipc=3, seed=4, checkpoint=tmp_path / "c", resume=True, **QUICK)
    assert torch.equal(resumed.weights, whole.weights)  # type: ignore[arg-type]
    assert torch.equal(resumed.inputs, whole.inputs)


def test_a_budget_in_bytes_counts_them() -> None:
    data = Splits(train=toy_source("image"), test=None)
    amount = potstill.distill(data, "random", items=30).metadata["bytes"]["total"]  # without weights
    assert 28 <= len(potstill.distill(data, "random", bytes=amount)) <= 30  # other draws are coded in other bytes
    made = potstill.distill(data, "craig", bytes=amount, **QUICK)
    assert made.metadata["bytes"]["total"] <= amount
    assert len(made) < 30


def test_the_list_of_methods_says_who_weighs() -> None:
    from potstill.api.listing import list_methods

    assert {m["name"] for m in list_methods() if m["weighted"]} == set(WEIGHING)


def test_a_selection_whose_weights_are_no_weights_breaks_the_contract() -> None:
    from potstill.methods.selection.craig import CRAIG
    from potstill.testing import ContractError

    class Negative(CRAIG):
        """Wrong on purpose."""

        def result(self, problem, state):  # type: ignore[no-untyped-def]
            made = super().result(problem, state)
            return dataclasses.replace(made, weights=-made.weights)

    with pytest.raises(ContractError, match="weights must be one finite float of at least 0"):
        check_method(Negative(record_epochs=2))
