"""Pictures of clips: rank pooling beside its definition, thirds, tiles."""

import pytest
import torch

from potstill.functional.clip_pictures import (
    dynamic_image,
    frame_grid,
    mean_thirds,
    pick_frames,
    rank_pooling_weights,
)


def clip_of(frames: int, h: int = 4, w: int = 5) -> torch.Tensor:
    return torch.rand(frames, 3, h, w, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("frames", [1, 2, 3, 9, 40])
def test_weights_are_those_of_the_first_step_of_ranking_frame_averages(frames: int) -> None:
    """The publication: the sum over pairs q > t of V_q − V_t, where V_t is the mean of frames 1 to t."""
    averages = torch.tril(torch.ones(frames, frames, dtype=torch.float64))
    averages /= averages.sum(1, keepdim=True)
    naive = torch.zeros(frames, dtype=torch.float64)
    for q in range(frames):
        for t in range(q):
            naive += averages[q] - averages[t]
    weights = rank_pooling_weights(frames)
    assert torch.allclose(weights, -naive, atol=1e-9) or torch.allclose(weights, naive, atol=1e-9)
    assert float(weights.sum().abs()) < 1e-9 * max(1, frames**2)


def test_golden_weights() -> None:
    assert rank_pooling_weights(3).tolist() == pytest.approx([-4 / 3, 2 / 3, 2 / 3])


def test_a_dynamic_image_is_grey_where_nothing_moves() -> None:
    still = clip_of(1).expand(7, -1, -1, -1)
    assert torch.equal(dynamic_image(still), torch.full((3, 4, 5), 0.5))
    clip = still.clone()
    clip[5, :, 2, 3] += 0.1
    made = dynamic_image(clip)
    changed = (made - 0.5).abs() > 1e-4
    assert changed[:, 2, 3].all()
    assert int(changed.sum()) == 3
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1


def test_a_clip_played_backwards_has_another_dynamic_image_and_the_same_mean() -> None:
    clip = clip_of(8)
    assert torch.allclose(clip.mean(0), clip.flip(0).mean(0))
    assert (dynamic_image(clip) - dynamic_image(clip.flip(0))).abs().max() > 0.1


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9, 10])
def test_thirds_are_means_of_consecutive_frames(frames: int) -> None:
    clip = clip_of(frames)
    made = mean_thirds(clip)
    assert made.shape == (3, 12, 5)
    tiles = made.split(4, 1)
    ends = [frames * i // 3 for i in range(4)]
    for a, b, tile in zip(ends, ends[1:], tiles, strict=False):
        wanted = clip[a:b].mean(0) if b > a else clip[a]
        assert torch.allclose(tile, wanted)


def test_a_grid_has_frames_in_reading_order() -> None:
    clip = clip_of(12)
    made = frame_grid(clip, 2, 3)
    assert made.shape == (3, 8, 15)
    assert pick_frames(12, 6) == [1, 3, 5, 7, 9, 11]
    for place, t in enumerate(pick_frames(12, 6)):
        row, column = divmod(place, 3)
        assert torch.equal(made[:, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5], clip[t])
    assert pick_frames(2, 4) == [0, 0, 1, 1]
