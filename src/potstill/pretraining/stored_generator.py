r"""The generator is the set: a small decoder and the latents of each class, from which any number of pictures is drawn.

After DiM (Wang et al., arXiv:2303.04707) and generative teaching networks (Such et al., arXiv:1912.07768), which keep a
generator in place of pictures. Theirs are conditional GANs and are counted at their full size; here it is the decoder
of an autoencoder, with weights in the bits of the set's codec, and its bytes are the set's.

.. math::
    x_{ci} = \mathrm{sigmoid}(p_3 \, \mathrm{up}(\mathrm{ReLU}(p_2 \, \mathrm{up}(\mathrm{ReLU}(p_1 z_{ci}))))),
    \qquad z_{ci} = m_c + L_c \epsilon_{ci}, \quad \epsilon_{ci} \sim N(0, 1)

Every update has other noise, so that a method moves the distribution and not some pictures of it. The file has
the seed of the last draw, so that every reader gets the same pictures; `potstill.resample` draws others.

For other programs, ε exactly: with ``draw`` = (s, t) and a class's name c, its ``samples`` × ``dim`` numbers are
``torch.randn(samples, dim)``, float32, of torch's generator on the CPU with the seed ``n >> 1``. n are the first
8 bytes, the first one highest, of the SHA-256 of the JSON text ``[s, "generator", t, "c"]``: UTF-8, a space after each
comma, characters beyond ASCII as ``\uXXXX``. Classes come in label order, and a class's draws depend on its name
alone. L has its rows one after another, d (d + 1) / 2 numbers: (0, 0), (1, 0), (1, 1), (2, 0) …
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.codecs import largest_fitting
from potstill.core import Asset, DecodeContext, Payload, Problem, Source, Space
from potstill.errors import PotstillError
from potstill.parametrize._shared import stored_numbers
from potstill.pretraining.class_generator import ClassGenerator, draw_latents
from potstill.pretraining.generator import decode_latents, generator_shapes
from potstill.rng import draw_seed, generator
from potstill.tasks import Classification, get_task

__all__ = ["StoredGenerator"]

_DRAW, _MEAN, _FACTOR = "draw", "decoder/mean", "decoder/factor"
_MOST_WIDTH = 256
_DIMS, _FULL = range(8, 19), 0.99
"""Numbers of a latent that a budget may be filled by: the most of those that fill it about as well as any."""
_OFF_DIAGONAL = 0.25
"""Standard deviation of a factor's numbers off its diagonal, where those on it are 1: as trained ones are coded."""
_SEEDS = 1 << 16
"""Seeds of draws: what the file stores in few bits."""


