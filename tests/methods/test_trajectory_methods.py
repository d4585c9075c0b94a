"""Trajectory matching: the objective against a loop written by hand, and what each method does otherwise, as facts."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

import potstill
from potstill.augment.siamese import SiameseParams, dsa
from potstill.core import NetworkFactory, NetworkWeights, Problem, Splits
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.param_groups import init_params, param_values, step_params
from potstill.functional.train import copy_parameters
from potstill.methods.engine import MatchingState, unrolling
from potstill.methods.trajectory._expert_init import ExpertInit
from potstill.methods.trajectory._objective import STUDENT_LR, Block, TrajectoryDistance, draw_batches
from potstill.methods.trajectory._parts import LastStep, NearestStep, PartialDistance, RelativeDistance, StartEpochs
from potstill.methods.trajectory._values import TrajectoryFields, trajectory_param_groups
from potstill.methods.trajectory.att import ATT
from potstill.methods.trajectory.datm import DATM
from potstill.methods.trajectory.ftd import FTD
from potstill.methods.trajectory.mtt import MTT
from potstill.methods.trajectory.pad import PAD
from potstill.methods.trajectory.tesla import TESLA
from potstill.nn import factory
from potstill.rng import generator
from potstill.runs.loop import run_loop
from potstill.testing import toy_problem, toy_source

STATE = MatchingState(params=init_params({}, {}))
ALL = (MTT, TESLA, FTD, ATT, DATM, PAD)


@dataclass(frozen=True)
class Line:
    """An expert that goes along a line."""

    make: NetworkFactory
    seed: int = 3
    epochs: int = 6
    pace: float = 0.05

    def at(self, epoch: int) -> dict[str, Tensor]:
        rng = generator(self.seed, "line")
        first = copy_parameters(self.make(self.seed))
        return {n: p + epoch * self.pace * torch.randn(p.shape, generator=rng) for n, p in first.items()}

    def trained(self, epoch: int) -> NetworkWeights:
        return NetworkWeights(seed=self.seed, parameters=self.at(epoch), buffers={}, epoch=epoch)


def problem_with(experts: tuple[Any, ...] = (), *, epochs: int = 6, ipc: int = 2, side: int = 8) -> Problem:
    problem = toy_problem(ipc=ipc, source=toy_source(side=side))
    problem = replace(problem, augment=dsa())
    return replace(problem, assets={"experts": experts or (Line(problem.network, epochs=epochs),)})


SETTINGS: dict[str, Any] = {
    "student_steps": 3, "expert_epochs": 2, "max_start_epoch": 3, "lr": 1.0, "lr_lr": 1e-6, "train_epochs": 6,
    "num_experts": 1, "iterations": 3,
}  # fmt: skip


def small(kind: type[TrajectoryFields], problem: Problem, **changes: Any) -> Any:
    return kind(**{**SETTINGS, **changes}).resolve_defaults(problem)[0]


# --- the objective ----------------------------------------------------------------------------------------------------


def doubled(problem: Problem, objective: TrajectoryDistance) -> tuple[Block, dict[str, Tensor]]:
    """A block and what it looks at, in float64."""
    method = small(MTT, problem, student_steps=objective.student_steps)
    state = method.init(problem, generator(0))
    _, block = objective.prepare(problem, method.build_engine(problem).networks, state, generator(1))
    wide = {n: {m: t.double() for m, t in getattr(block, n).items()} for n in ("start", "target")}
    rng = generator(2)
    seen = {
        "inputs": torch.randn(8, 1, 8, 8, generator=rng, dtype=torch.float64),
        "labels": torch.randn(8, 4, generator=rng, dtype=torch.float64).softmax(1),
        STUDENT_LR: torch.tensor(0.05, dtype=torch.float64),
    }
    return replace(block, **wide), seen  # type: ignore[arg-type]


def by_hand(block: Block, seen: Mapping[str, Tensor], drop: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole unroll in one graph, each term as it is written."""
    moved = {n: t.clone().requires_grad_() for n, t in seen.items()}
    theta = {n: p.clone().requires_grad_() for n, p in block.start.items()}
    for rows, omega in zip(block.rows, block.omega, strict=True):
        assert isinstance(omega, SiameseParams)
        x = dsa().apply(moved["inputs"][rows], omega)
        logits = functional_call(block.net, theta, (x,))
        loss = -(moved["labels"][rows] * F.log_softmax(logits, 1)).sum(1).mean()
        grads = torch.autograd.grad(loss, tuple(theta.values()), create_graph=True)
        theta = {n: p - moved[STUDENT_LR] * g for (n, p), g in zip(theta.items(), grads, strict=True)}
    left = torch.cat([(theta[n] - block.target[n]).flatten() for n in theta]) ** 2
    way = torch.cat([(block.start[n] - block.target[n]).flatten() for n in theta]) ** 2
    kept = left.detach().argsort()[int(drop * len(left)) :]
    ratio = left[kept].sum() / way[kept].sum()
    return ratio.detach(), dict(zip(moved, torch.autograd.grad(ratio, tuple(moved.values())), strict=True))


