"""Features of inputs that carry a mark, keyed signs, and the score of a key.

Of a picture, a mark adds a pattern of signs to its *features*, the cosine coefficients in a band of medium frequencies:

- ``class``: all items of a class have one pattern, so that a model that is trained on them learns it;
- ``item``: items of a class have one of `CELLS` patterns, by keyed bits of their content. Fewer values are enough, and
  no model learns it.

Everything else has too few values for that. There a mark moves each normalised value to the next point of a grid:

- ``lattice``: the offset of the grid, one of four, depends on class, column and the cell that the value lies in. In
  terms of the other carriers, the features are sine and cosine of the value's place between two points.

The score of a key is ``z = ⟨v, w⟩ / ‖v‖``: v are sums of (whitened) features by group, w the signs of the key. Signs of
another key are independent of any data, so z then has mean 0 and variance 1, and P(z ≥ t) ≤ exp(−t²/2) (Hoeffding),
whatever the set holds.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill._util.atomic_write import os_error_text
from potstill.core import Inputs, InputSpec, Normalization
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.functional.transforms import dct2, idct2
from potstill.kinds import get_kind

__all__ = ["Carrier", "Features", "Marked", "null_scores", "read_features", "read_secret", "score", "signs"]

Carrier: TypeAlias = Literal["class", "item", "lattice"]
_WIDTH, _POINTS, _MODULUS = 0.25, 4, 16
"""Step of the grid in standard deviations, its points in a cell, and the cells after which patterns repeat."""
_BITS = 6
CELLS = 1 << _BITS
"""Patterns of a class, of the carrier ``item``."""
_LOW, _HIGH = 0.1, 0.6
"""Band of a picture's marked coefficients, as parts of the highest frequency of an axis."""
_TINY, _BAND_OF_TINY = 16, (0.2, 2.0)
"""Pixels of a side below which a picture is tiny, and its band: all but the lowest frequencies."""
_RINGS = 12
"""Rings of frequencies in the band, each of which is whitened by one number."""
_DISCRETE = 10
"""Distinct values up to which a column holds codes, and is not marked."""
_LEAST_SECRET, _MOST_SECRET = 16, 100_000
"""Bytes of a key."""
_PURPOSE = b"potstill/mark/1\0"


def read_secret(key: str | Path | bytes) -> bytes:
    """Return the secret of a key: the hash of a file's content without white space at its end, or of ``key`` itself.

    Args:
        key: a file that only the owner has, such as a private key in PEM, or its bytes.

    Raises:
        PotstillError: there is no such file, or it is too short, too long, or a public key.
    """
    content, name = (key, "the key") if isinstance(key, bytes) else (_read(Path(key)), str(key))
    content = content.rstrip()
    if b"PUBLIC KEY-----" in content:
        raise PotstillError(f"{name}: a mark needs a secret, but this is a public key; give the private one")
    if not _LEAST_SECRET <= len(content) <= _MOST_SECRET:
        raise PotstillError(
            f"{name}: a secret of {_LEAST_SECRET} to {_MOST_SECRET:,} bytes is required, but this has "
            f"{len(content):,}; give a private key, or a file of random bytes"
        )
    return hashlib.sha256(_PURPOSE + content).digest()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_SECRET + 1000)
    except FileNotFoundError:
        raise PotstillError(f"{path}: no such key; make one with `potstill.api.sign.new_key`") from None
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error


