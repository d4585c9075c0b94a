"""Unrolled training: replay is the gradient of the whole unroll, and so is a loop written by hand."""

import math
from collections.abc import Mapping
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from potstill.augment.siamese import dsa, dsa_noflip
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters, cross_entropy
from potstill.functional.unroll import (
    InnerOptimizer,
    Loss,
    Mode,
    UnrolledGrads,
    init_student,
    run_steps,
    start_trace,
    train_student,
    unrolled_grads,
)
from potstill.nn.convnet import ConvNet
from potstill.rng import generator

SGD = InnerOptimizer()
MOMENTUM = InnerOptimizer(momentum=0.9, weight_decay=1e-3)
ADAM = InnerOptimizer(optimizer="adam", weight_decay=1e-3)
INNERS = {"sgd": SGD, "momentum": MOMENTUM, "adam": ADAM}
RATES = {"sgd": 0.1, "momentum": 0.03, "adam": 0.01}


def mlp(seed: int = 0) -> nn.Module:
    rng = generator(seed, "mlp")
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=rng, dtype=torch.float64))
    return net


def convnet() -> nn.Module:
    net = ConvNet((1, 8, 8), 3, depth=2, width=4).double()
    rng = generator(1, "conv")
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float64))
    return net


def stored(side: int = 4, n: int = 6) -> dict[str, Tensor]:
    rng = generator(0, "x")
    x = torch.randn(n, 1, side, side, generator=rng, dtype=torch.float64)
    return {"inputs": x, "labels": torch.randn(n, 3, generator=rng, dtype=torch.float64).softmax(1)}


def student(net: nn.Module, *, augment: str = "none", batch: int | None = None) -> Loss:
    """Cross-entropy of soft labels; what is drawn depends on the step alone."""

    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        x, y = leaves["inputs"], leaves["labels"]
        if batch is not None:
            rows = torch.randperm(len(x), generator=generator(step, "rows"))[:batch]
            x, y = x[rows], y[rows]
        if augment != "none":
            kind = dsa() if augment == "drawn" else dsa_noflip()
            params = kind.draw(len(x), x.shape[1:], generator(step if augment == "drawn" else 0, "dsa"))
            x = kind.apply(x, params)
        return cross_entropy(functional_call(net, dict(theta), (x,)), y)

    return loss


def far(net: nn.Module) -> dict[str, Tensor]:
    rng = generator(5, "target")
    return {n: p + 0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in copy_parameters(net).items()}


def distance(target: Mapping[str, Tensor], theta: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([((theta[n] - t) ** 2).sum() for n, t in target.items()]).sum()


def unrolled(
    net: nn.Module, loss: Loss, leaves: Mapping[str, Tensor], lr: float | Tensor, inner: InnerOptimizer, steps: range,
    mode: Mode, until: int | None = None,
) -> UnrolledGrads:  # fmt: skip
    trail = train_student(loss, init_student(copy_parameters(net), inner), leaves, lr, inner, steps)
    return unrolled_grads(loss, trail, leaves, lr, inner, partial(distance, far(net)), mode, until)


def tensors(found: UnrolledGrads) -> dict[str, Tensor]:
    theta = torch.cat([t.flatten() for t in found.theta.values()])
    return {"loss": torch.tensor(found.loss, dtype=torch.float64), "lr": found.lr, "theta": theta, **found.leaves}


def assert_near(a: UnrolledGrads, b: UnrolledGrads, bound: float = 1e-9) -> None:
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].norm() > 0, name
        assert (left[name] - right[name]).norm() <= bound * right[name].norm(), name


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("name", INNERS)
def test_replay_is_the_whole_unroll(name: str, steps: int) -> None:
    net, lr = mlp(), torch.tensor(RATES[name], dtype=torch.float64)
    given = (net, student(net, augment="drawn", batch=4), stored(), lr, INNERS[name], range(3, 3 + steps))
    assert_near(unrolled(*given, "replay"), unrolled(*given, "full"))


@pytest.mark.parametrize("augment", ["none", "drawn", "fixed"])
@pytest.mark.parametrize("name", INNERS)
def test_replay_is_the_whole_unroll_through_the_networks_kernels(name: str, augment: str) -> None:
    net = convnet()
    given = (net, student(net, augment=augment, batch=5), stored(8), RATES[name], INNERS[name], range(7))
    assert_near(unrolled(*given, "replay"), unrolled(*given, "full"))


