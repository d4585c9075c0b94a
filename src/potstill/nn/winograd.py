r"""Winograd 3×3 convolutions for the CPU: forward pass and both gradients, with all derivatives.

Lavin and Gray (CVPR 2016, arXiv:1509.09308), F(4×4, 3×3): 36 products for 16 outputs in place of 144. The transforms
and products are in winograd.c of `potstill.native`; this module checks inputs and differentiates.

A convolution y = x ∗ w is linear in each of its two arguments. With w⁻ the weights rotated by 180° and the two channel
axes exchanged, and D(x, g) the gradient by the weights for the output gradient g:

.. math::
    \partial_x = g * w^-, \quad \partial_w = D(x, g), \qquad
    \text{and of } D \text{, for a cotangent } c:\ \partial_x = g * c^-, \quad \partial_g = x * c

so these two functions are closed under differentiation.
"""

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.native import available, run

__all__ = ["Convolution", "convolution", "supports_winograd"]

_CHANNELS = 32
"""Both channel counts must be multiples of this (KB in winograd.c)."""
_TILE = 4
_P, _Q = 0.625, 1.5
"""Interpolation points of winograd.c."""
_IN_CACHE = 3 * 2**17
"""Values of transformed input per thread and pass: 1.5 MB, most of a core's cache."""
_LARGEST = 2 * 98 * 98
"""Maximum positions of a plane plus its padded copy, of which a thread keeps 16 channels on its stack: 1.2 MB. A plane
of 96×96 fits."""
_WORTH = 2**21
"""Products below which the plain convolution is faster."""


def supports_winograd(x: Tensor, weight: Tensor) -> bool:
    """Return True if `convolution` has a fast form for x (n, c, h, w) and weight (o, c, 3, 3)."""
    return (
        x.ndim == 4
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and weight.shape[1] == x.shape[1]
        and weight.shape[0] % _CHANNELS == 0
        and weight.shape[1] % _CHANNELS == 0
        and x.numel() * weight.shape[0] * 9 >= _WORTH
        and _stack_positions(*x.shape[2:]) <= _LARGEST
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and available()
    )


def convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "n o h w"]:
    """``conv2d(x, weight, bias, padding=1)``, by fewer products if `supports_winograd`.

    Relative rounding errors in the 2-norm are 6e-7 to 1.1e-6 (32 to 128 channels), where torch's are 2e-7, and of the
    gradient by the weights 1.2 to 1.7 times torch's (``benchmarks/convolution.py``).
    """
    if not supports_winograd(x, weight):
        return F.conv2d(x, weight, bias, padding=1)
    y: Tensor = _Convolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class Convolution(nn.Conv2d):
    """``Conv2d`` that uses `convolution` for 3×3 kernels with stride 1 and zero padding 1."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve as ``Conv2d``."""
        ones = self.stride == self.padding == self.dilation == (1, 1) and self.groups == 1
        if ones and self.kernel_size == (3, 3) and self.padding_mode == "zeros":
            return convolution(input, self.weight, self.bias)
        return super().forward(input)


def _flip_weights(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).flip(2, 3)


