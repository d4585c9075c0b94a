"""Students side by side learn what each learns alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.augment.dc import dc
from potstill.augment.siamese import dsa, none
from potstill.core import Network, Splits
from potstill.errors import PotstillError
from potstill.evaluation import evaluate, vmap_students
from potstill.evaluation.distilled_training import Teachers
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.protocols import DC, DSA, IDC, NCFM, SRE2L
from potstill.evaluation.student import StudentJob, assign_gradients, train, train_and_predict
from potstill.evaluation.vmap_students import (
    StackedStudents,
    default_group_size,
    fit_stacked,
    group_jobs,
    predict_all,
    train_and_predict_stacked,
)
from potstill.execution import Processes, Serial
from potstill.nn import factory
from potstill.nn.registry import Factory


class Double(Factory):
    """Networks in float64, in which rounding is far below what is looked for."""

    def __call__(self, seed: int, /) -> Network:
        return super().__call__(seed).double()


def double(job: StudentJob) -> StudentJob:
    assert isinstance(job.make, Factory)
    make = Double(job.make.name, job.make.input, job.make.num_classes, job.make.device)
    y = job.y.double() if job.y.is_floating_point() else job.y
    return replace(job, make=make, x=job.x.double(), y=y)


def jobs_of(pictures: Splits, students: int = 3, n: int = 10, **changes: Any) -> list[StudentJob]:
    data = pictures.train
    batch = data.fetch(torch.arange(0, len(data), len(data) // n)[:n])
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    fields: dict[str, Any] = {
        "make": factory("convnet-d1-w8", data.input, 4), "x": batch.x, "y": batch.y,
        "protocol": DC.override(epochs=4, batch=4), "lr": 0.01, "steps": None, "augment": none(),
    }  # fmt: skip
    return [StudentJob(**(fields | changes), seed=7 + s) for s in range(students)]


def assert_alike(jobs: Sequence[StudentJob], adam_rounding: float) -> None:
    x = {id(job.x): job.x.double() for job in jobs}
    jobs = [replace(double(job), x=x[id(job.x)]) for job in jobs]  # those that share a set still do
    state = fit_stacked(jobs).state
    for student, job in enumerate(jobs):
        alone = train(job).state_dict()
        assert state.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(state[name][student], value, rtol=1e-7, atol=adam_rounding)


@pytest.mark.parametrize(
    ("protocol", "augment"),
    [
        (DC.override(epochs=4, batch=4), none()),
        (DC.override(epochs=4, batch=4), dc()),
        (DSA.override(epochs=5, batch=4), dsa()),
        (DSA.override(epochs=4, batch=4, ema=0.9, decay="matrices", weight_decay=0.1), dsa()),
        (DSA.override(epochs=4, batch=4, reset_momentum=False), dsa()),
        (IDC.override(epochs=6, batch=4, test_every=2), none()),
        (NCFM.override(epochs=5, batch=4, test_every=2, mix_prob=1.0), none()),
        (DSA.override(steps=7, batch=4, schedule="cosine"), dsa()),
    ],
)
def test_every_student_learns_what_it_learns_alone(
    pictures: Splits, protocol: Protocol, augment: Any, adam_rounding: float
) -> None:
    steps = protocol.recipe.steps[0] if protocol.recipe.steps else None
    assert_alike(jobs_of(pictures, protocol=protocol, augment=augment, steps=steps), adam_rounding)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["convnet-d2-w8-batch", "mlp", "lenet", "resnet18-batch", "vit-tiny"])
def test_with_any_network_and_its_buffers(pictures: Splits, network: str, adam_rounding: float) -> None:
    large = F.interpolate(pictures.train.fetch(torch.arange(8)).x, size=28)  # type: ignore[arg-type]
    spec = replace(pictures.train.input, shape=tuple(large.shape[1:]))
    jobs = jobs_of(pictures, 2, n=8, make=factory(network, spec, 4), protocol=DC.override(epochs=1, batch=8), lr=1e-3)
    assert_alike([replace(job, x=large) for job in jobs], adam_rounding)


def test_sets_and_labels_may_differ_from_student_to_student(pictures: Splits, adam_rounding: float) -> None:
    jobs = jobs_of(pictures)
    other = replace(jobs[1], x=jobs[1].x.flip(0).clone(), y=jobs[1].y.flip(0))
    assert_alike([jobs[0], other, jobs[2]], adam_rounding)
    soft = F.one_hot(jobs[0].y, 4).float() * 0.7 + 0.075
    assert_alike([replace(job, y=soft) for job in jobs], adam_rounding)


def test_only_alike_jobs_are_neighbours_in_a_group(pictures: Splits) -> None:
    jobs = jobs_of(pictures, 5)
    assert [len(g) for g in group_jobs(jobs, 32)] == [5]
    assert [len(g) for g in group_jobs(jobs, 2)] == [2, 2, 1]
    assert [len(g) for g in group_jobs(jobs, 1)] == [1] * 5
    assert list(group_jobs([], 4)) == []
    for change in (
        {"lr": 0.02}, {"steps": 3}, {"augment": dsa()}, {"protocol": DSA}, {"x": jobs[0].x[:4], "y": jobs[0].y[:4]},
        {"make": factory("convnet-d1-w4", pictures.train.input, 4)},
    ):  # fmt: skip
        mixed = [jobs[0], jobs[1], replace(jobs[2], **change), jobs[3], jobs[4]]
        assert [len(g) for g in group_jobs(mixed, 32)] == [2, 1, 2], change
    teachers = Teachers(make=jobs[0].make, trained=())
    taught = [replace(job, teachers=teachers) for job in jobs]
    assert [len(g) for g in group_jobs(taught, 32)] == [1] * 5
    bridged = Factory("timm:anything", pictures.train.input, 4, torch.device("cpu"))
    assert [len(g) for g in group_jobs([replace(job, make=bridged) for job in jobs], 32)] == [1] * 5


@pytest.mark.parametrize("protocol", [DSA.override(epochs=30), IDC.override(epochs=12, test_every=3)])
def test_predictions_are_those_of_each_alone(pictures: Splits, protocol: Protocol) -> None:
    assert pictures.test is not None
    jobs = jobs_of(pictures, n=24, protocol=protocol, lr=0.2)
    alone = [train_and_predict(pictures.test, job) for job in jobs]
    beside = train_and_predict_stacked(pictures.test, jobs)
    for a, b in zip(alone, beside, strict=True):
        assert a is not None
        assert b is not None
        assert b.dtype == a.dtype
        assert float((a != b).double().mean()) < 0.05  # a sample on the edge may fall to the other side by rounding
        assert float((b == pictures.test.labels).double().mean()) > 0.5  # and not one class for all


@pytest.mark.slow
def test_groups_come_back_in_the_order_of_jobs_from_any_executor(pictures: Splits) -> None:
    assert pictures.test is not None
    jobs = jobs_of(pictures, 5)
    here = list(predict_all(pictures.test, jobs, Serial(), 2))
    with Processes(2) as pool:
        there = list(predict_all(pictures.test, jobs, pool, 2))
    one_by_one = list(predict_all(pictures.test, jobs, Serial(), 1))
    assert len(here) == len(there) == 5
    for a, b, c in zip(here, there, one_by_one, strict=True):
        assert a is not None
        assert b is not None
        assert c is not None
        assert torch.equal(a, b)
        assert float((a != c).double().mean()) < 0.05


def test_one_student_that_diverges_takes_no_other_with_it(pictures: Splits) -> None:
    assert pictures.test is not None
    jobs = jobs_of(pictures)
    wild = replace(jobs[1], x=torch.full_like(jobs[1].x, 3e38))
    found = train_and_predict_stacked(pictures.test, [jobs[0], wild, jobs[2]])
    assert [f is None for f in found] == [False, True, False]
    alone = train_and_predict(pictures.test, jobs[2])
    assert alone is not None
    assert found[2] is not None
    assert float((alone != found[2]).double().mean()) < 0.05


def test_halves_are_trained_where_memory_runs_out(pictures: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pictures.test is not None
    jobs, sizes = jobs_of(pictures, 5), []
    whole = train_and_predict_stacked(pictures.test, jobs)
    original = vmap_students.fit_stacked

    def small(some: Sequence[StudentJob], *rest: Any) -> StackedStudents:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("no room")
        return original(some, *rest)

    monkeypatch.setattr(vmap_students, "fit_stacked", small)
    found = train_and_predict_stacked(pictures.test, jobs)
    assert sizes == [5, 2, 3, 2]  # and the last one alone
    for a, b in zip(whole, found, strict=True):
        assert a is not None
        assert b is not None
        assert float((a != b).double().mean()) < 0.05


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
def test_a_gradient_that_lies_otherwise_than_its_parameter_moves_it_right(optimiser: Any) -> None:
    # torch 2.13 on the CPU: fused optimisers read a transposed gradient in the order of memory
    gradient = torch.arange(12.0).view(4, 3).t() - 5
    here, there, plain = (torch.zeros(3, 4, requires_grad=True) for _ in range(3))
    assign_gradients([here], [gradient])
    there.grad = gradient.contiguous()
    plain.grad = gradient
    optimiser([here], lr=0.1, fused=True).step()
    optimiser([there], lr=0.1, fused=True).step()
    optimiser([plain], lr=0.1, fused=False).step()
    assert torch.equal(here, there)  # one kernel
    # another kernel: a step is fewer than 16 roundings of a value whose sign and size say which gradient was read
    torch.testing.assert_close(here, plain, rtol=16 * torch.finfo(torch.float32).eps, atol=0)


def test_bfloat16_is_in_the_products_and_the_fingerprint_and_nowhere_else(pictures: Splits) -> None:
    seen: list[torch.dtype] = []

    class Looking(Factory):
        def __call__(self, seed: int, /) -> Network:
            network = super().__call__(seed)
            network.classifier.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
            return network

    plain = DC.override(epochs=4, batch=4)
    rough = plain.override(precision="bfloat16")
    assert plain.fingerprint() == DC.override(epochs=4, batch=4).fingerprint() != rough.fingerprint()
    make = Looking("convnet-d1-w8", pictures.train.input, 4, torch.device("cpu"))
    job = jobs_of(pictures, 1, make=make, protocol=rough)[0]
    network = train(job)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    exact = train(replace(job, protocol=plain, make=factory("convnet-d1-w8", pictures.train.input, 4)))
    pairs = zip(network.state_dict().values(), exact.state_dict().values(), strict=True)
    errors = [float((a - b).norm() / b.norm()) for a, b in pairs]
    assert 1e-6 < max(errors) < 0.2  # 8 bits of mantissa, and no more lost than that
    stack = fit_stacked([job, replace(job, seed=8)])
    for name, value in network.state_dict().items():
        assert stack.state[name].dtype == torch.float32
        assert float((stack.state[name][0] - value).norm() / value.norm()) < 0.1
    with pytest.raises(PotstillError, match="float32 or bfloat16"):
        DC.override(precision="float16")


@pytest.mark.slow
def test_an_evaluation_side_by_side_says_so_and_finds_the_same(pictures: Splits, make_set: Any) -> None:
    small = make_set(pictures)
    protocol = DSA.override(epochs=20)
    given: dict[str, Any] = {"protocol": protocol, "seeds": 4, "full": False, "networks": ["convnet-d1-w8"]}
    alone = evaluate(small, pictures, **given, robust_scores=False).content
    beside = evaluate(small, pictures, **given, robust_scores=False, side_by_side=4).content
    assert "side_by_side" not in alone["cost"]
    assert beside["cost"]["side_by_side"] == 4
    few = evaluate(small, pictures, **{**given, "seeds": 2}, robust_scores=False, baselines=False, side_by_side=9)
    assert few.content["cost"]["side_by_side"] == 2  # not more than there were
    taught = SRE2L.override(epochs=1, teacher_epochs=1)
    settings = {**given, "protocol": taught, "seeds": 2, "networks": ["convnet-d1-w8-batch"], "baselines": False}
    by_teacher = evaluate(small, pictures, **settings, robust_scores=False, side_by_side=2)
    assert "side_by_side" not in by_teacher.content["cost"]  # those are trained one by one
    assert beside["fingerprint"] == alone["fingerprint"]
    for one, other in zip(
        (alone["accuracy"], alone["baselines"]["random"]), (beside["accuracy"], beside["baselines"]["random"]),
        strict=True,
    ):  # fmt: skip
        assert other["values"] == pytest.approx(one["values"], abs=0.03)
    with pytest.raises(PotstillError, match="side_by_side is 0"):
        evaluate(small, pictures, **given, side_by_side=0)


def test_many_on_a_gpu_and_one_on_a_cpu() -> None:
    assert default_group_size("cpu") == 1
    assert default_group_size(torch.device("cuda", 1)) > 1
    assert default_group_size("mps") == 1
