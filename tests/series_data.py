"""Small series for tests: two seasonal variables with noise, windows of them, and series with classes."""

import numpy as np

import potstill
from potstill.core import Splits

__all__ = ["classified", "seasonal", "windows"]


def seasonal(points: int = 160, variables: int = 1, seed: int = 0) -> np.ndarray:
    """Return ``points`` values of each variable: a season of 8, a slower one, and noise."""
    rng, time = np.random.default_rng(seed), np.arange(points)
    of_each = [
        10 * v + np.sin(time / 8 * 2 * np.pi + v) + 0.5 * np.cos(time / 21 * 2 * np.pi) for v in range(variables)
    ]
    return np.stack(of_each, 1) + 0.1 * rng.standard_normal((points, variables))


def windows(points: int = 160, variables: int = 1, *, window: int = 8, horizon: int = 4, seed: int = 0) -> Splits:
    """Return windows of `seasonal` to forecast from."""
    return potstill.load_data(seasonal(points, variables, seed), task=f"forecast:window={window},horizon={horizon}")


def classified(
    each: int = 12, length: int = 32, channels: int = 2, classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return series (n, channels, length) of as many frequencies as classes, at any phase, and their classes (n,)."""
    rng, time = np.random.default_rng(seed), np.arange(length) / length * 2 * np.pi
    y = np.repeat(np.arange(classes), each)
    phase = rng.uniform(0, 2 * np.pi, (len(y), channels, 1))
    waves = np.sin((2 + 2 * y)[:, None, None] * time + phase)
    return waves + 0.2 * rng.standard_normal(waves.shape), y
