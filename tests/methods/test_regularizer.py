"""A regularizer of any objective: against a loop, off is off, every kind of objective, and refusals."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import potstill
from potstill.cli.main import main
from potstill.core import Problem
from potstill.core.registry import make_method
from potstill.errors import PotstillError
from potstill.functional.curvature import Curvature
from potstill.methods.engine import EngineMethod, MatchingEngine, Regularized
from potstill.rng import generator
from potstill.runs.regularizer import parse_regularizer
from potstill.testing.common import open_assets, toy_problem

TERM = Curvature(weight=0.3, h=0.7)
QUICK: dict[str, Any] = {
    "ipc": 1, "steps": 2, "network": "mlp-w8", "codec": "float32", "preset": "quick", "progress": None,
}  # fmt: skip


def step_parts(name: str, **fields: Any) -> tuple[Problem, Any, Any, Any]:
    """Return problem, engine, state and block of a method with the term."""
    problem = replace(toy_problem(), regularizer=TERM)
    method = make_method(name, fields, "quick")[1].resolve_defaults(problem)[0]
    assert isinstance(method, EngineMethod)
    problem = open_assets(problem, method.assets(problem))
    engine = method.engine(problem)
    assert isinstance(engine, MatchingEngine)
    rng = generator(0)
    state = engine.init(problem, rng)
    state, block = engine.objective.prepare(problem, engine.networks, state, rng)
    return problem, engine, state, block


def test_the_term_of_synthetic_samples_equals_a_loop() -> None:
    problem, engine, state, block = step_parts("dm")
    assert isinstance(engine.objective, Regularized)
    x = next(iter(state.params.value.values()))
    view = {"inputs": x.detach()}
    classes = list(range(problem.num_classes))
    value, slope = engine.objective.term(problem, state, block, classes, view)
    y = torch.arange(problem.num_classes).repeat_interleave(torch.tensor(problem.sizes))
    expected, total = 0.0, len(x)
    slopes = torch.zeros_like(x)
    for i in range(total):
        leaf = x[i : i + 1].detach().clone().requires_grad_()
        (before,) = torch.autograd.grad(F.cross_entropy(block.net(leaf), y[i : i + 1]), leaf, create_graph=True)
        moved = leaf + TERM.h * before.detach() / before.detach().norm()
        (after,) = torch.autograd.grad(F.cross_entropy(block.net(moved), y[i : i + 1]), moved, create_graph=True)
        r = TERM.weight * (after - before).norm() / total
        expected += float(r.detach())
        (slopes[i : i + 1],) = torch.autograd.grad(r, leaf)
    assert value == pytest.approx(expected, rel=1e-5)
    assert value > 0
    assert torch.allclose(slope, slopes, atol=1e-6)
    parts = [engine.objective.term(problem, state, block, [c], view) for c in classes]
    assert sum(part for part, _ in parts) == pytest.approx(value, rel=1e-5)
    assert torch.allclose(sum(grads for _, grads in parts), slope, atol=1e-7)  # type: ignore[arg-type]


def test_an_update_is_the_objective_and_the_term() -> None:
    problem, engine, state, block = step_parts("dm")
    view = {"inputs": next(iter(state.params.value.values())).detach()}
    classes = list(range(problem.num_classes))
    (inner,) = engine.objective.inner.updates(problem, state, block)
    (whole,) = engine.objective.updates(problem, state, block)
    loss, grads = inner.loss_and_grads(classes, view)
    value, slope = engine.objective.term(problem, state, block, classes, view)
    both, slopes = whole.loss_and_grads(classes, view)
    assert both == pytest.approx(loss + value)
    assert torch.allclose(slopes["inputs"], grads["inputs"] + slope)
    still = whole._replace(loss_and_grads=lambda classes, view: (1.0, {}))  # an objective that makes no step
    assert engine.objective.loss_and_grads(problem, state, block, still, classes, view) == (1.0, {})


def test_gradient_matching_has_the_term_in_the_loss_of_real_samples() -> None:
    problem, engine, state, block = step_parts("dc")
    assert engine.objective.regularizer == TERM  # of the objective itself, and no wrapper
    view = {"inputs": next(iter(state.params.value.values())).detach()}
    losses = [
        replace(engine.objective, regularizer=term).loss_and_grads(problem, block, view, [0])[0]
        for term in (None, replace(TERM, weight=1e-12), TERM)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


def test_none_is_the_run_without_one() -> None:
    plain, named = (potstill.distill("digits", "dm", **QUICK, **more) for more in ({}, {"regularizer": "none"}))
    assert torch.equal(plain.inputs, named.inputs)  # type: ignore[arg-type]
    assert plain.metadata["run_digest"] == named.metadata["run_digest"]
    assert "regularizer" not in plain.metadata


@pytest.mark.parametrize("method", ["dsa", "lgm", "mtt", "frepo", "rcig", "rat-bptt", "idm"])
def test_every_kind_of_objective_takes_it(method: str) -> None:
    plain, other, again = (
        potstill.distill("digits", method, **QUICK, regularizer=name)
        for name in (None, "curvature:weight=5", "curvature:weight=5")
    )
    assert not torch.equal(plain.inputs, other.inputs)  # type: ignore[arg-type]
    assert torch.equal(other.inputs, again.inputs)  # type: ignore[arg-type]
    assert other.metadata["regularizer"] == "curvature:weight=5,h=3"
    assert plain.metadata["run_digest"] != other.metadata["run_digest"]


def test_classes_apart_have_the_bits_of_classes_together(tmp_path: Any) -> None:
    sets = [
        potstill.distill("digits", "dm", **QUICK, regularizer="curvature", **more)
        for more in ({}, {"class_shards": 2, "checkpoint": tmp_path / "parts"})
    ]
    assert torch.allclose(sets[0].inputs, sets[1].inputs, atol=1e-5)  # type: ignore[arg-type]


def test_names() -> None:
    assert parse_regularizer(None) is None
    assert parse_regularizer("none") is None
    assert str(parse_regularizer("curvature")) == "curvature:weight=1,h=3"
    assert parse_regularizer("curvature:h=0.5,weight=2") == Curvature(weight=2, h=0.5)


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("flat", "unknown regularizer 'flat'|no regularizer 'flat'"),
        ("curvature:radius=1", "unknown setting 'radius'; known: h, weight"),
        ("none:h=1", "regularizer none has no settings, but 'h=1' was given"),
        ("curvature:h=wide", "h must be float, not 'wide'"),
        ("curvature:weight=0", "weight and h must be above 0"),
    ],
)
def test_bad_names(spelled: str, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        potstill.RunSpec("digits", "dm", ipc=1, regularizer=spelled)


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("random", {}, "method random takes no regularizer: it optimises no samples"),
        ("kip", {}, "method kip takes no regularizer: its kernel is of infinitely wide networks"),
        ("dm", {"network": "convnet-w8-d1-batch"}, "has a BatchNorm"),
        ("sre2l", {"network": "convnet-w8-d1-batch"}, "method sre2l takes no regularizer"),
    ],
)
def test_methods_that_take_none(method: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        potstill.distill("digits", method, **{**QUICK, **more}, regularizer="curvature")


def test_the_command_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    words = "distill digits --method dm --ipc 1 --steps 1 --network mlp-w8 --codec float32 --quiet --regularizer"
    assert main([*words.split(), "curvature:weight=2", "--out", str(out)]) == 0
    assert potstill.load(out).metadata["regularizer"] == "curvature:weight=2,h=3"
    assert main([*words.split(), "flat", "--out", str(tmp_path / "other.safetensors")]) == 1
    assert "regularizer 'flat'" in capsys.readouterr().err
