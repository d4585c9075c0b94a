"""Augmentation of pictures of frames: every frame by the parameters of its clip, and none into another."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import potstill
from potstill.augment.crop import rrc
from potstill.augment.idc import IDCAugment
from potstill.augment.names import load_augmentation, named_augmentation
from potstill.augment.per_frame import PerFrame, beside_cutmix, for_frames, join_frames, split_frames
from potstill.augment.siamese import Siamese
from potstill.core import InputSpec
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.functional.clip_pictures import frame_grid
from potstill.rng import generator
from tests.clip_data import write_clips

GROUPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def spec(rows: int, columns: int) -> InputSpec:
    return InputSpec(kind="image", shape=(1, 4 * rows, 4 * columns), frames=(rows, columns))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_frames_are_cut_as_the_reader_of_clips_lays_them(rows: int, columns: int, c: int, n: int) -> None:
    clips = torch.rand(n, rows * columns, c, 3, 2, generator=generator(0, "clips"))
    pictures = torch.stack([frame_grid(clip, rows, columns) for clip in clips])
    assert torch.equal(split_frames(pictures, rows, columns).transpose(0, 1), clips)
    assert torch.equal(join_frames(split_frames(pictures, rows, columns), rows, columns), pictures)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_frame_is_moved_as_a_picture_of_its_own(group: str, shared: bool) -> None:
    inner, n = Siamese(strategy=(group,)), 5
    augment = for_frames(inner, spec(2, 3))
    x = torch.rand(n, 1, 8, 12, generator=generator(1, group))
    params = augment.draw(1 if shared else n, (1, 8, 12), generator(2, group))
    out = augment.apply(x, params)
    for r in range(2):
        for q in range(3):
            tile = (..., slice(4 * r, 4 * r + 4), slice(4 * q, 4 * q + 4))
            assert torch.equal(out[tile], inner.apply(x[tile], params))


@pytest.mark.parametrize("group", ["crop", "scale", "rotate", "flip"])
def test_no_frame_reaches_another(group: str) -> None:
    """The whole picture would carry one frame's pixels into the next, and a flip would turn the order of time."""
    x = torch.zeros(8, 1, 4, 12)
    x[..., 4:8] = 1.0  # the second of three frames
    inner = Siamese(strategy=(group,), prob_flip=1.0)
    for seed in range(5):
        augment = for_frames(inner, spec(1, 3))
        out = augment.apply(x, augment.draw(8, (1, 4, 12), generator(seed, group)))
        assert not out[..., :4].any()
        assert not out[..., 8:].any()
        assert out[..., 4:8].any()


def test_gradients_are_those_of_the_frames() -> None:
    augment = for_frames(Siamese(strategy=("rotate",)), spec(2, 2))
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=generator(0, "x"), requires_grad=True)
    params = augment.draw(1, (1, 8, 8), generator(1, "p"))
    assert torch.autograd.gradcheck(lambda x: augment.apply(x, params), (x,))


def test_pictures_without_frames_and_nothing_to_do_stay_as_they_are() -> None:
    inner = Siamese()
    assert for_frames(inner, InputSpec(kind="image", shape=(1, 8, 8))) is inner
    nothing = Siamese(strategy=())
    assert for_frames(nothing, spec(2, 2)) is nothing


def test_operations_are_named_and_dropped_inside() -> None:
    augment = for_frames(Siamese(), spec(2, 2))
    assert isinstance(augment, PerFrame)
    assert augment.geometric == Siamese().geometric
    assert augment.without(("rotate", "flip")) == for_frames(Siamese().without(("rotate", "flip")), spec(2, 2))
    cut = beside_cutmix(for_frames(IDCAugment(), spec(2, 2)))
    assert isinstance(cut, PerFrame)
    assert cut.inner == IDCAugment().beside_cutmix()
    assert beside_cutmix(rrc()) == rrc()


def test_methods_students_and_published_protocols_take_clips_by_frame(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "squares", 4)
    train = potstill.load_data(folder, kind="video").train
    assert train.input.frames == (3, 1)
    for augment in (
        named_augmentation("dsa", train),
        student_augmentation("dc", train),
        load_augmentation("rrc", train),
    ):
        assert isinstance(augment, PerFrame)
        assert (augment.rows, augment.columns) == (3, 1)
    one = potstill.load_data(folder, kind="video", representation="mean").train
    assert one.input.frames == ()
    assert isinstance(named_augmentation("dsa", one), Siamese)


def test_views_of_clips_are_not_stored_but_refused_in_one_line(tmp_path: Path) -> None:
    data = potstill.load_data(write_clips(tmp_path / "squares", 4), kind="video")
    small = potstill.distill(data, "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="moves each frame of a clip; choose a representation of one frame"):
        potstill.label(
            small, data, out=tmp_path / "l.safetensors", protocol="sre2l", network="convnet-d1-w8", epochs=1,
            progress=None,
        )  # fmt: skip
