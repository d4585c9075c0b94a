"""Leaves against torch's own optimisers, and what each rule promises."""

import math

import pytest
import torch
from torch import Tensor

from potstill.functional.optim import Adaptive, adaptive_step
from potstill.functional.param_groups import (
    ParamGroup,
    ParamGroups,
    ParamState,
    group_of,
    init_params,
    param_values,
    step_params,
    strip_prefix,
)


def moved(first: Tensor, rule: ParamGroup, grads: list[Tensor]) -> Tensor:
    leaves = init_params({"payload/x": first}, {"payload/": rule})
    for g in grads:
        leaves = step_params(leaves, {"payload/x": g}, {"payload/": rule})
    return leaves.value["payload/x"]


@pytest.mark.parametrize("rule", [
    ParamGroup(lr=0.1, momentum=0.5, weight_decay=0.01), ParamGroup(lr=0.1, optimizer="adamw", weight_decay=0.01),
])  # fmt: skip
def test_a_leaf_moves_as_torchs_optimiser_moves_it(rule: ParamGroup) -> None:
    rng = torch.Generator().manual_seed(0)
    first, *grads = torch.randn(4, 3, 2, generator=rng)
    p = first.clone().requires_grad_()
    kinds = {"weight_decay": rule.weight_decay, "lr": rule.lr}
    theirs: torch.optim.Optimizer = (
        torch.optim.SGD([p], momentum=rule.momentum, **kinds) if rule.optimizer == "sgd"
        else torch.optim.AdamW([p], **kinds)
    )  # fmt: skip
    for g in grads:
        p.grad = g.clone()
        theirs.step()
    torch.testing.assert_close(moved(first, rule, grads), p.detach(), rtol=1e-6, atol=1e-7)


def test_each_prefix_has_its_rule_and_the_longest_decides() -> None:
    rules: ParamGroups = {
        "": ParamGroup(lr=1.0),
        "payload/": ParamGroup(lr=0.1),
        "payload/decoder/": ParamGroup(lr=0.01),
    }
    names = ("similarity", "payload/x", "payload/decoder/w")
    assert [group_of(n, rules).lr for n in names] == [1.0, 0.1, 0.01]
    leaves = init_params({n: torch.zeros(2) for n in names}, rules)
    after = step_params(leaves, {n: torch.ones(2) for n in names}, rules)
    assert [float(after.value[n][0]) for n in names] == pytest.approx([-1.0, -0.1, -0.01])
    assert strip_prefix("payload/", after.value).keys() == {"x", "decoder/w"}
    with pytest.raises(ValueError, match="no rule says how 'student/lr' moves; there are rules for payload/"):
        init_params({"student/lr": torch.tensor(1.0)}, {"payload/": ParamGroup(lr=1.0)})


def test_a_positive_leaf_stays_above_zero_and_moves_down_its_slope() -> None:
    """Held as a logarithm u, v = e^u: the move of u is the rate times dL/dv · v."""
    rules: ParamGroups = {"student/": ParamGroup(lr=3.0, log_scale=True)}
    leaves = init_params({"student/lr": torch.tensor(0.01)}, rules)
    assert float(param_values(leaves, rules)["student/lr"]) == pytest.approx(0.01)
    after = step_params(leaves, {"student/lr": torch.tensor(50.0)}, rules)
    assert float(param_values(after, rules)["student/lr"]) == pytest.approx(
        math.exp(math.log(0.01) - 3.0 * 50.0 * 0.01)
    )
    for _ in range(50):
        after = step_params(after, {"student/lr": torch.tensor(1e4)}, rules)
    assert float(param_values(after, rules)["student/lr"]) > 0
    with pytest.raises(ValueError, match="'student/lr' must be above 0, but it is 0 somewhere"):
        init_params({"student/lr": torch.zeros(())}, rules)


def test_bounds_hold_after_every_move_and_whole_numbers_stay() -> None:
    rules: ParamGroups = {"payload/": ParamGroup(lr=1.0, bounds=(0, 1))}
    first = {"payload/x": torch.tensor([0.2, 0.8]), "payload/at": torch.tensor([3, 4])}
    leaves = init_params(first, rules)
    after = step_params(leaves, {"payload/x": torch.tensor([1.0, -1.0])}, rules)
    assert after.value["payload/x"].tolist() == [0.0, 1.0]
    assert torch.equal(after.value["payload/at"], first["payload/at"])
    assert torch.equal(leaves.value["payload/x"], first["payload/x"]), "the leaves before it stay as they were"
    assert (leaves.num_steps, after.num_steps) == (0, 1)
    with pytest.raises(ValueError, match="'payload/at' is no leaf that moves; those are payload/x"):
        step_params(leaves, {"payload/at": torch.ones(2)}, rules)


def test_a_leaf_without_a_gradient_goes_on_with_its_momentum() -> None:
    rules: ParamGroups = {"": ParamGroup(lr=1.0, momentum=0.5)}
    leaves = step_params(init_params({"a": torch.zeros(())}, rules), {"a": torch.ones(())}, rules)
    after: ParamState = step_params(leaves, {}, rules)
    assert float(after.value["a"]) == pytest.approx(-1.5)


@pytest.mark.parametrize("optimizer", ["lamb", "adabelief", "adabelief-old-mean"])
def test_other_optimisers_move_leaves_too(optimizer: Adaptive) -> None:
    rng = torch.Generator().manual_seed(0)
    first, *grads = torch.randn(4, 3, 2, generator=rng)
    p, m, v = ({"": t} for t in (first, torch.zeros(3, 2), torch.zeros(3, 2)))
    for count, g in enumerate(grads):
        p, m, v = adaptive_step(optimizer, p, {"": g}, m, v, count, lr=0.1, weight_decay=0.01)
    rule = ParamGroup(lr=0.1, optimizer=optimizer, weight_decay=0.01)
    assert torch.equal(moved(first, rule, grads), p[""])


@pytest.mark.parametrize("positive", [False, True])
def test_a_leaf_with_units_moves_as_what_is_over_them(positive: bool) -> None:
    """Adam's first step is the rate, whatever the gradient: here the rate times the unit of each column."""
    rules: ParamGroups = {"": ParamGroup(lr=0.1, optimizer="adamw", scale=(1000.0, 0.01), log_scale=positive)}
    first = torch.tensor([[5000.0, 0.03], [7000.0, 0.05]])
    leaves = init_params({"a": first}, rules)
    torch.testing.assert_close(param_values(leaves, rules)["a"], first)
    after = param_values(step_params(leaves, {"a": torch.tensor([[1.0, -1e6], [2e-3, -3.0]])}, rules), rules)["a"]
    went = after.log() - first.log() if positive else after - first
    torch.testing.assert_close(went, torch.tensor([[-100.0, 0.001]] * 2), rtol=1e-3, atol=1e-5)