@pytest.mark.parametrize("name", INNERS)
def test_large_tensors_take_the_fused_form_and_agree(name: str) -> None:
    net = ConvNet((1, 32, 32), 3, depth=1, width=8).double()
    given = (net, student(net), stored(32, 16), RATES[name], INNERS[name], range(2))
    assert_near(unrolled(*given, "replay"), unrolled(*given, "full"))


def by_hand(
    net: nn.Module, loss: Loss, leaves: Mapping[str, Tensor], lr: float, inner: InnerOptimizer, steps: int
) -> dict[str, Tensor]:
    """Torch's own optimisers' formulas, tensor by tensor, in one graph."""
    theta = {n: p.requires_grad_() for n, p in copy_parameters(net).items()}
    start, x = list(theta.values()), {n: t.clone().requires_grad_() for n, t in leaves.items()}
    rate = torch.tensor(lr, dtype=torch.float64, requires_grad=True)
    m = {n: torch.zeros_like(p) for n, p in theta.items()}
    v = {n: torch.zeros_like(p) for n, p in theta.items()}
    for i in range(steps):
        value = loss(theta, x, i)
        grads = dict(zip(theta, torch.autograd.grad(value, list(theta.values()), create_graph=True), strict=True))
        after = {}
        for n, p in theta.items():
            g = grads[n] + inner.weight_decay * p
            if inner.optimizer == "sgd":
                m[n] = inner.momentum * m[n] + g
                after[n] = p - rate * m[n]
            else:
                m[n] = 0.9 * m[n] + 0.1 * g
                v[n] = 0.999 * v[n] + 0.001 * g * g
                after[n] = p - rate * (m[n] / (1 - 0.9 ** (i + 1))) / (
                    (v[n] / (1 - 0.999 ** (i + 1))).sqrt() + inner.eps
                )
        theta = after
    outer = distance(far(net), theta)
    found = torch.autograd.grad(outer, [rate, *start, *x.values()])
    joined = torch.cat([t.flatten() for t in found[1 : 1 + len(start)]])
    return {
        "loss": outer.detach(),
        "lr": found[0],
        "theta": joined,
        **dict(zip(x, found[1 + len(start) :], strict=True)),
    }


@pytest.mark.parametrize("mode", ["replay", "full"])
@pytest.mark.parametrize("name", INNERS)
def test_a_loop_written_by_hand_gives_the_same(name: str, mode: Mode) -> None:
    net, leaves = mlp(), stored()
    loss = student(net)
    right = by_hand(net, loss, leaves, RATES[name], INNERS[name], 5)
    for key, value in tensors(unrolled(net, loss, leaves, RATES[name], INNERS[name], range(5), mode)).items():
        assert torch.allclose(value.double(), right[key], rtol=1e-10, atol=1e-13), key


@pytest.mark.parametrize("name", INNERS)
def test_torch_optimisers_make_the_same_steps(name: str) -> None:
    net, leaves, inner = mlp(), stored(), INNERS[name]
    loss = student(net)
    state = run_steps(loss, init_student(copy_parameters(net), inner), leaves, RATES[name], inner, range(9))
    kind = torch.optim.Adam if inner.optimizer == "adam" else partial(torch.optim.SGD, momentum=inner.momentum)
    theirs = kind(net.parameters(), lr=RATES[name], weight_decay=inner.weight_decay)
    for _ in range(9):
        theirs.zero_grad()
        cross_entropy(net(leaves["inputs"]), leaves["labels"]).backward()
        theirs.step()
    assert state.num_steps == 9
    for n, p in net.named_parameters():
        assert torch.allclose(state.theta[n], p, rtol=1e-11, atol=1e-14)


