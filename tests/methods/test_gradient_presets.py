"""IDC and DREAM: one whole update against a naive re-derivation with the same draws, and what follows it."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.augment.mix import CutMix
from potstill.core import Network, Normalization, Problem
from potstill.data import TensorSource
from potstill.functional.coreset import k_means
from potstill.functional.param_groups import ParamGroup, init_params
from potstill.methods.engine import MatchingState
from potstill.methods.gradient.dream import DREAM
from potstill.methods.gradient.idc import IDC
from potstill.rng import class_generators, draw_seed, generator
from potstill.testing import toy_problem

SMALL: dict[str, Any] = {"iterations": 2, "outer": 3, "data_train": 0}
"""No training of the network between updates, where that is not what is looked at."""


def started(method: IDC, seed: int = 3, **options: Any) -> tuple[Problem, MatchingState, Generator]:
    problem, rng = toy_problem(method, **options), generator(seed)
    return problem, method.init(problem, rng), rng


def replayed(rng: Generator) -> Generator:
    copy = generator(0)
    copy.set_state(rng.get_state())
    return copy


def decoded(problem: Problem, stored: Tensor) -> list[Tensor]:
    """The inputs of each class in model space, cell by cell."""
    normal, made = problem.train.normalization, []
    for pictures in stored:
        h, w = pictures.shape[2] // 2, pictures.shape[3] // 2
        cells = [pictures[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in (0, 1) for j in (0, 1)]
        up = torch.cat([F.interpolate(c, size=pictures.shape[2:], mode="bilinear", align_corners=False) for c in cells])
        made.append((up - normal.mean.reshape(1, -1, 1, 1)) / normal.std.reshape(1, -1, 1, 1))
    return made


def network_of(problem: Problem, state: MatchingState) -> Network:
    net = problem.network(state.pool[0].seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(state.pool[0].theta[name])
    return net


def naive_loss(
    problem: Problem, net: Network, parts: list[Tensor], drawn: list[Tensor], omegas: list[object], metric: str,
    seen: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    """Of every class: differences of the gradients of the convolutions' weights alone."""
    convolutions = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    losses = []
    for c, (index, s) in enumerate(zip(drawn, parts, strict=True)):
        real = problem.augment.apply(problem.train.fetch(index).x, omegas[c])
        syn = problem.augment.apply(s[seen[c]], omegas[c])
        g_t = torch.autograd.grad(F.cross_entropy(net(real), torch.full((len(real),), c)), convolutions)
        g_s = torch.autograd.grad(
            F.cross_entropy(net(syn), torch.full((len(syn),), c)), convolutions, create_graph=True
        )
        gaps = [a - b for a, b in zip(g_s, g_t, strict=True)]
        losses.append(sum((g**2).sum() if metric == "mse" else g.abs().sum() for g in gaps))
    return losses


def close(a: Tensor, b: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b.detach(), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("metric", "most"), [("mse", 128), ("l1", 128), ("mse", 5)])
@pytest.mark.parametrize("last", [False, True])
def test_idc_takes_the_published_step(metric: Any, most: int, last: bool) -> None:
    method = IDC(**SMALL, batch_real=5, metric=metric, lr=80.0, max_synthetic=most)
    problem, state, rng = started(method, network="convnet-d2-w8", ipc=3)
    state = replace(state, block_steps=2 if last else 0)
    replay = replayed(rng)
    following, metrics = method.step(problem, state, rng)

    drawn = [
        i[torch.randperm(len(i), generator=g)[:5]]
        for i, g in zip(problem.class_indices, class_generators(replay, problem.class_names), strict=True)
    ]
    generators = class_generators(replay, problem.class_names)
    omegas = [problem.augment.draw(1, problem.train.input.shape, g) for g in generators]
    # 3 stored pictures decode to 12; an update may look at some of them alone
    seen = [torch.randperm(12, generator=g)[:most] if most < 12 else torch.arange(12) for g in generators]
    stored = state.params.value["payload/inputs/0"]
    leaf = stored.clone().requires_grad_()
    net = network_of(problem, state)
    losses = naive_loss(problem, net, decoded(problem, leaf), drawn, omegas, metric, seen)
    loss = torch.stack(losses).sum()
    assert metrics == {"loss": pytest.approx(float(loss.detach()) / 4, rel=1e-3)}
    # --lr_img for ten stored items and 32 pixels; here 3 and 8
    optimiser = torch.optim.SGD([leaf], lr=80.0 * 3 / 10 * (8 / 32) ** 2, momentum=0.5)
    loss.backward()
    optimiser.step()
    close(following.params.exp_avg["payload/inputs/0"], leaf.grad, rtol=1e-3)
    inside = leaf.detach().clamp(0, 1)
    assert float((leaf.detach() - stored).abs().max()) > 1e-2
    assert not torch.equal(inside, leaf.detach()), "no value left [0, 1], so the clamp was not compared"
    # values are clamped once per network, as published, not after each update
    close(following.params.value["payload/inputs/0"], inside if last else leaf, rtol=1e-3, atol=1e-4)
    assert (following.block_steps, following.iteration) == ((0, 1) if last else (1, 0))
    assert (following.pool[0].seed != state.pool[0].seed) is last


