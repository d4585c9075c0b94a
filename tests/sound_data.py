"""Small folders of sound files for tests: tones with noise, a class for each pitch."""

import wave
from pathlib import Path

import numpy as np

__all__ = ["tone", "write_tones", "write_wav"]


def tone(pitch: float, seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Return a tone at half of full scale, a little out of tune, with noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * rate)) / rate
    wave_form = 0.5 * np.sin(2 * np.pi * pitch * (1 + 0.05 * rng.standard_normal()) * at + rng.uniform(0, 6))
    return wave_form + 0.01 * rng.standard_normal(len(at))


def write_wav(path: Path, sound: np.ndarray, rate: int, width: int = 2) -> Path:
    """Write samples (n,) or (n, channels) in [−1, 1] as a WAV file of ``width`` bytes a sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    most = 2 ** (8 * width - 1) - 1
    numbers = np.rint(np.clip(sound, -1, 1) * most).astype(np.int64).reshape(-1)
    if width == 1:
        content = (numbers + 128).astype(np.uint8).tobytes()
    else:
        content = b"".join(int(n).to_bytes(width, "little", signed=True) for n in numbers)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


def write_tones(root: Path, each: int = 6, seconds: float = 0.3, rate: int = 8000) -> Path:
    """Write ``low``, ``middle`` and ``high`` with ``each`` tones, and return the folder."""
    for c, (name, pitch) in enumerate({"low": 200, "middle": 700, "high": 2000}.items()):
        for n in range(each):
            write_wav(root / name / f"voice{n % 3}-{n}.wav", tone(pitch, seconds, rate, 10 * c + n), rate)
    return root
