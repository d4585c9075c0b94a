"""What each preset of recovery adds: its teachers, batches, stages, statistics and beginnings, by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decoupled_toys import at_toy, batches, draws, members, pixels, staged, started, steps, voices, work
from torch import Tensor

from potstill.core import Problem
from potstill.errors import PotstillError
from potstill.functional.statistics import (
    batch_norm_statistics,
    convolution_statistics,
    record_statistics,
    statistics_distance,
)
from potstill.functional.transforms import resize
from potstill.methods.decoupled._parts import group_numbers
from potstill.methods.decoupled._realism import class_mosaics, select_crops
from potstill.methods.decoupled._state import plan_batches
from potstill.methods.decoupled.cda import CDA
from potstill.methods.decoupled.cv_dd import CVDD
from potstill.methods.decoupled.delt import DELT, order_from_median
from potstill.methods.decoupled.dwa import DWA, perturb_weights
from potstill.methods.decoupled.edc import EDC, shuffle_quarters
from potstill.methods.decoupled.fadrm import FADRM
from potstill.methods.decoupled.g_vbsm import GVBSM
from potstill.methods.decoupled.lpld import LPLD
from potstill.methods.decoupled.rded import RDED
from potstill.methods.decoupled.sre2l import SRe2L, SRe2LPlus
from potstill.rng import class_generators, generator
from potstill.testing import toy_problem

PLAIN: dict[str, Any] = {"teacher_epochs": 1, "teacher_augment": "none"}
STILL: dict[str, Any] = {"crop": 1.0, "pad": 0, "flip": False, "jitter": 0}
"""A view that is the batch itself."""


# --- DWA --------------------------------------------------------------------------------------------------------------


def test_dwa_climbs_the_loss_by_rho_at_most_and_leaves_running_statistics() -> None:
    method = at_toy(DWA(iterations=4, **PLAIN))
    problem, state, rng = started(method)
    member = members(method, problem)[0]
    items = batches(method, problem)[0]
    x, y = pixels(state)[items], torch.arange(4)
    theta = perturb_weights(member.network, member.weights, x, y, 0.015, 12)
    away = math.sqrt(sum(float((theta[n] - member.weights[n]).square().sum()) for n in theta))
    assert 0.01 < away <= 0.015 + 1e-6
    assert not any("running" in n for n in theta)
    before = F.cross_entropy(member.logits(x), y)
    pushed = replace(member, weights={**member.weights, **theta})
    assert F.cross_entropy(pushed.logits(x), y) > before
    state, _ = method.step(problem, state, rng)
    ((number, used, weight),) = voices(method, problem, state)
    assert (number, weight) == (0, 1.0)
    for name, value in used.weights.items():
        torch.testing.assert_close(value, theta.get(name, member.weights[name]))


def test_one_ascent_step_is_the_normalised_gradient() -> None:
    method = at_toy(DWA(iterations=2, ascent=1, rho=0.5, **PLAIN))
    problem, state, _ = started(method)
    net, member = problem.network(0).eval(), members(method, problem)[0]
    net.load_state_dict(dict(member.weights))
    x, y = pixels(state)[::2], torch.arange(4)
    F.cross_entropy(net(x), y).backward()
    size = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
    for name, value in perturb_weights(member.network, member.weights, x, y, 0.5, 1).items():
        p = net.get_parameter(name)
        torch.testing.assert_close(value, (p + 0.5 * p.grad / size).detach(), rtol=1e-4, atol=1e-6)


def test_dwa_weighs_variances() -> None:
    problem, state, rng = started(at_toy(DWA(iterations=2, r_var=11.0, rho=0.0, **PLAIN, **STILL)))
    for r_var in (1.0, 11.0):
        method = at_toy(DWA(iterations=2, r_var=r_var, rho=0.0, **PLAIN, **STILL))
        member = members(method, problem)[0]
        _, seen = record_statistics(
            member.network, member.weights, pixels(state)[::2], {torch.nn.BatchNorm2d: batch_norm_statistics}
        )
        (layer,), (wanted,) = seen.values(), member.running_statistics().values()
        expected = 10 * ((layer["mean"] - wanted["mean"]).norm() + r_var * (layer["var"] - wanted["var"]).norm())
        assert method.step(problem, state, rng)[1]["bn"] == pytest.approx(float(expected), rel=1e-4)


# --- FADRM ------------------------------------------------------------------------------------------------------------


def test_fadrm_with_alpha_zero_is_the_resized_mosaic_at_every_stage() -> None:
    method = FADRM(iterations=8, alpha=0.0, shrink=0.5, samples=4, crops=2, **PLAIN)
    problem, state, rng = started(method, ipc=1)
    items = batches(method, problem)[0]
    made = steps(method, problem, state, rng, 7)
    sizes = [tuple(work(s).shape[2:]) for s, _ in made[1:]]
    assert sizes == [(4, 4)] * 2 + [(8, 8)] * 2 + [(4, 4)] * 2 + [(8, 8)]
    for t in (0, 2, 4, 6):
        begun = staged(method, problem, made[t][0], items)
        torch.testing.assert_close(work(begun), resize(pixels(state)[items], tuple(work(begun).shape[2:])))
        assert int(begun.steps.sum()) == 0


def test_fadrm_gives_back_half_and_its_cosine_goes_over_all_stages() -> None:
    method = FADRM(iterations=8, samples=4, crops=2, **PLAIN)
    problem, state, rng = started(method, ipc=1)
    items, made = batches(method, problem)[0], steps(method, problem, state, rng, 8)
    begun = staged(method, problem, made[2][0], items)
    torch.testing.assert_close(work(begun), 0.5 * work(made[2][0]) + 0.5 * pixels(state)[items])
    assert staged(method, problem, made[3][0], items) is made[3][0]
    assert method.build_engine(problem).learning_rate(4) == pytest.approx(0.125)
    assert method.done(problem, made[8][0])
    assert pixels(made[8][0]).shape == pixels(state).shape


def test_fadrm_asks_one_teacher_after_the_other() -> None:
    method = FADRM(iterations=4, num_teachers=3, samples=4, crops=2, **PLAIN)
    problem, state, _ = started(method, ipc=1)
    asked = [[v[0] for v in voices(method, problem, replace(state, iteration=t))] for t in range(6)]
    assert asked == [[0], [1], [2], [0], [1], [2]]
    both = at_toy(SRe2L(iterations=4, num_teachers=2, **PLAIN))
    assert [(v[0], v[2]) for v in voices(both, toy_problem(both), state)] == [(0, 0.5), (1, 0.5)]


# --- DELT -------------------------------------------------------------------------------------------------------------


def test_delt_moves_early_groups_longer() -> None:
    assert group_numbers(5, 3) == [0, 0, 1, 1, 2]
    assert group_numbers(1, 8) == [0]
    method = DELT(iterations=8, round_iterations=2, labels="hard", **PLAIN)
    problem, state, rng = started(method, ipc=5)
    assert method.rounds == 4
    made = steps(method, problem, state, rng, 7)
    assert [int(s.steps.sum()) for s, _ in made[1:]] == [8, 16, 28, 40, 56, 72, 92]
    assert made[7][0].steps.reshape(4, 5).tolist() == [[7, 7, 5, 3, 1]] * 4
    assert torch.equal(work(made[2][0])[4::5], pixels(state)[4::5])


def test_a_delt_batch_of_late_items_waits_for_their_turn() -> None:
    method = DELT(iterations=4, round_iterations=2, batch=1, labels="hard", **PLAIN, **STILL)
    problem, state, rng = started(method)
    made = steps(method, problem, state, rng, 8)  # one item of each of two groups
    assert [int(s.steps.sum()) for s, _ in made[1:]] == [1, 2, 3, 0, 0, 0, 1, 0]
    assert all(math.isfinite(shown["loss"]) for _, shown in made[1:])
    assert torch.equal(work(made[6][0]), pixels(state)[1:2])
    assert not torch.equal(pixels(made[8][0])[1], pixels(state)[1])


def test_delt_begins_at_the_median_and_goes_outward() -> None:
    assert order_from_median(torch.tensor([0.0, 1, 2, 3, 4])).tolist() == [2, 1, 3, 0, 4]
    assert order_from_median(torch.tensor([3.0, 0, 2, 1])).tolist() == [3, 2, 1, 0]
    method = DELT(iterations=2, **PLAIN)
    problem, state, _ = started(method, ipc=3)
    member = members(method, problem)[0]
    for c, index in enumerate(problem.class_indices):
        p = member.logits(problem.train.fetch(index).x).softmax(1)[:, c]
        middle = p.argsort()[len(p) // 2 - 2 : len(p) // 2 + 2]  # three of these four
        real = problem.train.fetch(index[middle]).x
        assert all((real == x).flatten(1).all(1).any() for x in pixels(state)[3 * c : 3 * c + 3])
    with pytest.raises(PotstillError):
        method.init(toy_problem(method, ipc=13), generator(0))


# --- LPLD -------------------------------------------------------------------------------------------------------------


def test_lpld_holds_a_class_against_its_own_statistics() -> None:
    method = LPLD(iterations=2, **PLAIN, **STILL)
    problem, state, rng = started(method)
    assert [b.tolist() for b in batches(method, problem)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    member = members(method, problem)[0]
    for c in range(4):
        real = problem.train.fetch(problem.class_indices[c]).x
        with torch.no_grad():
            rules = {torch.nn.BatchNorm2d: batch_norm_statistics}
            wanted = record_statistics(member.network, member.weights, real, rules)[1]
            found = record_statistics(member.network, member.weights, pixels(state)[2 * c : 2 * c + 2], rules)[1]
        shown = method.step(problem, replace(state, batch=c), rng)[1]
        assert shown["bn"] == pytest.approx(float(statistics_distance(found, wanted)), rel=1e-3)


# --- G-VBSM and EDC ---------------------------------------------------------------------------------------------------

TWO: dict[str, Any] = {"committee": "convnet-d1-w4-batch", **PLAIN}


def watched(method: Any, problem: Problem, number: int, x: Tensor) -> dict[str, dict[str, Tensor]]:
    member = members(method, problem)[number]
    with torch.no_grad():
        return record_statistics(
            member.network, member.weights, x,
            {torch.nn.BatchNorm2d: batch_norm_statistics, torch.nn.Conv2d: lambda a: convolution_statistics(a, 4)},
        )[1]  # fmt: skip


def by_hand(method: Any, problem: Problem, number: int, found: Any, conv: Any) -> float:
    """The distance of a ConvNet of one block: its convolution comes first and counts tenfold, its BatchNorm once."""
    member = members(method, problem)[number]
    norm = sum((found["features.1"][s] - member.weights[f"features.1.running_{s}"]).norm() for s in ("mean", "var"))
    return float(
        norm + 10 * sum((found["features.0"][s] - conv[s]).norm() for s in ("mean", "var", "cells/mean", "cells/var"))
    )


def test_iterations_of_g_vbsm_against_a_naive_loop() -> None:
    options: dict[str, Any] = {
        "densify": 0.5,
        "ema_decay": 0.8,
        "drop_rate": 0.4,
        "cell_size": 4,
        "pad": 2,
        "jitter": 3,
    }
    method = at_toy(GVBSM(iterations=6, committee="", lr=0.05, **options, **PLAIN))
    problem, state, rng = started(method)
    net, member = problem.network(0).eval(), members(method, problem)[0]
    net.load_state_dict(dict(member.weights))
    real = problem.train.fetch(torch.arange(len(problem.train))).x
    made = steps(method, problem, state, rng, 5)

    def seen(a: Tensor) -> list[Tensor]:  # of a convolution's input: channels, and cells of 4×4
        cells = a.reshape(len(a), 1, 2, 4, 2, 4).permute(2, 4, 0, 1, 3, 5).reshape(4, -1)
        return [a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0), cells.mean(1), cells.var(1, correction=0)]

    def away(now: list[Tensor], kept: list[Tensor] | None, wanted: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after = [n.detach() for n in now]
        if kept is not None:
            after = [0.8 * k + 0.2 * a for k, a in zip(kept, after, strict=True)]
        moving = [a + n - n.detach() for a, n in zip(after, now, strict=True)]
        return torch.stack([(m - w).norm() for m, w in zip(moving, wanted, strict=True)]).sum(), after

    x, y = pixels(state).clone().requires_grad_(), torch.arange(4).repeat_interleave(2)
    adam = torch.optim.Adam([x], lr=0.05, betas=(0.5, 0.9))
    norm, bn, kept, left_out = problem.train.normalization, net.features[1], [None, None], 0
    for t in range(5):
        adam.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * t / 6)) / 2
        shadow = draws(state, t)
        top, left = torch.randint(5, (2,), generator=shadow).tolist()
        view = F.pad(x, (2, 2, 2, 2))[..., top : top + 8, left : left + 8]
        view = view.flip(3) if torch.rand((), generator=shadow) < 0.5 else view
        view = view.roll(torch.randint(4, (2,), generator=shadow).tolist(), (2, 3))
        loss, a = F.cross_entropy(net(view), y), net.features[0](view)
        if torch.rand((), generator=shadow) >= 0.4:
            distance, kept[0] = away(seen(view), kept[0], seen(real))
            loss = loss + 0.01 * 10 * distance
        else:
            left_out += 1
        moments = [a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0)]
        distance, kept[1] = away(moments, kept[1], [bn.running_mean, bn.running_var])
        loss = loss + 0.01 * distance
        for c in range(4):
            own = view[y == c].flatten(1)
            values = torch.linalg.eigvalsh(own @ own.T)
            target = (values / 4).softmax(0).detach()
            loss = loss + 0.5 * (target * (target.log() - values.log_softmax(0))).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            x.clamp_(float(-norm.mean / norm.std), float((1 - norm.mean) / norm.std))
        assert made[t + 1][1]["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert 0 < left_out < 5
    torch.testing.assert_close(work(made[5][0]), x.detach(), rtol=1e-3, atol=1e-4)


def test_g_vbsm_matches_both_kinds_of_layers_with_averages_of_each_teacher() -> None:
    method = at_toy(GVBSM(iterations=8, densify=0.0, drop_rate=0.0, **TWO, **STILL))
    problem, state, rng = started(method)
    made = steps(method, problem, state, rng, 4)
    everything = problem.train.fetch(torch.arange(len(problem.train))).x
    for number in range(2):
        conv = watched(method, problem, number, everything)["features.0"]
        one, two = (watched(method, problem, number, x) for x in (
            work(made[number][0]) if number else pixels(state), work(made[number + 2][0])
        ))  # fmt: skip
        assert made[1 + number][1]["bn"] == pytest.approx(by_hand(method, problem, number, one, conv), rel=1e-3)
        average = {n: {s: 0.8 * one[n][s] + 0.2 * v for s, v in parts.items()} for n, parts in two.items()}
        assert made[3 + number][1]["bn"] == pytest.approx(by_hand(method, problem, number, average, conv), rel=1e-3)
    assert {n.split("/")[1] for n in made[-1][0].memory} == {"0", "1"}


def test_g_vbsm_asks_every_teacher_equally_often_and_spreads_each_class() -> None:
    method = at_toy(GVBSM(iterations=8, drop_rate=0.0, **TWO, **STILL))
    problem, state, rng = started(method)
    asked = [voices(method, problem, replace(state, iteration=t))[0][0] for t in range(8)]
    assert (asked.count(0), asked.count(1)) == (4, 4)
    dense = method.step(problem, state, rng)[1]["loss"]
    assert dense > replace(method, densify=0.0).step(problem, state, rng)[1]["loss"]


def test_edc_matches_means_with_means_of_all_and_of_the_batch_s_classes() -> None:
    for category in (0.0, 0.5, 1.0):
        method = at_toy(EDC(iterations=4, category=category, **TWO, **STILL))
        problem, state, rng = started(method)
        found = watched(method, problem, 0, pixels(state))
        everything = watched(method, problem, 0, problem.train.fetch(torch.arange(len(problem.train))).x)
        of_all = by_hand(method, problem, 0, found, everything["features.0"])
        rows = [watched(method, problem, 0, problem.train.fetch(i).x) for i in problem.class_indices]
        mean = {n: {s: sum(r[n][s] for r in rows) / 4 for s in parts} for n, parts in found.items()}
        of_classes = float(
            sum((10 if n == "features.0" else 1) * (found[n][s] - mean[n][s]).norm() for n in found for s in found[n])
        )
        expected = (1 - category) * of_all + category * of_classes
        assert method.step(problem, state, rng)[1]["bn"] == pytest.approx(expected, rel=1e-3)


def test_edc_s_class_statistics_keep_their_names() -> None:
    method = at_toy(EDC(iterations=4, **TWO))
    problem, state, _ = started(method)
    for c, index in enumerate(problem.class_indices):
        real = watched(method, problem, 1, problem.train.fetch(index).x)
        for layer, parts in real.items():
            for name, value in parts.items():
                torch.testing.assert_close(state.real[f"1/{layer}/{name}"][c], value, rtol=1e-3, atol=1e-4)


def test_quarters_change_places() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2).expand(9, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    made = shuffle_quarters(x, generator(1))
    assert all(sorted(m[0, ::2, ::2].flatten().tolist()) == [0, 1, 2, 3] for m in made)
    assert not torch.equal(made, x)
    odd = torch.rand(2, 1, 5, 5, generator=generator(2))
    assert torch.equal(shuffle_quarters(odd, generator(1))[:, :, 4], odd[:, :, 4])


# --- CV-DD and SRe2L++ ------------------------------------------------------------------------------------------------


def test_cv_dd_s_pairs_take_turns_and_count_by_their_worth() -> None:
    method = at_toy(CVDD(iterations=1, num_teachers=2, samples=4, crops=2, priors=(60.0, 50.0, 40.0), **TWO))
    problem, state, _ = started(method, ipc=4)
    pairs = []
    for batch in range(4):
        asked = voices(method, problem, replace(state, batch=batch))
        pairs.append(tuple(v[0] for v in asked))
        assert sum(v[2] for v in asked) == pytest.approx(1)
    assert pairs == [(0, 1), (0, 2), (1, 2), (0, 1)]
    weights = [v[2] for v in voices(method, problem, replace(state, batch=1))]
    assert weights[0] / weights[1] == pytest.approx(math.exp(20 / 5))
    votes = method.build_engine(problem).labeller.weights
    assert sum(votes) == pytest.approx(1)
    assert votes[0] / votes[1] == pytest.approx(math.exp(10 / 10))
    assert replace(method, priors=()).build_engine(problem).labeller.weights == pytest.approx((1 / 3,) * 3)
    with pytest.raises(PotstillError, match="one number for each of the 3 teachers, but there are 2"):
        replace(method, priors=(1.0, 2.0)).teacher_priors(problem)


def test_cv_dd_labels_with_the_statistics_of_few_pictures() -> None:
    method = at_toy(CVDD(iterations=1, samples=4, crops=2, label_batch=4, **PLAIN, committee=""))
    problem, state, _ = started(method)
    before = {n: t.clone() for n, t in members(method, problem)[0].weights.items()}
    rows = method.build_engine(problem).labeller.soft_rows(problem, pixels(state))
    net = problem.network(0).train()
    expected = torch.zeros(8, 4)
    for index in ([0, 2, 4, 6], [1, 3, 5, 7]):  # one of each class
        net.load_state_dict(before)
        expected[index] = net(pixels(state)[index]).softmax(1).detach()
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        rows, replace(method, label_batch=0).build_engine(problem).labeller.soft_rows(problem, pixels(state)), atol=1e-3
    )
    member = members(method, problem)[0]
    assert not member.network.training
    assert not any(m.training for m in member.network.modules())
    assert all(torch.equal(t, before[n]) for n, t in member.weights.items())
    assert [b.tolist() for b in plan_batches(problem.sizes, 99, "slots")] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_sre2l_plus_begins_with_mosaics() -> None:
    method = SRe2LPlus(iterations=2, samples=5, crops=2, **PLAIN)
    problem, state, _ = started(method)
    parts = [
        class_mosaics(problem, members(method, problem), c, g, samples=5, crops=2, factor=1, rank="medium")
        for c, g in enumerate(class_generators(generator(3), problem.class_names))
    ]
    torch.testing.assert_close(pixels(state), problem.train.normalization.apply(torch.cat(parts)))


def test_cda_is_sre2l_with_a_curriculum() -> None:
    cda = CDA(iterations=4, **PLAIN)
    plain = at_toy(SRe2L(iterations=4, lr=0.4, r_bn=0.05, crop=0.08, flip=True, **PLAIN))
    problem, state, _ = started(cda)
    same = [m.step(problem, state, generator(5))[1]["loss"] for m in (replace(cda, curriculum="none"), plain)]
    assert same[0] == same[1]
    assert cda.step(problem, state, generator(5))[1]["loss"] != same[0]


# --- RDED -------------------------------------------------------------------------------------------------------------


def test_the_best_crop_of_every_picture_comes_first() -> None:
    scores = torch.tensor([[3.0, 1.0], [0.2, 0.1], [5.0, 9.0]])  # three pictures of two crops
    assert select_crops(scores, 2).tolist() == [3, 1]
    assert select_crops(scores, 3).tolist() == [3, 1, 4]
    assert select_crops(scores, 5).tolist() == [3, 1, 4, 2, 0]  # then the second best
    assert select_crops(scores, 8).tolist() == [3, 1, 4, 2, 0, 5, 3, 1]  # then all again
    assert select_crops(scores, 1, "medium").tolist() == [1]


def test_rded_keeps_crops_by_their_score_in_the_middle_of_a_black_picture() -> None:
    from potstill.augment.crop import boxes
    from potstill.functional.crops import crop_resize

    method = RDED(samples=5, crops=3, factor=2, **PLAIN)
    problem, _, _ = started(method)
    member = members(method, problem)[0]
    made = class_mosaics(problem, [member], 1, generator(9), samples=5, crops=3, factor=2)

    rng = generator(9)
    own = problem.class_indices[1]
    pictures = problem.train.raw(own[torch.randperm(len(own), generator=rng)[:5]])
    drawn = boxes(15, 8, 8, (0.08, 1.0), (1.0, 1.0), rng).tolist()
    best = []
    for n, picture in enumerate(pictures):
        tried = []
        for top, left, height, width in drawn[3 * n : 3 * n + 3]:
            patch = crop_resize(picture[None], (top, left, height, width), (4, 4))
            canvas = torch.zeros(1, 1, 8, 8)
            canvas[:, :, 2:6, 2:6] = patch
            logits = member.logits(problem.train.normalization.apply(canvas))
            tried.append((float(-logits.log_softmax(1)[0, 1]), patch[0]))
        best.append(min(tried, key=lambda pair: pair[0]))
    ranked = [patch for _, patch in sorted(best, key=lambda pair: pair[0])]
    # eight cells of two pictures; only five pictures gave a best crop
    for cell, patch in enumerate(ranked):
        j, i = divmod(cell, 2)
        row, column = divmod(j, 2)
        found = made[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(found, patch)


def test_rded_makes_one_class_a_step_and_is_random_real_samples_until_then() -> None:
    method = RDED(samples=5, crops=2, **PLAIN)
    problem, state, rng = started(method)
    after, shown = method.step(problem, state, rng)
    assert torch.equal(after.x[2:], state.x[2:])
    assert not torch.equal(after.x[:2], state.x[:2])
    assert shown["ce"] > 0
    assert method.num_steps(problem) == 4
    result = method.result(problem, after)
    assert result.space == "data"
    assert result.labels.shape == (8, 4)
