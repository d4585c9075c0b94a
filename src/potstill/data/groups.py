"""Groups of related samples (frames of one clip, images of one patient) that a split keeps on one side."""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = [
    "PARENT", "GroupValues", "check_values", "encode_groups", "get_groups", "join_groups", "match_file_groups",
    "note_group_overlap", "read_column_groups", "source_key", "split_group_values",
    "stratify_groups",
]  # fmt: skip

GroupValues: TypeAlias = npt.NDArray[Any]
"""Group of each sample: texts or integers (n,)."""

PARENT = "parent"
"""Value of ``group`` that groups files by the name of their parent folder."""
_VERBS = {"group": "group by", "attribute": "take as attribute"}
"""Purpose of a column by the option that names it."""


def get_groups(source: object) -> Int[Tensor, " n"] | None:
    """Return the group number of each sample (n,), or ``None`` if the source has no groups."""
    return getattr(source, "groups", None)


def source_key(source: Any, held_out: bool = True) -> str:
    """Return the source's hash, extended by that of its groups if samples are ``held_out`` by groups."""
    groups = get_groups(source)
    if groups is None or not held_out:
        return str(source.content_hash)
    return f"{source.content_hash}:{hashlib.sha256(groups.contiguous().numpy().tobytes()).hexdigest()[:16]}"


def encode_groups(
    train: GroupValues | Sequence[Any], test: GroupValues | Sequence[Any] | None = None
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"] | None]:
    """Encode groups as int64 numbers, one numbering for both parts."""
    parts = [np.asarray(part) for part in (train, test) if part is not None]
    if any(part.dtype.kind not in "iu" for part in parts):
        parts = [part.astype(str) for part in parts]
    numbers = torch.from_numpy(np.unique(np.concatenate(parts), return_inverse=True)[1].reshape(-1).astype(np.int64))
    return numbers[: len(parts[0])], None if test is None else numbers[len(parts[0]) :]


def match_file_groups(group: str, files: Sequence[str], name: str, option: str = "group") -> GroupValues:
    """Return the group (or, by ``option``, the attribute) of each file.

    Args:
        group: ``parent``: the name of the folder that holds the file, wherever that folder lies; else a regular
            expression that is searched in the file's path: its first capturing group, or all that it matches.
        files: paths relative to the data, with ``/``.
        name, option: for messages.

    Raises:
        PotstillError: no regular expression, or one that does not match every file.
    """
    if group == PARENT:
        return np.array([posixpath.basename(posixpath.dirname(file)) for file in files], dtype=np.str_)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise PotstillError(
            f"`{option}=` {group!r} is not a regular expression ({error}); give one, or 'parent'"
        ) from None
    matches = [pattern.search(file) for file in files]
    values = [None if match is None else match[1 if pattern.groups else 0] for match in matches]
    if lacking := [file for file, value in zip(files, values, strict=True) if value is None]:
        raise PotstillError(
            f"{name}: `{option}=` {group!r} finds no {option} in {lacking[0]} ({len(lacking):,} of {len(files):,} "
            "files); give an expression that matches the path of every file"
        )
    return np.array(values, dtype=np.str_)


def check_values(values: list[Any], option: str) -> list[Any]:
    """Return given groups or attributes.

    Raises:
        PotstillError: one of them is missing.
    """
    if (missing := next((i for i, v in enumerate(values) if v is None or v != v or v == ""), None)) is not None:
        raise PotstillError(f"the {option} of sample {missing} is missing; give each sample one")
    return values


def split_group_values(
    values: Sequence[Any], train: int, test: int, name: str, option: str = "group"
) -> tuple[GroupValues, GroupValues | None]:
    """Split given group values into those of the training and of the test part.

    Args:
        values: one for each sample, the training part first; those of a test part may be left out.
        train, test: numbers of samples.
        name, option: for messages.

    Raises:
        PotstillError: there are not as many as samples.
    """
    array = np.asarray(values)
    if array.ndim != 1 or len(array) not in (train, train + test):
        raise PotstillError(
            f"{name}: {len(array)} {option}s but {train + test} samples; give one {option} for each sample"
        )
    return array[:train], array[train:] if len(array) > train else None


def read_column_groups(table: Any, column: str, name: str, option: str = "group") -> GroupValues:
    """Return the group (or, by ``option``, the attribute) of each row of an Arrow table.

    Raises:
        PotstillError: there is no such column, or a cell of it is empty.
    """
    if column not in table.column_names:
        if column == PARENT:
            raise PotstillError(f"{name}: `{option}=parent` is for folders of files; of a table give a column")
        listed = ", ".join(table.column_names[:8]) + (", …" if table.num_columns > 8 else "")
        raise PotstillError(f"{name}: there is no column {column!r} to {_VERBS[option]}; it has {listed}")
    values = table.column(column).to_pylist()
    empty = [i for i, v in enumerate(values) if v is None or v != v or not str(v).strip()]
    if empty:
        raise PotstillError(
            f"{name}: row {empty[0] + 1}, column {column!r} is empty, so its {option} is not known; fill it or remove "
            "the row"
        )
    return np.array([str(v) for v in values], dtype=np.str_)


def join_groups(*several: Tensor | None) -> Int[Tensor, " n"] | None:
    """Return the finest groups in which every given group (n,) stays whole."""
    given = [groups.numpy() for groups in several if groups is not None]
    if not given:
        return None
    if len(given) == 1:
        return torch.from_numpy(given[0])
    from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]  # slow, and of use here alone
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped,unused-ignore]

    n = len(given[0])
    group = np.concatenate(
        [(k + 1) * n + np.unique(g, return_inverse=True)[1].reshape(-1) for k, g in enumerate(given)]
    )
    sample, size = np.tile(np.arange(n), len(given)), (len(given) + 1) * n
    graph = coo_array((np.ones(len(group), dtype=bool), (sample, group)), shape=(size, size))
    return torch.from_numpy(connected_components(graph, directed=False)[1][:n].astype(np.int64))


