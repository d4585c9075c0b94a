"""Instance norm, ReLU and 2×2 average pooling in one pass, for the CPU.

On small networks these layers cost as much as the convolutions, nearly all of it memory traffic. Here a few samples at
a time stay in the cache, pooling is a product with a constant matrix, and the second derivative, which gradient
matching needs, is written out. Values are those of the three plain modules.

With x̂ = (x − μ)·r per plane of N values, r = 1/√(var + ε), y = w·x̂ + b, u = [y > 0]·spread(g) and
P(v) = v − mean(v) − x̂·mean(x̂·v):

    first:   dx = w·r·P(u),   dw = Σ u·x̂,   db = Σ u
    second, for cotangents (A, α, β) of those three, and Q = α·u − w·r·(mean(x̂·u)·A + mean(x̂·A)·u):
             dg = pool([y > 0]·(w·r·P(A) + α·x̂ + β)),   dx = r·P(Q) − w·r²·⟨P(A), u⟩·x̂/N,   dw = r·⟨P(A), u⟩
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from potstill.native import available, run

__all__ = ["InstanceReluPool", "instance_relu_pool", "jvp_by_vjp", "masked_spread", "pool_matrix", "spread_matrix"]

_CHUNK = 2**17
"""Elements per chunk: half a megabyte of float32, which fits into a core's cache."""

_LARGEST = 2**17
"""Maximum positions of a plane; a kernel thread keeps two copies on its stack: a megabyte."""

_WORTH = 2**17
"""Input elements below which the plain operations are faster (measured)."""


