"""Methods whose learner is kernel ridge regression: against the formula, on every task, and what is refused."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import potstill
from potstill.core import InputSpec, Method, Problem, Splits, Synthetic
from potstill.data import TensorSource
from potstill.data.in_memory import fit_normalization
from potstill.errors import NonFiniteError
from potstill.functional.features import input_rows
from potstill.functional.kernels import FullyConnected
from potstill.functional.param_groups import step_params
from potstill.functional.ridge import predict
from potstill.methods.performance._pool import POOL_STEPS
from potstill.methods.performance._ridge import TEMPERATURE, regression_targets, target_statistics
from potstill.methods.performance._values import cosine_decay, kernel_param_groups
from potstill.methods.performance.frepo import FRePo
from potstill.methods.performance.kip import KIP
from potstill.methods.performance.krr_st import KRRST
from potstill.methods.performance.rfad import RFAD
from potstill.nn import factory
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.rng import generator
from potstill.runs.loop import run_loop
from potstill.tasks import Regression
from potstill.testing import check_method, toy_problem, toy_source
from potstill.testing.toy import mixed_source, windows_source

ALL: dict[str, Method[Any]] = {
    "kip": KIP(iterations=40, batch_real=48, labels="scores"),
    "frepo": FRePo(iterations=40, batch_real=48, pool_size=2, lr=0.05, lr_net=1e-3),
    "rfad": RFAD(iterations=40, batch_real=48, num_networks=2, lr=0.02),
    "krr-st": KRRST(iterations=40, batch_real=48, pool_size=2, max_age=4, lr=0.05, lr_net=0.01),
}


def table_source(n: int = 40) -> TensorSource:
    """Rows of four numbers, of which two real targets follow, one in thousands."""
    x = torch.randn(n, 4, generator=generator(3, "table"))
    y = torch.stack([1000 * x[:, 0] * x[:, 1] + 5000, x[:, 2].sin() / 10], 1)
    return TensorSource(
        name="toy-real", input=InputSpec(kind="table", shape=(4,), units="", columns=("a", "b", "c", "d")), classes=(),
        normalization=fit_normalization(x), inputs=x, labels=torch.zeros(n, dtype=torch.int64), targets=y,
        task=Regression(targets=("u", "v")).fit(y),
    )  # fmt: skip


REAL = {"real": table_source, "windows": windows_source}


def own_loss(problem: Problem, made: Synthetic, kernel: FullyConnected) -> float:
    """Half the mean squared error, on all real samples, of ridge regression on a set's inputs by a wide kernel."""
    every = problem.train.fetch(torch.arange(len(problem.train)))
    spec = problem.train.input
    S = input_rows(problem.decode(made.payload), spec)
    y = made.labels.double() if made.centred_labels else regression_targets(problem, made.labels)
    T = input_rows(every.x, spec)
    mean = 0.0 if made.centred_labels else y.mean(0)
    answers = predict(kernel(T, S), kernel(S, S), y - mean, 1e-6) + mean
    assert every.y is not None
    return 0.5 * float((answers - regression_targets(problem, every.y)).square().mean())


def worked(method: Method[Any], problem: Problem, seed: int = 1) -> tuple[Synthetic, Synthetic, list[float]]:
    """The first and the last set, and the losses between."""
    rng = generator(seed)
    state = method.init(problem, rng)
    first = method.result(problem, state)
    losses = []
    while not method.done(problem, state):
        state, shown = method.step(problem, state, rng)
        losses.append(sum(shown.values()))
    last = method.result(problem, state)
    assert isinstance(first, Synthetic)
    assert isinstance(last, Synthetic)
    return first, last, losses


def test_kips_loss_and_moves_are_those_of_the_formula() -> None:
    """Against the formula written out, with an inverse; Adam's first step is the rate times the slope's sign."""
    method = KIP(iterations=1, batch_real=48, depth=2, labels="scores", ridge=0.01)
    problem = toy_problem(method)
    first = method.init(problem, generator(1))
    x = first.params.value["payload/inputs"].clone().requires_grad_()
    y = first.params.value["labels/scores"].clone().requires_grad_()
    every = problem.train.fetch(torch.arange(48))
    assert isinstance(every.x, Tensor)
    kernel = FullyConnected(depth=2)
    k = kernel(x.flatten(1), x.flatten(1))
    inverse = torch.linalg.inv(k + 0.01 * k.trace() / len(k) * torch.eye(len(k), dtype=k.dtype))
    answers = kernel(every.x.flatten(1), x.flatten(1)) @ inverse @ y.double()
    loss = 0.5 * (answers - (F.one_hot(problem.train.labels, 4) - 0.25)).square().mean()
    by_x, by_y = torch.autograd.grad(loss, (x, y))
    after, shown = method.step(problem, first, generator(1))
    assert shown == {"loss": pytest.approx(float(loss.detach()), rel=1e-6)}
    moved = after.params.value["payload/inputs"] - x.detach()
    clear = by_x.abs() > 1e-6
    assert torch.allclose(moved[clear], -0.04 * by_x[clear].sign(), rtol=2e-2)
    assert torch.allclose(after.params.value["labels/scores"] - y.detach(), -0.04 * by_y.sign(), rtol=2e-2)


