"""One whole step of every feature-matching method against a naive re-derivation with the same draws.

The reference reads the draws from generators in the same state, takes one class at a time, decodes tiles cell by cell,
and moves what is stored with torch's own optimisers.
"""

import cmath
import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import Network, Problem
from potstill.errors import PotstillError
from potstill.functional.param_groups import ParamGroup
from potstill.methods.distribution import FeatureMatchingFields, Memory, Statistics, Views
from potstill.methods.distribution.cafe import CAFE
from potstill.methods.distribution.dance import DANCE
from potstill.methods.distribution.datadam import DataDAM
from potstill.methods.distribution.dm import DM
from potstill.methods.distribution.dsdm import DSDM
from potstill.methods.distribution.idm import IDM
from potstill.methods.distribution.m3d import M3D
from potstill.methods.distribution.ncfm import NCFM
from potstill.methods.engine import MatchingState
from potstill.rng import class_generators, draw_seed, generator
from potstill.testing import toy_problem, uneven_source

SMALL: dict[str, Any] = {"pretrained_networks": 2, "pretrain_epochs": 2}


@dataclass
class Draws:
    """What a step draws for its block: the seed, what follows the network's draws, and the real samples."""

    block: int
    rng: torch.Generator
    real: list[Tensor]
    """Indices of each class."""
    seed: int
    """Of the statistics."""

    def omegas(self, problem: Problem) -> list[object]:
        return [
            problem.augment.draw(1, problem.train.input.shape, g)
            for g in class_generators(self.rng, problem.class_names)
        ]


def drawn(problem: Problem, rng_state: Tensor, batch: int) -> Draws:
    rng = generator(0)
    rng.set_state(rng_state)
    block = draw_seed(rng)
    real = generator(block, "real")
    index = [
        i[torch.randperm(len(i), generator=g)[:batch]]
        for i, g in zip(problem.class_indices, class_generators(real, problem.class_names), strict=True)
    ]
    return Draws(block, generator(block, "block"), index, draw_seed(real))


