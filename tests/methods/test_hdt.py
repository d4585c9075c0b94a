"""HDT: the harmonic loss of a learned series beside the steps of trajectories."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import potstill
from potstill.functional.harmonics import harmonic_loss
from potstill.methods.engine import Update
from potstill.methods.trajectory._harmonics import WithHarmonicLoss, series_of_windows
from potstill.methods.trajectory.hdt import HDT
from potstill.parametrize.pixels import Pixels
from potstill.parametrize.series import Series
from potstill.rng import generator
from potstill.testing import check_method
from tests.methods.test_condtsf import SMALL, problem_of
from tests.series_data import windows


def started(parametrization: Any, numbers: int, **changes: Any) -> tuple[Any, Any, Any]:
    problem = problem_of(parametrization, numbers)
    method = HDT(**{**SMALL, **changes}).resolve_defaults(problem)[0]
    return problem, method, method.init(problem, generator(0))


def payload_of(state: Any) -> dict[str, Any]:
    values = state.params.value
    return {n.removeprefix("payload/"): t for n, t in values.items() if n.startswith("payload/")}


SERIES = [(Series(length=20), 40), (Series(length=20, count=2), 80), (Series(length=20, harmonics=9), 18)]


@pytest.mark.parametrize(("parametrization", "numbers"), SERIES)
def test_windows_and_targets_are_the_series_again(parametrization: Series, numbers: int) -> None:
    problem, _, state = started(parametrization, numbers)
    payload = payload_of(state)
    again = series_of_windows(problem, problem.decode(payload), problem.decode_targets(payload))
    torch.testing.assert_close(again, problem.parametrization.points(payload), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("parametrization", "numbers"), SERIES)
def test_the_term_reaches_what_is_stored(parametrization: Series, numbers: int) -> None:
    problem, method, state = started(parametrization, numbers, harmonic_weight=0.7)
    objective = method.build_engine(problem).objective
    assert isinstance(objective, WithHarmonicLoss)
    _, block = objective.prepare(problem, method.build_engine(problem).networks, state, generator(1))
    payload = payload_of(state)
    moving = {n: t.clone().requires_grad_() for n, t in payload.items() if t.is_floating_point()}
    held = {**payload, **moving}
    view = {"inputs": problem.decode(held), "labels": problem.decode_targets(held)}
    nothing = Update("loss", lambda classes, v: (1.5, {"inputs": torch.zeros_like(v["inputs"])}), [[0]])
    loss, grads = objective.loss_and_grads(problem, block, nothing, [0], {n: t.detach() for n, t in view.items()})
    points = problem.parametrization.points(held)
    term = 0.7 * harmonic_loss(points, block.real, method.harmonics)
    assert loss == pytest.approx(1.5 + float(term.detach()), rel=1e-5)
    expected = torch.autograd.grad(term, tuple(moving.values()), retain_graph=True)
    found = torch.autograd.grad(tuple(view.values()), tuple(moving.values()), tuple(grads[n] for n in view))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_weight_the_steps_are_those_of_trajectories() -> None:
    problem, method, state = started(Series(length=20), 40, harmonic_weight=0.0)
    engine = method.build_engine(problem)
    plain = replace(engine, objective=engine.objective.inner)
    ours, theirs = state, state
    for n in range(2):
        ours, theirs = (e.step(problem, s, generator(n))[0] for e, s in ((engine, ours), (plain, theirs)))
    assert torch.equal(ours.params.value["payload/points"], theirs.params.value["payload/points"])


def test_it_brings_the_amplitudes_nearer() -> None:
    data, gaps = windows(), []
    for weight in (0.0, 10.0):
        method = HDT(**{**SMALL, "iterations": 40, "network": "dlinear-k3", "lr": 0.02}, harmonic_weight=weight)
        small = potstill.distill(
            data, method, parametrization="series:length=24", items=3, codec="float32", progress=None, device="cpu"
        )
        starts = data.train.stretches(24)
        real = data.train.series[starts[:, None] + torch.arange(24)]
        real = data.train.normalization.apply(real.transpose(1, 2)).transpose(1, 2)
        points = small.payload["points"].expand(len(real), -1, -1)
        gaps.append(float(harmonic_loss(points, real, method.harmonics)))
    assert gaps[1] < gaps[0]


def test_it_keeps_the_contract_of_methods() -> None:
    check_method(HDT(**{**SMALL, "network": "dlinear-k3"}), source=windows().train, steps=2)


def test_windows_that_are_stored_apart_are_series_of_their_own() -> None:
    problem = replace(problem_of(Pixels(), 3 * 16), counts=(3,))
    batch = windows(variables=2).train.fetch(torch.arange(3))
    points = series_of_windows(problem, batch.x, batch.y)
    assert points.shape == (3, 12, 2)
    whole = problem.train.normalization.apply(problem.train.series.T[None])[0].T
    torch.testing.assert_close(points[1], whole[1:13], atol=1e-5, rtol=1e-5)
