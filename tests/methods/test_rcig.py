"""RCIG: its slope is that of the loss through the fitted learner, and its parts do what they say."""

import dataclasses

import pytest
import torch
from torch import Tensor

from potstill.core import Synthetic
from potstill.functional.param_groups import init_params
from potstill.methods.engine import MatchingState
from potstill.methods.performance._implicit import ImplicitBlock, ImplicitRidge, is_body_parameter
from potstill.methods.performance._pool import POOL_STEPS
from potstill.methods.performance._ridge import TEMPERATURE, label_margin, regression_targets, ridge_loss
from potstill.methods.performance.rcig import RCIG
from potstill.nn import factory
from potstill.rng import generator
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import windows_source

STATE = MatchingState(params=init_params({}, {}))
SMALL = RCIG(iterations=4, batch_real=24, pool_size=2, solver_steps=4, backward_steps=4)


def test_the_slope_is_that_of_the_loss_at_the_learner_that_the_set_gives() -> None:
    """Against differences, in float64, of a learner whose Jacobian is written out and whose fit is a plain solve."""
    problem = toy_problem(SMALL, ipc=1)
    net = factory("convnet-d1-w4-swish", problem.train.input, 4)(3).double()
    batch = problem.train.fetch(torch.arange(0, 48, 4))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    T = batch.x.double()
    drawn = problem.augment.draw(1, problem.train.input.shape, generator(0))
    block = ImplicitBlock(net=net, omega=drawn, x=T, y=batch.y, targets=regression_targets(problem, batch.y))
    g = torch.Generator().manual_seed(0)
    seen = {
        "inputs": problem.train.fetch(torch.tensor([0, 12, 24, 36])).x.double(),  # type: ignore[union-attr]
        "labels": torch.eye(4, dtype=torch.float64) - 0.25 + 0.05 * torch.randn(4, 4, generator=g).double(),
        TEMPERATURE: torch.tensor(2.0, dtype=torch.float64),
    }
    objective = ImplicitRidge(batch_real=12, ridge=0.05, loss="platt", solver_steps=200, backward_steps=200, clip=False)
    objective_loss, slopes = objective.loss_and_grads(problem, STATE, block, seen)
    taken = [p for n, p in net.named_parameters() if is_body_parameter(n)]

    def jacobian(x: Tensor) -> Tensor:
        rows = [torch.autograd.grad(o, taken, retain_graph=True) for o in net(x).flatten()]
        return torch.stack([torch.cat([t.flatten() for t in row]) for row in rows])

    j_t, h_t = jacobian(T), net.embed(T).detach()

    def loss(x: Tensor, y: Tensor, tau: Tensor) -> float:
        """One kernel of all parameters: that of the body and, for each output, that of the head."""
        j, h = jacobian(x), net.embed(x).detach()
        k = j @ j.T + torch.kron(h @ h.T + 0.05 * 4 * torch.eye(4).double(), torch.eye(4).double())
        dual = torch.linalg.solve(k, y.flatten())
        answers = (j_t @ (j.T @ dual)).reshape(-1, 4) + h_t @ h.T @ dual.reshape(4, 4)
        found = ridge_loss(problem, "platt", answers, block.targets, block.y, {TEMPERATURE: tau})
        best = y.sort(1, descending=True).values
        return float(found - (best[:, 0] - best[:, 1]).clamp(max=1 / 8).mean())

    x, y, tau = seen["inputs"], seen["labels"], seen[TEMPERATURE]
    assert objective_loss == pytest.approx(loss(x, y, tau), rel=1e-5)
    for name in seen:
        along = torch.randn(seen[name].shape, generator=g, dtype=torch.float64)
        ends = [loss(*(t + s * 1e-4 * along if n == name else t for n, t in seen.items())) for s in (1, -1)]
        assert float((slopes[name] * along).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=2e-3, abs=1e-6)
    short, _ = ImplicitRidge(batch_real=12, ridge=0.05, loss="platt", solver_steps=0, backward_steps=0).loss_and_grads(
        problem, STATE, block, seen
    )  # fmt: skip
    assert short != pytest.approx(objective_loss, rel=1e-3)  # without ω it is another learner


