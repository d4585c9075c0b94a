"""Pixels with real values: PSNR, targets that move, files, and a set from arrays to a scorecard."""

import math

import numpy as np
import pytest
import torch

import potstill
from potstill.augment.geometry import move_targets
from potstill.core import Splits, registry
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import count_exact_bytes
from potstill.rng import generator
from potstill.tasks import PixelRegression


def depths(n: int = 24, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures whose pixels' values are a tenth of their brightness."""
    x = torch.randint(0, 256, (n, 1, side, side), generator=generator(0, "depths"), dtype=torch.uint8)
    return x.numpy(), (x[:, 0].float() / 10).numpy()


def splits_of(n: int = 24) -> Splits:
    return potstill.load_data(depths(n), task="pixel-regression")


def test_psnr_is_that_of_a_loop_over_known_pixels() -> None:
    y = torch.rand(3, 2, 4, 5, generator=generator(1)) * 4 - 1
    y[0, :, 1] = math.nan
    task = PixelRegression(peak=2.0).fit(y)
    answers = y.nan_to_num() + 0.1 * torch.randn(y.shape, generator=generator(2))
    errors = [
        (float(a) - float(t)) ** 2 for a, t in zip(answers.flatten(), y.flatten(), strict=True) if not math.isnan(t)
    ]
    assert task.score(answers, y) == pytest.approx(10 * math.log10(4 * len(errors) / sum(errors)), rel=1e-6)
    more = task.further_scores(answers, y, None)
    assert more["rmse"] == pytest.approx(math.sqrt(sum(errors) / len(errors)), rel=1e-6)
    assert task.score(y, y) == 100.0
    assert task.score(answers * torch.inf, y) == -math.inf
    with pytest.raises(ValueError, match="all targets are NaN"):
        task.score(answers, y * math.nan)
    with pytest.raises(ValueError, match="must have one shape"):
        task.score(answers[:, 0], y)


def test_golden_scores() -> None:
    """An error of 0.1 everywhere is 20 dB of a peak of 1, and 6.02 dB more of a peak of 2."""
    y = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    assert PixelRegression(peak=1.0).score(y + 0.1, y) == pytest.approx(20.0, abs=1e-5)
    assert PixelRegression(peak=2.0).score(y + 0.1, y) == pytest.approx(26.0206, abs=1e-4)
    assert PixelRegression().fit(3 * y).score(3 * y + 0.3, 3 * y) == pytest.approx(20.0, abs=1e-5)
    assert PixelRegression().fit(y).chance_score(y) == pytest.approx(-10 * math.log10(float(y.var(correction=0))))


def test_the_loss_is_that_of_known_standardised_values() -> None:
    y = torch.rand(4, 3, 3, generator=generator(3), dtype=torch.float64) * 10
    y[1, 0, 0] = math.nan
    task = PixelRegression().fit(y)
    output = torch.randn(4, 1, 3, 3, generator=generator(4), dtype=torch.float64, requires_grad=True)
    known = ~y.isnan()
    expected = (output[:, 0][known] - (y[known] - task.mean) / task.std).square().mean()
    torch.testing.assert_close(task.loss(output, y), expected)
    assert torch.autograd.gradcheck(lambda o: task.loss(o, y), output)
    (grad,) = torch.autograd.grad(task.loss(output, y), output)
    assert float(grad[1, 0, 0, 0]) == 0
    assert float(task.loss(output.detach(), y * math.nan)) == 0


def test_targets_follow_their_pictures_and_have_no_value_from_outside() -> None:
    """A target that is its picture stays its picture where it is known, under every operation that moves pixels."""
    task, rng, shape = PixelRegression(), generator(5), (1, 12, 12)
    x = torch.rand(16, *shape, generator=generator(6)) + 1  # zeros are from outside alone
    for name in ("flip", "dsa", "rotate", "pad-crop", "rrc"):
        augment = registry.resolve("augmentations", name)()
        params = augment.draw(len(x), shape, rng)
        moved = augment.movement(params, shape).maps(x)[:, 0]
        y = move_targets(task, augment, x[:, 0], params, shape)
        known = ~y.isnan()
        torch.testing.assert_close(y[known], moved[known], atol=1e-3, rtol=1e-3)
        assert bool((moved[known] > 0.99).all())
        assert float(known.float().mean()) > 0.3
    unknown = x[:, 0].clone()
    unknown[:, :6] = math.nan
    flip = registry.resolve("augmentations", "flip")()
    params = flip.draw(16, shape, rng)
    y = move_targets(task, flip, unknown, params, shape)
    assert bool(y[:, :6].isnan().all())
    assert not bool(y[:, 6:].isnan().any())


@pytest.mark.parametrize("shape", [(5, 6, 4), (5, 3, 6, 4)])
def test_files_hold_targets_in_steps_of_their_range(shape: tuple[int, ...]) -> None:
    y = torch.randn(shape, generator=generator(7)) * 30
    y[0, ..., 0, 0] = math.nan
    task = PixelRegression().fit(y)
    codes = task.pack_targets(y)
    assert codes.shape == (5, task.channels, 6, 4)
    again = task.unpack_targets(codes)
    assert again.shape == y.shape
    assert torch.equal(again.isnan(), y.isnan())
    assert float((again - y).nan_to_num().abs().max()) <= (task.high - task.low) / 510 * (1 + 1e-5)
    assert torch.equal(task.pack_targets(again), codes)
    constant = PixelRegression().fit(torch.full((2, 3, 3), 7.0))
    assert torch.equal(
        constant.unpack_targets(constant.pack_targets(torch.full((2, 3, 3), 7.0))), torch.full((2, 3, 3), 7.0)
    )
    for wrong in (codes.float(), codes[:, :0], codes + 1000):
        with pytest.raises(ValueError, match="targets must"):
            task.unpack_targets(wrong)


@pytest.mark.parametrize("method", ["random", "dm", "k-means"])
def test_a_set_is_distilled_saved_and_measured(method: str, tmp_path) -> None:
    splits = splits_of()
    options = {} if method != "dm" else {"iterations": 2}
    small = potstill.distill(splits, method, items=6, network="fcn2d-d1-w8", progress=None, **options)
    again = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert again.task == splits.train.task
    assert torch.equal(again.labels, small.labels)
    assert small.labels.shape == (6, 8, 8)
    assert small.metadata["bytes"]["labels"] <= 6 * 64 * 9 // 8
    card = potstill.evaluate(
        again, splits, networks="fcn2d-d1-w8", seeds=2, steps=150, lr=0.03, baselines=False, robust_scores=False,
        progress=None, executor="serial",
    ).to_dict()  # fmt: skip
    assert (card["score"]["metric"], card["score"]["unit"]) == ("PSNR", "dB")
    assert set(card["metrics"]) >= {"rmse", "mae"}
    assert card["score"]["mean"] > splits.train.task.chance_score(splits.test.targets) + 0.5


def test_real_rivals_of_the_same_bytes_and_a_page_can_be_made(tmp_path) -> None:
    splits = splits_of(40)
    small = potstill.distill(splits, "random", items=6, progress=None)
    card = potstill.evaluate(small, splits, networks="fcn2d-d1-w4", seeds=2, steps=10, progress=None, executor="serial")
    assert card.to_dict()["baselines"]["random"]["bytes"] <= 1.05 * small.metadata["bytes"]["total"] + 1000
    potstill.report(small.save(tmp_path / "s.safetensors"), out=tmp_path / "page.html")
    assert "6" in (tmp_path / "page.html").read_text()


def test_arrays_of_colours_and_of_eight_bits_are_read(tmp_path) -> None:
    x, y = depths(10)
    colours = np.repeat(x, 3, 1)
    splits = potstill.load_data((x, colours), task="pixel-regression", test_fraction=0)
    assert splits.train.task.channels == 3
    torch.testing.assert_close(splits.train.targets, torch.from_numpy(colours).float() / 255)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3, None])
    splits = potstill.load_data(tmp_path / "d.npz", task="pixel-regression")
    assert splits.test.targets.shape == (3, 8, 8)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path) -> None:
    x, y = depths(6)
    for data, options, message in (
        ((x, y[:, :4]), {}, r"targets must be numbers \(n, 8, 8\) .* shape \[6, 4, 8\]"),
        ((x, y * np.inf), {}, "finite, or NaN for pixels without a value"),
        ((x, y), {"size": 4}, "without `size=`; leave it out"),
        ((x, y, x, np.repeat(y[:, None], 2, 1)), {}, "targets of both parts must have one shape"),
        (str(tmp_path), {}, r"read from an .npz file with x and y, or from arrays"),
        ((x,), {}, r"read from an .npz file or arrays \(x, y\), not from a tuple"),
    ):
        with pytest.raises(PotstillError, match=message) as error:
            potstill.load_data(data, task="pixel-regression", **options)
        assert "\n" not in str(error.value)
    splits = potstill.load_data((x, y), task="pixel-regression")
    with pytest.raises(PotstillError, match="has one answer for a whole picture, and this task needs one for each"):
        potstill.distill(splits, "dm", items=2, network="convnet", progress=None)


def test_rivals_pay_for_targets_what_their_files_do() -> None:
    splits = splits_of(40)
    rival = count_exact_bytes(splits.train)
    small = potstill.distill(splits, "random", items=len(splits.train), progress=None)
    assert rival <= 1.1 * small.metadata["bytes"]["total"]
