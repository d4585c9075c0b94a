"""Closed forms that a series is learned for: as the learners that read it, and better than where they began."""

import pytest
import torch

import potstill
from potstill.evaluation.learners import KrrNtk, Ridge
from potstill.functional.kernels import FullyConnected
from potstill.methods.performance._ridge import KernelFit, LinearFit
from potstill.methods.performance.kip import KIP
from tests.series_data import windows


@pytest.mark.parametrize("n", [5, 60])
@pytest.mark.parametrize(
    ("fit", "learner"),
    [
        (LinearFit(penalty=0.01), Ridge(penalty=0.01)),
        (LinearFit(penalty=0.5), Ridge(penalty=0.5)),
        (KernelFit(kernel=FullyConnected(depth=1), ridge=1e-3), KrrNtk(ridge=1e-3)),
    ],
)
def test_they_answer_as_the_learners_do(n, fit, learner):
    train = windows().train
    task = train.task
    batch = train.fetch(torch.arange(n))
    queries = train.fetch(torch.arange(60, 80)).x
    told = task.standardize(batch.y.double())
    answers = fit(batch.x.flatten(1), told, queries.flatten(1))
    predicted = learner.fit(batch.x.flatten(1), batch.y.double(), None, task, 0)(queries.flatten(1))
    torch.testing.assert_close(task.predict(answers).float(), predicted, rtol=1e-4, atol=1e-4)


def test_a_series_is_learned_for_several_by_default():
    data = windows()
    options = {"items": 6, "preset": "quick", "steps": 1, "progress": None}
    made = {p: potstill.distill(data, "kip", parametrization=p, **options) for p in ("pixels", "series")}
    assert made["pixels"].metadata["config"]["learners"] == "kernel"
    assert made["series"].metadata["config"]["learners"] == "mixed"
    assert made["series"].metadata["config"]["labels"] == "hard"


def test_twenty_four_points_train_nearly_as_well_as_all():
    data = windows(300)
    options = {"parametrization": "series:length=24", "items": 3, "progress": None, "codec": "float32"}
    scores = []
    for steps in (0, 120):
        small = potstill.distill(data, KIP(iterations=120), steps=steps, **options)
        scores.append([_error(data, small, learner) for learner in (Ridge(), KrrNtk(ridge=1e-2))])
    full = [_error(data, None, learner) for learner in (Ridge(), KrrNtk(ridge=1e-2))]
    (random, random_kernel), (learned, learned_kernel) = scores
    assert learned < 1.25 * full[0]
    assert learned < 0.6 * random
    assert learned_kernel < 0.85 * random_kernel  # all real windows are far better for it, at 0.07


def _error(data, small, learner):
    train, test = data.train, data.test.fetch(torch.arange(len(data.test)))
    batch = train.fetch(torch.arange(len(train)))
    x, y = (batch.x, batch.y) if small is None else (small.model_space(), small.labels)
    return train.task.score(learner.fit(x, y, None, train.task, 0)(test.x), test.y)
