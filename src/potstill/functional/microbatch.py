"""Microbatches: loss and gradients of a batch computed in as many parts as memory needs, with the same result.

.. math:: \\nabla_\\theta\\, \\ell\\big(f_\\theta(x)\\big) = \\sum_b J_\\theta f(x_b)^\\top v_b, \\qquad
    v = \\partial \\ell / \\partial f \\big|_{f_\\theta(x)}

All outputs are computed first, without a graph; the loss is a function of all of them (also a contrastive one); then
each part is passed again and its share of ∂ℓ/∂f is backpropagated (gradient caching; Gao et al., arXiv:2101.06983,
section 3.2). A BatchNorm in training mode is refused, as its outputs depend on the whole batch.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from potstill.core import Inputs
from potstill.core.nested import iter_batches, num_samples
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.features import uses_batch_statistics

__all__ = [
    "BatchSharing", "ChunkedForward", "PassResult", "PureForward", "forward_backward", "forward_backward_in_parts",
    "loss_and_gradient", "out_of_memory", "share_batches",
]  # fmt: skip

PassResult: TypeAlias = tuple[Tensor, Tensor, tuple[Tensor, ...]]
"""Loss, outputs (n, …), and gradients of the loss by each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PureForward:
    """Parameters and buffers of a pass as a pure function, to repeat it in another process."""

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    half: bool = False
    """True if the network computes in bfloat16 (autocast); outputs keep the dtype of the inputs."""


@runtime_checkable
class BatchSharing(Protocol):
    """Other processes that compute a part of a batch."""

    def forward_backward(
        self, network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
        loss_of: Callable[[Tensor], Tensor], plain: PureForward,
    ) -> PassResult | None:  # fmt: skip
        """Return the result of `forward_backward`, or ``None`` if this batch is not to be shared."""
        ...


_SHARING: ContextVar[BatchSharing | None] = ContextVar("sharing", default=None)


@contextmanager
def share_batches(others: BatchSharing | None) -> Iterator[None]:
    """Context in which batches are shared with ``others``; ``None`` shares with nobody."""
    token = _SHARING.set(others)
    try:
        yield
    finally:
        _SHARING.reset(token)


_SAID = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
"""Parts of the messages of torch's allocators and the system."""
_ROOM: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()
"""Samples per pass of networks that have run out of memory."""


def out_of_memory(error: BaseException) -> bool:
    """Return True if the error says that CPU or GPU memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


class ChunkedForward:
    """Outputs of some samples, and their backward pass.

    With ``size`` below the number of samples no graph is kept: `backward` passes them again, ``size`` at a time.
    """

    def __init__(
        self, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs, size: int | None = None
    ) -> None:
        self.forward, self.parameters = forward, parameters
        self.parts = list(iter_batches(x, size or num_samples(x)))
        self._whole: Tensor | None = None
        if len(self.parts) == 1:
            with torch.enable_grad():
                self._whole = forward(x)
            self.outputs = self._whole.detach()
        else:
            with torch.no_grad():
                self.outputs = torch.cat([forward(part) for part in self.parts])

    def backward(self, slope: Tensor) -> tuple[Tensor, ...]:
        """Return gradients by each parameter of Σ ``slope`` · outputs; callable once."""
        if self._whole is not None:
            return torch.autograd.grad(self._whole, tuple(self.parameters), slope.to(self.outputs.dtype))
        total: list[Tensor] = []
        for part, share in zip(self.parts, torch.split(slope, num_samples(self.parts[0])), strict=True):
            with torch.enable_grad():
                found = torch.autograd.grad(self.forward(part), tuple(self.parameters), share.to(self.outputs.dtype))
            total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
        return tuple(total)


def forward_backward_in_parts(
    forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs, loss_of: Callable[[Tensor], Tensor],
    size: int,
) -> PassResult:  # fmt: skip
    """Return loss, outputs and gradients with ``size`` samples at a time.

    Args:
        forward: function from inputs (n, …) to outputs (n, …), differentiable by ``parameters``.
        loss_of: loss of all outputs.
        size: samples per pass, at least 1.
    """
    piece = ChunkedForward(forward, parameters, x, size)
    value, slope = loss_and_gradient(piece.outputs, loss_of)
    return value, piece.outputs, piece.backward(slope)


def loss_and_gradient(outputs: Tensor, loss_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss of outputs and its gradient by them."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        value = loss_of(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
    return value.detach(), slope


def forward_backward(
    network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
    loss_of: Callable[[Tensor], Tensor], plain: PureForward | None = None,
) -> PassResult:  # fmt: skip
    """Return loss, outputs and gradients of a batch, halving it until it fits into memory.

    The size that fits is remembered for the network and warned about once. Inside `share_batches` other processes take
    their part.

    Args:
        network: checked for BatchNorms and used as key of the remembered size; it is not called.
        forward, parameters, x, loss_of: as in `forward_backward_in_parts`.
        plain: parameters and buffers of ``forward``; without them the batch is not shared.

    Raises:
        PotstillError: memory does not hold one sample, or a BatchNorm needs the whole batch.
    """
    others = _SHARING.get()
    if others is not None and plain is not None:
        shared = others.forward_backward(network, forward, parameters, x, loss_of, plain)
        if shared is not None:
            return shared
    n = num_samples(x)
    size = known = min(_ROOM.get(network, n), n)
    while True:
        try:
            if size < n:
                result = forward_backward_in_parts(forward, parameters, x, loss_of, size)
            else:
                with torch.enable_grad():
                    outputs = forward(x)
                    value = loss_of(outputs)
                    result = value.detach(), outputs.detach(), torch.autograd.grad(value, tuple(parameters))
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            message = str(error).strip().partition("\n")[0][:120]
        # outside of the handler, so that nothing of the failed pass is held by its traceback
        if uses_batch_statistics(network):
            raise PotstillError(
                f"memory does not hold a batch of {n:,} ({message}), and it cannot be split, as the network's "
                "BatchNorm needs statistics of all of it; ask for a smaller batch, or a network without it (-instance)"
            )
        if size == 1:
            raise PotstillError(f"memory does not hold one sample's training step ({message}); take a smaller network")
        size = (size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if size < known:
        _ROOM[network] = size
        warnings.warn(
            f"memory does not hold a batch of {n:,}: it is passed {size:,} at a time from here on, with the same "
            "result in more time",
            PotstillWarning, stacklevel=3,
        )  # fmt: skip
    return result
