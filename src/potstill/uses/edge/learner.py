"""The learner of a small device in NumPy: a linear softmax head or a small MLP, by SGD with momentum in float32.

`train.c` is the same arithmetic in C: the same random words, starts, orders and rates, so that both learn the same
weights up to rounding.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from potstill.errors import PotstillError, suggestion
from potstill.functional.counter_rng import philox

__all__ = ["DEFAULT_HIDDEN", "Head", "Weights", "buffer_bytes", "parse_head", "predict", "sample_order", "train"]

DEFAULT_HIDDEN = 64
"""Hidden units of ``mlp``."""
MAX_HIDDEN = 4096
MOMENTUM = np.float32(0.9)
_Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Matrix (outputs × inputs) and biases."""
_ORDER, _FIRST, _SECOND = 0, 1, 2
"""Streams of random words."""

Weights = Float32[np.ndarray, " p"]
"""Parameters: of each layer the matrix (outputs × inputs), then the biases."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head and how it is trained."""

    hidden: int = 0
    """Units of the hidden layer; 0: a linear head."""
    updates: int = 1000
    batch: int = 32
    """Samples of an update, at most."""
    lr: float = 0.01
    """Learning rate of the first update; it falls along a line to zero."""

    @property
    def name(self) -> str:
        return f"mlp:hidden={self.hidden}" if self.hidden else "linear"

    def num_parameters(self, values: int, classes: int) -> int:
        """Return the weights and biases of a head for inputs of so many values."""
        h = self.hidden
        return (h * values + h + classes * h + classes) if h else classes * values + classes

    def update_operations(self, values: int, classes: int, items: int) -> int:
        """Return the multiply-adds of one update: scores, gradients of weights, gradients of hidden units."""
        h, b = self.hidden, min(self.batch, items)
        return b * ((2 * values * h + 3 * h * classes) if h else 2 * values * classes)


def parse_head(text: str) -> int:
    """Return the hidden units of ``linear`` (0), ``mlp`` or ``mlp:hidden=64``.

    Raises:
        PotstillError: there is no such head.
    """
    name, _, setting = text.partition(":")
    if text == "linear":
        return 0
    if name != "mlp":
        raise PotstillError(f"no head {text!r}; {suggestion(name, ('linear', 'mlp'), 'heads')}")
    key, _, number = setting.partition("=")
    if setting == "" and ":" not in text:
        return DEFAULT_HIDDEN
    if key != "hidden" or not number.isascii() or not number.isdigit() or not 1 <= int(number[:6]) <= MAX_HIDDEN:
        raise PotstillError(f"head {text!r} has no such setting; give mlp:hidden=N with N from 1 to {MAX_HIDDEN:,}")
    return int(number)


def buffer_bytes(head: Head, values: int, classes: int, items: int) -> int:
    """Return the bytes of the C trainer's buffers beside the set: weights, momentum, gradient, one input, an order."""
    layer = 2 * (head.hidden + 1) + 2 * classes + values
    return 4 * (3 * head.num_parameters(values, classes) + layer) + 2 * items


def sample_order(n: int, count: int, seed: int) -> Int64[np.ndarray, " count"]:
    """Return the positions of the samples of all updates: permutations of 0 … n − 1, one after another."""
    epochs = -(-count // n)
    orders = np.tile(np.arange(n), (epochs, 1))
    turns, rows = np.arange(epochs, dtype=np.uint64), np.arange(epochs)
    words = philox(seed, np.arange(n, dtype=np.uint64)[:, None], _ORDER, turns[None])[0]
    for i in range(n - 1, 0, -1):
        j = ((words[i] * np.uint64(i + 1)) >> np.uint64(32)).astype(np.int64)
        orders[rows, j], orders[:, i] = orders[:, i].copy(), orders[rows, j]
    return orders.reshape(-1)[:count]


def _initial(head: Head, values: int, classes: int, seed: int) -> Weights:
    weights = np.zeros(head.num_parameters(values, classes), np.float32)
    if (h := head.hidden) == 0:
        return weights

    def uniform(stream: int, count: int, bound: float) -> NDArray[np.float32]:
        words = philox(seed, np.arange(count, dtype=np.uint64), stream, 0)[0] >> np.uint64(8)
        return (words.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)) * np.float32(bound)

    weights[: h * values] = uniform(_FIRST, h * values, math.sqrt(6 / values))
    start = h * values + h
    weights[start : start + classes * h] = uniform(_SECOND, classes * h, math.sqrt(3 / h))
    return weights