def decoded(problem: Problem, stored: Tensor, space: str) -> list[Tensor]:
    """The inputs of each class in model space: pixels as they are, tiles cell by cell."""
    if stored.ndim == 4:
        classes = list(stored.split(list(problem.counts)))
    else:
        classes = []
        for pictures in stored:
            h, w = pictures.shape[2] // 2, pictures.shape[3] // 2
            cells = [pictures[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in (0, 1) for j in (0, 1)]
            up = [F.interpolate(c, size=pictures.shape[2:], mode="bilinear", align_corners=False) for c in cells]
            classes.append(torch.cat(up))
    normal = problem.train.normalization
    mean, std = normal.mean.reshape(1, -1, 1, 1), normal.std.reshape(1, -1, 1, 1)
    return [(x - mean) / std for x in classes] if space == "data" else classes


def seen_by(net: Network, problem: Problem, parts: list[Tensor], omegas: list[object]) -> list[Tensor]:
    """Features of each class's samples under its augmentation."""
    return [net.embed(problem.augment.apply(x, omega)) for x, omega in zip(parts, omegas, strict=True)]


def real_parts(problem: Problem, draws: Draws) -> list[Tensor]:
    return [problem.train.fetch(index).x for index in draws.real]


def stored_of(state: MatchingState) -> tuple[str, Tensor]:
    ((name, stored),) = [(n, t) for n, t in state.params.value.items() if n.startswith("payload/")]
    return name, stored


def rule_at(method: Any, problem: Problem, state: MatchingState) -> ParamGroup:
    """How the payload moves."""
    return method.build_engine(problem).param_groups(state, True)["payload/"]


def started(
    method: FeatureMatchingFields, seed: int = 3, **options: Any
) -> tuple[Problem, MatchingState, torch.Generator]:
    problem, rng = toy_problem(method, **options), generator(seed)
    return problem, method.init(problem, rng), rng


def between(problem: Problem, trained: Any, first: float) -> Network:
    """A network at the point ``first`` of the way back from its trained parameters to its first ones."""
    net = problem.network(trained.seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(first * p + (1 - first) * trained.parameters[name])
    return net.requires_grad_(False)


def close(a: Tensor, b: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b.detach(), rtol=rtol, atol=atol)


# --- the objectives, sample by sample where that is not the same expression -------------------------------------------


def of_means(real: list[Tensor], syn: list[Tensor]) -> Tensor:
    return sum(((r.mean(0) - s.mean(0)) ** 2).sum() for r, s in zip(real, syn, strict=True))


def of_covariances(real: list[Tensor], syn: list[Tensor], weight: float) -> Tensor:
    d = real[0].shape[1]
    return of_means(real, syn) + sum(
        weight / d * ((torch.cov(r.T) - torch.cov(s.T)) ** 2).sum() for r, s in zip(real, syn, strict=True)
    )


def of_kernels(real: list[Tensor], syn: list[Tensor], method: M3D) -> Tensor:
    total = of_means(real, syn)
    for r, s in zip(real, syn, strict=True):
        apart = sorted(float((r[i] - r[j]).norm()) for i in range(len(r)) for j in range(i))
        sigma = apart[(len(apart) - 1) // 2]  # torch's median: the lower of two

        def mean_kernel(a: Tensor, b: Tensor, sigma: float = sigma) -> Tensor:
            square = ((a[:, None] - b[None]) ** 2).sum(2)
            return sum(torch.exp(-square / (2 * (w * sigma) ** 2)) for w in method.bandwidths).mean()

        total = total + method.moments * (mean_kernel(r, r) - 2 * mean_kernel(r, s) + mean_kernel(s, s))
    return total


def of_characteristics(real: list[Tensor], syn: list[Tensor], t: Tensor, method: NCFM) -> Tensor:
    total = torch.zeros(())
    for r, s in zip(real, syn, strict=True):
        r, s = r / r.norm(dim=1, keepdim=True), s / s.norm(dim=1, keepdim=True)
        z, w = (torch.exp(1j * (t @ h.T)).mean(1) for h in (r, s))
        phase = 2 * (z.abs() * w.abs() - (z * w.conj()).real)
        total = total + (method.alpha * (z.abs() - w.abs()) ** 2 + method.beta * phase).sqrt().mean()
    return method.scale * total


def of_attention(real: list[list[Tensor]], syn: list[list[Tensor]], method: DataDAM) -> Tensor:
    def z(f: Tensor) -> Tensor:
        folded = (f.abs() ** method.power).sum(1).flatten(1)
        return folded / folded.norm(dim=1, keepdim=True)

    total = torch.zeros(())
    for r, s in zip(real, syn, strict=True):  # of one class: activations, then features
        for a, b in zip(r[:-2], s[:-2], strict=True):
            total = total + ((z(a).mean(0) - z(b).mean(0)) ** 2).sum()
        total = total + method.task_balance * ((r[-1].mean(0) - s[-1].mean(0)) ** 2).sum()
    return method.scale * total


def layers_of(net: Network, x: Tensor) -> list[Tensor]:
    """Activations of each block of a ConvNet before its pooling, then the features, from its parameters alone."""
    p = dict(net.named_parameters())
    made = []
    for block in range(sum(n.endswith("weight") and v.ndim == 4 for n, v in p.items())):
        x = F.conv2d(x, p[f"features.{4 * block}.weight"], p[f"features.{4 * block}.bias"], padding=1 if block else 3)
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
        scale, shift = (p[f"features.{4 * block + 1}.{n}"].reshape(1, -1, 1, 1) for n in ("weight", "bias"))
        x = ((x - mean) / (var + 1e-5).sqrt() * scale + shift).relu()
        made.append(x)
        x = F.avg_pool2d(x, 2)
    return [*made, x.flatten(1)]


# --- fresh networks ---------------------------------------------------------------------------------------------------


def check_fresh_step(method: FeatureMatchingFields, loss_of: Callable[[Any, Any], Tensor], **options: Any) -> None:
    problem, state, rng = started(method, **options)
    draws = drawn(problem, rng.get_state(), method.batch_real)
    following, metrics = method.step(problem, state, rng)

    net = problem.network(draw_seed(draws.rng)).requires_grad_(False)
    omegas = draws.omegas(problem)
    name, stored = stored_of(state)
    leaf = stored.clone().requires_grad_()
    sides = (real_parts(problem, draws), decoded(problem, leaf, method.build_engine(problem).space))
    if method.build_engine(problem).objective.measure.needs_layers:
        real, syn = (
            [layers_of(net, problem.augment.apply(x, o)) for x, o in zip(part, omegas, strict=True)] for part in sides
        )
    else:
        real, syn = (seen_by(net, problem, part, omegas) for part in sides)
    loss = loss_of(real, syn)
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    optimiser = torch.optim.SGD([leaf], lr=method.lr, momentum=method.momentum)
    loss.backward()
    optimiser.step()
    assert float((leaf.detach() - stored).abs().max()) > 1e-3, "nothing moved, so nothing was compared"
    close(following.params.exp_avg[name], leaf.grad)
    close(following.params.value[name], leaf)
    assert (following.iteration, following.block_steps, following.params.num_steps) == (1, 0, 1)


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_datadam_takes_the_step_of_its_equations(power: float) -> None:
    method = DataDAM(batch_real=7, power=power)
    # two blocks: the attention of the last one is left out, so one block would compare nothing
    check_fresh_step(method, lambda r, s: of_attention(r, s, method), network="convnet-d2-w8", ipc=3)


def test_m3d_takes_the_step_of_its_equation() -> None:
    method = M3D(batch_real=7, moments=30.0)
    check_fresh_step(method, lambda r, s: of_kernels(r, s, method))
    with_pixels = M3D(batch_real=5, parametrization="pixels", augment="none", moments=30.0)
    check_fresh_step(with_pixels, lambda r, s: of_kernels(r, s, with_pixels), ipc=1)


def test_one_real_sample_has_no_median_distance_and_m3d_takes_one() -> None:
    method = M3D(batch_real=1)
    problem, state, rng = started(method)
    following, metrics = method.step(problem, state, rng)
    assert math.isfinite(metrics["loss"])
    assert torch.isfinite(stored_of(following)[1]).all()


# --- CAFE -------------------------------------------------------------------------------------------------------------


def of_layers(real: list[list[Tensor]], syn: list[list[Tensor]], method: CAFE) -> Tensor:
    def gap(layer: int) -> Tensor:
        return sum(((r[layer].mean(0) - s[layer].mean(0)) ** 2).sum() for r, s in zip(real, syn, strict=True))

    last = len(real[0]) - 1
    # distill.py: 0.1, 0.1, 1, 1 for three activations and the features; the features' means once more with the rest
    total = sum((method.weights[0] if n < (last + 1) // 2 else method.weights[1]) * gap(n) for n in range(last + 1))
    total = total + gap(last)
    centres = torch.stack([s[-1].mean(0) for s in syn])
    for c, r in enumerate(real):
        for f in r[-1]:
            total = total - method.discrimination * torch.log_softmax(centres @ f, 0)[c]
    return total


@pytest.mark.parametrize("depth", [2, 3])
def test_cafe_takes_the_published_step(depth: int) -> None:
    method = CAFE(batch_real=5, lambda_1=2.0)
    problem, state, rng = started(method, network=f"convnet-d{depth}-w8", ipc=3)
    (member,) = state.pool
    draws = drawn(problem, rng.get_state(), 5)
    following, metrics = method.step(problem, state, rng)
    net, omegas = problem.network(member.seed).requires_grad_(False), draws.omegas(problem)
    name, stored = stored_of(state)
    leaf = stored.clone().requires_grad_()
    real, syn = (
        [layers_of(net, problem.augment.apply(x, o)) for x, o in zip(part, omegas, strict=True)]
        for part in (real_parts(problem, draws), decoded(problem, leaf, "model"))
    )
    loss = of_layers(real, syn, method)
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    (slope,) = torch.autograd.grad(loss, leaf)
    close(following.params.value[name], stored - 0.1 * slope, rtol=1e-3)


def test_cafe_halves_its_rate_at_the_published_parts() -> None:
    method = CAFE(iterations=10)
    problem, state, _ = started(method)
    rates = [rule_at(method, problem, replace(state, iteration=n)).lr for n in range(10)]
    assert rates == pytest.approx([0.1] * 6 + [0.05] * 2 + [0.025, 0.0125])


def accuracy(problem: Problem, net: Network) -> float:
    """Of all real samples, which the probe of 128 per class is here; classes count alike."""
    with torch.no_grad():
        right = net(problem.train.fetch(torch.arange(len(problem.train))).x).argmax(1) == problem.train.labels
    return float(torch.stack([right[i].float().mean() for i in problem.class_indices]).mean())


def test_cafe_trains_its_network_on_the_set_and_keeps_it() -> None:
    # ten passes are watched before one may be the last, and any move is enough
    method = CAFE(batch_real=5, lambda_1=-1.0, lambda_2=-1.0, lr_net=0.05, augment="none")
    problem, state, rng = started(method)
    following, _ = method.step(problem, state, rng)
    (before,), (after,) = state.pool, following.pool
    assert (after.seed, following.iteration) == (before.seed, 0), "iterations count networks, and this one goes on"
    net = problem.network(before.seed)
    assert following.memory["watched"].tolist() == pytest.approx([accuracy(problem, net)])
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    x, y = torch.cat(decoded(problem, stored_of(following)[1], "model")), torch.arange(4).repeat_interleave(2)
    for _ in range(10):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    for name, p in net.named_parameters():
        close(after.theta[name], p)


def test_cafe_replaces_its_network_when_ten_accuracies_stay_close() -> None:
    method = CAFE(batch_real=5, lambda_1=0.04, lambda_2=-1.0)
    problem, state, rng = started(method)
    now = accuracy(problem, problem.network(state.pool[0].seed))
    for watched, replaced in [([now + 0.03] * 9, True), ([now + 0.05] * 9, False), ([now] * 8, False)]:
        held = replace(state, memory={"watched": torch.tensor(watched)})
        following, _ = method.step(problem, held, rng)
        assert (following.pool[0].seed != state.pool[0].seed) is replaced
        assert following.iteration == int(replaced)
        assert len(following.memory.get("watched", ())) == (0 if replaced else len(watched) + 1)


# --- IDM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.0, 0.75])
def test_idm_takes_the_published_step(a: float) -> None:
    method = IDM(batch_real=7, pool_initial=2, pool_steps=1)
    problem, state, rng = started(method)
    state = replace(state, pool=tuple(replace(m, num_correct=round(4 * a), num_samples=4) for m in state.pool))
    draws = drawn(problem, rng.get_state(), 7)
    following, metrics = method.step(problem, state, rng)
    member = state.pool[int(torch.randint(2, (1,), generator=generator(draws.block, "member")))]
    net, omegas = problem.network(member.seed).requires_grad_(False), draws.omegas(problem)
    name, stored = stored_of(state)
    leaf = stored.clone().requires_grad_()
    parts = decoded(problem, leaf, "model")
    loss = of_means(seen_by(net, problem, real_parts(problem, draws), omegas), seen_by(net, problem, parts, omegas))
    for c, x in enumerate(parts):  # the accuracy counts in percent
        logits = net(problem.augment.apply(x, omegas[c]))
        loss = loss + 0.5 * 100 * a * F.cross_entropy(logits, torch.full((len(x),), c))
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    (slope,) = torch.autograd.grad(loss, leaf)
    close(following.params.value[name], stored - 0.2 * slope)
    close(following.params.exp_avg[name], slope)


def test_idm_trains_some_of_its_pool_and_counts_what_they_got_right() -> None:
    method = IDM(batch_real=4, pool_initial=3, pool_trained=1, pool_steps=3, pool_batch=10, pool_every=100)
    problem, state, rng = started(method)
    replay = generator(0)
    replay.set_state(rng.get_state())
    draw_seed(replay)  # the block's
    following, _ = method.step(problem, state, rng)
    place = int(torch.randperm(3, generator=replay)[0])
    for n, (before, after) in enumerate(zip(state.pool, following.pool, strict=True)):
        assert (after is before) is (n != place)
    net, member = problem.network(state.pool[place].seed), following.pool[place]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    right = 0
    for _ in range(3):
        index = torch.randint(len(problem.train), (10,), generator=replay)
        batch = problem.train.fetch(index)
        optimiser.zero_grad()
        logits = net(batch.x)
        right += int((logits.argmax(1) == batch.y).sum())
        F.cross_entropy(logits, batch.y).backward()
        optimiser.step()
    for name, p in net.named_parameters():
        close(member.theta[name], p)
    assert (member.num_correct, member.num_samples, member.accuracy) == (right, 30, right / 30)


def test_idm_lets_the_oldest_network_go() -> None:
    method = IDM(batch_real=4, pool_initial=2, pool_max=3, pool_every=2, pool_trained=0)
    problem, state, rng = started(method)
    first = [m.seed for m in state.pool]
    pools = []
    for _ in range(4):
        state, _ = method.step(problem, state, rng)
        pools.append([m.seed for m in state.pool])
    assert pools[0] == first
    assert pools[1][:2] == first
    assert len(pools[1]) == 3
    assert pools[2] == pools[1]
    assert pools[3][:2] == pools[1][1:]
    assert len(set(pools[3]) | set(first)) == 4


def test_idm_leaves_its_pool_alone_while_statistics_are_reused() -> None:
    method = IDM(batch_real=4, pool_initial=2, steps_per_network=2, pool_steps=1, pool_every=2)
    problem, state, rng = started(method)
    once, _ = method.step(problem, state, rng)
    assert once.pool == state.pool
    assert once.cached
    twice, _ = method.step(problem, once, rng)
    assert len(twice.pool) == 3
    assert not twice.cached
    assert all(a.num_samples == 256 or a.num_samples == len(problem.train) for a in twice.pool[:2])


# --- trained networks -------------------------------------------------------------------------------------------------


def trained_step(
    problem: Problem, state: MatchingState, rng_state: Tensor, method: Any, loss_of: Callable[..., Tensor]
) -> tuple[Tensor, Draws, Network, Network | None, list[object], Tensor]:
    """The loss of a method in trained networks, its leaf, and what calibration goes on with."""
    draws = drawn(problem, rng_state, method.batch_real)
    made = problem.assets["networks"]
    chosen = made[int(torch.randint(len(made), (1,), generator=draws.rng))]
    first = float(torch.rand((), generator=draws.rng)) if method.embedders == "between" else 0.0
    net, final = between(problem, chosen, first), between(problem, chosen, 0.0)
    omegas = draws.omegas(problem)
    leaf = stored_of(state)[1].clone().requires_grad_()
    real = seen_by(net, problem, real_parts(problem, draws), omegas)
    syn = seen_by(net, problem, decoded(problem, leaf, "data"), omegas)
    return loss_of(real, syn, draws), draws, net, final, omegas, leaf


def calibration(problem: Problem, leaf: Tensor, final: Network, omega: object, classes: Iterable[int]) -> Tensor:
    x = decoded(problem, leaf, "data")
    return sum(F.cross_entropy(final(problem.augment.apply(x[c], omega)), torch.full((len(x[c]),), c)) for c in classes)


@pytest.mark.parametrize(("embedders", "weight"), [("between", 1.0), ("trained", 1.0), ("between", 0.0)])
def test_dance_takes_the_published_step(embedders: Any, weight: float) -> None:
    method = DANCE(**SMALL, batch_real=5, lr=0.02, embedders=embedders, calibration=weight)
    problem, state, rng = started(method, ipc=3)
    rng_state = rng.get_state()
    following, metrics = method.step(problem, state, rng)
    loss, draws, _, final, _, leaf = trained_step(problem, state, rng_state, method, lambda r, s, draws: of_means(r, s))
    optimiser = torch.optim.SGD([leaf], lr=0.02 * 3, momentum=0.5)
    loss.backward()
    optimiser.step()
    free = leaf.detach().clone()
    leaf.data.clamp_(0, 1)
    assert not torch.equal(free, leaf.detach()), "no value left [0, 1], so the clamp was not compared"
    expected = {"loss": float(loss.detach())}
    if weight:
        optimiser.zero_grad()
        omega = problem.augment.draw(1, problem.train.input.shape, draws.rng)
        second = calibration(problem, leaf, final, omega, range(4))
        expected["calibration"] = float(second.detach())
        second.backward()
        optimiser.step()
        leaf.data.clamp_(0, 1)
    assert metrics == {n: pytest.approx(v, rel=1e-4) for n, v in expected.items()}
    name, stored = stored_of(following)
    close(stored, leaf)
    close(following.params.exp_avg[name], optimiser.state[leaf]["momentum_buffer"])
    assert following.params.num_steps == (2 if weight else 1)


@pytest.mark.parametrize("method", [DANCE(**SMALL, batch_real=5), DSDM(**SMALL, batch_real=5)])
def test_synthetic_samples_may_pass_in_parts(method: FeatureMatchingFields, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, state, _ = started(method)
    whole, shown = method.step(problem, state, generator(1))
    monkeypatch.setattr("potstill.methods.distribution._features.FORWARD_SAMPLES", 5)  # a class at a time
    parts, again = method.step(problem, state, generator(1))
    assert again == pytest.approx(shown, rel=1e-5)
    close(stored_of(parts)[1], stored_of(whole)[1])
    for name, value in whole.memory.items():
        close(parts.memory[name].double(), value.double())


@pytest.mark.parametrize("method", [
    CAFE(batch_real=200), DataDAM(batch_real=200), DM(batch_real=200),
    IDM(batch_real=200), M3D(batch_real=200), DSDM(**SMALL, batch_real=200),
    NCFM(**SMALL, batch_real=200, frequencies=8, sampler=True), DANCE(**SMALL, batch_real=200),
])  # fmt: skip
def test_real_samples_of_very_unequal_classes_may_pass_in_parts(
    method: FeatureMatchingFields, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy_problem(method, source=uneven_source())
    state, seen = method.init(problem, generator(1)), []
    for most in (5, 10_000):  # a class at a time; all of them together
        monkeypatch.setattr("potstill.methods.distribution._features.FORWARD_SAMPLES", most)
        seen.append(method.step(problem, state, generator(2)))
    (parts, shown), (whole, said) = seen
    assert shown == pytest.approx(said, rel=1e-4)
    close(stored_of(parts)[1], stored_of(whole)[1])


def test_the_weight_of_the_calibration_scales_its_step() -> None:
    problem, state, _ = started(DANCE(**SMALL, batch_real=5))
    states = [DANCE(**SMALL, batch_real=5, calibration=w).step(problem, state, generator(1)) for w in (1.0, 0.25)]
    assert states[1][1]["calibration"] == pytest.approx(states[0][1]["calibration"] / 4, rel=1e-5)


def test_dsdm_takes_the_published_step() -> None:
    method = DSDM(**SMALL, batch_real=6, lr=0.5, lr_side=8, smoothing=0.9)
    problem, state, rng = started(method, ipc=2)
    rng_state = rng.get_state()
    following, metrics = method.step(problem, state, rng)
    loss, _, net, _, omegas, leaf = trained_step(
        problem, state, rng_state, method, lambda r, s, draws: of_covariances(r, s, 50.0)
    )
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    loss.backward()
    name, stored = stored_of(following)
    close(following.params.exp_avg[name], leaf.grad, rtol=1e-3)
    close(stored, (leaf - 0.5 * 2 / 10 * leaf.grad).clamp(0, 1), rtol=1e-3)
    # the history begins with the set after the step, as the network of the step sees it
    mu = torch.stack([f.mean(0) for f in seen_by(net, problem, decoded(problem, stored, "data"), omegas)])
    close(following.memory["h"], mu)
    assert int(following.memory["step"]) == 1


@pytest.mark.parametrize(("history_from", "joins"), [(0, True), (1, False)])
def test_dsdm_holds_to_its_history_from_a_step_on(history_from: int, joins: bool) -> None:
    """As in DSDM.py, ``it > smooth_iter``: the second step is number 1."""
    method = DSDM(**SMALL, batch_real=6, history=40.0, history_from=history_from, smoothing=0.9)
    problem, state, rng = started(method)
    state, _ = method.step(problem, state, rng)
    state = replace(state, memory={**state.memory, "h": state.memory["h"] + 0.3})  # so that the term is not small
    rng_state = rng.get_state()
    following, metrics = method.step(problem, state, rng)

    def loss_of(real: list[Tensor], syn: list[Tensor], draws: Draws) -> Tensor:
        loss = of_covariances(real, syn, 50.0)
        if joins:
            h, d = state.memory["h"], real[0].shape[1]
            loss = loss + 40.0 / d * sum(((s.mean(0) - h[c]) ** 2).sum() for c, s in enumerate(syn))
        return loss

    loss, _, net, _, omegas, leaf = trained_step(problem, state, rng_state, method, loss_of)
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    loss.backward()
    name, stored = stored_of(following)
    close(following.params.exp_avg[name], 0.5 * state.params.exp_avg[name] + leaf.grad, rtol=1e-3)
    mu = torch.stack([f.mean(0) for f in seen_by(net, problem, decoded(problem, stored, "data"), omegas)])
    close(following.memory["h"], 0.1 * mu + 0.9 * state.memory["h"])


# --- NCFM -------------------------------------------------------------------------------------------------------------


class Sampling(nn.Module):
    """The published sampling network (SampleNet.py), with the parameters of a state's memory."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        d = len(memory["psi/0.bias"])
        layers: list[nn.Module] = []
        for n in range(3):
            linear, norm = nn.Linear(d, d), nn.BatchNorm1d(d)
            parts = ("weight", "bias", "scale", "shift")
            for p, part in zip((linear.weight, linear.bias, norm.weight, norm.bias), parts, strict=True):
                p.data.copy_(memory[f"psi/{n}.{part}"])
            layers += [linear, norm, nn.LeakyReLU(0.2) if n < 2 else nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor, count: int) -> Tensor:
        return self.layers(noise).repeat(count // len(noise), 1)


def frequencies(method: NCFM, memory: Any, d: int, draws: Draws) -> Tensor:
    """t: normal, or what the sampling network makes of noise."""
    rng = generator(draw_seed(generator(draws.seed)))
    if not method.sampler:
        return torch.randn(method.frequencies, d, generator=rng)
    noise = torch.randn(4, d, generator=rng)  # SampleNet.py: 64 frequencies, 16 of a noise
    return Sampling(memory)(noise, 64).detach()


@pytest.mark.parametrize("sampler", [False, True])
@pytest.mark.parametrize("updates", ["all", "class"])
def test_ncfm_takes_the_published_step(sampler: bool, updates: Any) -> None:
    method = NCFM(**SMALL, batch_real=6, frequencies=64, sampler=sampler, updates=updates, lr=0.01)
    problem, state, rng = started(method)
    rng_state = rng.get_state()
    following, metrics = method.step(problem, state, rng)
    made: list[Tensor] = []

    def loss_of(real: list[Tensor], syn: list[Tensor], draws: Draws) -> Tensor:
        made.append(frequencies(method, state.memory, real[0].shape[1], draws))
        return of_characteristics(real, syn, made[-1], method)

    loss, draws, net, final, omegas, leaf = trained_step(problem, state, rng_state, method, loss_of)
    # with all at once, four classes: twice the rate, and twice the decay, so that they decay as far as in four turns
    factor = 2 if updates == "all" else 1
    optimiser = torch.optim.AdamW([leaf], lr=0.01 * factor, weight_decay=5e-4 * factor)
    if updates == "all":
        loss.backward()
        optimiser.step()
        leaf.data.clamp_(0, 1)
    else:  # one class after the other, each with what the moments still hold of those before it
        value = 0.0
        real = seen_by(net, problem, real_parts(problem, draws), omegas)
        for c in range(4):
            optimiser.zero_grad()
            syn = seen_by(net, problem, decoded(problem, leaf, "data"), omegas)
            part = of_characteristics(real[c : c + 1], syn[c : c + 1], made[0], method)
            value += float(part.detach())
            part.backward()
            optimiser.step()
            leaf.data.clamp_(0, 1)
        loss = torch.tensor(value)
    omega, shown = problem.augment.draw(1, problem.train.input.shape, draws.rng), 0.0
    for turn in [range(4)] if updates == "all" else [[c] for c in range(4)]:
        optimiser.zero_grad()
        second = calibration(problem, leaf, final, omega, turn)
        shown += float(second.detach())
        second.backward()
        optimiser.step()
        leaf.data.clamp_(0, 1)
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-3)
    assert metrics["calibration"] == pytest.approx(shown, rel=1e-3)
    name, stored = stored_of(following)
    # AdamW moves by the sign of a slope at first: where a slope is nearly nothing, rounding decides its sign
    apart = ((stored - leaf.detach()).abs() > 1e-4).float().mean()
    assert float(apart) < 0.01
    before = stored_of(state)[1]
    assert float((leaf.detach() - before).abs().mean()) > 0.005
    close(following.params.exp_avg[name], optimiser.state[leaf]["exp_avg"], rtol=1e-2, atol=1e-3)
    assert following.loss == pytest.approx(metrics["loss"] + metrics["calibration"])


def test_a_characteristic_is_the_mean_of_unit_numbers() -> None:
    """The complex form that the reference above takes is that of the equation."""
    h, t = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    z = torch.exp(1j * (t @ h.T)).mean(1)
    assert complex(z[0]) == pytest.approx(cmath.exp(1j * 2.2), rel=1e-6)


def test_the_sampling_network_climbs_the_loss() -> None:
    method = NCFM(**SMALL, batch_real=6, frequencies=64, sampler=True, lr_sampler=1e-2)
    problem, state, rng = started(method)
    rng_state = rng.get_state()
    following, _ = method.step(problem, state, rng)
    after = replace(state, params=following.params)  # it climbs where the set is after its own step
    values, nets = [], []
    for memory in (state.memory, following.memory):
        nets.append(Sampling(memory))

        def loss_of(real: list[Tensor], syn: list[Tensor], draws: Draws, net: Sampling = nets[-1]) -> Tensor:
            noise = torch.randn(4, real[0].shape[1], generator=generator(draw_seed(generator(draws.seed))))
            return of_characteristics(real, syn, net(noise, 64), method)

        values.append(trained_step(problem, after, rng_state, method, loss_of)[0])
    assert float(values[1].detach()) > float(values[0].detach()) + 1e-3
    # and its move is SGD's with momentum, up the slope of the loss
    slopes = torch.autograd.grad(values[0], list(nets[0].parameters()))
    layers = [f"psi/{n}.{part}" for n in range(3) for part in ("weight", "bias", "scale", "shift")]
    for name, slope in zip(layers, slopes, strict=True):
        speed, before = following.memory["speed/" + name], state.memory[name]
        torch.testing.assert_close(speed, -slope, rtol=1e-2, atol=float(slope.abs().max()) * 1e-2 + 1e-4)
        close(following.memory[name], before - 1e-2 * speed, rtol=1e-6, atol=1e-7)


def test_ncfm_halves_its_rate_as_torch_does_on_a_plateau() -> None:
    method = NCFM(**SMALL, patience=2)
    problem, state, _ = started(method)
    p = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([p], lr=1.0)
    optimiser.step()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)
    first, rates = rule_at(method, problem, state).lr, []
    for value in [5.0, 4.0, 4.1, 4.0, 3.9999, 3.0, 3.5, 3.4, 3.3, 3.2, 3.1, 3.0, 2.9, 2.0, 3, 3, 3, 3, 3, 3, 3, 1]:
        theirs.step(value)
        state = replace(state, memory=method.update_memory(replace(state, loss=float(value)), {}, pytest.fail))
        rates.append(optimiser.param_groups[0]["lr"])
        assert rule_at(method, problem, state).lr == first * rates[-1]
    assert rates[0] == 1
    assert rates[-1] <= 0.25, "the rate was not halved twice, so little was compared"


def test_a_halved_rate_halves_the_step() -> None:
    method = NCFM(**SMALL, batch_real=6, frequencies=16, calibration=0.0, weight_decay=0.0)
    problem, state, _ = started(method)
    halved = replace(state, memory={**state.memory, "scale": torch.tensor(0.5)})
    (_, a), (_, b) = (stored_of(method.step(problem, s, generator(9))[0]) for s in (state, halved))
    before = stored_of(state)[1]
    inside = (a > 0) & (a < 1)
    close((b - before)[inside], 0.5 * (a - before)[inside], atol=1e-6)


# --- one step per class, and learned labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", [
    DANCE(**SMALL, batch_real=5, momentum=0.0), DSDM(**SMALL, batch_real=5, momentum=0.0),
    IDM(batch_real=5, momentum=0.0, pool_initial=2, pool_steps=1),
], ids=lambda m: type(m).__name__)  # fmt: skip
def test_steps_of_the_classes_add_up_to_one_step_of_all(method: Any) -> None:
    problem, state, _ = started(method)
    if isinstance(method, IDM):
        state = replace(state, pool=tuple(replace(m, num_correct=3, num_samples=4) for m in state.pool))
    whole, metrics = method.step(problem, state, generator(7))
    parts, found = dataclasses.replace(method, updates="class").step(problem, state, generator(7))
    close(stored_of(parts)[1], stored_of(whole)[1])
    assert found == {n: pytest.approx(v, rel=1e-4) for n, v in metrics.items()}
    assert parts.params.num_steps > whole.params.num_steps
    assert float((stored_of(whole)[1] - stored_of(state)[1]).abs().max()) > 1e-3


def test_the_rate_of_adamw_knows_whether_classes_take_turns() -> None:
    problem, state, _ = started(NCFM(**SMALL))
    assert rule_at(NCFM(**SMALL, lr=1e-3), problem, state).lr == pytest.approx(2e-3)
    assert rule_at(NCFM(**SMALL, lr=1e-3, updates="class"), problem, state).lr == pytest.approx(1e-3)


def naive_weighted(kind: str, method: Any, real: list[Tensor], syn: Tensor, rows: Tensor) -> Tensor:
    """An objective where sample i counts y_ic / Σ_j y_jc in class c."""
    total = torch.zeros(())
    for c, r in enumerate(real):
        w = rows[:, c] / rows[:, c].sum()
        mu = sum(w[i] * syn[i] for i in range(len(syn)))
        total = total + ((r.mean(0) - mu) ** 2).sum()
        if kind == "dsdm":
            scatter = sum(w[i] * torch.outer(syn[i] - mu, syn[i] - mu) for i in range(len(syn)))
            gap = torch.cov(r.T) - scatter / (1 - (w * w).sum())
            total = total + method.covariance / r.shape[1] * (gap**2).sum()
    return total


@pytest.mark.parametrize("kind", ["dm", "dsdm"])
def test_learned_labels_weigh_every_sample_in_every_class(kind: str) -> None:
    options: dict[str, Any] = {"batch_real": 6, "labels": "learned", "lr": 0.02, "lr_labels": 0.5}
    method: Any = DM(**options) if kind == "dm" else DSDM(**SMALL, **options)
    problem, state, rng = started(method)
    draws = drawn(problem, rng.get_state(), 6)
    following, metrics = method.step(problem, state, rng)
    if kind == "dm":
        net = problem.network(draw_seed(draws.rng)).requires_grad_(False)
    else:
        made = problem.assets["networks"]
        net = between(problem, made[int(torch.randint(len(made), (1,), generator=draws.rng))], 0.0)
    omega = problem.augment.draw(1, problem.train.input.shape, draws.rng)  # one for all: classes share samples
    name, stored = stored_of(state)
    leaf, logits = stored.clone().requires_grad_(), state.params.value["labels/logits"].clone().requires_grad_()
    syn = net.embed(problem.augment.apply(torch.cat(decoded(problem, leaf, method.build_engine(problem).space)), omega))
    real = [net.embed(problem.augment.apply(x, omega)) for x in real_parts(problem, draws)]
    loss = naive_weighted(kind, method, real, syn, logits.softmax(1))
    assert metrics == {"loss": pytest.approx(float(loss.detach()), rel=1e-4)}
    by_leaf, by_logits = torch.autograd.grad(loss, [leaf, logits])
    moved = stored - rule_at(method, problem, state).lr * by_leaf
    close(following.params.value[name], moved.clamp(0, 1) if kind == "dsdm" else moved)
    close(following.params.value["labels/logits"], logits - 0.5 * by_logits)
    close(following.params.exp_avg["labels/logits"], by_logits)
    first = method.result(problem, state).labels
    assert first.max(1).values.tolist() == pytest.approx([0.9] * len(first)), "first labels are as sure as they say"


def test_cafe_does_not_reuse_statistics_of_a_network_that_changes() -> None:
    method = CAFE(steps_per_network=2)
    with pytest.raises(PotstillError, match="steps_per_network must be 1, not 2"):
        method.init(toy_problem(method), generator(0))


@pytest.mark.parametrize(("network", "passes"), [("convnet-d2-w4-batch", [24]), ("convnet-d2-w4", [6, 6, 6, 6])])
def test_datadams_batch_norm_sees_all_classes_at_once(
    network: str, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = DataDAM(batch_real=6)
    problem = toy_problem(method, network=network)
    seen: list[int] = []
    kept = DataDAM.statistics

    def counted(self: DataDAM, real: Views, memory: Memory, rng: torch.Generator) -> Statistics:
        seen.append(len(real.features))
        return kept(self, real, memory, rng)

    monkeypatch.setattr(DataDAM, "statistics", counted)
    method.step(problem, method.init(problem, generator(0)), generator(1))
    assert seen == passes


@pytest.mark.parametrize("embedders", ["trained", "between"])
@pytest.mark.parametrize("kind", [DM, DataDAM, M3D])
def test_any_objective_matches_in_trained_networks(kind: Any, embedders: Any) -> None:
    method = kind(batch_real=6, embedders=embedders, pretrained_networks=2, pretrain_epochs=1)
    problem = toy_problem(method)
    assert len(problem.assets["networks"]) == 2
    trained = [t.parameters for t in problem.assets["networks"]]
    state = method.init(problem, generator(0))
    used = dict(method.build_engine(problem).networks.draw_networks(problem, state, generator(3))[0].named_parameters())
    same = [all(torch.equal(p, used[n]) for n, p in theta.items()) for theta in trained]
    assert any(same) == (embedders == "trained")
    after, metrics = method.step(problem, state, generator(1))
    assert math.isfinite(metrics["loss"])
    assert any(not torch.equal(t, after.params.value[n]) for n, t in state.params.value.items())


def test_embedders_that_clash_are_refused() -> None:
    for kind in (IDM, CAFE):
        method = kind(embedders="trained", pretrained_networks=1, pretrain_epochs=0)
        with pytest.raises(PotstillError, match="trains networks of its own, so embedders cannot be 'trained'"):
            method.init(toy_problem(method), generator(0))
    method = DANCE(embedders="fresh")
    with pytest.raises(PotstillError, match="calibration asks a trained network, but embedders is 'fresh'"):
        method.init(toy_problem(method), generator(0))
