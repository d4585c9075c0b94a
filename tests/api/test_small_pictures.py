"""A method's own tiles and bases on pictures too small for them: benchmarks/tiny_pictures.py says why."""

import torch

import potstill
from potstill.data import TensorSource
from potstill.parametrize.tiles import Tiles


def _pictures(height: int, width: int) -> TensorSource:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    return TensorSource.make(torch.rand(40, 1, height, width, generator=rng), labels, name="made")


def _stored(source, method="m3d", **options):
    small = potstill.distill(
        source, method, ipc=1, preset="quick", iterations=1, network="convnet-d1-w4", codec="float32", device="cpu",
        progress=None, **options,
    )  # fmt: skip
    return small.metadata["config"]["parametrization"], len(small)


def test_pictures_of_fewer_than_eight_pixels_a_cell_stay_whole():
    assert _stored(_pictures(8, 8)) == ("pixels", 2)
    assert _stored(_pictures(28, 13)) == ("pixels", 2)


def test_so_do_those_whose_shared_bases_would_have_fewer():
    assert _stored(_pictures(8, 8), "remember", inner_steps=1) == ("pixels", 2)
    assert _stored(_pictures(26, 28), "remember", inner_steps=1) == ("pixels", 2)
    assert _stored(_pictures(28, 27), "remember", inner_steps=1)[0] == "memory"


def test_larger_ones_and_those_of_whoever_asks_are_cut():
    assert _stored(_pictures(16, 15)) == ("tiles", 8)
    assert _stored(_pictures(8, 8), parametrization="tiles") == ("tiles", 8)


def test_a_plan_says_so():
    said = potstill.plan(_pictures(8, 8), "m3d", ipc=1, network="convnet-d1-w4", device="cpu")
    assert any("cells of 4 × 4" in note for note in said.notes), said.notes


def test_a_cell_has_the_pixels_of_its_rounded_share():
    assert Tiles(factor=2).stored_size((1, 28, 13)) == (14, 7)
    assert Tiles(factor=3).stored_size((3, 32, 32)) == (11, 11)
