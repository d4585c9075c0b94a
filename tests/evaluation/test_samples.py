"""Scores of single test samples: of classes who is right, of other metrics what groups of samples add."""

import numpy as np
import pytest
import torch

from potstill.evaluation.samples import JACKKNIFE_GROUPS, MAX_ROWS, sample_scores
from potstill.evaluation.statistics import summary
from potstill.rng import generator
from potstill.tasks import Classification, Forecast, Regression, Retrieval


def test_of_classes_a_sample_scores_the_part_of_students_that_are_right() -> None:
    y = torch.tensor([0, 1, 1, 0])
    answers = [torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 0, 0]), None]
    found = sample_scores(Classification(k=2), answers, y)
    assert found is not None
    assert found.rows.tolist() == pytest.approx([2.5 / 3, 1.5 / 3, 0.5 / 3, 2.5 / 3]), (
        "a student that diverged is at chance"
    )
    assert found.residual > 0
    assert sample_scores(Classification(k=2), [a if a is None else a[:1] for a in answers], y[:1]) is None


def test_many_test_samples_share_a_bounded_number_of_rows_with_the_same_variance() -> None:
    y = torch.zeros(4321, dtype=torch.int64)
    said = [(torch.rand(4321, generator=generator(n, "said")) > 0.8).long() for n in range(3)]
    found = sample_scores(Classification(k=2), said, y)
    assert found is not None
    assert found.rows.size == MAX_ROWS
    mean = torch.stack(said).eq(0).double().mean(0)
    assert found.rows.mean() == pytest.approx(float(mean.mean()), abs=1e-3)
    assert found.rows.var(ddof=1) / MAX_ROWS == pytest.approx(float(mean.var()) / 4321, rel=0.15)
    assert len(found.to_dict()["rows"]) < 6000


def test_a_root_of_a_mean_is_taken_apart_by_the_jackknife() -> None:
    y = torch.randn(600, 1, generator=generator(0, "y"), dtype=torch.float64)
    said = [y + 0.3 * torch.randn(600, 1, generator=generator(10 + n, "e"), dtype=torch.float64) for n in range(4)]
    task = Regression(targets=("price",), mean=(0.0,), std=(1.0,))
    found = sample_scores(task, said, y)
    assert found is not None
    assert found.rows.size == JACKKNIFE_GROUPS
    values = [task.score(a, y) for a in said]
    assert found.rows.mean() == pytest.approx(np.mean(values))
    # the delta method: the mean over students of squared errors, over twice the root
    delta = torch.stack([(a - y).square()[:, 0] / 2 / v for a, v in zip(said, values, strict=True)]).mean(0)
    assert found.rows.var(ddof=1) / JACKKNIFE_GROUPS == pytest.approx(float(delta.var()) / 600, rel=0.6), (
        "24 degrees of freedom"
    )
    low, high = summary(values, low=0.0, samples=found)["ci95"]
    assert low < 0.3 < high
    retrieval = Retrieval(width=2, k=1)
    views = torch.nn.functional.normalize(torch.randn(40, 4, generator=generator(0, "v")), dim=1)
    pairs = sample_scores(retrieval, [views, views], torch.arange(40))
    assert pairs is not None
    assert pairs.rows.mean() == pytest.approx(retrieval.score(views, torch.arange(40)))


def test_windows_of_a_series_are_taken_in_stretches_that_do_not_overlap() -> None:
    task = Forecast(window=8, horizon=2, variables=("v",), mean=(0.0,), std=(1.0,))
    y = torch.randn(200, 2, generator=generator(0, "y"))
    found = sample_scores(task, [y + 0.1, y - 0.2], y)
    assert found is not None
    assert found.rows.size == 200 // 10
    assert sample_scores(task, [y + 0.1], y[:40]) is None, "four stretches say too little"