OBJECTIVE = TrajectoryDistance(
    student_steps=4, expert_epochs=2, start_epochs=StartEpochs(low=0, initial_high=3, high=3),
    distance=RelativeDistance(), stop_rule=LastStep(), batch=5,
)  # fmt: skip


@pytest.mark.parametrize("mode", ["replay", "full", None])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_the_objective_is_the_loop_written_by_hand(mode: Any, drop: float) -> None:
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    assert [len(rows) for rows in block.rows] == [5, 3, 5, 3]  # parts of two permutations of 8
    distance = PartialDistance(drop) if drop else RelativeDistance()
    loss, slopes = replace(OBJECTIVE, mode=mode, distance=distance).loss_and_grads(problem, STATE, block, seen)
    wanted, by = by_hand(block, seen, drop)
    assert loss == pytest.approx(float(wanted), rel=1e-12)
    assert slopes.keys() == {"inputs", "labels", STUDENT_LR}
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, by[name], rtol=1e-9, atol=1e-13)


def test_the_gradient_is_that_of_finite_differences() -> None:
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    _, slopes = OBJECTIVE.loss_and_grads(problem, STATE, block, seen)
    rng = generator(7)
    for name, value in seen.items():
        way = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        ahead, behind = (
            OBJECTIVE.loss_and_grads(problem, STATE, block, {**seen, name: value + s * 1e-6 * way})[0] for s in (1, -1)
        )
        assert float((slopes[name] * way).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


def test_a_known_number() -> None:
    """Written down when the objective was held against a loop by hand; it only changes if the arithmetic does."""
    block, seen = doubled(problem := problem_with(), OBJECTIVE)
    loss, slopes = OBJECTIVE.loss_and_grads(problem, STATE, block, seen)
    assert loss == pytest.approx(GOLDEN[0], rel=1e-6)
    assert [float(slopes[n].norm()) for n in ("inputs", "labels", STUDENT_LR)] == pytest.approx(GOLDEN[1:], rel=1e-5)


GOLDEN = (1.029647412, 0.0051041549, 0.027312194, 0.35059731)


def test_teslas_gradient_is_another_and_not_far_off() -> None:
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    loss, exact = OBJECTIVE.loss_and_grads(problem, STATE, block, seen)
    again, tesla = small(TESLA, problem).build_engine(problem).objective.loss_and_grads(problem, STATE, block, seen)
    assert again == pytest.approx(loss, rel=1e-12)
    cosine = F.cosine_similarity(exact["inputs"].flatten(), tesla["inputs"].flatten(), 0)
    assert 0.8 < float(cosine) < 0.999


def test_what_is_large_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = unrolling.unrolled_grads
    monkeypatch.setattr(unrolling, "unrolled_grads", lambda *args: asked.append(args[6]) or plain(*args))
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    for held in (4 * 5 * 64, 4 * 5 * 64 - 1):
        monkeypatch.setattr(unrolling, "FULL_GRAPH_ELEMENTS", held)
        OBJECTIVE.loss_and_grads(problem, STATE, block, seen)
    replace(OBJECTIVE, mode="replay").loss_and_grads(problem, STATE, block, seen)
    assert asked == ["full", "replay", "replay"]


@pytest.mark.parametrize("start", ["real", "k-means", "right", "noise"])
def test_learned_labels_begin_as_the_experts_logits(start: Any) -> None:
    problem = problem_with()
    state = small(MTT, problem, init_from=start, labels="learned").init(problem, generator(0))
    logits, x = state.params.value["labels/logits"], state.params.value["payload/inputs"]
    assert torch.equal(logits, ExpertInit().initial_logits(problem, x)) == (start != "noise")


def test_hard_labels_are_the_classes() -> None:
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    hard = {n: t for n, t in seen.items() if n != "labels"}
    rows = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0)
    loss, slopes = OBJECTIVE.loss_and_grads(problem, STATE, block, hard)
    assert loss == pytest.approx(float(by_hand(block, {**seen, "labels": rows})[0]), rel=1e-12)
    assert slopes.keys() == {"inputs", STUDENT_LR}


