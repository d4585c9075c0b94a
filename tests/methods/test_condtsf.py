"""CondTSF: value steps between those of trajectories, by hand, and targets that experts share in."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import NetworkWeights, Problem
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters
from potstill.methods.engine import TARGETS
from potstill.methods.trajectory._value_term import WithValueTerm
from potstill.methods.trajectory.condtsf import CondTSF
from potstill.nn import factory
from potstill.parametrize.pixels import Pixels
from potstill.parametrize.series import Series
from potstill.rng import generator
from potstill.testing import check_method
from tests.series_data import windows

SMALL: dict[str, Any] = {
    "num_experts": 1, "train_epochs": 4, "iterations": 6, "student_steps": 2, "expert_epochs": 1, "max_start_epoch": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """An expert whose weights go on at random."""

    make: Any
    seed: int = 3
    epochs: int = 4

    def at(self, epoch: int) -> dict[str, Tensor]:
        first = copy_parameters(self.make(self.seed))
        rng = generator(self.seed, "walk")
        return {n: p + 0.05 * epoch * torch.randn(p.shape, generator=rng) for n, p in first.items()}

    def trained(self, epoch: int) -> NetworkWeights:
        return NetworkWeights(seed=self.seed, parameters=self.at(epoch), buffers={}, epoch=epoch)


def problem_of(parametrization: Any, numbers: int, variables: int = 2) -> Problem:
    train = windows(variables=variables).train
    make = factory("dlinear-k3", train.input, train.task.outputs)
    if isinstance(parametrization, Series):
        parametrization = parametrization.bind(train)
    return Problem(
        train=train, counts=(1,), network=make, augment=named_augmentation("none", train),
        parametrization=parametrization, value_budget=(numbers,), assets={"experts": (Walk(make),)},
    )  # fmt: skip


def run(problem: Problem, steps: int, **changes: Any) -> tuple[Any, list[Any]]:
    method = CondTSF(**{**SMALL, **changes}).resolve_defaults(problem)[0]
    states = [method.init(problem, generator(0))]
    for n in range(steps):
        states.append(method.step(problem, states[-1], generator(n + 1))[0])
    return method, states


@pytest.mark.parametrize("count", [1, 2])
def test_every_third_step_moves_points_towards_the_experts_forecasts(count: int) -> None:
    problem = problem_of(Series(length=20, count=count), 20 * 2 * count)
    _, states = run(problem, 3, beta=0.25, stride=4)
    before, after = (s.params.value["payload/points"] for s in states[-2:])
    expert = problem.assets["experts"][0]
    net = problem.network(expert.seed)
    net.load_state_dict(expert.at(4))
    expected = before.clone()
    for stretch in range(count):
        for first in (0, 4, 8):  # 20 − 12 + 1 = 9 windows
            window = before[stretch, first : first + 8].T[None]
            forecast = net(window).detach().reshape(2, 4).T
            place = slice(first + 8, first + 12)
            expected[stretch, place] = 0.75 * expected[stretch, place] + 0.25 * forecast
    torch.testing.assert_close(after, expected)
    assert states[-1].loss == states[-2].loss  # the curve shows steps by gradients


def test_the_other_steps_are_those_of_trajectories() -> None:
    problem = problem_of(Series(length=20), 40)
    method, states = run(problem, 2)
    plain = method.build_engine(problem)
    assert isinstance(plain.objective, WithValueTerm)
    plain = replace(plain, objective=plain.objective.inner)
    state = plain.init(problem, generator(0))
    for n in range(2):
        state, _ = plain.step(problem, state, generator(n + 1))
    assert torch.equal(state.params.value["payload/points"], states[-1].params.value["payload/points"])


def test_with_all_of_the_experts_answers_a_student_at_the_target_does_not_move() -> None:
    """α = 0: targets are the expert's own, so that an unmoved set asks nothing of a student that has its weights."""
    problem = problem_of(Series(length=20), 40)
    method = CondTSF(**SMALL, alpha=0.0).resolve_defaults(problem)[0]
    state = method.init(problem, generator(0))
    engine = method.build_engine(problem)
    objective = engine.objective.inner
    _, block = objective.prepare(problem, engine.networks, state, generator(1))
    from potstill.methods.trajectory._objective import student_loss

    x = problem.decode({"points": state.params.value["payload/points"]})
    y = torch.randn(len(x), 8, generator=generator(2))
    at_target = student_loss(problem, block, None, 1.0)(block.target, {"inputs": x, TARGETS: y}, 0)
    assert float(at_target) < 1e-10
    half = student_loss(problem, block, None, 0.5)(block.target, {"inputs": x, TARGETS: y}, 0)
    whole = student_loss(problem, block)(block.target, {"inputs": x, TARGETS: y}, 0)
    torch.testing.assert_close(half, whole / 4)


def test_harmonics_move_as_far_as_they_can() -> None:
    problem = problem_of(Series(length=20, harmonics=20), 40)
    _, states = run(problem, 3, beta=0.25)
    series = problem.parametrization
    moved = [
        series.points({k.removeprefix("payload/"): v for k, v in s.params.value.items() if k.startswith("payload/")})
        for s in states[-2:]
    ]
    assert float((moved[1] - moved[0])[:, :8].abs().max()) < 1e-5  # the first window is no target of any
    assert float((moved[1] - moved[0])[:, 8:].abs().max()) > 1e-3


def test_windows_with_targets_of_their_own_keep_their_inputs() -> None:
    problem = problem_of(Pixels(), 3 * 16)
    problem = replace(problem, counts=(3,))
    _, states = run(problem, 3, beta=0.25)
    before, after = states[-2:]
    inputs = [n for n in before.params.value if n.startswith("payload/")]
    assert all(torch.equal(before.params.value[n], after.params.value[n]) for n in inputs)
    assert not torch.equal(before.params.value[TARGETS], after.params.value[TARGETS])


@pytest.mark.parametrize("parametrization", ["pixels", "series"])
def test_it_keeps_the_contract_of_methods(parametrization: str) -> None:
    method = CondTSF(**{**SMALL, "parametrization": parametrization, "network": "dlinear-k3"})
    check_method(method, source=windows().train, steps=4)


def test_pictures_and_steps_without_a_gap_are_refused() -> None:
    with pytest.raises(PotstillError, match="method condtsf does forecast, but digits is classification"):
        potstill.distill("digits", "condtsf", ipc=1, steps=1, progress=None)
    with pytest.raises(PotstillError, match="method condtsf: gap must be at least 1, but it is 0"):
        potstill.distill(windows(), CondTSF(gap=0), items=2, steps=1, progress=None)


def test_a_series_is_made_with_the_same_bits() -> None:
    data = windows()
    method = CondTSF(**{**SMALL, "network": "dlinear-k3"})
    options: dict[str, Any] = {"parametrization": "series:length=24", "items": 3, "progress": None, "device": "cpu"}
    small = potstill.distill(data, method, **options)
    assert small.metadata["method"] == "condtsf"
    again = potstill.distill(data, method, **options)
    assert torch.equal(small.inputs, again.inputs)
    assert torch.equal(small.labels, again.labels)
