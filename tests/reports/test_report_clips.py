"""The page of a set of clips plays them."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import potstill
from potstill.functional.clip_pictures import frame_grid
from potstill.reports.clips import clip_players, frames_of_picture
from potstill.reports.gallery import gallery
from potstill.reports.page import Gallery
from tests.clip_data import write_clips


def pictures(n: int, frames: int = 6, channels: int = 1) -> np.ndarray:
    import torch

    clips = torch.rand(n, frames, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    return torch.stack([frame_grid(clip, 2, frames // 2) for clip in clips]).numpy()


def of_clips(n: int = 4, names: tuple[str, ...] = ("a", "b"), grid: tuple[int, ...] = (2, 3)) -> Gallery:
    return Gallery(inputs=pictures(n), labels=np.arange(n) * len(names) // n, classes=names, kind="image", frames=grid)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_a_clip_plays_its_frames_in_the_order_of_time() -> None:
    g = of_clips()
    page = str(gallery(g))
    moving = re.findall(r'<img src="(data:image/png;base64,[^"]+)" alt="Clip of (?:a|b)"', page)
    assert len(moving) == 4
    image = decoded(moving[1])
    assert (image.n_frames, image.size, image.info["loop"]) == (6, (4, 5), 0)
    want = frames_of_picture(g.inputs[1], 2, 3)
    for t in range(6):
        image.seek(t)
        assert np.array_equal(np.asarray(image.convert("L")), want[t, :, :, 0])
    assert "2 clips" in page
    assert "its clip plays" in page


def test_readers_who_want_less_motion_see_the_first_frame() -> None:
    g = of_clips(2)
    still = re.findall(r'media="\(prefers-reduced-motion: reduce\)" srcset="(data:[^"]+)"', str(gallery(g)))
    assert len(still) == 2
    assert np.array_equal(np.asarray(decoded(still[0]).convert("L")), frames_of_picture(g.inputs[0], 2, 3)[0, :, :, 0])


def test_names_are_escaped_and_clips_are_few() -> None:
    assert "<script>" not in str(gallery(of_clips(names=("a", '"><script>'))))
    names = tuple(f"c{n}" for n in range(30))
    players = clip_players(of_clips(90, names=names), 56)
    assert len(players) == 48
    assert set(range(0, 90, 3)) <= set(players)


@pytest.mark.parametrize("grid", [(), (1, 1), (3, 2), (7, 1)])
def test_other_pictures_do_not_play(grid: tuple[int, ...]) -> None:
    page = str(gallery(of_clips(grid=grid)))
    assert "<picture" not in page
    assert page.count("<img") == 4


def test_a_set_of_clips_from_its_folder_to_its_page(tmp_path: Path) -> None:
    data = potstill.load_data(write_clips(tmp_path / "squares", 4), kind="video", representation="grid:frames=4")
    path = potstill.distill(data, "random", ipc=1, progress=None).save(tmp_path / "set.safetensors")
    assert potstill.load(path).input.frames == (2, 2)
    page = potstill.report(path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<picture") == 4
