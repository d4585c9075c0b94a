"""One series whose windows overlap: by hand, in harmonics, and refused where it does not fit."""

import math

import numpy as np
import pytest
import torch

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import DecodeContext, InputSpec, Normalization, Problem
from potstill.errors import PotstillError
from potstill.functional.transforms import dct_matrix
from potstill.nn import factory
from potstill.parametrize.series import Series
from tests.series_data import windows

CONTEXT = DecodeContext(input=InputSpec(kind="series", shape=(2, 3)), horizon=2)


def by_hand(points, window, horizon):
    """Windows and targets of every stretch, one after the other."""
    x, y = [], []
    for stretch in points:
        for t in range(len(stretch) - window - horizon + 1):
            x.append(stretch[t : t + window].T)
            y.append(stretch[t + window : t + window + horizon].T.flatten())
    return torch.stack(x), torch.stack(y)


def test_items_are_all_windows_of_each_stretch():
    points = torch.arange(28.0).reshape(2, 7, 2)
    x, y = by_hand(points, 3, 2)
    series = Series(count=2)
    assert torch.equal(series.decode({"points": points}, CONTEXT), x)
    assert torch.equal(series.decode_targets({"points": points}, CONTEXT, None), y)
    assert x.shape == (6, 2, 3)
    assert y[0].tolist() == [6, 8, 7, 9]  # the next two of the first variable, then the other's
    some = {"points": points, "starts": torch.tensor([5, 0])}
    assert torch.equal(series.decode(some, CONTEXT), x[[5, 0]])


def test_targets_are_in_the_units_of_the_task():
    points = torch.randn(1, 7, 2)
    units = Normalization(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5]))
    _, y = by_hand(points * units.std + units.mean, 3, 2)
    torch.testing.assert_close(Series().decode_targets({"points": points}, CONTEXT, units), y)


def test_every_point_gets_the_gradient_of_all_its_windows():
    points = torch.randn(1, 9, 2, dtype=torch.float64, requires_grad=True)

    def both(p):
        return Series().decode({"points": p}, CONTEXT), Series().decode_targets({"points": p}, CONTEXT, None)

    assert torch.autograd.gradcheck(both, (points,))
    sum(part.sum() for part in both(points)).backward()
    inside = [min(t, 8 - t, 4) + 1 for t in range(9)]  # 5 windows of 5 points: how many a point is in
    assert points.grad[0, :, 0].tolist() == inside


def test_all_harmonics_are_the_points_themselves():
    train = windows(variables=2).train
    problem = _problem(train, Series(length=30, harmonics=30), 30 * 2)
    payload = problem.parametrization.encode(torch.zeros(1), problem, torch.Generator().manual_seed(3))
    plain = _problem(train, Series(length=30), 30 * 2)
    stretch = plain.parametrization.encode(torch.zeros(1), plain, torch.Generator().manual_seed(3))["points"]
    assert payload["positions"].tolist() == list(range(30))
    torch.testing.assert_close(problem.parametrization.points(payload), stretch, atol=1e-5, rtol=1e-5)


def test_few_harmonics_are_those_of_the_strongest_waves():
    time = np.arange(400)
    wave = np.cos(math.pi * (2 * time + 1) * 6 / (2 * 40))  # frequency 6 of any 40 points
    train = potstill.load_data(wave + 5, task="forecast:window=8,horizon=4").train
    problem = _problem(train, Series(length=40, harmonics=3), 3)
    payload = problem.parametrization.encode(torch.zeros(1), problem, torch.Generator().manual_seed(0))
    assert 6 in payload["positions"].tolist()
    cosines = dct_matrix(40, torch.float32, torch.device("cpu"))
    whole = torch.zeros(40, 1)
    whole[payload["positions"].long()] = payload["coefficients"][0]
    torch.testing.assert_close(problem.parametrization.points(payload)[0], cosines.T @ whole)


def _problem(train, series, numbers):
    return Problem(
        train=train, counts=(1,), network=factory("linear", train.input, train.task.outputs, train.device),
        augment=named_augmentation("none", train), parametrization=series.bind(train), value_budget=(numbers,),
    )  # fmt: skip


def test_it_starts_from_real_stretches_of_the_training_part():
    train = windows(variables=2).train
    problem = _problem(train, Series(count=3), 3 * 20 * 2)
    assert problem.sizes == (3 * (20 - 12 + 1),)
    payload = problem.parametrization.encode(torch.zeros(1), problem, torch.Generator().manual_seed(1))
    assert payload["points"].shape == (3, 20, 2)
    real = train.normalization.apply(train.series.T[None])[0].T
    for stretch in payload["points"]:
        at = int((real - stretch[0]).abs().sum(1).argmin())
        torch.testing.assert_close(stretch, real[at : at + 20])
        assert at + 20 <= int(train.starts.max()) + 12  # no point of the test part


@pytest.mark.parametrize("length", [12, 13, 40, 128, 129])
def test_stretches_are_those_whose_every_window_is_there(length):
    train = windows().train
    train = train.subset(torch.tensor([i for i in range(len(train)) if i % 50 != 20]))
    there = set(train.starts.tolist())
    naive = [s for s in range(161 - length) if {s + k for k in range(length - 11)} <= there]
    assert train.stretches(length).tolist() == naive


def test_points_of_windows_are_each_there_once():
    train = windows(variables=2).train
    index = torch.tensor([40, 3, 5])
    points, starts = train.points_of(index)
    assert len(points) == 12 + 2 + 12
    again = points.unfold(0, 12, 1)[starts]
    torch.testing.assert_close(again[:, :, :8], train.raw(index))


@pytest.mark.parametrize(
    ("settings", "numbers", "message"),
    [
        ({}, 11, "1 variable takes 12 numbers, and a window with what follows it 12 points, but the budget leaves 11"),
        ({"length": 50}, 49, "50 points of 1 variable takes 50 numbers"),
        ({"length": 129}, 200, "129 points start from real ones, but the longest without a gap has 128"),
        ({"length": 60, "harmonics": 20, "count": 2}, 39, "2 × 20 harmonics of 1 variable takes 40 numbers"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(settings, numbers, message):
    series = Series(**settings).bind(windows().train)
    with pytest.raises(PotstillError, match=message) as caught:
        series.sizes((numbers,), (1, 8))
    assert "\n" not in str(caught.value)


def test_settings_and_data_that_do_not_fit_are_refused():
    with pytest.raises(PotstillError, match="must be at least 0 and count at least 1"):
        Series(count=0)
    with pytest.raises(PotstillError, match="20 harmonics need a length of at least as many points"):
        Series(harmonics=20)
    with pytest.raises(PotstillError, match="needs windows of a series to forecast, but digits"):
        Series().bind(potstill.load_data("digits").train)
    with pytest.raises(PotstillError, match="works in a run alone"):
        Series().sizes((100,), (1, 8))
    with pytest.raises(PotstillError, match="of forecasts, but these targets are none"):
        Series().decode({"points": torch.zeros(1, 9, 2)}, DecodeContext(input=CONTEXT.input))
