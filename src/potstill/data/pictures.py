"""Decoding of image files of any format to uint8 tensors of one size."""

import io
import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.data.damaged_files import DamagedFiles
from potstill.data.error_text import reason
from potstill.data.limits import require_memory
from potstill.errors import PotstillError

__all__ = [
    "SUFFIXES", "BadPictureError", "DecodedImages", "LossCounter", "choose_common_size", "decode_image",
    "decode_images", "read_header", "resize_and_crop", "silence_pillow",
]  # fmt: skip

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
)
"""Suffixes of image files; other files are not read."""

_EQUAL_CAP = 128  # pictures that are all of one size keep it up to this side
_BUCKETS = (64, 32, 16, 8)  # else the largest of these that the median shorter side fills
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
_PNG = b"\x89PNG\r\n\x1a\n"
_TURNING = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""PNG text keywords that may hold an orientation."""

_GREY = ("1", "L", "LA", "La", "I", "F")
"""Pillow modes without colour."""

_LOSSES = {
    "clear": "pictures with transparency were put on white",
    "deep": "pictures of more than 8 bits a channel were rounded to 8",
    "frames": "files hold several pictures; the first of each was taken",
}
"""What decoding loses, and the notes on it. 16-bit integer grey is also ``dim`` without a value above 255, or
``bright``."""

Picture = Path | bytes | io.BufferedIOBase | Image.Image


class BadPictureError(Exception):
    """Reason why one image file is left out or refused."""


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """Decoded ``pixels`` (n, 1 or 3, h, w), their ``positions`` among the items, and notes."""

    pixels: UInt8[Tensor, "n c h w"]
    positions: list[int]
    notes: tuple[str, ...]


class LossCounter:
    """Counts of what decoding lost over a dataset."""

    def __init__(self, name: str) -> None:
        self._name, self._counts, self._first_dim = name, Counter[str](), ""

    def add(self, lost: set[str], where: str) -> None:
        """Count the losses of one image."""
        self._counts.update(lost)
        if "dim" in lost:
            self._first_dim = self._first_dim or where

    def notes(self, of: str = "") -> list[str]:
        """Return notes on the losses.

        Args:
            of: number of images examined, if not all were.

        Raises:
            PotstillError: 16-bit pictures that hold no value above 255, so that their scale cannot be told.
        """
        if (dim := self._counts["dim"]) and not self._counts["bright"]:
            raise PotstillError(
                f"{self._first_dim}: a picture of 16 bits without a value above 255, as are all {dim:,} of 16 bits in "
                f"{self._name}: nearly black, or 8-bit pixels in a wider file, which cannot be told; save them with "
                "8 bits, or times 257"
            )
        return [f"{self._name}: {n:,}{of} {text}" for loss, text in _LOSSES.items() if (n := self._counts[loss])]


def _header_losses(image: Image.Image) -> set[str]:
    """Return what is lost as soon as Pillow reads ``image``: further frames, and lower bytes of 16-bit colours."""
    wide = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    deep = image.format == "PNG" and image.mode not in ("I", "I;16") and wide
    several = getattr(image, "n_frames", 1) > 1
    return {loss for loss, is_lost in (("deep", deep), ("frames", several)) if is_lost}


def _to_eight_bits(image: Image.Image) -> tuple[npt.NDArray[np.uint8], set[str]]:
    """Convert 16-bit, 32-bit and float grey to 8-bit grey (h, w), and return what was lost."""
    x: npt.NDArray[Any] = np.asarray(image).astype(np.float64)
    low, high = float(x.min()), float(x.max())
    scale = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= scale):
        raise BadPictureError(f"its grey values go from {low:.4g} to {high:.4g}; they must lie in 0 … {scale:.0f}")
    rounded = np.rint(x * (255 / scale)).astype(np.uint8)
    lost = set[str]()
    # Floats of 32 bits are not exact themselves; what is left of that is far below a step of 16 bits.
    if np.abs(rounded * (scale / 255) - x).max() > scale / 65535 / 2:
        lost.add("deep")
    if image.mode != "F" and high > 0:
        lost.add("dim" if high <= 255 else "bright")
    return rounded, lost


class _Quiet:
    """Context that silences warnings from the first entry to the last exit, across threads.

    The filters are the process's, so threads that each saved and put back their own would undo each other's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before: warnings.catch_warnings[None] | None = None
        self._most: int | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                self._most = Image.MAX_IMAGE_PIXELS
                warnings.simplefilter("ignore")  # remarks on odd metadata
                # Pillow's own limit is a warning, then an error at twice the size; `_opened`'s is the one that counts.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            if Image.MAX_IMAGE_PIXELS is not None:
                Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits().pixels)
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0 and self._before is not None:
                    self._before.__exit__(None, None, None)
                    Image.MAX_IMAGE_PIXELS = self._most