def _samples_per_pass(n: int, tiles: int, channels: int, threads: int) -> int:
    return max(1, min(_IN_CACHE // (36 * tiles * channels), -(-n // threads)))


def _stack_positions(h: int, w: int) -> int:
    """Return the positions that of_inputs in winograd.c keeps on the stack."""
    return h * w + (_TILE * -(-h // _TILE) + 2) * (_TILE * -(-w // _TILE) + 2)


def _tiles(h: int, w: int) -> int:
    return -(-h // _TILE) * -(-w // _TILE)


def _scratch(*sizes: int) -> int:
    needed = run("winograd", "winograd_scratch", *sizes)
    assert needed is not None, "it returns a number"
    return needed


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    (n, c, h, w), k, threads = x.shape, len(weight), torch.get_num_threads()
    s = _samples_per_pass(n, _tiles(h, w), c, threads)
    u, y = x.new_empty(36 * c * k), x.new_empty(n, k, h, w)
    scratch = x.new_empty(threads * _scratch(c, k, h, w, s, 0))
    run("winograd", "winograd_weights", weight, u, c, k, threads)
    run("winograd", "winograd_convolution", x, u, bias, y, scratch, n, c, k, h, w, s, threads)
    return y


def _gradient(x: Tensor, g: Tensor) -> Tensor:
    x, g = x.contiguous(), g.contiguous()
    (n, c, h, w), k, threads = x.shape, g.shape[1], torch.get_num_threads()
    s = _samples_per_pass(n, _tiles(h, w), (c + k) // 2, threads)
    du = x.new_empty(6, 6, c, k)
    scratch = x.new_empty(threads * _scratch(c, k, h, w, s, 1))
    run("winograd", "winograd_weight_gradient", x, g, du, scratch, n, c, k, h, w, s, threads)
    by = _from_six(du.dtype)
    return (by @ du.view(36, c * k)).view(3, 3, c, k).permute(3, 2, 0, 1).contiguous()


@cache
def _from_six(dtype: torch.dtype) -> Tensor:
    """Return the matrix (9, 36) of dg = G' dU G of winograd.c."""
    squares = (_P * _P, _Q * _Q)
    rows = [[1 / (squares[0] * squares[1]), 0.0, 0.0]]
    for point, own, other in ((_P, *squares), (_Q, *squares[::-1])):
        for sign in (1, -1):
            rows.append([part / (2 * own * (own - other)) for part in (1.0, sign * point, own)])
    with torch.inference_mode(False):  # a tensor made inside it could not be used outside
        g = torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)
        return torch.kron(g, g).mT.contiguous().to(dtype)


def _plain_gradient(x: Tensor, g: Tensor) -> Tensor:
    weight = x.new_zeros(g.shape[1], x.shape[1], 3, 3)
    pull = torch.func.vjp(lambda w: F.conv2d(x, w, padding=1), weight)[1]
    gradient: Tensor = pull(g)[0]
    return gradient


def _sum(parts: list[Tensor]) -> Tensor | None:
    return sum(parts[1:], start=parts[0]) if parts else None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _forward(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _Convolution.apply(g, _flip_weights(weight), None) if of_x else None,  # type: ignore[no-untyped-call]
            _Gradient.apply(x, g) if of_weight else None,  # type: ignore[no-untyped-call]
            g.sum((0, 2, 3)) if of_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None) -> Tensor | None:
        x, weight = ctx.saved_tensors
        parts = [] if by_x is None else [F.conv2d(by_x, weight, padding=1)]
        parts += [] if by_weight is None else [F.conv2d(x, by_weight, padding=1)]
        return _sum(parts + ([] if by_bias is None else [by_bias.view(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:])]))

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor | None) -> tuple[Tensor, int]:
        return torch.func.vmap(partial(F.conv2d, padding=1), dims)(*inputs), 0


class _Gradient(torch.autograd.Function):
    """D(x, g) of the module docstring."""

    @staticmethod
    def forward(x: Tensor, g: Tensor) -> Tensor:
        return _gradient(x, g)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:
        x, g = ctx.saved_tensors
        of_x, of_g = ctx.needs_input_grad
        return (
            _Convolution.apply(g, _flip_weights(c), None) if of_x else None,  # type: ignore[no-untyped-call]
            _Convolution.apply(x, c, None) if of_g else None,  # type: ignore[no-untyped-call]
        )

    @staticmethod
    def jvp(ctx: Any, by_x: Tensor | None, by_g: Tensor | None) -> Tensor | None:
        x, g = ctx.saved_tensors
        parts = [] if by_x is None else [_plain_gradient(by_x, g)]
        return _sum(parts + ([] if by_g is None else [_plain_gradient(x, by_g)]))

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return torch.func.vmap(_plain_gradient, dims)(*inputs), 0
