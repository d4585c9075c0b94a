r"""Class-conditional diffusion over the latents of an autoencoder: an asset, trained here in a minute and cached.

With z the latent of a picture by the encoder of `potstill.pretraining.generator`, standardised, and ε from N(0, 1)::

    noise: x = √ᾱ_t z + √(1 − ᾱ_t) ε,  loss ‖ε − f(x, t, y)‖²           DDPM (Ho et al., arXiv:2006.11239)
    flow:  x = (1 − s) z + s ε,        loss ‖(ε − z) − f(x, s, y)‖²     flow matching (Lipman et al., arXiv:2210.02747)

f is a residual network of linear layers; the class is left out of a tenth of the samples, so that it also predicts
without one (classifier-free guidance, arXiv:2207.12598). One file of plain tensors holds all: ``denoiser/…``,
``latents/…``, ``objective``, ``encoder/…``, ``decoder/…`` and ``range``.

A larger model is given as an object (`DiffusionModel`).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Payload, Source
from potstill.core.nested import iter_batches
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.functional.diffusion import add_noise, clean_sample, flow_time, flow_to_noise, linear_rates
from potstill.functional.optim import adaptive_step, zeros
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint
from potstill.pretraining.cached_tensors import CachedTensors
from potstill.pretraining.generator import (
    Autoencoder,
    FitAutoencoder,
    check_tensors,
    decode_latents,
    encode_images,
    generator_shapes,
)
from potstill.rng import generator

__all__ = ["Diffusion", "DiffusionModel", "FitDiffusion", "LatentDiffusion", "Objective", "denoiser_loss"]

Objective: TypeAlias = Literal["noise", "flow"]

_BLOCKS, _FREQUENCIES = 3, 32
"""Residual blocks, and frequencies of the time's embedding."""
_BATCH, _LR, _DROPPED = 128, 2e-3, 0.1
"""Latents of an update, first learning rate of Adam along a cosine to zero, and part without a class (DiT's)."""
_MAX_LATENTS, _CHUNK, _MAX_BYTES = 100_000, 500, 1 << 28
_CHECKPOINT_EVERY = 1000
"""Updates between two checkpoints of a training."""
_RATES = linear_rates()
_KL = 0.3
"""The autoencoder's weight of its Kullback-Leibler term: that of parametrization ``latents``."""


@runtime_checkable
class DiffusionModel(Protocol):
    """A class-conditional diffusion model: of this package, or of anybody's as ``generator=`` of `potstill.distill`."""

    @property
    def fingerprint(self) -> str:
        """Text that decides its bits, such as the SHA-256 of its weights; it stands in the file of every set."""
        ...

    @property
    def rates(self) -> Float[Tensor, " t"]:
        """Rate ᾱ of every time, falling."""
        ...

    def encode(self, x: Float[Tensor, "n c h w"], /) -> Tensor:
        """Return latents (n, …) of pictures in data units (0 to 1)."""
        ...

    def decode(self, z: Tensor, /) -> Float[Tensor, "n c h w"]:
        """Return pictures in data units (0 to 1) of latents (n, …)."""
        ...

    def eps(self, x_t: Tensor, t: Int[Tensor, " n"], y: Int[Tensor, " n"], /) -> Tensor:
        """Return the noise in latents at times ``t`` for classes ``y`` in label order; −1: without a class."""
        ...