silence_pillow = _Quiet()
"""``with silence_pillow():`` around decoding in several threads, so that only the first and last of them pay for it."""


def _bytes(picture: Picture) -> int:
    if isinstance(picture, Path):
        return picture.stat().st_size
    if isinstance(picture, bytes | Image.Image):
        return len(picture) if isinstance(picture, bytes) else 0
    size = picture.seek(0, io.SEEK_END)
    picture.seek(0)
    return size


@contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    """Open an image with its header read and pixel count checked; every failure is a ``BadPictureError``."""
    try:
        if not isinstance(picture, Image.Image) and _bytes(picture) == 0:
            raise BadPictureError("not an image (the file is empty)")
        with silence_pillow():
            if isinstance(picture, Image.Image):
                yield picture
                return
            file: Any = io.BytesIO(picture) if isinstance(picture, bytes) else picture
            with Image.open(file) as image:
                if image.width * image.height > limits().pixels:
                    raise Image.DecompressionBombError
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPictureError(
            f"refused, it unpacks to more than {limits().pixels:,} pixels; {limit_hint('pixels')}"
        ) from None
    except UnidentifiedImageError:
        raise BadPictureError(f"not an image (none of its {_bytes(picture):,} bytes make a known format)") from None
    except _DECODE_ERRORS as error:
        if isinstance(error, FileNotFoundError):
            raise BadPictureError("no such file") from None
        text = reason(error)
        cut = any(sign in text.lower() for sign in ("truncated", "unexpected end", "broken data"))
        raise BadPictureError(
            f"not an image (truncated after {_bytes(picture):,} bytes)" if cut else f"not an image ({text})"
        ) from None


def read_header(picture: Picture) -> tuple[int, int, bool]:
    """Return height and width as shown, and whether the image is greyscale, from the header alone.

    Raises:
        BadPictureError: it has no whole header.
    """
    with _opened(picture) as image:
        # Asked for the tag, Pillow decodes a whole PNG first, so that is asked only where there may be one.
        turned = (image.format != "PNG" or _may_be_turned(picture)) and image.getexif().get(0x0112, 1) >= 5
        w, h = image.size
        if isinstance(image, TiffImageFile):  # some versions of Pillow have turned its size already
            w, h = (image.tag_v2.get(tag, side) for tag, side in ((256, w), (257, h)))
        if turned:
            h, w = w, h
        return h, w, image.mode in _GREY or image.mode.startswith("I;")


def _may_be_turned(picture: Picture) -> bool:
    """Return True if a PNG has a chunk that may hold an orientation; walks over the chunk headers."""
    if isinstance(picture, Image.Image):
        return True
    with _as_file(picture) as file:
        at = len(_PNG)
        while file.seek(at) == at and len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"IEND":
                return False
            if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and file.read(21).startswith(_TURNING)):
                return True
            at += length + 12
    return True


@contextmanager
def _as_file(picture: Path | bytes | io.BufferedIOBase) -> Iterator[io.BufferedIOBase]:
    if isinstance(picture, io.BufferedIOBase):  # somebody else's: Pillow goes on where it was
        before = picture.tell()
        try:
            yield picture
        finally:
            picture.seek(before)
        return
    with io.BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb") as file:
        yield file


def decode_image(picture: Picture, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], set[str]]:
    """Decode to (h, w, 3) upright pixels that cover ``size``, cropped in the middle; also return what was lost.

    Raises:
        BadPictureError: it is broken, or a decompression bomb.
    """
    h, w = size
    with _opened(picture) as image:
        if image.format == "JPEG" and image is not picture:
            # Decoding at a fraction of the size, still twice what is needed, is several times faster for photographs.
            image.draft(image.mode, (2 * max(h, w),) * 2)
        lost = _header_losses(image)
        shown = image
        if image is picture:  # somebody else's
            shown = ImageOps.exif_transpose(image)
        else:  # no copy where there is nothing to turn
            ImageOps.exif_transpose(image, in_place=True)
        if shown.mode in ("F", "I") or shown.mode.startswith("I;"):
            grey, lost = _to_eight_bits(shown)
            shown = Image.fromarray(grey)
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            if shown.getchannel("A").getextrema() != (255, 255):
                lost.add("clear")
            shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
        if shown.mode != "RGB":  # else it would be copied
            shown = shown.convert("RGB")
        if (shown.height, shown.width) != size:
            shown = resize_and_crop(shown, size)
        return np.asarray(shown), lost


