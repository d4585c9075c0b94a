"""What methods say of a step, for a plan, beside what a step does."""

import dataclasses
from functools import partial
from typing import Any

import pytest

from potstill.core import Method, StepCost
from potstill.core.registry import names, resolve
from potstill.execution.step_memory import measure_part, peak_bytes
from potstill.methods.distribution.dm import DM
from potstill.methods.distribution.idm import IDM
from potstill.methods.gradient.dc import DC
from potstill.methods.gradient.dream import DREAM
from potstill.methods.gradient.idc import IDC
from potstill.methods.selection.herding import Herding
from potstill.rng import generator
from potstill.testing import toy_problem

QUICK = {
    "pretrained_networks": 2, "num_teachers": 2, "pretrain_epochs": 0, "teacher_epochs": 0, "num_experts": 2,
    "batch_real": 6, "committee": "convnet-d1-w4-batch",
    "batch": 6,
    "samples": 4, "crops": 2, "ascent": 2, "round_iterations": 2, "pool_steps": 2, "pool_initial": 2,
    "record_epochs": 3, "trajectory": 3, "runs": 2, "window": 3, "checkpoints": 2, "epoch": 2,
    "diffusion_updates": 3, "diffusion_width": 8, "autoencoder_width": 3, "autoencoder_epochs": 1, "sampling_steps": 4,
}  # fmt: skip
"""Settings that shorten a method where it has them."""
EXPERTS = {"train_epochs": 5, "min_start_epoch": 0, "max_start_epoch": 2, "expert_epochs": 2, "student_steps": 2}
"""Of methods that match trajectories, whose experts must have been somewhere."""
OWN = {"at-bptt": {"swing": 0}}
"""A plan counts the longest window, which few draws may not meet."""


def parts_of(method: Method[Any], **options: Any) -> dict[str, StepCost]:
    problem = toy_problem(method, **options)
    method, _ = method.resolve_defaults(problem)
    found = method.step_costs(problem, method.init(problem, generator(0)))
    assert found is not None
    return {part.what: part for part in found}


def test_distribution_matching_passes_the_batch_and_all_that_is_stored() -> None:
    method = DM(batch_real=5, steps_per_network=4)
    problem = toy_problem(method)
    parts = parts_of(method)
    k = problem.num_classes
    assert (parts["real samples"].samples, parts["real samples"].every) == (5 * k, 4)
    assert parts["synthetic samples"].samples == sum(problem.sizes)
    assert parts["synthetic samples"].at_once == k


def test_learned_labels_need_all_classes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.methods.distribution._features.FORWARD_SAMPLES", 1)
    assert parts_of(DM(batch_real=5))["synthetic samples"].at_once == 1
    learned = parts_of(DM(batch_real=5, labels="learned"))["synthetic samples"]
    assert learned.at_once == learned.classes


def test_gradient_matching_takes_one_class_after_the_other_and_trains_between() -> None:
    method = DC(batch_real=5, outer=2, inner=3, batch_train=4)
    problem = toy_problem(method)
    parts = parts_of(method)
    assert (parts["gradients of a class"].at_once, parts["gradients of a class"].size) == (1, 5)
    training = parts["the network's training"]
    assert (training.samples, training.size, training.real) == (3 * sum(problem.sizes), 4, False)
    assert "the network's training" not in parts_of(DC(batch_real=5, outer=1))  # a fresh network at every update
    assert parts_of(IDC(data_train=6, batch_train=4))["the network's training"].real
    assert parts_of(DREAM(batch_real=2, interval=7))["choice of real samples"].every == 7


def test_selection_takes_one_class_in_a_step() -> None:
    (part,) = parts_of(Herding()).values()
    assert (part.at_once, part.real) == (1, True)


def test_a_pool_grows_with_the_steps() -> None:
    part = parts_of(IDM(batch_real=5, pool_initial=2, pool_max=6, pool_every=10))["networks that join the pool"]
    assert (part.classes, part.every, part.stays) == (4, 10, True)
    one = measure_part(part, 4, steps=10).result_bytes
    assert one > 0
    assert [measure_part(part, 4, steps=n).result_bytes // one for n in (9, 25, 10**6)] == [0, 2, 4]


OF_USERS = {"distill-cf"}
"""Methods that learn rows of items, which no toy pictures are."""


@pytest.mark.parametrize("name", [name for name in names("methods") if name not in OF_USERS])
def test_parts_run_leave_the_state_alone_and_hold_no_more_than_a_step(name: str) -> None:
    kind: type[Method[Any]] = resolve("methods", name)
    taken = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    quick = QUICK | (EXPERTS if kind.info.family == "trajectory" else {}) | OWN.get(name, {})
    method = kind(**{n: value for n, value in quick.items() if n in taken})
    problem = toy_problem(method)
    method, _ = method.resolve_defaults(problem)
    state = method.init(problem, generator(0))
    parts = method.step_costs(problem, state)
    assert parts is not None, f"{name} does not say what a step consists of"
    held = [measure_part(part, 4) for part in parts]
    if method.done(problem, state):
        return
    within = [h for h, part in zip(held, parts, strict=True) if part.samples]
    said = max((h.fixed + h.each * h.at_once for h in within), default=0)
    # What a step of k-median holds depends on the size of the largest cluster that it draws: look at more draws.
    peaks = (peak_bytes(partial(method.step, problem, state, generator(n)))[0] for n in range(5))
    assert any(said <= 1.1 * peak for peak in peaks)