def test_a_known_number() -> None:
    """θ' = θ − β·(θ − x) twice, from θ = 0, x = 1: θ_2 = 1 − (1 − β)², and outer = θ_2²."""

    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        return ((theta["w"] - leaves["x"]) ** 2).sum() / 2

    leaves, zero = {"x": torch.ones(1, dtype=torch.float64)}, {"w": torch.zeros(1, dtype=torch.float64)}
    for mode in ("replay", "full"):
        trail = train_student(loss, init_student(zero, SGD), leaves, 0.5, SGD, range(2))
        found = unrolled_grads(loss, trail, leaves, 0.5, SGD, lambda theta: (theta["w"] ** 2).sum(), mode)
        assert found.loss == 0.5625
        assert float(found.leaves["x"]) == 1.125  # 2·θ_2·(1 − (1 − β)²)
        assert float(found.lr) == 1.5  # 2·θ_2·2(1 − β)
        assert float(found.theta["w"]) == 0.375  # 2·θ_2·(1 − β)²


@pytest.mark.parametrize("name", INNERS)
def test_finite_differences_agree(name: str) -> None:
    net, inner, start = mlp(), INNERS[name], stored(n=2)
    loss = student(net, augment="drawn")

    class Replayed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y, lr):  # type: ignore[no-untyped-def]
            found = unrolled(net, loss, {"inputs": x, "labels": y}, lr, inner, range(3), "replay")
            ctx.found = found
            return torch.tensor(found.loss, dtype=torch.float64)

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            return *(grad * g for g in ctx.found.leaves.values()), grad * ctx.found.lr

    given = [t.clone().requires_grad_() for t in (*start.values(), torch.tensor(RATES[name], dtype=torch.float64))]
    assert torch.autograd.gradcheck(Replayed.apply, given, atol=1e-6)


def test_until_stops_earlier_and_a_shorter_trail_says_so() -> None:
    net, leaves = mlp(), stored()
    loss = student(net, batch=3)
    early = unrolled(net, loss, leaves, 0.1, SGD, range(9), "replay", until=4)
    assert_near(early, unrolled(net, loss, leaves, 0.1, SGD, range(4), "full"))
    assert_near(unrolled(net, loss, leaves, 0.1, SGD, range(9), "full", until=4), early)
    nothing = unrolled(net, loss, leaves, 0.1, SGD, range(9), "replay", until=0)
    assert float(nothing.lr) == 0 == float(nothing.leaves["inputs"].abs().sum())
    with pytest.raises(ValueError, match="4 steps was given, but the gradients of 5"):
        unrolled(net, loss, leaves, 0.1, SGD, range(4), "replay", until=5)


def test_a_window_goes_on_where_the_burn_in_ended() -> None:
    net, leaves = mlp(), stored()
    loss = student(net, batch=3, augment="drawn")
    whole = train_student(loss, init_student(copy_parameters(net), ADAM), leaves, 0.01, ADAM, range(12))
    state = run_steps(loss, init_student(copy_parameters(net), ADAM), leaves, 0.01, ADAM, range(8))
    window = train_student(loss, state, leaves, 0.01, ADAM, range(8, 12))
    assert (window[0].num_steps, len(window)) == (8, 5)
    for n, t in window[4].theta.items():
        assert torch.equal(t, whole[12].theta[n])
    one = run_steps(loss, whole[3], leaves, 0.01, ADAM, range(3, 4))
    assert all(torch.equal(one.exp_avg_sq[n], t) for n, t in whole[4].exp_avg_sq.items())
    outer = partial(distance, far(net))
    parts = [unrolled_grads(loss, window, leaves, 0.01, ADAM, outer, mode) for mode in ("replay", "full")]
    assert_near(*parts)
    alone = unrolled_grads(loss, start_trace(state, range(8, 12)), leaves, 0.01, ADAM, outer, "full")
    assert torch.equal(alone.lr, parts[1].lr)


