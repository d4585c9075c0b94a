"""Learners of tables: neighbours, boosted trees, and what all learners of scikit-learn share."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import potstill
from potstill.errors import PotstillError
from potstill.evaluation.learners import Forest, LinearModel
from potstill.evaluation.table_learners import Boosting, LightGBM, Neighbours, XGBoost
from potstill.tasks import Classification, Regression

TASK = Classification(k=3)


def drawn(n: int, d: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def blobs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(n) % 3
    return drawn(n, seed=seed) + 2.0 * torch.nn.functional.one_hot(y, 4), y


def mixed(n: int = 90) -> pd.DataFrame:
    """Numbers with gaps, categories with gaps, truth values; the class is told by the first two."""
    at = np.arange(n)
    age: Any = 20.0 + 7 * (at % 3) + at % 5 / 5
    age[::11] = np.nan
    coat = np.array(["short", "long", "curled"], dtype=object)[at % 3]
    coat[::13] = None
    return pd.DataFrame({"age": age, "coat": coat, "new": at % 2 == 0, "kind": np.array(["a", "b", "c"])[at % 3]})


def votes(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, asked: torch.Tensor, k: int) -> list[int]:
    """Class of the most weight among the k nearest; of as many votes that of the nearest."""
    answers = []
    for row in asked.double():
        order = sorted(range(len(x)), key=lambda i: float((x[i].double() - row).square().sum()))[:k]
        share = {c: sum(float(weights[i]) for i in order if y[i] == c) for c in {int(y[i]) for i in order}}
        most = max(share.values())
        answers.append(next(int(y[i]) for i in order if share[int(y[i])] == most))
    return answers


@pytest.mark.parametrize("k", [1, 4, 5])
def test_neighbours_vote_as_counted_by_hand(k: int) -> None:
    (x, y), (asked, _) = blobs(30), blobs(60, seed=1)
    equal = torch.ones(30)
    assert Neighbours(k=k).fit(x, y, None, TASK, 0)(asked).tolist() == votes(x, y, equal, asked, k)
    weights = 1.0 + (torch.arange(30) % 4)
    assert Neighbours(k=k).fit(x, y, weights, TASK, 0)(asked).tolist() == votes(x, y, weights, asked, k)
    rows = torch.nn.functional.one_hot(y, 3).float()
    assert Neighbours(k=k).fit(x, rows, None, TASK, 0)(asked).tolist() == votes(x, y, equal, asked, k)


def test_neighbours_are_scikit_learns_where_no_votes_tie() -> None:
    (x, y), (asked, _) = blobs(40), blobs(60, seed=1)
    expected = KNeighborsClassifier(1).fit(x.numpy(), y.numpy()).predict(asked.numpy())
    np.testing.assert_array_equal(Neighbours(k=1).fit(x, y, None, TASK, 0)(asked).numpy(), expected)
    values = drawn(40, 2, seed=2)
    found = Neighbours(k=3).fit(x, values, None, Regression(targets=("u", "v")), 0)(asked)
    means = KNeighborsRegressor(3).fit(x.double().numpy(), values.numpy()).predict(asked.double().numpy())
    np.testing.assert_allclose(found.numpy(), means, rtol=1e-5, atol=1e-6)


def test_a_row_without_weight_takes_no_neighbours_place() -> None:
    x, y = torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([0, 1, 1, 2])
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert Neighbours(k=1).fit(x, y, weights, TASK, 0)(torch.tensor([[0.1]])).tolist() == [1]
    values = Neighbours(k=2).fit(x, x, weights, Regression(targets=("u",)), 0)(torch.tensor([[0.1]]))
    assert values.tolist() == [[1.5]]


def test_boosting_is_scikit_learns_without_stopping_early() -> None:
    (x, y), (asked, _) = blobs(90), blobs(60, seed=1)
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=7)
    found = Boosting(rounds=20, min_rows=20).fit(x, y, None, TASK, 7)(asked)
    np.testing.assert_array_equal(found.numpy(), model.fit(x.numpy(), y.numpy()).predict(asked.numpy()))
    values = drawn(90, 2, seed=3)
    pair = Boosting(rounds=20, min_rows=20).fit(x, values, None, Regression(targets=("u", "v")), 7)(asked)
    for column in range(2):
        one = HistGradientBoostingRegressor(max_iter=20, early_stopping=False, random_state=7)
        expected = one.fit(x.numpy(), values[:, column].numpy()).predict(asked.numpy())
        np.testing.assert_allclose(pair[:, column].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_xgboost_is_its_own() -> None:
    xgboost = pytest.importorskip("xgboost")
    (x, y), (asked, _) = blobs(60), blobs(60, seed=1)
    model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1, random_state=3).fit(x.numpy(), y.numpy())
    found = XGBoost(rounds=10).fit(x, y, None, TASK, 3)(asked)
    np.testing.assert_array_equal(found.numpy(), model.predict(asked.numpy()))
    assert XGBoost(rounds=10).fit(x, x[:, :2], None, Regression(targets=("u", "v")), 3)(asked).shape == (60, 2)


def test_lightgbm_is_its_own() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    (x, y), (asked, _) = blobs(90), blobs(60, seed=1)
    model = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, random_state=3, verbose=-1).fit(x.numpy(), y.numpy())
    found = LightGBM(rounds=10, min_rows=20).fit(x, y, None, TASK, 3)(asked)
    np.testing.assert_array_equal(found.numpy(), model.predict(asked.numpy()))
    pair = LightGBM(rounds=10).fit(x, x[:, :2], None, Regression(targets=("u", "v")), 3)(asked)
    one = LightGBM(rounds=10).fit(x, x[:, :1], None, Regression(targets=("u",)), 3)(asked)
    assert torch.equal(pair[:, :1], one)
    assert float((pair - asked[:, :2]).square().mean()) < 0.3


@pytest.mark.parametrize("learner", [Boosting(), LightGBM()])
def test_boosted_trees_learn_from_four_rows_and_their_weights(learner: Any) -> None:
    x, y = torch.tensor([[0.0], [0.2], [1.0], [1.2]]), torch.tensor([0, 0, 1, 1])
    assert learner.fit(x, y, None, TASK, 0)(torch.tensor([[0.1], [1.1]])).tolist() == [0, 1]
    x, y = torch.tensor([[0.0]] * 8), torch.tensor([0, 1] * 4)
    weights = torch.tensor([1.0, 3.0] * 4)
    assert learner.fit(x, y, weights, TASK, 0)(x[:1]).tolist() == [1]


@pytest.mark.parametrize(
    "learner", [LinearModel(), Forest(trees=5), Boosting(rounds=5), XGBoost(rounds=5), LightGBM(rounds=5)]
)
def test_a_set_may_lack_classes(learner: Any) -> None:
    x, y = blobs(30)
    lacking = y != 1
    answers = learner.fit(x[lacking], y[lacking], None, TASK, 0)(x[lacking])
    assert set(answers.tolist()) == {0, 2}
    assert learner.fit(x[y == 2], y[y == 2], None, TASK, 0)(x[:4]).tolist() == [2, 2, 2, 2]


def test_bad_settings_are_refused() -> None:
    for made, message in (
        (lambda: Neighbours(k=0), "neighbours: k must be at least 1, not 0"),
        (lambda: Boosting(rounds=0), "boosting: rounds must be at least 1, not 0"),
        (lambda: Boosting(min_rows=0), "boosting: min_rows must be at least 1, not 0"),
        (lambda: LightGBM(min_rows=0), "lightgbm: min_rows must be at least 1, not 0"),
        (lambda: XGBoost(rounds=-1), "xgboost: rounds must be at least 1, not -1"),
    ):
        with pytest.raises(PotstillError, match=message):
            made()


@pytest.mark.parametrize("learner", ["neighbours", "boosting", "xgboost:rounds=10", "lightgbm:rounds=10"])
def test_a_mixed_table_with_gaps_is_learned_by_name(learner: str) -> None:
    data = potstill.load_data(mixed(), label="kind", missing="impute")
    small = potstill.distill(data, "k-means", ipc=6, progress=None)
    card = potstill.evaluate(
        small, data, networks=learner, seeds=2, baselines=False, full=False, robust_scores=False, progress=None
    ).to_dict()  # fmt: skip
    assert card["score"]["mean"] > 0.8
    assert list(card["networks"]) == [learner]
