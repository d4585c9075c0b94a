"""Matching where there are no classes: real targets, windows of a series, pairs of inputs with names."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Inputs, Problem, Source, Splits
from potstill.core.nested import index, named_tensors
from potstill.functional.gradient import distance
from potstill.functional.train import copy_parameters
from potstill.methods.distribution.dm import DM
from potstill.methods.engine import decode_inputs
from potstill.methods.gradient.dc import DC
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.rng import generator
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import mixed_source, pairs_source, windows_source

SOURCES = {"real": mixed_source, "windows": windows_source, "pairs": pairs_source}
NETWORKS = {"real": None, "windows": "mlp-w8", "pairs": "towers-w4"}
SMALL_DC = DC(init_from="real", batch_real=8, outer=2, inner=1, batch_train=8, iterations=3)


@pytest.mark.parametrize("kind", ["windows", "pairs"])
@pytest.mark.parametrize("method", [SMALL_DC, DM(batch_real=8, augment="none", iterations=3)], ids=["dc", "dm"])
def test_the_contract_holds_without_classes(kind: str, method: DC | DM) -> None:
    network = NETWORKS[kind]
    assert network is not None
    check_method(dataclasses.replace(method, network=network), source=SOURCES[kind](), ipc=4)


def started(kind: str) -> tuple[Problem, DC]:
    method = dataclasses.replace(SMALL_DC, network=NETWORKS[kind] or "mlp")
    return toy_problem(method, ipc=4, network=method.network, source=SOURCES[kind]()), method


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_the_matched_gradients_are_those_of_the_tasks_loss(kind: str) -> None:
    """Against the formula written out: all real samples in the batch, no augmentation, one group."""
    problem, method = started(kind)
    method = dataclasses.replace(method, batch_real=len(problem.train))
    state = method.init(problem, generator(1))
    x, y = decode_inputs(problem, state.params, "model")
    net = problem.network(state.pool[0].seed).train()
    theta = list(net.parameters())
    real = problem.train.fetch(torch.arange(len(problem.train)))
    assert real.y is not None
    g_T = torch.autograd.grad(problem.task.loss(net(real.x), real.y), theta)
    g_S = torch.autograd.grad(problem.task.loss(net(x), y), theta)
    _, metrics = method.step(problem, state, generator(1))
    assert sum(metrics.values()) == pytest.approx(float(distance("ours")(g_S, g_T)), rel=1e-4)
    assert list(copy_parameters(net)) == [n for n, _ in net.named_parameters()]


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_inputs_move_and_what_is_fixed_stays(kind: str) -> None:
    problem, method = started(kind)
    state = first = method.init(problem, generator(1))
    for _ in range(3):
        state, _ = method.step(problem, state, generator(2))
    (x0, y0), (x1, y1) = (decode_inputs(problem, s.params, "model") for s in (first, state))
    assert torch.equal(y0, y1)  # targets are those of the samples it began with
    result = method.result(problem, state)
    assert torch.equal(result.labels, y1)  # type: ignore[union-attr]
    for name, before in named_tensors(x0).items():
        assert torch.equal(before, named_tensors(x1)[name]) != before.is_floating_point(), name


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_a_set_begins_with_samples_and_their_own_targets(kind: str) -> None:
    problem, method = started(kind)
    state = method.init(problem, generator(1))
    x, y = decode_inputs(problem, state.params, "model")
    every = problem.train.fetch(torch.arange(len(problem.train)))
    assert every.y is not None
    for i in range(len(y)):
        same = [j for j in range(len(problem.train)) if all(map(torch.equal, _one(x, i), _one(every.x, j)))]
        assert any(torch.equal(every.y[j], y[i]) for j in same)


def _one(x: Inputs, i: int) -> list[Tensor]:
    return list(named_tensors(index(x, torch.tensor([i]))).values())


def test_noise_has_no_targets() -> None:
    problem, method = started("windows")
    with pytest.raises(potstill.PotstillError, match="noise has no forecast targets"):
        dataclasses.replace(method, init_from="noise").init(problem, generator(1))


@pytest.mark.parametrize("kind", ["windows", "pairs"])
def test_a_set_is_made_saved_measured_and_again_the_same(kind: str, tmp_path: Path) -> None:
    source: Source = SOURCES[kind]()
    whole = Splits(train=source, test=source)
    given = {"items": 6, "network": NETWORKS[kind], "steps": 2, "codec": "float32", "progress": None}
    method = dataclasses.replace(SMALL_DC, network="mlp")
    small = potstill.distill(whole, method, **given)  # type: ignore[arg-type]
    small.save(tmp_path / "a.safetensors")
    again = potstill.load(tmp_path / "a.safetensors")
    assert torch.equal(again.labels, small.labels)
    score = potstill.evaluate(
        again, whole, seeds=2, networks=NETWORKS[kind], steps=4, lr=0.01, baselines=False, full=False, progress=None
    )  # fmt: skip
    found = score.to_dict()["score"]
    assert found["metric"] == {"windows": "mse", "pairs": "recall@10"}[kind]
    assert found["n"] == 2
    assert "accuracy" not in score.to_dict()


def test_the_decoder_of_inputs_with_names_is_named() -> None:
    assert parse_parametrization("pixels", pairs_source().input) != parse_parametrization(
        "pixels", windows_source().input
    )
