"""A matrix product, ReLU and 2×2 average pooling in one pass, for the CPU.

The activation, (n, o, h·w), is the largest tensor of a small network. It is never materialised: a few samples at a time
are multiplied, rectified and pooled in a core's cache, and the derivatives recompute them, which is cheaper than
reading them. With y = S P, u = [y > 0]·spread(g) and pooling as a product with a constant matrix, whose transpose is
spread:

    first:   dS = u Pᵀ,   dP = Sᵀ u
    second, for cotangents (A, B) of those two:
             dg = pool([y > 0]·(A P + S B)),   dS = u Bᵀ,   dP = Aᵀ u
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.native import available, run
from potstill.nn.fused_norm_relu_pool import jvp_by_vjp, masked_spread, pool_matrix, spread_matrix

__all__ = ["relu_pool_of_product"]

_LANES = 16
"""Values per register of the kernels."""
_CHANNELS = 4
"""Channels per kernel pass."""

_CHUNK = 2**18
"""Elements of the activation per thread and chunk: a megabyte of float32, which fits into a core's cache."""


def relu_pool_of_product(
    s: Float[Tensor, "n o p"], patches: Float[Tensor, "n p hw"], width: int
) -> Float[Tensor, "n o h2 w2"]:
    """``avg_pool2d(relu(s @ patches), 2)`` for positions in rows of ``width``.

    Args:
        s, patches: on the CPU, of one dtype.
        width: even, and so is the number of rows, ``hw / width``.
    """
    out: Tensor = _First.apply(s, patches, width)  # type: ignore[no-untyped-call]
    return out


def _kernels(s: Tensor, width: int) -> bool:
    """Return True if the compiled kernels support this input."""
    return s.dtype == torch.float32 and width % _LANES == 0 and s.shape[1] % _CHANNELS == 0 and available()


