"""Graphs as people have them: an ``.npz``, a folder of two tables, PyTorch Geometric's ``Data``, networkx, arrays."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.data.arrays import to_array
from potstill.data.parsed import dictionary_codes
from potstill.data.python_objects import read_npz_arrays
from potstill.data.table import find_label_column, read_csv
from potstill.data.table_encoding import is_number_type, to_texts
from potstill.errors import PotstillError

__all__ = ["GraphArrays", "holds_graph", "read_graph_arrays"]

Array = npt.NDArray[Any]

NODES, EDGES = "nodes.csv", "edges.csv"
_FEATURES, _EDGES, _LABELS = ("features", "x", "feat"), ("edge_index", "edges"), ("labels", "y", "label")
_MASKS = ("train_mask", "val_mask", "test_mask")
_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_ENDS = (("source", "target"), ("src", "dst"), ("from", "to"), ("u", "v"))
_NO_LABEL = frozenset(("", "-1", "nan", "none", "null", "?"))


@dataclass(frozen=True, kw_only=True)
class GraphArrays:
    """A graph as it was read. Legend: n nodes, d features, e edges."""

    name: str
    features: npt.NDArray[np.float32]
    """(n, d)."""
    edges: npt.NDArray[np.int64]
    """(2, e), of any direction."""
    labels: list[Any]
    """Class of each node; ``None``: unknown."""
    masks: tuple[Array | None, Array | None, Array | None]
    """Training, validation and test nodes, bool (n,), where they are given."""
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    """Names of the features."""
    names: tuple[str, ...] = ()
    """Name of each node."""


def holds_graph(data: object) -> bool:
    """Return True for data that are a graph: an ``.npz`` with ``edge_index``, a folder with nodes.csv and edges.csv,
    an object or a mapping with ``edge_index``, or a networkx graph."""
    if isinstance(data, str | Path):
        path = Path(data)
        try:
            if path.suffix.lower() == ".npz" and path.is_file():
                with zipfile.ZipFile(path) as archive:
                    held = {name.removesuffix(".npy") for name in archive.namelist()}
                return "edge_index" in held or ("edges" in held and bool(held & set(_FEATURES)))
            return (path / NODES).is_file() and (path / EDGES).is_file()
        except (OSError, ValueError, zipfile.BadZipFile):
            return False
    if isinstance(data, Mapping):
        return "edge_index" in data
    return _is_networkx(data) or hasattr(data, "edge_index")


def read_graph_arrays(data: object, label: str | None) -> GraphArrays:
    """Return the arrays of a graph.

    Args:
        data: what `holds_graph` accepts.
        label: column of ``nodes.csv``, or attribute of networkx nodes, that has the classes.

    Raises:
        PotstillError: an array that is missing or of another shape, an edge to a node that is not there, features that
            are no finite numbers.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if path.is_dir():
            return _read_folder(path, label)
        found = _of_mapping(read_npz_arrays(path), path.stem)
    elif _is_networkx(data):
        return _of_networkx(data, label)
    elif isinstance(data, Mapping):
        found = _of_mapping(data, "graph")
    elif hasattr(data, "edge_index"):
        found = _of_object(data)
    else:
        raise PotstillError(
            f"a graph is needed, not a {type(data).__name__}; give an .npz with edge_index, a folder with {NODES} "
            f"and {EDGES}, PyTorch Geometric's Data, or a networkx graph"
        )
    if label is not None:
        raise PotstillError(f"{found.name} has its own labels; leave `label=` out (it names a column of {NODES})")
    return found


def _pick(arrays: Mapping[str, Any], names: Sequence[str], what: str, name: str) -> Any:
    for key in names:
        if arrays.get(key) is not None:
            return arrays[key]
    raise PotstillError(
        f"{name}: needs {what} of the nodes as {names[0]!r}; it has {', '.join(map(str, arrays)) or 'nothing'}"
    )


def _of_mapping(arrays: Mapping[str, Any], name: str) -> GraphArrays:
    labels = to_array(_pick(arrays, _LABELS, "labels", name), f"{name}: labels")
    classes = arrays.get("classes")
    return _checked(
        name, _pick(arrays, _FEATURES, "features", name), _pick(arrays, _EDGES, "edges", name), _labels(labels, name),
        [arrays.get(key) for key in _MASKS],
        classes=None if classes is None else tuple(str(c) for c in to_array(classes, f"{name}: classes").tolist()),
    )  # fmt: skip


def _of_object(data: Any) -> GraphArrays:
    """Read PyTorch Geometric's ``Data``, or what has the same attributes."""
    if hasattr(data, "edge_types"):
        raise PotstillError("a graph with several types of nodes or edges is not read; give one of one type")
    arrays = {key: getattr(data, key, None) for key in (*_FEATURES, *_EDGES, *_LABELS, *_MASKS)}
    return _of_mapping({key: value for key, value in arrays.items() if value is not None}, "graph")


