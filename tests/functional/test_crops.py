"""Crops and mosaics: bounds along the curriculum, positions cell by cell, and sizes that do not divide."""

import math

import pytest
import torch
import torch.nn.functional as F

from potstill.functional.crops import assemble_mosaics, crop_resize, min_crop_area, pad_centre
from potstill.rng import generator


def test_the_curriculum_at_its_ends_and_in_the_middle() -> None:
    assert min_crop_area(0, 100, 0.08, "cosine") == 1.0
    assert min_crop_area(50, 100, 0.08, "cosine") == pytest.approx(0.08 + 0.92 / 2)
    assert min_crop_area(100, 100, 0.08, "cosine") == 0.08
    assert min_crop_area(25, 100, 0.08, "cosine") == pytest.approx(0.08 + 0.92 * (1 + math.cos(math.pi / 4)) / 2)
    assert [min_crop_area(t, 100, 0.2, "linear") for t in (0, 50, 100)] == pytest.approx([1, 0.6, 0.2])
    assert [min_crop_area(t, 100, 0.2, "step", 0.5) for t in (0, 49, 50, 99)] == [1, 1, 0.2, 0.2]
    assert [min_crop_area(t, 100, 0.2, "none") for t in (0, 99)] == [0.2, 0.2]


def test_a_milestone_ends_the_fall_early() -> None:
    assert min_crop_area(25, 100, 0.08, "cosine", 0.5) == pytest.approx(0.54)
    assert min_crop_area(50, 100, 0.08, "cosine", 0.5) == 0.08
    assert min_crop_area(0, 100, 0.08, "cosine", 0.0) == 0.08


def test_a_crop_is_the_box_resized() -> None:
    x = torch.rand(2, 3, 8, 9, generator=generator(1), dtype=torch.float64)
    box = (1, 2, 4, 5)
    expected = F.interpolate(x[:, :, 1:5, 2:7], (8, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crop_resize(x, box, (8, 9)), expected)
    assert torch.equal(crop_resize(x, (0, 0, 8, 9), (8, 9)), x)
    torch.testing.assert_close(crop_resize(x[0], box, (8, 9)), expected[0])
    smaller = crop_resize(x, (0, 0, 8, 8), (2, 2))
    torch.testing.assert_close(smaller.mean(), x[..., :8].mean(), atol=0.05, rtol=0)
    assert torch.autograd.gradcheck(lambda z: crop_resize(z, box, (4, 4)), (x[:1, :1].clone().requires_grad_(),))


def test_a_patch_stands_in_the_middle_of_nothing() -> None:
    whole = pad_centre(torch.ones(1, 1, 2, 3), (5, 6))
    assert whole.sum() == 6
    assert torch.equal(whole[0, 0, 1:3, 1:4], torch.ones(2, 3))


def test_cell_j_of_picture_i_is_patch_j_n_plus_i() -> None:
    patches = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 2, 2)  # patch p is all p
    made = assemble_mosaics(patches, 2, (4, 4))
    assert made.shape == (2, 1, 4, 4)
    for i in range(2):
        corners = [float(made[i, 0, y, x]) for y in (0, 3) for x in (0, 3)]
        assert corners == [0 * 2 + i, 1 * 2 + i, 2 * 2 + i, 3 * 2 + i]


def test_odd_sides_are_covered_to_the_last_pixel() -> None:
    patches = torch.arange(1.0, 5).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    made = assemble_mosaics(patches, 2, (5, 7))
    assert (made > 0).all()
    assert [float(made[0, 0, y, x]) for y in (0, 4) for x in (0, 6)] == [1, 2, 3, 4]
    assert (float(made[0, 0, 1, 0]), float(made[0, 0, 2, 0])) == (1, 3)  # two rows, then three
    whole = torch.rand(3, 1, 4, 4, generator=generator(2))
    assert torch.equal(assemble_mosaics(whole, 1, (4, 4)), whole)
