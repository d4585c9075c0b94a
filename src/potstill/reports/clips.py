"""Clips that play inside a page: the frames of a picture one after the other, as an animated PNG."""

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from potstill._util.html import Html, tag
from potstill.reports.entry import Gallery

__all__ = ["PLAYED", "clip_players", "frames_of_picture"]

PLAYED = "Below each picture of frames its clip plays, of the frames that the picture holds."
_MOST, _BYTES, _LONGEST = 48, 600_000, 128
"""Clips on a page, characters of their animations together, and pixels of a frame's longer side, at most."""
_MILLISECONDS, _PAUSE = 160, 640
"""Duration of a frame, and of the last one."""


def frames_of_picture(x: Float[np.ndarray, "c h w"], rows: int, columns: int) -> UInt8[np.ndarray, "t a b c"]:
    """Return the frames of a picture of tiles in the order of time; values are clipped to [0, 1].

    Args:
        x: of two channels the first is drawn, of four or more the first three.
        rows, columns: of tiles.
    """
    seen = x[:1] if x.shape[0] < 3 else x[:3]
    c, h, w = seen.shape
    tiles = seen.reshape(c, rows, h // rows, columns, w // columns).transpose(1, 3, 2, 4, 0)
    levels = np.rint(np.clip(np.nan_to_num(tiles, nan=0.0), 0, 1) * 255).astype(np.uint8)
    frames: UInt8[np.ndarray, "t a b c"] = levels.reshape(rows * columns, h // rows, w // columns, c)
    return frames


def clip_players(g: Gallery, side: int) -> dict[int, Html]:
    """Return clips that play by position among the shown inputs: the first of every class, then the second ones, …

    Readers who ask for less motion get the first frame. Clips that would make the page too large are left out.

    Args:
        g: displayed inputs.
        side: CSS pixels of a frame's longer side, about.
    """
    if len(g.frames) != 2 or g.inputs.ndim != 4:
        return {}
    rows, columns = g.frames
    if rows * columns < 2 or g.inputs.shape[2] % rows or g.inputs.shape[3] % columns:
        return {}
    players: dict[int, Html] = {}
    left = _BYTES
    for i in g.class_by_class[:_MOST]:
        frames = [_image(frame) for frame in frames_of_picture(g.inputs[i], rows, columns)]
        moving, still = _png(frames), _png(frames[:1])
        if (left := left - len(moving) - len(still)) < 0:
            break
        times = max(1, round(side / max(frames[0].size)))
        width, height = (times * n for n in frames[0].size)
        label = f"Clip of {g.classes[int(g.hard_labels[i])]}"
        players[i] = tag(
            "picture",
            tag("source", media="(prefers-reduced-motion: reduce)", srcset=still),
            tag("img", src=moving, alt=label, width=width, height=height, decoding="async"),
        )
    return players


def _image(frame: UInt8[np.ndarray, "a b c"]) -> Image.Image:
    image = Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame)
    if max(image.size) > _LONGEST:
        image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return image


def _png(frames: list[Image.Image]) -> str:
    """Return a still or an animated PNG as a data address."""
    buffer = io.BytesIO()
    first, *others = frames
    if others:
        durations = [_MILLISECONDS] * len(others) + [_PAUSE]
        first.save(buffer, format="PNG", save_all=True, append_images=others, duration=durations, loop=0)
    else:
        first.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
