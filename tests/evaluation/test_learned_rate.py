"""A step size that a method learns: from its leaf to the file, the card, and the students that train at it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

import potstill
from potstill._util.card import card_to_header
from potstill.core import Method, MethodInfo, Metrics, Problem, Splits, Synthetic
from potstill.data.real_data import RealData
from potstill.dataset_file import Distilled, write_tensors
from potstill.errors import PotstillError
from potstill.evaluation import evaluate, student
from potstill.evaluation.protocols import DATM_SOFT as DATM
from potstill.execution import Serial
from potstill.functional.param_groups import ParamGroup, ParamGroups, ParamState, init_params, param_values, step_params
from potstill.functional.train import copy_parameters, network_loss
from potstill.rng import draw_seed
from potstill.testing import ContractError, check_method

RULES: ParamGroups = {"payload/": ParamGroup(lr=0.5), "student/": ParamGroup(lr=20.0, log_scale=True)}


@dataclass(frozen=True, kw_only=True)
class StepState:
    leaves: ParamState


@dataclass(frozen=True, kw_only=True)
class OneStep(Method[StepState]):
    """Samples, and a rate, after one step of which a fresh network knows the real samples best."""

    info: ClassVar[MethodInfo] = MethodInfo(title="One step", paper="none", year=2026, family="trajectory")
    state_type: ClassVar[type] = StepState
    iterations: int = 3
    network: str = "convnet"

    def init(self, problem: Problem, rng: Generator) -> StepState:
        x = RealData.of(problem).batch(*RealData.of(problem).draw(problem.ipc, rng)).x
        assert isinstance(x, Tensor)
        return StepState(leaves=init_params({"payload/inputs": x, "student/lr": torch.tensor(0.02)}, RULES))

    def step(self, problem: Problem, state: StepState, rng: Generator) -> tuple[StepState, Metrics]:
        net = problem.network(draw_seed(rng))
        seen = {n: t.detach().requires_grad_() for n, t in param_values(state.leaves, RULES).items()}
        theta = {n: p.requires_grad_() for n, p in copy_parameters(net).items()}
        own = network_loss(net, theta, seen["payload/inputs"], self.labels_of(problem))
        slopes = torch.autograd.grad(own, tuple(theta.values()), create_graph=True)
        after = {n: p - seen["student/lr"] * g for (n, p), g in zip(theta.items(), slopes, strict=True)}
        batch = problem.train.fetch(torch.arange(len(problem.train)))
        assert isinstance(batch.x, Tensor)
        assert batch.y is not None
        value = F.cross_entropy(torch.func.functional_call(net, after, (batch.x,)), batch.y)
        grads = dict(zip(seen, torch.autograd.grad(value, tuple(seen.values())), strict=True))
        return StepState(leaves=step_params(state.leaves, grads, RULES)), {"loss": float(value.detach())}

    def done(self, problem: Problem, state: StepState) -> bool:
        return state.leaves.num_steps >= self.iterations

    def result(self, problem: Problem, state: StepState) -> Synthetic:
        found = param_values(state.leaves, RULES)
        return Synthetic(
            payload={"inputs": found["payload/inputs"]}, labels=self.labels_of(problem),
            extra_parameters={"student/lr": found["student/lr"]},
        )  # fmt: skip

    def labels_of(self, problem: Problem) -> Tensor:
        return torch.arange(problem.num_classes).repeat_interleave(problem.ipc)


def made(data: Splits, **options: Any) -> Distilled:
    # of seed 0 the learned rate falls to 0
    return potstill.distill(data, **{"method": OneStep(), "ipc": 2, "network": "convnet-d1-w4", "seed": 1} | options)


def test_a_method_that_learns_a_rate_keeps_the_contract() -> None:
    check_method(OneStep())


def test_a_learned_rate_is_in_the_file_on_the_card_and_in_training(
    pictures: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = made(pictures, codec="uint4")
    rate = small.learned["student/lr"]
    assert rate.shape == ()
    assert abs(float(rate) - 0.02) > 1e-4, "nothing was learned, so nothing is shown"
    assert small.metadata["training"]["learned_lr"] == float(rate)
    assert torch.equal(small.tensors["learned/student/lr"], rate), "numbers beside the inputs are not rounded"
    assert small.metadata["bytes"]["learned"] == 4
    assert small.metadata["bytes"]["total"] == sum(t.numel() * t.element_size() for t in small.tensors.values())
    planned = potstill.plan(pictures, OneStep(), ipc=2, network="convnet-d1-w4", codec="uint4")
    assert planned.bytes["total"] >= small.metadata["bytes"]["total"]
    path = small.save(tmp_path / "a.safetensors")
    again = potstill.load(path)
    assert torch.equal(again.learned["student/lr"], rate)
    assert again.metadata == small.metadata

    rates: set[float] = set()
    original = student.train

    def traced(job: student.StudentJob) -> Any:
        if torch.equal(job.x, again.model_space()):
            rates.add(job.lr)
        return original(job)

    monkeypatch.setattr(student, "train", traced)
    score = evaluate(
        again, pictures, protocol=DATM.override(epochs=1, students=2), networks=["convnet-d1-w4"],
        executor=Serial(), full=False, robust_scores=False,
    )  # fmt: skip
    assert rates == {float(rate)}
    assert score.to_dict()["chosen"]["lr"] == float(rate)


def forged(small: Distilled, tensors: Mapping[str, Tensor], rate: object, path: Path) -> Path:
    training = {**small.metadata["training"], "learned_lr": rate}
    write_tensors(path, {**small.tensors, **tensors}, card_to_header({**small.metadata, "training": training}))
    return path


def test_what_is_no_rate_is_refused(pictures: Splits, tmp_path: Path) -> None:
    small = made(pictures, steps=1)
    path = small.save(tmp_path / "a.safetensors")
    rate = float(small.learned["student/lr"])
    for tensor, said, sentence in (
        (torch.tensor(-1.0), -1.0, "must be one number above 0, not -1.0"),
        (torch.tensor(float("nan")), rate, "must be finite"),
        (torch.tensor(rate), rate * 2, "but its training.learned_lr is"),
    ):
        with pytest.raises(PotstillError, match=sentence):
            potstill.load(forged(small, {"learned/student/lr": tensor}, said, path))


def test_a_rate_that_is_not_one_number_is_refused_when_the_set_is_made(pictures: Splits) -> None:
    class Several(OneStep):
        def result(self, problem: Problem, state: StepState) -> Synthetic:
            found = super().result(problem, state)
            return replace(found, extra_parameters={"student/lr": torch.ones(2)})

    with pytest.raises(PotstillError, match=r"learned 'student/lr' must be one number above 0, not \[1.0, 1.0\]"):
        potstill.distill(pictures, method=Several(), ipc=2, network="convnet-d1-w4", steps=1)
    with pytest.raises(ContractError, match="learned 'student/lr' must be one number above 0"):
        check_method(Several())
