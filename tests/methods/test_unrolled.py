"""Unrolled training as an objective: against a loop written out, a finite difference, and a case known by hand."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.func import functional_call

import potstill
from potstill.core import Network, Problem, Synthetic
from potstill.errors import NonFiniteError, PotstillError
from potstill.functional.param_groups import init_params, strip_prefix
from potstill.functional.train import copy_parameters
from potstill.functional.unroll import InnerOptimizer
from potstill.methods.engine import FixedNetworks, MatchingState, unrolling
from potstill.methods.performance import _unrolled
from potstill.methods.performance._unrolled import (
    STEP_LRS,
    STUDENT_LR,
    Block,
    RealBatch,
    Unrolling,
    real_loss,
)
from potstill.methods.performance._windows import (
    AdaptiveWindow,
    AllSteps,
    BalancedBatches,
    RandomBatch,
    RandomWindow,
    StepBatches,
)
from potstill.methods.performance.at_bptt import ATBPTT
from potstill.methods.performance.dd import DD
from potstill.methods.performance.ld import LD
from potstill.methods.performance.rat_bptt import RaTBPTT
from potstill.methods.performance.remember import Remember
from potstill.rng import generator
from potstill.runs.loop import run_loop
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import pairs_source, windows_source

INNERS = {
    "sgd": InnerOptimizer(), "momentum": InnerOptimizer(momentum=0.9), "adam": InnerOptimizer(optimizer="adam"),
    "decayed": InnerOptimizer(momentum=0.9, weight_decay=0.05),
}  # fmt: skip
RATES_OF = {"sgd": 0.1, "momentum": 0.05, "adam": 0.01, "decayed": 0.05}
RAT = RaTBPTT(iterations=3, window=3, total=5, batch_real=8, batch_per_class=1, init_from="real", augment="none")
AT = ATBPTT(iterations=3, window=3, total=6, swing=1, interval=2, batch_real=8, augment="none")
REMEMBER = Remember(iterations=3, inner_steps=3, batch_real=8, batch_per_class=1, parametrization="pixels")


def objective(inner: str = "sgd", start: int = 2, size: int = 3, **changes: Any) -> Unrolling:
    windows = RandomWindow(size=size, total=start + size, min_burn_in=start)
    values = {"batch_real": 8, "lr": RATES_OF[inner], **changes}
    return Unrolling(windows=windows, batches=changes.pop("batches", BalancedBatches(per_class=1)), inner=INNERS[inner],
                     **{k: v for k, v in values.items() if k != "batches"})  # fmt: skip


def doubled(problem: Problem, made: Unrolling, seed: int = 3) -> tuple[MatchingState, Block, dict[str, Tensor]]:
    """A state, a block, and what is seen, in float64."""
    state = RAT.init(problem, generator(seed))
    state, block = made.prepare(problem, FixedNetworks(), state, generator(seed))
    real = replace(block.real, x=block.real.x.double())  # type: ignore[union-attr]
    seen = {"inputs": state.params.value["payload/inputs"].double()}
    return state, replace(block, net=block.net.double(), real=real), seen


def written(problem: Problem, block: Block, x: Tensor, inner: str, lr: float) -> Tensor:
    """The loss of the student at its end, by a loop whose graph holds the window."""
    y = torch.arange(4).repeat_interleave(2)
    theta = {n: p.detach().clone().requires_grad_() for n, p in block.net.named_parameters()}
    first = {n: torch.zeros_like(p) for n, p in theta.items()}
    second = dict(first)
    for i, (rows, _) in enumerate(block.batches):
        still = i < block.start
        rows = torch.arange(len(x)) if rows is None else rows
        shown = x.detach() if still else x
        loss = F.cross_entropy(functional_call(block.net, theta, (shown[rows],)), y[rows])
        grads = dict(zip(theta, torch.autograd.grad(loss, list(theta.values()), create_graph=not still), strict=True))
        if inner == "adam":
            first = {n: 0.9 * first[n] + 0.1 * g for n, g in grads.items()}
            second = {n: 0.999 * second[n] + 0.001 * g * g for n, g in grads.items()}
            step = {
                n: m / (1 - 0.9 ** (i + 1)) / ((second[n] / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
                for n, m in first.items()
            }
        else:
            decay, momentum = INNERS[inner].weight_decay, INNERS[inner].momentum
            step = first = {n: momentum * first[n] + g + decay * theta[n] for n, g in grads.items()}
        theta = {n: p - lr * step[n] for n, p in theta.items()}
        if still:
            theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
            first, second = ({n: t.detach() for n, t in m.items()} for m in (first, second))
    return F.cross_entropy(functional_call(block.net, theta, (block.real.x,)), block.real.y)


@pytest.mark.parametrize("mode", ["replay", "full"])
@pytest.mark.parametrize("inner", list(INNERS))
def test_the_gradient_is_that_of_a_loop_written_out(inner: str, mode: str) -> None:
    made, problem = objective(inner, mode=mode), toy_problem(RAT)
    state, block, seen = doubled(problem, made)
    loss, slopes = made.loss_and_grads(problem, state, block, seen)
    x = seen["inputs"].clone().requires_grad_()
    expected = written(problem, block, x, inner, made.lr)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    (by_x,) = torch.autograd.grad(expected, x)
    assert by_x.abs().max() > 1e-6
    torch.testing.assert_close(slopes["inputs"], by_x, rtol=1e-8, atol=1e-13)


def test_the_gradient_is_the_change_of_the_loss_with_a_pixel() -> None:
    made, problem = objective("adam", start=0, size=4), toy_problem(RAT)
    state, block, seen = doubled(problem, made)
    _, slopes = made.loss_and_grads(problem, state, block, seen)
    at = tuple(int(v) for v in torch.nonzero(slopes["inputs"].abs() == slopes["inputs"].abs().max())[0])
    losses = []
    for by in (1e-5, -1e-5):
        moved = seen["inputs"].clone()
        moved[at] += by
        losses.append(made.loss_and_grads(problem, state, block, {"inputs": moved})[0])
    assert float(slopes["inputs"][at]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5)


class _Line(Network):
    """A number times the input."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 1, bias=False).double()
        with torch.no_grad():
            self.classifier.weight.fill_(weight)

    def embed(self, x: Any) -> Tensor:
        return x

    def forward(self, x: Any) -> Tensor:
        out: Tensor = self.classifier(x)
        return out


