"""Validation of a set: inputs, targets, weights and normalization must fit each other and the metadata."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from potstill.core import Inputs, InputSpec, Normalization, Task
from potstill.core.nested import OFFSETS, VALUES, named_tensors, tensor_names
from potstill.dataset_file.values import Contents
from potstill.errors import PotstillError
from potstill.tasks import Classification

__all__ = [
    "LEARNED_LR", "WHITENING", "are_valid_offsets", "check_content", "check_extras", "check_labels", "check_learned",
    "check_scores", "check_shapes",
]  # fmt: skip

LEARNED_LR = "student/lr"
"""Name of the learned learning rate of students."""
WHITENING = ("mean", "matrix", "inverse")
"""Tensors of a whitening."""


def check_content(what: str, inputs: Inputs, labels: Tensor, spec: InputSpec, classes: int, task: Task | None) -> None:
    """Check inputs and targets; every check here raises ``PotstillError`` with ``what`` as its first words."""
    if isinstance(inputs, Tensor) and (inputs.ndim < 2 or inputs.numel() == 0):
        raise PotstillError(f"{what}: at least one input with values is required, but inputs are {list(inputs.shape)}")
    if not isinstance(inputs, Tensor) and (labels.ndim == 0 or len(labels) == 0):
        raise PotstillError(f"{what}: at least one input with its target is required")
    n = len(inputs) if isinstance(inputs, Tensor) else len(labels)
    check_shapes(what, inputs, spec, n)
    if not all(map(_is_finite, named_tensors(inputs).values())):
        raise PotstillError(f"{what}: inputs must be finite, but some are NaN or infinite; distil it again")
    check_labels(what, labels, n, classes, task)


def check_labels(what: str, labels: Tensor, n: int, classes: int, task: Task | None) -> None:
    """Check that there is a valid target of the task for each of ``n`` inputs."""
    if n == 0:
        raise PotstillError(f"{what}: at least one input with its target is required")
    if not isinstance(task, Classification):
        _check_targets(what, labels, n, task)
        return
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise PotstillError(f"{what}: {n} inputs need as many labels, but labels are {list(labels.shape)}")
    if labels.is_floating_point():
        sums = labels.sum(1) if labels.ndim == 2 else labels
        is_valid = labels.ndim == 2 and labels.shape[1] == classes and bool((labels >= 0).all())
        if not is_valid or not bool(((sums - 1).abs() <= 1e-4).all()):
            raise PotstillError(f"{what}: soft labels must be rows of {classes} probabilities that sum to 1")
    elif labels.ndim != 1 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise PotstillError(f"{what}: labels must be in 0…{classes - 1}, one for each input")
    if task.k != classes:
        raise PotstillError(f"{what}: it has {classes} classes, but its task {task.k}; get the file again")


def check_scores(what: str, scores: Tensor, n: int, classes: int) -> None:
    """Check that scores are finite float32 rows (n, classes)."""
    if scores.dtype != torch.float32 or tuple(scores.shape) != (n, classes) or classes < 1:
        raise PotstillError(
            f"{what}: scores must be float32 rows of {classes} numbers, one for each class, but they are "
            f"{str(scores.dtype).removeprefix('torch.')} {list(scores.shape)}; give each of {n} inputs such a row"
        )
    if not _is_finite(scores):
        raise PotstillError(f"{what}: scores must be finite, but some are NaN or infinite; distil it again")


def _check_targets(what: str, labels: Tensor, n: int, task: Task | None) -> None:
    """Check targets of another task than classification; an unknown task accepts all finite ones."""
    if len(labels) != n or labels.dtype not in (torch.float32, torch.int64) or not _is_finite(labels):
        raise PotstillError(f"{what}: its targets must be finite numbers, for each of {n} inputs; get the file again")
    try:
        fits = task is None or math.isfinite(task.chance_score(labels))
    except (RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError):
        fits = False
    if task is not None and not fits:
        raise PotstillError(
            f"{what}: its task {task.name!r} cannot score targets {list(labels.shape)}; get the file again"
        )


def _is_finite(tensor: Tensor) -> bool:
    if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        tensor = tensor.float()
    return bool(torch.isfinite(tensor).all())


def check_extras(what: str, contents: Contents, normalization: Normalization) -> None:
    """Check payload, index, weights and normalization."""
    inputs, n, index, weights = contents.inputs, len(contents.labels), contents.index, contents.weights
    if bad := [name for name, tensor in contents.payload.items() if not _is_finite(tensor)]:
        raise PotstillError(f"{what}: payload {bad[0][:80]!r} must be finite, but some of it is NaN or infinite")
    if index is not None and (index.dtype != torch.int64 or index.shape != (n,) or int(index.min()) < 0):
        raise PotstillError(f"{what}: index must be one int64 ≥ 0 for each of {n} inputs")
    if weights is not None:
        fits = weights.dtype == torch.float32 and weights.shape == (n,) and _is_finite(weights)
        if not fits or float(weights.min()) < 0 or float(weights.max()) <= 0:
            raise PotstillError(f"{what}: weights must be one finite float32 ≥ 0 for each of {n} inputs, and not all 0")
    if inputs is None:  # their shared decoder is not here
        return
    if isinstance(inputs, Tensor):
        _check_normalization(what, inputs, normalization)
        return
    for name, part in normalization.parts.items():
        x = inputs.get(name)
        if x is None or not x.is_floating_point() or x.ndim < 2 or part.whitening is not None or part.parts:
            raise PotstillError(f"{what}: its normalization has a part {name[:80]!r} without values; get it again")
        _check_normalization(what, x, part)


def _check_normalization(what: str, x: Tensor, normalization: Normalization) -> None:
    mean, std, channels = normalization.mean, normalization.std, x.shape[1]
    fits = mean.ndim == 1 and mean.shape == std.shape and len(mean) in (1, channels)
    if not fits or not _is_finite(mean) or not _is_finite(std) or not bool((std > 0).all()):
        raise PotstillError(f"{what}: normalization needs a mean and a positive std for each of {channels} channels")
    if (w := normalization.whitening) is not None:
        d = x[0].numel()
        for name, shape in zip(WHITENING, ((d,), (d, d), (d, d)), strict=True):
            tensor: Tensor = getattr(w, name)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or not _is_finite(tensor):
                raise PotstillError(f"{what}: its whitening tensors are not finite float32 for {d} values")
    if not _is_finite(normalization.apply(x)):
        raise PotstillError(f"{what}: its normalization takes the inputs beyond what float32 holds")


def check_shapes(what: str, inputs: Inputs, spec: InputSpec, n: int) -> None:
    """Check that inputs are ``n`` of the described kind: names, types, shapes and offsets of words."""
    if isinstance(inputs, Tensor) or not spec.parts:
        if not isinstance(inputs, Tensor) or spec.parts:
            kind = "one tensor" if isinstance(inputs, Tensor) else "several with names"
            raise PotstillError(f"{what}: its metadata describe other inputs than these, which are {kind}")
        if tuple(inputs.shape[1:]) != spec.shape:
            raise PotstillError(
                f"{what}: its metadata say inputs of shape {list(spec.shape)}, but they are {list(inputs.shape[1:])}"
            )
        return
    if set(inputs) != set(tensor_names(spec)):
        odd = min(set(inputs) ^ set(tensor_names(spec)))
        raise PotstillError(f"{what}: its parts and its inputs must have the same names, but {odd[:80]!r} differs")
    for name, part in spec.parts:
        if part.ragged:
            fits = _are_valid_ragged(inputs[name + VALUES], inputs[name + OFFSETS], n, part)
        else:
            x = inputs[name]
            fits = tuple(x.shape) == (n, *part.shape)
            if part.kind == "categories":
                fits = fits and x.dtype == torch.int64 and x.ndim == 2 and x.shape[1] == len(part.levels)
                fits = fits and not bool(((x < 0) | (x >= torch.tensor(part.levels))).any())
            else:
                fits = fits and x.is_floating_point()
        if not fits:
            raise PotstillError(
                f"{what}: its part {name[:80]!r} is not {part.kind[:40]} of {n} inputs as its metadata describe them; "
                "get the file again"
            )


def are_valid_offsets(values: Tensor, offsets: Tensor, n: int) -> bool:
    """Return whether int64 ``offsets`` (n,) begin at 0 and ascend within ``values``."""
    if offsets.dtype != torch.int64 or offsets.shape != (n,):
        return False
    bounds = torch.cat([offsets, offsets.new_tensor([len(values)])])
    return int(bounds[0]) == 0 and not bool((bounds.diff() < 0).any())


def _are_valid_ragged(values: Tensor, offsets: Tensor, n: int, part: InputSpec) -> bool:
    if values.shape[1:] != part.shape[1:] or values.ndim == 0 or not are_valid_offsets(values, offsets, n):
        return False
    if part.kind != "words" and not part.levels:
        return values.is_floating_point()
    if values.dtype != torch.int64 or len(part.levels) != (values.shape[-1] if values.ndim > 1 else 1):
        return False
    return not bool(((values < 0) | (values >= torch.tensor(part.levels))).any())


def check_learned(what: str, learned: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
    """Check learned tensors, and that the learned rate is the one of the metadata's ``training``."""
    if bad := [name for name, tensor in learned.items() if not _is_finite(tensor)]:
        raise PotstillError(f"{what}: learned {bad[0][:80]!r} must be finite, but some of it is NaN or infinite")
    if (rate := learned.get(LEARNED_LR)) is None:
        return
    if rate.ndim or float(rate) <= 0:
        raise PotstillError(f"{what}: learned {LEARNED_LR!r} must be one number above 0, not {rate.tolist()!s:.60}")
    if training.get("learned_lr") != rate.item():
        raise PotstillError(
            f"{what}: its learned rate is {rate.item()}, but its training.learned_lr is "
            f"{training.get('learned_lr')!s:.60}; get the file again"
        )