def test_momentum_is_carried_from_update_to_update() -> None:
    method = IDC(**SMALL, batch_real=5, lr=1.0)
    problem, state, rng = started(method)
    first, _ = method.step(problem, state, rng)
    name = "payload/inputs/0"
    still = {name: torch.zeros_like(first.params.exp_avg[name])}
    without = replace(first, params=replace(first.params, exp_avg=still))
    speeds = [method.step(problem, s, generator(5))[0].params.exp_avg["payload/inputs/0"] for s in (first, without)]
    close(speeds[0], speeds[1] + 0.5 * first.params.exp_avg["payload/inputs/0"])


def test_steps_of_the_classes_add_up_to_one_step_of_all() -> None:
    method = IDC(**SMALL, batch_real=5, lr=20.0, momentum=0.0)
    problem, state, _ = started(method)
    # in the midst of a network's updates, and at the last, with its clamp
    for held in (state, replace(state, block_steps=2)):
        whole, metrics = method.step(problem, held, generator(7))
        parts, found = dataclasses.replace(method, updates="class").step(problem, held, generator(7))
        close(parts.params.value["payload/inputs/0"], whole.params.value["payload/inputs/0"])
        assert found == {"loss": pytest.approx(metrics["loss"], rel=1e-4)}
        assert (parts.params.num_steps, whole.params.num_steps) == (4, 1)


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_the_network_trains_on_real_samples_between_updates(cutmix: float) -> None:
    method = IDC(iterations=2, outer=3, data_train=19, batch_train=2, batch_real=3, cutmix=cutmix)
    problem, state, rng = started(method)
    replay = replayed(rng)
    following, _ = method.step(problem, state, rng)
    shape, net = problem.train.input.shape, network_of(problem, state)
    for _ in ("real samples", "augmentations and rows"):
        draw_seed(replay)
    # beside CutMix, cutout is left out
    augment: Any = problem.augment
    if cutmix:
        augment = replace(augment, strategy=("color", "crop"))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    order = torch.randperm(len(problem.train), generator=replay)[:19]
    for index in order.split(2):
        batch = problem.train.fetch(index)
        x, y = augment.apply(batch.x, augment.draw(len(batch.x), shape, replay)), F.one_hot(batch.y, 4).float()
        if cutmix:  # every batch
            mix = CutMix(prob=1.0)
            drawn = mix.draw(len(x), shape, replay)
            assert drawn.box is not None
            top, bottom, left, right = drawn.box
            mixed = x.clone()
            mixed[:, :, top:bottom, left:right] = x[drawn.partner][:, :, top:bottom, left:right]
            kept = 1 - (bottom - top) * (right - left) / 64
            x, y = mixed, kept * y + (1 - kept) * y[drawn.partner]
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    for name, p in net.named_parameters():
        close(following.pool[0].theta[name], p)
        close(following.pool[0].velocity[name], optimiser.state[p]["momentum_buffer"])
        assert not torch.equal(following.pool[0].theta[name], state.pool[0].theta[name])


def rule_at(problem: Problem, used: int) -> ParamGroup:
    """How the payload moves at the last move of an update, after so many with the present network."""
    return (
        IDC()
        .build_engine(problem)
        .param_groups(MatchingState(params=init_params({}, {}), block_steps=used), True)["payload/"]
    )