class _Squares:
    """(output − y)² in the mean."""

    name = "toy"

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        return (output - y).square().mean()


def test_one_step_of_a_line_is_known_by_hand() -> None:
    """w' = w − 2ηx(wx − y), L = (w'X − Y)²: dL/dx = 2X(w'X − Y) · −2η(2wx − y), dL/dη = 2X(w'X − Y) · −2x(wx − y)."""
    w, x, y, big, target, eta = 0.5, 2.0, 3.0, 1.5, 4.0, 0.1
    problem = toy_problem(RAT, kind="table")
    object.__setattr__(problem, "task", _Squares())
    made = objective("sgd", start=0, size=1)
    real = RealBatch(x=torch.tensor([[big]]).double(), y=torch.tensor([[target]]).double())
    block = Block(net=_Line(w), start=0, batches=[(None, None)], real=real)
    object.__setattr__(problem, "augment", _NoAugment())
    seen = {
        "inputs": torch.tensor([[x]]).double(), "labels/targets": torch.tensor([[y]]).double(),
        STUDENT_LR: torch.tensor(eta).double(),
    }  # fmt: skip
    loss, slopes = made.loss_and_grads(problem, MatchingState(params=init_params({}, {})), block, seen)
    after = w - 2 * eta * x * (w * x - y)
    outer = 2 * big * (after * big - target)
    assert loss == pytest.approx((after * big - target) ** 2)
    assert float(slopes["inputs"]) == pytest.approx(outer * -2 * eta * (2 * w * x - y))
    assert float(slopes[STUDENT_LR]) == pytest.approx(outer * -2 * x * (w * x - y))
    assert set(slopes) == {"inputs", STUDENT_LR}  # targets stay


