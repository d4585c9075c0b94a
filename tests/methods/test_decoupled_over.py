"""Recovery over parametrizations: what is optimised is what is stored, whatever it decodes to."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decoupled_toys import at_toy, batches, members, started, steps
from torch import Tensor

import potstill
from potstill.codecs import parse_codec
from potstill.core import Splits
from potstill.core.registry import make_method, resolve
from potstill.functional.transforms import resize
from potstill.methods.decoupled.edc import EDC
from potstill.methods.decoupled.fadrm import FADRM
from potstill.methods.decoupled.sre2l import SRe2L
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.rng import generator
from potstill.testing import check_method, toy_source

PLAIN: dict[str, Any] = {"teacher_epochs": 1, "teacher_augment": "none"}
SMALL: dict[str, Any] = {
    **PLAIN, "iterations": 3, "batch": 6, "committee": "convnet-d1-w4-batch", "samples": 4, "crops": 2, "ascent": 2,
    "round_iterations": 1,
}  # fmt: skip
STILL: dict[str, Any] = {"crop": 1.0, "pad": 0, "flip": False}


def small(name: str, **changes: Any) -> Any:
    fields = {f.name for f in dataclasses.fields(resolve("methods", name))}
    return make_method(name, {k: v for k, v in {**SMALL, **changes}.items() if k in fields})[1]


OVER = [
    ("sre2l", "tiles"), ("cda", "memory:bases=2"), ("sre2l++", "frequency:kept=16"), ("cv-dd", "tiles"),
    ("g-vbsm", "small"), ("edc", "tiles"), ("fadrm", "compensators:count=2"), ("delt", "tiles"), ("dwa", "tiles"),
    ("lpld", "hallucinator:styles=2,width=1"), ("wmdd", "tiles"), ("sre2l", "field:warmup=2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spelled"), OVER)
def test_every_recovery_goes_over_parametrizations(name: str, spelled: str) -> None:
    check_method(small(name, parametrization=spelled), steps=3, source=toy_source("image", side=16, classes=2), ipc=4)


@pytest.mark.parametrize("name", ["sre2l", "cv-dd", "edc", "fadrm", "g-vbsm", "dwa", "lpld", "wmdd"])
def test_what_is_stored_whole_moves_as_rows_do(name: str) -> None:
    # small:factor=1 stores pixels as they are, but nobody says so to the engine
    method = at_toy(small(name, **STILL))
    problem, state, rng = started(method, ipc=3)
    other = replace(problem, parametrization=resolve("parametrizations", "small")(factor=1))
    rows = steps(method, problem, state, rng, 5)
    whole = steps(method, other, method.init(other, generator(3)), rng, 5)
    assert [shown for _, shown in whole] == [shown for _, shown in rows]
    made = [method.result(p, s[-1][0]).payload["inputs"] for p, s in ((problem, rows), (other, whole))]
    assert torch.equal(*made)


def moved(before: Tensor, after: Tensor) -> Tensor:
    return (before != after).flatten(1).any(1)


def test_a_batch_moves_its_own_tiles_and_no_others() -> None:
    method = at_toy(SRe2L(iterations=2, labels="hard", parametrization="tiles", **PLAIN))
    problem, state, rng = started(method, ipc=1)
    assert problem.sizes == (4,) * 4
    assert [b.tolist() for b in batches(method, problem)][1] == [1, 5, 9, 13]
    made = [problem.decode(method.result(problem, s).payload) for s, _ in steps(method, problem, state, rng, 4)]
    for first, last, batch in ((0, 2, 0), (2, 4, 1)):
        assert moved(made[first], made[last]).nonzero().flatten().tolist() == batches(method, problem)[batch].tolist()
    assert made[0].shape == (16, 1, 8, 8)
    assert [t.shape for t in state.payload.values()] == [(4, 1, 1, 8, 8)]  # one picture of each class


def test_two_iterations_over_tiles_against_a_naive_loop() -> None:
    method = at_toy(SRe2L(iterations=4, jitter=0, parametrization="tiles", **PLAIN))
    problem, state, rng = started(method, ipc=1)
    net, (member,) = problem.network(0).eval(), members(method, problem)
    net.load_state_dict(dict(member.weights))
    made = steps(method, problem, state, rng, 2)
    (stored,) = state.payload.values()
    x = stored.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.25, betas=(0.5, 0.9))
    norm, bn = problem.train.normalization, net.features[1]
    for t in range(2):
        adam.param_groups[0]["lr"] = 0.25 * (1 + math.cos(math.pi * t / 4)) / 2
        cell = F.interpolate(x[:, 0, :, :4, :4], (8, 8), mode="bilinear", align_corners=False)
        a = net.features[0](cell)
        mean, var = a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0)
        away = (mean - bn.running_mean).norm() + (var - bn.running_var).norm()
        loss = F.cross_entropy(net(cell), torch.arange(4)) + 0.01 * 10 * away
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            x[:, 0, :, :4, :4].clamp_(float(-norm.mean / norm.std), float((1 - norm.mean) / norm.std))
        assert made[t + 1][1]["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    (after,) = method.result(problem, made[2][0]).payload.values()
    torch.testing.assert_close(after, x.detach(), rtol=1e-3, atol=1e-4)


def test_fadrm_gives_back_to_the_tiles_of_the_batch_alone_and_sees_small_stages_small() -> None:
    options: dict[str, Any] = {"iterations": 2, "stages": 2, "parametrization": "tiles", "samples": 4, "crops": 2}
    method = FADRM(shrink=0.5, alpha=0.5, batch=2, **options, **STILL, jitter=0, **PLAIN)
    problem, state, rng = started(method, ipc=1)
    engine, asked = method.build_engine(problem), members(method, problem)
    made = [s for s, _ in steps(method, problem, state, rng, 3)]  # one batch, and the first stage of the next
    begun = engine.start_stage(problem, asked, made[3], batches(method, problem)[1])
    (first,), (before,), (after,) = made[2].payload.values(), made[3].work.values(), begun.work.values()
    mine = before[0] != first
    assert 0 < int(mine.sum()) < mine.numel()
    torch.testing.assert_close(after[0][mine], (0.5 * before[0] + 0.5 * first)[mine])
    assert torch.equal(after[0][~mine], before[0][~mine])
    items = batches(method, problem)[0]
    x = problem.decode(state.payload)[items]
    seen = resize(resize(x, (4, 4)), (8, 8))  # the first stage is seen at half its size, and enlarged for the teacher
    loss = F.cross_entropy(asked[0].logits(seen), torch.tensor([0, 1]))
    assert steps(method, problem, state, generator(0), 1)[1][1]["ce"] == pytest.approx(float(loss), rel=1e-5)


def test_pictures_are_rounded_while_they_are_recovered() -> None:
    method = at_toy(SRe2L(iterations=2, jitter=0, **PLAIN))
    problem, _, _ = started(method)
    rounded = replace(
        problem, parametrization=QuantizationAware(inner=problem.parametrization, codec=parse_codec("uint1"))
    )
    state = method.init(rounded, generator(3))
    x = rounded.decode(state.payload)[batches(method, problem)[0]]
    assert not torch.equal(x, state.payload["inputs"][batches(method, problem)[0]])
    loss = F.cross_entropy(members(method, problem)[0].logits(x), torch.arange(4))
    assert method.step(rounded, state, generator(0))[1]["ce"] == pytest.approx(float(loss), rel=1e-5)


def test_edc_over_tiles_is_distilled_saved_and_read_again(tmp_path: Any) -> None:
    data = Splits(train=toy_source("image", side=16, classes=2), test=None)
    made = potstill.distill(
        data, EDC(committee="", iterations=2, **PLAIN), ipc=2, parametrization="tiles", network="convnet-d1-w4-batch",
        codec="float32", device="cpu",
    )  # fmt: skip
    assert made.metadata["config"]["parametrization"] == "tiles"
    made.save(tmp_path / "set.safetensors")
    again = potstill.load(tmp_path / "set.safetensors")
    assert again.inputs.shape == (16, 1, 16, 16)  # two pictures of each class hold four each
    assert torch.equal(again.inputs, made.inputs)
