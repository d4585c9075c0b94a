"""Data with a known bias: an attribute of pictures goes with the class (arXiv:2403.16028).

Colours of grey pictures (CMNIST-DD) and corruptions of colour pictures (CCIFAR10-DD).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import Source, Splits
from potstill.core.nested import single_tensor
from potstill.data.attributes import Attribute
from potstill.data.common_corruptions import CORRUPTIONS, SEVERITIES, corrupt_pictures
from potstill.data.in_memory import TensorSource, fit_normalization
from potstill.data.load import load
from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = ["COLOURS", "ccifar10_dd", "cmnist_dd"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 20, 60), "teal": (0, 128, 128), "lemon": (253, 233, 16), "blue": (0, 90, 230),
    "orange": (237, 120, 20), "violet": (145, 30, 188), "cyan": (70, 240, 240), "pink": (250, 150, 200),
    "green": (40, 200, 60), "maroon": (128, 40, 0),
}  # fmt: skip
"""Colours by name, in the order of the classes that they go with. Ours: the paper's table is not published as text."""
_SPREADS = (0.05, 0.02, 0.01, 0.005, 0.002)
"""Standard deviation of a colour's channels by severity, from 1 on."""


def cmnist_dd(
    data: Any,
    *,
    ratio: float,
    severity: int = 1,
    seed: int = 42,
    test: str = "uniform",
) -> Splits:
    """Colour grey pictures so that ``ratio`` of each class has the colour that goes with it: CMNIST-DD.

    The rest of a class is divided evenly among the other colours. A picture is multiplied by its colour, whose channels
    vary from picture to picture, the less the higher the severity.

    Args:
        data: grey pictures of at most ten classes with a test part: anything `potstill.load_data` takes or returns,
            such as ``mnist-5k``.
        ratio: fraction in [0, 1] of each class of the training part in its own colour. One over the number of classes
            is no bias.
        severity: 1 to 5; standard deviations of 0.05, 0.02, 0.01, 0.005 and 0.002 of a channel in [0, 1].
        seed: seed of colours.
        test: ``uniform``: every colour equally often in every class; ``anti-biased``: no sample in its class's colour,
            as the benchmark's "unbiased" test set is; ``every``: each picture once in every colour.

    Returns:
        Splits of uint8 pictures (n, 3, h, w) with the attribute colour.

    Raises:
        PotstillError: the pictures are not grey, there are more than ten classes or no test part, or a number is out of
            its range.

    Examples:
        >>> from potstill.data.biased import cmnist_dd
        >>> splits = cmnist_dd("digits", ratio=0.95)
        >>> splits.train.input.shape, splits.train.attribute.values[:2]
        ((3, 8, 8), ('red', 'teal'))
    """
    splits = load(data)
    name = f"cmnist-dd of {splits.train.name}"
    _check(splits, name, 1, len(COLOURS), ratio, severity, len(_SPREADS), test)
    spread = _SPREADS[severity - 1]

    def paint(x: Tensor, codes: Tensor, part: str) -> Tensor:
        return _paint(x, codes, spread, seed, part)

    return _biased(splits, name, _Bias("colour", tuple(COLOURS), paint), ratio, seed, test)


def ccifar10_dd(data: Any, *, ratio: float, severity: int = 1, seed: int = 42, test: str = "uniform") -> Splits:
    """Corrupt colour pictures so that ``ratio`` of each class has the corruption that goes with it: CCIFAR10-DD.

    The rest of a class is divided evenly among the other corruptions: snow, frost, fog, brightness, contrast, spatter,
    elastic, jpeg, pixelate and saturate, in the order of the classes. Formulas and what differs from CIFAR-10-C:
    `potstill.data.common_corruptions`.

    Args:
        data: colour pictures of at most ten classes with a test part: anything `potstill.load_data` takes or returns,
            such as ``cifar10``.
        ratio: fraction in [0, 1] of each class of the training part with its own corruption. One over the number of
            classes is no bias.
        severity: 1 to 4; the severity of CIFAR-10-C is one more, as in the benchmark.
        seed: seed of corruptions.
        test: ``uniform``: every corruption equally often in every class; ``anti-biased``: no sample with its class's
            corruption, as the benchmark's "unbiased" test set is; ``every``: each picture once with every corruption.

    Returns:
        Splits of uint8 pictures (n, 3, h, w) with the attribute corruption.

    Raises:
        PotstillError: the pictures are not in colour, there are more than ten classes or no test part, or a number is
            out of its range.

    Examples:
        >>> import numpy as np
        >>> from potstill.data.biased import ccifar10_dd
        >>> pictures = np.random.default_rng(0).random((40, 8, 8, 3), np.float32)
        >>> splits = ccifar10_dd((pictures, np.arange(40) % 2), ratio=0.9)
        >>> splits.train.attribute.values
        ('snow', 'frost')
    """
    splits = load(data)
    name = f"ccifar10-dd of {splits.train.name}"
    _check(splits, name, 3, len(CORRUPTIONS), ratio, severity, SEVERITIES - 1, test)

    def change(x: Tensor, codes: Tensor, part: str) -> Tensor:
        found = x.clone()
        for code, corruption in enumerate(CORRUPTIONS):
            (at,) = torch.where(codes == code)
            rng = generator(seed, "corruptions", part, corruption)
            found[at] = corrupt_pictures(corruption, x[at], severity + 1, rng)
        return found

    return _biased(splits, name, _Bias("corruption", tuple(CORRUPTIONS), change), ratio, seed, test)