class _NoAugment:
    def apply(self, x: Tensor, params: object) -> Tensor:
        return x


def test_a_small_window_is_one_graph_and_a_large_one_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    made, problem, seen = objective("sgd"), toy_problem(RAT), []
    state, block, shown = doubled(problem, made)
    real = unrolling.unrolled_grads
    monkeypatch.setattr(unrolling, "unrolled_grads", lambda *a: seen.append(a[6]) or real(*a))
    numbers = 3 * 4 * 64  # steps, samples, pixels
    for limit in (numbers, numbers - 1):
        monkeypatch.setattr(unrolling, "FULL_GRAPH_ELEMENTS", limit)
        made.loss_and_grads(problem, state, block, shown)
    assert seen == ["full", "replay"]


def test_one_graph_that_is_not_finite_is_replayed_so_that_the_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made, problem, asked = objective("sgd", mode="full"), toy_problem(RAT), []
    state, block, shown = doubled(problem, made)

    def broken(*args: Any) -> Any:
        asked.append(args[6] if len(args) > 6 else "replay")
        raise NonFiniteError(f"not finite in {asked[-1]}")

    monkeypatch.setattr(unrolling, "unrolled_grads", broken)
    with pytest.raises(NonFiniteError, match="not finite in replay"):
        made.loss_and_grads(problem, state, block, shown)
    assert asked == ["full", "replay"]


def test_no_gradient_goes_through_the_burn_in() -> None:
    """Each step looks at inputs of its own: those of the burn-in have no slope."""
    made, problem = objective("sgd", start=1, size=1, batches=StepBatches(per_class=1)), toy_problem(RAT)
    state, block, seen = doubled(problem, made)
    _, slopes = made.loss_and_grads(problem, state, block, seen)
    moved = slopes["inputs"].flatten(1).norm(dim=1) > 0
    assert moved.tolist() == [False, True] * 4