# --- what is walked ---------------------------------------------------------------------------------------------------


def test_a_block_is_a_stretch_of_an_expert_and_the_student_draws_per_sample() -> None:
    problem = problem_with((Line(toy_problem().network, seed=3), Line(toy_problem().network, seed=4)))
    engine = small(MTT, problem, student_steps=6, max_start_epoch=3, batch=5).build_engine(problem)
    state, rng = engine.init(problem, generator(0)), generator(1)
    found, groups = set(), set()
    for _ in range(60):
        _, block = engine.objective.prepare(problem, engine.networks, state, rng)
        found |= {
            (one.seed, t) for one in problem.assets["experts"] for t in range(5)
            if all(torch.equal(block.start[n], p) for n, p in one.at(t).items())
            and all(torch.equal(block.target[n], p) for n, p in one.at(t + 2).items())
        }  # fmt: skip
        for rows, omega in zip(block.rows, block.omega, strict=True):
            assert omega.n == len(rows)  # parameters of its own for each sample
            assert len(omega.groups) == 1  # one group for a batch
            groups |= set(omega.groups)
        assert sorted(torch.cat(block.rows[:2]).tolist()) == list(range(8))
    assert found == {(seed, t) for seed in (3, 4) for t in range(3)}
    assert len(groups) == 6


def test_chunks_are_all_samples_or_parts_of_permutations() -> None:
    assert [r.tolist() for r in draw_batches(3, 0, 2, generator(0))] == [[0, 1, 2]] * 2
    assert [r.tolist() for r in draw_batches(3, 3, 1, generator(0))] == [[0, 1, 2]]
    rows = draw_batches(7, 3, 6, generator(0))
    assert [len(r) for r in rows] == [3, 3, 1, 3, 3, 1]
    assert sorted(torch.cat(rows[3:]).tolist()) == list(range(7))
    assert torch.cat(rows[:3]).tolist() != torch.cat(rows[3:]).tolist()


def test_the_range_of_datm_grows_along_a_line() -> None:
    span = StartEpochs(low=2, initial_high=10, high=20, expansion_end=1000)
    assert [span.bounds(i) for i in (0, 99, 100, 500, 999, 1000, 9999)] == [
        (2, 10), (2, 10), (2, 11), (2, 15), (2, 19), (2, 20), (2, 20),
    ]  # fmt: skip
    assert StartEpochs(low=0, initial_high=4, high=4).bounds(0) == (0, 4)


def test_experts_that_stand_still_are_refused() -> None:
    problem = problem_with((Line(toy_problem().network, pace=0.0),))
    method = small(MTT, problem)
    state = method.init(problem, generator(0))
    with pytest.raises(PotstillError, match="experts must move, but in 20 draws none did in 2 epochs"):
        method.step(problem, state, generator(1))


