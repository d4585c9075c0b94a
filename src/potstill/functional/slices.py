"""A batch in as many parts as memory asks for: the same loss and the same gradients, in less room and more time.

.. math:: \\nabla_\\theta\\, \\ell\\big(f_\\theta(x)\\big) = \\sum_b J_\\theta f(x_b)^\\top v_b, \\qquad
    v = \\partial \\ell / \\partial f \\big|_{f_\\theta(x)}

The outputs of all parts are made first, without a graph; the loss is taken of all of them, so it may be any function of
the whole batch (a contrastive one too); then each part is passed once more and its share of ∂ℓ/∂f goes back through it
(gradient caching; Gao et al., arXiv:2101.06983, section 3.2). It holds where one sample's output knows nothing of the
others': not in a BatchNorm that trains, which is refused.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from potstill.core import Inputs
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.features import uses_batch_statistics
from potstill.inputs import count, split

__all__ = ["Passed", "in_parts", "out_of_memory", "passed"]

Passed: TypeAlias = tuple[Tensor, Tensor, tuple[Tensor, ...]]
"""The loss, the outputs (n, …), and the gradients of the loss by each parameter."""
_SAID = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
"""In what torch's allocators and the system say."""
_ROOM: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()
"""Of networks that have once run out of memory: the samples that then passed at once."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def in_parts(
    forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs, loss_of: Callable[[Tensor], Tensor],
    size: int,
) -> Passed:  # fmt: skip
    """Loss, outputs and gradients with ``size`` samples at a time.

    Args:
        forward: outputs (n, …) of inputs (n, …), by ``parameters``, which need gradients.
        loss_of: the loss of all outputs.
        size: samples that pass at once, at least 1.
    """
    parts = list(split(x, size))
    with torch.no_grad():
        outputs = torch.cat([forward(part) for part in parts])
    outputs.requires_grad_()
    with torch.enable_grad():
        value = loss_of(outputs)
        (slope,) = torch.autograd.grad(value, outputs)
    total: list[Tensor] = []
    for part, share in zip(parts, torch.split(slope, size), strict=True):
        with torch.enable_grad():
            found = torch.autograd.grad(forward(part), parameters, share.to(outputs.dtype))
        total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
    return value.detach(), outputs.detach(), tuple(total)


def passed(
    network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
    loss_of: Callable[[Tensor], Tensor],
) -> Passed:  # fmt: skip
    """Loss, outputs and gradients of a batch: as one, and where memory does not hold that, in halves of halves.

    What fits is remembered of the network, and said once by a `PotstillWarning`.

    Args:
        network: whose memory it is, and which says whether samples touch each other; it is not called.
        forward, parameters, x, loss_of: as for `in_parts`.

    Raises:
        PotstillError: memory does not hold one sample, or the parts of a batch would have statistics of their own.
    """
    n = count(x)
    size = known = min(_ROOM.get(network, n), n)
    while True:
        try:
            if size < n:
                found = in_parts(forward, parameters, x, loss_of, size)
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