def test_tesla_is_the_formula() -> None:
    net, leaves, beta, steps, target = mlp(), stored(), 0.1, 6, far(mlp())
    loss = student(net, batch=4)
    trail = train_student(loss, init_student(copy_parameters(net), SGD), leaves, beta, SGD, range(steps))
    scale = float(distance(target, trail[0].theta))
    found = unrolled_grads(loss, trail, leaves, beta, SGD, lambda t: distance(target, t) / scale, "tesla")
    x = {n: t.clone().requires_grad_() for n, t in leaves.items()}
    gradients, total = [], {n: torch.zeros_like(t) for n, t in target.items()}
    for i in range(steps):
        theta = {n: t.requires_grad_() for n, t in trail[i].theta.items()}
        g = torch.autograd.grad(loss(theta, x, i), list(theta.values()), create_graph=True)
        gradients.append(dict(zip(theta, g, strict=True)))
        total = {n: total[n] + gradients[-1][n].detach() for n in total}
    first = trail[0].theta
    towards = {n: (2 * beta * (target[n] - first[n]) + 2 * beta**2 * total[n]) / scale for n in target}
    right = {n: torch.zeros_like(t) for n, t in x.items()}
    for g in gradients:
        inner = torch.stack([(towards[n] * g[n]).sum() for n in g]).sum()
        for n, part in zip(x, torch.autograd.grad(inner, list(x.values())), strict=True):
            right[n] += part
    by_rate = (
        sum(float((2 * total[n] * (target[n] - first[n] + beta * total[n])).sum()) for n in target) / scale
    )  # d/dβ of ‖θ_0 − β·G − θ*‖² / D
    for n, t in right.items():
        assert torch.allclose(found.leaves[n], t, rtol=1e-10, atol=1e-14)
    assert float(found.lr) == pytest.approx(by_rate, rel=1e-10)


def test_tesla_is_exact_for_one_step_and_worse_with_every_more() -> None:
    net, leaves = mlp(), stored()
    loss, cosines = student(net), []
    for steps in (1, 10, 40):
        exact, near = (unrolled(net, loss, leaves, 0.3, SGD, range(steps), m) for m in ("replay", "tesla"))
        cosines.append(float(F.cosine_similarity(exact.leaves["inputs"].flatten(), near.leaves["inputs"].flatten(), 0)))
    assert cosines[0] == pytest.approx(1, abs=1e-12)
    assert cosines[0] > cosines[1] + 1e-3 > cosines[2] + 2e-3


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_tesla_refuses_what_it_is_no_approximation_of(name: str) -> None:
    net = mlp()
    with pytest.raises(PotstillError, match=r"tesla.* use mode replay"):
        unrolled(net, student(net), stored(), 0.01, INNERS[name], range(2), "tesla")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", INNERS)
def test_a_trail_in_a_file_has_the_same_bits(name: str, dtype: torch.dtype) -> None:
    net, inner = mlp().to(dtype), INNERS[name]
    leaves = {n: t.to(dtype) for n, t in stored().items()}
    loss = student(net, batch=3)
    first = init_student(copy_parameters(net), inner)
    inside, outside = (train_student(loss, first, leaves, 0.01, inner, range(6), limit=m) for m in (2**20, 0))
    assert (inside.on_disk, outside.on_disk) == (False, True)
    assert len(inside) == len(outside) == 7
    for a, b in zip(inside, outside, strict=True):
        assert a.num_steps == b.num_steps
        for kind in ("theta", "exp_avg", "exp_avg_sq"):
            left, right = getattr(a, kind), getattr(b, kind)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[n], right[n]) and right[n].dtype == dtype for n in left)
    found = [
        tensors(unrolled_grads(loss, t, leaves, 0.01, inner, partial(distance, far(net)))) for t in (inside, outside)
    ]
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_unused_leaves_get_zeros_and_whole_numbers_none() -> None:
    net = mlp()
    leaves = {**stored(), "other": torch.ones(2, dtype=torch.float64), "classes": torch.tensor([0, 1])}
    for mode in ("replay", "full", "tesla"):
        found = unrolled(net, student(net), leaves, 0.1, SGD, range(3), mode)
        assert set(found.leaves) == {"inputs", "labels", "other"}
        assert torch.equal(found.leaves["other"], torch.zeros(2, dtype=torch.float64))


def test_rows_that_no_batch_draws_get_zeros() -> None:
    net = mlp()
    found = unrolled(net, student(net, batch=2), stored(), 0.1, SGD, range(1), "replay")
    assert int((found.leaves["inputs"].flatten(1).norm(dim=1) > 0).sum()) == 2


