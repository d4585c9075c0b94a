"""Folders of clips are read as one picture for each clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.functional.clip_pictures import frame_grid, mean_thirds
from tests.clip_data import moving_square, write_clips, write_frames, write_gif


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "squares")


def raw(splits: Splits) -> torch.Tensor:
    return splits.train.raw(torch.arange(len(splits.train)))


def has_note(splits: Splits, text: str) -> bool:
    return any(text in note for note in splits.notes)


def as_clip(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(
    ("representation", "shape", "frames"),
    [
        (None, (1, 48, 16), (3, 1)), ("thirds", (1, 48, 16), (3, 1)), ("mean", (1, 16, 16), ()),
        ("dynamic", (1, 16, 16), ()), ("middle", (1, 16, 16), ()), ("grid", (1, 48, 48), (3, 3)),
        ("grid:frames=4", (1, 32, 32), (2, 2)), ("grid:frames=4,columns=1", (1, 64, 16), (4, 1)),
    ],
)  # fmt: skip
def test_a_folder_of_gifs_is_read_as_pictures(
    folder: Path, representation: str | None, shape: tuple[int, ...], frames: tuple[int, ...]
) -> None:
    splits = potstill.load_data(folder, kind="video", representation=representation)
    spec = splits.train.input
    assert (spec.kind, spec.shape, spec.horizontal_flip, spec.frames) == ("image", shape, False, frames)
    assert splits.train.classes == ("down", "left", "right", "up")
    assert splits.test is not None
    assert len(splits.train) + len(splits.test) == 48
    assert has_note(splits, "each clip of 9 frames is one picture")
    assert has_note(splits, "clips of one recording")


def test_frames_in_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    clip = moving_square("down", 3, frames=11)
    clip[:] = np.arange(11, dtype=np.uint8)[:, None, None, None] * 20
    for name in ("a", "b"):
        write_frames(tmp_path / name / "clip 1", clip, [f"frame{t}.png" for t in range(11)])
    splits = potstill.load_data(tmp_path, kind="video", representation="grid:frames=11,columns=11", test_fraction=0)
    want = frame_grid(as_clip(clip), 1, 11)[:1]
    assert torch.allclose(raw(splits)[0], want, atol=1e-6)
    assert splits.train.names == ("a/clip 1", "b/clip 1")


def test_values_are_those_of_the_functional(tmp_path: Path) -> None:
    clip = moving_square("left", 5)
    for name in ("a", "b"):
        write_frames(tmp_path / name / "1", clip)
    splits = potstill.load_data(tmp_path, kind="video", test_fraction=0)
    assert float((raw(splits)[0] - mean_thirds(as_clip(clip))[:1]).abs().max()) <= 0.5 / 255 + 1e-6


def test_videos_are_read_where_pyav_is_installed(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for name, direction in (("a", "left"), ("b", "right")):
        path = tmp_path / name / "1.mp4"
        path.parent.mkdir()
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for frame in moving_square(direction, 1, side=32):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    splits = potstill.load_data(tmp_path, test_fraction=0)  # told by their endings
    assert splits.train.input.shape[1:] == (96, 32)
    assert has_note(splits, "each clip of 9 frames")
    want = mean_thirds(as_clip(moving_square("left", 1, side=32)))
    assert float((raw(splits)[0].mean(0) - want.mean(0)).abs().mean()) < 0.03  # mpeg4 loses a little
    (tmp_path / "a" / "2.mp4").write_bytes(b"no video")
    with pytest.raises(PotstillError, match=r"2\.mp4: not a video .*skip_bad=True"):
        potstill.load_data(tmp_path)
    cut = (tmp_path / "a" / "1.mp4").read_bytes()
    (tmp_path / "a" / "2.mp4").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(PotstillError, match=r"2\.mp4: (not a video|damaged|it has no frames|there is no video in it)"):
        potstill.load_data(tmp_path)


def test_a_damaged_clip_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    write_clips(tmp_path, each=5)
    whole = (tmp_path / "left" / "0.gif").read_bytes()
    (tmp_path / "left" / "bad.gif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "up" / "empty.gif").write_bytes(b"")
    with pytest.raises(PotstillError, match=r"(bad|empty)\.gif: .*; `skip_bad=True` leaves such files out"):
        potstill.load_data(tmp_path, kind="video")
    splits = potstill.load_data(tmp_path, kind="video", skip_bad=True, test_fraction=0)
    assert has_note(splits, "damaged clips left out")
    assert len(splits.train) in (20, 21)  # some of a cut GIF's frames may be whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"representation": "third"}, "unknown representation of clips 'third'; did you mean thirds"),
        ({"representation": "grid:frames=0"}, "1 to 64 frames, but frames is 0"),
        ({"representation": "grid:frames=9,columns=2"}, "needs a divisor"),
        ({"representation": "mean:frames=3"}, "frames"),
        ({"label": "x"}, "clips are read without `label=`"),
        ({"stream": True}, "clips are read without `stream=`"),
    ],
)
def test_wrong_options_are_one_line(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        potstill.load_data(folder, kind="video", **options)


def test_folders_that_hold_no_clips_are_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(PotstillError, match="a picture beside folders of clips; frames are in a folder for each clip"):
        potstill.load_data(tmp_path, kind="video")
    with pytest.raises(PotstillError, match="no such folder; clips are read"):
        potstill.load_data(tmp_path / "none", kind="video")
    with pytest.raises(PotstillError, match="a tuple was given; clips are read from a folder"):
        potstill.load_data((np.zeros((4, 2)), [0, 1, 0, 1]), kind="video")


def test_clips_of_several_sizes_and_lengths(tmp_path: Path) -> None:
    for i, (side, frames) in enumerate([(16, 1), (24, 2), (40, 30)]):
        for name in ("down", "up"):
            write_gif(tmp_path / name / f"{i}.gif", moving_square(name, i, frames=frames, side=side))
    splits = potstill.load_data(tmp_path, kind="video", test_fraction=0)
    assert splits.train.input.shape == (1, 48, 16)
    assert has_note(splits, "frames of 16 × 16 to 40 × 40 (height × width) resized to 16 × 16")
    assert potstill.load_data(tmp_path, kind="video", size=8, test_fraction=0).train.input.shape == (1, 24, 8)


def test_a_set_of_clips_is_made_measured_and_shown(folder: Path, tmp_path: Path) -> None:
    splits = potstill.load_data(folder, kind="video")
    small = potstill.distill(splits, "dm", ipc=1, steps=2, network="convnet-d2-w4", progress=None)
    path = small.save(tmp_path / "small.safetensors")
    loaded = potstill.load(path)
    assert loaded.metadata["reading"] == {"kind": "video"}


def test_chosen_clips_are_exported_where_each_is_one_file(folder: Path, tmp_path: Path) -> None:
    chosen = potstill.distill(potstill.load_data(folder, kind="video"), "random", ipc=2, progress=None)
    out = potstill.export(chosen, "files", tmp_path / "files", data=folder, kind="video")
    assert len(list(Path(out).glob("*/*.gif"))) == 8
    root = tmp_path / "frames"
    for name in ("down", "up"):
        for i in range(4):
            write_frames(root / name / str(i), moving_square(name, i))
    frames = potstill.distill(potstill.load_data(root, kind="video"), "random", ipc=2, progress=None)
    with pytest.raises(PotstillError, match=r"a sample of this set is \w+/\d, which is not one picture file"):
        potstill.export(frames, "files", tmp_path / "more", data=root, kind="video")