def denoiser_shapes(dim: int, hidden: int, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the denoiser's tensors by name."""
    weights: dict[str, tuple[int, ...]] = {
        "in": (hidden, dim),
        "time": (hidden, 2 * _FREQUENCIES),
        "out": (dim, hidden),
    }
    weights |= {f"{i}/{part}": (hidden, hidden) for i in range(_BLOCKS) for part in ("first", "second")}
    shapes = {f"denoiser/{name}/weight": size for name, size in weights.items()}
    shapes |= {f"denoiser/{name}/bias": size[:1] for name, size in weights.items()}
    norms = [f"denoiser/{i}/norm" for i in (*range(_BLOCKS), "out")]
    shapes |= {f"{norm}/{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
    return shapes | {"denoiser/class": (num_classes + 1, hidden)}


def _initial_denoiser(dim: int, hidden: int, num_classes: int, rng: Generator) -> dict[str, Tensor]:
    """Return random weights; the last layers of the blocks and of the network are zero."""
    found = {}
    for name, size in sorted(denoiser_shapes(dim, hidden, num_classes).items()):
        if "/norm/weight" in name:
            found[name] = torch.ones(size)
        elif name.endswith(("bias", "second/weight", "denoiser/out/weight")):
            found[name] = torch.zeros(size)
        else:
            scale = 0.02 if name.endswith("class") else size[-1] ** -0.5
            found[name] = torch.randn(size, generator=rng) * scale
    return found


def _denoise(x: Tensor, time: Float[Tensor, " n"], y: Int[Tensor, " n"], weights: Payload) -> Tensor:
    """Return the network's output for noised latents (n, d) at a time in [0, 1]."""

    def linear(values: Tensor, name: str) -> Tensor:
        return F.linear(values, weights[f"denoiser/{name}/weight"], weights[f"denoiser/{name}/bias"])

    def norm(values: Tensor, name: str) -> Tensor:
        scale, shift = (weights[f"denoiser/{name}/norm/{part}"] for part in ("weight", "bias"))
        return F.layer_norm(values, scale.shape, scale, shift)

    angles = time[:, None] * 1000 * torch.exp(-math.log(10_000) * torch.arange(_FREQUENCIES).to(time) / _FREQUENCIES)
    given = linear(torch.cat([angles.cos(), angles.sin()], 1), "time") + weights["denoiser/class"][y]
    h = linear(x, "in")
    for i in range(_BLOCKS):
        h = h + linear(F.silu(linear(F.silu(norm(h, str(i)) + given), f"{i}/first")), f"{i}/second")
    return linear(norm(h, "out"), "out")


def denoiser_loss(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], weights: Payload, objective: Objective, rng: Generator
) -> tuple[Float[Tensor, ""], Float[Tensor, "n d"]]:
    """Return the loss of a batch of standardised latents, at random times, and its predicted clean latents.

    A tenth of the samples go without their class.
    """
    noise, uniform = torch.randn(z.shape, generator=rng).to(z), torch.rand(len(z), generator=rng)
    y = torch.where(torch.rand(len(z), generator=rng) < _DROPPED, -1, y.cpu()).to(z.device)
    if objective == "flow":
        s = uniform.to(z)[:, None]
        velocity = _denoise((1 - s) * z + s * noise, s[:, 0], y, weights)
        return (noise - z - velocity).square().mean(), (1 - s) * z + s * noise - s * velocity
    rates = _RATES
    t = (uniform * len(rates)).long()
    rate = rates[t].to(z)[:, None]
    x_t = add_noise(z, noise, rate)
    predicted = _denoise(x_t, (t / len(rates)).to(z), y, weights)
    return (noise - predicted).square().mean(), clean_sample(x_t, predicted, rate)


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """The trained model (a `DiffusionModel`)."""

    tensors: Payload

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its tensors."""
        return hash_tensors(self.tensors)

    @property
    def rates(self) -> Float[Tensor, " t"]:
        """Rate of every time."""
        return _RATES

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (c, h, w) of a picture."""
        return tuple(int(n) for n in self.tensors["shape"].tolist())

    @property
    def objective(self) -> Objective:
        """Objective of its training."""
        return "flow" if float(self.tensors["objective"]) else "noise"

    def encode(self, x: Float[Tensor, "n c h w"], /) -> Float[Tensor, "n d"]:
        """Return the standardised means of the encoder."""
        weights = self._weights_like(x, ("encoder/", "latents/"))
        return (encode_images(x, weights)[0] - weights["latents/mean"]) / weights["latents/std"]

    def decode(self, z: Float[Tensor, "n d"], /) -> Float[Tensor, "n c h w"]:
        """Return pictures of standardised latents."""
        weights = self._weights_like(z, ("decoder/", "latents/", "range"))
        return decode_latents(z * weights["latents/std"] + weights["latents/mean"], weights, 0, self.shape)

    def eps(self, x_t: Float[Tensor, "n d"], t: Int[Tensor, " n"], y: Int[Tensor, " n"], /) -> Float[Tensor, "n d"]:
        """Return the noise in latents at times ``t``; of a model of flow matching by its velocity."""
        weights = self._weights_like(x_t, ("denoiser/",))
        rate = self.rates[t.cpu()].to(x_t)[:, None]
        if self.objective == "noise":
            return _denoise(x_t, t.to(x_t) / len(self.rates), y, weights)
        x_s = x_t / (rate.sqrt() + (1 - rate).sqrt())
        return flow_to_noise(x_t, _denoise(x_s, flow_time(rate)[:, 0], y, weights), rate)

    def with_denoiser(self, weights: Payload) -> "LatentDiffusion":
        """Return the model with other weights of the denoiser."""
        return LatentDiffusion({**self.tensors, **weights})

    def _weights_like(self, x: Tensor, prefixes: tuple[str, ...]) -> Payload:
        return {n: t.to(x) for n, t in self.tensors.items() if n.startswith(prefixes)}


@dataclass(frozen=True, kw_only=True)
class FitDiffusion(CachedTensors):
    """Job that trains the model, and its autoencoder where that is not cached (an `potstill.core.AssetJob`)."""

    called: ClassVar[str] = "diffusion models"
    max_bytes: ClassVar[int] = _MAX_BYTES
    train: Source
    autoencoder: FitAutoencoder
    hidden: int
    updates: int
    objective: Objective
    seed: int = 0
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)

    @property
    def path(self) -> Path:
        """Cache file."""
        coder = self.autoencoder
        recipe = {"dim": coder.dim, "width": coder.width, "epochs": coder.epochs, "kl": coder.kl, "coder": coder.seed}
        recipe |= {"hidden": self.hidden, "updates": self.updates, "seed": self.seed}
        what = {"data": self.train.content_hash, **recipe, "objective": self.objective, "version": 1}
        return cache_dir() / "diffusion" / f"{cache_key(what, self.machine, self.train.device)}.safetensors"

    @property
    def progress(self) -> Path:
        """Checkpoint of an interrupted training."""
        return self.path.with_suffix(".partial.safetensors")

    def compute(self) -> dict[str, Tensor]:
        """Return all tensors.

        Raises:
            PotstillError: training did not stay finite.
        """
        return self._fit(self.autoencoder.load() or self.autoencoder.compute(), self.updates)

    def build(self) -> tuple[Payload, str] | None:
        """Train and cache the model and the autoencoder; an interrupted training goes on at its last checkpoint."""
        coder = self.autoencoder.load()
        if coder is None:
            unkept = self.autoencoder.build()
            coder = unkept[0] if unkept else self.autoencoder.load()
        tensors = self._fit(coder or self.autoencoder.compute(), self.updates, self.progress)
        unkept = self.write(tensors)
        if unkept is None:
            self.progress.unlink(missing_ok=True)
        return unkept

    def _latents(self, coder: Payload) -> tuple[Tensor, Tensor]:
        """Return latents (n, d) and classes of the training data, at most 100,000 evenly spaced."""
        n = min(len(self.train), _MAX_LATENTS)
        index = torch.arange(n) * len(self.train) // n
        weights = {name: t.to(self.train.device) for name, t in coder.items()}
        with torch.no_grad():
            pictures = (torch.as_tensor(self.train.raw(at)).float() for at in iter_batches(index, _CHUNK))
            z = torch.cat([encode_images(x.to(self.train.device).clamp(0, 1), weights)[0] for x in pictures])
        return z, torch.as_tensor(self.train.labels)[index]

    def _fit(self, coder: Payload, updates: int, progress: Path | None = None) -> dict[str, Tensor]:
        rng = generator(self.seed, "asset", "diffusion")
        z, y = self._latents(coder)
        mean, std = z.mean(0), z.std(0, correction=0).clamp(min=1e-3)
        z = (z - mean) / std
        weights = _initial_denoiser(z.shape[1], self.hidden, len(self.train.classes), rng)
        state = [weights, zeros(weights), zeros(weights)]
        first = 0 if progress is None else _read_progress(progress, state, rng)
        state = [{n: t.to(z) for n, t in part.items()} for part in state]
        for update in range(first, updates):
            rows = torch.randint(len(z), (min(_BATCH, len(z)),), generator=rng)
            lr = _LR * (1 + math.cos(math.pi * update / self.updates)) / 2
            leaves = {n: t.requires_grad_() for n, t in state[0].items()}
            with torch.enable_grad():
                loss, _ = denoiser_loss(z[rows.to(z.device)], y[rows], leaves, self.objective, rng)
                grads = dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))
            with torch.no_grad():
                state = list(adaptive_step("adamw", leaves, grads, state[1], state[2], update, lr=lr))
            if progress is not None and (update + 1) % _CHECKPOINT_EVERY == 0 and update + 1 < updates:
                _write_progress(progress, state, update + 1, rng)
        tensors = {n: t.detach().cpu().contiguous() for n, t in state[0].items()}
        if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
            raise PotstillError("the diffusion model's training did not stay finite; lower diffusion_width")
        flow = torch.tensor(float(self.objective == "flow"))
        scale = {"latents/mean": mean.cpu(), "latents/std": std.cpu()}
        shape = torch.tensor(self.train.input.shape, dtype=torch.float32)
        return {**coder, **tensors, **scale, "objective": flow, "shape": shape}

    def remaining(self) -> float:
        """Return the whole training as one."""
        return 1.0

    def estimate(self) -> tuple[Callable[[], object], float]:
        """Return a two-hundredth of the trainings of autoencoder and model."""
        part = 1 / 200

        def run() -> object:
            images = max(1, round(min(len(self.train), 10_000) * self.autoencoder.epochs * part))
            coder = self.autoencoder.fit_part(min(images, len(self.train)))
            return self._fit(coder, max(1, round(self.updates * part)))

        return run, part


