"""Scores of every sample of a source, as a parquet file that people can sort and selections can read.

Rows may be in any order: ``index`` is the sample. The metadata key ``potstill`` has the content hash of the data, and
every method with the settings of its scores.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill._util.outputs import check_output
from potstill.core import Source
from potstill.dataset_file.files import DIGEST, parse_json, write_atomic
from potstill.errors import PotstillError

__all__ = ["MethodScores", "Scores", "read_scores", "write_scores"]

_FORMAT = "potstill-scores/1"


@dataclass(frozen=True, kw_only=True)
class MethodScores:
    """Scores of all samples by one method."""

    columns: Mapping[str, Float[Tensor, " n"]]
    """Columns by name, the score first."""
    config: Mapping[str, Any]
    """Settings that decide them."""
    seconds: float = 0.0
    """Computing time in seconds, training of networks included."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of all samples of a source by several methods, as `potstill.score` returns them.

    Examples:
        >>> scores = potstill.score(
        ...     "digits", "el2n", "scores.parquet", runs=1, record_epochs=1, epoch=1, network="convnet-w8-d1"
        ... )
        >>> {name: tuple(column.shape) for name, column in scores.methods["el2n"].columns.items()}
        {'el2n': (1438,)}
        >>> len(scores), list(scores.methods)
        (1438, ['el2n'])
    """

    source: str
    """Name of the source."""
    content_hash: str
    """Content hash of the source."""
    labels: Int[Tensor, " n"]
    """Class of each sample."""
    classes: tuple[str, ...]
    """Names of the classes."""
    methods: Mapping[str, MethodScores]
    """Scores by the name of the method."""
    names: tuple[str, ...] = ()
    """File or name of each sample, where the source knows it."""
    first_duplicate: Int[Tensor, " n"] | None = None
    """Index of the first sample with equal inputs, its own if there is none before."""
    region: Sequence[str] = ()
    """Region of each sample on the data map, where cartography is among the methods."""

    def __len__(self) -> int:
        return len(self.labels)

    def columns_for(self, method: str, train: Source) -> Mapping[str, Tensor]:
        """Return the columns of a method for these data.

        Args:
            method: one of ``methods``.
            train: training split that the scores must be of.

        Returns:
            Values of each sample by column name.

        Raises:
            PotstillError: there are none, or they are of other data.
        """
        if method not in self.methods:
            raise PotstillError(
                f"these scores are of {', '.join(self.methods)}, not of {method}; choose one of them, or make them "
                f"with potstill score --methods {method}"
            )
        if self.content_hash != train.content_hash:
            raise PotstillError(
                f"these scores are of {self.source} ({len(self):,} samples, content {_short(self.content_hash)}), but "
                f"the data are {train.name} ({len(train):,} samples, content {_short(train.content_hash)}); score "
                "these data, with the same split and size, and `stream=True` for both or for neither"
            )
        return self.methods[method].columns


def _short(content: str) -> str:
    kind, _, digest = content.rpartition(":")
    return f"{kind}{':' if kind else ''}{digest[:12]}"


def other_scores(path: Path, scores: Collection[str], hash: str) -> str:
    """Return what is at ``path`` instead of replaceable scores; empty: scores of the same data and methods."""
    try:
        existing = read_scores(path)
    except PotstillError:
        return "is there already, and holds no scores that Potstill wrote"
    if existing.content_hash != hash:
        return f"holds the scores of other data ({existing.source})"
    lost = [name for name in existing.methods if name not in scores]
    return f"holds the scores of {', '.join(lost)}, too" if lost else ""


def write_scores(scores: Scores, path: Path, *, force: bool = False) -> None:
    """Write one row per sample: index, name, label, class, duplicates, region, and all scores.

    Args:
        force: replace any file there; by default only scores of the same data by no other methods.

    Raises:
        PotstillError: the file cannot be written, or another one is there.
    """
    check_output(path, force=force, found=lambda at: other_scores(at, scores.methods, scores.content_hash))
    n = len(scores)
    rows: dict[str, Any] = {"index": pa.array(range(n), pa.int64())}
    if scores.names:
        rows["name"] = pa.array([_text(name) for name in scores.names], pa.string())
    rows["label"] = pa.array(scores.labels.numpy())
    rows["class"] = pa.array([_text(scores.classes[c]) for c in scores.labels.tolist()], pa.string())
    if scores.first_duplicate is not None:
        own = scores.first_duplicate == torch.arange(n)
        several = torch.bincount(scores.first_duplicate, minlength=n)[scores.first_duplicate] > 1
        rows["duplicate"] = pa.array(several.numpy())
        rows["duplicate_of"] = pa.array(scores.first_duplicate.numpy(), mask=own.numpy())
    if len(scores.region):
        rows["region"] = pa.array(list(scores.region), pa.string())
    about: dict[str, Any] = {}
    for method, said in scores.methods.items():
        rows |= {name: pa.array(values.numpy().astype(np.float32)) for name, values in said.columns.items()}
        about[method] = {"columns": list(said.columns), "config": dict(said.config), "seconds": said.seconds}
    described = {
        "format": _FORMAT, "source": scores.source, "hash": scores.content_hash, "classes": list(scores.classes),
        "methods": about, DIGEST: _digest(scores),
    }  # fmt: skip
    table = pa.table(rows).replace_schema_metadata({"potstill": json.dumps(described)})
    buffer = BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    write_atomic(path, buffer.getvalue())


def _digest(scores: Scores) -> str:
    """Return the hash of all scores, in the order of the samples."""
    methods = {name: [m.config, m.seconds, list(m.columns)] for name, m in scores.methods.items()}
    names, region = [_text(name) for name in scores.names], list(map(str, scores.region))
    said = [scores.source, scores.content_hash, [_text(c) for c in scores.classes], names, region, methods]
    made = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    columns = [m.columns[c] for _, m in sorted(scores.methods.items()) for c in m.columns]
    for values in (scores.labels, scores.first_duplicate, *columns):
        if values is not None:
            made.update(values.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def _text(name: str) -> str:
    """Return a file name as valid UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_scores(path: str | Path) -> Scores:
    """Read a file of scores.

    Raises:
        PotstillError: the file is not one, incomplete or damaged.
    """
    path = Path(path)
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        table.validate(full=True)
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file; make it with potstill score") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())[:200]
        raise PotstillError(f"{path}: not a parquet file that can be read ({what}); make it again") from error
    try:
        said = parse_json((table.schema.metadata or {}).get(b"potstill", b"null"))
        scores = _scores(table, said)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, pa.ArrowException) as error:
        raise PotstillError(
            f"{path}: not a file of scores ({type(error).__name__}: {' '.join(str(error).split())[:200]}); only files "
            "that potstill score wrote, with all rows and their metadata, can be selected from"
        ) from error
    if said.get(DIGEST) != _digest(scores):
        raise PotstillError(f"{path}: damaged or changed: its scores are not those that were written; make it again")
    return scores


