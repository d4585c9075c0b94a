"""A thousand classes of real shapes: letters, signs and symbols in twelve typefaces, every picture distorted.

The typefaces are those that matplotlib brings (DejaVu Sans, Sans Mono and Serif; regular, bold, slanted, both), so the
pictures are the same on every machine with the same release of it and of Pillow. Of the characters that all twelve
have, the first ``CLASSES`` that do not look like one before them (in DejaVu Sans) are the classes: many differ by a dot
or a stroke alone, as classes of ImageNet do.
"""

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from potstill.data import TensorSource
from potstill.rng import derive_seed, generator

__all__ = ["CLASSES", "SIDE", "glyphs"]

CLASSES, SIDE, LARGE = 1000, 16, 48
SLANTS = {"Sans": "Oblique", "SansMono": "Oblique", "Serif": "Italic"}
FACES = [f"DejaVu{f}{style}" for f, s in SLANTS.items() for style in ("", "-Bold", f"-{s}", f"-Bold{s}")]


def glyphs(train: int = 50, test: int = 5, seed: int = 0) -> tuple[TensorSource, TensorSource]:
    """The training and the test part: so many pictures of each class, 1 × 16 × 16, with independent distortions."""
    names, drawn = _drawn()
    made = TensorSource.make(
        *_part(drawn, train, derive_seed(seed, "train")), classes=names, name="glyphs", kind="image"
    )
    made = replace(made, input=replace(made.input, horizontal_flip=False))
    x, y = _part(drawn, test, derive_seed(seed, "test"))
    return made, replace(made, inputs=x, labels=y)


def _part(drawn: Tensor, each: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = generator(seed, "glyphs")
    labels = torch.arange(drawn.shape[1]).repeat_interleave(each)
    face = torch.randint(len(FACES), (len(labels),), generator=rng)
    pieces = [_distorted(drawn[f, y], rng) for f, y in zip(face.split(2000), labels.split(2000), strict=True)]
    return torch.cat(pieces), labels


def _distorted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Turned by up to 12°, sheared, scaled by 0.8 to 1.15 each way, shifted, blurred, of less contrast, with noise."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=rng)

    turn, shear, scale = uniform(-0.21, 0.21), uniform(-0.2, 0.2), uniform(0.8, 1.15, 2)
    cos, sin = turn.cos(), turn.sin()
    first = torch.stack([cos / scale[:, 0], (shear * cos - sin) / scale[:, 1]], 1)
    second = torch.stack([sin / scale[:, 0], (shear * sin + cos) / scale[:, 1]], 1)
    matrix = torch.cat([torch.stack([first, second], 1), uniform(-0.15, 0.15, 2, 1)], 2)
    large = x[:, None].float() / 255
    moved = F.grid_sample(large, F.affine_grid(matrix, list(large.shape), align_corners=False), align_corners=False)
    small = F.avg_pool2d(moved, LARGE // SIDE)
    blurred = F.avg_pool2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = uniform(0, 0.5, 1, 1, 1)
    ink, paper = uniform(0.6, 1.0, 1, 1, 1), uniform(0.0, 0.3, 1, 1, 1)
    made = paper + (ink - paper) * ((1 - share) * small + share * blurred)
    made = made + 0.08 * torch.randn(made.shape, generator=rng)
    return (made.clamp(0, 1) * 255).round().to(torch.uint8)


def _drawn() -> tuple[tuple[str, ...], Tensor]:
    """Names of the classes, and each in each face: uint8 (faces, classes, side, side)."""
    import matplotlib
    from fontTools.ttLib import TTFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / f"{face}.ttf" for face in FACES]
    codes = sorted(set.intersection(*(set(TTFont(file).getBestCmap()) for file in files)))
    codes = [c for c in codes if unicodedata.category(chr(c))[0] in "LNSP" and unicodedata.name(chr(c), "")]
    kept: list[int] = []
    seen: list[np.ndarray] = []
    plain = ImageFont.truetype(str(files[0]), 34)
    for code in codes:
        small = np.asarray(_draw(plain, code).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
        if small.max() < 0.2 or any(float(np.abs(small - other).mean()) < 0.012 for other in seen):
            continue
        kept.append(code)
        seen.append(small)
        if len(kept) == CLASSES:
            break
    drawn = [[np.asarray(_draw(font, code)) for code in kept]
             for font in (ImageFont.truetype(str(file), 34) for file in files)]  # fmt: skip
    return tuple(unicodedata.name(chr(code)).lower() for code in kept), torch.from_numpy(np.array(drawn))


def _draw(font: ImageFont.FreeTypeFont, code: int) -> Image.Image:
    made = Image.new("L", (LARGE, LARGE))
    ImageDraw.Draw(made).text((LARGE / 2, LARGE / 2), chr(code), fill=255, font=font, anchor="mm")
    return made