# --- what each method does otherwise ----------------------------------------------------------------------------------


def test_att_compares_the_step_that_comes_nearest() -> None:
    problem = problem_with()
    block, seen = doubled(problem, OBJECTIVE)
    theta, states = dict(block.start), []
    for rows, omega in zip(block.rows, block.omega, strict=True):
        used = {n: p.detach().requires_grad_() for n, p in theta.items()}
        assert isinstance(omega, SiameseParams)
        logits = functional_call(block.net, used, (dsa().apply(seen["inputs"][rows], omega),))
        loss = F.cross_entropy(logits, seen["labels"][rows])
        grads = torch.autograd.grad(loss, tuple(used.values()))
        theta = {n: p.detach() - seen[STUDENT_LR] * g for (n, p), g in zip(used.items(), grads, strict=True)}
        states.append(theta)
    there = replace(block, target={n: p + 1e-3 for n, p in states[1].items()})  # the second step comes nearest
    att = small(ATT, problem).build_engine(problem).objective
    assert att.stop_rule == NearestStep()
    loss_, slopes = att.loss_and_grads(problem, STATE, there, seen)
    shorter = replace(there, rows=there.rows[:2], omega=there.omega[:2])
    wanted, by = by_hand(shorter, seen)
    assert loss_ == pytest.approx(float(wanted), rel=1e-9)
    torch.testing.assert_close(slopes["inputs"], by["inputs"], rtol=1e-7, atol=1e-12)


