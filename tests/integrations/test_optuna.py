"""A study tunes somebody's own training on the small set, judged by real training samples."""

from typing import Any

import numpy as np
import optuna
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import potstill
from potstill.core import Splits
from potstill.data.splits import holdout
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.integrations.optuna import Objective


@pytest.fixture(scope="module")
def digits() -> Splits:
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def small(digits: Splits) -> Distilled:
    return potstill.distill(digits, "herding", ipc=5, progress=None)


def neighbours(trial: Any, small: Distilled) -> Any:
    k = trial.suggest_categorical("k", [1, 40])
    model = KNeighborsClassifier(k).fit(small.model_space().flatten(1).numpy(), small.labels.numpy())
    return lambda x: model.predict(x.flatten(1).numpy())


def test_a_study_finds_the_better_setting(digits: Splits, small: Distilled) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = Objective(small, digits, neighbours, samples=300)
    study = optuna.create_study(direction=tried.direction, sampler=optuna.samplers.GridSampler({"k": [1, 40]}, seed=0))
    study.optimize(tried, n_trials=2)
    assert study.best_params == {"k": 1}  # 40 of 50 samples answer for almost every class
    assert study.best_value > 0.8


class Fixed:
    """A trial whose choices are written down."""

    def __init__(self, **settings: Any) -> None:
        self.suggest_categorical = lambda name, among: settings[name]


def test_a_held_out_source_is_judged_by_as_it_is(digits: Splits) -> None:
    kept, held = holdout(digits.train, 0.2, 0)
    small = potstill.distill(Splits(train=kept, test=None), "herding", ipc=5, progress=None)
    score = Objective(small, held, neighbours)(Fixed(k=1))
    x = small.normalization.apply(held.raw(torch.arange(len(held))))
    assert score == np.mean(neighbours(Fixed(k=1), small)(x) == held.labels.numpy())


def test_a_module_is_asked_in_evaluation_mode(digits: Splits, small: Distilled) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return torch.nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 10)

    score = Objective(small, digits, lambda trial, small: Odd())(None)
    assert 0.05 < score < 0.15  # the share of zeros


def test_answers_of_another_shape_are_refused(digits: Splits, small: Distilled) -> None:
    with pytest.raises(PotstillError, match=r"must answer \d+ inputs"):
        Objective(small, digits, lambda trial, small: lambda x: x)(None)


def test_other_data_are_refused(small: Distilled) -> None:
    with pytest.raises(PotstillError, match="give the data that the set was made of"):
        Objective(small, "mnist-5k", neighbours)
