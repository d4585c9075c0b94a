"""Log-mel spectrograms without PyTorch: their scale, the bands, and the way back to a sound that can be heard.

Bands are triangles on O'Shaughnessy's mel scale, `2595 log10(1 + f / 700)`, whose peaks are 1. A sound is made of a
spectrogram by non-negative least squares for the magnitudes and by Griffin and Lim's iteration for the phases, with the
momentum of Perraudin et al., "A fast Griffin-Lim algorithm" (WASPAA 2013).
"""

import base64
import io
import math
import re
import wave
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from potstill.errors import PotstillError

__all__ = ["FLOOR", "MelScale", "encode_wav", "sound_uri"]

Array = npt.NDArray[np.float64]

FLOOR = 80.0
"""Decibels between a value of 0 and of 1."""
_UNITS = re.compile(r"log-mel:rate=(\d{1,6}),mels=(\d{1,4})")
_SECONDS = 0.032
"""Length of a window, about."""
_MAGNITUDES, _PHASES, _MOMENTUM = 60, 32, 0.99
"""Iterations for magnitudes and for phases, and the momentum of the latter."""
_LOUDEST = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class MelScale:
    """The frequencies and times of a log-mel spectrogram (1, mels, frames) with values in [0, 1].

    Rows are bands, the highest first, as a spectrogram is drawn; columns are windows of about 32 ms that overlap by
    half. A value v is a power of ``80 v − 80`` decibels, where 0 dB is a sine at full scale.

    Raises:
        PotstillError: a rate or a number of bands out of range, or bands so narrow that some hold no frequency.

    Examples:
        >>> scale = MelScale(rate=16000, mels=32)
        >>> scale.window, scale.hop, scale.units
        (512, 256, 'log-mel:rate=16000,mels=32')
    """

    rate: int
    """Samples of the sound in a second."""
    mels: int = 32
    """Bands."""

    def __post_init__(self) -> None:
        if not 1_000 <= self.rate <= 48_000:
            raise PotstillError(f"the rate of sounds is from 1,000 to 48,000 Hz, but rate is {self.rate:,}; change it")
        if not 4 <= self.mels <= 256:
            raise PotstillError(f"a spectrogram has from 4 to 256 bands, but mels is {self.mels:,}; change it")
        if not self.filters().any(1).all():
            raise PotstillError(
                f"{self.mels} bands at {self.rate:,} Hz are so narrow that some hold no frequency; give fewer `mels`"
            )

    @property
    def window(self) -> int:
        """Samples of a window: the power of 2 next to 32 ms."""
        return int(2 ** round(math.log2(_SECONDS * self.rate)))

    @property
    def hop(self) -> int:
        """Samples between windows."""
        return self.window // 2

    @property
    def units(self) -> str:
        """The scale as the units of an input say it."""
        return f"log-mel:rate={self.rate},mels={self.mels}"

    @classmethod
    def from_units(cls, units: str) -> "MelScale":
        """Return the scale that the units of an input say.

        Raises:
            PotstillError: they say none.
        """
        if (match := _UNITS.fullmatch(units)) is None:
            raise PotstillError(
                f"the units of sounds must be such as log-mel:rate=16000,mels=32, but are {units[:60]!r}; make the set "
                "again"
            )
        return cls(rate=int(match[1]), mels=int(match[2]))

    def seconds(self, frames: int) -> float:
        """Return how long so many frames last."""
        return frames * self.hop / self.rate

    def filters(self) -> Array:
        """Return the weights (mels, window / 2 + 1) of each frequency in each band, the lowest band first."""
        top = 2595 * math.log10(1 + self.rate / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0, top, self.mels + 2) / 2595) - 1)
        at = np.linspace(0, self.rate / 2, self.window // 2 + 1)
        rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
        return np.maximum(0, np.minimum(rising, falling))

    def to_wave(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return a sound whose spectrogram is near ``values`` (1, mels, frames): samples in [−1, 1], the loudest at
        0.9, and silence where all values are 0.

        What is heard is an approximation: a spectrogram holds neither phases nor frequencies within a band.
        """
        shown = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float64)[0, ::-1], nan=0.0), 0, 1)
        power = np.where(shown > 0, 10 ** (FLOOR * (shown - 1) / 10), 0.0)
        frames = power.shape[1]
        fine = _interpolate(_magnitudes(power, self.filters()))  # twice as many windows: phases fit better
        sound = _griffin_lim(fine, self.window)[: frames * self.hop]
        most = float(np.abs(sound).max(initial=0))
        return (sound * (_LOUDEST / most) if most > 0 else sound).astype(np.float32)


def _magnitudes(power: Array, filters: Array) -> Array:
    """Return magnitudes (frequencies, frames) whose power in the bands is near ``power``, by multiplicative updates."""
    squares, target = filters.T @ filters, filters.T @ power
    tiny = 1e-30
    squared = target / (squares.sum(1, keepdims=True) + tiny)
    for _ in range(_MAGNITUDES):
        squared = squared * target / (squares @ squared + tiny)
    root: Array = np.sqrt(squared)
    return root


def _interpolate(magnitudes: Array) -> Array:
    """Return the frames with the mean of neighbours between them; the last one stands twice."""
    after = np.concatenate([magnitudes[:, 1:], magnitudes[:, -1:]], 1)
    return np.stack([magnitudes, (magnitudes + after) / 2], 2).reshape(len(magnitudes), -1)


def _to_frames(sound: Array, window: int, frames: int) -> npt.NDArray[np.complex128]:
    """Return the spectra (frequencies, frames) of windows around every quarter of a window."""
    padded = np.pad(sound, (window // 2, window))
    at = np.arange(frames)[:, None] * (window // 4) + np.arange(window)
    spectra: npt.NDArray[np.complex128] = np.fft.rfft(padded[at] * _hann(window), axis=1).T
    return spectra


def _to_sound(spectra: npt.NDArray[np.complex128], window: int) -> Array:
    """Return the sound whose windows are nearest to the spectra, by least squares."""
    pieces = np.fft.irfft(spectra.T, window, axis=1) * _hann(window)
    frames, hop = len(pieces), window // 4
    total, weight = np.zeros((frames + 3) * hop), np.zeros((frames + 3) * hop)
    for n, piece in enumerate(pieces):
        total[n * hop : n * hop + window] += piece
        weight[n * hop : n * hop + window] += _hann(window) ** 2
    return (total / np.maximum(weight, 1e-3))[window // 2 :]


def _griffin_lim(magnitudes: Array, window: int) -> Array:
    """Return a sound whose windows have these magnitudes (frequencies, frames)."""
    frames = magnitudes.shape[1]
    turns = np.random.default_rng(0).random(magnitudes.shape)  # one seed: a set sounds alike everywhere
    phases = np.exp(2j * np.pi * turns)
    before: npt.NDArray[np.complex128] = np.zeros_like(phases)
    sound: Array = np.zeros(1)
    for _ in range(_PHASES):
        sound = _to_sound(magnitudes * phases, window)
        now = _to_frames(sound, window, frames)
        ahead = now + _MOMENTUM * (now - before)
        before = now
        phases = ahead / np.maximum(np.abs(ahead), 1e-16)
    return _to_sound(magnitudes * phases, window)


def _hann(window: int) -> Array:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def encode_wav(sound: npt.NDArray[np.floating], rate: int) -> bytes:
    """Return a WAV file of one channel and 16 bits, with values clipped to [−1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def sound_uri(sound: npt.NDArray[np.floating], rate: int) -> str:
    """Return a WAV file as a ``data:`` address."""
    return "data:audio/wav;base64," + base64.b64encode(encode_wav(sound, rate)).decode("ascii")
