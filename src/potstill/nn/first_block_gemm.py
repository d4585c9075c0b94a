r"""First block of a ConvNet (convolution, instance norm, ReLU, pooling) as one matrix product per image, for the CPU.

Convolution kernels are inefficient for one or three channels, and the instance norm reads and writes the largest tensor
of the network twice. With P (p, N) the patches of an image as columns (p = 9 c values, N positions), m their mean over
positions and C = (P − m)(P − m)ᵀ / N their covariance, an output channel wᵀP + b has mean wᵀm + b and variance wᵀCw:

.. math::
    \mathrm{norm}(w^\top P + b) = \frac{\gamma\, w^\top}{\sqrt{w^\top C w + \epsilon}}\, (P - m) + \beta .

The convolution's bias cancels in the norm. Values equal those of the plain modules up to rounding; all derivatives
exist: product, ReLU and pooling are `potstill.nn.gemm_relu_pool`, the rest is recorded.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.nn.gemm_relu_pool import relu_pool_of_product

__all__ = ["first_block", "supports_first_block"]

_NUMBERS = 27
"""Maximum values of a patch: three channels of 3×3."""
_WORTH = 2**17
"""Elements of the activation below which the plain modules are faster (measured)."""


def _geometry(x: Tensor, conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int], int, int]:
    """Return kernel, padding, and the convolution's output height and width."""
    kernel, padding = (int(conv.kernel_size[0]), int(conv.kernel_size[1])), (int(conv.padding[0]), int(conv.padding[1]))
    h, w = (x.shape[2 + i] + 2 * padding[i] - kernel[i] + 1 for i in range(2))
    return kernel, padding, h, w


def supports_first_block(x: Tensor, conv: nn.Conv2d) -> bool:
    """Return True if `first_block` can replace the modules for this input."""
    weight = conv.weight
    if x.ndim != 4 or x.device.type != "cpu" or weight[0].numel() > _NUMBERS or x.dtype != weight.dtype:
        return False
    _, _, h, w = _geometry(x, conv)
    return (
        h % 2 == 0
        and w % 2 == 0
        and x.dtype in (torch.float32, torch.float64)
        and x.shape[0] * weight.shape[0] * h * w >= _WORTH
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _plain(x: Tensor, kernel: tuple[int, int], padding: tuple[int, int], below: float) -> Tensor:
    patches = F.unfold(x, kernel, padding=padding)
    last = torch.full_like(patches[:, :1], below)
    return torch.cat([patches - patches.mean(2, keepdim=True), last], 1)


def _plain_adjoint(g: Tensor, size: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    body = g[:, :-1]
    return F.fold(body - body.mean(2, keepdim=True), size, kernel, padding=padding)


class _Centred(torch.autograd.Function):
    """P − m with a last row of ``below``, (n, p + 1, N), without the copies of recorded operations.

    Linear in x (up to that row), so its derivative is `_Adjoint`, whose derivative is this.
    """

    @staticmethod
    def forward(x: Tensor, kernel: tuple[int, int], padding: tuple[int, int], below: float) -> Tensor:
        n, c = x.shape[:2]
        padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        windows = padded.unfold(2, kernel[0], 1).unfold(3, kernel[1], 1)
        h, w = windows.shape[2:4]
        made = x.new_empty(n, c * kernel[0] * kernel[1] + 1, h * w)
        body = made[:, :-1]
        body.view(n, c, *kernel, h, w).copy_(windows.permute(0, 1, 4, 5, 2, 3))
        body.sub_(body.mean(2, keepdim=True))
        made[:, -1] = below
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.kernel, ctx.padding, _ = inputs
        ctx.size = (x.shape[2], x.shape[3])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _Adjoint.apply(g, ctx.size, ctx.kernel, ctx.padding), None, None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, moved: Tensor, *_: None) -> Tensor:
        return _plain(moved, ctx.kernel, ctx.padding, 0.0)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        return torch.func.vmap(lambda t: _plain(t, *rest), dims[:1])(x), 0


class _Adjoint(torch.autograd.Function):
    """Transpose of `_Centred`: patches (n, p + 1, N), less their means, summed to images."""

    @staticmethod
    def forward(g: Tensor, size: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        return _plain_adjoint(g, size, kernel, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.size, ctx.kernel, ctx.padding = inputs

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        return _Centred.apply(x, ctx.kernel, ctx.padding, 0.0), None, None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, moved: Tensor, *_: None) -> Tensor:
        return _plain_adjoint(moved, ctx.size, ctx.kernel, ctx.padding)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], g: Tensor, *rest: Any) -> tuple[Tensor, int]:
        return torch.func.vmap(lambda t: _plain_adjoint(t, *rest), dims[:1])(g), 0


def first_block(x: Float[Tensor, "n c h w"], conv: nn.Conv2d, norm: nn.GroupNorm) -> Float[Tensor, "n o h2 w2"]:
    """``avg_pool2d(relu(norm(conv(x))), 2)``, if ``norm`` has a group per channel and `supports_first_block`."""
    kernel, padding, h, w = _geometry(x, conv)
    weight = conv.weight.flatten(1)
    # 0 · bias: it has no influence, and a gradient of 0 rather than none
    shift = norm.bias if conv.bias is None else norm.bias + 0.0 * conv.bias
    patches: Tensor = _Centred.apply(x, kernel, padding, 1.0)  # type: ignore[no-untyped-call]
    body = patches[:, :-1]
    covariance = torch.bmm(body, body.transpose(1, 2)) / (h * w)
    variance = ((weight @ covariance) * weight).sum(2)
    scaled = weight * ((variance + norm.eps).rsqrt() * norm.weight).unsqueeze(2)
    # the shift is one more column against a row of ones, which saves a pass over the largest tensor
    return relu_pool_of_product(torch.cat([scaled, shift.view(1, -1, 1).expand(len(x), -1, 1)], 2), patches, w)