def _write_progress(path: Path, state: Sequence[Payload], update: int, rng: Generator) -> None:
    """Write a checkpoint; where it cannot be written, training goes on without."""
    parts = {f"{i}/{n}": t.detach().cpu() for i, part in enumerate(state) for n, t in part.items()}
    try:
        make_cache_folder(path.parent)
        write_tensors(path, {**parts, "rng": rng.get_state()}, {"update": json.dumps(update)})
    except (OSError, PotstillError):
        return


def _read_progress(path: Path, state: list[dict[str, Tensor]], rng: Generator) -> int:
    """Read a checkpoint into ``state`` and ``rng`` and return its update; 0 where there is none that fits."""
    try:
        tensors, metadata = read_tensors(path, 4 * _MAX_BYTES)
        wanted = {f"{i}/{n}": t.shape for i, part in enumerate(state) for n, t in part.items()}
        if {n: t.shape for n, t in tensors.items()} != wanted | {"rng": rng.get_state().shape}:
            return 0
        update = int(json.loads(metadata["update"]))
    except (PotstillError, KeyError, ValueError, TypeError):
        return 0
    rng.set_state(tensors["rng"])
    for i, part in enumerate(state):
        part.update({n: tensors[f"{i}/{n}"].clone() for n in part})
    return update


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """Asset ``generator``: a class-conditional diffusion model (an `potstill.core.Asset`)."""

    dim: int
    width: int
    epochs: int
    hidden: int
    updates: int
    objective: Objective
    name: str = "generator"

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        """Settings."""
        return {
            "dim": self.dim, "width": self.width, "epochs": self.epochs, "hidden": self.hidden,
            "updates": self.updates, "objective": self.objective,
        }  # fmt: skip

    def jobs(self, ground: AssetContext) -> tuple[FitDiffusion, ...]:
        """Return its one job.

        Raises:
            PotstillError: the inputs are no pictures with values in [0, 1], or have no classes.
        """
        coder = Autoencoder(dim=self.dim, width=self.width, epochs=self.epochs, kl=_KL).jobs(ground)[0]
        if not ground.train.classes:
            raise PotstillError(
                f"{ground.train.name}: a class-conditional diffusion model needs classes, but there are none; take dm"
            )
        return (
            FitDiffusion(
                train=ground.train, autoencoder=coder, hidden=self.hidden, updates=self.updates,
                objective=self.objective,
            ),
        )  # fmt: skip

    def open(self, parts: Sequence[Payload]) -> LatentDiffusion:
        """Return the model."""
        return LatentDiffusion(parts[0])

    def placeholder(self, jobs: Sequence[FitDiffusion]) -> LatentDiffusion:
        """Return an untrained model."""
        train, rng = jobs[0].train, generator(0, "asset", "diffusion")
        ground = {name: torch.zeros(size) for name, size in self._shapes(train).items() if "/" in name}
        denoiser = _initial_denoiser(self.dim, self.hidden, len(train.classes), rng)
        ends = {"range": torch.tensor([0.0, 1.0]), "objective": torch.tensor(float(self.objective == "flow"))}
        shape = torch.tensor(train.input.shape, dtype=torch.float32)
        return LatentDiffusion(ground | denoiser | ends | {"latents/std": torch.ones(self.dim), "shape": shape})

    def _shapes(self, train: Source) -> dict[str, tuple[int, ...]]:
        coder = generator_shapes(train.input.shape, self.dim, self.width)
        scale = {"latents/mean": (self.dim,), "latents/std": (self.dim,), "objective": (), "shape": (3,)}
        return coder | denoiser_shapes(self.dim, self.hidden, len(train.classes)) | scale

    def adopt(self, value: Any, ground: AssetContext) -> DiffusionModel:
        """Return the model in a safetensors file or in tensors by name, or an object that is one.

        Raises:
            PotstillError: it is of another architecture, other classes or another range of values, or not finite.
        """
        train = self.jobs(ground)[0].train
        if not isinstance(value, Mapping | str | Path):
            return _check_model(value, train)
        tensors = value if isinstance(value, Mapping) else read_tensors(Path(value), _MAX_BYTES)[0]
        settings = (
            f"latent_dim={self.dim}, autoencoder_width={self.width}, diffusion_width={self.hidden}, "
            f"{len(train.classes)} classes"
        )
        check_tensors(tensors, self._shapes(train), settings)
        if float(tensors["objective"]) != float(self.objective == "flow"):
            raise PotstillError(
                f"generator: it must be trained for objective={self.objective}, but it is for the other one; "
                "give that objective"
            )
        return LatentDiffusion(tensors)

    def describe_work(self, missing: Sequence[FitDiffusion]) -> str:
        """Describe the work."""
        return f"training a diffusion model for {self.updates:,} updates"

    def provenance(self, value: DiffusionModel, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """By settings and content."""
        return {"generators": {"asset": self.name, "recipe": dict(self.recipe), "hash": value.fingerprint}}


def _check_model(value: Any, train: Source) -> DiffusionModel:
    """Return a model that somebody gives as an object, tried on one picture."""
    if not isinstance(value, DiffusionModel):
        raise PotstillError(
            "generator must be a safetensors file, tensors by name, or an object with fingerprint, rates, encode, "
            f"decode and eps, but it is a {type(value).__name__}; give one of these"
        )
    x = torch.as_tensor(train.raw(torch.tensor([0]))).float()
    t, y = torch.tensor([len(value.rates) - 1]), torch.tensor([len(train.classes) - 1])
    with torch.no_grad():
        z = value.encode(x)
        noise, decoded = value.eps(z, t, y), value.decode(z)
    if noise.shape != z.shape or decoded.shape != x.shape:
        raise PotstillError(
            f"generator: eps must return {list(z.shape)} as encode does, and decode {list(x.shape)} as the pictures "
            f"are, but they return {list(noise.shape)} and {list(decoded.shape)}; change the object"
        )
    if not bool(torch.isfinite(noise).all()) or not -0.01 <= float(decoded.min()) <= float(decoded.max()) <= 1.01:
        raise PotstillError(
            "generator: eps must be finite and pictures lie in the data's range, 0 to 1, but those of a first trial "
            f"are not (pictures {float(decoded.min()):.3g} to {float(decoded.max()):.3g}); change the object"
        )
    return value