def _labels(labels: Array, name: str) -> list[Any]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise PotstillError(f"{name}: labels must be one class for each node (n,), not of shape {labels.shape}")
    if labels.dtype.kind == "f":
        whole = np.isnan(labels) | (labels == np.floor(labels))
        if not whole.all():
            raise PotstillError(f"{name}: labels of nodes are classes, not {labels[~whole][0]!r}; give whole numbers")
        return [None if math.isnan(v) or v < 0 else int(v) for v in labels.tolist()]
    return [
        None if (isinstance(v, int) and v < 0) or (isinstance(v, str) and v.strip().lower() in _NO_LABEL) else v
        for v in labels.tolist()
    ]


def _checked(
    name: str, features: Any, edges: Any, labels: list[Any], masks: Sequence[Any], *,
    classes: tuple[str, ...] | None = None, columns: tuple[str, ...] = (), names: tuple[str, ...] = (),
) -> GraphArrays:  # fmt: skip
    x = to_array(features, f"{name}: features")
    if x.ndim != 2 or x.dtype.kind not in "fiub" or not x.shape[1]:
        raise PotstillError(f"{name}: features must be numbers (nodes, features), not {x.dtype} of shape {x.shape}")
    n = len(x)
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        at = int(np.where(~np.isfinite(x).all(1))[0][0])
        raise PotstillError(f"{name}: features of node {at} are not all finite numbers; correct them, or leave it out")
    ends = to_array(edges, f"{name}: edges")
    if ends.ndim != 2 or 2 not in ends.shape or (ends.size and ends.dtype.kind not in "iu"):
        raise PotstillError(f"{name}: edges must be whole numbers (2, edges), not {ends.dtype} of shape {ends.shape}")
    ends = (ends if ends.shape[0] == 2 else ends.T).astype(np.int64)
    bad = np.where(((ends < 0) | (ends >= n)).any(0))[0]
    if len(bad):
        at = int(bad[0])
        wrong = next(int(v) for v in ends[:, at] if not 0 <= v < n)
        raise PotstillError(
            f"{name}: edge {at} has the node {wrong}, but there are {n:,} nodes, numbered from 0; correct {len(bad):,} "
            f"edge{'s' if len(bad) > 1 else ''}"
        )
    if len(labels) != n:
        raise PotstillError(f"{name}: {n:,} nodes have features, but {len(labels):,} have labels; give one each")
    checked = [_mask(mask, n, key, name) for mask, key in zip(masks, _MASKS, strict=True)]
    for (i, a), (j, b) in (((0, checked[0]), (2, checked[2])), ((0, checked[0]), (1, checked[1])),
                           ((1, checked[1]), (2, checked[2]))):  # fmt: skip
        if a is not None and b is not None and (a & b).any():
            raise PotstillError(
                f"{name}: {int((a & b).sum()):,} nodes are in {_MASKS[i]} and in {_MASKS[j]}; each may be in one"
            )
    return GraphArrays(
        name=name, features=x, edges=ends, labels=labels, masks=(checked[0], checked[1], checked[2]), classes=classes,
        columns=columns, names=names,
    )  # fmt: skip


def _mask(mask: Any, nodes: int, key: str, name: str) -> Array | None:
    if mask is None:
        return None
    found = to_array(mask, f"{name}: {key}")
    if found.ndim != 1 or len(found) != nodes or (found.dtype.kind != "b" and not np.isin(found, (0, 1)).all()):
        raise PotstillError(
            f"{name}: {key} must say yes or no for each of {nodes:,} nodes, not {found.dtype} of shape {found.shape}"
        )
    is_in: Array = found.astype(bool)
    return is_in


