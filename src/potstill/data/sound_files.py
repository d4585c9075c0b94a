"""Sound files as one channel of numbers: WAV by the standard library, other formats by soundfile."""

import wave
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill._util.input_limits import check_limit, limits
from potstill._util.optional import import_optional
from potstill.data.error_text import reason
from potstill.data.limits import require_memory
from potstill.errors import PotstillError

__all__ = ["SOUND_SUFFIXES", "BadSoundError", "SoundHeader", "read_header", "read_sound", "resample"]

Samples = npt.NDArray[np.float32]

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
"""Lower-case endings of files that are read as sounds."""
_UNKNOWN = 2**31 - 2**16
"""Bytes from which on a header says no size: the program that wrote the file did not know it yet."""
_HIGHEST = 768_000


class BadSoundError(Exception):
    """Reason why one sound file is left out or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundHeader:
    """Rate, length and channels of a sound file, as its header says."""

    rate: int
    """Samples in a second."""
    samples: int
    """Samples of a channel."""
    channels: int


def read_header(path: Path) -> SoundHeader:
    """Read the beginning of a sound file.

    Raises:
        BadSoundError: the file is no sound, or is empty.
        PotstillError: it is longer than the limit, or needs soundfile, which is not installed.
    """
    if path.suffix.lower() == ".wav":
        try:
            with wave.open(str(path), "rb") as file:
                width, channels = file.getnchannels() * file.getsampwidth(), file.getnchannels()
                frames = file.getnframes() if file.getnframes() * width < _UNKNOWN else path.stat().st_size // width
                return _checked(path, SoundHeader(rate=file.getframerate(), samples=frames, channels=channels))
        except (wave.Error, EOFError, OSError) as error:
            _require_other_format(error)
    soundfile = _soundfile(path)
    try:
        about = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:
        raise BadSoundError(f"not a sound ({_error_text(error)})") from None
    return _checked(path, SoundHeader(rate=about.samplerate, samples=about.frames, channels=about.channels))


def read_sound(path: Path) -> tuple[Samples, int]:
    """Read a sound file as the mean of its channels, in [−1, 1] as far as its format goes, and its rate.

    Raises:
        BadSoundError: the file is damaged, is shorter than it says, or holds values that are not finite.
        PotstillError: as `read_header`.
    """
    about = read_header(path)
    require_memory(12 * about.samples * about.channels, str(path), "cut it into clips")
    sound = _read_wav(path) if path.suffix.lower() == ".wav" else None
    sound = _read_other(path) if sound is None else sound
    if not len(sound):
        raise BadSoundError("it holds no samples")
    mono: Samples = sound.mean(1, dtype=np.float64).astype(np.float32) if sound.shape[1] > 1 else sound[:, 0]
    if not np.isfinite(mono).all():
        raise BadSoundError("it holds values that are not finite")
    return mono, about.rate


def resample(sound: Samples, rate: int, to: int) -> Samples:
    """Return a sound at another rate, through SciPy's polyphase filter against aliases."""
    if rate == to:
        return sound
    from scipy.signal import resample_poly  # type: ignore[import-untyped,unused-ignore]  # slow to import

    common = gcd(rate, to)
    resampled: Samples = resample_poly(sound, to // common, rate // common).astype(np.float32)
    return resampled


def _checked(path: Path, about: SoundHeader) -> SoundHeader:
    if not 1 <= about.rate <= _HIGHEST or about.channels < 1:
        raise BadSoundError(f"its header says {about.rate:,} samples in a second and {about.channels:,} channels")
    if about.samples < 1:
        raise BadSoundError("it holds no samples")
    check_limit("sound_seconds", -(-about.samples // about.rate), str(path))
    return about


def _require_other_format(error: Exception) -> None:
    """Return if the standard library knows no such WAV file, which another reader may.

    Raises:
        BadSoundError: the file is damaged.
    """
    if not str(error).startswith("unknown format"):
        raise BadSoundError(f"not a WAV file ({_error_text(error)})") from None


def _error_text(error: Exception) -> str:
    return "it ends in its header" if isinstance(error, EOFError) else reason(error)


def _read_wav(path: Path) -> Samples | None:
    """Return the samples (n, channels) of a PCM file; ``None``: it is of another format."""
    try:
        with wave.open(str(path), "rb") as file:
            frames, channels, width = file.getnframes(), file.getnchannels(), file.getsampwidth()
            content = file.readframes(frames)
    except (wave.Error, EOFError, OSError) as error:
        _require_other_format(error)
        return None
    if (there := len(content) // (channels * width)) < frames and frames * channels * width < _UNKNOWN:
        raise BadSoundError(f"it ends after {there:,} of {frames:,} samples")
    content = content[: there * channels * width]
    if width == 1:
        flat = (np.frombuffer(content, np.uint8).astype(np.float64) - 128) / 128
    elif width == 3:
        parts = np.frombuffer(content, np.uint8).reshape(-1, 3).astype(np.int32)
        flat = (parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) / 2**31
    elif width in (2, 4):
        flat = np.frombuffer(content, f"<i{width}") / 2.0 ** (8 * width - 1)
    else:
        raise BadSoundError(f"its samples have {8 * width} bits")
    samples: Samples = flat.astype(np.float32).reshape(-1, channels)
    return samples


def _read_other(path: Path) -> Samples:
    soundfile = _soundfile(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            most = limits().sound_seconds * file.samplerate
            sound: Samples = file.read(most + 1, dtype="float32", always_2d=True)
            frames = file.frames
    except (RuntimeError, OSError) as error:
        raise BadSoundError(f"it is damaged ({_error_text(error)})") from None
    if len(sound) < min(frames, most):
        raise BadSoundError(f"it ends after {len(sound):,} of {frames:,} samples")
    return sound


def _soundfile(path: Path) -> Any:
    what = "sounds other than WAV of whole numbers"
    try:
        return import_optional("soundfile", f"{path}: {what}", "sound")
    except OSError as error:  # the package is there, the library that it calls is not
        raise PotstillError(f"{path}: {what} need libsndfile ({reason(error)}); install it") from None
