"""Frames of clips: animated GIF, WebP and PNG by Pillow, videos by PyAV, folders of numbered pictures."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from potstill._util.input_limits import limit_hint, limits
from potstill._util.optional import import_optional
from potstill.data.error_text import reason
from potstill.data.pictures import BadPictureError, decode_image, read_header, silence_pillow
from potstill.errors import PotstillError

__all__ = ["ANIMATED_SUFFIXES", "MOST_FRAMES", "VIDEO_SUFFIXES", "BadClipError", "Clip", "read_frames", "read_size"]

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ogv")
"""Lower-case endings of files that PyAV reads."""
ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")
"""Lower-case endings of files that Pillow reads as clips."""
MOST_FRAMES = 4096
"""Frames of a clip that are read."""

Frames = npt.NDArray[np.uint8]


class BadClipError(Exception):
    """Reason why one clip is left out or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file, or a folder with a picture for each frame."""

    path: Path
    frames: tuple[str, ...] = ()
    """Names of the pictures within the folder, in the order of time; empty: a file."""


def number_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``frame10`` behind ``frame9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_size(clip: Clip) -> tuple[int, int]:
    """Return height and width of a clip's first frame.

    Raises:
        BadClipError: it has no readable header.
        PotstillError: it is a video and PyAV is not installed.
    """
    try:
        if clip.frames:
            return read_header(clip.path / clip.frames[0])[:2]
        if clip.path.suffix.lower() in ANIMATED_SUFFIXES:
            return read_header(clip.path)[:2]
    except BadPictureError as error:
        raise BadClipError(str(error)) from None
    with _Video(clip.path) as video:
        stream = video.stream
        if stream.width * stream.height > limits().pixels:
            raise BadClipError(f"a frame has more than {limits().pixels:,} pixels; {limit_hint('pixels')}")
        return int(stream.height), int(stream.width)


def read_frames(clip: Clip, size: tuple[int, int]) -> Frames:
    """Return all frames (t, h, w, 3), each resized to cover ``size`` (h, w) and cropped in the middle.

    Raises:
        BadClipError: the clip or one of its frames is damaged, or it has more than `MOST_FRAMES`.
        PotstillError: it is a video and PyAV is not installed.
    """
    if clip.frames:
        frames = _limited(_read_pictures(clip.path, clip.frames, size))
    elif clip.path.suffix.lower() in ANIMATED_SUFFIXES:
        frames = _limited(_read_animated(clip.path, size))
    else:
        with _Video(clip.path) as video:
            frames = _limited(video.decode(size))
    if not frames:
        raise BadClipError("it has no frames")
    return np.stack(frames)


def _limited(frames: Iterator[Frames]) -> list[Frames]:
    limited_frames: list[Frames] = []
    for frame in frames:
        limited_frames.append(frame)
        if len(limited_frames) > MOST_FRAMES:
            raise BadClipError(f"it has more than {MOST_FRAMES:,} frames; cut it into clips")
    return limited_frames


def _read_pictures(folder: Path, names: Sequence[str], size: tuple[int, int]) -> Iterator[Frames]:
    for name in names:
        try:
            yield decode_image(folder / name, size)[0]
        except BadPictureError as error:
            raise BadClipError(f"frame {name}: {error}") from None


def _read_animated(path: Path, size: tuple[int, int]) -> Iterator[Frames]:
    try:
        with silence_pillow(), Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                yield decode_image(frame.convert("RGBA"), size)[0]
    except BadPictureError as error:
        raise BadClipError(str(error)) from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BadClipError(f"not a clip ({reason(error)})") from None


class _Video:
    """An opened video; errors of its library are a `BadClipError`."""

    def __init__(self, path: Path) -> None:
        self._av = import_optional("av", f"{path.name}: videos", "video")
        try:
            self._container: Any = self._av.open(str(path), mode="r")
        except (self._av.FFmpegError, OSError) as error:
            raise BadClipError(f"not a video ({reason(error)})") from None
        if not self._container.streams.video:
            self._container.close()
            raise BadClipError("there is no video in it; it may be cut off, or hold sound alone")
        self.stream: Any = self._container.streams.video[0]

    def __enter__(self) -> "_Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def decode(self, size: tuple[int, int]) -> Iterator[Frames]:
        """Yield the frames (h, w, 3), upright as the file says."""
        try:
            for frame in self._container.decode(self.stream):
                image = frame.to_image()
                if turn := int(getattr(frame, "rotation", 0) or 0):
                    image = image.rotate(turn, expand=True)
                yield decode_image(image, size)[0]
        except (self._av.FFmpegError, BadPictureError) as error:
            raise BadClipError(f"damaged ({reason(error) if isinstance(error, OSError) else error})") from None


def require_clip_folder(data: object) -> Path:
    """Return the folder of clips.

    Raises:
        PotstillError: it is none.
    """
    if not isinstance(data, str | Path):
        raise PotstillError(
            f"a {type(data).__name__} was given; clips are read from a folder with a folder for each class"
        )
    root = Path(data).expanduser()
    if not root.is_dir():
        raise PotstillError(f"{data}: no such folder; clips are read from a folder with a folder for each class")
    return root
