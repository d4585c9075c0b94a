"""DC's evaluation augmentation: each operation against its definition, sample by sample."""

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate

from potstill.augment.dc import DCParams, PerSample, dc, dc_batch_norm
from potstill.core import Augmentation
from potstill.errors import PotstillError
from potstill.rng import generator


def pictures(n: int = 5, shape: tuple[int, ...] = (2, 9, 9), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, *shape, generator=generator(0, "x"), dtype=dtype) + 1.0


def one(operation: str, n: int = 5, shape: tuple[int, ...] = (2, 9, 9), seed: int = 0) -> tuple[PerSample, DCParams]:
    spec = PerSample(strategy=(operation,))
    return spec, spec.draw(n, shape, generator(seed, "draw"))


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 6, 11)])
def test_crop_fills_with_the_batch_mean_of_the_channel(shape: tuple[int, ...]) -> None:
    x = pictures(shape=shape)
    spec, params = one("crop", shape=shape)
    made = spec.apply(x, params)
    for i in range(5):
        top, left = (params.crop[i] - 4).tolist()
        for c in range(shape[0]):
            for r in range(shape[1]):
                for k in range(shape[2]):
                    inside = 0 <= r + top < shape[1] and 0 <= k + left < shape[2]
                    expected = x[i, c, r + top, k + left] if inside else x[:, c].mean()
                    assert float(made[i, c, r, k]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 6, 11), (1, 11, 6)])
def test_scale_takes_nearest_pixels_into_the_middle_of_zeros(shape: tuple[int, ...]) -> None:
    x = pictures(8, shape)
    spec, params = one("scale", 8, shape)
    made = spec.apply(x, params)
    _, height, width = shape
    for i, (h, w) in enumerate(params.size.tolist()):
        assert int(0.8 * height) <= h <= int(1.2 * height)
        side = max(h, w, height, width)
        square = np.zeros((shape[0], side, side), dtype=np.float32)
        r0, k0 = int((side - h) / 2), int((side - w) / 2)
        for r in range(h):
            for k in range(w):
                square[:, r0 + r, k0 + k] = x[i, :, r * height // h, k * width // w].numpy()
        r1, k1 = int((side - height) / 2), int((side - width) / 2)
        np.testing.assert_array_equal(made[i].numpy(), square[:, r1 : r1 + height, k1 : k1 + width])


def test_rotation_is_scipys_with_the_mean_around() -> None:
    x = pictures()
    spec, params = one("rotate")
    made = spec.apply(x, params)
    fill = float(np.mean([float(x[:, c].mean()) for c in range(2)]))
    for i, angle in enumerate(params.angle.tolist()):
        turned = rotate(x[i].numpy(), angle=angle, axes=(-2, -1), cval=fill)
        inset = [(turned.shape[d] - 9) // 2 for d in (1, 2)]
        expected = turned[:, inset[0] : inset[0] + 9, inset[1] : inset[1] + 9]
        np.testing.assert_allclose(made[i].numpy(), expected, atol=1e-6)
    params = DCParams(params.choice, params.crop, params.size, torch.zeros(5, dtype=torch.int64), None)
    torch.testing.assert_close(spec.apply(x, params), x, rtol=1e-5, atol=1e-5)


def test_a_long_picture_can_be_turned() -> None:
    x = pictures(2, (1, 4, 20))
    spec, params = one("rotate", 2, (1, 4, 20))
    steep = DCParams(params.choice, params.crop, params.size, torch.tensor([44, -45]), None)
    made = spec.apply(x, steep)
    assert made.shape == x.shape
    assert float(made[0, 0, 0, 0]) == pytest.approx(float(x.mean()), rel=1e-5)


def test_noise_is_added_at_its_strength() -> None:
    x = pictures()
    spec, params = one("noise")
    assert params.noise is not None
    torch.testing.assert_close(spec.apply(x, params), x + 0.001 * params.noise)
    assert 0.9 < float(params.noise.std()) < 1.1
    with pytest.raises(ValueError, match="without noise"):
        spec.apply(x, one("crop")[1])


def test_each_sample_gets_one_operation_drawn_evenly() -> None:
    spec = dc()
    params = spec.draw(3000, (1, 28, 28), generator(0, "many"))
    counts = torch.bincount(params.choice)
    assert ((counts - 1000).abs() < 155).all()  # six standard deviations of binomial(3000, 1/3)
    assert (int(params.angle.min()), int(params.angle.max())) == (-45, 44)
    assert (int(params.crop.min()), int(params.crop.max())) == (0, 7)
    assert (int(params.size.min()), int(params.size.max())) == (22, 33)
    x = pictures(6, (1, 8, 8))
    params = spec.draw(6, (1, 8, 8), generator(1, "six"))
    made = spec.apply(x, params)
    for i, place in enumerate(params.choice.tolist()):
        alone = PerSample(strategy=(spec.strategy[place],))
        zeros = torch.zeros(6, dtype=torch.int64)
        expected = alone.apply(x, DCParams(zeros, params.crop, params.size, params.angle, None))[i]
        assert torch.equal(made[i], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pure_shared_and_typed(dtype: torch.dtype) -> None:
    x = pictures(dtype=dtype)
    before = x.clone()
    for spec in (dc(), dc_batch_norm(), PerSample(strategy=())):
        assert isinstance(spec, Augmentation)
        made = spec.apply(x, spec.draw(5, (2, 9, 9), generator(2, "draw")))
        assert torch.equal(x, before)
        assert made.dtype == dtype
        assert made.data_ptr() != x.data_ptr()
        shared = spec.draw(1, (2, 9, 9), generator(3, "draw"))
        same = x[:1].expand(4, -1, -1, -1)
        made = spec.apply(same, shared)
        assert all(torch.equal(made[0], m) for m in made)


def test_gradients_pass_where_there_is_no_rotation() -> None:
    x = pictures(3, (1, 5, 5), torch.float64).requires_grad_()
    spec = PerSample(strategy=("crop", "scale", "noise"), crop=2)
    params = spec.draw(3, (1, 5, 5), generator(4, "draw"))
    params = DCParams(torch.tensor([1, 1, 2]), params.crop, params.size, params.angle, params.noise)
    assert torch.autograd.gradcheck(lambda t: spec.apply(t, params), (x,))


def test_misuse_is_told() -> None:
    with pytest.raises(PotstillError, match="unknown operation 'spin'"):
        PerSample(strategy=("spin",))
    with pytest.raises(PotstillError, match=r"scale must be in \[0, 0.9\], but it is 2"):
        PerSample(scale=2.0)
    with pytest.raises(PotstillError, match="needs pictures"):
        dc().draw(1, (4,), generator(0, "draw"))
    with pytest.raises(ValueError, match="drawn for 5 samples cannot be applied to 4"):
        dc().apply(pictures(4), one("crop")[1])
