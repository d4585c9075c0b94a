"""Latents of a generator that the file does not hold: every objective over them, as GLaD and IT-GAN do.

GLaD (Cazenavette et al., arXiv:2305.01649) and IT-GAN (Zhao & Bilen, arXiv:2204.07513) use large generators trained
elsewhere; here it is `potstill.pretraining.generator`, trained on the same data.

**Two passes**, as in GLaD's released code: decoding holds no graph of the generator. Its gradients are computed in
small batches from those with respect to the pictures, each batch decoded once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint

from potstill.core import Asset, DecodeContext, Payload, Problem, Space
from potstill.errors import PotstillError
from potstill.pretraining.generator import (
    LAYERS,
    Autoencoder,
    activation_shape,
    decode_latents,
    encode_images,
    to_layer,
)

__all__ = ["Latents"]

_CHUNK = 64
"""Pictures that are decoded at once."""
_INVERSION_LR = 0.1


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Latents of every picture, which a shared generator decodes.

    The payload: ``latents`` (n, d), grouped by class; with ``layer`` 1 or 2 the activations (n, c, h, w) of the
    decoder's layers.

    Decoding: ``x = sigmoid(p3 up(ReLU(p2 up(ReLU(p1 latents)))))``, normalised; with ``layer`` from that layer on. The
    generator is a shared asset, in the file that the metadata's ``decoder`` names by its hash.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    dim: int = 16
    """Numbers of a latent at the decoder's input, at least 1. Ours."""
    layer: int = 0
    """Layer of the decoder whose input is optimised: 0 (latents), 1 or 2 (GLaD's choice of layer)."""
    width: int = 16
    """Channels of the generator, at least 1. Ours."""
    epochs: int = 10
    """Epochs that the generator is trained for, at least 0; 0: an untrained one, as GLaD's control."""
    kl: float = 0.3
    """Weight of the Kullback-Leibler term in its training, at least 0. Ours."""
    init: str = "real"
    """``real``: latents of the initial samples; ``noise``: draws from N(0, 1)."""
    inversion: int = 0
    """Updates by which initial latents are fitted to the initial samples, after the encoder; 0: none."""
    seed: int = 0
    """Seed of the generator's weights."""

    def __post_init__(self) -> None:
        if min(self.dim, self.width) < 1 or min(self.epochs, self.kl, self.inversion, self.seed) < 0:
            raise PotstillError(
                "latents: dim and width must be at least 1, epochs, kl, inversion and seed at least 0, not "
                f"{self.dim}, {self.width}, {self.epochs}, {self.kl}, {self.inversion} and {self.seed}"
            )
        if not 0 <= self.layer <= LAYERS:
            raise PotstillError(f"latents: layer must be 0, 1 or 2, not {self.layer}")
        if self.init not in ("real", "noise"):
            raise PotstillError(f"latents: init must be real or noise, not {self.init!r}")

    @property
    def bounded(self) -> bool:
        """False: latents are no values of inputs."""
        return False

    @property
    def decoded_space(self) -> Space:
        """Space of the decoded pictures: always ``model``."""
        return "model"

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """Return the generator."""
        return (Autoencoder(dim=self.dim, width=self.width, epochs=self.epochs, kl=self.kl, seed=self.seed),)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the pictures of each class whose latents its number of values allows.

        Raises:
            PotstillError: a class gets no picture, or the inputs are no pictures.
        """
        one = prod(activation_shape(shape, self.dim, self.width, self.layer))
        if min(numbers) < one:
            raise PotstillError(
                f"latents: one picture has {one:,} numbers, but the budget leaves {min(numbers):,} to a class; raise "
                f"it or lower {'width' if self.layer else 'dim'}"
            )
        return tuple(n // one for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the encoder's means of pictures in model space, or draws from the prior.

        Raises:
            PotstillError: the generator that was given has no encoder, or the whitening cannot be undone.
        """
        weights = {n: t.to(x) for n, t in _generator(problem.context).items()}
        shape = problem.train.input.shape
        with torch.no_grad():
            if self.init == "noise":
                z = torch.randn(len(x), self.dim, generator=rng).to(x)
            elif "encoder/1/weight" not in weights:
                raise PotstillError("the generator that was given has no encoder; start from draws with init=noise")
            elif (whitening := problem.train.normalization.whitening) is not None and whitening.unit_norm:
                raise PotstillError(
                    "latents start from pictures, but whitening that gives each unit norm cannot be undone; take "
                    '`zca="mtt"`, or start from draws with init=noise'
                )
            else:
                pictures = problem.train.normalization.invert(x).clamp(0, 1)
                z = torch.cat([encode_images(part, weights)[0] for part in torch.split(pictures, _CHUNK)])
            latents = torch.cat([to_layer(part, weights, self.layer, shape) for part in torch.split(z, _CHUNK)])
        return {"latents": self._inverted(latents, x, problem) if self.inversion else latents}

    def _inverted(self, latents: Tensor, x: Tensor, problem: Problem) -> Tensor:
        """Return latents fitted to pictures by Adam on the squared error."""
        leaf = latents.clone().requires_grad_()
        optimizer = torch.optim.Adam([leaf], lr=_INVERSION_LR)
        for _ in range(self.inversion):
            with torch.enable_grad():
                error = (self.decode({"latents": leaf}, problem.context) - x).square().flatten(1).mean(1).sum()
                leaf.grad = torch.autograd.grad(error, leaf)[0]
            optimizer.step()
        return leaf.detach()

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return pictures (n, c, h, w) in model space, without a graph of the generator until gradients are taken."""
        latents = payload["latents"]
        weights = {n: t.to(latents) for n, t in _generator(context).items() if not n.startswith("encoder/")}
        decode = partial(decode_latents, weights=weights, layer=self.layer, shape=context.shape)
        parts = torch.split(latents, _CHUNK)
        if latents.requires_grad and torch.is_grad_enabled():
            images = [checkpoint(decode, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        else:
            images = [decode(part) for part in parts]
        decoded = torch.cat(images)
        return decoded if context.normalization is None else context.normalization.apply(decoded)

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each picture."""
        return {"latents": slice(sum(sizes[: classes.start]), sum(sizes[: classes.stop]))}


def _generator(context: DecodeContext) -> Payload:
    if "generator" not in context.assets:
        raise PotstillError("latents decode by a generator, but it is not at hand; take parametrization pixels")
    return context.assets["generator"]