def _scores(table: Any, header: Any) -> Scores:
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"its metadata do not say {_FORMAT}")
    index = table["index"].to_numpy()
    n = len(index)
    if sorted(index.tolist()) != list(range(n)):
        raise ValueError(f"its {n} rows are not those of {n} samples, each once")
    order = np.argsort(index)

    def column(name: str, kind: type) -> Tensor:
        return torch.from_numpy(np.array(table[name].to_numpy()[order], kind))

    methods = {
        method: MethodScores(
            columns={name: column(name, np.float32) for name in about["columns"]}, config=about["config"],
            seconds=float(about["seconds"]),
        )
        for method, about in header["methods"].items()
    }  # fmt: skip
    if not all(isinstance(m.config, dict) for m in methods.values()):
        raise ValueError("the settings of a method are not a mapping")
    if any(bool(values.isnan().any()) for m in methods.values() for values in m.columns.values()):
        raise ValueError("a score is missing or not a number")
    first = None
    if "duplicate_of" in table.column_names:
        filled = table["duplicate_of"].fill_null(-1).to_numpy()[order].astype(np.int64)
        first = torch.from_numpy(np.where(filled < 0, np.arange(n), filled))
    names = tuple(np.array(table["name"].to_pylist())[order].tolist()) if "name" in table.column_names else ()
    region = np.array(table["region"].to_pylist())[order].tolist() if "region" in table.column_names else []
    return Scores(
        source=str(header["source"]), content_hash=str(header["hash"]), labels=column("label", np.int64),
        classes=tuple(map(str, header["classes"])), methods=methods, names=names, first_duplicate=first, region=region,
    )  # fmt: skip