def _read_folder(root: Path, label: str | None) -> GraphArrays:
    """Read ``nodes.csv`` (id, label, split and features) and ``edges.csv`` (source and target)."""
    name = root.name or str(root)
    nodes, edges = read_csv(root / NODES), read_csv(root / EDGES)
    column = find_label_column(nodes, label, {}, f"{name}/{NODES}")
    key = next((c for c in ("id", "node", "node_id", "name") if c in nodes.column_names and c != column), None)
    split = next((c for c in ("split", "part", "set") if c in nodes.column_names and c != column), None)
    columns = tuple(c for c in nodes.column_names if c not in (column, key, split))
    for each in columns:
        if not is_number_type(nodes.column(each).type) or nodes.column(each).null_count:
            raise PotstillError(
                f"{name}/{NODES}: features are columns of numbers without gaps, but {each!r} is none; leave it out"
            )
    if not columns:
        raise PotstillError(f"{name}/{NODES}: there is no column of features beside the label; add at least one")
    ids = [str(i) for i in range(nodes.num_rows)] if key is None else _texts(nodes.column(key))
    number = {each: i for i, each in enumerate(ids)}
    if len(number) < len(ids):
        twice = next(each for i, each in enumerate(ids) if number[each] != i)
        raise PotstillError(f"{name}/{NODES}: the node {twice!r} stands there twice; give each its own {key}")
    ends = next((e for e in _ENDS if set(e) <= set(edges.column_names)), tuple(edges.column_names[:2]))
    if len(ends) < 2:
        raise PotstillError(f"{name}/{EDGES}: needs the columns source and target; it has {', '.join(ends)}")
    pairs = []
    for end in ends:
        found = _texts(edges.column(end))
        if (at := next((i for i, each in enumerate(found) if each not in number), None)) is not None:
            raise PotstillError(
                f"{name}/{EDGES}: line {at + 2} has the node {found[at]!r}, which {NODES} lacks; correct it, or add it"
            )
        pairs.append([number[each] for each in found])
    labels = [None if v.strip().lower() in _NO_LABEL else v for v in _texts(nodes.column(column))]
    if is_number_type(nodes.column(column).type):
        labels = _labels(np.array(nodes.column(column).cast(pa.float64()).to_numpy(zero_copy_only=False)), name)
    masks: list[Any] = [None, None, None]
    if split is not None:
        masks = _split_masks(_texts(nodes.column(split)), f"{name}/{NODES}", split)
    features = np.stack([nodes.column(c).cast(pa.float64()).to_numpy() for c in columns], 1)
    return _checked(
        name, features, np.array(pairs, dtype=np.int64).reshape(2, -1), labels, masks, columns=columns,
        names=() if key is None else tuple(ids),
    )  # fmt: skip


def _texts(column: Any) -> list[str]:
    if pa.types.is_dictionary(column.type):
        codes, values = dictionary_codes(column)
        return ["" if code < 0 else str(values[code]) for code in codes.tolist()]
    return ["" if each is None else str(each) for each in to_texts(column).to_pylist()]


def _split_masks(parts_by_node: Sequence[str], name: str, column: str) -> list[Array | None]:
    parts = [_PARTS.get(each.strip().lower(), -1 if not each.strip() else None) for each in parts_by_node]
    if None in parts:
        wrong = parts_by_node[parts.index(None)]
        raise PotstillError(f"{name}: the column {column!r} says train, val, test or nothing, not {wrong[:40]!r}")
    numbers = np.array(parts)
    return [numbers == part if (numbers == part).any() else None for part in range(3)]


def _is_networkx(data: object) -> bool:
    return type(data).__module__.partition(".")[0] == "networkx" and hasattr(data, "nodes")


def _of_networkx(data: Any, label: str | None) -> GraphArrays:
    """Read a networkx graph whose nodes have ``x`` (features), a label, and perhaps ``split``."""
    name, nodes = "graph", list(data.nodes)
    about = [data.nodes[each] for each in nodes]
    held = sorted({key for each in about for key in each}, key=str)
    feature = next((key for key in _FEATURES if nodes and all(key in each for each in about)), None)
    usual = ("label", "y", "labels", "class", "club")
    key = label or next((k for k in usual if any(k in each for each in about)), None)
    if feature is None or key is None or not any(key in each for each in about):
        lacks = "features as 'x'" if feature is None else f"a class as {label or 'label'!r}"
        raise PotstillError(f"{name}: each node needs {lacks}; nodes have {', '.join(map(str, held)) or 'nothing'}")
    number = {each: i for i, each in enumerate(nodes)}
    pairs = [(number[u], number[v]) for u, v in data.edges()]
    lengths = {len(np.atleast_1d(each[feature])) for each in about}
    if len(lengths) > 1:
        raise PotstillError(f"{name}: nodes have {min(lengths)} to {max(lengths)} features; give each the same number")
    labels = [each.get(key) for each in about]
    labels = [
        None if v is None or (isinstance(v, int) and v < 0) or str(v).strip().lower() in _NO_LABEL else v
        for v in labels
    ]
    splits = [str(each.get("split") or "") for each in about]
    masks = _split_masks(splits, name, "split") if any(splits) else [None, None, None]
    return _checked(
        name, np.stack([np.atleast_1d(np.asarray(each[feature])) for each in about]),
        np.array(pairs, dtype=np.int64).reshape(-1, 2).T, labels, masks, names=tuple(map(str, nodes)),
    )  # fmt: skip
