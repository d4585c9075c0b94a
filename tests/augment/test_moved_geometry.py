"""What an augmentation moves: every operation says it, it can be left out, and targets move by the same draw."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import potstill
from potstill.augment.dc import dc, dc_batch_norm
from potstill.augment.frepo import frepo, frepo_noflip
from potstill.augment.siamese import Siamese
from potstill.core import GeometricAugmentation, TargetMovingAugmentation, registry
from potstill.rng import generator
from potstill.tasks import GEOMETRIC, Movement, move_boxes, move_maps

OF_SERIES = {"series"}
"""Augmentations that are for no pictures."""
ALL = {
    name: registry.resolve("augmentations", name)
    for name in registry.names("augmentations", outside=False) if name not in OF_SERIES
}  # fmt: skip
ALL |= {"dc": dc, "dc-batch-norm": dc_batch_norm, "frepo": frepo, "frepo-noflip": frepo_noflip}
MOVING = sorted(name for name, make in ALL.items() if isinstance(make(), TargetMovingAugmentation) and make().geometric)


def shapes() -> Tensor:
    """Real digits, as masks on pictures that are not square: 1 where there is ink."""
    x = potstill.load_data("digits").train.raw(torch.arange(24))
    assert isinstance(x, Tensor)
    return F.pad((x > 0.4).float().repeat_interleave(2, 2).repeat_interleave(2, 3), (3, 5, 1, 2))


def drawn(name: str, seed: int) -> tuple[Tensor, Tensor, Movement]:
    """Real shapes, the same after one draw that moves them, and how they were moved."""
    augment, x = ALL[name](), shapes()
    shape = tuple(x.shape[1:])
    params = augment.draw(len(x) if seed % 2 else 1, shape, generator(seed, name))
    groups = getattr(params, "groups", ())
    movement = augment.movement(params, shape)
    if set(groups) & {"color", "cutout"}:  # what moves of this draw alone
        return x, movement.maps(x), movement
    return x, augment.apply(x, params), movement


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_augmentation_says_what_moves_pixels_and_what_is_left_without_it_moves_none(name: str) -> None:
    augment = ALL[name]()
    assert isinstance(augment, GeometricAugmentation)
    assert set(augment.geometric) <= set(GEOMETRIC)
    still = augment.without(augment.geometric)
    assert isinstance(still, GeometricAugmentation)
    assert still.geometric == ()
    for seed in range(40):
        x = torch.zeros(1, 1, 12, 16)
        row, column = seed % 12, 5 * seed % 16
        x[0, 0, row, column] = 1.0
        y = still.apply(x, still.draw(1, (1, 12, 16), generator(seed)))[0, 0]
        beside = [y[(row + 3) % 12, column], y[row, (column + 3) % 16], y[(row + 6) % 12, (column + 8) % 16]]
        seen = (y - torch.stack(beside).median()).abs()
        if name not in ("dc-batch-norm",) and seen[row, column] > 1e-6:  # not erased; noise is everywhere
            rest = y.flatten().unique(dim=0)  # type: ignore[no-untyped-call]
            assert len(rest) <= 3  # background, an erased square, and the pixel at its place
        assert y.shape == (12, 16)


@pytest.mark.parametrize("name", MOVING)
def test_a_moved_picture_and_its_moved_mask_agree_pixel_by_pixel(name: str) -> None:
    for seed in range(30):
        x, moved, movement = drawn(name, seed)
        mask = move_maps(x[:, 0].long(), movement)
        assert torch.equal(mask, (moved[:, 0] > 0.5).long())


@pytest.mark.parametrize("name", MOVING)
def test_real_maps_are_interpolated_as_pixels_are_and_classes_stay_classes(name: str) -> None:
    for seed in range(6):
        x, moved, movement = drawn(name, seed)
        torch.testing.assert_close(move_maps(x * 7 - 2, movement, fill=-2.0), moved * 7 - 2)
        kinds = (x[:, 0] * (1 + torch.arange(len(x)) % 3)[:, None, None]).long() * 10
        found = move_maps(kinds, movement)
        assert set(found.unique().tolist()) <= {0, 10, 20, 30}  # type: ignore[no-untyped-call]
        assert torch.equal(found > 0, moved[:, 0] > 0.5)


@pytest.mark.parametrize("name", [n for n in MOVING if "patches" not in n])
def test_the_matrix_says_where_each_pixel_comes_from(name: str) -> None:
    for seed in range(20):
        x, moved, movement = drawn(name, seed)
        assert movement.matrix is not None
        theta = movement.matrix[:, :2].float().expand(len(x), 2, 3)
        border = "frepo" in name or "rrc" in name or name == "flip"
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        again = F.grid_sample(x, grid, padding_mode="border" if border else "zeros", align_corners=False)
        inner = (slice(None), slice(None), slice(3, -3), slice(3, -3)) if "rrc" in name or name == "flip" else ...
        torch.testing.assert_close(again[inner], moved[inner], atol=2e-5, rtol=0)  # a crop's edge is held


@pytest.mark.parametrize("name", [n for n in MOVING if "patches" not in n])
def test_a_moved_box_is_around_what_it_was_around(name: str) -> None:
    x = torch.zeros(4, 1, 40, 60)
    boxes = torch.tensor([[20.0, 12, 32, 22], [22, 14, 30, 30], [18, 10, 42, 16], [25, 18, 33, 24]])
    for picture, (left, top, right, bottom) in zip(x[:, 0], boxes.int().tolist(), strict=True):
        picture[top:bottom, left:right] = 1
    augment = ALL[name]()
    for seed in range(30):
        movement = augment.movement(augment.draw(4, (1, 40, 60), generator(seed)), (1, 40, 60))
        found = move_boxes(boxes[:, None], movement)[:, 0]
        for picture, box in zip(movement.maps(x)[:, 0], found.tolist(), strict=True):
            inside = (picture > 0.5).nonzero()
            if len(inside) == 0 or min(box[0], box[1]) <= 0 or box[2] >= 60 or box[3] >= 40:
                continue  # cut off at an edge, of the picture or of a crop
            (top, left), (bottom, right) = inside.amin(0).tolist(), (inside.amax(0) + 1).tolist()
            assert [left, top, right, bottom] == pytest.approx(box, abs=2.5)  # a turned box's corners are cut by half
            assert left >= box[0] - 0.6
            assert right <= box[2] + 0.6


def test_a_box_that_left_the_picture_has_no_area() -> None:
    augment = Siamese(strategy=("crop",), ratio_crop_pad=0.5)
    params = augment.draw(1, (1, 8, 8), generator(0))
    params.values["crop_x"][:], params.values["crop_y"][:] = 4, 0
    found = move_boxes(torch.tensor([[[0.0, 0, 3, 3], [2, 0, 8, 8]]]), augment.movement(params, (1, 8, 8)))
    assert found.tolist() == [[[0, 0, 0, 3], [0, 0, 4, 8]]]


def test_boxes_of_shuffled_patches_are_refused() -> None:
    augment = ALL["patches"]()
    movement = augment.movement(augment.draw(1, (1, 8, 8), generator(0)), (1, 8, 8))
    with pytest.raises(ValueError, match="patches change places"):
        move_boxes(torch.zeros(1, 1, 4), movement)
