"""DM, DC and DSA against naive re-derivations, and golden values of their first steps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.core import Problem
from potstill.methods.distribution._statistics import groups
from potstill.methods.distribution.dm import DM
from potstill.methods.gradient._values import published_loops
from potstill.methods.gradient.dc import DC
from potstill.methods.gradient.dsa import DSA
from potstill.rng import class_generators, draw_seed, generator
from potstill.testing import toy_problem


def test_dm_takes_the_published_step() -> None:
    method = DM(iterations=2, batch_real=7, lr=2.0)
    problem = toy_problem(method, ipc=3)
    rng = generator(3)
    first = method.init(problem, rng)
    seed_state = rng.get_state()
    second, metrics = method.step(problem, first, rng)
    probe = generator(0)
    probe.set_state(seed_state)
    # The reference draws from a generator in the same state.
    loss, gradient = _naive_from(problem, first.params.value["payload/inputs"], seed_state, 7)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(
        second.params.value["payload/inputs"],
        first.params.value["payload/inputs"] - 2.0 * gradient,
        rtol=1e-5,
        atol=1e-6,
    )
    torch.testing.assert_close(second.params.exp_avg["payload/inputs"], gradient, rtol=1e-5, atol=1e-6)


def _naive_from(problem: Problem, S: Tensor, rng_state: Tensor, batch: int) -> tuple[float, Tensor]:
    rng = generator(0)
    rng.set_state(rng_state)
    block = draw_seed(rng)
    first, real = generator(block, "block"), generator(block, "real")
    net = problem.network(draw_seed(first))
    omega = [
        problem.augment.draw(1, problem.train.input.shape, g) for g in class_generators(first, problem.class_names)
    ]
    drawn = [
        i[torch.randperm(len(i), generator=g)[:batch]]
        for i, g in zip(problem.class_indices, class_generators(real, problem.class_names), strict=True)
    ]
    S = S.clone().requires_grad_()
    loss = torch.zeros(())
    for c, (index, s) in enumerate(zip(drawn, S.split(list(problem.counts)), strict=True)):
        real = net.embed(problem.augment.apply(problem.train.fetch(index).x, omega[c])).detach().mean(0)
        loss = loss + (real - net.embed(problem.augment.apply(s, omega[c])).mean(0)).square().sum()
    return float(loss.detach()), torch.autograd.grad(loss, S)[0]


def test_dm_momentum_is_half_and_accumulates() -> None:
    method = DM(iterations=3, batch_real=12, augment="none")
    problem = toy_problem(method)
    rng = generator(4)
    state = method.init(problem, rng)
    velocity = torch.zeros_like(state.params.value["payload/inputs"])
    for _ in range(3):
        before = rng.get_state()
        following, _ = method.step(problem, state, rng)
        gradient = _naive_from(problem, state.params.value["payload/inputs"], before, 12)[1]
        velocity = 0.5 * velocity + gradient
        torch.testing.assert_close(following.params.exp_avg["payload/inputs"], velocity, rtol=1e-4, atol=1e-5)
        state = following


def test_dm_splits_many_classes_without_changing_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    method = DM(batch_real=8)
    problem = toy_problem(method)
    whole = method.step(problem, method.init(problem, generator(1)), generator(2))[0]
    monkeypatch.setattr("potstill.methods.distribution._features.FORWARD_SAMPLES", 10)
    parts = method.step(problem, method.init(problem, generator(1)), generator(2))[0]
    torch.testing.assert_close(parts.params.value["payload/inputs"], whole.params.value["payload/inputs"])
    assert groups([8, 8, 8], 10) == [[0], [1], [2]]
    assert groups([4, 4, 8, 30, 1], 10) == [[0, 1], [2], [3], [4]]


def naive_rows(g_s: Tensor, g_t: Tensor) -> Tensor:
    """Sum over output rows of one minus the cosine, row by row."""
    if g_s.ndim == 1:
        return torch.zeros(())
    total = torch.zeros(())
    for a, b in zip(g_s.reshape(len(g_s), -1), g_t.reshape(len(g_t), -1), strict=True):
        total = total + 1 - (a @ b) / (a.norm() * b.norm() + 1e-6)
    return total


@pytest.mark.parametrize("method", [DC(iterations=2, batch_real=5), DSA(iterations=2, batch_real=5)])
def test_gradient_matching_takes_the_published_step(method: DC | DSA) -> None:
    problem = toy_problem(method)
    rng = generator(8)
    state = method.init(problem, rng)
    replay = generator(0)
    replay.set_state(rng.get_state())
    following, metrics = method.step(problem, state, rng)

    net = problem.network(state.pool[0].seed)
    drawn = [
        i[torch.randperm(len(i), generator=g)[:5]]
        for i, g in zip(problem.class_indices, class_generators(replay, problem.class_names), strict=True)
    ]
    omega = [
        problem.augment.draw(1, problem.train.input.shape, g) for g in class_generators(replay, problem.class_names)
    ]
    S = state.params.value["payload/inputs"].clone().requires_grad_()
    loss = torch.zeros(())
    for c, (index, s) in enumerate(zip(drawn, S.split(list(problem.counts)), strict=True)):
        real = problem.augment.apply(problem.train.fetch(index).x, omega[c])
        syn = problem.augment.apply(s, omega[c])
        parameters = list(net.parameters())
        g_t = torch.autograd.grad(F.cross_entropy(net(real), torch.full((len(real),), c)), parameters)
        g_s = torch.autograd.grad(F.cross_entropy(net(syn), torch.full((len(syn),), c)), parameters, create_graph=True)
        loss = loss + sum(naive_rows(a, b.detach()) for a, b in zip(g_s, g_t, strict=True))
    gradient = torch.autograd.grad(loss, S)[0]
    assert metrics["loss"] == pytest.approx(float(loss.detach()) / problem.num_classes, rel=1e-4)
    torch.testing.assert_close(
        following.params.value["payload/inputs"], S.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", [DC, DSA])
def test_the_network_trains_on_the_synthetic_data_between_updates(kind: type[DC] | type[DSA]) -> None:
    method = kind(iterations=2, batch_real=5, outer=3, inner=4, lr_net=0.05, augment="none")
    problem = toy_problem(method)
    rng = generator(9)
    state = method.init(problem, rng)
    following, _ = method.step(problem, state, rng)
    assert (following.block_steps, following.iteration, following.pool[0].seed) == (1, 0, state.pool[0].seed)
    net = problem.network(state.pool[0].seed)
    reference = copy.deepcopy(net)
    optimiser = torch.optim.SGD(reference.parameters(), lr=0.05)
    x, y = following.params.value["payload/inputs"], torch.arange(4).repeat_interleave(2)
    for _ in range(4):  # eight samples fit one batch, so their order only changes rounding
        optimiser.zero_grad()
        F.cross_entropy(reference(x), y).backward()
        optimiser.step()
    for name, p in reference.named_parameters():
        torch.testing.assert_close(following.pool[0].theta[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_outer_updates_share_a_network_and_then_it_is_fresh() -> None:
    method = DC(iterations=2, batch_real=5, outer=2, inner=1)
    problem = toy_problem(method)
    rng = generator(9)
    state = method.init(problem, rng)
    trace = []
    while not method.done(problem, state):
        trace.append((state.iteration, state.block_steps, state.pool[0].seed))
        state, _ = method.step(problem, state, rng)
    assert [t[:2] for t in trace] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert trace[0][2] == trace[1][2] != trace[2][2] == trace[3][2]
    assert method.num_steps(problem) == 4


def test_loops_by_items_per_class_are_the_published_table() -> None:
    assert [published_loops(n) for n in (1, 10, 20, 30, 40, 50)] == [
        (1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10),
    ]  # fmt: skip
    assert published_loops(100) == (100, 5)
    assert published_loops(5) == (5, 50)
    problem = toy_problem(DC(), ipc=10)
    assert DC(iterations=2).num_steps(problem) == 2 * 10
    assert DC(iterations=2, outer=3).num_steps(problem) == 2 * 3


def test_dc_starts_from_noise_and_dsa_from_real_samples() -> None:
    problem = toy_problem(DSA())
    noise = DC().init(problem, generator(1)).params.value["payload/inputs"]
    assert abs(float(noise.mean())) < 0.1
    assert 0.9 < float(noise.std()) < 1.1
    real = DSA().init(problem, generator(1)).params.value["payload/inputs"]
    every = problem.train.fetch(torch.arange(len(problem.train))).x
    assert isinstance(every, Tensor)
    assert all(any(torch.equal(r, e) for e in every) for r in real)
