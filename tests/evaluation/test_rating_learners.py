"""Learners of users: closed forms against their formulas, and choices that never see what is tested."""

import dataclasses

import pytest
import torch

import potstill
from potstill.errors import PotstillError
from potstill.evaluation.estimators import make_learner
from potstill.evaluation.naive import naive_scores
from potstill.evaluation.rating_learners import ItemRidge, MultAutoencoder, NtkAutoencoder
from potstill.functional.kernels import FullyConnected
from potstill.tasks import Classification, get_targets
from tests.ratings_data import write_shop


@pytest.fixture
def splits(tmp_path):
    return potstill.load_data(write_shop(tmp_path / "shop.csv"), kind="ratings")


def rows(n, d, seed):
    return (torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < 0.4).double() + 0.0


def test_item_ridge_equals_ease():
    x, queries = rows(40, 9, 0), rows(3, 9, 1)
    gram = x.T @ x
    plain = torch.linalg.inv(gram + max(0.1, 40 / 1000) * torch.eye(9, dtype=torch.float64))
    weights = torch.zeros(9, 9, dtype=torch.float64)
    for i in range(9):
        for j in range(9):
            if i != j:
                weights[i, j] = -plain[i, j] / plain[j, j]
    first = next(ItemRidge().candidates(x, 0))
    torch.testing.assert_close(first(queries), queries @ weights)


def test_item_ridge_of_few_users_equals_that_of_many():
    x, queries = rows(5, 12, 2), rows(3, 12, 3)
    few = next(ItemRidge().candidates(x, 0))(queries)
    padded = torch.cat([x, torch.zeros(8, 12, dtype=torch.float64)])  # the same Gram matrix, more rows than items
    torch.testing.assert_close(few, next(ItemRidge().candidates(padded, 0))(queries), atol=1e-8, rtol=1e-8)


def test_the_kernel_autoencoder_equals_its_formula():
    x, queries = rows(7, 15, 4), rows(3, 15, 5)
    x[:, 0] = queries[:, 1] = 1
    kernel = FullyConnected(depth=1)

    def unit(of):
        return of / of.norm(dim=1, keepdim=True) * 15**0.5

    k = kernel(unit(x), unit(x))
    shift = 1e-3 * k.diagonal().mean() * torch.eye(7, dtype=torch.float64)
    plain = kernel(unit(queries), unit(x)) @ torch.linalg.solve(k + shift, x / x.norm(dim=1, keepdim=True).sqrt())
    torch.testing.assert_close(next(NtkAutoencoder().candidates(x, 0))(queries), plain)


@pytest.mark.parametrize("name", ["ntk-autoencoder", "item-ridge", "mult-autoencoder:hidden=24"])
def test_learners_beat_popular_items_and_do_not_recommend_what_was_met(splits, name):
    train, test = splits.train, splits.test
    answers = make_learner(name, train).fit_all(train, test, 0)
    assert answers.shape == (60, 21)
    assert not bool(test.interactions.met(torch.arange(60)).gather(1, answers[:, :10]).any())
    popular = naive_scores(test.task, train, test)["popular items"]["score"]
    assert test.task.score(answers, get_targets(test)) > popular + 0.1


@pytest.mark.parametrize("learner", [NtkAutoencoder(), ItemRidge(), MultAutoencoder(hidden=8, steps=(2, 4))])
def test_choices_do_not_see_tested_items(splits, learner):
    seen = []

    class Spy:
        name, tasks, draws = learner.name, learner.tasks, learner.draws

        def fit(self, *arguments):
            raise AssertionError

        def fit_users(self, x, quality, seed):
            def watched(predict):
                seen.append(quality(predict))
                return seen[-1]

            return learner.fit_users(x, watched, seed)

    test, train = splits.test, splits.train
    make = make_learner(learner.name, train)
    spied = dataclasses.replace(make, learner=Spy())
    x, zeros = train.raw(torch.arange(60)), torch.zeros(60, dtype=torch.int64)
    spied.fit_predict(test, x, zeros, None, 0)
    first, seen = list(seen), []
    shuffled = dataclasses.replace(test.interactions, test=test.interactions.train)  # other items are tested
    spied.fit_predict(dataclasses.replace(test, interactions=shuffled), x, zeros, None, 0)
    assert first
    assert first == seen


def test_where_validation_items_are_scored_other_users_choose(splits):
    held_out = splits.train.subset(torch.arange(20))
    make = make_learner("item-ridge", splits.train)
    x, zeros = splits.train.raw(torch.arange(60)), torch.zeros(60, dtype=torch.int64)
    before = make.fit_predict(held_out, x, zeros, None, 0)
    swapped = splits.train.interactions
    lengths = swapped.validation.offsets[20]
    items = swapped.validation.items.clone()
    items[:lengths] = items[:lengths].flip(0)
    changed = dataclasses.replace(swapped, validation=dataclasses.replace(swapped.validation, items=items))
    after = make.fit_predict(dataclasses.replace(held_out, interactions=changed), x, zeros, None, 0)
    assert torch.equal(before[:, :10], after[:, :10])  # the same recommendations, scored on other items


def test_networks_are_refused_where_sets_are_made_and_measured(splits):
    small = potstill.distill(splits, "random", items=4, progress=None)
    with pytest.raises(PotstillError, match="choose a learner: ntk-autoencoder, item-ridge, mult-autoencoder"):
        potstill.evaluate(small, splits, networks=["mlp"], progress=None)
    with pytest.raises(PotstillError, match="method dc trains networks, which do not train on users of shop"):
        potstill.distill(splits, "dc", items=4, progress=None)


def test_other_data_are_refused():
    digits = potstill.load_data("digits")
    with pytest.raises(PotstillError, match="learns recommendation, but the task is classification"):
        make_learner("item-ridge", digits.train)
    with pytest.raises(PotstillError, match="hidden and batch must be at least 1"):
        MultAutoencoder(hidden=0)
    with pytest.raises(PotstillError, match="item-ridge learns users of interactions"):
        ItemRidge().fit(torch.zeros(2, 3), torch.zeros(2), None, Classification(k=2), 0)
