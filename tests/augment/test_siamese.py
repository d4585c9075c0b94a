"""The siamese augmentation against a pixel-by-pixel reference, by hand, and as a function."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from potstill.augment.siamese import GROUPS, Siamese, SiameseParams, dsa, dsa_noflip, none
from potstill.core import Augmentation
from potstill.errors import PotstillError
from potstill.rng import generator

SHAPES = ((3, 8, 8), (1, 7, 10), (2, 9, 5))


def pictures(n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=generator(seed, "x"), dtype=dtype)


def at(picture: Tensor, c: int, r: int, k: int) -> float:
    h, w = picture.shape[1:]
    return float(picture[c, r, k]) if 0 <= r < h and 0 <= k < w else 0.0


def warp(picture: Tensor, theta: list[list[float]]) -> Tensor:
    """Bilinear look-up, from the definition: pixel centres at (2i + 1) / side − 1."""
    _, h, w = picture.shape
    out = torch.zeros_like(picture)
    for r in range(h):
        for k in range(w):
            u, v = (2 * k + 1) / w - 1, (2 * r + 1) / h - 1
            column = ((theta[0][0] * u + theta[0][1] * v + 1) * w - 1) / 2
            row = ((theta[1][0] * u + theta[1][1] * v + 1) * h - 1) / 2
            r0, k0 = math.floor(row), math.floor(column)
            for c in range(len(picture)):
                out[c, r, k] = sum(
                    at(picture, c, i, j) * (1 - abs(row - i)) * (1 - abs(column - j))
                    for i in (r0, r0 + 1)
                    for j in (k0, k0 + 1)
                )
    return out


def reference(group: str, picture: Tensor, v: dict[str, float], spec: Siamese) -> Tensor:
    channels, h, w = picture.shape
    out = picture.clone()
    if group == "color":
        out = out + v["brightness"]
        grey = sum(out[c] for c in range(channels)) / channels
        out = torch.stack([grey + (out[c] - grey) * v["saturation"] for c in range(channels)])
        mean = sum(float(p) for p in out.flatten()) / out.numel()
        return (out - mean) * v["contrast"] + mean
    if group == "flip":
        return torch.tensor(
            [[list(reversed(row)) if v["flip"] else row for row in plane] for plane in picture.tolist()],
            dtype=picture.dtype,
        )
    if group == "scale":
        return warp(picture, [[v["scale_x"], 0.0], [0.0, v["scale_y"]]])
    if group == "rotate":
        cos, sin = math.cos(v["angle"]), math.sin(v["angle"])
        return warp(picture, [[cos, -sin], [sin, cos]])
    side_y, side_x = (int(s * spec.ratio_cutout + 0.5) for s in (h, w))
    for c in range(channels):
        for r in range(h):
            for k in range(w):
                if group == "crop":
                    out[c, r, k] = at(picture, c, r + int(v["crop_y"]), k + int(v["crop_x"]))
                else:
                    top, left = int(v["cutout_y"]) - side_y // 2, int(v["cutout_x"]) - side_x // 2
                    if top <= r < top + side_y and left <= k < left + side_x:
                        out[c, r, k] = 0.0
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("n", [1, 4])
def test_every_group_equals_the_pixel_by_pixel_reference(group: str, shape: tuple[int, ...], n: int) -> None:
    spec = Siamese(strategy=(group,), ratio_crop_pad=0.3)
    x = pictures(4, shape)
    for seed in range(6):
        drawn = spec.draw(n, shape, generator(seed, "draw"))
        made = spec.apply(x, drawn)
        for i in range(4):
            v = {name: float(t[i if n == 4 else 0]) for name, t in drawn.values.items()}
            torch.testing.assert_close(made[i], reference(group, x[i], v, spec), rtol=1e-12, atol=1e-12)


def drawn(group: str, **values: float) -> SiameseParams:
    return SiameseParams((group,), {name: torch.tensor([value]) for name, value in values.items()}, 1)


def test_numbers_worked_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    aug = dsa()
    assert aug.apply(x, drawn("crop", crop_y=1, crop_x=0)).flatten().tolist() == [3, 4, 0, 0]
    assert aug.apply(x, drawn("crop", crop_y=0, crop_x=-1)).flatten().tolist() == [0, 1, 0, 3]
    assert aug.apply(x, drawn("cutout", cutout_y=0, cutout_x=1)).flatten().tolist() == [1, 0, 3, 4]
    assert aug.apply(x, drawn("flip", flip=True)).flatten().tolist() == [2, 1, 4, 3]
    # at a scale of 2 pixel centres fall half outside: a quarter weight on the corner's own value
    assert aug.apply(x, drawn("scale", scale_x=2.0, scale_y=2.0)).flatten().tolist() == [0.25, 0.5, 0.75, 1]
    # at 90 degrees pixel (r, k) looks up (k, −r): the right column, read down, becomes the top row
    turned = aug.apply(x, drawn("rotate", angle=math.pi / 2)).flatten()
    torch.testing.assert_close(turned, torch.tensor([2.0, 4.0, 1.0, 3.0]))
    two = torch.tensor([[[[1.0]], [[3.0]]]])
    # + 0.5 → 1.5, 3.5; saturation 2 about 2.5 → 0.5, 4.5; contrast 0.5 about 2.5 → 1.5, 3.5
    made = aug.apply(two, drawn("color", brightness=0.5, saturation=2.0, contrast=0.5))
    assert made.flatten().tolist() == [1.5, 3.5]


@pytest.mark.parametrize("group", GROUPS)
def test_a_shared_draw_is_the_same_draw_for_every_sample(group: str) -> None:
    spec = Siamese(strategy=(group,))
    x = pictures(5, (3, 8, 6))
    shared = spec.draw(1, (3, 8, 6), generator(3, "draw"))
    each = SiameseParams(shared.groups, {name: v.expand(5) for name, v in shared.values.items()}, 5)
    whole = spec.apply(x, shared)
    torch.testing.assert_close(whole, spec.apply(x, each), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(whole[:2], spec.apply(x[:2], shared), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("group", GROUPS)
def test_derivatives_to_the_second_order(group: str, n: int) -> None:
    spec = Siamese(strategy=(group,))
    params = spec.draw(n, (2, 5, 4), generator(1, "draw"))
    x = pictures(3, (2, 5, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: spec.apply(t, params), (x,))
    assert torch.autograd.gradgradcheck(lambda t: spec.apply(t, params) ** 2, (x,))


def test_functions_of_it_can_be_batched_by_vmap() -> None:
    spec = Siamese(strategy=("rotate",))
    params = spec.draw(1, (1, 5, 5), generator(1, "draw"))
    x = pictures(6, (1, 5, 5))
    slopes = torch.func.vmap(torch.func.grad(lambda t: (spec.apply(t[None], params) ** 2).sum()))(x)
    leaf = x.clone().requires_grad_()
    (spec.apply(leaf, params) ** 2).sum().backward()
    torch.testing.assert_close(slopes, leaf.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 4])
def test_pure_and_of_the_same_kind(dtype: torch.dtype, n: int) -> None:
    spec = Siamese(mode="M")
    x = pictures(4, (3, 8, 6), dtype)
    before = x.clone()
    params = spec.draw(n, (3, 8, 6), generator(5, "draw"))
    made = spec.apply(x, params)
    assert torch.equal(x, before)
    assert torch.equal(made, spec.apply(x, params))
    assert made.dtype == dtype
    assert made.shape == x.shape


def test_mode_s_draws_one_group_evenly_and_mode_m_all_in_turn() -> None:
    rng = generator(0, "groups")
    counts = dict.fromkeys(GROUPS, 0)
    for _ in range(1200):
        (group,) = dsa().draw(1, (3, 8, 8), rng).groups
        counts[group] += 1
    # binomial(1200, 1/6): six standard deviations are 77
    assert all(abs(count - 200) < 77 for count in counts.values())
    spec = Siamese(mode="M", strategy=("flip", "crop"))
    params = spec.draw(2, (3, 8, 8), rng)
    assert params.groups == ("flip", "crop")
    x = pictures(2, (3, 8, 8))
    alone = [Siamese(strategy=(g,)).apply for g in params.groups]
    after = alone[1](alone[0](x, replace(params, groups=("flip",))), replace(params, groups=("crop",)))
    assert torch.equal(spec.apply(x, params), after)


def test_values_stay_in_their_published_ranges_and_reach_their_ends() -> None:
    spec = Siamese(mode="M")
    v = spec.draw(4000, (3, 32, 20), generator(0, "ranges")).values
    ranges = {
        "brightness": (-0.5, 0.5),
        "saturation": (0.0, 2.0),
        "contrast": (0.5, 1.5),
        "scale_x": (1 / 1.2, 1.2),
        "scale_y": (1 / 1.2, 1.2),
        "angle": (-math.pi / 12, math.pi / 12),
    }
    for name, (low, high) in ranges.items():
        assert low <= float(v[name].min()) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < float(v[name].max()) <= high
    # 32 · 0.125 = 4; int(20 · 0.125 + 0.5) = 3; squares of 16 and 10 are even, so there is one place more
    assert [int(v[k].min()) for k in ("crop_y", "crop_x", "cutout_y", "cutout_x")] == [-4, -3, 0, 0]
    assert [int(v[k].max()) for k in ("crop_y", "crop_x", "cutout_y", "cutout_x")] == [4, 3, 32, 20]
    assert 0.45 < float(v["flip"].double().mean()) < 0.55
    odd = Siamese(strategy=("cutout",)).draw(2000, (1, 5, 9), generator(0, "odd")).values
    assert (int(odd["cutout_y"].max()), int(odd["cutout_x"].max())) == (4, 8)


def test_draws_come_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one = dsa().draw(3, (3, 8, 8), generator(9, "draw"))
    two = dsa().draw(3, (3, 8, 8), generator(9, "draw"))
    assert one.groups == two.groups
    assert all(torch.equal(one.values[name], two.values[name]) for name in one.values)
    assert torch.equal(state, torch.random.get_rng_state())


def test_factories_are_augmentations() -> None:
    x = pictures(2, (1, 4, 4))
    for aug in (none(), dsa(), dsa_noflip()):
        assert isinstance(aug, Augmentation)
        assert aug.apply(x, aug.draw(2, (1, 4, 4), generator(0, "draw"))).shape == x.shape
    assert none().apply(x, none().draw(1, (7,), generator(0, "draw"))) is x
    assert set(GROUPS) - set(dsa_noflip().strategy) == {"flip"}


def test_misuse_is_told() -> None:
    with pytest.raises(PotstillError, match="unknown augmentation group 'colour'; did you mean color"):
        Siamese(strategy=("colour",))
    with pytest.raises(PotstillError, match=r"ratio_scale must be in \[1, inf\], but it is 0.5"):
        Siamese(ratio_scale=0.5)
    with pytest.raises(PotstillError, match=r"needs pictures \(c, h, w\), but one input is \(7,\)"):
        dsa().draw(1, (7,), generator(0, "draw"))
    with pytest.raises(ValueError, match="drawn for 3 samples cannot be applied to 2"):
        dsa().apply(pictures(2, (1, 4, 4)), dsa().draw(3, (1, 4, 4), generator(0, "draw")))


def test_the_smallest_pictures() -> None:
    for seed in range(12):
        for n in (1, 2):
            spec = Siamese(mode="M", ratio_crop_pad=0.5)
            made = spec.apply(pictures(2, (1, 1, 2)), spec.draw(n, (1, 1, 2), generator(seed, "small")))
            assert torch.isfinite(made).all()
