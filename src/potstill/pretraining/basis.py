"""Principal directions of the training images: an asset, and the parametrization and the codec that decode by it.

An image is a sum of directions, which a file does not hold, times coefficients, which it does::

    x = Σ_j a_j D_j        D_1 … D_c: constant images of the channels; D_(c+1) …: principal directions of the rest

Directions are orthonormal and found by subspace iteration (Halko et al., arXiv:0909.4061, algorithm 4.4) on up
to 10,000 images, evenly spaced. Constants are among them so that coefficients also fit images in other units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from potstill._util.cache_dir import cache_dir
from potstill.codecs import Uniform, decode, estimate_bytes
from potstill.core import Asset, AssetContext, DecodeContext, Encoded, Payload, Problem, Source, Space
from potstill.core.nested import iter_batches
from potstill.dataset_file import read_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.parametrize._shared import image_shape
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint
from potstill.pretraining.cached_tensors import CachedTensors
from potstill.rng import generator

__all__ = ["Basis", "BasisCodec", "Directions", "FitDirections"]

_MAX_IMAGES, _MAX_VALUES = 10_000, 1 << 27
_EXTRA, _ROUNDS = 10, 6
"""Further directions, and rounds, of the subspace iteration."""


def _num_directions(rank: int, shape: tuple[int, ...]) -> int:
    c, h, w = image_shape("basis", shape)
    return min(rank + c, c * h * w)


@dataclass(frozen=True, kw_only=True)
class FitDirections(CachedTensors):
    """Job that finds the directions (an `potstill.core.AssetJob`)."""

    called: ClassVar[str] = "principal directions"
    max_bytes: ClassVar[int] = 4 * _MAX_VALUES + 2**20
    train: Source
    rank: int
    space: Space
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)

    @property
    def path(self) -> Path:
        """Cache file."""
        n, units = self.train.normalization, {}
        if self.space == "model":
            tensors = {"mean": n.mean, "std": n.std} | ({"matrix": n.whitening.matrix} if n.whitening else {})
            units = {"normalization": hash_tensors(tensors)}
        what = {"data": self.train.content_hash, "rank": self.rank, **units, "version": 1}
        return cache_dir() / "bases" / f"{cache_key(what, self.machine, torch.device('cpu'))}.safetensors"

    def compute(self) -> dict[str, Float[Tensor, "r d"]]:
        """Return ``directions`` (r, c · h · w), orthonormal rows."""
        return self._fit(_MAX_IMAGES, _ROUNDS)

    def _fit(self, images: int, rounds: int) -> dict[str, Float[Tensor, "r d"]]:
        c, h, w = image_shape("basis", self.train.input.shape)
        n, d, r = len(self.train), c * h * w, _num_directions(self.rank, (c, h, w)) - c
        images = max(1, min(n, images, _MAX_VALUES // d))
        index = torch.arange(images) * n // images
        read = self.train.raw if self.space == "data" else lambda at: self.train.fetch(at).x
        rows = torch.cat([torch.as_tensor(read(at)).flatten(1).cpu().float() for at in iter_batches(index, 1000)])
        constants = torch.eye(c).repeat_interleave(h * w, 1) / (h * w) ** 0.5
        rows -= (rows @ constants.T) @ constants
        q = torch.randn(d, min(r + _EXTRA, d), generator=generator(0, "asset", "basis"))
        for _ in range(rounds):
            q = torch.linalg.qr(rows.T @ (rows @ q)).Q
        found = q @ torch.linalg.eigh((rows @ q).T @ (rows @ q)).eigenvectors.flip(1)
        return {"directions": torch.linalg.qr(torch.cat([constants.T, found[:, :r]], 1)).Q.T.contiguous()}

    def remaining(self) -> float:
        """Return the rounds of the iteration."""
        return float(_ROUNDS)

    def estimate(self) -> tuple[Callable[[], object], float]:
        """Return a round on a tenth of the images."""
        return lambda: self._fit(min(len(self.train), _MAX_IMAGES) // 10, 1), 0.1


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Asset ``basis`` of principal directions (an `potstill.core.Asset`)."""

    rank: int
    space: Space = "model"
    """Units of the images that they are directions of."""
    name: str = "basis"

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        """Settings."""
        return {"rank": self.rank, "space": self.space}

    def jobs(self, ground: AssetContext) -> tuple[FitDirections, ...]:
        """Return its one job.

        Raises:
            PotstillError: the inputs are no images.
        """
        image_shape("basis", ground.train.input.shape)
        return (FitDirections(train=ground.train, rank=self.rank, space=self.space),)

    def open(self, parts: Sequence[Payload]) -> Payload:
        """Return the tensors."""
        return parts[0]

    def placeholder(self, jobs: Sequence[FitDirections]) -> Payload:
        """Return directions of the same size."""
        shape = jobs[0].train.input.shape
        return {"directions": torch.eye(_num_directions(self.rank, shape), torch.Size(shape).numel())}

    def adopt(self, value: Any, ground: AssetContext) -> Payload:
        """Return the tensors of a file, or tensors by name.

        Raises:
            PotstillError: they are of another shape.
        """
        tensors = value if isinstance(value, Mapping) else read_tensors(Path(value), 4 * _MAX_VALUES + 2**20)[0]
        wanted = self.placeholder(self.jobs(ground))["directions"].shape
        if set(tensors) != {"directions"} or tensors["directions"].shape != wanted:
            raise PotstillError(f"asset basis must be a tensor 'directions' of {list(wanted)}; give such a one")
        return tensors

    def describe_work(self, missing: Sequence[FitDirections]) -> str:
        """Describe the work."""
        return f"finding {self.rank:,} principal directions"

    def provenance(self, value: Payload, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing: the decoder's metadata name it."""
        return {}


def _check_rank(rank: int) -> None:
    if rank < 1:
        raise PotstillError(f"basis: rank must be at least 1, not {rank}")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Coefficients of every image on principal directions of the training images.

    The payload: ``coefficients`` (n, r), grouped by class, r = rank + c, or all c · h · w.

    Decoding: ``x = coefficients @ directions``, in rows (c, h, w). ``directions`` (r, c · h · w) is a shared asset, in
    the file that the metadata's ``decoder`` names by its hash.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    rank: int = 64
    """Principal directions, at least 1, besides the c constant ones. Ours."""

    def __post_init__(self) -> None:
        _check_rank(self.rank)

    @property
    def bounded(self) -> bool:
        """False: coefficients are no values of inputs."""
        return False

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """Return the directions, in model space."""
        return (Directions(rank=self.rank),)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the images of each class whose coefficients its number of values allows.

        Raises:
            PotstillError: a class gets no image, or the inputs are no images.
        """
        one = _num_directions(self.rank, shape)
        if min(numbers) < one:
            raise PotstillError(
                f"basis: one image has {one:,} coefficients, but the budget leaves {min(numbers):,} numbers to a "
                "class; raise it or lower rank"
            )
        return tuple(n // one for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the coefficients of the nearest sums of directions; draws nothing."""
        return {"coefficients": x.flatten(1) @ _directions(problem.context).to(x).T}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the sums of directions (n, c, h, w)."""
        coefficients = payload["coefficients"]
        return (coefficients @ _directions(context).to(coefficients)).reshape(-1, *context.shape)

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each image."""
        return {"coefficients": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}


def _directions(context: DecodeContext | None) -> Float[Tensor, "r d"]:
    if context is None or "basis" not in context.assets:
        raise PotstillError("basis decodes by principal directions of the data, but they are not at hand; take uint8")
    return context.assets["basis"]["directions"]


@dataclass(frozen=True, kw_only=True)
class BasisCodec:
    """Coefficients of whole images on principal directions of the training images, in few bits.

    Raises:
        PotstillError: a setting is out of its range.
    """

    rank: int = 64
    """Principal directions, at least 1, besides the c constant ones."""
    bits: int = 8
    """Bits of a coefficient, 1 … 16; each direction has a range of its own."""
    labels: int = 8
    """Bits of a soft label's number, 1 … 16."""

    def __post_init__(self) -> None:
        _check_rank(self.rank)
        Uniform(bits=self.bits, labels=self.labels)  # checks both

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        return self.labels

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """Return the directions, in data units."""
        return (Directions(rank=self.rank, space="data"),)

    def size(self, shape: tuple[int, ...], /) -> int:
        """Return the bytes of images (n, c, h, w)."""
        return estimate_bytes(Uniform(bits=self.bits), (shape[0], _num_directions(self.rank, shape[1:])))

    def pack(self, x: Tensor, context: DecodeContext | None = None, /) -> Encoded:
        """Encode images ``x`` (n, c, h, w) in data units.

        Raises:
            PotstillError: the directions are not at hand.
        """
        directions = _directions(context)
        inner = Uniform(bits=self.bits).pack(x.flatten(1) @ directions.T)
        name = f"basis:rank={self.rank},bits={self.bits}"
        return Encoded(inner.tensors, {"codec": name, "shape": list(x.shape), "within": dict(inner.metadata)})

    def unpack(self, stored: Encoded, context: DecodeContext, /) -> Tensor:
        """Return the images (n, c, h, w)."""
        coefficients = decode(Encoded(stored.tensors, stored.metadata["within"]))
        return (coefficients @ _directions(context)).reshape(-1, *context.shape)