@pytest.mark.parametrize("name", ALL)
def test_the_learner_does_better_on_what_is_made(name: str) -> None:
    problem = toy_problem(ALL[name], ipc=1)
    first, last, losses = worked(ALL[name], problem)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5]) if losses[0] > 0 else sum(losses[-5:]) < sum(losses[:5])
    assert last.centred_labels
    assert first.labels.sum(1).abs().max() < 1e-6  # one-hot − 1/k
    assert not torch.equal(first.labels, last.labels)
    if name == "kip":
        kernel = FullyConnected(depth=1)
        assert own_loss(problem, last, kernel) < 0.7 * own_loss(problem, first, kernel)


@pytest.mark.parametrize("labels", ["hard", "learned", "scores"])
@pytest.mark.parametrize("name", ALL)
def test_labels_of_every_kind(name: str, labels: str) -> None:
    method = dataclasses.replace(ALL[name], labels=labels, iterations=3)  # type: ignore[type-var]
    check_method(method, steps=3)
    first, last, _ = worked(method, toy_problem(method))
    assert torch.equal(first.labels, last.labels) == (labels == "hard")
    assert last.centred_labels == (labels == "scores")


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("name", ALL)
def test_real_targets_are_learned_in_their_own_units(name: str, kind: str) -> None:
    source = REAL[kind]()
    method = dataclasses.replace(ALL[name], batch_real=len(source), iterations=60)  # type: ignore[type-var]
    problem = toy_problem(method, source=source, ipc=4)
    first, last, losses = worked(method, problem)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert not last.centred_labels
    assert last.labels.shape == first.labels.shape
    assert not torch.equal(first.labels, last.labels)
    # moves are of the size of the targets' deviations
    _, std = target_statistics(problem)
    went = ((last.labels - first.labels).double() / std).abs()
    assert 1e-3 < float(went.max()) < 10.0
    if name == "kip":
        kernel = FullyConnected(depth=1)
        assert own_loss(problem, last, kernel) < 0.5 * own_loss(problem, first, kernel)


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("name", ALL)
def test_the_contract_holds_without_classes(name: str, kind: str) -> None:
    method = dataclasses.replace(ALL[name], iterations=3, batch_real=8)  # type: ignore[type-var]
    check_method(method, source=REAL[kind](), ipc=4)


def test_kip_takes_inputs_with_names() -> None:
    """Numbers move, codes stay, and both are in the kernel."""
    method = KIP(iterations=40, batch_real=48, labels="scores")
    source = mixed_source()
    plain, decoder = toy_problem(method, source=table_source(), ipc=4), parse_parametrization("pixels", source.input)
    problem = dataclasses.replace(plain, train=source, parametrization=decoder)
    first, last, losses = worked(method, problem)
    assert losses[-1] < 0.8 * losses[0]
    a, b = problem.decode(first.payload), problem.decode(last.payload)
    assert torch.equal(a["codes"], b["codes"])
    assert not torch.equal(a["numbers"], b["numbers"])


def test_a_target_in_thousands_moves_as_one_in_tenths() -> None:
    source = windows_source()
    assert source.targets is not None
    method = KIP(iterations=5, batch_real=30, labels="scores")
    made = []
    for factor in (1.0, 1e4):
        task = source.task
        scaled = dataclasses.replace(
            source, targets=source.targets * factor,
            task=dataclasses.replace(task, mean=tuple(m * factor for m in task.mean),
                                     std=tuple(s * factor for s in task.std)),
        )  # fmt: skip
        made.append(worked(method, toy_problem(method, source=scaled, ipc=3))[1].labels / factor)
    torch.testing.assert_close(made[0], made[1], rtol=1e-4, atol=1e-5)


