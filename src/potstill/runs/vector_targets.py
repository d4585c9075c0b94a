"""Vectors as targets in place of labels: of a self-supervised teacher, of a person's own function, or as an array."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.progress import Callback
from potstill.core import Source, Splits
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.data.arrays import to_array
from potstill.errors import PotstillError
from potstill.pretraining.self_supervised import fit_encoder, parse_representations
from potstill.tasks import Regression
from potstill.tasks.regression import target_statistics

__all__ = ["VectorTargets", "with_vector_targets"]

VectorTargets: TypeAlias = str | Path | Callable[[Tensor], Any] | Any
"""``representations:size=32``, a file ``….npy``, an array (n, d), or a function of pictures (n, c, h, w) in [0, 1]."""

_CHUNK = 256
"""Inputs of one call of a function."""


def with_vector_targets(splits: Splits, targets: VectorTargets, *, progress: Callback | None = None) -> Splits:
    """Return the data with vectors as targets of a regression; labels and class names are dropped.

    Args:
        splits: data in memory. A teacher is trained on their training part alone.
        targets: where the vectors are from.
        progress: called while a teacher is trained.

    Raises:
        PotstillError: data that are streamed, no such targets, or vectors that are not finite or not one for each
            sample.
    """
    for part in (splits.train, splits.test):
        if part is not None and not isinstance(part, TensorSource):
            raise PotstillError(
                f"{splits.train.name}: vectors as targets are made of data in memory, but these are streamed; leave "
                "`stream=True` out, or give fewer"
            )
    train: Any = splits.train
    test: Any = splits.test
    spelled = ""  # no other machine has the function or the file
    vectors: Tensor
    others: Tensor | None = None
    if isinstance(targets, str) and not targets.endswith(".npy"):
        encoder = fit_encoder(train, parse_representations(targets), progress=progress)
        vectors = encoder.encode(train)
        others = None if test is None else encoder.encode(_normalized_as(test, train))
        spelled = targets
    elif callable(targets):
        vectors, others = _call(targets, train), None if test is None else _call(targets, test)
    else:
        vectors, others = _divide(_read(targets), train, test)
    for rows in (vectors, others):
        if rows is not None and not bool(torch.isfinite(rows).all()):
            raise PotstillError(f"{train.name}: vectors as targets must be finite; leave out the samples where not")
    mean, std = target_statistics(vectors)
    task = Regression(targets=tuple(f"vector {i + 1}" for i in range(vectors.shape[1])), mean=mean, std=std)

    def with_vectors(part: Any, rows: Float[Tensor, "n d"]) -> TensorSource:
        changed: TensorSource = replace(
            part, classes=(), task=task, targets=rows, labels=torch.zeros(len(rows), dtype=torch.int64),
            label_column=None,
        )  # fmt: skip
        return changed

    reading = {name: value for name, value in splits.reading.items() if name != "task"}
    notes = splits.notes
    if test is not None and others is None:
        notes = (*notes, f"{train.name}: there are no vectors for the test part, so that it was left out")
    return replace(
        splits, train=with_vectors(train, vectors),
        test=None if test is None or others is None else with_vectors(test, others),
        notes=notes, reading=reading | ({"targets": spelled} if spelled else {}),
    )  # fmt: skip


def _normalized_as(part: Source, like: Source) -> Any:
    """Return a part with the normalization of another."""
    return replace(part, normalization=like.normalization)  # type: ignore[type-var]


def _call(function: Callable[[Tensor], Any], part: TensorSource) -> Tensor:
    name = getattr(function, "__name__", type(function).__name__)

    def rows(at: Tensor) -> Tensor:
        x = single_tensor(part.raw(at), "a function of pictures")
        found = torch.as_tensor(to_array(function(x), f"vectors of {name}"))
        if found.ndim != 2 or len(found) != len(at) or not (found.is_floating_point() or found.dtype == torch.uint8):
            raise PotstillError(
                f"{name} must return one row of real numbers for each of {len(at)} inputs, but returned "
                f"{found.dtype} of shape {tuple(found.shape)}"
            )
        return found.float().cpu()

    with torch.no_grad():
        return torch.cat([rows(at) for at in torch.split(torch.arange(len(part)), _CHUNK)])


def _read(targets: Any) -> Tensor:
    if isinstance(targets, str | Path):
        path = Path(targets)
        try:
            targets = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise PotstillError(
                f"{path}: not a file of vectors ({error}); write an array (n, d) by numpy.save"
            ) from None
    values = to_array(targets, "targets")
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise PotstillError(
            f"vectors as targets must be numbers of shape (n, d), but they are {values.dtype} of shape "
            f"{values.shape}; change them"
        )
    return torch.from_numpy(values.astype(np.float32))


def _divide(rows: Tensor, train: TensorSource, test: TensorSource | None) -> tuple[Tensor, Tensor | None]:
    """Return the rows of each part: in the order in which the data were read, or the training part's first."""
    n, m = len(train), 0 if test is None else len(test)
    if test is not None and train.places is not None and test.places is not None and len(rows) == n + m:
        both = torch.cat([train.places, test.places])
        if torch.equal(both.sort().values, torch.arange(n + m)):  # a split that was drawn
            return rows[train.places], rows[test.places]
    if len(rows) not in (n, n + m):
        raise PotstillError(
            f"{train.name}: {len(rows):,} vectors for {n:,} training samples and {m:,} test samples; give one for "
            "each, the training part's first"
        )
    return rows[:n], rows[n:] if m and len(rows) == n + m else None
