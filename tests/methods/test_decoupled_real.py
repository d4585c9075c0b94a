"""What DQ, CIM, UFC and WMDD do with real pictures: mechanics of the publications, by hand."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decoupled_toys import at_toy, batches, members, pixels, started, steps, voices

from potstill.core import Problem
from potstill.errors import PotstillError
from potstill.functional.statistics import statistics_distance
from potstill.methods.decoupled import TeacherNetwork
from potstill.methods.decoupled._graph_cut import graph_cut_bins, last_layer_factors
from potstill.methods.decoupled.cim import CIM, feature_residual
from potstill.methods.decoupled.dq import DQ
from potstill.methods.decoupled.lpld import LPLD
from potstill.methods.decoupled.ufc import UFC
from potstill.methods.decoupled.wmdd import WMDD
from potstill.parametrize.pixels import Pixels
from potstill.rng import generator
from potstill.testing import toy_problem

PLAIN: dict[str, Any] = {"teacher_epochs": 1, "teacher_augment": "none"}
STILL: dict[str, Any] = {"crop": 1.0, "flip": False, "jitter": 0}
"""A view that is the batch itself."""


def network(problem: Problem, member: TeacherNetwork) -> Any:
    net = problem.network(0).eval()
    net.load_state_dict(dict(member.weights))
    return net


def test_a_member_embeds_as_its_network_does() -> None:
    method = CIM(**PLAIN)
    problem = toy_problem(method)
    (member,) = members(method, problem)
    net, x = network(problem, member), problem.train.fetch(torch.arange(5)).x
    logits, h, seen = member.forward_with_features(x)
    torch.testing.assert_close(h, net.embed(x))
    torch.testing.assert_close(logits, net(x))
    assert not seen
    again = member.embed_samples(problem.train, torch.arange(5))
    torch.testing.assert_close(again[0], logits)
    torch.testing.assert_close(again[1], h)
    assert not again[1].requires_grad


# --- DQ ---------------------------------------------------------------------------------------------------------------


def test_dq_takes_equally_many_of_every_bin_of_its_network_s_gradients() -> None:
    method = DQ(bins=4, **PLAIN)
    problem, state, rng = started(method, ipc=8)
    made = steps(method, problem, state, rng, 4)
    net = network(problem, members(method, problem)[0])
    chosen = method.result(problem, made[-1][0]).index
    for c, index in enumerate(problem.class_indices):
        x = problem.train.fetch(index).x
        with torch.no_grad():
            factors = last_layer_factors(net(x), net.embed(x), torch.full((len(index),), c))
        own = set(chosen[8 * c : 8 * c + 8].tolist())
        assert len(own) == 8
        assert [len(own & set(index[b].tolist())) for b in graph_cut_bins(*factors, 4)] == [2] * 4
    assert method.done(problem, made[-1][0])


def test_dq_is_random_real_samples_until_a_class_is_done_and_random_within_bins() -> None:
    method = DQ(bins=3, **PLAIN)
    problem, state, rng = started(method, ipc=4)
    after, shown = method.step(problem, state, rng)
    assert all(torch.equal(a, b) for a, b in zip(after.selected[1:], state.selected[1:], strict=True))
    assert shown["bins"] == 3.0
    other, _ = method.step(problem, replace(state, seed=77), generator(0))
    assert set(after.selected[0].tolist()) != set(other.selected[0].tolist())
    everything = toy_problem(method, ipc=12)
    full, _ = method.step(everything, method.init(everything, generator(0)), generator(1))
    assert sorted(full.selected[0].tolist()) == everything.class_indices[0].tolist()
    with pytest.raises(PotstillError, match="at least 13 samples"):
        method.init(toy_problem(method, ipc=13), generator(0))
    soft = replace(method, labels="soft").result(problem, state)
    assert soft.soft_labels is not None
    assert soft.soft_labels.shape == (16, 4)
    assert method.result(problem, state).soft_labels is None


# --- CIM --------------------------------------------------------------------------------------------------------------


def test_cim_begins_with_mosaics_of_the_easiest_pictures_each_in_its_place() -> None:
    method = CIM(samples=12, **PLAIN)
    problem, state, _ = started(method)
    assert problem.sizes == (8,) * 4  # two mosaics of four
    net = network(problem, members(method, problem)[0])
    for c, index in enumerate(problem.class_indices):
        loss = F.cross_entropy(net(problem.train.fetch(index).x), torch.full((12,), c), reduction="none")
        wanted = index[loss.argsort()[:8]]
        assert sorted(state.index[8 * c : 8 * c + 8].tolist()) == sorted(wanted.tolist())
        assert state.index[8 * c] == wanted[0]
    (mosaics,) = state.params.value.values()
    real = problem.train.raw(state.index)
    for c in range(4):
        for k in range(4):
            for n in range(2):
                row, column = divmod(k, 2)
                cell = mosaics[c, n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                torch.testing.assert_close(cell, real[8 * c + 2 * k + n][:, ::2, ::2])  # nearest pixels
    few = CIM(samples=1, **PLAIN)
    problem, state, _ = started(few, ipc=4)  # 16 of a class of 12: four come again
    assert len(set(state.index[:16].tolist())) == 12


def test_cim_s_first_step_against_a_naive_loop() -> None:
    method = CIM(samples=12, augment="none", lr=0.02, **PLAIN)
    problem, state, rng = started(method)
    net = network(problem, members(method, problem)[0])
    (mosaics,) = state.params.value.values()
    delta = torch.zeros_like(mosaics, requires_grad=True)
    adam = torch.optim.AdamW([delta], 0.02, weight_decay=0.0)
    norm = problem.train.normalization
    real = net.embed(problem.train.fetch(state.index).x).detach()
    for _ in range(2):
        cells = []
        for c in range(4):
            for k in range(4):
                for n in range(2):
                    row, column = divmod(k, 2)
                    cells.append((mosaics + delta)[c, n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4])
        decoded = F.interpolate(torch.stack(cells), (8, 8), mode="bilinear", align_corners=False)
        loss = (net.embed(norm.apply(decoded)) - real).abs().mean(1).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        state, shown = method.step(problem, state, rng)
        assert shown["residual"] == pytest.approx(float(loss.detach()) / 32, rel=1e-4)
    (after,) = state.params.value.values()
    torch.testing.assert_close(after, (mosaics + delta).detach(), rtol=1e-3, atol=1e-4)


def test_cim_s_residual_falls_and_both_halves_are_seen_alike() -> None:
    method = CIM(samples=12, iterations=60, **PLAIN)
    problem, state, rng = started(method)
    plain = replace(problem, augment=toy_problem(replace(method, augment="none")).augment)
    first = method.step(plain, state, rng)[1]["residual"]
    last = steps(method, problem, state, rng, 60)[-1][0]
    assert method.done(problem, last)
    assert method.step(plain, last, rng)[1]["residual"] < 0.8 * first
    # with pixels in place of tiles a picture is its own pair: nothing is left, whatever the augmentation draws
    whole = replace(problem, parametrization=Pixels())
    _, shown = method.step(whole, method.init(whole, generator(0)), rng)
    assert shown["residual"] == 0.0


def test_cim_s_residual_is_differentiable() -> None:
    method = CIM(**PLAIN)
    problem = toy_problem(method)
    (member,) = members(method, problem)
    wide = TeacherNetwork(member.network, {n: t.double() for n, t in member.weights.items()})
    real = problem.train.fetch(torch.arange(2)).x.double()
    made = (0.5 * real + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: feature_residual(wide, real, x), (made,), eps=1e-7, atol=1e-5)


# --- UFC --------------------------------------------------------------------------------------------------------------

NETS: dict[str, Any] = {"committee": "convnet-d1-w4-batch", "parametrization": "compensators:count=3", **PLAIN}


def test_ufc_makes_one_compensator_of_each_place_with_one_network_after_the_other() -> None:
    method = at_toy(UFC(iterations=2, **NETS))
    problem, state, rng = started(method, ipc=4)  # 16 pictures for 4 classes and 3: two places
    assert problem.sizes == (8,) * 4
    assert (len(batches(method, problem)), method.num_steps(problem)) == (6, 12)
    assert state.payload["decoder/compensators"].shape == (3, 2, 1, 8, 8)
    assert not state.payload["decoder/compensators"].any()
    asked = [voices(method, problem, replace(state, batch=b))[0][0] for b in range(6)]
    assert asked == [0, 0, 1, 1, 0, 0]  # two networks take turns, so the third compensators are the first's again
    made = steps(method, problem, state, rng, 12)
    assert made[1][0].work["decoder/compensators"].shape == (1, 1, 8, 8)  # one for all classes
    assert method.done(problem, made[-1][0])
    final = method.result(problem, made[-1][0])
    assert all(t.any() for t in final.payload["decoder/compensators"].flatten(0, 1))
    assert torch.equal(final.payload["inputs"], pixels(state))  # real pictures stay as they are
    reals = problem.train.fetch(torch.arange(len(problem.train))).x
    assert all((reals == x).flatten(1).all(1).any() for x in pixels(state))
    assert final.labels.shape == (32, 4)


def test_ufc_s_loss_is_sre2l_s_of_all_classes_with_one_addition() -> None:
    method = at_toy(UFC(iterations=4, **NETS, **STILL))
    problem, state, rng = started(method, ipc=4)
    state = replace(state, batch=3)  # the second network, the second place
    member = members(method, problem)[1]
    u = torch.zeros(1, 1, 8, 8, requires_grad=True)
    pictures = pixels(state)[1::2]
    under_way, item = {"decoder/compensators": u}, torch.tensor([3])
    assert torch.equal(
        method.build_engine(problem).workspace.decode(problem, state.payload, under_way, item, 0)[0], pictures
    )
    logits, _, seen = member.forward_with_features(pictures + u, method.build_engine(problem).match.rules)
    loss = F.cross_entropy(logits, torch.arange(4)) + 1.0 * statistics_distance(seen, member.running_statistics())
    (grad,) = torch.autograd.grad(loss, u)
    after, shown = method.step(problem, state, rng)
    assert shown["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    # Adam's first step is the sign of the gradient, and pixels of the compensator are not cut off
    torch.testing.assert_close(
        after.work["decoder/compensators"], -0.25 * grad / (grad.abs() + 1e-8), rtol=1e-3, atol=1e-4
    )


def test_ufc_sees_parts_of_many_classes_in_turn() -> None:
    method = at_toy(UFC(iterations=4, batch=3, **NETS))
    problem, state, _ = started(method, ipc=4)
    canvas, items = method.build_engine(problem).workspace, batches(method, problem)[1]
    taken = canvas.extract(state.payload, items)
    seen = [canvas.decode(problem, state.payload, taken, items, t) for t in range(3)]
    assert [y.tolist() for _, y in seen] == [[0, 1, 2], [3], [0, 1, 2]]
    assert [len(x) for x, _ in seen] == [3, 1, 3]


def test_ufc_begins_with_mosaics_where_asked_and_refuses_another_parametrization() -> None:
    method = at_toy(UFC(iterations=2, init_from="mosaic", samples=5, crops=2, **NETS))
    problem, state, _ = started(method, ipc=4)
    assert pixels(state).shape == (8, 1, 8, 8)
    with pytest.raises(PotstillError, match="but the parametrization is pixels"):
        method.init(replace(problem, parametrization=Pixels()), generator(0))


# --- WMDD -------------------------------------------------------------------------------------------------------------


def test_wmdd_s_loss_is_the_distance_from_atoms_and_lpld_s_statistics() -> None:
    method = WMDD(iterations=3, **PLAIN, **STILL)
    problem, state, rng = started(method, ipc=3)
    assert [b.tolist() for b in batches(method, problem)][1] == [3, 4, 5]
    (member,) = members(method, problem)
    net = network(problem, member)
    state = replace(state, batch=1)
    x = pixels(state)[3:6].clone()
    h, atoms = net.embed(x).detach(), state.real["atoms/0"]
    assert atoms.shape == (12, h.shape[1])
    features = float((h - atoms[3:6]).square().sum().sqrt())
    lpld = LPLD(iterations=3, **PLAIN, **STILL)
    bn = lpld.step(problem, replace(state, batch=1), generator(0))[1]["bn"]
    _, shown = method.step(problem, state, rng)
    assert shown["features"] == pytest.approx(features, rel=1e-5)
    assert shown["bn"] == pytest.approx(bn, rel=1e-5)
    assert shown["loss"] == pytest.approx(features + 0.01 * bn, rel=1e-5)
    assert "ce" not in shown


def test_wmdd_s_atom_of_a_single_item_is_the_class_s_mean_embedding() -> None:
    method = WMDD(iterations=1, **PLAIN)
    problem, state, _ = started(method, ipc=1)
    net = network(problem, members(method, problem)[0])
    for c, index in enumerate(problem.class_indices):
        mean = net.embed(problem.train.fetch(index).x).mean(0).detach()
        torch.testing.assert_close(state.real["atoms/0"][c], mean, rtol=1e-4, atol=1e-5)


def test_wmdd_draws_embeddings_to_its_atoms_and_leaves_running_statistics() -> None:
    method = WMDD(iterations=60, r_bn=0.0, **PLAIN, **STILL)
    problem, state, rng = started(method)
    before = {n: t.clone() for n, t in members(method, problem)[0].weights.items()}
    made = steps(method, problem, state, rng, 60)
    assert made[-1][1]["features"] < 0.3 * made[1][1]["features"]
    assert all(torch.equal(t, before[n]) for n, t in members(method, problem)[0].weights.items())


def test_wmdd_says_before_teachers_are_trained_that_its_solver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ot" else real(name))
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[wmdd\]'"):
        WMDD().assets(toy_problem(network="convnet-d1-w8-batch"))


# --- golden numbers ---------------------------------------------------------------------------------------------------


def golden(method: Any, count: int, shown: str, **options: Any) -> float:
    """A value after some steps from a teacher that is not trained: it has the bits of its seed."""
    problem, state, rng = started(replace(method, teacher_epochs=0), **options)
    return float(steps(method, problem, state, rng, count)[-1][1][shown])


def test_golden() -> None:
    assert golden(CIM(samples=12), 3, "residual") == pytest.approx(0.05609704, rel=1e-3)
    assert golden(at_toy(UFC(iterations=5, **NETS)), 3, "loss", ipc=4) == pytest.approx(25.773247, rel=1e-3)
    assert golden(WMDD(iterations=5), 3, "loss", ipc=3) == pytest.approx(7.761522, rel=1e-3)