STORED = ("tiles", "memory:bases=2", "frequency:kept=16", "hallucinator:styles=2,width=1", "field:warmup=2")


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("name", ALL)
def test_every_parametrization_composes(name: str, stored: str) -> None:
    method = dataclasses.replace(ALL[name], parametrization=stored, optimizer="adamw", lr=1e-3)  # type: ignore[type-var]
    source = toy_source("image", side=16, classes=2)
    problem = dataclasses.replace(toy_problem(method, source=source), counts=(4, 3))
    problem = dataclasses.replace(problem, network=factory("convnet-d1-w8", source.input, 2))
    rng = generator(0)
    state = method.init(problem, rng)
    before = method.result(problem, state)
    after = method.result(problem, method.step(problem, state, rng)[0])
    assert isinstance(before, Synthetic)
    assert isinstance(after, Synthetic)
    moved = problem.decode(after.payload)
    assert moved.shape == (sum(problem.sizes), 1, 16, 16)
    assert len(after.labels) == sum(problem.sizes)
    assert torch.isfinite(moved).all()
    assert not torch.equal(moved, problem.decode(before.payload))


def test_frepos_networks_are_of_all_ages_train_on_the_set_and_give_way() -> None:
    method = FRePo(iterations=100, batch_real=24, pool_size=4, max_age=8, lr_net=0.01)
    problem = toy_problem(method)
    rng = generator(1)
    state = first = method.init(problem, rng)
    assert state.memory[POOL_STEPS].tolist() == [[0, 0], [2, 0], [4, 0], [6, 0]]
    seeds, oldest = {m.seed for m in state.pool}, 0
    for _ in range(60):
        before = state
        state, _ = method.step(problem, state, rng)
        changed = [i for i in range(4) if before.pool[i] is not state.pool[i]]
        assert len(changed) == 1
        (i,) = changed
        age = int(before.memory[POOL_STEPS][i, 0])
        oldest = max(oldest, age)
        if age > 8:
            assert state.pool[i].seed not in seeds
            assert state.memory[POOL_STEPS][i].tolist() == [0, 0]
        else:
            assert state.pool[i].seed == before.pool[i].seed
            assert not torch.equal(state.pool[i].theta["classifier.weight"], before.pool[i].theta["classifier.weight"])
            assert int(state.memory[POOL_STEPS][i, 0]) == age + 1
        seeds.add(state.pool[i].seed)
    assert oldest == 9
    assert len(seeds) > 4
    assert first.memory[POOL_STEPS].tolist() == [[0, 0], [2, 0], [4, 0], [6, 0]]


def test_frepos_networks_serve_several_moves_in_a_row_and_then_train_for_a_step() -> None:
    """Against the same moves made one by one: descents on one block, and one step of the network at the end."""
    method = FRePo(iterations=100, batch_real=24, pool_size=3, lr_net=0.01, steps_per_network=3)
    problem = toy_problem(method)
    rng = generator(1)
    state = method.init(problem, rng)
    engine, once = method.build_engine(problem), dataclasses.replace(method, steps_per_network=1)
    for _ in range(2):
        began, by_hand = state, state
        seed = derived = None
        for move in range(3):
            state, shown = method.step(problem, state, rng)
            seed = state.block_seed if move == 0 else seed
            assert state.block_seed == seed
            assert (state.block_steps, bool(state.cached)) == (((move + 1) % 3), move < 2)
            _, block = engine.objective.prepare(
                problem, engine.networks,
                dataclasses.replace(by_hand, block_seed=state.block_seed, block_steps=1, cached={}), rng
            )  # fmt: skip
            derived = block if derived is None else derived
            torch.testing.assert_close(block.rows, derived.rows, rtol=0, atol=0)
            seen = {
                "inputs": by_hand.params.value["payload/inputs"], "labels": by_hand.params.value["labels/scores"]
            }  # fmt: skip
            loss, slopes = engine.objective.loss_and_grads(problem, state, derived, seen)
            assert shown["loss"] == pytest.approx(loss, rel=1e-12)
            names = {"payload/inputs": slopes["inputs"], "labels/scores": slopes["labels"]}
            leaves = step_params(
                by_hand.params, names, kernel_param_groups(once, problem, factor=cosine_decay(by_hand, 100, 0.1))
            )
            by_hand = dataclasses.replace(by_hand, params=leaves, iteration=by_hand.iteration + 1)
            torch.testing.assert_close(state.params.value["payload/inputs"], leaves.value["payload/inputs"])
            changed = [i for i in range(3) if began.pool[i] is not state.pool[i]]
            assert len(changed) == (move == 2)
        assert state.iteration == by_hand.iteration


@pytest.mark.parametrize("steps", [1, 3])
def test_frepo_with_moves_in_a_row_keeps_the_contract(steps: int) -> None:
    method = dataclasses.replace(ALL["frepo"], steps_per_network=steps, iterations=6)  # type: ignore[type-var]
    check_method(method, steps=4)
    assert FRePo().steps_per_network == 1