def _gradients(
    grad: Tensor,
    s: Tensor,
    patches: Tensor,
    width: int,
    left_factor: Tensor,
    right: Tensor,
    needs_grad: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Call ``product_gradients`` of blocks.c: gradients by grad, s and patches, if needed."""
    n, o, p = s.shape
    grad, s, patches, left_factor, right = (t.contiguous() for t in (grad, s, patches, left_factor, right))
    by_grad, by_s, by_patches = (
        torch.empty_like(t) if want else None for t, want in zip((grad, s, patches), needs_grad, strict=True)
    )
    threads = torch.get_num_threads()
    scratch = s.new_empty(threads * (o * p + 2 * o) * _LANES)
    size = n, o, p, patches.shape[2] // width, width, threads
    run("blocks", "product_gradients", grad, s, patches, left_factor, right, by_grad, by_s, by_patches, scratch, *size)
    return by_grad, by_s, by_patches


def _plain(s: Tensor, patches: Tensor, width: int) -> Tensor:
    y = torch.relu(s @ patches)
    return (y.reshape(-1, 2 * width) @ pool_matrix(width, y.dtype)).view(*y.shape[:2], -1, width // 2)


def _plain_backward(grad: Tensor, s: Tensor, patches: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Compute ``first`` from recorded operations, for third and higher derivatives."""
    n, o, h, w = grad.shape
    u = (grad.reshape(-1, w) @ spread_matrix(width, grad.dtype)).view(n, o, 2 * h * width)
    u = u * (s.detach() @ patches.detach() > 0)
    return u @ patches.mT, s.mT @ u


def _slices(s: Tensor, patches: Tensor) -> Iterator[slice]:
    step = max(1, _CHUNK * torch.get_num_threads() // (s.shape[1] * patches.shape[2]))
    return (slice(i, min(i + step, len(s))) for i in range(0, len(s), step))


def _reached(grad: Tensor, y: Tensor, width: int) -> Tensor:
    """Return u of the module docstring."""
    return masked_spread(grad, y.view(*y.shape[:2], -1, width)).view_as(y)


class _First(torch.autograd.Function):
    @staticmethod
    def forward(s: Tensor, patches: Tensor, width: int) -> Tensor:
        n, o, p = s.shape
        rows_of = patches.shape[2] // width
        out = s.new_empty(n, o, rows_of // 2, width // 2)
        if _kernels(s, width):
            parts = s.contiguous(), patches.contiguous()
            run("blocks", "product_forward", *parts, out, n, o, p, rows_of, width, torch.get_num_threads())
            return out
        for rows in _slices(s, patches):
            y = torch.bmm(s[rows], patches[rows]).relu_()
            torch.mm(y.view(-1, 2 * width), pool_matrix(width, y.dtype), out=out[rows].view(-1, width // 2))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.width = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = tuple(ctx.needs_input_grad[:2])
        return *_Second.apply(grad, *ctx.saved_tensors, ctx.width, wanted), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        return _moved(partial(_plain, width=ctx.width), ctx.saved_tensors, tangents[:2])  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return torch.func.vmap(partial(_plain, width=inputs[2]), dims[:2])(*inputs[:2]), 0


class _Second(torch.autograd.Function):
    """The gradient of ``_First`` as a function that can be differentiated in turn."""

    @staticmethod
    def forward(
        grad: Tensor, s: Tensor, patches: Tensor, width: int, needs_grad: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        if _kernels(s, width):
            return _gradients(grad, s, patches, width, s, patches, (False, *needs_grad))[1:]
        grad = grad.contiguous()
        of_s = torch.empty_like(s) if needs_grad[0] else None
        of_patches = torch.empty_like(patches) if needs_grad[1] else None
        for rows in _slices(s, patches):
            u = _reached(grad[rows], torch.bmm(s[rows], patches[rows]), width)
            if of_s is not None:
                torch.bmm(u, patches[rows].mT, out=of_s[rows])
            if of_patches is not None:
                torch.bmm(s[rows].mT, u, out=of_patches[rows])
        return of_s, of_patches

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        *tensors, ctx.width, ctx.wanted = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, s, patches = ctx.saved_tensors
        a, b = (torch.zeros_like(t) if c is None else c for c, t in zip(cotangents, (s, patches), strict=True))
        if torch.is_grad_enabled():
            _, pull = torch.func.vjp(partial(_plain_backward, width=ctx.width), grad, s, patches)  # type: ignore[misc]
            return *pull((a, b)), None, None
        return *_second_backward(grad.contiguous(), s, patches, ctx.width, a, b), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        out = _moved(partial(_plain_backward, width=ctx.width), ctx.saved_tensors, tangents[:3])
        return tuple(t if wanted else None for t, wanted in zip(out, ctx.wanted, strict=True))

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[tuple[Tensor | None, ...], Any]:
        width, wanted = inputs[3:]
        mapped = torch.func.vmap(partial(_plain_backward, width=width), dims[:3])(*inputs[:3])
        kept = tuple(t if keep else None for t, keep in zip(mapped, wanted, strict=True))
        return kept, tuple(None if t is None else 0 for t in kept)


def _second_backward(
    grad: Tensor, s: Tensor, patches: Tensor, width: int, of_s: Tensor, of_patches: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``second`` of the module docstring: the gradients by grad, s and patches."""
    if _kernels(s, width):
        return _gradients(grad, s, patches, width, of_s, of_patches, (True, True, True))  # type: ignore[return-value]
    by_grad, by_s, by_patches = torch.empty_like(grad), torch.empty_like(s), torch.empty_like(patches)
    for rows in _slices(s, patches):
        y = torch.bmm(s[rows], patches[rows])
        u = _reached(grad[rows], y, width)
        torch.bmm(u, of_patches[rows].mT, out=by_s[rows])
        torch.bmm(of_s[rows].mT, u, out=by_patches[rows])
        moved = torch.bmm(of_s[rows], patches[rows]).baddbmm_(s[rows], of_patches[rows])
        torch.ops.aten.threshold_backward.grad_input(moved, y, 0, grad_input=moved)
        torch.mm(moved.view(-1, 2 * width), pool_matrix(width, y.dtype), out=by_grad[rows].view(-1, width // 2))
    return by_grad, by_s, by_patches


def _moved(f: Any, primals: tuple[Tensor, ...], tangents: tuple[Tensor | None, ...]) -> Any:
    moved = tuple(torch.zeros_like(p) if t is None else t for p, t in zip(primals, tangents, strict=True))
    return jvp_by_vjp(f, primals, moved)