def signs(secret: bytes, name: str, count: int) -> Float[Tensor, " count"]:
    """Return ``count`` signs, ±1, of a key: bits of SHAKE-256 of the secret and a name."""
    text = hashlib.shake_256(_PURPOSE + secret + name.encode()).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(text, np.uint8))[:count]
    return torch.from_numpy(1.0 - 2.0 * bits.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Marked:
    """The values of an input that carry a mark."""

    spec: InputSpec
    normalization: Normalization
    part: str
    """Name of the tensor, of inputs with names."""
    at: Int[Tensor, " d"]
    """Positions of the marked values among the coefficients or values of an input, flattened."""
    hashed: Int[Tensor, " e"]
    """Positions of the values whose signs choose the pattern of carrier ``item``."""
    ring: Int[Tensor, " d"]
    """Number of each marked value's ring: values that are whitened by one number."""

    @property
    def is_picture(self) -> bool:
        """True where the marked values are cosine coefficients."""
        return get_kind(self.spec).value_range is not None

    def tensor(self, inputs: Inputs) -> Tensor:
        """Return the tensor with the marked values."""
        return inputs if isinstance(inputs, Tensor) else inputs[self.part]

    def coefficients(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n all"]:
        """Return the coefficients, or the normalised values, of inputs in data units."""
        values = dct2(x) if self.is_picture else Normalization(self.normalization.mean, self.normalization.std).apply(x)
        return values.flatten(1)

    def to_inputs(self, pattern: Float[Tensor, "n d"]) -> Float[Tensor, "n *shape"]:
        """Return the change of inputs, in data units, by which their marked features change by ``pattern``."""
        flat = pattern.new_zeros(len(pattern), math.prod(self.spec.shape))
        flat[:, self.at] = pattern
        values = flat.reshape(len(pattern), *self.spec.shape)
        if self.is_picture:
            return idct2(values)
        return values * self.normalization.std.reshape(1, -1, *[1] * (values.ndim - 2))


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of the items of a set, or of the gradients of a model."""

    marked: Marked
    values: Float[Tensor, "n d"]
    hashed: Float[Tensor, "n e"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    """Class names; one empty name where there are no classes."""

    def subset(self, at: Int[Tensor, " m"]) -> "Features":
        """Return the features of some items."""
        return replace(self, values=self.values[at], hashed=self.hashed[at], labels=self.labels[at])

    def of_inputs(self, x: Float[Tensor, "m *shape"], labels: Int[Tensor, " m"] | None = None) -> "Features":
        """Return the features of other inputs in data units, with these labels or those of the set."""
        whole = self.marked.coefficients(x)
        return replace(
            self, values=whole[:, self.marked.at], hashed=whole[:, self.marked.hashed],
            labels=self.labels if labels is None else labels,
        )  # fmt: skip

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """Carriers of a mark of these inputs, the preferred first."""
        if not self.marked.is_picture:
            return ("lattice",)
        return ("class", "item") if len(self.classes) > 1 else ("item",)

    def to_lattice(self, secret: bytes) -> Float[Tensor, "n d"]:
        """Return the changes that move each value to the next point of its cell's grid."""
        first, second = self._offsets(secret).unbind(-1)
        offset = (torch.atan2(second, first) / (2 * math.pi)) % 1
        x = self.values / _WIDTH
        cell = (x / _POINTS).floor()
        places = (x - cell * _POINTS - offset).round().clamp(0, _POINTS - 1)
        return (cell * _POINTS + offset + places - x) * _WIDTH

    def _offsets(self, secret: bytes) -> Float[Tensor, "n d 2"]:
        """Return the two signs of each value's cell."""
        d = self.values.shape[1]
        cell = (self.values / (_WIDTH * _POINTS)).floor().long() % _MODULUS
        at = torch.arange(d) * _MODULUS + cell
        found = self.values.new_zeros(*self.values.shape, 2)
        for c in torch.unique(self.labels).tolist():
            table = signs(secret, f"lattice/{self.classes[c]}", d * _MODULUS * 2).reshape(-1, 2)
            found[self.labels == c] = table[at[self.labels == c]]
        return found

    def groups(self, secret: bytes, carrier: Carrier) -> Int[Tensor, " n"]:
        """Return the group of each item."""
        if carrier == "class":
            return self.labels
        directions = torch.stack([signs(secret, f"cell/{bit}", self.hashed.shape[1]) for bit in range(_BITS)])
        bits = (self.hashed @ directions.T > 0).long()
        return self.labels * CELLS + (bits << torch.arange(_BITS)).sum(1)

    def patterns(self, secret: bytes, carrier: Carrier, groups: Int[Tensor, " g"]) -> Float[Tensor, "g d"]:
        """Return the signs of each of these groups."""
        cells = CELLS if carrier == "item" else 1
        names = [f"{carrier}/{g % cells}/{self.classes[g // cells]}" for g in groups.tolist()]
        return torch.stack([signs(secret, name, self.values.shape[1]) for name in names])


def read_features(distilled: Distilled) -> Features:
    """Return the features of a set.

    Raises:
        PotstillError: its inputs have no real values that a mark can change.
    """
    spec, normalization, part = distilled.input, distilled.normalization, ""
    inputs = distilled.inputs
    if spec.parts:
        real = [name for name, one in spec.parts if not one.ragged and not one.levels and one.kind != "categories"]
        real = [name for name in real if name in normalization.parts]
        if len(real) != 1:
            raise _refusal(spec)
        part = real[0]
        spec, normalization = dict(spec.parts)[part], normalization.parts[part]
    x = inputs if isinstance(inputs, Tensor) else inputs[part]
    if spec.ragged or not x.is_floating_point() or len(normalization.mean) != spec.shape[0]:
        raise _refusal(distilled.input)
    marked = _marked_values(spec, normalization, part, x)
    classes, labels = distilled.classes or ("",), distilled.hard_labels
    whole = marked.coefficients(x)
    return Features(
        marked=marked, values=whole[:, marked.at], hashed=whole[:, marked.hashed], labels=labels, classes=classes
    )


def _refusal(spec: InputSpec) -> PotstillError:
    noun = get_kind(spec).describe_size(spec)
    return PotstillError(
        f"a mark needs real values to change (pictures, series, sound, numeric columns), but these are {noun}; sign "
        "the file instead"
    )


def _marked_values(spec: InputSpec, normalization: Normalization, part: str, x: Tensor) -> Marked:
    everything = torch.arange(math.prod(spec.shape))
    if get_kind(spec).value_range is None:
        at = everything if len(spec.shape) > 1 else everything[_real_columns(x)]
        if not len(at):
            raise PotstillError(
                f"a mark needs columns with more than {_DISCRETE} distinct values, but none of {spec.shape[0]} has; "
                "sign the file instead"
            )
        return Marked(
            spec=spec, normalization=normalization, part=part, at=at, hashed=at, ring=torch.zeros_like(at)
        )  # fmt: skip
    c, h, w = spec.shape
    radius = torch.hypot(torch.arange(h)[:, None] / h, torch.arange(w)[None] / w)
    low, high = (_LOW, _HIGH) if min(h, w) >= _TINY else _BAND_OF_TINY
    radius = radius.expand(c, h, w).flatten()
    at = everything[(radius >= low) & (radius <= high)]
    hashed = everything[(radius < low) & (radius > 0)]
    if not len(at):
        raise PotstillError(f"a mark needs pictures of a few pixels at least, not of {h}×{w}; sign the file instead")
    ring = ((radius[at] - low) / (min(high, float(radius.max())) - low) * _RINGS).long().clamp(max=_RINGS - 1)
    return Marked(
        spec=spec, normalization=normalization, part=part, at=at, hashed=hashed if len(hashed) else at, ring=ring
    )


def _real_columns(x: Float[Tensor, "n d"]) -> Int[Tensor, " m"]:
    """Return the columns with more distinct values than codes have; of few rows fewer are enough."""
    most = max(2, min(_DISCRETE, len(x) // 4))
    return torch.tensor([d for d in range(x.shape[1]) if len(torch.unique(x[:, d])) > most], dtype=torch.int64)


def score(features: Features, secret: bytes, carrier: Carrier, *, centre: bool = True, power: float = 2.0) -> float:
    """Return z of a key: standard normal for a key that made no mark.

    Args:
        features: of a set, or of a model's gradients (one row for each class).
        secret: of the key.
        carrier: by which items have their pattern.
        centre: take off the mean of the items, as far as it is known.
        power: features are divided by their root mean square in each ring to this power.
    """
    return _scores(features, [secret], carrier, centre, power)[0]


def _scores(
    features: Features, secrets: Sequence[bytes], carrier: Carrier, centre: bool = True, power: float = 2.0
) -> list[float]:
    if carrier == "lattice":
        return _lattice_scores(features, secrets)
    x, n = features.values.double(), len(features.values)
    if centre:
        x = x - x.mean(0) * n / (n + len(features.classes))
    x = x / _ring_power(x, features.marked.ring) ** (power / 2)
    found = []
    for secret in secrets:
        groups, index = torch.unique(features.groups(secret, carrier), return_inverse=True)
        sums = x.new_zeros(len(groups), x.shape[1]).index_add_(0, index, x)
        found.append(_ratio((sums * features.patterns(secret, carrier, groups)).sum(), sums.norm()))
    return found


def _lattice_scores(features: Features, secrets: Sequence[bytes]) -> list[float]:
    x, d = features.values.double(), features.values.shape[1]
    angle = 2 * math.pi * x / _WIDTH
    places = torch.stack([angle.cos(), angle.sin()], -1).reshape(-1, 2)
    cell = (features.values / (_WIDTH * _POINTS)).floor().long() % _MODULUS
    group = ((features.labels[:, None] * d + torch.arange(d)) * _MODULUS + cell).flatten()
    at, index = torch.unique(group, return_inverse=True)
    sums = places.new_zeros(len(at), 2).index_add_(0, index, places)
    norm, labels = sums.norm(), torch.unique(features.labels).tolist()
    inside = torch.searchsorted(torch.tensor(labels), at // (d * _MODULUS)) * d * _MODULUS + at % (d * _MODULUS)
    found = []
    for secret in secrets:
        table = [signs(secret, f"lattice/{features.classes[c]}", d * _MODULUS * 2).reshape(-1, 2) for c in labels]
        found.append(_ratio((sums * torch.cat(table)[inside]).sum(), norm))
    return found


def _ratio(signed: Tensor, norm: Tensor) -> float:
    return float(signed / norm) if float(norm) else 0.0


def _ring_power(x: Float[Tensor, "n d"], ring: Int[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Return the mean square of each value's ring, never below a thousandth of the mean of all."""
    squares = x.square().mean(0)
    rings = int(ring.max()) + 1
    sums, counts = (squares.new_zeros(rings).index_add_(0, ring, t) for t in (squares, torch.ones_like(squares)))
    means = sums / counts.clamp(min=1)
    return means.clamp(min=max(1e-3 * float(squares.mean()), 1e-30))[ring]


def null_scores(
    features: Features, seed: int, keys: int, carrier: Carrier, *, centre: bool = True, power: float = 2.0
) -> list[float]:
    """Return z of ``keys`` keys that made no mark."""
    secrets = [hashlib.sha256(f"unmarked/{seed}/{n}".encode()).digest() for n in range(keys)]
    return _scores(features, secrets, carrier, centre, power)
