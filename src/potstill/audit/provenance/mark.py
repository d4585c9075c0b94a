"""``mark``: add a keyed pattern to the inputs of a set, written by the set's own codec."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from potstill.audit.provenance.carrier import Carrier, Features, read_features, read_secret, score
from potstill.codecs import decode, parse_codec
from potstill.codecs.exact import Exact
from potstill.core import Codec, DecodeContext, Encoded
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.load import MAX_BYTES, validated_set
from potstill.dataset_file.payload_io import (
    SHARED,
    bytes_by_part,
    compress_parts,
    decode_inputs,
    encode_inputs,
)
from potstill.dataset_file.shared_decoders import load_decoders
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.rng import generator

__all__ = ["LADDER", "MarkedSet", "mark"]

LADDER = (0.06, 0.1, 0.15, 0.2)
"""Strengths that are tried in turn: root mean square of the change, over the standard deviation of the values."""
_ENOUGH, _LEAST = 8.0, 5.0
"""Score from which on no stronger mark is tried, and below which the set is refused: p = 3e-7."""
_SHARES = (1.0, 0.25, 0.0625, 0.015625)
"""Shares of the values that are changed: fewer are changed more, which passes the steps of a coarse codec."""
_MANY = 0.1
"""Share of pixels of one value from which on they are background."""
_HALVINGS = 7
_LARGEST_GAIN = 8.0


@dataclass(frozen=True, kw_only=True)
class MarkedSet:
    """A marked set, and what the mark did to it."""

    distilled: Distilled
    carrier: Carrier
    score: float
    """z of the key, after writing by the codec."""
    change: float
    """Root mean square of the change after writing by the codec: of pixels, or in standard deviations of columns."""
    largest: float
    """Largest change of a value, in the same units."""
    relative: float
    """``change`` over the standard deviation of the values."""
    bytes: tuple[int, int]
    """Bytes of the set's tensors before and after."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, without the set."""
        return {
            "carrier": self.carrier, "score": self.score, "change": self.change, "largest": self.largest,
            "relative": self.relative, "bytes": list(self.bytes),
        }  # fmt: skip


