"""Views are a function of seed, epoch and item: the same bits in every batch, order and process."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from potstill.augment.view_schedule import ViewSchedule
from potstill.errors import PotstillError
from potstill.rng import generator

N = 24
ALL = torch.arange(N)


def pictures(c: int = 3, h: int = 9, w: int = 7) -> Tensor:
    return torch.randn(N, c, h, w, generator=generator(0, "pictures", c, h, w))


@given(
    st.integers(0, 1000),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["none", "cutmix", "mixup"]),
    st.sampled_from([(1, 8, 8), (3, 9, 7), (2, 5, 16)]),
    st.sampled_from([{}, {"size": (6, 11)}, {"scale": None, "pad": 3}, {"patches": 2, "scale": (0.5, 1.0)}]),
    st.integers(1, N),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_any_batch_in_any_order_has_the_same_bits(
    seed: int,
    epoch: int,
    mix: str,
    shape: tuple[int, int, int],
    options: dict[str, Any],
    batch: int,
    random: Any,
) -> None:
    x, views = pictures(*shape), ViewSchedule(seed=seed, mix=mix, mix_prob=0.8, mix_beta=0.7, **options)
    whole = views.view(x, epoch, ALL)
    assert whole.shape == (N, shape[0], *(options.get("size") or shape[1:]))
    order = torch.tensor(random.sample(range(N), N))
    parts = torch.cat([views.view(x, epoch, part) for part in order.split(batch)])
    assert torch.equal(parts, whole[order])


def test_golden_draws() -> None:
    """Frozen: a file that was written must always be read with the same views."""
    views, items = ViewSchedule(seed=3, mix_beta=0.8), torch.tensor([0, 1, 70_000])
    cuts = views.crops(5, items, (224, 200))
    assert cuts.box.tolist() == GOLDEN_BOXES
    assert cuts.flip.tolist() == GOLDEN_FLIPS
    mixes = views.mixes(5, items, 70_001, (3, 224, 200))
    assert mixes is not None
    assert mixes.box is not None
    assert mixes.partner.tolist() == GOLDEN_PARTNERS
    assert mixes.box.tolist() == GOLDEN_MIXES
    up = ViewSchedule(seed=3, mix="mixup", mix_beta=2.5).mixes(5, items, 70_001, (3, 224, 200))
    assert up is not None
    assert (up.share * 65536).tolist() == GOLDEN_SHARES


def test_a_view_is_the_crop_resized_and_mirrored() -> None:
    x, views = pictures(2, 12, 10), ViewSchedule(mix="none", size=(8, 6))
    cuts = views.crops(1, ALL, (12, 10))
    assert 4 < int(cuts.flip.sum()) < 20
    made = views.view(x.double(), 1, ALL)
    for i in range(N):
        top, left, h, w = cuts.box[i].tolist()
        part = x[i : i + 1, :, top : top + h, left : left + w].double()
        naive = F.interpolate(part, size=(8, 6), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(made[i], naive.flip(2) if cuts.flip[i] else naive, rtol=0, atol=1e-12)


def test_an_uncut_view_is_the_picture_itself() -> None:
    x = pictures()
    assert torch.equal(ViewSchedule(scale=None, flip=0, mix="none").view(x, 0, ALL), x)
    whole = ViewSchedule(scale=(1.0, 1.0), ratio=(7 / 9, 7 / 9), flip=0, mix="none")
    assert torch.equal(whole.view(x, 0, ALL), x)
    assert torch.equal(ViewSchedule(scale=None, flip=1.0, mix="none").view(x, 0, ALL), x.flip(3))


def test_a_shift_moves_the_picture_over_zeros() -> None:
    x, views = pictures(), ViewSchedule(scale=None, pad=2, mix="none", flip=0.5)
    cuts = views.crops(1, ALL, (9, 7))
    assert cuts.box[:, 2:].unique(dim=0).tolist() == [[9, 7]]
    assert {tuple(c) for c in cuts.box[:, :2].tolist()} <= {(i, j) for i in range(5) for j in range(5)}
    assert len(cuts.box[:, :2].unique(dim=0)) > 10  # of 25 places, 24 pictures
    made = views.view(x, 1, ALL)
    for item, (top, left) in enumerate(cuts.box[:, :2].tolist()):
        moved = F.pad(x[item], (2, 2, 2, 2))[:, top : top + 9, left : left + 7]
        assert torch.equal(made[item], moved.flip(2) if cuts.flip[item] else moved)
    corners = torch.cat([views.crops(e, ALL, (9, 7)).box[:, :2] for e in range(200)])
    found = corners.flatten().bincount(minlength=5) / corners.numel()
    assert (found - 0.2).abs().max() < 0.02


def test_cells_change_places_before_the_crop() -> None:
    x, views = pictures(2, 9, 7), ViewSchedule(scale=None, patches=2, mix="none", flip=0.0)
    cuts = views.crops(4, ALL, (9, 7))
    assert cuts.order is not None
    assert torch.equal(cuts.order.sort(1).values, torch.arange(4).expand(N, 4))
    made = views.view(x, 4, ALL)
    corners = [(0, 0), (0, 3), (4, 0), (4, 3)]
    for item in range(N):
        for (y, z), cell in zip(corners, cuts.order[item].tolist(), strict=True):
            top, left = corners[cell]
            assert torch.equal(made[item, :, y : y + 4, z : z + 3], x[item, :, top : top + 4, left : left + 3])
        assert torch.equal(made[item, :, 8], x[item, :, 8])  # what does not divide stays
    orders = torch.cat([ViewSchedule(patches=2).crops(e, ALL, (9, 7)).order for e in range(200)])  # type: ignore[misc]
    assert len(orders.unique(dim=0)) == 24
    with pytest.raises(PotstillError, match="no 10×10 cells"):
        ViewSchedule(patches=10).crops(0, ALL, (9, 7))


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_partners_are_mixed_in_with_their_own_view(mix: str) -> None:
    x, views = pictures(), ViewSchedule(mix=mix, mix_prob=0.6)
    alone = ViewSchedule(mix="none").view(x, 4, ALL)
    drawn = views.mixes(4, ALL, N, (3, 9, 7))
    assert drawn is not None
    made = views.view(x, 4, ALL)
    assert 3 < int((drawn.share == 1).sum()) < 20
    for i in range(N):
        other, share = alone[drawn.partner[i]], float(drawn.share[i])
        if drawn.box is None:
            torch.testing.assert_close(made[i], share * alone[i] + (1 - share) * other)
            continue
        top, bottom, left, right = drawn.box[i].tolist()
        wanted = alone[i].clone()
        wanted[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        assert torch.equal(made[i], wanted)
        assert share == pytest.approx(1 - (bottom - top) * (right - left) / 63)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_boxes_lie_inside(seed: int, h: int, w: int, one: float, two: float) -> None:
    views = ViewSchedule(seed=seed, scale=(min(one, two), max(one, two)))
    top, left, tall, wide = views.crops(0, torch.arange(50), (h, w)).box.unbind(1)
    assert int(torch.stack([top, left, tall - 1, wide - 1]).min()) >= 0
    assert int((top + tall).max()) <= h
    assert int((left + wide).max()) <= w


def test_areas_and_ratios_are_even() -> None:
    box = ViewSchedule(scale=(0.1, 0.5)).crops(0, torch.arange(4000), (500, 500)).box.double()
    area, ratio = box[:, 2] * box[:, 3] / 250_000, box[:, 3] / box[:, 2]
    assert stats.kstest(area.numpy(), stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
    edge = np.log(4 / 3)
    assert stats.kstest(np.log(ratio.numpy()), stats.uniform(-edge, 2 * edge).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("shape", "box"), [((4, 40), [0, 17, 4, 5]), ((40, 4), [17, 0, 5, 4]), ((20, 20), [0, 0, 20, 20])]
)
def test_what_never_fits_is_cut_from_the_middle(shape: tuple[int, int], box: list[int]) -> None:
    ratio = (3 / 4, 4 / 3) if shape[0] != shape[1] else (0.7, 0.7000001)
    drawn = ViewSchedule(scale=(1.0, 1.0), ratio=ratio).crops(0, torch.arange(5), shape).box
    if shape[0] == shape[1]:
        box = [0, 3, 20, 14]
    assert drawn.tolist() == [box] * 5


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0, 2.5])
def test_shares_are_beta(alpha: float) -> None:
    drawn = ViewSchedule(mix="mixup", mix_beta=alpha).mixes(0, torch.arange(4000), 4000, (3,))
    assert drawn is not None
    assert stats.kstest(drawn.share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert torch.equal((drawn.share * 65536).round(), drawn.share * 65536)


def test_every_item_is_a_partner_once_and_epochs_and_seeds_differ() -> None:
    drawn = [ViewSchedule(seed=s).mixes(e, ALL, N, (3, 9, 7)) for s, e in ((0, 0), (0, 1), (1, 0))]
    for d in drawn:
        assert d is not None
        assert d.partner.sort().values.tolist() == list(range(N))
    boxes = [ViewSchedule(seed=s).crops(e, ALL, (9, 7)).box.tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
    assert boxes[0] != boxes[1] != boxes[2] != boxes[0]


def test_fetched_inputs_are_fetched_once_and_only_where_needed() -> None:
    x, views, seen = pictures(), ViewSchedule(mix_prob=0.5), []

    def fetch(index: Tensor) -> Tensor:
        seen.extend(index.tolist())
        return x[index]

    index = torch.tensor([5, 5, 2])
    made = views.view(fetch, 2, index, N)
    assert torch.equal(made, views.view(x, 2, index))
    drawn = views.mixes(2, index, N, (3, 9, 7))
    assert drawn is not None
    assert sorted(seen) == sorted({5, 2, *drawn.partner[drawn.share < 1].tolist()})


def test_rows_of_a_table_are_mixed_and_nothing_else() -> None:
    x = torch.randn(N, 6, generator=generator(1))
    views = ViewSchedule(scale=None, flip=0, mix="mixup")
    made, drawn = views.view(x, 0, ALL), views.mixes(0, ALL, N, (6,))
    assert drawn is not None
    share = drawn.share[:, None]
    assert torch.equal(made, x * share + x[drawn.partner] * (1 - share))
    with pytest.raises(PotstillError, match="need pictures of floats"):
        ViewSchedule().view(x, 0, ALL)


def test_recipes_travel_as_json() -> None:
    for views in (
        ViewSchedule(),
        ViewSchedule(seed=9, scale=None, mix="none"),
        ViewSchedule(size=(4, 5), mix="mixup", patches=3),
        ViewSchedule(scale=None, pad=2),
    ):
        assert ViewSchedule.from_json(json.loads(json.dumps(views.to_json()))) == views


@pytest.mark.parametrize(
    "wrong",
    [{"scale": [0.5]}, {"seed": 1.5}, {"seed": True}, {"mix": 3}, {"size": [1.5, 2]}, {"flip": [1, 2]}, {"more": 1}],
)
def test_other_json_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PotstillError):
        ViewSchedule.from_json(ViewSchedule().to_json() | wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mix": "cutmixx"}, "did you mean.*cutmix"),
        ({"scale": (0.0, 1.0)}, "scale needs"),
        ({"ratio": (2.0, 1.0)}, "ratio needs"),
        ({"mix_beta": 0.0}, "mix_beta must be above 0"),
        ({"flip": 1.5}, "flip is a probability"),
        ({"size": (0, 4)}, "size is a height"),
        ({"size": (4, 4), "scale": None}, "needs crops"),
        ({"patches": 0}, "patches is at least 1"),
        ({"scale": None, "pad": -1}, "pad at least 0"),
        ({"pad": 2}, "either cropped or moved"),
    ],
)
def test_bad_recipes_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        ViewSchedule(**wrong)


def test_items_and_epochs_that_are_not_there_are_refused() -> None:
    x = pictures()
    with pytest.raises(PotstillError, match=r"0…23, but item 24"):
        ViewSchedule().view(x, 0, torch.tensor([1, 24]))
    with pytest.raises(PotstillError, match=r"but item -1"):
        ViewSchedule().view(x, 0, torch.tensor([-1]))
    with pytest.raises(PotstillError, match="epoch -1"):
        ViewSchedule().view(x, -1, ALL)
    with pytest.raises(PotstillError, match="give items=n"):
        ViewSchedule().view(lambda i: x[i], 0, ALL)
    with pytest.raises(PotstillError, match="need pictures of floats"):
        ViewSchedule().view((x * 10).to(torch.uint8), 0, ALL)


def test_gradients_reach_the_pictures_and_their_partners() -> None:
    x = pictures(1, 3, 3).double()[:3].requires_grad_()
    for mix in ("cutmix", "mixup"):
        views = ViewSchedule(mix=mix)
        assert torch.autograd.gradcheck(lambda t, v=views: v.view(t, 0, torch.arange(3)), (x,))


GOLDEN_BOXES = [[19, 15, 197, 184], [36, 31, 119, 108], [32, 1, 180, 198]]
GOLDEN_FLIPS = [False, False, False]
GOLDEN_PARTNERS = [61339, 17, 68319]
GOLDEN_MIXES = [[30, 112, 69, 143], [150, 204, 0, 27], [0, 99, 126, 200]]
GOLDEN_SHARES = [50741.0, 24460.0, 19405.0]