@lru_cache(maxsize=32)
def pool_matrix(width: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix (2·width, width/2) that maps two concatenated rows to their 2×2 means."""
    # inference mode off: a tensor made inside it could not be used outside
    with torch.inference_mode(False):
        matrix = torch.zeros(2 * width, width // 2, dtype=dtype)
        for column in range(width // 2):
            for row in (2 * column, 2 * column + 1):
                matrix[row, column] = matrix[width + row, column] = 0.25
        return matrix


@lru_cache(maxsize=32)
def spread_matrix(width: int, dtype: torch.dtype) -> Tensor:
    """Return the transpose of the pooling matrix, which spreads a gradient over its 2×2 cells."""
    with torch.inference_mode(False):
        return pool_matrix(width, dtype).t().contiguous()


def _plain(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias, eps)), 2)


def _plain_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``first`` from recorded operations, for third and higher derivatives."""
    n, c, h, w = grad.shape
    normal = F.group_norm(x, x.shape[1], eps=eps)
    scale, shift = weight.view(-1, 1, 1), bias.view(-1, 1, 1)
    spread = (grad.reshape(-1, w) @ spread_matrix(2 * w, grad.dtype)).view(n, c, 2 * h, 2 * w)
    spread = spread * (normal.detach() * scale.detach() + shift.detach() > 0)
    product = spread * normal
    rstd = (x.var((2, 3), correction=0, keepdim=True) + eps).rsqrt()
    inner = spread - spread.mean((2, 3), keepdim=True) - normal * product.mean((2, 3), keepdim=True)
    return scale * rstd * inner, product.sum((0, 2, 3)), spread.sum((0, 2, 3))


def jvp_by_vjp(f: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> Any:
    """Return J·tangents from two reverse passes, as forward mode cannot be nested."""
    out, pull = torch.func.vjp(f, *primals)  # type: ignore[misc]
    zeros = torch.zeros_like(out) if isinstance(out, Tensor) else tuple(torch.zeros_like(o) for o in out)
    return torch.func.vjp(pull, zeros)[1](tangents)[0]


def _kernels(x: Tensor) -> bool:
    """Return True if the compiled kernels support this input."""
    return x.dtype == torch.float32 and x.shape[2] * x.shape[3] <= _LARGEST and available()


def _slices(x: Tensor) -> Iterator[slice]:
    step = max(1, _CHUNK * torch.get_num_threads() // x[0].numel())
    return (slice(i, min(i + step, len(x))) for i in range(0, len(x), step))


def masked_spread(grad: Tensor, y: Tensor) -> Tensor:
    """Return u of the module docstring: ``grad`` (pooled) spread over its cells, if ``y`` > 0."""
    width = y.shape[-1]
    u = torch.mm(grad.view(-1, width // 2), spread_matrix(width, grad.dtype)).view_as(y)
    return torch.ops.aten.threshold_backward.grad_input(u, y, 0, grad_input=u)  # type: ignore[no-any-return]


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return ⟨a, b⟩ (n, c) of each plane of two tensors (n, c, h, w)."""
    n, c, h, w = a.shape
    return torch.bmm(a.reshape(n * c, 1, h * w), b.reshape(n * c, h * w, 1)).view(n, c)


class _First(torch.autograd.Function):
    """x (n, c, h, w) contiguous on the CPU, h and w even → pooled (n, c, h/2, w/2), and each plane's μ and r."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        n, c, h, w = x.shape
        out = x.new_empty(n, c, h // 2, w // 2)
        mean, rstd = x.new_empty(n, c), x.new_empty(n, c)
        if _kernels(x):
            parts = weight.contiguous(), bias.contiguous()
            run("blocks", "block_forward", x, *parts, out, mean, rstd, eps, n, c, h, w, torch.get_num_threads())
            return out, mean, rstd
        pool = pool_matrix(w, x.dtype)
        for rows in _slices(x):
            part = x[rows]
            y, mean[rows], rstd[rows] = torch.native_group_norm(part, weight, bias, len(part), c, h * w, c, eps)
            torch.mm(y.relu_().view(-1, 2 * w), pool, out=out[rows].view(-1, w // 2))
        return out, mean, rstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.save_for_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        wanted = tuple(ctx.needs_input_grad[:3])
        return *_Second.apply(grad, x, weight, bias, mean, rstd, ctx.eps, wanted), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        primals = ctx.saved_tensors
        moved = tuple(torch.zeros_like(p) if t is None else t for p, t in zip(primals, tangents[:3], strict=True))
        return jvp_by_vjp(partial(_plain, eps=ctx.eps), primals, moved), None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        # each plane is normalised alone, so a mapped axis is only more channels
        v = info.batch_size
        x, weight, bias = (
            t.unsqueeze(0).expand(v, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(inputs[:3], dims[:3], strict=True)
        )
        n, c, h, w = x.shape[1:]
        merged = x.transpose(0, 1).reshape(n, v * c, h, w)
        out, mean, rstd = _First.apply(merged, weight.reshape(-1), bias.reshape(-1), inputs[3])  # type: ignore[no-untyped-call]
        return (out.view(n, v, c, h // 2, w // 2), mean.view(n, v, c), rstd.view(n, v, c)), (1, 1, 1)


class _Second(torch.autograd.Function):
    """The gradient of ``_First`` as a function that can be differentiated in turn."""

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float,
        needs_grad: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
        n, c, h, w = x.shape
        grad = grad.contiguous()
        of_x = torch.empty_like(x) if needs_grad[0] else None
        if _kernels(x):
            parts, each = (weight.contiguous(), bias.contiguous(), mean, rstd), x.new_empty(2, n, c)
            run("blocks", "block_backward", grad, x, *parts, of_x, *each, n, c, h, w, torch.get_num_threads())
            of_both = each.sum(1)
            return of_x, of_both[0] if needs_grad[1] else None, of_both[1] if needs_grad[2] else None
        of_weight = torch.zeros_like(weight) if needs_grad[1] else None
        of_bias = torch.zeros_like(bias) if needs_grad[2] else None
        for rows in _slices(x):
            part = x[rows]
            y, _, _ = torch.native_group_norm(part, weight, bias, len(part), c, h * w, c, eps)
            u = masked_spread(grad[rows], y)
            a, b, d = torch.ops.aten.native_group_norm_backward(
                u, part, mean[rows], rstd[rows], weight, len(part), c, h * w, c, needs_grad
            )
            if of_x is not None:
                of_x[rows] = a
            if of_weight is not None:
                of_weight += b
            if of_bias is not None:
                of_bias += d
        return of_x, of_weight, of_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        *tensors, ctx.eps, ctx.wanted = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors[:4])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, x, weight, bias, mean, rstd = ctx.saved_tensors
        of_x = torch.zeros_like(x) if cotangents[0] is None else cotangents[0]
        of_weight = torch.zeros_like(weight) if cotangents[1] is None else cotangents[1]
        of_bias = torch.zeros_like(bias) if cotangents[2] is None else cotangents[2]
        if torch.is_grad_enabled():
            _, pull = torch.func.vjp(partial(_plain_backward, eps=ctx.eps), grad, x, weight, bias)  # type: ignore[misc]
            return *pull((of_x, of_weight, of_bias)), None, None, None, None
        return *_second_backward(grad, x, weight, bias, mean, rstd, of_x, of_weight, of_bias), *[None] * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        primals = ctx.saved_tensors
        moved = tuple(torch.zeros_like(p) if t is None else t for p, t in zip(primals, tangents[:4], strict=True))
        out = jvp_by_vjp(partial(_plain_backward, eps=ctx.eps), primals, moved)
        return tuple(t if wanted else None for t, wanted in zip(out, ctx.wanted, strict=True))

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[tuple[Tensor | None, ...], Any]:
        eps, wanted = inputs[6:]
        mapped = torch.func.vmap(partial(_plain_backward, eps=eps), dims[:4], randomness="error")(*inputs[:4])
        kept = tuple(t if keep else None for t, keep in zip(mapped, wanted, strict=True))
        return kept, tuple(None if t is None else 0 for t in kept)


def _second_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor,
    of_x: Tensor, of_weight: Tensor, of_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute ``second`` of the module docstring: the gradients by grad, x and weight (by bias: 0)."""
    n, c, h, w = x.shape
    size = h * w
    grad, of_x = grad.contiguous(), of_x.contiguous()
    if _kernels(x):
        given = (t.contiguous() for t in (grad, x, weight, bias, mean, rstd, of_x, of_weight, of_bias))
        of_grad, of_input, each = torch.empty_like(grad), torch.empty_like(x), x.new_empty(n, c)
        run("blocks", "block_second", *given, of_grad, of_input, each, n, c, h, w, torch.get_num_threads())
        return of_grad, of_input, each.sum(0)
    pool = pool_matrix(w, x.dtype)
    scale = rstd * weight
    shift = torch.addcmul(bias, mean, scale, value=-1)
    by_grad, by_x, by_weight = torch.empty_like(grad), torch.empty_like(x), torch.zeros_like(weight)
    mask = [True, False, False]
    for rows in _slices(x):
        part, a, r = x[rows], of_x[rows], rstd[rows]
        m = len(part)
        y = torch.addcmul(shift[rows, :, None, None], part, scale[rows, :, None, None])
        normal = torch.addcmul((-mean[rows] * r)[:, :, None, None], part, r[:, :, None, None])
        u = masked_spread(grad[rows], y)
        projected, _, _ = torch.ops.aten.native_group_norm_backward(
            a.contiguous(), part, mean[rows], r, None, m, c, size, c, mask
        )
        inner = _dots(projected, u)
        by_weight += inner.sum(0)
        of_u_scale = of_weight - scale[rows] * _dots(normal, a) / size
        q = (u * of_u_scale[:, :, None, None]).addcmul_(a, (-scale[rows] * _dots(normal, u) / size)[:, :, None, None])
        by_x[rows], _, _ = torch.ops.aten.native_group_norm_backward(q, part, mean[rows], r, None, m, c, size, c, mask)
        by_x[rows].addcmul_(normal, (-weight * r * inner / size)[:, :, None, None])
        # what reaches u, masked and pooled
        projected.mul_(weight[:, None, None]).addcmul_(normal, of_weight[:, None, None]).add_(of_bias[:, None, None])
        torch.ops.aten.threshold_backward.grad_input(projected, y, 0, grad_input=projected)
        torch.mm(projected.view(-1, 2 * w), pool, out=by_grad[rows].view(-1, w // 2))
    return by_grad, by_x, by_weight


def instance_relu_pool(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, " c"], bias: Float[Tensor, " c"], eps: float = 1e-5
) -> Float[Tensor, "n c h//2 w//2"]:
    """``avg_pool2d(relu(group_norm(x, c, weight, bias, eps)), 2)``, faster on the CPU, with all derivatives.

    Unsupported inputs (other devices, mixed precision, odd sizes, small tensors) take those three operations. One
    infinite activation turns its whole pooled row into NaN.
    """
    fits = (
        x.device.type == "cpu"
        and x.numel() >= _WORTH
        and x.shape[2] % 2 == 0
        and x.shape[3] % 2 == 0
        and x.dtype in (torch.float32, torch.float64)
        and x.dtype == weight.dtype == bias.dtype
        and x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    if not fits:
        return _plain(x, weight, bias, eps)
    out: Tensor = _First.apply(x, weight, bias, eps)[0]  # type: ignore[no-untyped-call]
    return out


class InstanceReluPool(nn.GroupNorm):
    """``GroupNorm(c, c)``, ReLU and ``AvgPool2d(2)`` as one module, with GroupNorm's parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) → (n, c, h//2, w//2)."""
        return instance_relu_pool(input, self.weight, self.bias, self.eps)