def test_a_real_batch_in_chunks_is_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = toy_problem(RAT)
    net = problem.network(1).double()
    real = RealBatch.draw(problem, 40, generator(1))
    real = replace(real, x=real.x.double())  # type: ignore[union-attr]
    assert torch.bincount(real.y).tolist() == [10] * 4
    found = []
    for chunk in (256, 7):
        monkeypatch.setattr(_unrolled, "REAL_CHUNK", chunk)
        theta = {n: t.requires_grad_() for n, t in copy_parameters(net).items()}
        told: dict[str, float] = {}
        value = real_loss(problem, net, real, told)(theta)
        found.append((value.item(), torch.autograd.grad(value, list(theta.values())), told))
    whole = F.cross_entropy(net(real.x), real.y)
    expected = torch.autograd.grad(whole, list(net.parameters()))
    right = float((net(real.x).argmax(1) == real.y).double().mean())
    for value, grads, told in found:
        assert value == pytest.approx(whole.item(), rel=1e-12)
        assert told == {"right": pytest.approx(right)}
        for a, b in zip(grads, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_cut_to_a_multiple_of_its_moving_average() -> None:
    problem = toy_problem(RAT)
    made = objective("sgd", clip=0.5, clip_decay=0.75)
    state, block, seen = doubled(problem, made)
    _, whole = objective("sgd").loss_and_grads(problem, state, block, seen)
    norm = float(whole["inputs"].norm())
    _, cut = made.loss_and_grads(problem, state, block, seen)  # the first average is the norm itself
    assert float(cut["inputs"].norm()) == pytest.approx(0.5 * norm)
    torch.testing.assert_close(cut["inputs"] / cut["inputs"].norm(), whole["inputs"] / norm)
    state = made.finish_step(problem, state, block)
    assert float(state.memory["norm"]) == pytest.approx(norm)
    state = replace(state, memory={"norm": torch.tensor(norm / 5)})
    _, cut = made.loss_and_grads(problem, state, block, seen)
    assert float(cut["inputs"].norm()) == pytest.approx(0.5 * (0.75 * norm / 5 + 0.25 * norm), rel=1e-5)
    _, cut = objective("sgd", clip=norm / 3).loss_and_grads(problem, state, block, seen)
    assert float(cut["inputs"].norm()) == pytest.approx(norm / 3, rel=1e-5)
    _, cut = objective("sgd", clip=norm * 3).loss_and_grads(problem, state, block, seen)
    torch.testing.assert_close(cut["inputs"], whole["inputs"], rtol=0, atol=0)


def test_random_windows_lie_everywhere_that_they_may() -> None:
    rng = generator(1)
    drawn = {RandomWindow(size=3, total=8, min_burn_in=2).choose({}, rng) for _ in range(200)}
    assert drawn == {(s, 3) for s in range(2, 6)}
    assert AllSteps(steps=5).choose({}, rng) == (0, 5)
    with pytest.raises(PotstillError, match="a student of 5 steps has no window of 4 steps after 2; make total larger"):
        RandomWindow(size=4, total=5, min_burn_in=2)


def test_batches() -> None:
    rng = generator(1)
    sizes = (2, 5, 1)
    rows = BalancedBatches(per_class=2)(sizes, 0, rng)
    assert rows is not None
    assert torch.bucketize(rows, torch.tensor([1, 6])).tolist() == [0, 0, 1, 1, 2]
    assert BalancedBatches(per_class=5)(sizes, 0, rng) is None
    some = RandomBatch(batch=3)(sizes, 0, rng)
    assert some is not None
    assert len(set(some.tolist())) == 3
    assert RandomBatch(batch=8)(sizes, 0, rng) is None
    turns = StepBatches(per_class=2)
    shown = [turns(sizes, i, rng) for i in range(6)]
    assert [t.tolist() for t in shown if t is not None] == [[0, 1, 2, 3, 7], [4, 5], [6]] * 2


NORMS = torch.tensor([1.0, 4.0, 3.5, 0.5, 0.5, 0.5])


def test_adaptive_windows_follow_the_norms_and_how_they_change() -> None:
    windows, rng = AdaptiveWindow(size=3, total=6, swing=1, interval=2), generator(1)
    memory = windows.prepare({}, lambda n: NORMS[:n], rng)
    drawn = [windows.choose(memory, rng) for _ in range(2000)]
    # changes 0, 3, 0.5, 3, 0, 0: ranks 0, 4, 3, 4, 0, 0 of 6; sizes 2 + 2·r/6
    sizes = {0: 2, 1: 3, 2: 3, 3: 3, 4: 2, 5: 2}
    likely = NORMS.softmax(0)
    for t in range(4):
        times = sum(start == t and size == sizes[t] for start, size in drawn)
        assert times / 2000 == pytest.approx(float(likely[t]), abs=0.04)
    assert all(start + size <= 6 for start, size in drawn)


def test_adaptive_windows_go_through_three_stages() -> None:
    windows, rng = AdaptiveWindow(size=3, total=6, swing=1, interval=2), generator(1)
    looked: list[int] = []

    def probe(n: int) -> Tensor:
        looked.append(n)
        return NORMS

    memory: Mapping[str, Tensor] = {}
    stages, sizes = [], []
    for i in range(12):
        memory = windows.prepare(memory, probe, rng)
        stages.append(int(memory["stage"]))
        sizes.append(windows.choose(memory, rng)[1])
        memory = windows.update(memory, 0.5 if i < 4 else 0.52)
    # means 0.5 (a gain), 0.5 (none: 0.15 · 6 rounds up to 1), then 0.52 in the second stage: a gain, then none
    assert stages == [0] * 4 + [1] * 4 + [2] * 4
    assert set(sizes[4:8]) == {4}
    assert set(sizes[8:]) == {2}
    assert looked == [6] * 4  # none in the second stage
    with pytest.raises(PotstillError, match="cannot become 3 steps smaller; choose a swing of at most 2"):
        AdaptiveWindow(size=3, total=9, swing=3, interval=1)


@pytest.mark.parametrize("inner", list(INNERS))
def test_norms_are_those_of_the_students_gradients(inner: str) -> None:
    made, problem = objective(inner), toy_problem(RAT)
    state = RAT.init(problem, generator(1))
    net = problem.network(3)
    batches = [made.draw_batch(problem, i, generator(i)) for i in range(3)]
    found = made.step_norms(problem, state, net, batches)
    x, y = state.params.value["payload/inputs"], torch.arange(4).repeat_interleave(2)
    kind = torch.optim.Adam if inner == "adam" else torch.optim.SGD
    moving = {"momentum": made.inner.momentum, "weight_decay": made.inner.weight_decay} if inner != "adam" else {}
    optimizer = kind(net.parameters(), lr=made.lr, **moving)  # type: ignore[arg-type]
    for (rows, _), norm in zip(batches, found, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        expected = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm()
        assert float(norm) == pytest.approx(expected.item(), rel=1e-3)
        optimizer.step()


def test_rat_bptt_as_published() -> None:
    assert (RaTBPTT().window, RaTBPTT().total, RaTBPTT().batch_real, RaTBPTT().batch_per_class) == (60, 200, 5000, 10)
    assert (RaTBPTT().optimizer, RaTBPTT().lr, RaTBPTT().inner_optimizer, RaTBPTT().lr_net) == (
        "adamw", 1e-3, "adam", 1e-3
    )  # fmt: skip
    assert (RaTBPTT().clip, RaTBPTT().clip_decay, RaTBPTT().init_from) == (2.0, 0.9, "noise")
    assert (ATBPTT().window, ATBPTT().swing, ATBPTT().total) == (40, 10, 200)


@pytest.mark.parametrize("method", [RAT, AT], ids=["rat-bptt", "at-bptt"])
def test_students_by_sgd_have_the_programs_momentum_and_decay(method: Any) -> None:
    """distill_higher.py: optim.SGD(momentum=0.9, weight_decay=5e-4), optim.Adam without."""
    problem = toy_problem(method)
    assert replace(method, inner_optimizer="sgd").build_engine(problem).objective.inner == InnerOptimizer(
        momentum=0.9, weight_decay=5e-4
    )  # fmt: skip
    assert method.build_engine(problem).objective.inner == InnerOptimizer(optimizer="adam")
    plain = replace(method, inner_optimizer="sgd", momentum_net=0.0, weight_decay_net=0.0)
    assert plain.build_engine(problem).objective.inner == InnerOptimizer()


def test_remember_as_published() -> None:
    r = Remember()
    assert (r.inner_steps, r.lr_net, r.momentum_net, r.batch_per_class) == (150, 0.01, 0.9, 32)
    assert (r.optimizer, r.lr, r.momentum, r.clip, r.parametrization) == ("sgd", 0.1, 0.5, 2.0, "memory")


def test_a_window_that_does_not_fit_is_refused_before_anything_is_done() -> None:
    method = replace(RAT, window=9)
    with pytest.raises(PotstillError, match="a student of 5 steps has no window of 9 steps"):
        method.init(toy_problem(method), generator(1))


@pytest.mark.parametrize("method", [RAT, AT, REMEMBER], ids=["rat", "at", "remember"])
def test_a_learned_rate_moves_stays_positive_and_is_in_the_result(method: Any) -> None:
    method = replace(method, learn_lr=True, lr_lr=2.0)
    problem = toy_problem(method)
    state, rates = method.init(problem, generator(1)), []
    for _ in range(3):
        state, _ = method.step(problem, state, generator(2))
        rates.append(float(method.result(problem, state).extra_parameters[STUDENT_LR]))
    assert all(r > 0 for r in rates)
    assert len({method.lr_net, *rates}) == 4


def test_known_students_are_the_networks_of_the_first_seeds() -> None:
    problem = toy_problem(RAT)
    state = RAT.init(problem, generator(1))
    students = FixedNetworks(count=2)
    made = [students.draw_networks(problem, state, generator(i))[0] for i in range(8)]
    known = [problem.network(i).state_dict()["classifier.weight"] for i in range(2)]
    which = [[torch.equal(net.state_dict()["classifier.weight"], k) for k in known].index(True) for net in made]
    assert set(which) == {0, 1}


def test_dd_has_samples_and_a_rate_for_every_step() -> None:
    method = DD(iterations=6, batch_real=8, epochs=2, decay_every=2)
    problem = toy_problem(method, ipc=3)
    engine = method.build_engine(problem)
    assert engine.extra_parameters[STEP_LRS].tolist() == [pytest.approx(0.02)] * 6
    state = method.init(problem, generator(1))
    state, block = engine.objective.prepare(problem, engine.networks, state, generator(1))
    assert [rows.tolist() for rows, _ in block.batches] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]] * 2
    factors = [engine.param_groups(replace(state, iteration=i), True)["payload/"].lr for i in range(6)]
    assert factors == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])
    after, _ = method.step(problem, state, generator(2))
    made = method.result(problem, after)
    assert isinstance(made, Synthetic)
    rates = made.extra_parameters[STEP_LRS]
    assert bool((rates != 0.02).all() and (rates > 0).all())
    assert float(made.extra_parameters[STUDENT_LR]) == pytest.approx(float(rates.mean()))