def test_pads_mask_keeps_one_parameter_at_least() -> None:
    start, target = {"w": torch.zeros(4)}, {"w": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    theta = {"w": torch.tensor([0.5, 2.0, 3.0, 1.0])}
    assert float(RelativeDistance()(theta, start, target)) == pytest.approx((0.25 + 9) / 30)
    assert float(PartialDistance(0.5)(theta, start, target)) == pytest.approx((0.25 + 9) / 17)
    assert float(PartialDistance(1.0)(theta, start, target)) == pytest.approx(9 / 16)


def test_datm_skips_a_step_whose_loss_is_too_large() -> None:
    problem = problem_with()
    method = small(DATM, problem, init_from="real", threshold=1.1)
    state = method.init(problem, generator(0))
    moved, said = method.step(problem, state, generator(1))
    assert said["loss"] < 1.1
    assert moved.params.num_steps == 1
    still, said = dataclasses.replace(method, threshold=0.5).step(problem, state, generator(1))
    assert said["loss"] > 0.5
    assert still.params is state.params
    assert still.iteration == 1


def test_datm_starts_from_what_experts_have_right_with_their_logits() -> None:
    problem = problem_with(tuple(Line(toy_problem().network, seed=s) for s in (3, 4, 5)))
    nets = []
    for one in problem.assets["experts"]:
        net = problem.network(one.seed).eval()
        net.load_state_dict(one.at(one.epochs))
        nets.append(net)

    def answers(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([net(x) for net in nets])

    index = ExpertInit().select_samples(problem, (3, 3, 3, 3), generator(0))
    right = answers(problem.train.fetch(torch.arange(48)).x).argmax(2) == problem.train.labels
    for c, chosen in enumerate(index):
        assert problem.train.labels[chosen].tolist() == [c] * 3
        assert len(set(chosen.tolist())) == 3
        # as many as may be are right in the first expert, then in the next
        for upto in (1, 2, 3):
            some = right[:upto, problem.train.labels == c].any(0).sum()
            assert int(right[:upto, chosen].any(0).sum()) >= min(3, int(some))
    assert not torch.equal(
        torch.cat(index), torch.cat(ExpertInit().select_samples(problem, (3, 3, 3, 3), generator(1)))
    )

    x = problem.train.fetch(torch.cat([own[:2] for own in problem.class_indices])).x
    found, every = ExpertInit().initial_logits(problem, x), answers(x)
    kinds = set()
    for i, c in enumerate(torch.arange(4).repeat_interleave(2).tolist()):
        good = [e for e in range(3) if int(every[e, i].argmax()) == c]
        kinds.add(len(good))
        torch.testing.assert_close(found[i], every[good or [0, 1, 2], i].mean(0))
    assert len(kinds) > 1  # among them some that no expert has right, or not all
    state = small(DATM, problem).init(problem, generator(0))
    assert state.params.value["labels/logits"].shape == (8, 4)
    for several in (1, 2):  # right or not
        torch.testing.assert_close(
            ExpertInit(label_experts=several).initial_logits(problem, x), every[:several].mean(0)
        )
    real = small(DATM, problem, init_from="real", label_experts=1).init(problem, generator(0)).params.value
    torch.testing.assert_close(real["labels/logits"], answers(real["payload/inputs"])[0])


def test_ftd_gives_the_average_and_its_experts_are_flat() -> None:
    problem = problem_with()
    assert [FTD().resolve_defaults(replace(problem, counts=(n,) * 4))[0].ema_decay for n in (1, 10, 50)] == [
        0.9999,
        0.9995,
        0.999,
    ]
    method = small(FTD, problem, ema_decay=0.5)
    state, rng = method.init(problem, generator(0)), generator(1)
    first = state.params.value["payload/inputs"]
    state, _ = method.step(problem, state, rng)
    halfway = (first + state.params.value["payload/inputs"]) / 2
    result = method.result(problem, state)
    torch.testing.assert_close(result.payload["inputs"], halfway)
    assert not torch.equal(halfway, first)


PLAIN = {"lr": 0.01, "batch": 256, "augment": "dsa"}
FLAT = {**PLAIN, "optimizer": "gsam", "rho": 0.01, "alpha": 0.3}


@pytest.mark.parametrize(("kind", "recipe"), [
    (MTT, {**PLAIN, "epochs": 50}), (TESLA, {**PLAIN, "epochs": 50}),
    (ATT, {**PLAIN, "epochs": 50, "batch": 512}),  # buffer_ATT.py, --batch_train
    (FTD, {**FLAT, "epochs": 50}), (DATM, {**FLAT, "epochs": 100}),
    (PAD, {**FLAT, "epochs": 100, "curriculum": "pad"}),
])  # fmt: skip
def test_experts_are_trained_as_published(kind: type[TrajectoryFields], recipe: dict[str, Any]) -> None:
    problem = problem_with()
    (asset,) = kind().resolve_defaults(problem)[0].assets(problem)  # type: ignore[attr-defined]
    assert (asset.name, asset.count, asset.recipe) == ("experts", 100, recipe)


@pytest.mark.parametrize(("kind", "classes", "ipc", "wanted"), [
    # the README's table and scripts
    (MTT, 10, 1, {"student_steps": 50, "expert_epochs": 2, "max_start_epoch": 2, "lr": 100.0, "lr_lr": 1e-7,
        "lr_student": 0.01}),
    (MTT, 10, 10, {"student_steps": 30, "max_start_epoch": 20, "lr": 100.0, "lr_lr": 1e-5, "lr_student": 0.001}),
    (MTT, 10, 50, {"max_start_epoch": 40, "lr": 1000.0, "batch": 0}),
    (MTT, 100, 50, {"student_steps": 80, "batch": 125, "lr_student": 0.01}),
    (MTT, 7, 3, {"student_steps": 50}),
    # as published in pairs with half of the gradient
    (TESLA, 10, 1, {"max_start_epoch": 5, "lr": 500.0, "mode": "tesla"}),
    (ATT, 10, 1, {"student_steps": 80, "expert_epochs": 4, "match_nearest": True}),
    # figures/table.png, and iterations, batch and decay of the README's commands
    (ATT, 10, 1, {"iterations": 6000, "ema_decay": 0.9999}),
    (ATT, 10, 50, {"iterations": 1_000_000, "ema_decay": 0.999}),
    (ATT, 100, 50, {"batch": 1200, "iterations": 100_000}), (ATT, 100, 1, {"iterations": 3000, "ema_decay": 0.9995}),
    (ATT, 200, 10, {"lr_lr": 1e-5, "lr_student": 1e-4, "lr": 1e4, "iterations": 80_000}),
    (FTD, 10, 10, {"student_steps": 30, "gsam": True, "lr_student": 0.001}),
    # docs/parameters.png
    (FTD, 10, 1, {"gsam_alpha": 0.3, "ema_decay": 0.9999}), (FTD, 10, 10, {"gsam_alpha": 0.3, "ema_decay": 0.9995}),
    (FTD, 10, 50, {"gsam_alpha": 1.0, "ema_decay": 0.999}), (FTD, 100, 10, {"gsam_alpha": 1.0, "ema_decay": 0.9995}),
    (FTD, 200, 10, {"gsam_alpha": 1.0, "ema_decay": 0.999, "batch": 500}),
    # configs/CIFAR-10/ConvIN/IPC*.yaml
    (DATM, 10, 1, {"lr_labels": 5.0, "threshold": 1.1, "min_start_epoch": 0, "initial_start_epoch": 4,
        "max_start_epoch": 4}),
    (DATM, 10, 10, {"initial_start_epoch": 10, "max_start_epoch": 20, "expansion_end": 1000, "labels": "learned",
        "init_from": "right"}),
    (DATM, 10, 1000, {"min_start_epoch": 40, "max_start_epoch": 60, "batch": 1000, "student_steps": 100}),
    (DATM, 100, 1, {"expert_epochs": 3, "lr_labels": 10.0, "label_experts": 0, "gsam_alpha": 0.3}),
    (DATM, 100, 50, {"init_from": "real", "label_experts": 1}),
    (DATM, 200, 1, {"expansion_end": 2000, "init_from": "right"}),
    # loss_ratio of the configs
    (PAD, 10, 1, {"drop_ratio": 0.0}), (PAD, 10, 10, {"drop_ratio": 0.5}), (PAD, 10, 50, {"drop_ratio": 0.25}),
    (PAD, 10, 50, {"expert_epochs": 3}), (PAD, 10, 10, {"expert_epochs": 2}),
    (PAD, 100, 50, {"init_from": "real", "label_experts": 1}),
    (PAD, 10, 500, {"min_start_epoch": 40, "initial_start_epoch": 60, "max_start_epoch": 70, "expansion_end": 2000}),
    (PAD, 100, 1, {"initial_start_epoch": 20, "max_start_epoch": 30, "expansion_end": 1000, "expert_epochs": 3}),
    (PAD, 100, 50, {"drop_ratio": 0.0}), (PAD, 10, 10, {"iterations": 10_000, "curriculum": "pad"}),
])  # fmt: skip
def test_settings_are_those_of_the_nearest_published_run(
    kind: type[TrajectoryFields], classes: int, ipc: int, wanted: dict[str, Any]
) -> None:
    problem = replace(toy_problem(source=toy_source(classes=classes, per_class=1, side=8)), counts=(ipc,) * classes)
    method, said = kind().resolve_defaults(problem)
    assert {n: getattr(method, n) for n in wanted} == wanted
    assert said == ()
    assert not [f.name for f in dataclasses.fields(method) if getattr(method, f.name) is None]
    given = kind(lr=3.0, max_start_epoch=1).resolve_defaults(problem)[0]
    assert (given.lr, given.max_start_epoch) == (3.0, 1)


@pytest.mark.parametrize("kind", ALL)
def test_every_published_run_says_where_it_is_published(kind: type[TrajectoryFields]) -> None:
    known = {f.name for f in dataclasses.fields(kind)}
    for run_, published in kind.published.items():
        assert published.settings.keys() <= known, run_
        assert re.match(r"[\w.-]+/[\w.-]+@[0-9a-f]{7} \S", published.source), run_


@pytest.mark.parametrize("effort", ["quick", "good"])
def test_the_other_efforts_are_as_they_were(effort: str) -> None:
    """What published runs say beyond the span of experts is fixed in them, as before they said it."""
    toy = toy_problem(source=toy_source(classes=100, per_class=1, side=8))
    problem = replace(toy, counts=(50,) * 100)
    ftd, att, datm, pad = (m(**m.presets[effort]).resolve_defaults(problem)[0] for m in (FTD, ATT, DATM, PAD))
    assert (ftd.gsam_alpha, datm.init_from, datm.label_experts, pad.init_from, pad.label_experts) == (
        0.3,
        "right",
        0,
        "right",
        0,
    )
    assert (att.ema_decay, ATT(**ATT.presets[effort]).expert_batch) == (0.0, 256)
    assert {m.iterations for m in (att, datm)} == {{"quick": 150, "good": 1000}[effort]}


@pytest.mark.parametrize("kind", ALL)
def test_a_published_span_is_cut_where_experts_end_and_that_is_said(kind: type[TrajectoryFields]) -> None:
    problem = replace(problem_with(), counts=(10,) * 4)
    method, said = kind(train_epochs=5, num_experts=1).resolve_defaults(problem)
    assert method.max_start_epoch - 1 + method.expert_epochs == 5
    assert said == ("students start from experts' epochs below 4, where 20 is published: experts have 5",)
    method.build_engine(problem)  # type: ignore[attr-defined]
    shortest = kind(train_epochs=1, num_experts=1).resolve_defaults(problem)[0]
    assert (shortest.expert_epochs, shortest.max_start_epoch) == (1, 1)
    shortest.build_engine(problem)  # type: ignore[attr-defined]


# --- the student's rate -----------------------------------------------------------------------------------------------


def test_the_rate_moves_as_published_to_first_order_and_stays_above_zero() -> None:
    method = small(MTT, problem_with(), lr_student=0.01, lr_lr=1e-7)
    rules, slope = trajectory_param_groups(method), 30.0
    after = step_params(init_params({STUDENT_LR: torch.tensor(0.01)}, rules), {STUDENT_LR: torch.tensor(slope)}, rules)
    assert float(param_values(after, rules)[STUDENT_LR]) == pytest.approx(0.01 - 1e-7 * slope, rel=1e-6)
    for huge in (1e12, -1e12):  # published, it would be far below 0
        after = step_params(
            init_params({STUDENT_LR: torch.tensor(0.01)}, rules), {STUDENT_LR: torch.tensor(huge)}, rules
        )
        assert 1e-5 * 0.999 < float(param_values(after, rules)[STUDENT_LR]) < 10.01


def test_a_rate_that_diverges_ends_the_run_with_the_step_and_keeps_the_state_before() -> None:
    problem = problem_with()
    method = small(MTT, problem, lr_student=1e30, lr_lr=0.0)
    with pytest.raises(NonFiniteError, match="inner step"):
        method.step(problem, method.init(problem, generator(0)), generator(1))
    done = run_loop(method, problem, rng=generator(0), identity={})
    assert done.outcome.kind == "not finite"
    assert "step 1: " in done.outcome.message
    assert "inner step" in done.outcome.message
    assert "the state of step 0 is kept" in done.outcome.message
    assert torch.isfinite(method.result(problem, done.state).payload["inputs"]).all()


def test_the_learned_rate_stands_on_the_card() -> None:
    data = Splits(train=toy_source(), test=None)
    method = MTT(**{**SETTINGS, "lr_lr": 1e-5, "train_epochs": 3, "max_start_epoch": 1, "student_steps": 2})
    made = potstill.distill(data, method, ipc=1, network="convnet-d1-w8", progress=None)
    learned = made.metadata["training"]["learned_lr"]
    assert learned > 0
    assert learned != pytest.approx(0.01, rel=1e-9)
    assert made.metadata["experts"][0]["count"] == 1


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_walked_is_refused() -> None:
    problem = problem_with()
    with pytest.raises(PotstillError, match="must have 7 epochs, but they have 6; raise train_epochs"):
        small(MTT, problem, max_start_epoch=6).build_engine(problem)
    with pytest.raises(PotstillError, match="min_start_epoch must be below max_start_epoch, but they are 3 and 3"):
        small(DATM, problem, min_start_epoch=3).build_engine(problem)
    with pytest.raises(PotstillError, match="MTT leaves student_steps to the data"):
        MTT().build_engine(problem)
    method, bare = small(MTT, problem), replace(problem, assets={})
    state = method.init(bare, generator(0))
    with pytest.raises(PotstillError, match="follows experts, but the problem has none"):
        method.step(bare, state, generator(1))


@pytest.mark.parametrize("start", ["real", "right"])
def test_a_budget_beyond_the_class_size_is_refused(start: Any) -> None:
    problem = problem_with(ipc=13)
    with pytest.raises(PotstillError, match="12"):
        small(DATM, problem, init_from=start).init(problem, generator(0))


# --- with every parametrization and label mode ------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["pixels", "tiles", "frequency:kept=16", "memory:bases=2"])
@pytest.mark.parametrize(("kind", "labels"), [(MTT, "hard"), (DATM, "learned")])
def test_everything_that_is_stored_moves(kind: type[TrajectoryFields], labels: Any, spelled: str) -> None:
    source = toy_source("image", side=16, classes=2)
    more = {"threshold": 0.0} if kind is DATM else {}
    method = small(kind, problem_with(), labels=labels, parametrization=spelled, lr=0.1, lr_lr=1e-3, **more)
    problem = replace(toy_problem(method), counts=(4, 3), train=source, augment=dsa())
    problem = replace(problem, network=factory("convnet-d1-w8", source.input, 2))
    problem = replace(problem, assets={"experts": (Line(problem.network),)})
    state = method.init(problem, generator(0))
    after, _ = method.step(problem, state, generator(1))
    assert isinstance(after, MatchingState)
    for name, value in state.params.value.items():
        now = after.params.value[name]
        assert torch.isfinite(now).all()
        assert torch.equal(now, value) == (not value.is_floating_point())
    assert ("labels/logits" in state.params.value) == (labels == "learned")
    assert method.result(problem, after).labels.is_floating_point() == (labels == "learned")
    (part,) = method.step_costs(problem, state)
    part.ready(1)()
    assert part.samples == 3 * sum(problem.sizes)


@pytest.mark.parametrize("kind", ALL)
def test_experts_train_in_smaller_batches_where_data_are_few_and_that_is_said(kind: type[TrajectoryFields]) -> None:
    problem = problem_with()
    n = len(problem.train)
    published = kind().resolve_defaults(problem)[0]
    assert published.expert_batch == (512 if kind is ATT else 256), "as each program has it"
    small, said = kind(min_updates_per_epoch=n // 10).resolve_defaults(problem)
    assert small.expert_batch == n // (n // 10)
    assert said == (f"experts train in batches of {small.expert_batch}, as there are {n:,} samples",)
    assert small.resolve_defaults(problem) == (small, ()), "settling again says nothing and changes nothing"
    assert kind(min_updates_per_epoch=10 * n).resolve_defaults(problem)[0].expert_batch == 8
    assert kind(min_updates_per_epoch=1, expert_batch=4).resolve_defaults(problem)[0].expert_batch == 4


@pytest.mark.parametrize("kind", ALL)
def test_quick_experts_make_more_than_a_few_updates_an_epoch_on_small_data(kind: type[TrajectoryFields]) -> None:
    quick = kind(**kind.presets["quick"])
    problem = problem_with()
    batch = quick.resolve_defaults(problem)[0].expert_batch
    assert batch == 8 or len(problem.train) / batch >= 40