def _count_numbers(k: int, dim: int, shape: tuple[int, ...], width: int) -> int:
    """Return the numbers of a decoder and of k classes' latents."""
    weights = (size for n, size in generator_shapes(shape, dim, width).items() if n.startswith("decoder/"))
    return sum(map(prod, weights)) + k * (dim + dim * (dim + 1) // 2)


def _fits(total: int, k: int, dim: int, shape: tuple[int, ...], width: int) -> bool:
    return _count_numbers(k, dim, shape, width) <= total


@dataclass(frozen=True, kw_only=True)
class StoredGenerator:
    """A decoder of pictures and the latents of each class, all in the file.

    The payload: the decoder's weights ``decoder/1/weight`` to ``decoder/3/bias``; ``decoder/mean`` (k, d) and
    ``decoder/factor`` (k, d (d + 1) / 2), the rows of a lower triangular matrix, of each class's latents; and ``draw``,
    seed and number of the draw.

    Decoding: ``samples`` pictures of each class from latents ``mean + factor ε``, normalised.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    samples: int = 50
    """Pictures drawn of each class, at least 1; they take no bytes. Ours."""
    dim: int = 0
    """Numbers of a latent; 0: from 8 to 18, as fill the size budget best. Ours."""
    width: int = 0
    """Channels of the decoder; 0: as many as the size budget holds."""
    epochs: int = 10
    """Epochs that it is trained for before the first step, at least 0; 0: it starts untrained."""
    kl: float = 0.3
    """Weight of the Kullback-Leibler term in that training, at least 0. Ours."""
    seed: int = 0
    """Seed of that training."""
    lr: float = 0.005
    """Learning rate of AdamW at which a method moves it, above 0; the method's own is for pixels. Ours."""

    def __post_init__(self) -> None:
        if self.samples < 1 or min(self.dim, self.width, self.epochs, self.kl, self.seed) < 0 or self.lr <= 0:
            raise PotstillError(
                "generator: samples must be at least 1, dim, width, epochs, kl and seed at least 0 and lr above 0, "
                f"not {self.samples}, {self.dim}, {self.width}, {self.epochs}, {self.kl}, {self.seed} and {self.lr}"
            )

    @property
    def bounded(self) -> bool:
        """False: weights are no values of inputs."""
        return False

    @property
    def decoded_space(self) -> Space:
        """Space of the decoded pictures: always ``model``."""
        return "model"

    @property
    def payload_lr(self) -> float:
        """Learning rate of AdamW."""
        return self.lr

    def bind(self, train: Source, /) -> "StoredGenerator":
        """Return it as it is where each sample has a class.

        Raises:
            PotstillError: targets are no classes.
        """
        task = get_task(train)
        if not isinstance(task, Classification) or not train.classes:
            raise PotstillError(
                f"parametrization generator draws pictures of classes, but the targets of {train.name} are none "
                f"({task.name}); take another, such as pixels or small"
            )
        return self

    def init_assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        """Return the generator that the set starts from.

        Raises:
            PotstillError: targets are no classes, or the decoder does not fit.
        """
        self.bind(problem.train)
        numbers = stored_numbers(problem)
        dim, width = self._architecture(sum(numbers), len(numbers), problem.train.input.shape)
        return (ClassGenerator(dim=dim, width=width, epochs=self.epochs, kl=self.kl, seed=self.seed),)

    def planned_payload(self, problem: Problem, /) -> Payload:
        """Return normal values of the shapes that it will store, which trained ones are coded as."""
        numbers, shape = stored_numbers(problem), problem.train.input.shape
        dim, width = self._architecture(sum(numbers), len(numbers), shape)
        rng, k = generator(0, "generator", "plan"), len(numbers)
        sizes = {n: s for n, s in generator_shapes(shape, dim, width).items() if n.startswith("decoder/")}
        values = {n: torch.randn(size, generator=rng) for n, size in (sizes | {_MEAN: (k, dim)}).items()}
        row, column = torch.tril_indices(dim, dim)
        factor = _OFF_DIAGONAL * torch.randn(k, len(row), generator=rng)
        factor[:, row == column] = 1
        return values | {_FACTOR: factor, _DRAW: torch.tensor([_SEEDS - 1, 0])}

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return ``samples`` of each class.

        Raises:
            PotstillError: the decoder does not fit, or the inputs are no pictures.
        """
        self._architecture(sum(numbers), len(numbers), shape)
        return (self.samples,) * len(numbers)

    def _architecture(self, total: int, k: int, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the numbers of a latent and the width that fill the budget.

        Raises:
            PotstillError: not even the fewest fit.
        """
        fitting: list[tuple[int, int, int]] = []
        for dim in (self.dim,) if self.dim else _DIMS:
            fits = partial(_fits, total, k, dim, shape)
            width = self.width or largest_fitting(fits, _MOST_WIDTH)
            if width and fits(width):
                fitting.append((_count_numbers(k, dim, shape, width), dim, width))
        if not fitting:
            dim, width = self.dim or min(_DIMS), self.width or 1
            raise PotstillError(
                f"generator: a decoder of width {width} and the latents of {k} classes have at least "
                f"{_count_numbers(k, dim, shape, width):,} numbers, but the budget has {total:,}; raise it, or lower "
                f"{'width or ' if self.width else ''}dim, which is {dim}"
            )
        most = max(fitting)[0]
        return max((dim, width) for numbers, dim, width in fitting if numbers >= _FULL * most)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the trained generator, whatever the initial inputs, and a seed of draws.

        Raises:
            PotstillError: it was not trained before.
        """
        if "class-generator" not in problem.assets:
            raise PotstillError("generator: its training must come before the first step; it is not at hand")
        draw = torch.tensor([draw_seed(rng) % _SEEDS, 0], dtype=torch.int64, device=x.device)
        return {n: t.to(x) for n, t in problem.assets["class-generator"].items()} | {_DRAW: draw}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return the pictures of this draw (k · samples, c, h, w) in model space."""
        mean, (seed, count) = payload[_MEAN], payload[_DRAW].tolist()
        size = (self.samples, mean.shape[1])
        noise = [torch.randn(size, generator=generator(seed, "generator", count, name)) for name in context.classes]
        z = draw_latents(mean, payload[_FACTOR], torch.stack(noise).to(mean)).flatten(0, 1)
        weights = {**payload, "range": torch.tensor([0.0, 1.0]).to(mean)}
        images = decode_latents(z, weights, 0, context.shape)
        return images if context.normalization is None else context.normalization.apply(images)

    def num_items(self, payload: Payload, /) -> int:
        """Return the pictures that a payload decodes to."""
        return self.samples * len(payload[_MEAN])

    def describe_draw(self, payload: Payload, /) -> dict[str, int]:
        """Return items of each class, seed and number of the draw, as the metadata's ``decoder.drawn`` has them."""
        seed, count = map(int, payload[_DRAW].tolist())
        return {"per_class": self.samples, "seed": seed, "draw": count}

    def reseed(self, payload: Payload, seed: int, /) -> Payload:
        """Return the payload of another draw.

        Raises:
            PotstillError: the seed is out of its range.
        """
        if not 0 <= seed < _SEEDS:
            raise PotstillError(f"the seed of a draw must be from 0 to {_SEEDS - 1:,}, but it is {seed}; change it")
        return {**payload, _DRAW: torch.tensor([seed, 0], dtype=torch.int64)}

    def after_update(self, payload: Payload) -> Payload:
        """Return the tensors of the payload that follow an update: the next draw."""
        return {_DRAW: payload[_DRAW] + torch.tensor([0, 1], device=payload[_DRAW].device)}