class _Bias(NamedTuple):
    """An attribute that goes with the class."""

    noun: str
    values: tuple[str, ...]
    change: Callable[[Tensor, Tensor, str], Tensor]
    """Function from pictures in [0, 1], numbers of values and the name of a part to pictures."""


def _check(
    splits: Splits, name: str, channels: int, most: int, ratio: float, severity: int, severities: int, test: str
) -> None:  # fmt: skip
    train = splits.train
    k = len(train.classes)
    if train.input.kind != "image" or train.input.shape[:1] != (channels,) or not 2 <= k <= most:
        raise PotstillError(
            f"{name}: needs {'grey' if channels == 1 else 'colour'} pictures of 2 to {most} classes, but these are "
            f"{train.input.kind} {train.input.shape} of {k}; give others"
        )
    if splits.test is None:
        raise PotstillError(f"{name}: needs a test part, which {train.name} has not; read it with one")
    if not 0 <= ratio <= 1 or severity not in range(1, severities + 1):
        raise PotstillError(
            f"{name}: the ratio is in [0, 1] and the severity 1 to {severities}, not {ratio} and {severity}; change "
            "them"
        )
    if test not in ("uniform", "anti-biased", "every"):
        raise PotstillError(f"{name}: the test part is uniform, anti-biased or every, not {test!r}; say one of them")


def _biased(splits: Splits, name: str, bias: _Bias, ratio: float, seed: int, test: str) -> Splits:
    """Return both parts with the attribute."""
    assert splits.test is not None
    share = None if test == "every" else 1 / len(splits.train.classes) if test == "uniform" else 0.0
    train = _changed(splits.train, name, bias, ratio, seed, "train")
    tested = _changed(splits.test, name, bias, share, seed, test)
    return Splits(
        train=train, test=replace(tested, normalization=train.normalization),
        notes=(f"{name}: {ratio:.0%} of each class in the {bias.noun} that goes with it; test part: {test}",),
    )  # fmt: skip


def _changed(source: Source, name: str, bias: _Bias, ratio: float | None, seed: int, part: str) -> TensorSource:
    """Return the changed pictures; with ``None`` as ratio each with every value."""
    x, labels, k = (
        single_tensor(source.raw(torch.arange(len(source))), f"a {bias.noun}").cpu(),
        source.labels,
        len(source.classes),
    )
    if ratio is None:
        codes = torch.arange(k).repeat(len(labels))
        x, labels = x.repeat_interleave(k, 0), labels.repeat_interleave(k)
    else:
        codes = _deal(labels, k, ratio, seed, part)
    pixels = (bias.change(x, codes, part) * 255).round().to(torch.uint8)
    return TensorSource(
        name=name, input=replace(source.input, shape=(3, *source.input.shape[1:])), classes=source.classes,
        normalization=fit_normalization(pixels), inputs=pixels, labels=labels,
        attribute=Attribute(codes, bias.values[:k]),
    )  # fmt: skip


def _deal(labels: Int[Tensor, " n"], k: int, ratio: float, seed: int, part: str) -> Int[Tensor, " n"]:
    """Return the number of each sample's value: ``ratio`` of a class its own, the rest dealt to the others."""
    codes = torch.empty_like(labels)
    for c in range(k):
        (at,) = torch.where(labels == c)
        at = at[torch.randperm(len(at), generator=generator(seed, "colours", part, c))]
        own = round(ratio * len(at))
        codes[at[:own]] = c
        codes[at[own:]] = (c + 1 + torch.arange(len(at) - own) % (k - 1)) % k
    return codes


def _paint(
    x: Float[Tensor, "n 1 h w"], codes: Int[Tensor, " n"], spread: float, seed: int, part: str
) -> Float[Tensor, "n 3 h w"]:
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)[codes] / 255
    noise = torch.randn(colours.shape, generator=generator(seed, "colours", part, "noise"))
    return x * (colours + spread * noise).clamp(0, 1)[:, :, None, None]
