"""A kind from outside: its parts against the contract, then distilled, measured and drawn as any other."""

from pathlib import Path

import pytest
import torch
from potstill_spectra.augmentation import Drift
from potstill_spectra.kind import SPECTRA
from potstill_spectra.loader import read_spectra
from potstill_spectra.network import Peaks

import potstill
from potstill.data.read_options import ReadOptions
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.nn import factory, parse_network
from potstill.rng import generator
from potstill.tasks import Classification
from potstill.testing import check_augmentation, check_network, check_source

BINS = 48


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two minerals whose peaks are at other bins."""
    rng, at, lines = generator(0), torch.arange(BINS), []
    for name, peak in (("calcite", 12), ("quartz", 30)):
        for _ in range(40):
            centre = peak + torch.randn(1, generator=rng)
            curve = torch.exp(-((at - centre) ** 2) / 8) + 0.2 * torch.rand(BINS, generator=rng)
            lines.append(",".join([name, *(f"{v:.4f}" for v in curve.tolist())]))
    (tmp_path / "minerals.spectra").write_text("\n".join(lines) + "\n")
    return tmp_path / "minerals.spectra"


def test_the_loader(file: Path) -> None:
    splits = read_spectra(Classification(k=2), file, ReadOptions())
    check_source(splits.train)
    assert splits.train.classes == ("calcite", "quartz")
    assert splits.test is not None
    assert torch.bincount(splits.test.labels).tolist() == [8, 8]
    file.write_text("calcite,1,2\nquartz,1\n")
    with pytest.raises(PotstillError, match="as many bins as the first"):
        read_spectra(Classification(k=2), file, ReadOptions())


def test_the_network_and_the_augmentation(file: Path) -> None:
    spec = read_spectra(Classification(k=2), file, ReadOptions()).train.input
    check_network(factory(parse_network(Peaks), spec, 2), spec.shape, 2)
    check_augmentation(Drift(), spec.shape)
    x, drift = torch.zeros(3, 1, 5), Drift(line=1.0, gain=0.0)
    one = drift.apply(x, torch.tensor([[1.0, 3.0, 0.0]]))
    assert one[2].flatten().tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert drift.draw(4, (1, 5), generator(0)).equal(drift.draw(4, (1, 5), generator(0)))


def test_the_kind_is_asked_for_everything(file: Path) -> None:
    assert get_kind("spectra") is SPECTRA
    data = potstill.load_data(file)  # the loader accepts the file, so no kind is named
    small = potstill.distill(data, "dm", ipc=1, steps=3, progress=None)
    assert "potstill_spectra.network:Peaks" in small.metadata["network"]
    assert small.metadata["config"]["augment"] == "drift"
    assert small.inputs.shape == (2, 1, BINS)
    assert "64 spectra of 48 bins in 2 classes" in repr(data.train)
    assert small._repr_html_().count("<polyline") == 2
    score = potstill.evaluate(small, data, protocol="dc", epochs=40, seeds=2, baselines=False, full=False)
    assert score.score > 0.8
