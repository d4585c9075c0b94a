"""Common corruptions of colour pictures, and data whose corruption goes with the class."""

import colorsys
from typing import Any

import numpy as np
import pytest
import torch

from potstill.core import Splits
from potstill.data.attributes import get_attribute
from potstill.data.biased import ccifar10_dd
from potstill.data.common_corruptions import CORRUPTIONS, corrupt_pictures
from potstill.data.in_memory import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator


def pictures(n: int = 4, h: int = 16, w: int = 12) -> torch.Tensor:
    """Return smooth colour pictures."""
    rng = generator(0, "pictures")
    small = torch.rand(n, 3, 4, 3, generator=rng)
    return torch.nn.functional.interpolate(small, (h, w), mode="bilinear", align_corners=True)


def splits(classes: int = 10, channels: int = 3) -> Splits:
    def part(n: int, name: str) -> TensorSource:
        y = np.arange(n) % classes
        x = generator(n, name)
        return TensorSource.make(torch.rand(n, channels, 8, 8, generator=x), [f"{c:02d}" for c in y], name=name)

    return Splits(train=part(200, "noise"), test=part(100, "noise"))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_stays_in_range_and_depends_on_its_draws_alone(name: str) -> None:
    x = pictures()
    distances = []
    for severity in range(1, 6):
        first, again = (corrupt_pictures(name, x, severity, generator(3, name)) for _ in range(2))
        assert first.shape == x.shape
        assert torch.equal(first, again)
        assert 0 <= float(first.min()) <= float(first.max()) <= 1
        distances.append(float((first - x).square().mean()))
    assert min(distances) > 1e-7
    drawn = name in ("snow", "frost", "fog", "spatter", "elastic")
    other = corrupt_pictures(name, x, 5, generator(4, name))
    assert torch.equal(other, first) != drawn
    assert corrupt_pictures(name, x[:0], 1, generator(0, name)).shape == (0, 3, 16, 12)


def test_severities_of_light_and_contrast_are_those_of_the_table() -> None:
    x, rng = pictures(), generator(0, "none")
    for severity, factor in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        found = corrupt_pictures("contrast", x, severity, rng)
        assert torch.allclose(found.std((2, 3)), factor * x.std((2, 3)), atol=1e-5)
        assert torch.allclose(found.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    pixel = (0.2, 0.5, 0.4)
    x = torch.tensor(pixel).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    for severity, added in enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1):
        expected = colorsys.hsv_to_rgb(hue, saturation, value + added)
        found = corrupt_pictures("brightness", x, severity, rng)
        assert found[0, :, 3, 3].tolist() == pytest.approx(list(expected), abs=1e-6)
    for severity, (factor, more) in enumerate(((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)), 1):
        expected = colorsys.hsv_to_rgb(hue, min(1.0, factor * saturation + more), value)
        found = corrupt_pictures("saturate", x, severity, rng)
        assert found[0, :, 3, 3].tolist() == pytest.approx(list(expected), abs=1e-6)
    black = torch.zeros(1, 3, 8, 8)
    assert corrupt_pictures("brightness", black, 2, rng).eq(0.1).all()
    assert corrupt_pictures("saturate", torch.full((1, 3, 8, 8), 0.4), 5, rng).allclose(torch.tensor(0.4))


def test_weather_and_pixels_by_hand() -> None:
    x, rng = pictures(), generator(0, "weather")
    fog = corrupt_pictures("fog", x, 4, rng)
    most = x.amax((1, 2, 3), keepdim=True)
    field = fog * (most + 1) / most - x
    assert torch.allclose(field, field[:, :1].expand_as(field), atol=1e-4)  # the same for all channels
    assert field.amin((1, 2, 3)).tolist() == pytest.approx([0] * 4, abs=1e-4)
    assert field.amax((1, 2, 3)).tolist() == pytest.approx([1] * 4, abs=1e-4)
    snow = corrupt_pictures("snow", x, 3, rng)
    assert bool((snow >= 0.9 * x - 1e-6).all())
    assert bool((corrupt_pictures("frost", x, 5, rng) >= 0.75 * x - 1e-6).all())
    mud = corrupt_pictures("spatter", torch.ones(4, 3, 16, 16), 4, generator(1, "mud"))
    assert float(mud.amin((1, 2, 3)).max()) < 0.3
    assert 0.5 < float((mud == 1).float().mean()) < 1
    checks = (torch.arange(20)[:, None] + torch.arange(20)).remainder(2).float().expand(1, 3, 20, 20)
    coarse = corrupt_pictures("pixelate", checks, 5, rng)
    assert len({tuple(row) for row in coarse[0, 0].round(decimals=4).tolist()}) <= 13


@pytest.mark.parametrize(("test", "own"), [("uniform", 0.1), ("anti-biased", 0.0), ("every", 0.1)])
def test_a_share_of_each_class_has_its_corruption(test: str, own: float) -> None:
    made = ccifar10_dd(splits(), ratio=0.8, severity=4, test=test)
    assert made.test is not None
    for part, share in ((made.train, 0.8), (made.test, own)):
        attribute = get_attribute(part)
        assert attribute is not None
        assert attribute.values == tuple(CORRUPTIONS)
        for c in range(10):
            counts = torch.bincount(attribute.codes[part.labels == c], minlength=10)
            assert abs(int(counts[c]) - share * int(counts.sum())) <= 0.5
    assert len(made.test) == 100 * (10 if test == "every" else 1)
    assert isinstance(made.train, TensorSource)
    assert made.train.inputs.dtype == torch.uint8
    again, other = (ccifar10_dd(splits(), ratio=0.8, severity=4, seed=seed, test=test).train for seed in (42, 1))
    assert made.train.content_hash == again.content_hash != other.content_hash


def test_the_severity_is_one_more_than_the_benchmarks() -> None:
    grey = torch.full((20, 3, 8, 8), 0.5)
    part = TensorSource.make(grey, ["b", "a", "c", "d"] * 5, name="grey")
    made = ccifar10_dd(Splits(train=part, test=part), ratio=1.0, severity=2, test="uniform")
    x = made.train.raw(torch.arange(20))
    assert isinstance(x, torch.Tensor)
    assert x[made.train.labels == 3].allclose(torch.tensor(0.65), atol=0.003)  # brightness of severity 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "digits"}, "needs colour pictures of 2 to 10 classes, but these are image"),
        ({"data": splits(11)}, "of 11; give others"),
        ({"ratio": -0.1}, r"the ratio is in \[0, 1\] and the severity 1 to 4, not -0.1 and 1"),
        ({"severity": 5}, "not 0.5 and 5"),
        ({"test": "none"}, "the test part is uniform, anti-biased or every, not 'none'"),
    ],
)
def test_other_pictures_and_numbers_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PotstillError, match=words) as error:
        ccifar10_dd(**{"data": splits(), "ratio": 0.5, **options})
    assert "\n" not in str(error.value)
    with pytest.raises(PotstillError, match="the severity of fog must be 1 to 5, not 6"):
        corrupt_pictures("fog", pictures(), 6, generator(0, "fog"))
