"""RCIG: its slope is that of the loss through the fitted learner, and its parts do what they say."""

import dataclasses

import pytest
import torch
from torch import Tensor

from potstill.core import Synthetic
from potstill.methods.performance._implicit import ImplicitRidge, Real, in_body
from potstill.methods.performance._pool import STEPS
from potstill.methods.performance._ridge import TEMPERATURE, fit_loss, margin, wanted
from potstill.methods.performance.rcig import RCIG
from potstill.nn import factory
from potstill.rng import generator
from potstill.testing import check_method, toy_problem
from potstill.testing.toy import windows_source

SMALL = RCIG(iterations=4, batch_real=24, nets=2, inner=4, backward=4)


def test_the_slope_is_that_of_the_loss_at_the_learner_that_the_set_gives() -> None:
    """Against differences, in float64, of a learner whose Jacobian is written out and whose fit is a plain solve."""
    problem = toy_problem(SMALL, ipc=1)
    net = factory("convnet-d1-w4-swish", problem.train.input, 4)(3).double()
    batch = problem.train.fetch(torch.arange(0, 48, 4))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    T = batch.x.double()
    drawn = problem.augment.draw(1, problem.train.input.shape, generator(0))
    block = Real(net=net, omega=drawn, x=T, y=batch.y, targets=wanted(problem, batch.y))
    g = torch.Generator().manual_seed(0)
    seen = {
        "inputs": problem.train.fetch(torch.tensor([0, 12, 24, 36])).x.double(),  # type: ignore[union-attr]
        "labels": torch.eye(4, dtype=torch.float64) - 0.25 + 0.05 * torch.randn(4, 4, generator=g).double(),
        TEMPERATURE: torch.tensor(2.0, dtype=torch.float64),
    }
    objective = ImplicitRidge(batch_real=12, ridge=0.05, fit="platt", inner=200, backward=200, clip=False)
    objective_loss, slopes = objective.fitted(problem, block, seen, False)
    taken = [p for n, p in net.named_parameters() if in_body(n)]

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
        found = fit_loss(problem, "platt", answers, block.targets, block.y, {TEMPERATURE: tau})
        return float(found - margin(problem, {"labels": y}, y))

    x, y, tau = seen["inputs"], seen["labels"], seen[TEMPERATURE]
    assert objective_loss == pytest.approx(loss(x, y, tau), rel=1e-5)
    for name in seen:
        along = torch.randn(seen[name].shape, generator=g, dtype=torch.float64)
        ends = [loss(*(t + s * 1e-4 * along if n == name else t for n, t in seen.items())) for s in (1, -1)]
        assert float((slopes[name] * along).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=2e-3, abs=1e-6)
    short, _ = ImplicitRidge(batch_real=12, ridge=0.05, fit="platt", inner=0, backward=0).fitted(
        problem, block, seen, False
    )  # fmt: skip
    assert short != pytest.approx(objective_loss, rel=1e-3)  # without ω it is another learner


def test_the_slope_through_the_learner_is_no_longer_than_the_direct_one() -> None:
    objective = ImplicitRidge(batch_real=2, ridge=0.1, fit="mean", inner=1, backward=1)
    direct, implicit = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 50.0])
    assert objective._short(implicit, direct).tolist() == [0.0, 5.0]
    assert objective._short(implicit / 100, direct).tolist() == [0.0, 0.5]
    assert objective._short(None, direct).tolist() == [0.0, 0.0]
    assert objective._short(torch.zeros(2), direct).tolist() == [0.0, 0.0]


def test_the_learner_does_better_on_what_is_made() -> None:
    method = dataclasses.replace(SMALL, iterations=25, batch_real=48, lr=0.03, average=0.5)
    problem = toy_problem(method, ipc=1)
    rng = generator(1)
    state, losses = method.init(problem, rng), []
    while not method.done(problem, state):
        state, shown = method.step(problem, state, rng)
        losses.append(shown["loss"])
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.5
    result = method.result(problem, state)
    assert isinstance(result, Synthetic)
    assert result.scores
    assert not torch.equal(result.payload["inputs"], state.leaves.held["payload/inputs"])  # it is the average
    assert state.memory[STEPS].max() > 1


@pytest.mark.parametrize("labels", ["hard", "learned", "scores"])
def test_labels_of_every_kind(labels: str) -> None:
    check_method(dataclasses.replace(SMALL, labels=labels, iterations=3), steps=2)  # type: ignore[arg-type]


def test_the_contract_holds_without_classes() -> None:
    check_method(dataclasses.replace(SMALL, network="mlp-w8", iterations=3), source=windows_source(), ipc=4)
