"""One coordinate network for each input (DDiF; Shin et al., arXiv:2503.04835).

Section 3.2: an input is its own SIREN (Sitzmann et al., arXiv:2006.09661) at the pixels' coordinates p ∈ [−1, 1]²::

    z_1 = sin(ω₀ (p W_1 + b_1)),  z_l = sin(ω (z_{l−1} W_l + b_l)),  x(p) = z_L W_{L+1} + b_{L+1}

All fields are decoded at once, by one batched matrix product for each layer; the published code loops over them and
assumes square colour images. Here each side spans [−1, 1], and channels are those of the data.

The start is the published one: weights and biases uniform in ± 1/2 in the first layer and in ± √(6 / width) / ω in the
others, then every field is fitted to its initial image by Adam on the mean squared error of all pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError
from potstill.functional.optim import adaptive_step, zeros
from potstill.parametrize._shared import image_shape, stored_numbers
from potstill.rng import class_generators

__all__ = ["Field"]

_ENOUGH = 282
"""Inputs of a class beyond which width 0 chooses wider fields: the number at the published width 20 and 50 CIFAR-10
images per class."""
_NARROW = 6
"""Published width for the storage of 1 and 10 CIFAR-10 images per class."""
_CHUNK = 1 << 18
"""Activations of one layer in memory during warm-up: 1 MiB of float32 fits a core's cache."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A coordinate network for every input.

    Its gradients have another size than those of pixels: try a small ``--lr``.

    The payload, grouped by class: ``weights/0`` (n, 2, width) and ``biases/0`` (n, width), …, the last ones
    (n, width, c) and (n, c).

    Decoding: for each pixel p = (row, column), evenly spaced in [−1, 1] along each side, both ends included,
    ``z = sin(ω0 · (p @ weights/0 + biases/0))``, then ``z = sin(ω · (z @ weights/l + biases/l))``, and at last
    ``x(p) = z @ weights/L + biases/L``. ω0 and ω are the settings ``omega0`` and ``omega``.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    width: int = 0
    """Neurons of a layer. 0: 6 while that gives a class at most 282 inputs, then as wide as the budget allows (ours;
    published for CIFAR-10 at 1, 10, 50 images per class: 6, 6, 20); less than 6 where not even one such field fits."""
    layers: int = 2
    """Layers of sines, at least 1 (published: 2 for 32 pixels, 3 for 128)."""
    omega0: float = 30.0
    """ω₀, above 0 (published)."""
    omega: float = 10.0
    """ω, above 0 (published: 10 for 32 pixels, 40 for 128)."""
    warmup: int = 500
    """Steps of the first fit, at least 0. Published: 5,000 at rate 5e-4, a minute of one core for 110 fields of 28×28
    pixels (mean squared error 0.025); 500 at 0.01 take 6 seconds (0.026)."""
    lr: float = 0.01
    """Learning rate of the first fit, above 0 (published: 5e-4)."""

    def __post_init__(self) -> None:
        if min(self.width, self.warmup) < 0 or self.layers < 1:
            raise PotstillError(
                "field: layers must be at least 1, width and warmup at least 0, "
                f"not {self.layers}, {self.width} and {self.warmup}"
            )
        if not all(0 < v < math.inf for v in (self.omega0, self.omega, self.lr)):
            raise PotstillError(
                f"field: omega0, omega and lr must be above 0, not {self.omega0}, {self.omega} and {self.lr}"
            )

    @property
    def bounded(self) -> bool:
        """False: weights of networks are no values of inputs."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the fields of each class that its number of values allows.

        Raises:
            PotstillError: a class gets no field, or the inputs are no images.
        """
        return self._plan(numbers, shape)[1]

    def _cost(self, width: int, channels: int) -> int:
        """Return the number of values of one field."""
        return 3 * width + (self.layers - 1) * (width + 1) * width + (width + 1) * channels

    def _plan(self, numbers: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Return width, and fields of each class, which never fall as the budget grows."""
        c, _, _ = image_shape("field", shape)
        least = min(numbers)
        if least < self._cost(self.width or 1, c):
            raise PotstillError(
                f"field: a network of width {self.width or 1} has {self._cost(self.width or 1, c):,} numbers, but the "
                f"budget leaves {least:,} to a class; raise it" + (" or lower width" if self.width > 1 else "")
            )
        if self.width:
            return self.width, tuple(n // self._cost(self.width, c) for n in numbers)
        fields = max(1, min(least // self._cost(_NARROW, c), _ENOUGH))
        width = 1
        while fields * self._cost(width + 1, c) <= least:
            width += 1
        return width, tuple(n * fields // least for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return fields fitted to ``x``; only initial weights are drawn from ``rng``."""
        width, _ = self._plan(stored_numbers(problem), problem.train.input.shape)
        first = {name: t.to(x) for name, t in self._siren(problem, width, rng).items()}
        fields = max(1, _CHUNK // (width * x.shape[-1] * x.shape[-2]))
        parts = []
        for at in range(0, len(x), fields):
            part = slice(at, at + fields)
            parts.append(self._fit({name: t[part] for name, t in first.items()}, x[part].detach(), problem.context))
        return {name: torch.cat([part[name] for part in parts]) for name in first}

    def _siren(self, problem: Problem, width: int, rng: Generator) -> dict[str, Tensor]:
        """Draw the initial parameters, the fields of each class from a generator of its own."""
        sides = [2] + [width] * self.layers + [problem.train.input.shape[0]]
        generators = class_generators(rng, problem.class_names)

        def draw(*shape: int) -> Tensor:
            draws = zip(problem.sizes, generators, strict=True)
            return torch.cat([torch.rand(n, *shape, generator=g) for n, g in draws]) * 2 - 1

        parameters = {}
        for layer in range(self.layers + 1):
            bound = 1 / 2 if layer == 0 else math.sqrt(6 / width) / self.omega
            a, b = sides[layer : layer + 2]
            parameters[f"weights/{layer}"] = draw(a, b) * bound
            parameters[f"biases/{layer}"] = draw(b) * bound
        return parameters

    def _fit(self, fields: Mapping[str, Tensor], x: Tensor, context: DecodeContext) -> Mapping[str, Tensor]:
        """Minimise every field's mean squared error by Adam; their sum has the same gradients."""
        first, second = zeros(fields), zeros(fields)
        for step in range(self.warmup):
            with torch.enable_grad():
                leaves = {name: t.detach().requires_grad_() for name, t in fields.items()}
                loss = (self.decode(leaves, context) - x).square().mean((1, 2, 3)).sum()
            grads = dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))
            fields, first, second = adaptive_step("adamw", fields, grads, first, second, step, lr=self.lr)
        return fields

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return every field at every pixel (n, c, h, w)."""
        h, w = context.shape[1:]
        like = payload["weights/0"]
        z = _coordinates(h, w).to(like).expand(len(like), -1, -1)
        last = len(payload) // 2 - 1
        for layer in range(last + 1):
            z = torch.baddbmm(payload[f"biases/{layer}"][:, None], z, payload[f"weights/{layer}"])
            if layer < last:
                z = torch.sin((self.omega0 if layer == 0 else self.omega) * z)
        return z.mT.reshape(len(z), -1, h, w)


def _coordinates(h: int, w: int) -> Tensor:
    """Return row and column of every pixel in [−1, 1], (h · w, 2); 0 where a side has one pixel."""
    rows, columns = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (h, w))
    return torch.cartesian_prod(rows, columns)
