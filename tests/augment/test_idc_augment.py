"""IDC's augmentation: which operations apply, in which order, and with whose parameters."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from potstill.augment.idc import IDCAugment, idc, idc_eval, idc_eval_noflip
from potstill.augment.names import augmentation_name, named_augmentation
from potstill.augment.siamese import Siamese, SiameseParams
from potstill.core import Augmentation
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.testing import toy_source

SHAPE = (3, 8, 6)
FULL = IDCAugment(strategy=("color", "crop", "cutout", "flip", "scale", "rotate"))
"""The published default of the class."""


def pictures(n: int) -> Tensor:
    return torch.randn(n, *SHAPE, generator=generator(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("augment", "first", "one", "last"),
    [
        (idc(), ("color",), {"crop"}, ("cutout",)),
        (idc_eval(), ("flip", "color"), {"crop", "scale", "rotate"}, ()),
        (idc_eval_noflip(), ("color",), {"crop", "scale", "rotate"}, ()),
        (FULL, ("flip", "color"), {"crop", "scale", "rotate"}, ("cutout",)),
        (IDCAugment(strategy=("cutout", "color")), ("color",), set(), ("cutout",)),
    ],
)
def test_some_always_apply_and_one_of_the_rest_in_the_published_order(
    augment: IDCAugment, first: tuple[str, ...], one: set[str], last: tuple[str, ...]
) -> None:
    rng = generator(0, "groups")
    counts = dict.fromkeys(one, 0)
    for _ in range(600):
        groups = augment.draw(4, SHAPE, rng).groups
        assert groups[: len(first)] == first
        assert groups[len(groups) - len(last) :] == last
        middle = groups[len(first) : len(groups) - len(last)]
        assert len(middle) == bool(one)
        for group in middle:
            counts[group] += 1
    # binomial(600, 1/3): six standard deviations are 69
    assert all(abs(count - 600 / len(one)) < 70 for count in counts.values())


def test_it_is_dsas_operations_one_after_the_other() -> None:
    x = pictures(4)
    for seed in range(8):
        for n in (1, 4):
            drawn = FULL.draw(n, SHAPE, generator(seed, "draw"))
            after = x
            for group in drawn.groups:
                after = Siamese().apply(after, replace(drawn, groups=(group,)))
            assert torch.equal(FULL.apply(x, drawn), after)
            assert not torch.equal(after, x)


def test_a_shared_draw_serves_any_batch_and_per_sample_draws_differ() -> None:
    x = pictures(1).expand(5, -1, -1, -1)
    shared = idc().draw(1, SHAPE, generator(1, "draw"))
    whole = idc().apply(x, shared)
    torch.testing.assert_close(whole[:2], idc().apply(x[:2], shared), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole, whole[:1].expand_as(whole), rtol=1e-12, atol=1e-12)
    each = idc_eval().draw(5, SHAPE, generator(1, "draw"))
    assert all(len(v) == 5 for v in each.values.values())
    made = idc_eval().apply(x, each)
    assert not any(torch.equal(made[0], other) for other in made[1:])
    alone = SiameseParams(each.groups, {name: v[2:3] for name, v in each.values.items()}, 1)
    torch.testing.assert_close(made[2:3], idc_eval().apply(x[2:3], alone), rtol=1e-12, atol=1e-12)


def test_values_have_the_published_ranges() -> None:
    ranges: dict[str, tuple[float, float]] = {
        "brightness": (-0.5, 0.5), "saturation": (0, 2), "contrast": (0.5, 1.5), "crop_y": (-4, 4), "crop_x": (-4, 4),
        "cutout_y": (0, 32), "cutout_x": (0, 32), "scale_x": (1 / 1.2, 1.2), "scale_y": (1 / 1.2, 1.2),
        "angle": (-torch.pi / 12, torch.pi / 12),
    }  # fmt: skip
    seen: dict[str, list[Tensor]] = {}
    rng = generator(0, "ranges")
    for _ in range(60):
        for name, value in FULL.draw(200, (3, 32, 32), rng).values.items():
            seen.setdefault(name, []).append(value.double())
    assert seen.keys() == ranges.keys() | {"flip"}
    for name, (low, high) in ranges.items():
        found = torch.cat(seen[name])
        assert low <= float(found.min()) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < float(found.max()) <= high
    assert 0.47 < float(torch.cat(seen["flip"]).mean()) < 0.53


def test_draws_come_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one, two = (FULL.draw(3, SHAPE, generator(9, "draw")) for _ in range(2))
    assert one.groups == two.groups
    assert all(torch.equal(one.values[name], two.values[name]) for name in one.values)
    assert torch.equal(state, torch.random.get_rng_state())
    assert isinstance(FULL, Augmentation)


@pytest.mark.parametrize("named", ["digits", "usps"])
def test_what_must_not_be_mirrored_is_not_whatever_it_is_called(named: str) -> None:
    toy = toy_source()
    digits = replace(toy, name=named, input=replace(toy.input, horizontal_flip=False))  # type: ignore[type-var]
    for name in ("dsa", "idc-eval"):
        assert augmentation_name(name, digits.input) == f"{name}-noflip"
        assert augmentation_name(name, toy.input) == name
    made = named_augmentation("idc-eval", digits)
    assert made == idc_eval_noflip()
    assert isinstance(made, IDCAugment)
    assert "flip" not in made.strategy
    assert named_augmentation("idc", digits) == idc()
    assert "flip" not in idc().strategy


def test_misuse_is_told() -> None:
    with pytest.raises(PotstillError, match="unknown augmentation group 'colour'; did you mean color"):
        IDCAugment(strategy=("colour",))
    with pytest.raises(PotstillError, match="each group once, but 'crop' stands twice"):
        IDCAugment(strategy=("crop", "color", "crop"))
    with pytest.raises(PotstillError, match=r"needs pictures \(c, h, w\), but one input is \(7,\)"):
        idc().draw(1, (7,), generator(0, "draw"))
    with pytest.raises(ValueError, match="drawn for 3 samples cannot be applied to 2"):
        idc().apply(pictures(2), idc().draw(3, SHAPE, generator(0, "draw")))
    nothing = IDCAugment(strategy=())
    x = pictures(2)
    assert nothing.apply(x, nothing.draw(1, (7,), generator(0, "draw"))) is x