def stratify_groups(
    labels: Int[Tensor, " n"], groups: Int[Tensor, " n"], fraction: float, seed: int
) -> tuple[Int[Tensor, " k"], Int[Tensor, " h"]]:
    """Hold out whole groups, stratified as by `splits.stratify`; nothing is held out where that is impossible.

    Groups are visited in an order drawn by ``seed``. One is held out where that brings the classes nearer to their
    share (squared differences over class sizes) and leaves each class a sample; then each class without a held-out
    sample gives the group that costs least, if there is one.

    Returns:
        Sorted, disjoint indices that cover the samples: kept, held out.
    """
    number = np.unique(groups.numpy(), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(labels.numpy()).astype(np.float64)
    many, k = int(number.max(initial=-1)) + 1, len(sizes)
    cells, counts = np.unique(number * k + labels.numpy(), return_counts=True)
    of_group, of_class = np.divmod(cells, max(1, k))
    begin = np.searchsorted(of_group, np.arange(many + 1))
    aim, held_counts = np.maximum(1, np.round(sizes * fraction)), np.zeros(k)
    is_held_out = np.zeros(many, dtype=bool)

    def cost(group: int) -> float:
        at = slice(begin[group], begin[group + 1])
        c, more = of_class[at], counts[at]
        if is_held_out[group] or (held_counts[c] + more >= sizes[c]).any():
            return np.inf
        gap = held_counts[c] - aim[c]
        return float((((gap + more) ** 2 - gap**2) / sizes[c]).sum())

    def take(group: int) -> None:
        at = slice(begin[group], begin[group + 1])
        is_held_out[group] = True
        held_counts[of_class[at]] += counts[at]

    for group in torch.randperm(many, generator=generator(seed, "split", "groups")).tolist():
        if cost(group) < 0:
            take(group)
    for c in range(k):
        if held_counts[c] == 0 and (candidates := of_group[of_class == c]).size:
            costs = [cost(group) for group in candidates.tolist()]
            if min(costs) < np.inf:
                take(int(candidates[int(np.argmin(costs))]))
    out = torch.from_numpy(is_held_out[number])
    return torch.where(~out)[0], torch.where(out)[0]


def note_group_overlap(train: Tensor, test: Tensor, name: str) -> list[str]:
    """Return a note on test samples whose groups also occur in the training part."""
    shared = torch.isin(test, train)
    if not shared.any():
        return []
    return [
        f"{name}: {int(shared.sum()):,} of {len(test):,} test samples are of groups that are in training, too "
        f"({len(torch.unique(test[shared])):,} groups); scores on them flatter"
    ]