def test_dds_gradient_by_its_rates_is_the_change_of_the_loss() -> None:
    method = DD(iterations=2, batch_real=8, epochs=2)
    problem = toy_problem(method)
    made = method.build_engine(problem).objective
    state = method.init(problem, generator(1))
    state, block = made.prepare(problem, FixedNetworks(), state, generator(1))
    real = replace(block.real, x=block.real.x.double())
    block = replace(block, net=block.net.double(), real=real)
    seen = {"inputs": state.params.value["payload/inputs"].double(), STEP_LRS: torch.full((4,), 0.05).double()}
    _, slopes = made.loss_and_grads(problem, state, block, seen)
    for i in range(4):
        losses = [
            made.loss_and_grads(problem, state, block, {**seen, STEP_LRS: seen[STEP_LRS].index_add(
                0, torch.tensor([i]), torch.tensor([by]).double())})[0]
            for by in (1e-5, -1e-5)
        ]  # fmt: skip
        assert float(slopes[STEP_LRS][i]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4)


def test_ld_learns_labels_of_pictures_that_stay() -> None:
    method = LD(iterations=4, batch_real=8, batch_inner=5)
    problem = toy_problem(method)
    state = first = method.init(problem, generator(1))
    for _ in range(3):
        state, _ = method.step(problem, state, generator(2))
    a, b = method.result(problem, first), method.result(problem, state)
    assert isinstance(a, Synthetic) and isinstance(b, Synthetic)  # noqa: PT018
    assert torch.equal(a.payload["inputs"], b.payload["inputs"])
    assert not torch.equal(a.labels, b.labels)
    torch.testing.assert_close(b.labels.sum(1), torch.ones(8))