def _layers(flat: Weights, head: Head, values: int, classes: int) -> list[_Layer]:
    """Return matrix and biases of each layer, as views."""
    sizes = [(head.hidden, values), (classes, head.hidden)] if head.hidden else [(classes, values)]
    layers, at = [], 0
    for outputs, inputs in sizes:
        end = at + outputs * inputs
        layers.append((flat[at:end].reshape(outputs, inputs), flat[end : end + outputs]))
        at = end + outputs
    return layers


def predict(
    weights: Weights, head: Head, x: Float32[np.ndarray, "n values"], classes: int
) -> Int64[np.ndarray, " n"]:  # fmt: skip
    """Return the class of each input."""
    for matrix, bias in (layers := _layers(weights, head, x.shape[1], classes))[:-1]:
        x = np.maximum(x @ matrix.T + bias, 0)
    matrix, bias = layers[-1]
    return np.asarray((x @ matrix.T + bias).argmax(1))


def train(
    head: Head, x: Float32[np.ndarray, "n values"], y: Float32[np.ndarray, "n k"], seed: int, *,
    weights: Float32[np.ndarray, " n"] | None = None, check: Callable[[int, Weights, float], None] | None = None,
) -> Weights:  # fmt: skip
    """Train a head and return its weights.

    Args:
        head: what is trained, and how.
        x: inputs in model space.
        y: rows of probabilities.
        seed: of starts and orders, in [0, 2**32).
        weights: factors of the samples' losses, mean 1.
        check: called with the updates so far, the weights and the processor seconds of those updates, at the first
            updates and then ever more rarely.
    """
    n, values, classes = *x.shape, y.shape[1]
    batch = min(head.batch, n)
    order = sample_order(n, batch * head.updates, seed)
    flat = _initial(head, values, classes, seed)
    velocity, gradient = np.zeros_like(flat), np.zeros_like(flat)
    layers, slopes = (_layers(a, head, values, classes) for a in (flat, gradient))
    factor = np.full(n, 1 / batch, np.float32) if weights is None else weights / np.float32(batch)
    seconds, next_check = 0.0, 1
    for step in range(head.updates):
        started = time.thread_time()
        at = order[step * batch : (step + 1) * batch]
        _add_gradient(layers, slopes, x[at], y[at], factor[at])
        velocity *= MOMENTUM
        velocity += gradient
        rate = np.float32(head.lr) * (np.float32(head.updates - step) / np.float32(head.updates))
        np.subtract(flat, rate * velocity, out=flat)
        seconds += time.thread_time() - started
        if check is not None and step + 1 in (next_check, head.updates):
            check(step + 1, flat, seconds)
            next_check = max(next_check + 1, math.ceil(next_check * 1.1))
    return flat


def _add_gradient(
    layers: list[_Layer], slopes: list[_Layer],
    x: NDArray[np.float32], y: NDArray[np.float32], factor: NDArray[np.float32],
) -> None:  # fmt: skip
    """Write the gradient of a batch into ``slopes``."""
    inputs = [x]
    for matrix, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ matrix.T + bias, 0))
    matrix, bias = layers[-1]
    scores = inputs[-1] @ matrix.T + bias
    raised = np.exp(scores - scores.max(1, keepdims=True))
    error = (raised / raised.sum(1, keepdims=True) - y) * factor[:, None]
    for at in range(len(layers) - 1, -1, -1):
        np.matmul(error.T, inputs[at], out=slopes[at][0])
        error.sum(0, out=slopes[at][1])
        if at > 0:
            error = (error @ layers[at][0]) * (inputs[at] > 0)
