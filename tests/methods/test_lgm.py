"""Linear gradient matching: what it matches, that parts of a pass change nothing, and where it is exact."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from potstill.core import Problem, Synthetic
from potstill.functional.param_groups import init_params
from potstill.methods.engine import FixedNetworks, MatchingState
from potstill.methods.gradient import _linear
from potstill.methods.gradient._linear import Block, LinearGradients
from potstill.methods.gradient.lgm import LGM
from potstill.rng import generator
from potstill.testing import check_method, toy_problem, uneven_source

STATE = MatchingState(params=init_params({}, {}))
TINY: dict[str, Any] = {"iterations": 4, "views": 2, "network": "convnet-d1-w8"}


def _made(method: LGM, problem: Problem) -> tuple[LinearGradients, Block, dict[str, Tensor]]:
    engine = method.build_engine(problem)
    assert isinstance(engine.objective, LinearGradients)
    state = method.init(problem, generator(0))
    _, block = engine.objective.prepare(problem, FixedNetworks(), state, generator(1))
    raw = state.params.value["payload/inputs"]
    return engine.objective, block, {"inputs": problem.train.normalization.apply(raw)}


def test_the_gap_is_the_cosine_of_gradients_of_a_linear_layer() -> None:
    """By autograd of a layer, over views that are made one by one."""
    method = LGM(**TINY, augment="none", noise=0.0)
    problem = toy_problem(method)
    objective, block, seen = _made(method, problem)
    loss, slopes = objective.loss_and_grads(problem, STATE, block, seen)
    layer = nn.Linear(block.weight.shape[1], problem.num_classes)
    with torch.no_grad():
        layer.weight.copy_(block.weight)
        layer.bias.zero_()
    x = seen["inputs"].clone().requires_grad_()
    y = torch.arange(4).repeat_interleave(2)
    total = sum(nn.functional.cross_entropy(layer(block.net.embed(x)), y) for _ in range(2)) / 2
    syn = torch.autograd.grad(total, list(layer.parameters()), create_graph=True)
    gap = 1 - torch.nn.functional.cosine_similarity(
        torch.cat([g.flatten() for g in syn]),
        torch.cat([block.real_grads[:, :-1].flatten(), block.real_grads[:, -1]]),
        dim=0,
    )
    assert loss == pytest.approx(float(gap.detach()), rel=1e-4)
    torch.testing.assert_close(slopes["inputs"], torch.autograd.grad(gap, x)[0], rtol=1e-3, atol=1e-6)


def test_samples_that_are_the_real_ones_have_no_gap() -> None:
    method = LGM(**TINY, augment="none", noise=0.0)
    problem = toy_problem(method)
    whole = torch.cat([problem.class_indices[c] for c in range(4)])
    problem = replace(problem, counts=(12,) * 4, initial=problem.train.raw(whole))
    objective, block, seen = _made(method, problem)
    assert len(problem.train) == 48  # and all of them are drawn
    loss, slopes = objective.loss_and_grads(problem, STATE, block, seen)
    assert abs(loss) < 1e-5
    assert float(slopes["inputs"].abs().max()) < 1e-4
    wrong, _ = objective.loss_and_grads(problem, STATE, block, {"inputs": seen["inputs"].flip(0)})
    assert wrong > 0.5


@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_a_pass_in_parts_gives_the_same_slopes(labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    method = LGM(**TINY, augment="rrc", labels=labels)
    problem = toy_problem(method)
    objective, block, seen = _made(method, problem)
    if labels == "learned":
        seen["labels"] = torch.rand(8, 4, generator=generator(5)).softmax(1)
    loss, slopes = objective.loss_and_grads(problem, STATE, block, seen)
    monkeypatch.setattr(_linear, "EMBED_CHUNK", 3)
    again, found = objective.loss_and_grads(problem, STATE, block, seen)
    assert again == pytest.approx(loss, rel=1e-5)
    for name in slopes:
        torch.testing.assert_close(found[name], slopes[name], rtol=1e-4, atol=1e-7)


def test_half_of_the_views_get_noise_in_data_units() -> None:
    method = LGM(**TINY, augment="none", noise=1e-6, noise_mean=0.25)
    problem = toy_problem(method)
    views = _linear.ViewTransform(noise_std=1e-6, noise_mean=0.25)
    x = problem.train.raw(torch.arange(40))
    seen = views.apply(problem, problem.train.normalization.apply(x), views.draw(problem, 40, generator(0)))
    added = (problem.train.normalization.invert(seen) - x).mean((1, 2, 3))
    assert 10 <= int((added > 0.2).sum()) <= 30
    assert all(abs(a) < 1e-3 or abs(a - 0.25) < 1e-3 for a in added.tolist())


def test_it_comes_nearer_and_stays_a_picture() -> None:
    method = LGM(iterations=40, views=1, batch_real=48, network="convnet-d1-w8", augment="none", noise=0.0, lr=0.02)
    problem = toy_problem(method)
    state, rng, gaps = method.init(problem, generator(0)), generator(1), list[float]()
    while not method.done(problem, state):
        state, shown = method.step(problem, state, rng)
        gaps.append(shown["gap"])
    assert sum(gaps[-5:]) < 0.5 * sum(gaps[:5])
    result = method.result(problem, state)
    assert isinstance(result, Synthetic)
    assert result.space == "data"
    assert 0 <= float(result.payload["inputs"].min()) <= float(result.payload["inputs"].max()) <= 1


@pytest.mark.parametrize(
    "made", [{"init_from": "real"}, {"labels": "learned"}, {"optimizer": "sgd"}, {"steps_per_network": 3}]
)
def test_it_keeps_the_contract(made: dict[str, Any]) -> None:
    check_method(LGM(**TINY, **made))


def test_it_takes_uneven_colour_data() -> None:
    check_method(LGM(**TINY, batch_real=60), source=uneven_source())


def test_a_first_step_as_it_was() -> None:
    """The gap of the first step on toy data, so that no change of the draws goes unseen."""
    method = LGM(**TINY)
    problem = toy_problem(method)
    _, shown = method.step(problem, method.init(problem, generator(0)), generator(1))
    assert shown["gap"] == pytest.approx(GAP, rel=1e-4)


GAP = 0.77594447
