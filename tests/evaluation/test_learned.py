"""Students that are no networks: scikit-learn's estimators and a closed form."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_scores_of_tasks import Held, pairs, rows
from torch import Tensor

import potstill
from potstill.core import Splits, registry
from potstill.errors import PotstillError
from potstill.evaluation import evaluate
from potstill.evaluation.estimators import FitsNodes, FitsTexts, Learner, is_learner_name, make_learner
from potstill.evaluation.graph_learners import GraphForest
from potstill.evaluation.learners import Ridge, training_rows
from potstill.evaluation.protocols import POTSTILL as PROTOCOL
from potstill.evaluation.series_learners import MiniRocketRidge
from potstill.evaluation.sound_learners import BandStatistics
from potstill.evaluation.statistics import difference
from potstill.execution import Serial
from potstill.rng import generator
from potstill.tasks import Classification, Regression, get_targets, get_task

SHORT = PROTOCOL.override(steps=2, lr=0.02, least_epochs=0, students=2)
LEARNERS = [
    name
    for name in registry.names("learners", outside=False)
    if not isinstance(
        registry.resolve("learners", name)(), FitsTexts | FitsNodes | MiniRocketRidge | BandStatistics | GraphForest
    )
    and "classification" in registry.resolve("learners", name)().tasks  # the others have tests of their own
]


@pytest.fixture
def priced() -> Splits:
    train, test = rows(60, 1), rows(40, 2)
    return Splits(train=train, test=replace(test, normalization=train.normalization, task=train.task))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_tells_classes_and_values_far_better_than_chance(name: str, table: Splits, priced: Splits) -> None:
    before = torch.get_rng_state()
    for splits in (table, priced):
        assert splits.test is not None
        task = get_task(splits.train)
        make = make_learner(name, splits.train)
        assert isinstance(make.learner, Learner)
        batch = splits.train.fetch(torch.arange(len(splits.train)))
        assert batch.y is not None
        said, again, other = (make.fit_predict(splits.test, batch.x, batch.y, None, seed) for seed in (1, 1, 2))
        assert torch.equal(said, again)
        assert torch.equal(said, other) or make.learner.draws
        targets = get_targets(splits.test)
        assert said.shape == targets.shape
        assert said.dtype == targets.dtype
        score, chance = task.score(said, targets), task.chance_score(targets)
        assert task.metric.better(score, chance)
        assert abs(score - chance) > 0.3 * max(score, chance)
        weighed = make.fit_predict(
            splits.test, batch.x, batch.y, torch.rand(len(batch.y), generator=generator(0, "w")), 1
        )
        assert not torch.equal(weighed, said) or name == "forest" or splits is table
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_and_rows_say_what_repeated_samples_say(name: str, table: Splits) -> None:
    batch = table.train.fetch(torch.arange(len(table.train)))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    x, y, counts = training_rows(batch.x[:2], torch.tensor([[0.0, 1.0], [0.25, 0.75]]), torch.tensor([1.0, 2.0]), True)
    assert y.tolist() == [1, 0, 1]
    assert counts is not None
    assert counts.tolist() == [1.0, 0.5, 1.5]
    assert (x[1] == x[2]).all()
    make, one_hot = make_learner(name, table.train), torch.eye(4)[batch.y]
    assert table.test is not None
    by_class = make.fit_predict(table.test, batch.x, batch.y, None, 3)
    by_rows = make.fit_predict(table.test, batch.x, one_hot, None, 3)
    assert float((by_class == by_rows).double().mean()) > (0.7 if name == "forest" else 0.99)


def test_the_closed_form_solves_its_equations_either_way() -> None:
    x = torch.randn(7, 12, generator=generator(0, "x"), dtype=torch.float64)
    y = torch.randn(7, 2, generator=generator(0, "y"), dtype=torch.float64)
    task = Regression(targets=("a", "b"))
    found = Ridge(penalty=0.1).fit(x, y, None, task, 0)(x[:3])  # fewer samples than inputs: the dual
    z = (x - x.mean(0)) / x.std(0, correction=0)
    lam = 0.1 * float((z.T @ z / 7).trace()) / 12
    w = torch.linalg.solve(z.T @ z / 7 + lam * torch.eye(12, dtype=x.dtype), z.T @ (y - y.mean(0)) / 7)
    torch.testing.assert_close(found.double(), z[:3] @ w + y.mean(0), rtol=1e-5, atol=1e-6)
    twice = Ridge(penalty=0.1).fit(torch.cat([x, x[:2]]), torch.cat([y, y[:2]]), None, task, 0)(x)
    counted = torch.tensor([2.0, 2.0, 1, 1, 1, 1, 1])
    torch.testing.assert_close(Ridge(penalty=0.1).fit(x, y, counted, task, 0)(x), twice, rtol=1e-5, atol=1e-6)


def measured(splits: Splits, held: Any, *networks: str, **changes: Any) -> Any:
    return evaluate(held, splits, protocol=SHORT, networks=list(networks), executor=Serial(), **changes)


def test_a_forest_leads_and_others_stand_beside_it(priced: Splits) -> None:
    card = measured(priced, Held(priced), "forest:trees=5", "ridge", "mlp-w16")
    said = card.to_dict()
    assert (said["network"], said["n"]) == ("forest:trees=5", 2)
    assert said["learner"] == {"name": "forest", "settings": {"trees": 5}, "draws": True}
    assert list(said["networks"]) == ["forest:trees=5", "ridge", "mlp-w16"]
    assert [said["networks"][n]["n"] for n in said["networks"]] == [2, 1, 2]
    assert said["networks"]["ridge"]["baselines"]["random"]["n"] == 3, "one fit for each draw"
    assert said["full"]["mean"] < said["score"]["mean"]
    assert said["full"]["recipe"]["name"] == "forest"
    assert said["chosen"] == {"augment": "none"}
    assert said["score"]["values"][0] != said["score"]["values"][1], "another seed, another forest"
    assert "do not concern it" in str(card)
    assert measured(priced, Held(priced), "forest:trees=5").to_dict()["full"] == said["full"]


def test_what_draws_nothing_is_fitted_once_and_says_so(table: Splits, make_set: Any) -> None:
    card = measured(table, make_set(table), "linear-model", full=True)
    said = card.to_dict()
    assert said["n"] == said["accuracy"]["n"] == 1
    low, high = said["accuracy"]["ci95"]
    assert low < said["accuracy"]["mean"] < high, "of the test samples: there is no other chance in it"
    assert "new students" in said["interval"]
    assert set(said["baselines"]) == {"random", "herding", "random-items", "real"}
    assert said["baselines"]["random"]["n"] == 3
    low, high = said["difference"]["random"]["ci95"]
    assert low < said["difference"]["random"]["mean"] < high
    low, high = said["difference"]["herding"]["ci95"]
    assert low < said["difference"]["herding"]["mean"] < high, "one fit each, and both are all that there is"
    assert "once, as it draws nothing" in str(card)


def test_a_fixed_value_is_compared_by_the_spread_of_the_other() -> None:
    b = [1.0, 2.0, 3.0]
    found = difference([5.0], b, fixed=True)
    half = 4.302652729911275 / 3**0.5  # t of two degrees of freedom times 1/√3
    assert found["ci95"] == pytest.approx([3 - half, 3 + half])
    assert 0 < found["p"] < 0.05
    assert difference([5.0], b)["ci95"] is None
    assert difference([5.0, 5.5], b, fixed=True) == difference([5.0, 5.5], b)


def test_what_a_learner_cannot_do_is_said(table: Splits, make_set: Any) -> None:
    assert is_learner_name("ridge:penalty=0.5")
    assert not is_learner_name("mlp-w16")
    with pytest.raises(PotstillError, match="the task is retrieval"):
        make_learner("ridge", pairs(8))
    with pytest.raises(PotstillError, match="penalty"):
        make_learner("ridge:strength=1", table.train)
    taught = registry.resolve("protocols", "sre2l").override(epochs=2)
    with pytest.raises(PotstillError, match="no network"):
        evaluate(make_set(table), table, protocol=taught, networks=["forest"])
    assert isinstance(get_task(table.train), Classification)
    with pytest.raises(PotstillError, match="ridge is not a network"):
        make_learner("ridge", table.train)(0)


class Counting:
    """Runs jobs here, and counts them."""

    def __init__(self) -> None:
        self.jobs = 0

    def map(self, fn: Any, jobs: Any, /) -> Any:
        for job in jobs:
            self.jobs += 1
            yield fn(job)


def test_the_callers_executor_trains_the_students(table: Splits, make_set: Any) -> None:
    where = Counting()
    score = potstill.evaluate(
        make_set(table), table, networks=["forest:trees=2", "linear"], seeds=3, baselines=False, full=False,
        executor=where, steps=2, lr=0.01, least_epochs=0, progress=None,
    )  # fmt: skip
    assert where.jobs == 6
    assert list(score.to_dict()["networks"]) == ["forest:trees=2", "linear"]
