"""The one loop of recovery: that it pleases its teacher, against a naive loop, and what each of its parts does."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decoupled_toys import at_toy, draws, members, pixels, started, steps, view, work
from torch import Tensor, nn

from potstill.errors import PotstillError
from potstill.functional.statistics import batch_norm_statistics, record_statistics
from potstill.methods.decoupled._state import pixel_bounds, plan_batches
from potstill.methods.decoupled._statistics import measure_statistics, pool_statistics
from potstill.methods.decoupled.cda import CDA
from potstill.methods.decoupled.sre2l import SRe2L
from potstill.nn import factory
from potstill.rng import generator
from potstill.runs.loop import LoopLimits, run_loop
from potstill.testing import toy_problem, toy_source

PLAIN: dict[str, Any] = {"teacher_epochs": 1, "teacher_augment": "none"}


def test_the_teacher_is_pleased_and_stays_as_it_was() -> None:
    # the toy's classes are places, which a roll would change
    training = {"teacher_epochs": 30, "teacher_lr": 0.05, "teacher_batch": 16, "teacher_augment": "none"}
    method = at_toy(SRe2L(iterations=200, jitter=0, **training))
    problem, state, rng = started(method, ipc=1)
    (member,) = members(method, problem)
    before = {n: t.clone() for n, t in member.weights.items()}
    made = steps(method, problem, state, rng, 200)
    first, last = made[1][1], made[-1][1]
    assert last["ce"] < first["ce"] / 10
    assert last["bn"] < first["bn"] / 10
    final = method.result(problem, made[-1][0])
    assert member.logits(final.payload["inputs"]).argmax(1).tolist() == [0, 1, 2, 3]
    assert final.labels.argmax(1).tolist() == [0, 1, 2, 3]
    assert all(torch.equal(t, before[n]) for n, t in members(method, problem)[0].weights.items())
    assert method.done(problem, made[-1][0])


def test_two_iterations_against_a_naive_loop() -> None:
    method = at_toy(SRe2L(iterations=4, flip=True, jitter=2, **PLAIN))
    problem, state, rng = started(method)
    net, member = problem.network(0).eval(), members(method, problem)[0]
    net.load_state_dict(dict(member.weights))
    made = steps(method, problem, state, rng, 2)

    items, y = [0, 2, 4, 6], torch.arange(4)  # the first item of each class
    x = pixels(state)[items].clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.25, betas=(0.5, 0.9))
    norm = problem.train.normalization
    low, high = -norm.mean / norm.std, (1 - norm.mean) / norm.std
    for t in range(2):
        adam.param_groups[0]["lr"] = 0.25 * (1 + math.cos(math.pi * t / 4)) / 2
        shadow = draws(state, t)
        view = x.flip(3) if torch.rand((), generator=shadow) < 0.5 else x
        down, right = torch.randint(3, (2,), generator=shadow).tolist()
        inner = torch.roll(view, (down, right), (2, 3))
        a = net.features[0](inner)
        mean, var = a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0)
        bn = net.features[1]
        loss = F.cross_entropy(net(inner), y) + 0.01 * 10 * (
            (mean - bn.running_mean).norm() + (var - bn.running_var).norm()
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            x.clamp_(float(low), float(high))
        assert made[t + 1][1]["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    torch.testing.assert_close(work(made[2][0]), x.detach(), rtol=1e-3, atol=1e-4)


def test_as_many_layers_are_watched_as_there_are_batch_norms() -> None:
    spec = toy_source("image", side=16)
    net = factory("resnet18-batch", spec.input, 4)(0).eval()
    weights = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {n: b.clone() for n, b in net.named_buffers()}
    _, seen = record_statistics(net, weights, spec.fetch(torch.arange(2)).x, {nn.BatchNorm2d: batch_norm_statistics})
    assert len(seen) == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 20
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers())


def test_the_rate_is_half_a_cosine_that_ends_at_zero() -> None:
    method = at_toy(SRe2L(iterations=100, **PLAIN))
    rates = [method.build_engine(toy_problem(method)).learning_rate(t) for t in (0, 50, 100)]
    assert rates == pytest.approx([0.25, 0.125, 0])


def test_crops_keep_to_the_curriculum(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    from potstill.methods.decoupled import _parts

    real = _parts.boxes

    def spy(n: int, h: int, w: int, scale: tuple[float, float], *rest: Any) -> Tensor:
        seen.append(scale[0])
        return real(n, h, w, scale, *rest)

    monkeypatch.setattr(_parts, "boxes", spy)
    method = CDA(iterations=8, **PLAIN)
    problem, state, rng = started(method, ipc=1)
    steps(method, problem, state, rng, 8)
    expected = [0.08 + 0.92 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(1, 8)]
    assert seen == pytest.approx(expected)  # the first is the whole picture: nothing is drawn


def test_pictures_of_digits_are_not_mirrored() -> None:
    method = at_toy(SRe2L(iterations=4, flip=True, jitter=0, **PLAIN))
    problem, state, _ = started(method)
    x = pixels(state)
    assert any(not torch.equal(view(method, problem, state, x, generator(n)), x) for n in range(9))
    read_one_way = dataclasses.replace(problem.train.input, horizontal_flip=False)
    digits = replace(problem, train=dataclasses.replace(problem.train, input=read_one_way))
    assert all(torch.equal(view(method, digits, state, x, generator(n)), x) for n in range(9))
    still = replace(method, flip=False)
    assert all(torch.equal(view(still, problem, state, x, generator(n)), x) for n in range(9))


def test_a_roll_is_by_up_to_jitter_pixels() -> None:
    method = at_toy(SRe2L(flip=False, jitter=2, **PLAIN))
    problem, state, _ = started(method)
    x = pixels(state)
    allowed = [x.roll((i, j), (2, 3)) for i in range(3) for j in range(3)]
    for n in range(20):
        assert any(torch.equal(view(method, problem, state, x, generator(n)), a) for a in allowed)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_by_slots_by_classes_and_of_a_class() -> None:
    sizes = (3, 2, 1)  # items 0 1 2 | 3 4 | 5
    assert [b.tolist() for b in plan_batches(sizes, 100, "slots")] == [[0, 3, 5], [1, 4], [2]]
    assert [b.tolist() for b in plan_batches(sizes, 2, "slots")] == [[0, 3], [5], [1, 4], [2]]
    assert [b.tolist() for b in plan_batches(sizes, 4, "classes")] == [[0, 1, 2, 3], [4, 5]]
    assert [b.tolist() for b in plan_batches(sizes, 2, "class")] == [[0, 1], [2], [3, 4], [5]]


def test_a_stopped_run_has_finished_items_some_under_way_and_first_values() -> None:
    method = at_toy(SRe2L(iterations=3, labels="hard", **PLAIN))
    problem, first, _ = started(method)
    done = run_loop(method, problem, rng=generator(3), identity={}, limits=LoopLimits(steps=4))
    x, begun = method.result(problem, done.state).payload["inputs"], pixels(first)
    assert (done.state.batch, done.state.iteration) == (1, 1)
    assert torch.equal(x[1::2], work(done.state))
    assert all(not torch.equal(x[i], begun[i]) for i in range(8))
    two = run_loop(method, problem, rng=generator(3), identity={}, limits=LoopLimits(steps=2))
    assert torch.equal(method.result(problem, two.state).payload["inputs"][1::2], begun[1::2])
    assert method.num_steps(problem) == 6
    assert run_loop(method, problem, rng=generator(3), identity={}).outcome.kind == "finished"


def test_values_stay_those_of_pixels() -> None:
    method = at_toy(SRe2L(iterations=3, lr=50.0, **PLAIN))
    problem, state, rng = started(method, ipc=1)
    x = pixels(steps(method, problem, state, rng, 3)[-1][0])
    values = problem.train.normalization.invert(x)
    assert float(values.min()) >= -1e-6
    assert float(values.max()) <= 1 + 1e-6
    limits = pixel_bounds(problem)
    assert limits is not None
    torch.testing.assert_close(problem.train.normalization.invert(limits[1]), torch.ones(1, 1, 1, 1))


def test_priors_join_the_loss() -> None:
    plain = at_toy(SRe2L(iterations=3, **PLAIN))
    problem, state, rng = started(plain)
    loss = plain.step(problem, state, rng)[1]["loss"]
    x = pixels(state)[::2]
    for changes, more in (
        ({"l2": 0.5}, 0.5 * float(x.flatten(1).norm(dim=1).mean())),
        ({"tv": 0.0, "first_layer": 10.0}, 0.0),
    ):
        assert replace(plain, **changes).step(problem, state, rng)[1]["loss"] == pytest.approx(loss + more, rel=1e-5)
    assert replace(plain, tv=0.1).step(problem, state, rng)[1]["loss"] > loss


# --- teachers and labels ----------------------------------------------------------------------------------------------


def test_a_network_without_batch_norm_is_refused_in_one_line() -> None:
    with pytest.raises(PotstillError, match=r"^this method matches .* but network convnet-d1-w8-instance-avg has none"):
        toy_problem(SRe2L(), network="convnet-d1-w8")


def test_a_committee_is_trained_and_its_mean_logits_are_the_labels() -> None:
    options: dict[str, Any] = {"iterations": 2, "num_teachers": 2, "temperature": 2.0, **PLAIN}
    method = at_toy(SRe2L(committee="convnet-d1-w4-batch, mlp", **options))
    assert all(spec.labels for spec in method.assets(toy_problem(network="convnet-d1-w8-batch")))
    method = replace(method, committee="convnet-d1-w4-batch")
    problem, state, _ = started(method)
    asked = members(method, problem)
    assert len(asked) == 3
    widths = [m.weights["features.0.weight"].shape[0] for m in asked]
    assert widths == [8, 8, 4]
    expected = (sum(m.logits(pixels(state)) for m in asked) / 3 / 2.0).softmax(1)
    torch.testing.assert_close(method.result(problem, state).labels, expected)
    hard = replace(method, labels="hard").result(problem, state).labels
    assert hard.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"committee": "convnet-d1-w4-batch,convnet-d1-w4-batch"}, "convnet-d1-w4-batch is listed twice"),
        ({"committee": "convnot"}, "unknown network 'convnot'"),
    ],
)
def test_a_wrong_committee_is_refused_before_it_is_trained(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PotstillError, match=sentence):
        toy_problem(SRe2L(**changes))


def test_teachers_that_are_missing_or_of_another_kind_are_named() -> None:
    method = at_toy(SRe2L(iterations=2, **PLAIN))
    problem = toy_problem(method)
    with pytest.raises(PotstillError, match=r"needs 1 trained convnet-d1-w8-batch-avg, but the problem has 0"):
        members(method, replace(problem, assets={}))
    other = toy_problem(method, network="convnet-d1-w4-batch")
    with pytest.raises(PotstillError, match="are not convnet-d1-w8-batch-avg; train them again"):
        members(method, replace(problem, assets=other.assets))


def test_real_statistics_are_those_of_all_samples_at_once() -> None:
    method = at_toy(SRe2L(**PLAIN))
    problem = toy_problem(method)
    member = members(method, problem)[0]
    rows = measure_statistics(problem, member, method.build_engine(problem).match.rules, problem.class_indices)
    for c, index in enumerate(problem.class_indices):
        a = F.conv2d(
            problem.train.fetch(index).x, member.weights["features.0.weight"], member.weights["features.0.bias"],
            padding=3,
        )  # fmt: skip
        torch.testing.assert_close(rows["features.1/mean"][c], a.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rows["features.1/var"][c], a.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-4)
    everything = torch.cat(problem.class_indices)
    once = measure_statistics(problem, member, method.build_engine(problem).match.rules, [everything])
    for key, value in pool_statistics(rows, [len(i) for i in problem.class_indices]).items():
        torch.testing.assert_close(value, once[key][0], rtol=1e-3, atol=1e-4)
