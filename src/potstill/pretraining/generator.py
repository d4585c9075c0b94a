"""Generator of pictures as an asset: a small convolutional variational autoencoder, trained here and cached.

Kingma & Welling, arXiv:1312.6114. With p₁ … p₃ the layers of the decoder, and e₁ … e₃ those of the encoder::

    encoder: (μ, log σ²) = e₃ ReLU(e₂ ReLU(e₁ x))            e₁, e₂: 3×3 convolutions of stride 2
    decoder: a₁ = ReLU(p₁ z), a₂ = ReLU(p₂ up(a₁)), x = sigmoid(p₃ up(a₂))       up: nearest, to twice the size
    loss:    Σ_pixels BCE(x̂, x) + β KL(N(μ, σ²) ‖ N(0, 1)),  z = μ + σ ε

Pictures are in data units, so that one generator serves every normalization. With ``epochs=0`` it is the same network
at its random start, GLaD's control (arXiv:2305.01649, section 4.4). Its file is plain tensors: ``decoder/…`` and
``range``, by which a reader decodes, and ``encoder/…``, which only the start of a run needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Payload, Source
from potstill.core.nested import iter_batches
from potstill.dataset_file import read_tensors
from potstill.errors import PotstillError
from potstill.kinds import get_kind
from potstill.parametrize._shared import image_shape
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint
from potstill.pretraining.cached_tensors import CachedTensors
from potstill.rng import generator

__all__ = [
    "LAYERS", "Autoencoder", "FitAutoencoder", "activation_shape", "check_tensors", "decode_latents", "encode_images",
    "generator_shapes", "to_layer",
]  # fmt: skip

LAYERS = 2
"""Inner activations of the decoder."""
_MAX_IMAGES, _MAX_BYTES = 10_000, 1 << 28
_BATCH, _LR = 32, 5e-3
"""Pictures and learning rate of an update (Adam)."""
_CODE_SCALE = 0.1
"""Factor of the encoder's last layer at the start, so that latents begin near N(0, 1) whatever the pictures."""


