"""Bases, each decoded by several small shared networks (HaBa; Liu et al., arXiv:2210.16774).

Section 3.2: a basis b_i is an image of one class; a hallucinator, or style, j is a network that all classes share: a
3×3
convolution, a learned scale and shift of every pixel, and a transposed convolution::

    x_ij = D_j * (γ_j ⊙ (E_j * b_i) + β_j)        i = 1 … bases, j = 1 … styles

E_j has ``width`` channels out, no padding and a bias; γ_j and β_j are (width, h − 2, w − 2); D_j is the transposed
3×3 convolution back to c channels, with a bias. So s styles make s inputs of each basis.

**The start is ours.** The published one draws E_j and D_j as PyTorch does, so that nothing decoded resembles its basis.
Here both are the identity with a little noise, without which all styles had equal gradients. The outermost pixels are
out of reach of two identities; they start at the mean border of the initial images, and β_j takes D_j's bias back
elsewhere.

With ``channels=1`` a basis is grey and its styles colour it (the paper's three bases in the bytes of one): it starts as
the mean of an image's channels, and β_j adds the mean difference of every channel.

The published results count the networks as one further image per class ("IPC 2" is one basis). Here their bytes are
counted. The adversarial loss of section 3.3 belongs to a method, not here.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem
from potstill.errors import PotstillError
from potstill.parametrize._shared import image_shape

__all__ = ["Hallucinator"]

_KERNEL = 3
"""Published."""


@dataclass(frozen=True, kw_only=True)
class Hallucinator:
    """Bases, and the style networks that decode them.

    The payload: ``bases`` (n, b, h, w), grouped by class, with b = c channels or 1, and for s styles of width m:
    ``decoder/encode`` (s, m, b, 3, 3) and ``decoder/decode`` (s, m, c, 3, 3), ``decoder/encode_bias`` (s, m),
    ``decoder/decode_bias`` (s, c), and ``decoder/scale`` and ``decoder/shift`` (s, m, h − 2, w − 2).

    Decoding: ``x_ij = convT(scale_j · (conv(bases_i, encode_j) + encode_bias_j) + shift_j, decode_j) + decode_bias_j``.
    ``conv`` is the cross-correlation without padding, ``convT`` its transpose (torch's conv2d and conv_transpose2d).

    Within a class, decoded inputs come by basis, then by style. The decoders cost bytes: at one small image per class
    more than the whole size budget. ``channels=1`` stores grey bases, which the styles colour: three times as many.

    Raises:
        PotstillError: a setting is out of its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    styles: int = 5
    """Networks, at least 1 (published: 5)."""
    width: int = 0
    """Channels between the convolutions, at least those of an image; 0: as many (published)."""
    channels: int = 0
    """Channels of a basis: 1, or 0 for those of an image (published: either)."""
    spread: float = 0.1
    """Noise of the initial convolutions relative to an image's root mean square, at least 0; its standard deviation
    over √(9 c) is that of a weight. Ours."""

    def __post_init__(self) -> None:
        if self.styles < 1 or self.width < 0 or self.channels not in (0, 1) or not 0 <= self.spread < math.inf:
            raise PotstillError(
                "hallucinator: styles must be at least 1, width and spread at least 0, channels 0 or 1, "
                f"not {self.styles}, {self.width}, {self.spread} and {self.channels}"
            )

    @property
    def bounded(self) -> bool:
        """False: weights of networks are no values of inputs."""
        return False

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return styles times bases of each class, which pays for the networks in proportion to its number of values.

        Raises:
            PotstillError: a class gets no basis, or the inputs are no images or narrower than a kernel.
        """
        shapes = self._shapes(shape)
        networks, total = sum(map(math.prod, shapes.values())), sum(numbers)
        one = math.prod((self.channels or shape[0], *shape[1:]))
        bases = tuple(n * max(0, total - networks) // (total * one) if total else 0 for n in numbers)
        if min(bases) < 1:
            raise PotstillError(
                f"hallucinator: {self.styles} styles take {networks:,} numbers and a class's basis {one:,}, but the "
                f"budget has {total:,} for {len(numbers)} classes; raise it or lower styles"
            )
        return tuple(self.styles * n for n in bases)

    def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the networks' tensors."""
        c, h, w = image_shape("hallucinator", shape)
        s, m = self.styles, self.width or c
        if m < c or min(h, w) < _KERNEL:
            raise PotstillError(
                f"hallucinator: pictures need at least {_KERNEL}×{_KERNEL} pixels and no more channels than width {m}, "
                f"but they have {h}×{w} and {c}; raise width or take another parametrization"
            )
        inner = (h - _KERNEL + 1, w - _KERNEL + 1)
        return {
            "decoder/encode": (s, m, self.channels or c, _KERNEL, _KERNEL),
            "decoder/encode_bias": (s, m),
            "decoder/scale": (s, m, *inner),
            "decoder/shift": (s, m, *inner),
            "decoder/decode": (s, m, c, _KERNEL, _KERNEL),
            "decoder/decode_bias": (s, c),
        }

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return the first of every ``styles`` initial inputs as a basis, and styles near the identity."""
        c, h, w = problem.train.input.shape
        shapes = self._shapes((c, h, w))
        networks = {name: torch.zeros(shape) for name, shape in shapes.items()}
        first = x[:: self.styles]
        bases = first.mean(1, keepdim=True) if self.channels else first
        channel = torch.arange(c)
        for name, into in (("decoder/encode", bases.shape[1]), ("decoder/decode", c)):
            noise = torch.randn(shapes[name], generator=rng)
            networks[name] += self.spread / math.sqrt(_KERNEL * _KERNEL * into) * noise
            networks[name][:, channel, channel % into, _KERNEL // 2, _KERNEL // 2] += 1
        border = torch.ones(h, w, dtype=torch.bool)
        border[1:-1, 1:-1] = False
        edge = x.detach().cpu().float()[..., border].mean((0, 2))
        networks["decoder/decode_bias"] += edge
        tint = (first - bases).detach().cpu().float().mean((0, 2, 3))
        networks["decoder/shift"][:, :c] += (tint - edge)[:, None, None]
        networks["decoder/scale"] += 1
        return {"bases": bases, **{name: t.to(x) for name, t in networks.items()}}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return every basis through every style (n, c, h, w), all styles in one grouped convolution."""
        net = {name.removeprefix("decoder/"): t for name, t in payload.items() if name.startswith("decoder/")}
        s = len(net["encode"])
        inner = F.conv2d(payload["bases"], net["encode"].flatten(0, 1), net["encode_bias"].flatten())
        inner = net["scale"].flatten(0, 1) * inner + net["shift"].flatten(0, 1)
        out = F.conv_transpose2d(inner, net["decode"].flatten(0, 1), net["decode_bias"].flatten(), groups=s)
        return out.reshape(-1, *context.shape)