def test_weights_without_a_gradient_do_not_spoil_adam() -> None:
    """A unit that is never active: its moments stay 0, where a square root has no slope."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        net[1].bias[0] = -100.0
    inner = InnerOptimizer(optimizer="adam")
    given = (net, student(net), stored(), 0.01, inner, range(4))
    replay, full = unrolled(*given, "replay"), unrolled(*given, "full")
    assert all(bool(t.isfinite().all()) for t in tensors(replay).values())
    assert_near(replay, full)


def test_nothing_given_is_written_into_and_nothing_global_drawn() -> None:
    net, leaves = mlp(), stored()
    loss, lr = student(net, augment="drawn"), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    first = init_student(copy_parameters(net), MOMENTUM)
    given = {**leaves, **first.theta, "lr": lr}
    before, random = {n: t.detach().clone() for n, t in given.items()}, torch.get_rng_state()
    for mode in ("replay", "full"):
        trail = train_student(loss, first, leaves, lr, MOMENTUM, range(3), limit=0)
        with torch.no_grad():
            unrolled_grads(loss, trail, leaves, lr, MOMENTUM, partial(distance, far(net)), mode)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[n], t) and t.grad is None for n, t in given.items())
    assert not any(t.requires_grad for t in (*leaves.values(), *first.theta.values()))


def test_a_state_that_is_written_into_leaves_the_trail_alone() -> None:
    net, leaves = mlp(), stored()
    trail = train_student(student(net), init_student(copy_parameters(net), SGD), leaves, 0.1, SGD, range(2))
    trail[1].theta["1.bias"].zero_()
    assert trail[1].theta["1.bias"].norm() > 0


@pytest.mark.parametrize("limit", [0, 2**20])
def test_a_step_that_is_not_finite_is_named(limit: int) -> None:
    net, leaves = mlp(), stored()

    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        return student(net)(theta, leaves, step) * (math.inf if step == 13 else 1)

    with pytest.raises(PotstillError, match=r"inner step 13 it is not .learning rate 0.1"):
        train_student(loss, init_student(copy_parameters(net), SGD), leaves, 0.1, SGD, range(10, 20), limit=limit)
    with pytest.raises(PotstillError, match="inner step 13"):
        run_steps(loss, init_student(copy_parameters(net), SGD), leaves, 0.1, SGD, range(10, 20))
    with pytest.raises(PotstillError, match="inner step 13"):
        unrolled_grads(loss, start_trace(init_student(copy_parameters(net), SGD), range(10, 20)), leaves, 0.1, SGD,
               partial(distance, far(net)), "full")  # fmt: skip


def test_a_gradient_that_is_not_finite_on_the_way_back_is_named() -> None:
    def loss(theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        # at step 2 the gradient by the weight is √|x| = 0, whose own slope is infinite
        return theta["w"].sum() * (leaves["x"].sqrt() if step == 2 else leaves["x"]).sum()

    leaves, w = {"x": torch.zeros(1, dtype=torch.float64)}, {"w": torch.ones(1, dtype=torch.float64)}
    trail = train_student(loss, init_student(w, SGD), leaves, 0.1, SGD, range(5))
    with pytest.raises(PotstillError, match="way back must be finite, but at inner step 2 "):
        unrolled_grads(loss, trail, leaves, 0.1, SGD, lambda t: t["w"].sum())
    with pytest.raises(PotstillError, match="at the outer loss it is not"):
        unrolled_grads(loss, trail, leaves, 0.1, SGD, lambda t: t["w"].sum() * math.nan)
    with pytest.raises(PotstillError, match="use mode replay, which says"):
        unrolled_grads(loss, trail, leaves, 0.1, SGD, lambda t: t["w"].sum(), "full")


@pytest.mark.parametrize(
    "settings",
    [{"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"optimizer": "adam", "momentum": 0.9},
     {"weight_decay": -1.0}, {"eps": 0.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(PotstillError):
        InnerOptimizer(**settings)  # type: ignore[arg-type]


def test_a_state_of_another_optimiser_is_refused() -> None:
    net = mlp()
    with pytest.raises(ValueError, match=r"init_student.theta, inner. makes one"):
        run_steps(student(net), init_student(copy_parameters(net), SGD), stored(), 0.1, ADAM, range(1))
    mixed = {"a": torch.zeros(1), "b": torch.zeros(1, dtype=torch.float64)}
    with pytest.raises(ValueError, match="one dtype"):
        run_steps(student(net), init_student(mixed, SGD), stored(), 0.1, SGD, range(1))