def _halves(h: int, w: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return height and width of the two inner layers, the larger first."""
    half = (h + 1) // 2, (w + 1) // 2
    return half, ((half[0] + 1) // 2, (half[1] + 1) // 2)


def activation_shape(shape: tuple[int, ...], dim: int, width: int, layer: int) -> tuple[int, ...]:
    """Return the shape of one picture's latents at a layer of the decoder; 0: its input."""
    _, h, w = image_shape("latents", shape)
    half, quarter = _halves(h, w)
    return ((dim,), (2 * width, *quarter), (width, *half))[layer]


def generator_shapes(shape: tuple[int, ...], dim: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a generator's tensors by name, for pictures of ``shape`` (c, h, w)."""
    c, h, w = image_shape("latents", shape)
    quarter = _halves(h, w)[1]
    inner = 2 * width * quarter[0] * quarter[1]
    weights = {
        "encoder/1": (width, c, 3, 3), "encoder/2": (2 * width, width, 3, 3), "encoder/3": (2 * dim, inner),
        "decoder/1": (inner, dim), "decoder/2": (width, 2 * width, 3, 3), "decoder/3": (c, width, 3, 3),
    }  # fmt: skip
    biases = {f"{name}/bias": (size[0],) for name, size in weights.items()}
    return {f"{name}/weight": size for name, size in weights.items()} | biases | {"range": (2,)}


def to_layer(z: Float[Tensor, "n d"], weights: Payload, layer: int, shape: tuple[int, ...]) -> Tensor:
    """Return the activations of a layer of the decoder for latents ``z``; 0: ``z`` itself."""
    _, h, w = image_shape("latents", shape)
    half, quarter = _halves(h, w)
    x = z
    if layer > 0:
        x = F.relu(F.linear(x, weights["decoder/1/weight"], weights["decoder/1/bias"])).reshape(len(x), -1, *quarter)
    if layer > 1:
        x = F.relu(_convolve(F.interpolate(x, half), weights, "decoder/2"))
    return x


def decode_latents(latents: Tensor, weights: Payload, layer: int, shape: tuple[int, ...]) -> Float[Tensor, "n c h w"]:
    """Return pictures in data units from latents (n, …) at a layer of the decoder; differentiable.

    Args:
        latents: one row for each picture, of `activation_shape`.
        weights: the generator's tensors.
        layer: 0: input of the decoder; 1, 2: its inner activations.
        shape: shape (c, h, w) of a picture.
    """
    low, high = weights["range"][0], weights["range"][1]
    return low + (high - low) * _logits(latents, weights, layer, shape).sigmoid()


def _logits(latents: Tensor, weights: Payload, layer: int, shape: tuple[int, ...]) -> Float[Tensor, "n c h w"]:
    """Return the decoder's output before the sigmoid."""
    _, h, w = image_shape("latents", shape)
    half, quarter = _halves(h, w)
    x = latents
    if layer < 1:
        x = F.relu(F.linear(x, weights["decoder/1/weight"], weights["decoder/1/bias"])).reshape(len(x), -1, *quarter)
    if layer < 2:
        x = F.relu(_convolve(F.interpolate(x, half), weights, "decoder/2"))
    return _convolve(F.interpolate(x, (h, w)), weights, "decoder/3")


def encode_images(x: Float[Tensor, "n c h w"], weights: Payload) -> tuple[Tensor, Tensor]:
    """Return mean and logarithm of the variance (n, d) of the latents of pictures in data units."""
    for layer in ("encoder/1", "encoder/2"):
        x = F.relu(_convolve(x, weights, layer, stride=2))
    mean, log_variance = F.linear(x.flatten(1), weights["encoder/3/weight"], weights["encoder/3/bias"]).chunk(2, 1)
    return mean, log_variance


def _convolve(x: Tensor, weights: Payload, layer: str, stride: int = 1) -> Tensor:
    return F.conv2d(x, weights[f"{layer}/weight"], weights[f"{layer}/bias"], stride=stride, padding=1)


def _initial_weights(shape: tuple[int, ...], dim: int, width: int, rng: Generator) -> dict[str, Tensor]:
    """Return weights at their random start (He et al., arXiv:1502.01852), with biases of 0."""
    weights = {}
    for name, size in sorted(generator_shapes(shape, dim, width).items()):
        weights[name] = torch.zeros(size)
        if name.endswith("weight"):
            weights[name] = torch.randn(size, generator=rng) * (2 / torch.Size(size[1:]).numel()) ** 0.5
    weights["encoder/3/weight"] *= _CODE_SCALE
    return weights | {"range": torch.tensor([0.0, 1.0])}


@dataclass(frozen=True, kw_only=True)
class FitAutoencoder(CachedTensors):
    """Job that trains the autoencoder (an `potstill.core.AssetJob`)."""

    called: ClassVar[str] = "generators"
    max_bytes: ClassVar[int] = _MAX_BYTES
    train: Source
    dim: int
    width: int
    epochs: int
    kl: float
    seed: int = 0
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)

    @property
    def path(self) -> Path:
        """Cache file."""
        recipe = {"dim": self.dim, "width": self.width, "epochs": self.epochs, "kl": self.kl, "seed": self.seed}
        # Untrained weights are those of any data with such pictures, but they are as cheap as a look-up.
        what = {"data": self.train.content_hash, **recipe, "version": 1}
        return cache_dir() / "generators" / f"{cache_key(what, self.machine, self.train.device)}.safetensors"

    def compute(self) -> dict[str, Tensor]:
        """Return the weights of encoder and decoder.

        Raises:
            PotstillError: training did not stay finite.
        """
        return self._fit(self._images, self.epochs)

    @property
    def _images(self) -> int:
        return min(len(self.train), _MAX_IMAGES)

    def _fit(self, images: int, epochs: int) -> dict[str, Tensor]:
        """Train on so many pictures, evenly spaced."""
        rng, device = generator(self.seed, "asset", "generator"), self.train.device
        weights = self.initial_weights(rng)
        if epochs == 0:
            return weights
        index = torch.arange(images) * len(self.train) // images
        pictures = torch.cat([torch.as_tensor(self.train.raw(at)).float() for at in iter_batches(index, 1000)])
        pictures = pictures.to(device).clamp(0, 1)
        moving = {n: t.to(device).requires_grad_() for n, t in weights.items() if n != "range"}
        optimizer = torch.optim.Adam(moving.values(), lr=_LR)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(images, generator=rng), _BATCH):
                x, noise = pictures[rows.to(device)], torch.randn(len(rows), self.dim, generator=rng).to(device)
                with torch.enable_grad():
                    loss = elbo_loss(x, noise, moving, self.kl, self.centres(moving, index[rows]))
                    grads = torch.autograd.grad(loss, tuple(moving.values()))
                for leaf, grad in zip(moving.values(), grads, strict=True):
                    leaf.grad = grad
                optimizer.step()
        weights |= {n: t.detach().cpu().contiguous() for n, t in moving.items()}
        if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
            raise PotstillError(f"the generator's training did not stay finite with kl={self.kl:g}; lower kl")
        return weights

    def initial_weights(self, rng: Generator) -> dict[str, Tensor]:
        """Return the weights that training starts from."""
        return _initial_weights(self.train.input.shape, self.dim, self.width, rng)

    def centres(self, weights: Payload, index: Tensor) -> Tensor | None:
        """Return where the prior of each of these samples has its mean (n, d); ``None``: at 0."""
        return None

    def remaining(self) -> float:
        """Return the pictures of all epochs."""
        return float(self.epochs * self._images)

    def estimate(self) -> tuple[Callable[[], object], float]:
        """Return the training on a few batches."""
        images = min(self._images, 4 * _BATCH)
        return lambda: self.fit_part(images), float(images)

    def fit_part(self, images: int) -> dict[str, Tensor]:
        """Train for one epoch on some pictures only."""
        return self._fit(images, 1)