def test_lds_student_takes_adam_steps_with_the_labels_before_they_move() -> None:
    method = LD(iterations=4, batch_real=8, batch_inner=99)
    problem = toy_problem(method)
    before = method.init(problem, generator(1))
    net = problem.network(0)
    net.load_state_dict(strip_prefix("theta/", before.memory))
    x, y = before.params.value["payload/inputs"], before.params.value["labels/logits"].softmax(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    after, _ = method.step(problem, before, generator(2))
    for name, p in net.named_parameters():
        torch.testing.assert_close(after.memory[f"theta/{name}"], p.detach(), rtol=1e-4, atol=1e-6)
    assert int(after.memory["count"]) == 1


def test_lds_student_begins_anew_where_its_errors_no_longer_fall() -> None:
    method = LD(iterations=20, batch_real=8, patience=2, lr_student=1e-12, lr_labels=0.0, lr_net=1e-12)
    problem = toy_problem(method)
    state, counts, rng = method.init(problem, generator(1)), [], generator(2)
    for _ in range(10):
        state, _ = method.step(problem, state, rng)
        counts.append(int(state.memory["count"]))
    # nothing changes but the real batch, so errors wander: a student serves 2 + 3 steps at least
    assert 0 in counts
    assert counts[:4] == [1, 2, 3, 4]


def test_a_student_that_diverges_is_named_and_the_run_is_kept() -> None:
    method = replace(RAT, lr_net=1e30, inner_optimizer="sgd", iterations=4)
    problem = toy_problem(method)
    done = run_loop(method, problem, rng=generator(1), identity={})
    assert done.outcome.kind == "not finite"
    assert "inner step" in done.outcome.message
    assert "the state of step 0 is kept" in done.outcome.message
    assert bool(torch.isfinite(method.result(problem, done.state).payload["inputs"]).all())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["windows", "pairs"])
