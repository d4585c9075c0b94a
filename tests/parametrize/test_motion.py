"""Motion: every still picture with every motion, a start at real clips, and a network that is paid."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from small_problems import MANY, encoded, gradcheck, inputs, problem, same, stored
from torch import Tensor

import potstill
from potstill.core import Payload
from potstill.core.registry import create
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.functional.clip_pictures import frame_grid, grid_columns, mean_thirds
from potstill.parametrize.motion import Motion
from potstill.rng import generator

SHAPES = [(1, 6, 6), (3, 15, 12), (2, 9, 24)]
"""Grids of 3 × 3 frames, grey and coloured, square and not."""


def clips_of(x: Tensor, rows: int, columns: int) -> Tensor:
    """Frames of pictures (n, c, rows · h, columns · w), one tile after the other: (n, F, c, h, w)."""
    h, w = x.shape[-2] // rows, x.shape[-1] // columns
    tiles = [x[..., r * h : (r + 1) * h, q * w : (q + 1) * w] for r in range(rows) for q in range(columns)]
    return torch.stack(tiles, 1)


def naive(payload: Payload, still: int, motion: int) -> Tensor:
    """One clip (F, c, h, w), one pixel of one frame after the other."""
    s, d = payload["statics"][still], payload["dynamics"][motion]
    kernel, bias = payload["decoder/kernel"], payload["decoder/bias"]
    d = F.interpolate(d[None], size=s.shape[1:], mode="bilinear", align_corners=False)[0]
    frames, (c, h, w) = len(d), s.shape
    volume = torch.zeros(c + 1, frames + 2, h + 2, w + 2, dtype=s.dtype)
    for t in range(frames):
        volume[:c, t + 1, 1:-1, 1:-1] = s
        volume[c, t + 1, 1:-1, 1:-1] = d[t]
    clip = torch.zeros(frames, c, h, w, dtype=s.dtype)
    for t in range(frames):
        for y in range(h):
            for x in range(w):
                cube = volume[:, t : t + 3, y : y + 3, x : x + 3]
                clip[t, :, y, x] = (kernel * cube).sum((1, 2, 3, 4)) + bias
    return clip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("pairs", "scale"), [(1, 1), (2, 1), (3, 2)])
def test_decoding_is_every_still_picture_with_every_motion_of_its_group(
    shape: tuple[int, ...], pairs: int, scale: int
) -> None:
    many = 10 * math.prod(shape)
    prob = problem(
        Motion(frames=9, pairs=pairs, scale=scale, init="random"), shape, (many, many + 3 * math.prod(shape))
    )
    payload = encoded(prob)
    groups = len(payload["statics"]) // pairs
    expected = [
        naive(payload, g * pairs + i, g * pairs + j) for g in range(groups) for i in range(pairs) for j in range(pairs)
    ]
    decoded = prob.decode(payload)
    assert decoded.shape == (sum(prob.sizes), *shape)
    torch.testing.assert_close(clips_of(decoded, 3, 3), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_frames_lie_where_the_readers_of_clips_put_them() -> None:
    """A still picture is the same in all frames, and motions follow in the order of time."""
    for motion, made in (
        (Motion(frames=6, pairs=1), lambda clip: frame_grid(clip, 2, 3)),
        (Motion(frames=3, columns=1, pairs=1), mean_thirds),
    ):
        frames, (c, h, w) = motion.frames, (3, 4, 5)
        clip = torch.rand(frames, 1, h, w, generator=generator(3, "clip")).expand(-1, c, -1, -1)
        picture = made(clip)
        prob = problem(motion, tuple(picture.shape), (4000,))
        decoded = prob.decode(encoded(prob, picture.expand(sum(prob.sizes), -1, -1, -1)))
        torch.testing.assert_close(decoded, picture.expand_as(decoded))
    assert [grid_columns(n) for n in (1, 2, 6, 7, 9, 12, 16)] == [1, 2, 3, 7, 3, 4, 4]


def test_it_starts_at_one_real_clip_in_pairs_and_at_mixtures_of_two() -> None:
    prob = problem(Motion(frames=9), (1, 9, 9), (400, 600))
    x = inputs(prob)
    decoded = prob.decode(encoded(prob, x))
    clips = clips_of(x, 3, 3).reshape(-1, 2, 2, 9, 1, 3, 3)
    again = clips_of(decoded, 3, 3).reshape(-1, 2, 2, 9, 1, 3, 3)
    for i in range(2):
        torch.testing.assert_close(again[:, i, i], clips[:, i, i])
        still, moved = clips[:, i, i].mean(1, keepdim=True), clips[:, 1 - i, 1 - i]
        torch.testing.assert_close(again[:, i, 1 - i], still + moved - moved.mean(1, keepdim=True))


def test_the_published_start_is_noise_over_mean_frames() -> None:
    prob = problem(Motion(frames=9, init="random"), (3, 30, 30), (90000, 90000))
    x = inputs(prob)
    payload = encoded(prob, x)
    assert abs(float(payload["dynamics"].std()) - 1) < 0.02
    bound = 1 / math.sqrt(4 * 27)
    assert 0.9 * bound < float(payload["decoder/kernel"].abs().max()) <= bound
    torch.testing.assert_close(payload["statics"][0], clips_of(x, 3, 3)[0].mean(0))


@settings(max_examples=40, deadline=None)
@given(MANY, st.sampled_from(SHAPES), st.integers(1, 3), st.integers(1, 2))
def test_what_is_paid_is_what_is_stored(
    numbers: tuple[int, ...], shape: tuple[int, ...], pairs: int, scale: int
) -> None:
    c, h, w = shape[0], shape[1] // 3, shape[2] // 3
    network = c * (c + 1) * 27 + c
    one = pairs * (c * h * w + 9 * math.ceil(h / scale) * math.ceil(w / scale))
    numbers = tuple(n + network + one * (len(numbers) + 1) for n in numbers)
    prob = problem(Motion(frames=9, pairs=pairs, scale=scale), shape, numbers)
    payload = encoded(prob)
    groups = sum(prob.sizes) // pairs**2
    assert all(size % pairs**2 == 0 for size in prob.sizes)
    assert stored(payload) == 4 * (network + one * groups) <= 4 * sum(numbers)
    assert network + one * (groups + len(numbers)) > sum(numbers)


@pytest.mark.parametrize("init", ["clips", "random"])
def test_seeds_and_gradients_of_every_tensor(init: str) -> None:
    prob = problem(create("parametrizations", f"motion:frames=4,init={init},scale=2"), (2, 6, 4), (300, 340))
    x = inputs(prob)
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=4))
    assert same(encoded(prob, x, seed=4), encoded(prob, x, seed=5)) == (init == "clips")
    payload = encoded(prob, x)
    assert gradcheck(prob, payload)
    leaves = {n: t.clone().requires_grad_() for n, t in payload.items()}
    grads = torch.autograd.grad(prob.decode(leaves).square().sum(), tuple(leaves.values()))
    assert {n: bool(g.any()) for n, g in zip(leaves, grads, strict=True)} == dict.fromkeys(payload, True)


def test_it_is_grouped_by_class_with_unequal_budgets() -> None:
    prob = problem(Motion(frames=4), (1, 8, 8), (600, 1500, 900))
    labels = torch.arange(3).repeat_interleave(torch.tensor(prob.sizes))
    assert len(set(prob.sizes)) == 3
    x = labels.float()[:, None, None, None].expand(-1, 1, 8, 8)
    assert torch.equal(prob.decode(encoded(prob, x))[:, 0, 4, 4].round().long(), labels)


def test_a_file_has_every_tensor_and_decodes_to_the_same_clips(tmp_path: Path) -> None:
    prob = problem(Motion(frames=4), (1, 8, 8), (600, 600))
    small = potstill.distill(
        prob.train, "dm", ipc=8, iterations=2, parametrization="motion:frames=4", network="convnet-d1-w8",
        optimizer="adamw", lr=0.01, progress=None, device="cpu", codec="exact",
    )  # fmt: skip
    path = small.save(tmp_path / "clips.safetensors")
    with safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    groups = len(small) // 4
    assert shapes["payload/statics"] == (2 * groups, 1, 4, 4)
    assert shapes["payload/dynamics"] == (2 * groups, 4, 4, 4)
    assert shapes["payload/decoder/kernel"] == (1, 2, 3, 3, 3)
    assert torch.equal(potstill.load(path).inputs, small.inputs)


@pytest.mark.parametrize(
    ("spelled", "shape", "numbers", "message"),
    [
        (
            "motion:frames=9",
            (1, 9, 9),
            (200,),
            "network takes 55 numbers and 2 still pictures .* 180 of each class, .* 200 for 1",
        ),
        (
            "motion:frames=9",
            (1, 10, 9),
            (900,),
            "10×9 pixels do not hold 3×3 equal frames; read clips with `representation grid",
        ),
        ("motion", (1, 9, 9), (900,), "frames must be at least 1 where nothing else says them"),
        ("motion:frames=9", (6,), (64,), r"motion needs images .* \[6\]; take pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    spelled: str, shape: tuple[int, ...], numbers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        create("parametrizations", spelled).sizes(numbers, shape)
    assert "\n" not in str(error.value)


def test_settings_out_of_range_are_refused() -> None:
    for spelled in ("frames=-1", "pairs=0", "scale=0", "columns=-1", "frames=9,columns=2"):
        with pytest.raises(PotstillError, match="must be at least 1, frames at least 0 and columns divide frames"):
            create("parametrizations", f"motion:{spelled}")
    with pytest.raises(PotstillError, match="init of motion"):
        create("parametrizations", "motion:init=zero")


def clips(shape: tuple[int, ...], frames: tuple[int, ...] = ()) -> TensorSource:
    train = problem(Motion(frames=1), shape, (600, 600)).train
    assert isinstance(train, TensorSource)
    return replace(train, input=replace(train.input, frames=frames, horizontal_flip=False))


@pytest.mark.parametrize("spelled", ["motion", "motion:frames=4", "motion:columns=1"])
def test_frames_are_those_of_the_clips_and_a_reader_knows_them(spelled: str, tmp_path: Path) -> None:
    """Four frames below each other; by their number alone they would be two by two, which the sides allow."""
    small = potstill.distill(
        clips((1, 8, 4), (4, 1)), "dm", ipc=8, iterations=1, parametrization=spelled, network="convnet-d1-w8",
        optimizer="adamw", lr=0.01, progress=None, device="cpu", codec="exact",
    )  # fmt: skip
    assert tuple(small.payload["statics"].shape[1:]) == (1, 2, 4)
    assert small.payload["dynamics"].shape[1] == 4
    again = potstill.load(small.save(tmp_path / "clips.safetensors"))
    assert torch.equal(again.inputs, small.inputs)
    assert again.input.frames == (4, 1)


@pytest.mark.parametrize(
    ("spelled", "frames", "message"),
    [
        ("motion", (), "pictures of small do not say that they hold frames; read clips with"),
        ("motion:frames=8", (4, 1), "clips of small have 4 frames, 1 in a row, but frames is 8 and columns 0; leave"),
        ("motion:frames=4,columns=2", (4, 1), "4 frames, 1 in a row, but frames is 4 and columns 2; leave both out"),
    ],
)
def test_frames_that_contradict_the_clips_are_refused(spelled: str, frames: tuple[int, ...], message: str) -> None:
    with pytest.raises(PotstillError, match=message) as error:
        create("parametrizations", spelled).bind(clips((1, 8, 4), frames))
    assert "\n" not in str(error.value)
