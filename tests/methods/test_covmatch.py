"""CovMatch: a step against the objective written by hand, its encoders' training, and networks that it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Network, Problem, Splits
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.methods.distribution.covmatch import CovMatch, first_width
from potstill.methods.engine import MatchingState, build_problem
from potstill.nn.dual_encoder import SplitFeatures
from potstill.rng import generator
from potstill.testing import check_method
from potstill.testing.toy import pairs_source

SMALL: dict[str, Any] = {
    "iterations": 4, "batch_real": 40, "network": "towers-w4", "online_batch": 16, "max_age": 3, "lr": 0.5,
    "optimizer": "sgd", "momentum": 0.0,
}  # fmt: skip


def started(method: CovMatch, *, vectors: bool = True) -> tuple[Problem, MatchingState]:
    problem = build_problem(method, pairs_source(vectors=vectors), 6)
    return problem, method.init(problem, generator(3))


def features(net: Network, x: Any) -> tuple[Tensor, Tensor]:
    assert isinstance(net, SplitFeatures)
    a, b = torch.split(net.embed(x), list(net.feature_widths), 1)
    return a, b


def loss_by_hand(net: Network, real: Any, syn: Any, weight: float) -> Tensor:
    """The equation, from centred features."""
    sides = [features(net, x) for x in (real, syn)]
    c_real, c_syn = ((a - a.mean(0)).T @ (b - b.mean(0)) / len(a) for a, b in sides)
    means = sum((r.mean(0) - s.mean(0)).square().sum() for r, s in zip(*sides, strict=True))
    loss: Tensor = (c_real - c_syn).square().sum() + weight * means
    return loss


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_step_descends_the_equation(weight: float) -> None:
    method = CovMatch(**SMALL, mean_weight=weight)
    problem, state = started(method)
    after, metrics = method.step(problem, state, generator(4))
    net = problem.network(state.pool[0].seed).eval()
    real = RealData.of(problem).batch(torch.arange(40)).x  # all pairs: a draw of 40 in any order
    syn = {n: t.clone().requires_grad_() for n, t in state.params.value.items() if n.startswith("payload/")}
    view = {n.removeprefix("payload/"): t for n, t in syn.items()}
    loss = loss_by_hand(net, real, view, weight)
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert set(view) == {"image", "text"}
    for name, slope in zip(syn, torch.autograd.grad(loss, tuple(syn.values())), strict=True):
        assert float(slope.abs().max()) > 0
        torch.testing.assert_close(after.params.value[name], syn[name].detach() - 0.5 * slope, rtol=1e-4, atol=1e-5)


def test_encoders_train_on_real_pairs_and_begin_anew() -> None:
    method = CovMatch(**SMALL)
    problem, state = started(method)
    rng, seeds, losses = generator(4), [state.pool[0].seed], []
    pairs = problem.train.fetch(torch.arange(40))
    assert pairs.y is not None
    for _ in range(4):
        net = method.build_engine(problem).networks.draw_networks(problem, state, rng)[0]
        losses.append(float(problem.task.loss(net(pairs.x), pairs.y).detach()))
        state, _ = method.step(problem, state, rng)
        seeds.append(state.pool[0].seed)
    assert seeds[0] == seeds[1] == seeds[2] != seeds[3] == seeds[4]  # of ages 0, 1 and 2, then a fresh one
    assert losses[2] < losses[1] < losses[0]
    assert losses[3] > losses[2]


def test_encoders_stay_for_a_block_of_steps() -> None:
    method = CovMatch(**SMALL, steps_per_network=2)
    problem, state = started(method)
    ages = []
    for _ in range(4):
        before = state.pool[0].theta
        state, _ = method.step(problem, state, generator(4))
        ages.append(all(torch.equal(before[n], p) for n, p in state.pool[0].theta.items()))
    assert ages == [True, False, True, False]


def test_words_stay_and_pictures_move() -> None:
    method = CovMatch(**SMALL)
    problem, state = started(method, vectors=False)
    after, _ = method.step(problem, state, generator(4))
    moved = {n for n, t in after.params.value.items() if not torch.equal(t, state.params.value[n])}
    assert moved == {"payload/image"}


def test_pretrained_encoders_do_not_train_on() -> None:
    method = CovMatch(**SMALL, embedders="trained", pretrained_networks=1, pretrain_epochs=1)
    splits = Splits(train=pairs_source(vectors=True), test=None)
    assert len(potstill.distill(splits, method, items=4, progress=None)) == 4
    check_method(method, source=pairs_source(vectors=True), steps=2)


def test_sets_begin_at_prototypes_where_init_is_k_means() -> None:
    splits = Splits(train=pairs_source(vectors=True), test=None)
    method = CovMatch(**{**SMALL, "lr": 0.0, "init_from": "k-means"})
    small = potstill.distill(splits, method, items=6, codec="float32", progress=None)
    assert len({text.split()[0] for text in small.nearest_texts}) >= 5  # of eight rows


def test_a_network_whose_features_are_not_told_apart_is_refused() -> None:
    class Joined(Network):
        def embed(self, x: Any) -> Tensor:
            return torch.zeros(1, 2)

    with pytest.raises(PotstillError, match="Joined has no feature_widths; add that property"):
        first_width(Joined())


def test_other_data_are_refused() -> None:
    with pytest.raises(PotstillError, match="covmatch does retrieval, but"):
        potstill.distill("digits", "covmatch", ipc=1, progress=None)
