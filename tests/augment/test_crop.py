"""Crops against torch's own crop and resize, their ranges, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.augment.crop import CropParams, Crops, PadCrop, boxes, crop_and_resize
from potstill.errors import PotstillError
from potstill.rng import generator


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 20), st.integers(4, 20), st.integers(1, 3))
def test_each_crop_is_that_of_slicing_and_interpolating(seed: int, h: int, w: int, c: int) -> None:
    rng = generator(seed)
    x = torch.rand(5, c, h, w, generator=rng, dtype=torch.float64)
    box = boxes(5, h, w, (0.08, 1.0), (3 / 4, 4 / 3), rng)
    made = crop_and_resize(x, box, (h, w))
    for picture, (top, left, tall, wide), got in zip(x, box.tolist(), made, strict=True):
        assert top >= 0
        assert left >= 0
        assert top + tall <= h
        assert left + wide <= w
        assert tall >= 1
        assert wide >= 1
        part = picture[None, :, top : top + tall, left : left + wide]
        want = F.interpolate(part, (h, w), mode="bilinear", align_corners=False)[0]
        assert (got - want).abs().max() < 1e-12


def test_areas_and_ratios_are_in_range_and_spread() -> None:
    box = boxes(4000, 100, 100, (0.25, 0.5), (3 / 4, 4 / 3), generator(1)).double()
    area, side = box[:, 2] * box[:, 3] / 1e4, box[:, 3] / box[:, 2]
    assert area.min() > 0.24
    assert area.max() < 0.51
    assert abs(float(area.mean()) - 0.375) < 0.005  # uniform: all of these fit at the first attempt
    assert side.min() > 0.73
    assert side.max() < 1.37
    assert abs(float(side.log().mean())) < 0.01
    middle = (box[:, 0] + box[:, 2] / 2).mean()
    assert abs(float(middle) - 50) < 1


def test_where_no_attempt_fits_the_largest_centred_crop_is_taken() -> None:
    box = boxes(3, 10, 40, (1.0, 1.0), (3 / 4, 4 / 3), generator(0))  # all of so flat a picture has no such ratio
    assert box.tolist() == [[0, (40 - 13) // 2, 10, 13]] * 3


def test_a_shuffle_moves_whole_cells_and_loses_none() -> None:
    x = torch.arange(25.0).view(1, 1, 5, 5).expand(6, 1, 5, 5)  # one row and one column are left over
    augment = Crops(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, patches=2)
    drawn = augment.draw(6, (1, 5, 5), generator(4))
    made = augment.apply(x, drawn)
    cells = [[0, 1, 5, 6], [2, 3, 7, 8], [10, 11, 15, 16], [12, 13, 17, 18]]
    assert torch.equal(made[:, :, 4], x[:, :, 4])
    assert torch.equal(made[:, :, :, 4], x[:, :, :, 4])
    for order, picture in zip(drawn.order.tolist(), made[:, 0], strict=True):
        found = [picture[i : i + 2, j : j + 2].flatten().tolist() for i in (0, 2) for j in (0, 2)]
        assert found == [[float(v) for v in cells[o]] for o in order]
    assert len({tuple(o) for o in drawn.order.tolist()}) > 1


@pytest.mark.parametrize("augment", [Crops(), PadCrop(), Crops(patches=2)])
def test_one_draw_serves_a_batch_and_each_sample_can_have_its_own(augment: Crops | PadCrop) -> None:
    x = torch.rand(7, 3, 8, 8, generator=generator(0), dtype=torch.float64)
    shared: CropParams = augment.draw(1, (3, 8, 8), generator(5))
    torch.testing.assert_close(augment.apply(x, shared)[2:3], augment.apply(x[2:3], shared), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="drawn for 3 samples, but the batch has 7"):
        augment.apply(x, augment.draw(3, (3, 8, 8), generator(5)))


def test_a_shift_is_a_slice_of_the_padded_picture() -> None:
    x, augment = torch.rand(40, 2, 6, 5, generator=generator(0)), PadCrop(pad=2)
    drawn = augment.draw(40, (2, 6, 5), generator(9))
    wide = F.pad(x, (2, 2, 2, 2))
    for picture, (top, left, *_), flip, got in zip(
        wide, drawn.box.tolist(), drawn.flip.tolist(), augment.apply(x, drawn), strict=True
    ):
        want = picture[:, top : top + 6, left : left + 5]
        assert torch.equal(got, want.flip(2) if flip else want)
    assert {*drawn.box[:, 0].tolist()} == {0, 1, 2, 3, 4} == {*drawn.box[:, 1].tolist()}
    assert 5 < int(drawn.flip.sum()) < 35


def test_what_cannot_be_is_refused() -> None:
    for settings_, message in (
        ({"scale": (0.0, 1.0)}, "scale must be"),
        ({"ratio": (2.0, 1.0)}, "ratio must be"),
        ({"flip": 2.0}, "flip must"), ({"patches": 0}, "patches at least 1"),
    ):  # fmt: skip
        with pytest.raises(PotstillError, match=message):
            Crops(**settings_)  # type: ignore[arg-type]
    with pytest.raises(PotstillError, match="needs pictures"):
        Crops().draw(1, (4,), generator(0))
    with pytest.raises(PotstillError, match="8×8 cannot be cut into 9×9"):
        Crops(patches=9).draw(1, (1, 8, 8), generator(0))