@pytest.mark.parametrize("method", [RAT, replace(REMEMBER, init_from="real"), DD(iterations=2, batch_real=8,
    init_from="real")],
                         ids=["rat", "remember", "dd"])  # fmt: skip
def test_the_contract_holds_without_classes_and_with_names(kind: str, method: Any) -> None:
    source = {"windows": windows_source, "pairs": pairs_source}[kind]()
    check_method(dataclasses.replace(method, network="mlp-w8"), source=source, ipc=4, steps=2)


def test_a_regression_gets_better() -> None:
    x, y = load_diabetes(return_X_y=True)
    data = potstill.load_data((x[:300], y[:300], x[300:], y[300:]), task="regression")
    given: dict[str, Any] = {"items": 8, "network": "mlp-w16", "progress": None, "codec": "float32"}
    method = replace(
        RAT,
        iterations=40,
        window=5,
        total=10,
        batch_real=64,
        batch_per_class=8,
        lr=0.05,
        lr_net=0.02,
        network="mlp-w16",
    )
    errors = []
    for steps in (1, 40):
        small = potstill.distill(data, method, steps=steps, **given)
        history = small.history
        assert math.isfinite(history[-1]["loss"])
        errors.append(sum(row["loss"] for row in history[-5:]) / len(history[-5:]))
    assert errors[1] < 0.8 * errors[0]


def test_real_values_are_labels_of_classes_and_real_targets() -> None:
    """Of classes the student sees scores + 1/k: at first the loss is that of hard labels, and labels have slopes."""
    method = replace(RAT, labels="scores", lr_labels=0.1)
    problem = toy_problem(method)
    losses = []
    for m in (method, replace(RAT, labels="hard")):
        state, metrics = m.step(problem, m.init(problem, generator(3)), generator(3))
        losses.append(metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    state = method.init(problem, generator(3))
    after, _ = method.step(problem, state, generator(3))
    a, b = (method.result(problem, s) for s in (state, after))
    assert isinstance(a, Synthetic) and isinstance(b, Synthetic)  # noqa: PT018
    assert b.centred_labels
    assert not torch.equal(a.labels, b.labels)
    check_method(replace(method, network="mlp-w8"), source=windows_source(), ipc=4, steps=2)
    targets = toy_problem(replace(method, network="mlp"), ipc=4, source=windows_source())
    state = method.init(targets, generator(3))
    after, _ = method.step(targets, state, generator(3))
    x, y = method.result(targets, state), method.result(targets, after)
    assert isinstance(x, Synthetic) and isinstance(y, Synthetic)  # noqa: PT018
    moved = (y.labels - x.labels).abs() / x.labels.std(0)
    assert 0 < float(moved.max()) < 1