def test_a_label_stays_half_as_far_above_the_next_as_in_frepo() -> None:
    """RCIG's cap is 1/(2k) (algorithms.py, get_krr_loss), FRePo's 1/k (frepo.py): here 1/8 and 1/4."""
    problem = toy_problem(SMALL, ipc=1)
    y = torch.tensor([[0.5, 0.3, 0.0, 0.0], [0.1, 0.15, -0.2, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    assert float(label_margin(problem, {"labels": y}, y, 1 / 8)) == pytest.approx((0.125 + 0.05 + 0.125) / 3, rel=1e-12)
    assert float(label_margin(problem, {"labels": y}, y, 1 / 4)) == pytest.approx((0.2 + 0.05 + 0.25) / 3, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda t: label_margin(problem, {"labels": t}, t, 1 / 8), (y.clone().requires_grad_(),)
    )  # fmt: skip


def test_the_released_inverse_hessian_is_that_of_all_parameters_at_a_learner_that_is_not_fitted_in_the_last() -> None:
    """Against dense matrices in float64: v has the last layer's weights, ω has not. The exact slope is another."""
    problem = toy_problem(SMALL, ipc=1)
    net = factory("convnet-d1-w4-swish", problem.train.input, 4)(3).double()
    batch = problem.train.fetch(torch.arange(0, 48, 4))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    T, drawn = batch.x.double(), problem.augment.draw(1, problem.train.input.shape, generator(0))
    block = ImplicitBlock(net=net, omega=drawn, x=T, y=batch.y, targets=regression_targets(problem, batch.y))
    y = torch.eye(4, dtype=torch.float64) - 0.25
    x = problem.train.fetch(torch.tensor([0, 12, 24, 36])).x.double()  # type: ignore[union-attr]
    seen = {"inputs": x, "labels": y, TEMPERATURE: torch.tensor(2.0, dtype=torch.float64)}
    made = {
        how: ImplicitRidge(
            batch_real=12, ridge=0.05, loss="platt", solver_steps=200, backward_steps=200, clip=False, use_margin=False,
            inverse_hessian=how,
        ).loss_and_grads(problem, STATE, block, seen)
        for how in ("exact", "released")
    }  # fmt: skip
    everything = dict(net.named_parameters())
    body = torch.cat([torch.full((p.numel(),), is_body_parameter(n)) for n, p in everything.items()])

    def jacobian(some: Tensor) -> Tensor:
        rows = [torch.autograd.grad(o, tuple(everything.values()), create_graph=True) for o in net(some).flatten()]
        return torch.stack([torch.cat([t.flatten() for t in row]) for row in rows])

    x = x.clone().requires_grad_()
    leaf = y.clone().requires_grad_()
    j, h, j_t, h_t = jacobian(x), net.embed(x), jacobian(T).detach(), net.embed(T).detach()
    a = torch.kron(h @ h.T + 0.05 * 4 * torch.eye(4).double(), torch.eye(4).double())
    still_j, still_a = j.detach(), a.detach()
    hessian = still_j.T @ torch.linalg.solve(still_a, still_j) + torch.eye(len(body)).double()
    right = still_j.T @ torch.linalg.solve(still_a, y.flatten())
    omega = torch.zeros(len(body), dtype=torch.float64)
    omega[body] = torch.linalg.solve(hessian[body][:, body], right[body])
    omega.requires_grad_()
    weights = torch.linalg.solve(a, leaf.flatten() - j @ omega)
    answers = (j_t @ omega).reshape(-1, 4) + h_t @ h.T @ weights.reshape(4, 4)
    loss = ridge_loss(problem, "platt", answers, block.targets, block.y, {TEMPERATURE: seen[TEMPERATURE]})
    direct_x, direct_y, g = torch.autograd.grad(loss, (x, leaf, omega), retain_graph=True)
    for how, taken in (("exact", body), ("released", torch.ones_like(body))):
        v = torch.zeros_like(g)
        v[taken] = torch.linalg.solve(hessian[taken][:, taken], g[taken])
        by_x, by_y = torch.autograd.grad((j @ v) @ weights, (x, leaf), retain_graph=True)
        torch.testing.assert_close(made[how][1]["inputs"], direct_x + by_x, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(made[how][1]["labels"], direct_y + by_y, rtol=1e-4, atol=1e-8)
        assert made[how][0] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert not torch.allclose(made["exact"][1]["inputs"], made["released"][1]["inputs"], rtol=1e-2)


def test_rcig_moves_by_the_adabelief_of_its_program_and_takes_the_released_system_when_asked() -> None:
    assert RCIG().optimizer == "adabelief-old-mean"
    assert RCIG().inverse_hessian == "exact"
    check_method(dataclasses.replace(SMALL, inverse_hessian="released", iterations=3), steps=2)


def test_the_slope_through_the_learner_is_no_longer_than_the_direct_one() -> None:
    objective = ImplicitRidge(batch_real=2, ridge=0.1, loss="mean", solver_steps=1, backward_steps=1)
    direct, implicit = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 50.0])
    assert objective._clip_implicit(implicit, direct).tolist() == [0.0, 5.0]
    assert objective._clip_implicit(implicit / 100, direct).tolist() == [0.0, 0.5]
    assert objective._clip_implicit(None, direct).tolist() == [0.0, 0.0]
    assert objective._clip_implicit(torch.zeros(2), direct).tolist() == [0.0, 0.0]


def test_the_learner_does_better_on_what_is_made() -> None:
    method = dataclasses.replace(SMALL, iterations=25, batch_real=48, lr=0.03, ema_decay=0.5)
    problem = toy_problem(method, ipc=1)
    rng = generator(1)
    state, losses = method.init(problem, rng), []
    while not method.done(problem, state):
        state, shown = method.step(problem, state, rng)
        losses.append(shown["loss"])
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.5
    result = method.result(problem, state)
    assert isinstance(result, Synthetic)
    assert result.centred_labels
    assert not torch.equal(result.payload["inputs"], state.params.value["payload/inputs"])  # it is the average
    assert state.memory[POOL_STEPS].max() > 1


@pytest.mark.parametrize("labels", ["hard", "learned", "scores"])
def test_labels_of_every_kind(labels: str) -> None:
    check_method(dataclasses.replace(SMALL, labels=labels, iterations=3), steps=2)  # type: ignore[arg-type]


def test_the_contract_holds_without_classes() -> None:
    check_method(dataclasses.replace(SMALL, network="mlp-w8", iterations=3), source=windows_source(), ipc=4)