@pytest.mark.parametrize(("ipc", "shape", "lr"), [
    (10, (3, 32, 32), 5e-3), (1, (3, 32, 32), 5e-4), (50, (1, 28, 28), 25e-3 * 0.765625), (10, (3, 224, 224), 0.245),
])  # fmt: skip
def test_the_rate_grows_with_items_and_area(ipc: int, shape: tuple[int, int, int], lr: float) -> None:
    """As in argument.py, tune_lr_img: per ten items and per (side / 32)², for Fashion-MNIST too."""
    normal = Normalization(torch.zeros(shape[0]), torch.ones(shape[0]))
    source = TensorSource.make(
        torch.zeros(2, *shape, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "empty", "image", normal
    )
    problem = replace(toy_problem(), train=source, counts=(ipc, ipc))
    assert rule_at(problem, used=0).lr == pytest.approx(lr)
    assert rule_at(problem, used=0).bounds is None
    assert rule_at(problem, used=99).bounds == (0, 1)


def check_nearest(features: Tensor, chosen: list[int], centres: Tensor) -> None:
    """The n-th is as near to the n-th centre as any; a cluster of two has both at the same distance."""
    for n, centre in zip(chosen, centres, strict=True):
        apart = [float((f - centre).norm()) for f in features]
        assert apart[n] == pytest.approx(min(apart), abs=1e-4)


def test_dream_draws_the_samples_nearest_to_centres_and_uses_them_for_some_updates() -> None:
    method = DREAM(**{**SMALL, "outer": 7}, batch_real=4, interval=3, lr=1.0)
    problem, state, rng = started(method)
    replay = replayed(rng)
    trace = []
    for n in range(7):
        before = state
        state, _ = method.step(problem, state, rng)
        trace.append(state.cached)
        if n == 0:
            net = network_of(problem, before)
            generators = class_generators(replay, problem.class_names)
            for c, index in enumerate(problem.class_indices):
                with torch.no_grad():
                    features = net.embed(problem.train.fetch(index).x)
                centres = k_means(features, 4, generators[c], 10)[0]
                chosen = [int((index == i).nonzero()) for i in state.cached[str(c)]]
                assert len(set(chosen)) == 4
                check_nearest(features, chosen, centres)
    # kept after the first and second update of three, gone after the third, and gone with the network
    assert [bool(s) for s in trace] == [True, True, False, True, True, False, False]
    assert trace[0] is trace[1]
    assert trace[3] is trace[4]


def test_dream_takes_idcs_step_on_its_samples() -> None:
    method = DREAM(**SMALL, batch_real=4, interval=2, lr=20.0, init_from="real")
    problem, state, rng = started(method)
    kept = [index[2:6] for index in problem.class_indices]
    state = replace(state, cached={str(c): index for c, index in enumerate(kept)}, block_steps=1)
    replay = replayed(rng)
    following, metrics = method.step(problem, state, rng)
    omegas = [
        problem.augment.draw(1, problem.train.input.shape, g) for g in class_generators(replay, problem.class_names)
    ]  # no draw of samples
    leaf = state.params.value["payload/inputs/0"].clone().requires_grad_()
    everything = [torch.arange(8)] * 4
    net = network_of(problem, state)
    loss = torch.stack(naive_loss(problem, net, decoded(problem, leaf), kept, omegas, "mse", everything)).sum()
    (slope,) = torch.autograd.grad(loss, leaf)
    assert metrics == {"loss": pytest.approx(float(loss.detach()) / 4, rel=1e-3)}
    close(following.params.value["payload/inputs/0"], leaf - 20.0 * 2 / 10 / 16 * slope, rtol=1e-3, atol=1e-5)
    assert following.cached == {}


def test_dream_starts_from_central_samples() -> None:
    method = DREAM(**SMALL)
    problem, state, _ = started(method, ipc=1)
    replay = generator(3)
    net = problem.network(draw_seed(replay)).eval()
    draw_seed(replay)  # random samples are drawn first, and not used
    generators = class_generators(replay, problem.class_names)
    for c, index in enumerate(problem.class_indices):
        x = net.embed(problem.train.fetch(index).x).detach()
        centres = k_means(x, 4, generators[c], 20)[0]
        shrunk = F.interpolate(problem.train.raw(index), size=(4, 4), mode="nearest")
        stored = state.params.value["payload/inputs/0"][c, 0]
        cells = [stored[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] for i in (0, 1) for j in (0, 1)]
        chosen = [next(n for n, s in enumerate(shrunk) if torch.equal(s, cell)) for cell in cells]
        check_nearest(x, chosen, centres)


def test_learned_labels_enter_the_synthetic_gradient() -> None:
    method = IDC(**SMALL, batch_real=5, labels="learned", lr_labels=3.0, lr=20.0)
    problem, state, rng = started(method)
    replay = replayed(rng)
    following, metrics = method.step(problem, state, rng)
    drawn = [
        i[torch.randperm(len(i), generator=g)[:5]]
        for i, g in zip(problem.class_indices, class_generators(replay, problem.class_names), strict=True)
    ]
    omegas = [
        problem.augment.draw(1, problem.train.input.shape, g) for g in class_generators(replay, problem.class_names)
    ]
    net = network_of(problem, state)
    logits = state.params.value["labels/logits"].clone().requires_grad_()
    leaf = state.params.value["payload/inputs/0"].clone().requires_grad_()
    conv = net.features[0].weight
    loss = torch.zeros(())
    for c, (x, rows) in enumerate(zip(decoded(problem, leaf), logits.softmax(1).split(8), strict=True)):
        real = problem.augment.apply(problem.train.fetch(drawn[c]).x, omegas[c])
        syn = net(problem.augment.apply(x, omegas[c]))
        (g_t,) = torch.autograd.grad(F.cross_entropy(net(real), torch.full((5,), c)), conv)
        mixed = -(rows * torch.log_softmax(syn, 1)).sum(1).mean()
        (g_s,) = torch.autograd.grad(mixed, conv, create_graph=True)
        loss = loss + ((g_s - g_t) ** 2).sum()
    by_leaf, by_logits = torch.autograd.grad(loss, [leaf, logits])
    assert metrics == {"loss": pytest.approx(float(loss.detach()) / 4, rel=1e-3)}
    close(following.params.value["payload/inputs/0"], leaf - 20.0 * 2 / 10 / 16 * by_leaf, rtol=1e-3)
    close(following.params.value["labels/logits"], logits - 3.0 * by_logits, rtol=1e-3)
    assert float(by_logits.abs().max()) > 1e-4
