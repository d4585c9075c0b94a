"""Sounds are distilled, selected, measured, saved and read again as other kinds are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import potstill
from potstill.data.in_memory import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation.sound_learners import BandStatistics
from potstill.tasks import get_task
from tests.sound_data import write_tones


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("sounds") / "tones")


@pytest.mark.parametrize("method", ["random", "herding", "dm", "frepo", "dc"])
def test_methods_of_pictures_work_on_sounds(folder: Path, tmp_path: Path, method: str) -> None:
    splits = potstill.load_data(folder)
    small = potstill.distill(splits, method, ipc=1, steps=2, network="convnet-d1-w8", progress=None) if method not in (
        "random", "herding") else potstill.distill(splits, method, ipc=1, progress=None)  # fmt: skip
    path = small.save(tmp_path / "small.safetensors")
    again = potstill.load(path)
    assert again.input == splits.train.input
    assert again.metadata["input"]["horizontal_flip"] is False
    assert torch.equal(again.inputs, small.inputs)


def test_a_set_is_measured_with_two_learners(folder: Path) -> None:
    splits = potstill.load_data(folder)
    small = potstill.distill(splits, "herding", ipc=2, progress=None)
    card = potstill.evaluate(
        small, splits, networks=["convnet-d2-w16", "band-statistics"], baselines=False, full=False, progress=None,
        epochs=30, seeds=1,
    )  # fmt: skip
    assert [row["mean"] > 0.5 for row in card.to_dict()["networks"].values()] == [True, True]


def test_band_statistics_are_means_and_deviations() -> None:
    x = torch.rand(20, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    x[10:, 0, 2] += 0.5 * torch.rand(10, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(20) // 10
    task = get_task(TensorSource.make(x, y, classes=("a", "b"), name="t", kind="sound"))
    rows = np.concatenate([x.numpy().mean(3), x.numpy().std(3)], 1).reshape(20, 8).astype(np.float64)
    rows = (rows - rows.mean(0)) / rows.std(0)
    want = LogisticRegression(max_iter=1000).fit(rows, y.numpy()).predict(rows)
    predict = BandStatistics().fit(x, y, None, task, 0)
    assert predict(x).tolist() == want.tolist()
    turned = x[..., torch.randperm(8, generator=torch.Generator().manual_seed(2))]
    assert predict(turned).tolist() == want.tolist()  # order in time is not heard
    with pytest.raises(PotstillError, match="learns from spectrograms"):
        BandStatistics().fit(x[:, 0], y, None, task, 0)
