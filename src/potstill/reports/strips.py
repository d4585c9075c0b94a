"""Several images as one, so that a page of some thousands stays fast."""

import base64
import io

import numpy as np
from jaxtyping import Num

from potstill._util.html import Html, tag

__all__ = ["LONGEST", "WANTED", "image_strip"]

WANTED, LONGEST = 44, 64
"""Pixels of an image's longer side: approximate size on the page, and maximum in the file."""


def image_strip(pictures: Num[np.ndarray, "n c h w"], alt: str, *, near: bool = False) -> Html:
    """Return images (n, c, h, w) side by side in one PNG, one transparent pixel apart."""
    from PIL import Image

    held = pictures[:, :1] if pictures.shape[1] < 3 else pictures[:, :3]
    levels = np.rint(np.clip(np.nan_to_num(held, nan=0.0), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    n, h, w, c = levels.shape
    if max(h, w) > LONGEST:
        side = (max(1, w * LONGEST // max(h, w)), max(1, h * LONGEST // max(h, w)))
        small = [Image.fromarray(x[:, :, 0] if c == 1 else x).resize(side, Image.Resampling.LANCZOS) for x in levels]
        levels = np.stack([np.asarray(x).reshape(side[1], side[0], c) for x in small])
        n, h, w, c = levels.shape
    sheet = np.zeros((h, n * (w + 1) - 1, c + 1), np.uint8)
    for k, x in enumerate(levels):
        sheet[:, k * (w + 1) : k * (w + 1) + w] = np.concatenate([x, np.full((h, w, 1), 255, np.uint8)], 2)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    times = max(1, round(WANTED / max(h, w)))
    size = f"--w:{sheet.shape[1] * times};--h:{h * times}"
    return tag(
        "img",
        src="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        alt=alt,
        style=size,
        width=sheet.shape[1] * times,
        height=h * times,
        loading="lazy",
        decoding="async",
        class_="near" if near else None,
    )
