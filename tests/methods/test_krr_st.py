"""KRR-ST: its objective and its pool of networks against plain loops, its published values, its vectors."""

import dataclasses

import pytest
import torch

from potstill.functional.param_groups import strip_prefix
from potstill.methods.performance._pool import POOL_STEPS
from potstill.methods.performance._values import linear_decay
from potstill.methods.performance.krr_st import KRRST
from potstill.rng import generator
from potstill.testing import toy_problem
from tests.methods.test_kernel_methods import table_source

METHOD = KRRST(iterations=10, batch_real=24, pool_size=3, max_age=6, lr=0.02, lr_net=0.05, network="mlp-w16")


def test_the_loss_is_ridge_regression_with_a_share_of_the_trace() -> None:
    """One step's loss by the formula: features of the network that serves it, λ = 1e-6 · trace, targets as they are."""
    problem = toy_problem(METHOD, source=table_source(), ipc=4)
    rng = generator(1)
    state = METHOD.init(problem, rng)
    engine = METHOD.build_engine(problem)
    state, block = engine.objective.prepare(problem, engine.networks, state, rng)
    view = {
        "inputs": state.params.value["payload/inputs"],
        "labels": state.params.value["labels/scores"] * torch.tensor(problem.task.std),  # type: ignore[attr-defined]
    }
    loss, _ = engine.objective.loss_and_grads(problem, state, block, view)
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (problem.task.mean, problem.task.std))  # type: ignore[attr-defined]
    y = (view["labels"].double() - mean) / std
    with torch.no_grad():
        features = block.net.embed(problem.decode({"inputs": view["inputs"]})).double()
    kernel = features @ features.T
    shift = 1e-6 * kernel.trace() * torch.eye(len(kernel))
    answers = block.rows.double() @ features.T @ torch.linalg.solve(kernel + shift, y - y.mean(0)) + y.mean(0)
    wanted = 0.5 * (answers - block.targets).square().mean()
    torch.testing.assert_close(torch.tensor(loss).double(), wanted, rtol=1e-6, atol=1e-9)


def test_the_pool_has_trained_for_its_ages_by_torchs_sgd() -> None:
    problem = toy_problem(METHOD, source=table_source(), ipc=4)
    state = METHOD.init(problem, generator(1))
    ages = state.memory[POOL_STEPS]
    assert torch.equal(ages[:, 0], ages[:, 1])
    assert int(ages.min()) >= 1
    assert int(ages.max()) < 6
    x = problem.decode(strip_prefix("payload/", state.params.value))
    y = state.params.value["labels/scores"].double()
    std, mean = (torch.tensor(v, dtype=torch.float64) for v in (problem.task.std, problem.task.mean))  # type: ignore[attr-defined]
    y = (y - mean / std).float()  # values divided by their scale are what is optimised
    for member, (age, _) in zip(state.pool, ages.tolist(), strict=True):
        net = problem.network(member.seed).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        for _ in range(age):
            optimizer.zero_grad()
            (net(x) - y).square().mean().backward()
            optimizer.step()
        for name, p in net.named_parameters():
            torch.testing.assert_close(member.theta[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_the_vectors_begin_as_those_of_the_samples_and_are_learned() -> None:
    problem = toy_problem(METHOD, source=table_source(), ipc=4)
    rng = generator(2)
    state = METHOD.init(problem, rng)
    first = METHOD.result(problem, state)
    every = problem.train.fetch(torch.arange(len(problem.train)))
    x, y = problem.decode(first.payload), first.labels
    at = torch.cdist(x, every.x).argmin(1)  # type: ignore[arg-type]
    assert every.y is not None
    torch.testing.assert_close(y, every.y[at], rtol=1e-5, atol=1e-4)
    for _ in range(3):
        state, _ = METHOD.step(problem, state, rng)
    last = METHOD.result(problem, state)
    assert not torch.equal(last.labels, y)
    assert not torch.equal(last.payload["inputs"], first.payload["inputs"])


def test_the_rate_falls_along_a_line_to_a_thousandth() -> None:
    problem = toy_problem(METHOD, source=table_source(), ipc=4)
    state = METHOD.init(problem, generator(1))
    at = [linear_decay(dataclasses.replace(state, iteration=i), 100, 1e-3) for i in (0, 50, 100, 200)]
    assert at == pytest.approx([1.0, 0.5005, 1e-3, 1e-3])


def test_published_values() -> None:
    """The command of CIFAR-100 in the README, and the defaults of train.py."""
    m = KRRST()
    assert (m.iterations, m.lr, m.lr_end, m.optimizer, m.batch_real) == (160_000, 1e-4, 1e-3, "adamw", 1024)
    assert (m.pool_size, m.max_age, m.lr_net, m.weight_decay, m.ridge) == (10, 1000, 0.1, 1e-3, 1e-6)