def test_a_pool_learns_what_is_stored() -> None:
    """Many steps of one network bring its outputs to the labels of the set."""
    method = FRePo(iterations=10**6, batch_real=4, pool_size=1, max_age=10**6, lr=0.0, lr_net=3e-3)
    problem = toy_problem(method, ipc=1)
    rng = generator(1)
    state = method.init(problem, rng)
    x, y = state.params.value["payload/inputs"], state.params.value["labels/scores"]

    def error(theta: Any) -> float:
        net = problem.network(state.pool[0].seed)
        return float((torch.func.functional_call(net, theta, (x,)) - y).square().mean())

    begun = error(state.pool[0].theta)
    for _ in range(60):
        state, _ = method.step(problem, state, rng)
    assert error(state.pool[0].theta) < 0.05 * begun


def test_the_margin_holds_a_label_to_its_class() -> None:
    """With it, a label whose two largest numbers are equal is pulled apart; beyond 1/k it is left alone."""
    method = FRePo(iterations=5, batch_real=24, pool_size=1)
    problem = toy_problem(method, ipc=1)
    engine = method.build_engine(problem)
    state, block = engine.objective.prepare(problem, engine.networks, method.init(problem, generator(1)), generator(2))
    seen = {"inputs": state.params.value["payload/inputs"]}
    for gap, pulled in ((0.1, True), (0.5, False)):
        y = torch.full((4, 4), -0.2) + torch.diag(torch.full((4,), gap))
        with_it, slopes = engine.objective.loss_and_grads(problem, state, block, {**seen, "labels": y})
        bare = dataclasses.replace(engine.objective, use_margin=False)
        without, others = bare.loss_and_grads(problem, state, block, {**seen, "labels": y})
        assert with_it == pytest.approx(without - min(gap, 0.25), abs=1e-6)
        extra = (slopes["labels"] - others["labels"]).diagonal()
        assert torch.allclose(extra, torch.full((4,), -0.25 if pulled else 0.0), atol=1e-6)


def test_rfads_temperature_is_learned_and_stays_above_zero() -> None:
    method = RFAD(iterations=30, batch_real=48, num_networks=2, lr=0.01, lr_temperature=0.5)
    problem = toy_problem(method, ipc=1)
    _, last, losses = worked(method, problem)
    assert set(last.extra_parameters) == {TEMPERATURE}
    assert float(last.extra_parameters[TEMPERATURE]) > 1.5  # answers are of numbers below 1: they must be sharpened
    assert losses[-1] < losses[0]
    assert not worked(dataclasses.replace(method, platt=False, iterations=2), problem)[1].extra_parameters


def test_a_run_that_diverges_names_its_step_and_keeps_the_set() -> None:
    method = FRePo(iterations=20, batch_real=24, pool_size=2, optimizer="sgd", lr=1e30)
    problem = toy_problem(method)
    done = run_loop(method, problem, rng=generator(1), identity={})
    assert done.outcome.kind == "not finite"
    assert done.outcome.message.startswith("step ")
    assert "NaN or infinity" in done.outcome.message
    result = method.result(problem, done.state)
    assert isinstance(result, Synthetic)
    assert torch.isfinite(result.payload["inputs"]).all()


def test_equal_items_are_solved_and_what_has_no_diagonal_is_refused() -> None:
    method = KIP(iterations=2, batch_real=24, ridge=0.0)
    problem = toy_problem(method)
    twice = problem.train.raw(problem.class_indices[0][:1]).expand(8, -1, -1, -1)  # type: ignore[union-attr]
    same = dataclasses.replace(problem, initial=twice)
    losses = worked(method, same)[2]
    assert all(map(math.isfinite, losses))
    linear = KIP(iterations=2, batch_real=24, depth=0, ridge=0.0)
    engine = linear.build_engine(problem)
    bare = dataclasses.replace(
        engine, objective=dataclasses.replace(engine.objective, kernel=FullyConnected(depth=0, biases=0.0))
    )
    zeros = problem.train.normalization.invert(torch.zeros(8, 1, 8, 8))
    nothing = dataclasses.replace(problem, initial=zeros)
    with pytest.raises(NonFiniteError, match="must have a diagonal above 0, but that of 8 items has none"):
        bare.step(nothing, bare.init(nothing, generator(1)), generator(1))


def test_a_set_of_scores_is_made_saved_and_read_again(tmp_path: Any) -> None:
    source = toy_source("table")
    small = potstill.distill(
        Splits(train=source, test=source), KIP(batch_real=24, labels="scores"), ipc=1, steps=3, progress=None
    )
    small.save(tmp_path / "a.safetensors")
    again = potstill.load(tmp_path / "a.safetensors")
    assert small.scores is not None
    assert again.scores is not None
    assert torch.allclose(again.scores, small.scores, atol=1e-2)
