"""FRePo's augmentation: each operation against what it says, one for a batch, each sample on its own."""

import math

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from potstill.augment.frepo import OPERATIONS, FRePoAugment, frepo, frepo_noflip
from potstill.augment.siamese import SiameseParams
from potstill.errors import PotstillError
from potstill.rng import generator

SHAPE = (3, 12, 16)


def pictures(n: int = 5) -> Tensor:
    return torch.rand(n, *SHAPE, generator=generator(1, "pictures"), dtype=torch.float64)


def drawn(operation: str, n: int = 5, seed: int = 0) -> SiameseParams:
    return FRePoAugment(strategy=(operation,)).draw(n, SHAPE, generator(seed, operation))


def resampled(x: Tensor, matrix: list[list[float]], offset: list[float]) -> Tensor:
    """Bilinear sampling around the middle by SciPy, edges repeated."""
    h, w = x.shape[1:]
    middle = torch.tensor([(h - 1) / 2, (w - 1) / 2], dtype=torch.float64)
    m = torch.tensor(matrix, dtype=torch.float64)
    shift = middle - m @ middle + torch.tensor(offset, dtype=torch.float64)
    planes = [
        ndimage.affine_transform(p.numpy(), m.numpy(), shift.numpy(), order=1, mode="nearest", prefilter=False)
        for p in x
    ]
    return torch.stack([torch.from_numpy(p) for p in planes])


@pytest.mark.parametrize("operation", ["crop", "rotate", "translate"])
def test_pixels_come_from_where_the_publication_takes_them(operation: str) -> None:
    x, d = pictures(), drawn(operation)
    made = FRePoAugment().apply(x, d)
    h, w = SHAPE[1:]
    for i in range(len(x)):
        v = {name: float(t[i]) for name, t in d.values.items()}
        if operation == "rotate":
            cos, sin = math.cos(v["angle"]), math.sin(v["angle"])
            matrix, offset = [[cos, sin], [-sin, cos]], [0.0, 0.0]
        else:
            zoom = v.get("zoom", 1.0)
            matrix, offset = [[1 / zoom, 0.0], [0.0, 1 / zoom]], [v["y"] * h / 2, v["x"] * w / 2]
        torch.testing.assert_close(made[i], resampled(x[i], matrix, offset), rtol=0, atol=1e-9)


def test_parameters_lie_in_the_published_ranges_and_fill_them() -> None:
    n = 4000
    crop, shift = drawn("crop", n).values, drawn("translate", n).values
    assert 0.8 <= float(crop["zoom"].min()) < 0.802
    assert 1.248 < float(crop["zoom"].max()) <= 1.25
    assert abs(float(crop["zoom"].log().mean())) < 0.01
    # the window of an enlarged picture lies within it: its centre moves by half of what it is larger
    assert bool((crop["y"].abs() <= (crop["zoom"] - 1).abs() / crop["zoom"]).all())
    assert 0.245 < float(shift["x"].max()) <= 0.25  # an eighth of the side, in units of half of it
    angle = drawn("rotate", n).values["angle"] * 180 / math.pi
    assert 14.9 < float(angle.max()) <= 15
    color = drawn("color", n).values
    assert 0.249 < float(color["brightness"].max()) <= 0.25
    assert math.exp(-0.25) <= float(color["contrast"].min()) < math.exp(-0.249)


def test_color_is_brightness_then_contrast_then_saturation() -> None:
    x, d = pictures(), drawn("color")
    made = FRePoAugment().apply(x, d)
    for i in range(len(x)):
        v = {name: float(t[i]) for name, t in d.values.items()}
        y = x[i] + v["brightness"]
        y = (y - y.mean()) * v["contrast"] + y.mean()
        grey = y.mean(0)
        torch.testing.assert_close(made[i], (y - grey) * v["saturation"] + grey)


def test_cutout_is_a_whole_rectangle_of_a_quarter_of_each_side() -> None:
    made = FRePoAugment().apply(torch.ones(300, *SHAPE), drawn("cutout", 300))
    holes = made == 0
    assert bool((holes.sum((2, 3)) == 3 * 4).all())
    covered = holes.any(0).any(0)
    assert bool(covered.all())  # also the corners


def test_one_operation_for_a_batch_and_none_but_flip_leaves_it_out() -> None:
    rng = generator(3, "draws")
    seen = {frepo().draw(2, SHAPE, rng).groups for _ in range(200)}
    assert seen == {(operation,) for operation in OPERATIONS}
    assert {frepo_noflip().draw(2, SHAPE, rng).groups[0] for _ in range(200)} == set(OPERATIONS) - {"flip"}
    x, d = pictures(200), drawn("flip", 200)
    made = FRePoAugment().apply(x, d)
    flipped = d.values["flip"]
    assert 70 < int(flipped.sum()) < 130
    assert torch.equal(made[flipped], x[flipped].flip(3))
    assert torch.equal(made[~flipped], x[~flipped])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_draw_can_be_shared(operation: str) -> None:
    x, d = pictures(), drawn(operation, 1)
    whole = FRePoAugment().apply(x, d)
    assert whole.shape == x.shape
    each = torch.cat([FRePoAugment().apply(x[i : i + 1], d) for i in range(len(x))])
    torch.testing.assert_close(whole, each)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(PotstillError, match="unknown augmentation 'blur'"):
        FRePoAugment(strategy=("blur",))
    with pytest.raises(PotstillError, match="needs pictures"):
        frepo().draw(2, (7,), generator(0))
    with pytest.raises(ValueError, match="drawn for 5 samples"):
        frepo().apply(pictures(4), drawn("flip"))