def mark(distilled: Distilled | str | Path, key: str | Path | bytes, *, strength: float | None = None) -> MarkedSet:
    """Add a keyed pattern to the inputs of a set, so that its owner can prove where it comes from.

    The set is written by its own codec, and score and change are measured on what is read back. Of pictures, patterns
    by class are tried before patterns by item, as models learn them; of the strengths of `LADDER` the smallest with a
    score of 8 is taken. Labels, weights and everything else stay, bit by bit; a selection's indices are left out, as
    its items are no samples any more.

    Args:
        distilled: a set of pictures, series, sound or rows with real values, or its path.
        key: the secret, as for `potstill.audit.provenance.read_secret`.
        strength: largest root mean square of the change over the standard deviation of the values; default: the
            smallest of `LADDER` that is enough.

    Returns:
        The marked set in memory, with the score of the key and what was changed.

    Raises:
        PotstillError: the set has no such values, was joined, or its codec leaves no room for a mark of that strength.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=10, progress=None)
        >>> from potstill.audit.provenance import mark
        >>> marked = mark(small, b"sixteen bytes at least")
        >>> marked.score > 5, marked.relative < 0.21
        (True, True)
    """
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    if strength is not None and not 0 < strength <= 1:
        raise PotstillError(f"the strength of a mark must be above 0 and at most 1, but `strength={strength:g}`")
    secret, features = read_secret(key), read_features(small)
    writer = _Writer(small, features)
    tiers = (LADDER[:2], LADDER[2:]) if strength is None else ((strength,),)
    tries = [(s, carrier) for tier in tiers for carrier in features.carriers for s in tier]
    best: _Candidate | None = None
    for s, carrier in tries:
        found = _embed(writer, secret, carrier, s)
        if found is not None and (best is None or found.score > best.score):
            best = found
        if best is not None and best.score >= _ENOUGH:
            break
    if best is None or best.score < _LEAST:
        reached = "" if best is None else f" (score {best.score:.1f}, {_LEAST:g} is required)"
        codec = str(small.metadata["codec"]["name"])[:60]
        raise PotstillError(
            f"{len(small):,} items with {features.values.shape[1]:,} values each, written by {codec}, leave no room "
            f"for a mark of strength {tries[-1][0]:g}{reached}; give a larger `strength=`, a set with more items, or "
            "one in more bits"
        )
    marked = writer.finish(best)
    return MarkedSet(
        distilled=marked, carrier=best.carrier, score=best.score, change=best.relative * writer.unit,
        largest=float(writer.scaled(best.inputs - writer.x).abs().max()), relative=best.relative,
        bytes=(small.metadata["bytes"]["total"], marked.metadata["bytes"]["total"]),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """Values as they were moved, and what their file is read back to."""

    carrier: Carrier
    strength: float
    written: Mapping[str, Encoded]
    inputs: Tensor
    score: float
    relative: float


class _Writer:
    """A set whose inputs, or whose payload, are moved and written by its codec."""

    def __init__(self, small: Distilled, features: Features) -> None:
        described, metadata = small.metadata["codec"], small.metadata
        if small.payload and (not metadata.get("decoder") or "parts" in metadata["decoder"]):
            raise PotstillError(
                "a set that was joined, or has no decoder, cannot be marked; mark the sets that it was joined from"
            )
        if described.get("assets"):
            raise PotstillError("a set whose codec decodes by an asset cannot be marked; write it with another codec")
        if not small.payload and small.normalization.whitening is not None and described.get("normalised"):
            raise PotstillError("a set in whitened units cannot be marked; write it with codec float32")
        self.small, self.features = small, features
        self.x = features.marked.tensor(small.inputs)
        value_range = get_kind(features.marked.spec).value_range
        self.unit = float(self.x.std()) if value_range else 1.0
        self._scale = 1.0 if value_range else features.marked.normalization.std
        self._ends = (float(self.x.min()), float(self.x.max())) if value_range else None
        self._background = _background(self.x) if value_range else torch.zeros_like(self.x, dtype=torch.bool)
        codec: Codec = parse_codec(described["name"])
        grid = _grid(self.x) if isinstance(codec, Exact) and value_range else None
        self._codec, self._grid = codec, grid
        self._context = DecodeContext(input=small.input, classes=small.classes)

    def relative(self, change: Tensor) -> float:
        """Return the root mean square of a change of the inputs over the standard deviation of the values."""
        change = self.scaled(change)
        if change.ndim == 2:
            change = change[:, self.features.marked.at]
        return float(change.square().mean().sqrt()) / self.unit

    def scaled(self, change: Tensor) -> Tensor:
        """Return a change of pixels as it is, and of other values in standard deviations of their columns."""
        if isinstance(self._scale, Tensor):
            return change / self._scale.reshape(1, -1, *[1] * (change.ndim - 2))
        return change

    def directions(self, pattern: Tensor) -> dict[str, Tensor]:
        """Return by name the tensors that are moved, each by a direction that changes the features by ``pattern``."""
        change = self.features.marked.to_inputs(pattern)
        if not self.small.payload:
            return {"inputs": change * ~self._background}
        moved = {
            name: t.float().clone().requires_grad_(True)
            for name, t in self.small.payload.items()
            if t.is_floating_point() and not name.startswith(SHARED)
        }
        if not moved:
            raise PotstillError("a set whose payload has no real values cannot be marked; sign the file instead")
        with torch.enable_grad():
            along = (self._decode(moved) * change).sum()
            found = torch.autograd.grad(along, list(moved.values()), allow_unused=True)
        return {name: g for name, g in zip(moved, found, strict=True) if g is not None and bool(g.abs().sum() > 0)}

    def _decode(self, moved: Mapping[str, Tensor]) -> Tensor:
        part = self.small.metadata["decoder"]
        assets = load_decoders(part, None, MAX_BYTES) if part.get("assets") else {}
        parametrization = parse_parametrization(part["parametrization"], self.small.input)
        decoded = parametrization.decode(
            {**self.small.payload, **moved}, replace(self._context, assets=assets)
        )  # fmt: skip
        inputs = decoded if part["space"] == "data" else self.small.normalization.invert(decoded)
        return self.features.marked.tensor(inputs)

    def write(self, moves: Mapping[str, Tensor]) -> tuple[dict[str, Encoded], Tensor]:
        """Move the tensors, write them by the codec, and return what is written and what it is read back to."""
        if self.small.payload:
            written = {
                f"payload/{name}": self._codec.pack((self.small.payload[name] + move).float())
                for name, move in moves.items()
            }
            with torch.no_grad():
                return written, self._decode({n.removeprefix("payload/"): decode(e) for n, e in written.items()})
        x = self.x + moves["inputs"]
        if self._ends is not None:
            x = x.clamp(*self._ends)
        if self._grid is not None:
            x = (x * self._grid).round() / self._grid
        inputs = x if isinstance(self.small.inputs, Tensor) else {**self.small.inputs, self.features.marked.part: x}
        normalization = self.small.normalization
        written, normalised = encode_inputs(inputs, self.small.input, self._codec, normalization, self._context)
        read = decode_inputs(written, self.small.input, normalised, normalization, self._context)
        return written, self.features.marked.tensor(read)

    def finish(self, candidate: _Candidate) -> Distilled:
        """Return the set with the moved tensors in place of its own."""
        small = self.small
        parts = compress_parts(candidate.written, small.labels)
        described = dict(small.metadata["codec"]["tensors"])
        replaced = {*parts, *(["index"] if small.index is not None else [])}
        tensors = {
            name: t
            for name, t in small.tensors.items()
            if not any(name == r or name.startswith(f"{r}.") for r in replaced) and name.partition("/")[0] != "decoded"
        }
        tensors |= {f"{name}{suffix}": t for name, part in parts.items() for suffix, t in part.tensors.items()}
        described = {name: d for name, d in described.items() if name not in replaced}
        described |= {name: dict(part.metadata) for name, part in parts.items()}
        said = {"format": "potstill/mark/1", "carrier": candidate.carrier, "strength": candidate.strength}
        metadata = {
            **small.metadata,
            "codec": {**small.metadata["codec"], "tensors": described},
            "mark": said,
            "bytes": bytes_by_part(tensors, small.metadata),
        }
        if (digest := small.metadata.get("run_digest")) is not None:
            metadata["run_digest"] = hashlib.sha256(f"{digest}{sorted(said.items())}".encode()).hexdigest()[:32]
        if get_kind(self.features.marked.spec).value_range is not None:
            inside = float(candidate.inputs.min()) >= 0 and float(candidate.inputs.max()) <= 1
            metadata["space"] = "pixels" if inside and small.metadata.get("space") == "pixels" else "unclamped"
        marked = validated_set(Path("the marked set"), metadata, tensors)
        marked.record = small.record
        marked.files = (*small.files, *([str(small.path)] if small.path else []))
        return marked


def _background(x: Tensor) -> Tensor:
    """Return which pixels are background: at an end of the range of values, where many are.

    They stay: half of a pattern would be cut off there, and noise on a plain background takes most bytes.
    """
    ends = [x == end for end in (x.min(), x.max())]
    return sum((end for end in ends if float(end.float().mean()) > _MANY), torch.zeros_like(ends[0]))


def _grid(x: Tensor) -> int | None:
    """Return the number of steps of 8-bit pixels, if all values are such."""
    return 255 if torch.equal((x * 255).round() / 255, x) else None


def _embed(writer: _Writer, secret: bytes, carrier: Carrier, strength: float) -> _Candidate | None:
    """Return the best mark of at most this strength; ``None``: the codec reads back none."""
    features = writer.features
    best: _Candidate | None = None
    for directions, most in _directions(writer, secret, carrier):
        found = _largest_within(writer, directions, strength, most)
        if found is None:
            continue
        written, read, relative = found
        z = score(features.of_inputs(read), secret, carrier)
        if best is None or z > best.score:
            best = _Candidate(
                carrier=carrier, strength=strength, written=written, inputs=read, score=z, relative=relative
            )
        if best.score >= _ENOUGH:
            break
    return best


def _directions(writer: _Writer, secret: bytes, carrier: Carrier) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Yield directions of size 1, each with the largest step along it.

    They change all values, or ever fewer of them, or fewer coefficients.
    """
    features = writer.features
    if carrier == "lattice":
        whole = writer.directions(features.to_lattice(secret))
        size = writer.relative(whole["inputs"]) if "inputs" in whole else 0.0
        if size:
            yield {name: t / size for name, t in whole.items()}, size
        return
    groups, index = torch.unique(features.groups(secret, carrier), return_inverse=True)
    pattern = features.patterns(secret, carrier, groups)[index]
    rng = generator(int.from_bytes(secret[:7], "big"), "shares of a mark")
    whole = writer.directions(pattern)
    for share in _SHARES:
        yield _scaled(writer, {name: t * _some(t, share, rng) for name, t in whole.items()}), math.inf
        if share < 1:
            yield _scaled(writer, writer.directions(pattern * _some(pattern, share, rng))), math.inf


def _some(x: Tensor, share: float, rng: Generator) -> Tensor:
    return (torch.rand(x.shape, generator=rng) < share).float() if share < 1 else torch.ones_like(x)


def _scaled(writer: _Writer, directions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scale directions so that their step of 1 has the size of the values' standard deviation."""
    if not writer.small.payload:
        size = writer.relative(directions["inputs"])
    else:
        size = math.sqrt(sum(float(t.square().sum()) for t in directions.values()) / writer.x.numel()) / writer.unit
    return {name: t / max(size, 1e-12) for name, t in directions.items()}


def _largest_within(
    writer: _Writer, directions: Mapping[str, Tensor], strength: float, most: float
) -> tuple[dict[str, Encoded], Tensor, float] | None:
    """Return the largest step, by halving, whose change after the codec is within ``strength``; ``None``: no change."""
    low, high = 0.0, min(_LARGEST_GAIN * strength, most)
    best: tuple[dict[str, Encoded], Tensor, float] | None = None
    for n in range(_HALVINGS):
        gain = min(strength, high) if n == 0 else (low + high) / 2
        written, read = writer.write({name: gain * t for name, t in directions.items()})
        change = writer.relative(read - writer.x)
        if change <= strength:
            low = gain
            if change > 0:
                best = (written, read, change)
        else:
            high = gain
    return best