def resize_and_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize ``image`` bicubically to cover ``size`` (height, width) and crop the middle."""
    return ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC)


def choose_common_size(sides: Mapping[tuple[int, int], int]) -> tuple[tuple[int, int], str | None]:
    """Choose one size for images, and return the note that says so.

    Args:
        sides: how many there are of each height and width, at least one.
    """
    first = next(iter(sides))
    if len(sides) == 1 and max(first) <= _EQUAL_CAP:
        return first, None
    middle = median_low([min(pair) for pair in Counter(sides).elements()])
    side = next((b for b in _BUCKETS if b <= middle), _BUCKETS[-1])
    low, high = min(sides), max(sides)
    of = f"{low[0]} × {low[1]}" + ("" if low == high else f" to {high[0]} × {high[1]}")
    return (side, side), (
        f"pictures of {of} (height × width) resized to {side} × {side}: the shorter side fits, the middle is kept; "
        "give a size for another"
    )


def decode_images(
    items: Sequence[tuple[str, Picture]], *, size: tuple[int, int] | None, skip_bad: bool, name: str
) -> DecodedImages:
    """Decode images, in order, to one size.

    Upright by their EXIF tag; transparency on white; palettes, CMYK and 16-bit grey become 8-bit RGB. If every picture
    shows only grey, one channel is kept. Without ``size``: the common size if all have one of at most 128 × 128, else
    a square of 8, 16, 32 or 64, the largest that the median shorter side fills. Resizing is bicubic with antialiasing,
    keeps the aspect, and cuts the middle.

    Args:
        items: what to call the picture in a message, and the picture.
        size: (height, width).
        skip_bad: leave damaged pictures out (noted) instead of raising.
        name: of the data, for notes.

    Raises:
        PotstillError: a picture is damaged or a decompression bomb (unless ``skip_bad``), or all are; those of 16 bits
            hold no value above 255.
    """
    bad = DamagedFiles("pictures", skip_bad=skip_bad)
    sides: dict[int, tuple[int, int]] = {}
    good = list(range(len(items)))
    if size is None:
        for i in good:
            try:
                sides[i] = read_header(items[i][1])[:2]
            except BadPictureError as error:
                bad.add(items[i][0], error)
        good = list(sides)
    while True:
        target, note = (
            (size, None) if size is not None else choose_common_size(Counter(sides[i] for i in good) or {(1, 1): 1})
        )
        what = f"{name}: {len(good):,} pictures of {target[0]:,} × {target[1]:,}"
        require_memory(3 * len(good) * target[0] * target[1], what, "give a smaller size, or stream them")
        pixels = np.empty((len(good), *target, 3), dtype=np.uint8)
        positions: list[int] = []
        grey, losses = True, LossCounter(name)
        for i in good:
            where, picture = items[i]
            try:
                x, lost = decode_image(picture, target)
            except BadPictureError as error:
                bad.add(where, error)
                continue
            pixels[len(positions)] = x
            positions.append(i)
            losses.add(lost, where)
            grey = grey and bool((x[..., 0] == x[..., 1]).all() and (x[..., 1] == x[..., 2]).all())
        if size is not None or len(positions) in (0, len(good)):
            break
        good = positions  # a picture with a whole header but broken pixels must not decide the size: decode once more
    if not positions:
        raise bad.none_left(name, len(items)) if items else PotstillError(f"{name}: there are no pictures")
    notes = [f"{name}: {note}"] if note else []
    notes += [*losses.notes(), *bad.notes(name)]
    channels = pixels[: len(positions), ..., :1] if grey else pixels[: len(positions)]
    return DecodedImages(
        torch.from_numpy(np.ascontiguousarray(channels.transpose(0, 3, 1, 2))), positions, tuple(notes)
    )
