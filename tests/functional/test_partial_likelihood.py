"""Cox's likelihood and concordance against loops by hand, and Cox's regression against statsmodels'."""

import math

import numpy as np
import pytest
import torch
from statsmodels.duration.hazard_regression import PHReg

from potstill.functional.survival import fit_cox
from potstill.tasks.partial_likelihood import concordance, cox_loss


def drawn(n: int = 40, seed: int = 0, ties: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    time = torch.empty(n, dtype=torch.float64).exponential_(generator=rng) * (-x[:, 0]).exp() * 5
    return x, time.ceil() if ties else time, torch.rand(n, generator=rng) < 0.6


def loss_by_hand(risk, time, event, weights):
    total = of = 0.0
    for i in range(len(risk)):
        if event[i]:
            at_risk = sum(float(weights[j]) * math.exp(float(risk[j])) for j in range(len(risk)) if time[j] >= time[i])
            total += float(weights[i]) * (float(risk[i]) - math.log(at_risk))
            of += float(weights[i])
    return -total / of


def concordance_by_hand(risk, time, event):
    right = pairs = 0.0
    for i in range(len(risk)):
        for j in range(len(risk)):
            earlier = time[i] < time[j] or (time[i] == time[j] and not event[j])
            if event[i] and i != j and earlier:
                pairs += 1
                right += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return right / pairs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_the_likelihood_is_the_sum_written_by_hand(ties: bool, weighted: bool) -> None:
    x, time, event = drawn(ties=ties)
    risk, weights = x[:, 1] * 2, 0.5 + torch.arange(40.0) % 3 if weighted else None
    by_hand = loss_by_hand(risk, time, event, torch.ones(40) if weights is None else weights)
    assert float(cox_loss(risk, time, event, weights)) == pytest.approx(by_hand)


def test_golden_numbers() -> None:
    risk, time = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 3.0])
    event = torch.tensor([True, True, False])
    assert float(cox_loss(risk, time, event)) == pytest.approx((math.log(3) + math.log(2)) / 2)
    assert concordance(torch.tensor([3.0, 2.0, 1.0]), time, event) == 1.0
    assert concordance(torch.tensor([1.0, 2.0, 3.0]), time, event) == 0.0
    assert concordance(risk, time, event) == 0.5
    assert concordance(risk, time, torch.zeros(3, dtype=torch.bool)) == 0.5


def test_gradients_and_no_events() -> None:
    x, time, event = drawn(12)
    risk = x[:, 0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: cox_loss(r, time, event), (risk,))
    none = cox_loss(risk, time, torch.zeros_like(event))
    none.backward()
    assert float(none.detach()) == 0
    assert torch.equal(risk.grad, torch.zeros_like(risk))


@pytest.mark.parametrize("seed", range(3))
def test_concordance_counts_pairs(seed: int) -> None:
    x, time, event = drawn(seed=seed)
    risk = (x[:, 0] * 2).round()
    assert concordance(risk, time, event) == pytest.approx(concordance_by_hand(risk, time, event))


@pytest.mark.parametrize("ties", [False, True])
def test_the_regression_is_statsmodels(ties: bool) -> None:
    x, time, event = drawn(200, ties=ties)
    expected = PHReg(time.numpy(), x.numpy(), status=event.numpy().astype(int), ties="breslow").fit().params
    np.testing.assert_allclose(fit_cox(x, time, event).numpy(), expected, atol=1e-4)


def test_weights_are_repeated_rows() -> None:
    x, time, event = drawn(60, ties=False)
    counts = torch.arange(60) % 3 + 1
    rows = torch.repeat_interleave(torch.arange(60), counts)
    repeated = fit_cox(x[rows], time[rows], event[rows], penalty=0.1)
    torch.testing.assert_close(fit_cox(x, time, event, counts.double(), 0.1), repeated, atol=1e-5, rtol=1e-4)


def test_a_penalty_holds_columns_that_tell_everything() -> None:
    time = torch.arange(1.0, 9.0)
    beta = fit_cox(-time[:, None], time, torch.ones(8, dtype=torch.bool), penalty=0.1)
    assert 0 < float(beta) < 10
