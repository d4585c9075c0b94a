"""Peak memory of a part of a step, counted operation by operation as it runs.

The part runs for a few classes and for half as many more, which gives the bytes per class; it never runs for all
classes. Copies inside convolutions are counted by rule.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from potstill.core import StepCost
from potstill.execution.peak import PartMemory

__all__ = ["TensorMemoryCounter", "measure_part", "peak_bytes", "tensor_bytes"]

SAMPLES, BYTES = 256, 2**27
"""Fewest samples and bytes of the smaller run: below, modules take other paths, and their chunks
(`potstill.nn.first_block_gemm`, `potstill.functional.features`) are incomplete."""


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of ``tensors``."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


class TensorMemoryCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations create inside the ``with`` block: bytes ``live`` now and at the ``peak``.

    Memory from before does not count, nor do views of it. A storage counts until nothing refers to it, including
    autograd graphs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):  # what is not known yet comes from outside
            self._note(tensor, counts=False)
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            self._note(tensor, counts=True)
        if func in _CONVOLUTIONS:
            copied = sum(t.numel() * t.element_size() for t in _tensors((args, made)))
            self.peak = max(self.peak, self.live + copied)
        return made

    def _note(self, tensor: Tensor, *, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes() if counts else 0
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key).atexit = False

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


_CONVOLUTIONS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default}
"""Operations that copy inputs and outputs into oneDNN's blocked layout on the CPU."""


def _tensors(value: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout == torch.sparse_csr:  # its parts have the storages
            yield from (leaf.crow_indices(), leaf.col_indices(), leaf.values())
        elif isinstance(leaf, Tensor):
            yield leaf


def peak_bytes(run: Callable[[], object]) -> tuple[int, int]:
    """Return the bytes that ``run`` holds at its peak, and those of what it returns."""
    with TensorMemoryCounter() as held:
        result = run()
        kept = held.live
        del result
    return held.peak, kept


def measure_part(part: StepCost, input_bytes: int, steps: int | None = None) -> PartMemory:
    """Return the memory of ``part``, from runs with a few classes.

    Args:
        input_bytes: bytes of one float32 input.
        steps: steps of the run; ``None``: unknown.
    """
    num_classes = min(part.at_once, -(-SAMPLES // max(1, part.size)))
    peak, kept = peak_bytes(part.ready(num_classes))
    while peak < BYTES and num_classes < part.at_once:
        num_classes = min(part.at_once, 2 * num_classes)
        peak, kept = peak_bytes(part.ready(num_classes))
    more_classes = min(part.at_once, num_classes + -(-num_classes // 2))
    each, fixed, kept_each, fetched = peak // num_classes, 0, kept // num_classes, 0
    if more_classes > num_classes:
        more_peak, more_kept = peak_bytes(part.ready(more_classes))
        each = max(0, (more_peak - peak) // (more_classes - num_classes))
        fixed, kept_each = max(0, peak - num_classes * each), max(0, (more_kept - kept) // (more_classes - num_classes))
        fetched = part.size * part.at_once * input_bytes if part.real else 0
    results = min(part.classes, steps // part.every) if part.stays and steps is not None else part.classes
    return PartMemory(
        name=part.what, fixed=fixed, each=each, at_once=part.at_once, result_bytes=kept_each * results,
        joined=part.classes > 1 and not part.stays, fetched=fetched, when=part.when,
    )  # fmt: skip
