"""Sets of series with classes: made, written, measured, shown and exported as those of other kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.augment.series import AlongTime
from potstill.core import Splits
from potstill.functional.transforms import dct_matrix
from tests.series_data import classified

QUICK: dict[str, Any] = {"seed": 0, "progress": None, "codec": "exact"}


@pytest.fixture(scope="module")
def waves() -> Splits:
    return potstill.load_data((*classified(each=20), *classified(each=20, seed=1)), kind="series")


@pytest.mark.parametrize(("method", "options"), [
    ("random", {}), ("herding", {}), ("k-means", {}), ("k-center", {}), ("random-soft", {}),
    ("dm", {"iterations": 4}), ("kip", {"steps": 4}), ("frepo", {"steps": 2}), ("dc", {"iterations": 1}),
])  # fmt: skip
def test_methods_make_sets_that_are_read_again(
    waves: Splits, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    steps = {"steps": next(iter(options.values()))} if options else {}
    small = potstill.distill(waves, method, ipc=2, **steps, **QUICK)
    again = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert again.inputs.shape == (6, 2, 32)
    assert torch.equal(again.inputs, small.inputs)
    assert again.input.kind == "signal"
    assert again.input.columns == ("channel 1", "channel 2")


def test_the_default_network_and_augmentation_of_methods(waves: Splits) -> None:
    small = potstill.distill(waves, "dm", ipc=1, steps=1, **QUICK)
    assert small.metadata["config"]["network"] == "mlp"
    assert small.metadata["config"]["augment"] == "none"
    named = potstill.distill(waves, "dm", ipc=1, steps=1, augment="series", **QUICK)
    assert named.metadata["config"]["augment"] == "series"
    assert not torch.equal(named.inputs, small.inputs)


def test_few_cosines_along_time(waves: Splits, tmp_path: Path) -> None:
    small = potstill.distill(waves, "dm", items=12, steps=2, parametrization="frequency:kept=6", **QUICK)
    numbers = potstill.distill(waves, "dm", items=12, steps=2, **QUICK)
    assert len(small) > 2 * len(numbers)  # in the same bytes
    assert small.metadata["bytes"]["total"] <= numbers.metadata["bytes"]["total"]
    coefficients = torch.as_tensor(small.inputs) - waves.train.normalization.mean[:, None]
    coefficients = (
        coefficients / waves.train.normalization.std[:, None] @ dct_matrix(32, torch.float32, torch.device("cpu")).T
    )
    for c in range(3):
        of_class = coefficients[small.hard_labels == c].abs().amax((0, 1))
        assert int((of_class > 1e-4).sum()) <= 6
        assert int(of_class.argmax()) in range(4 * (c + 1) - 2, 4 * (c + 1) + 3)  # 2 + 2c waves: twice as many halves
    assert torch.equal(potstill.load(small.save(tmp_path / "f.safetensors")).inputs, small.inputs)


def test_a_scorecard_a_page_and_a_table(waves: Splits, tmp_path: Path) -> None:
    small = potstill.distill(waves, "herding", ipc=3, seed=0, progress=None)
    card = potstill.evaluate(
        small, waves, networks=["minirocket:features=840", "neighbours:k=1"], seeds=1, full=False, baselines=False,
        robust_scores=False, progress=None,
    )  # fmt: skip
    assert card.accuracy > 0.7
    small.save(tmp_path / "s.safetensors")
    card.save(tmp_path / "s.scorecard.json")
    page = potstill.report(tmp_path, tmp_path / "page.html").read_text()
    assert page.count('aria-label="Series ') == 9
    assert "9 of 9 series, by class" in page
    potstill.export(small, "csv", tmp_path / "s.csv")
    back = potstill.load_data(tmp_path / "s.csv", series="series", label="label", test_fraction=0).train
    assert torch.allclose(back.raw(torch.arange(9)), small.inputs, atol=1e-5)
    assert back.labels.tolist() == small.hard_labels.tolist()


def test_reading_options_are_read_from_the_set(tmp_path: Path) -> None:
    x, y = classified(each=8, length=20)
    rows = [
        f"{n},{t},{x[n, 0, t]:.6f},{x[n, 1, t]:.6f},c{y[n]}"
        for n in range(len(y)) for t in range(20 - n % 3)
    ]  # fmt: skip
    path = tmp_path / "moves.csv"
    path.write_text("\n".join(["who,time,a,b,move", *rows]) + "\n")
    options: dict[str, Any] = {"series": "who", "label": "move", "representation": "resample:length=16"}
    small = potstill.distill(potstill.load_data(path, **options), "random", ipc=2, **QUICK)
    assert small.metadata["reading"] == options
    card = potstill.evaluate(
        small, path, networks="neighbours:k=1", seeds=1, full=False, baselines=False, robust_scores=False, progress=None
    )
    assert card.to_dict()["data"]["made_of_train"] is True


def test_the_augmentation_by_a_loop() -> None:
    augment, x = AlongTime(), torch.tensor(classified(each=2)[0], dtype=torch.float64)
    params = augment.draw(6, (2, 32), torch.Generator().manual_seed(0))
    found = augment.apply(x, params)
    by_loop = np.empty(x.shape)
    for n in range(6):
        at = (np.arange(32) - 15.5) * float(params.speed[n]) + 15.5 + float(params.shift[n])
        for c in range(2):
            by_loop[n, c] = np.interp(at, np.arange(32), x[n, c]) * float(params.factor[n, c])
    assert np.allclose(found.numpy(), by_loop + params.noise.numpy(), atol=1e-6)
    with pytest.raises(
        potstill.PotstillError, match=r"needs series \(channels, length\), but one input is \(3, 8, 8\)"
    ):
        augment.draw(2, (3, 8, 8), torch.Generator())
