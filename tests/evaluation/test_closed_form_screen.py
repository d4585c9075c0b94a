from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]

from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.closed_form_screen import PENALTY, ClosedFormScreen, screen_operations
from potstill.nn import factory
from potstill.rng import derive_seed


@pytest.fixture
def parts(pictures: Splits) -> tuple[TensorSource, TensorSource]:
    source = pictures.train
    assert isinstance(source, TensorSource)
    order = torch.arange(len(source))
    return source.subset(order[::2]), source.subset(order[1::2])


@pytest.mark.parametrize("soft", [False, True])
def test_a_score_is_that_of_ridge_regression_on_untrained_features(
    parts: tuple[TensorSource, TensorSource], soft: bool
) -> None:
    """Naive reference: scikit-learn on features that are standardised by the set."""
    fit, held = parts
    make = factory("convnet-d1-w4", fit.input, len(fit.classes))
    screen = ClosedFormScreen(make=make, held_out=held, seed=3)
    x, held_x = (s.fetch(torch.arange(len(s))).x for s in (fit, held))
    y = torch.softmax(4 * torch.nn.functional.one_hot(fit.labels).double(), 1) if soft else fit.labels
    nets = [make(derive_seed(3, "screen", n)).eval() for n in range(4)]
    with torch.no_grad():
        a, b = (torch.cat([net.embed(t) for net in nets], 1).double().numpy() for t in (x, held_x))
    mean, spread = a.mean(0), a.std(0)
    spread[spread < 1e-9] = 1
    targets = y.numpy() if soft else np.eye(len(fit.classes))[y.numpy()]
    model = Ridge(alpha=PENALTY * a.shape[1]).fit((a - mean) / spread, targets)
    expected = (model.predict((b - mean) / spread).argmax(1) == held.labels.numpy()).mean()
    assert screen.score((x, y)) == pytest.approx(expected, abs=1 / len(held))
    assert screen.score((x, y)) == ClosedFormScreen(make=make, held_out=held, seed=3).score((x, y))
    assert screen_operations(make, fit.input, 1000) > 2 * screen_operations(make, fit.input, 500) > 0


def test_more_samples_of_the_same_kind_score_higher(parts: tuple[TensorSource, TensorSource]) -> None:
    """Golden order: one of each class, a third, all; wrong labels are at chance."""
    fit, held = parts
    screen = ClosedFormScreen(make=factory("convnet-d1-w4", fit.input, len(fit.classes)), held_out=held, seed=0)
    x = fit.fetch(torch.arange(len(fit))).x
    assert isinstance(x, torch.Tensor)
    one = torch.stack([torch.where(fit.labels == c)[0][0] for c in range(len(fit.classes))])
    scores = [screen.score((x[i], fit.labels[i])) for i in (one, torch.arange(0, len(x), 3), torch.arange(len(x)))]
    assert scores[0] <= scores[1] <= scores[2]
    assert scores[2] > 1.5 / len(fit.classes)
    shifted = replace(fit, labels=(fit.labels + 1) % len(fit.classes))
    assert screen.score((x, shifted.labels)) < scores[2]
