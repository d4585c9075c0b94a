"""Small series for tests: two seasonal variables with noise, and windows of them."""

import numpy as np

import potstill
from potstill.core import Splits

__all__ = ["seasonal", "windows"]


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
