"""Masks as targets: loss and mIoU against loops over pixels, pixels without a class, and masks that move."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.augment.siamese import Siamese
from potstill.core import TargetMovingAugmentation, registry
from potstill.rng import generator
from potstill.tasks import GEOMETRIC, IGNORED, PackedTargets, PixelTask, Segmentation, get_task

TASK = Segmentation(labels=("field", "road", "tree"))


def drawn(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, answers and masks; some pixels have no class, and no pixel of a mask is a tree."""
    rng = generator(seed, "masks")
    y = torch.randint(0, 2, (n, 4, 6), generator=rng)
    y[torch.rand(y.shape, generator=rng) < 0.2] = IGNORED
    output = torch.randn(n, 3, 4, 6, generator=rng, dtype=torch.float64)
    return output, TASK.predict(output), y


def naive_overlaps(answers: Tensor, y: Tensor, k: int) -> list[float]:
    found = []
    for c in range(k):
        both = either = 0
        for a, b in zip(answers.flatten().tolist(), y.flatten().tolist(), strict=True):
            if b != IGNORED:
                both += a == c and b == c
                either += c in (a, b)
        found.append(both / either if either else math.nan)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_that_of_a_loop_over_pixels(seed: int) -> None:
    _, answers, y = drawn(seed=seed)
    each = naive_overlaps(answers, y, 3)
    assert TASK.score(answers, y) == pytest.approx(sum(each) / 3, abs=1e-12)
    further = TASK.further_scores(answers, y, None)
    assert [further[f"IoU {name}"] for name in TASK.labels] == pytest.approx(each, abs=1e-12)
    known = y != IGNORED
    assert further["pixel_accuracy"] == pytest.approx(float((answers == y)[known].double().mean()))
    assert set(further) <= set(TASK.further_metrics)


def test_a_golden_score_and_classes_that_are_nowhere() -> None:
    y = torch.tensor([[[0, 0, 1, IGNORED]]])
    answers = torch.tensor([[[0, 1, 1, 1]]], dtype=torch.uint8)
    assert TASK.score(answers, y) == pytest.approx((1 / 2 + 1 / 2) / 2)  # no tree is in either
    assert "IoU tree" not in TASK.further_scores(answers, y, None)
    assert TASK.score(torch.tensor([[[0, 0, 1, 2]]]), y) == 1.0
    assert TASK.chance_score(y) == pytest.approx((2 / 3 + 0) / 2)
    assert TASK.score(answers, torch.full_like(y, IGNORED)) == 1.0


def test_the_loss_is_the_mean_over_pixels_that_have_a_class() -> None:
    output, _, y = drawn()
    total = [
        -float(output[i, :, r, c].log_softmax(0)[y[i, r, c]])
        for i, r, c in (y != IGNORED).nonzero().tolist()
    ]  # fmt: skip
    assert float(TASK.loss(output, y)) == pytest.approx(sum(total) / len(total))
    nothing = TASK.loss(output.requires_grad_(), torch.full_like(y, IGNORED))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, output)[0].any()


def test_masks_that_are_none_are_refused() -> None:
    _, answers, y = drawn()
    with pytest.raises(ValueError, match="0 … 2, or 255"):
        TASK.score(answers, torch.where(y == 0, 7, y))
    with pytest.raises(ValueError, match="one shape"):
        TASK.score(answers[:, :2], y)
    for stored in (torch.zeros(2, 3, 3).long(), torch.full((1, 1, 2, 2), 4), torch.zeros(1, 1, 2, 2)):
        with pytest.raises(ValueError, match="masks must"):
            TASK.unpack_targets(stored)


def test_a_file_has_masks_in_few_bits() -> None:
    _, _, y = drawn()
    assert isinstance(TASK, PackedTargets)
    assert isinstance(TASK, PixelTask)
    packed = TASK.pack_targets(y.to(torch.uint8))
    assert packed.shape == (5, 1, 4, 6)
    assert int(packed.max()) == 3
    assert torch.equal(TASK.unpack_targets(packed), y)


MOVING = sorted(
    name for name in registry.names("augmentations", outside=False)
    if isinstance(make := registry.resolve("augmentations", name)(), TargetMovingAugmentation) and make.geometric
)  # fmt: skip
ALONE: dict[str, Any] = {name: Siamese(strategy=(name,)) for name in ("crop", "flip", "scale", "rotate")}
CASES = {name: registry.resolve("augmentations", name)() for name in MOVING} | ALONE


def test_every_operation_that_moves_pixels_is_among_the_cases() -> None:
    assert {operation for augment in CASES.values() for operation in augment.geometric} == set(GEOMETRIC)
    assert {op for augment in ALONE.values() for op in augment.geometric} == {"flip", "rotate", "scale", "shift"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_masks_move_with_the_pixels_of_every_operation(name: str) -> None:
    """Each class is drawn into a channel of its own; after the operation, the mask is the channel with most of it."""
    augment = CASES[name]
    ink = potstill.load_data("digits").train.raw(torch.arange(12)).repeat_interleave(2, 2).repeat_interleave(3, 3)
    first = (ink[:, 0] > 0.4).long()
    y = torch.where(first == 1, 1 + torch.arange(12)[:, None, None] % 2, 0)
    x = torch.nn.functional.one_hot(y, 3).movedim(-1, 1).float()
    changed = 0
    for seed in range(20):
        params = augment.draw(len(x) if seed % 2 else 1, (3, 16, 24), generator(seed, name))
        movement = augment.movement(params, (3, 16, 24))
        shares = movement.maps(x)
        moved = TASK.move_targets(y.to(torch.uint8), movement)
        assert moved.dtype == torch.uint8
        outside = 1 - shares.sum(1, keepdim=True)
        likeliest = torch.cat([shares, outside], 1).argmax(1)
        expected = torch.where(likeliest == 3, IGNORED, likeliest)
        ties = torch.cat([shares, outside], 1).topk(2, 1).values
        clear = ties[:, 0] - ties[:, 1] > 1e-5
        assert torch.equal(moved[clear].long(), expected[clear])
        changed += int((moved != y).any())
    assert changed > 5


def test_a_source_of_masks_says_its_task(tmp_path) -> None:
    from tests.mask_data import squares

    x, masks = squares(10)
    splits = potstill.load_data((x, masks), task="segmentation")
    task = get_task(splits.train)
    assert isinstance(task, Segmentation)
    assert task.labels == ("0", "1", "2")
    batch = splits.train.fetch(torch.arange(3))
    assert batch.y is not None
    assert batch.y.shape == (3, 16, 16)
