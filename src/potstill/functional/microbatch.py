"""A batch in as many parts as memory asks for: the same loss and the same gradients, in less room and more time.

.. math:: \\nabla_\\theta\\, \\ell\\big(f_\\theta(x)\\big) = \\sum_b J_\\theta f(x_b)^\\top v_b, \\qquad
    v = \\partial \\ell / \\partial f \\big|_{f_\\theta(x)}

The outputs of all parts are made first, without a graph; the loss is taken of all of them, so it may be any function of
the whole batch (a contrastive one too); then each part is passed once more and its share of ∂ℓ/∂f goes back through it
(gradient caching; Gao et al., arXiv:2101.06983, section 3.2). It holds where one sample's output knows nothing of the
others': not in a BatchNorm that trains, which is refused.
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
    "BatchSharing",
    "ChunkedForward",
    "PassResult",
    "PureForward",
    "forward_backward",
    "forward_backward_in_parts",
    "loss_and_gradient",
    "out_of_memory",
    "share_batches",
]

PassResult: TypeAlias = tuple[Tensor, Tensor, tuple[Tensor, ...]]
"""The loss, the outputs (n, …), and the gradients of the loss by each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PureForward:
    """What a pass is a function of, for who repeats it elsewhere: the network with these in place of its own."""

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    half: bool = False
    """Whether the network computes in bfloat16 (autocast); outputs are as wide as inputs all the same."""


@runtime_checkable
class BatchSharing(Protocol):
    """Others who can take a part of a batch."""

    def forward_backward(
        self, network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
        loss_of: Callable[[Tensor], Tensor], plain: PureForward,
    ) -> PassResult | None:  # fmt: skip
        """As `passed`; ``None`` where this batch is not to be shared."""
        ...


_SHARING: ContextVar[BatchSharing | None] = ContextVar("sharing", default=None)


@contextmanager
def share_batches(others: BatchSharing | None) -> Iterator[None]:
    """Inside, batches are shared with ``others``; with nobody where it is ``None``."""
    token = _SHARING.set(others)
    try:
        yield
    finally:
        _SHARING.reset(token)


_SAID = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
"""In what torch's allocators and the system say."""
_ROOM: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()
"""Of networks that have once run out of memory: the samples that then passed at once."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


class ChunkedForward:
    """Some samples' outputs, and the way back through them.

    With ``size`` below their number no graph is kept: the way back passes them again, so many at a time.
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
        """Gradients by each parameter of Σ ``slope`` · outputs; once."""
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
    """Loss, outputs and gradients with ``size`` samples at a time.

    Args:
        forward: outputs (n, …) of inputs (n, …), by ``parameters``, which need gradients.
        loss_of: the loss of all outputs.
        size: samples that pass at once, at least 1.
    """
    piece = ChunkedForward(forward, parameters, x, size)
    value, slope = loss_and_gradient(piece.outputs, loss_of)
    return value, piece.outputs, piece.backward(slope)


def loss_and_gradient(outputs: Tensor, loss_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The loss of outputs, and its gradient by them."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        value = loss_of(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
    return value.detach(), slope


def forward_backward(
    network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
    loss_of: Callable[[Tensor], Tensor], plain: PureForward | None = None,
) -> PassResult:  # fmt: skip
    """Loss, outputs and gradients of a batch: as one, and where memory does not hold that, in halves of halves.

    What fits is remembered of the network, and said once by a `PotstillWarning`. Inside `sharing` others take their
    part of it.

    Args:
        network: whose memory it is, and which says whether samples touch each other; it is not called.
        forward, parameters, x, loss_of: as for `in_parts`.
        plain: what ``forward`` is a function of; without, the batch is not shared.

    Raises:
        PotstillError: memory does not hold one sample, or the parts of a batch would have statistics of their own.
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
                found = forward_backward_in_parts(forward, parameters, x, loss_of, size)
            else:
                with torch.enable_grad():
                    outputs = forward(x)
                    value = loss_of(outputs)
                    found = value.detach(), outputs.detach(), torch.autograd.grad(value, tuple(parameters))
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            said = str(error).strip().partition("\n")[0][:120]
        # outside of the handler, so that nothing of the failed pass is held by its traceback
        if uses_batch_statistics(network):
            raise PotstillError(
                f"memory does not hold a batch of {n:,} ({said}), and it cannot be passed in parts, as the network's "
                "BatchNorm takes statistics of all of it; ask for a smaller batch, or a network without (-instance)"
            )
        if size == 1:
            raise PotstillError(f"memory does not hold one sample's training step ({said}); take a smaller network")
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
    return found