def elbo_loss(
    x: Float[Tensor, "n c h w"], noise: Float[Tensor, "n d"], weights: Payload, kl: float,
    centres: Float[Tensor, "n d"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Return the loss of a batch of pictures in data units, and of draws from N(0, 1).

    Args:
        centres: means of the prior of each picture. Default: 0.
    """
    mean, log_variance = encode_images(x, weights)
    logits = _logits(mean + (log_variance / 2).exp() * noise, weights, 0, tuple(x.shape[1:]))
    away = mean if centres is None else mean - centres
    divergence = (away.square() + log_variance.exp() - 1 - log_variance).sum() / 2
    return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl * divergence) / len(x)


def check_tensors(tensors: Payload, shapes: Mapping[str, tuple[int, ...]], settings: str) -> None:
    """Check the tensors of a generator that somebody gives.

    Args:
        tensors: tensors by name.
        shapes: the shapes that they must have.
        settings: settings that decide the shapes, as text.

    Raises:
        PotstillError: they are of another architecture, not finite, or of another range than pictures.
    """
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    for name, size in shapes.items():
        if found.get(name) != size:
            has = f"it is {list(found[name])}" if name in found else "there is none"
            raise PotstillError(
                f"generator: the tensor {name!r} must be {list(size)} for {settings} and these pictures, but {has}; "
                "give a file of this architecture"
            )
    if odd := sorted(set(found) - set(shapes)):
        raise PotstillError(f"generator: it has a tensor {odd[0][:80]!r}, which this architecture lacks; remove it")
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise PotstillError("generator: its tensors must be finite, but some values are not; give another file")
    if (span := tensors["range"].tolist()) != [0.0, 1.0]:
        raise PotstillError(
            f"generator: its range must be the pictures', 0 to 1, but it is {span[0]:g} to {span[1]:g}; give one "
            "whose output has the data's range"
        )


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """Asset ``generator``: a variational autoencoder (an `potstill.core.Asset`)."""

    dim: int
    width: int
    epochs: int
    kl: float
    seed: int = 0
    name: str = "generator"

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        """Settings."""
        return {"dim": self.dim, "width": self.width, "epochs": self.epochs, "kl": self.kl, "seed": self.seed}

    def jobs(self, ground: AssetContext) -> tuple[FitAutoencoder, ...]:
        """Return its one job.

        Raises:
            PotstillError: the inputs are no pictures with values in [0, 1].
        """
        image_shape("latents", ground.train.input.shape)
        if get_kind(ground.train.input).value_range != (0.0, 1.0):
            raise PotstillError(
                f"parametrization latents needs pictures with values in [0, 1], but the inputs are "
                f"{get_kind(ground.train.input).noun}; take pixels"
            )
        return (
            FitAutoencoder(
                train=ground.train, dim=self.dim, width=self.width, epochs=self.epochs, kl=self.kl, seed=self.seed
            ),
        )

    def open(self, parts: Sequence[Payload]) -> Payload:
        """Return the tensors."""
        return parts[0]

    def placeholder(self, jobs: Sequence[FitAutoencoder]) -> Payload:
        """Return an untrained generator."""
        shape = jobs[0].train.input.shape
        return _initial_weights(shape, self.dim, self.width, generator(self.seed, "asset", "generator"))

    def adopt(self, value: Any, ground: AssetContext) -> Payload:
        """Return the tensors of a safetensors file, or tensors by name.

        Raises:
            PotstillError: they are of another architecture, not finite, or of another range than the data.
        """
        tensors = value if isinstance(value, Mapping) else read_tensors(Path(value), _MAX_BYTES)[0]
        wanted = generator_shapes(self.jobs(ground)[0].train.input.shape, self.dim, self.width)
        needed = {n: s for n, s in wanted.items() if not n.startswith("encoder/")}
        settings = f"dim={self.dim}, width={self.width}"
        check_tensors(tensors, wanted if set(tensors) - set(needed) else needed, settings)
        return tensors

    def describe_work(self, missing: Sequence[FitAutoencoder]) -> str:
        """Describe the work."""
        return f"training a generator for {self.epochs} epochs" if self.epochs else "drawing an untrained generator"

    def provenance(self, value: Payload, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing: the decoder's metadata name it."""
        return {}
