"""Collect entries from results on disk: distilled sets with their scorecards and leaderboards.

Decoding inputs needs torch, so the caller passes a function for it (`ReadArrays`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from potstill._util.card import CARD, FORMAT, INDEX_FORMAT, parse_card
from potstill._util.run_record import join_record, read_record
from potstill._util.table_columns import column_cells, read_columns
from potstill.errors import PotstillError
from potstill.reports.audit import is_audit
from potstill.reports.diagnosis import is_study
from potstill.reports.entry import Entry, Gallery
from potstill.reports.gallery import shown
from potstill.reports.numbers import read_json, to_estimate
from potstill.reports.snapshots import Snapshots, load_snapshots
from potstill.tasks.metric import Metric

__all__ = ["ReadArrays", "collect", "read_set"]

_MOST_ITEMS = 48
"""Maximum number of displayed items of a set without classes."""
ReadArrays: TypeAlias = Callable[[Path], Mapping[str, np.ndarray]]
"""The arrays of a file: ``inputs`` in data units, ``labels``, and where there are any ``weights`` and ``index``.

Of sets whose targets are no classes also ``targets``, ``columns``, ``captions`` and ``nearest``; of those of one
series ``series``.

Raises `PotstillError` where it is damaged.
"""
_KEPT = ("method", "ipc", "seed", "classes", "input", "source", "bytes", "cost", "outcome")
"""Keys of a leaderboard row or a scorecard that replace metadata of a missing set."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _card(path: Path, metadata: Mapping[str, str] | None) -> Mapping[str, Any]:
    if CARD not in (metadata or {}):
        raise PotstillError(
            f"{path}: holds no metadata, so it is not a distilled set; give a file that potstill distill wrote"
        )
    try:
        card = parse_card(metadata or {})
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: its metadata is not valid JSON ({_line(error)}); distil it again") from error
    written = card.get("format") if isinstance(card, dict) else None
    if written == INDEX_FORMAT:
        raise PotstillError(
            f"{path}: holds the indices of a selection and not its samples; put them together with the data first: "
            "potstill materialize FILE --data DATA --out SET.safetensors"
        )
    if written != FORMAT:
        raise PotstillError(
            f"{path}: its format is {written!r}, but this Potstill reads {FORMAT}; update Potstill or distil it again"
        )
    return join_record(card, read_record(path, (metadata or {}).get("sha256")))


def _gallery(path: Path, arrays: Mapping[str, Any], card: Mapping[str, Any]) -> Gallery | None:
    """Return the displayed inputs in data units, by class where there are classes; ``None`` if they cannot be drawn."""
    names = tuple(map(str, card.get("classes", ())))
    if "targets" in arrays:
        return _unclassed(arrays, card)
    labels, inputs = arrays["labels"], arrays["inputs"]
    shape = tuple(inputs.shape)
    hard = labels if labels.ndim == 1 else labels.argmax(-1)
    if labels.ndim not in (1, 2) or shape[:1] != labels.shape[:1]:
        raise PotstillError(
            f"{path}: {shape[:1]} inputs but {labels.shape[:1]} labels; the file is damaged, distil it again"
        )
    if len(hard) and (hard.min() < 0 or hard.max() >= len(names)):
        raise PotstillError(
            f"{path}: a label is outside its {len(names)} classes; the file is damaged, distil it again"
        )
    weights = arrays.get("weights")
    if weights is not None:
        whole = weights.shape == shape[:1] and bool(np.isfinite(weights).all()) and float(weights.min(initial=0)) >= 0
        if not whole or not float(weights.sum()) > 0:
            raise PotstillError(
                f"{path}: weights must be one number ≥ 0 for each input; the file is damaged, distil it again"
            )
    about = card["input"] if isinstance(card.get("input"), Mapping) else {}
    if len(shape) not in (2, 4) and (len(shape), about.get("kind")) not in ((3, "signal"), (3, "graph")):
        return None
    sizes = tuple(int(size) for size in np.bincount(hard.astype(np.int64), minlength=len(names)))
    index = [int(i) for c, take in enumerate(shown(sizes)) for i in np.flatnonzero(hard == c)[:take]]
    held = np.stack([np.asarray(inputs[i : i + 1])[0] for i in index]) if index else np.zeros((0, *shape[1:]))
    captions = tuple(map(str, arrays.get("captions", ())))
    columns = about.get("columns", ())
    if len(arrays.get("columns", ())):
        columns = arrays["columns"]
    return Gallery(
        inputs=held.astype(np.float32),
        labels=labels[index],
        classes=names,
        counts=sizes,
        columns=tuple(map(str, columns)),
        real="index" in arrays,
        weights=None if weights is None else weights[index] / weights.mean(dtype=np.float64),
        scores=None if "scores" not in arrays else (float(arrays["scores"].min()), float(arrays["scores"].max())),
        captions=tuple(captions[i] for i in index) if len(captions) == len(inputs) else (),
        kind=str(about.get("kind", "")),
        units=str(about.get("units", "")),
        frames=tuple(about.get("frames", ())),
        **_cells(card, held),
    )


def _cells(card: Mapping[str, Any], inputs: np.ndarray) -> dict[str, Any]:
    """Return cells, columns and those without numbers of rows as they stand in their source; none where the metadata
    do not say."""
    about = card["input"] if isinstance(card.get("input"), Mapping) else {}
    if about.get("kind") != "table" or inputs.ndim != 2 or not isinstance(card.get("source"), Mapping):
        return {}
    try:
        columns = read_columns(card, inputs.shape[1])
    except PotstillError:
        return {}  # the numbers are shown as they are
    if columns is None:
        return {}
    at, cells = 0, []
    for column in columns:
        values = column_cells(column, np.nan_to_num(inputs[:, at : at + column.width]).astype(np.float32))
        cells.append([_cell(value) for value in values.to_pylist()])
        at += column.width
    words = tuple(column.name for column in columns if column.kind != "number")
    return {"cells": tuple(zip(*cells, strict=True)), "cell_columns": tuple(c.name for c in columns), "words": words}


def _cell(value: object) -> str:
    """Return a cell as a person writes it."""
    if value is None:
        return "—"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="minutes")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _unclassed(arrays: Mapping[str, Any], card: Mapping[str, Any]) -> Gallery | None:
    """Return the displayed inputs of a set without classes; ``None`` if they cannot be drawn."""
    inputs, targets = arrays["inputs"], arrays["targets"]
    if inputs.ndim not in (2, 3, 4) or len(inputs) != len(targets):
        return None
    task = card["task"] if isinstance(card.get("task"), Mapping) else {}
    masked = task.get("name") == "segmentation" and targets.shape[1:] == inputs.shape[2:]
    boxed = task.get("name") == "detection" and inputs.ndim == 4 and targets.ndim == 3
    called = task.get("labels", ()) if masked or boxed else list(arrays.get("target_names", task.get("targets", ())))
    real = np.issubdtype(targets.dtype, np.floating) and bool((targets > np.finfo(np.float32).min).all())  # no padding
    return Gallery(
        inputs=inputs[:_MOST_ITEMS].astype(np.float32),
        labels=np.zeros(len(inputs[:_MOST_ITEMS]), np.int64),
        classes=(),
        counts=(len(inputs),),
        columns=tuple(map(str, arrays.get("columns", ()))),
        real="index" in arrays,
        targets=targets[:_MOST_ITEMS] if real and not boxed and targets.ndim < 3 else None,
        masks=targets[:_MOST_ITEMS] if masked else None,
        boxes=targets[:_MOST_ITEMS] if boxed else None,
        target_names=tuple(map(str, called)) if isinstance(called, list | tuple) else (),
        kind=str(about.get("kind", "")) if isinstance(about := card.get("input"), Mapping) else "",
        titles=tuple(map(str, titles)) if isinstance(titles := task.get("titles"), list | tuple) else (),
        captions=tuple(map(str, arrays.get("captions", ())))[:_MOST_ITEMS],
        nearest=tuple(map(str, arrays.get("nearest", ())))[:_MOST_ITEMS],
        series=None if "series" not in arrays else arrays["series"].astype(np.float32),
        **_cells(card, inputs[:_MOST_ITEMS]),
    )


def read_set(path: Path, read_arrays: ReadArrays | None = None) -> tuple[Mapping[str, Any], Gallery | None]:
    """Return the metadata of a distilled set and its displayed inputs.

    Args:
        read_arrays: decodes the inputs of a set; without it encoded inputs are not shown.

    Raises:
        PotstillError: the file is missing, truncated, not a distilled set, or of another format.
    """
    if not path.is_file():
        raise PotstillError(f"{path}: no such file; check the path")
    try:
        with safe_open(path, framework="np") as file:
            card = _card(path, file.metadata())
        return card, None if read_arrays is None else _gallery(path, read_arrays(path), card)
    except (SafetensorError, OSError) as error:
        raise PotstillError(
            f"{path}: not a safetensors file, or cut short ({error}); copy or distil it again"
        ) from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise PotstillError(
            f"{path}: its metadata or tensors are not what {FORMAT} says ({error}); distil it again"
        ) from error


@dataclass(slots=True)
class _Set:
    """A distilled set on disk and its scorecards."""

    path: Path
    card: Mapping[str, Any]
    gallery: Gallery | None
    scorecards: list[Mapping[str, Any]] = field(default_factory=list)
    study: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    snapshots: Snapshots | None = None

    def entries(self) -> list[Entry]:
        """Return one entry, or one for each of several scorecards."""
        name = self.path.stem
        several = len(self.scorecards) > 1
        scorecards: list[Mapping[str, Any] | None] = [*self.scorecards] or [None]
        entries = [
            Entry(
                name=name, card=self.card, scorecard=s, gallery=self.gallery, study=self.study, audit=self.audit,
                snapshots=self.snapshots,
                file_bytes=self.path.stat().st_size if self.path.is_file() else None, file_stem=name,
            )
            for s in scorecards
        ]  # fmt: skip
        horizons = {entry.horizon_label for entry in entries}
        return entries if not several else [
            replace(e, name=" · ".join([
                name, *(str((e.scorecard or {}).get(key, "")) for key in ("protocol", "network")),
                *[e.horizon_label] * (len(horizons) > 1)
            ]))
            for e in entries
        ]  # fmt: skip


def _is_scorecard(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("score", value.get("accuracy")), dict)


def _score_entry(scorecard: Mapping[str, Any]) -> Any:
    return scorecard.get("score") or scorecard.get("accuracy")


def _check_fractions(path: Path, scorecard: Mapping[str, Any]) -> None:
    """Check that fractions lie in [0, 1]: a percentage would be shown a hundred times too large."""
    if Metric.from_scorecard(scorecard).unit != "fraction":
        return
    own = _score_entry(scorecard)
    groups = [scorecard.get(key) for key in ("baselines", "networks")]
    held = [value for group in groups if isinstance(group, Mapping) for value in group.values()]
    for value in [own, scorecard.get("full"), *held]:
        e = to_estimate(value)
        if e is not None and not 0 <= e.mean <= 1:
            raise PotstillError(
                f"{path}: an accuracy must be a fraction in [0,1], but one is {e.mean:g}; divide by 100"
            )
    if to_estimate(own) is None:
        raise PotstillError(f"{path}: the scorecard's accuracy has no mean; evaluate the set again")


def _rows(path: Path, board: Any) -> Sequence[Mapping[str, Any]]:
    """Return a leaderboard's rows; scorecards without baselines get the row of ``random`` of the same size as one: it
    has as many samples, whatever their bytes.
    """
    rows = board.get("rows") if isinstance(board, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _named(row) for row in rows):
        raise PotstillError(
            f"{path}: neither a scorecard (accuracy) nor a leaderboard (rows); give what evaluate or compare wrote"
        )
    source = {"source": {"name": board["source"]}} if isinstance(board.get("source"), str) else {}
    completed_rows = [dict(source, **row) for row in rows]
    for row in completed_rows:
        row["scorecard"] = row["scorecard"] if _is_scorecard(row.get("scorecard")) else None
    randoms = {
        row.get("ipc"): row["scorecard"] for row in completed_rows if row.get("method") == "random" and row["scorecard"]
    }
    for row in completed_rows:
        score, random = row["scorecard"], randoms.get(row.get("ipc"))
        if score is None:
            continue
        _check_fractions(path, score)
        if random is not None and row.get("method") != "random" and not score.get("baselines"):
            stored = random["bytes"].get("total") if isinstance(random.get("bytes"), dict) else None
            about = random["set"] if isinstance(random.get("set"), dict) else {}
            baseline = {
                "n": random.get("n"), **(random.get("score") or random["accuracy"]), "bytes": stored,
                "items": about.get("items"), "codec": about.get("codec"), "difference": row.get("difference"),
            }  # fmt: skip
            row["scorecard"] = {**score, "baselines": {"random-items": baseline}}
    return completed_rows


def _named(row: Mapping[str, Any]) -> bool:
    """Return True if a row's method and size have valid types."""
    method, ipc = row.get("method", ""), row.get("ipc", 0)
    return isinstance(method, str) and isinstance(ipc, int | float)


_RESULTS = ("scorecard", "study", "audit")
"""Results that lie beside a set as ``SET.NAME.json``."""


def _files(path: Path) -> list[Path]:
    """Return the result files in ``path``, or the single file it is, of a set with the results beside it."""
    if not path.is_dir():
        if not path.exists():
            raise PotstillError(f"{path}: no such file or folder; check the path")
        beside = [path.with_suffix(f".{kind}.json") for kind in _RESULTS] if path.suffix == ".safetensors" else []
        return [path, *(result for result in beside if result.is_file())]
    found = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    kept = [
        p
        for p in found
        if p.suffix == ".safetensors"
        or p.name == "leaderboard.json"
        or p.name.endswith(tuple(f"{kind}.json" for kind in _RESULTS))
    ]
    if not kept:
        raise PotstillError(
            f"{path}: holds no *.safetensors, no scorecard.json and no leaderboard.json; give a folder with results"
        )
    return kept


def _foreign(path: Path) -> bool:
    """Return True for a safetensors file that is no set: a checkpoint, a network's weights, indices alone."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        return CARD not in metadata or parse_card(metadata).get("format") == INDEX_FORMAT
    except (SafetensorError, OSError, PotstillError, ValueError, AttributeError):
        return False  # a damaged file is reported, not passed over


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".json")
    return name.removesuffix(".scorecard").removesuffix(".study").removesuffix(".audit")


def _same(card: Mapping[str, Any], description: Mapping[str, Any]) -> bool:
    """Return True if a scorecard or row names the set with this metadata."""
    keys = [key for key in ("method", "ipc", "seed") if description.get(key) is not None]
    return "method" in keys and all(card.get(key) == description[key] for key in keys)


def _owner(sets: Sequence[_Set], path: Path, description: Mapping[str, Any]) -> _Set | None:
    """Return the set of a scorecard or row at ``path``: by file, stem or content, or the only one beside it."""
    named = description.get("file")
    if isinstance(named, str):
        target = (path.parent / named).resolve()
        return next(
            (s for s in sets if s.path.resolve() == target),
            next((s for s in sets if s.path.name == Path(named).name), None),
        )
    beside = [s for s in sets if s.path.parent.resolve() == path.parent.resolve()]
    by_stem = next((s for s in beside if s.path.stem == _stem(path)), None)
    if by_stem is not None:
        return by_stem
    alike = [s for s in beside or sets if _same(s.card, description)]
    if len(alike) == 1:
        return alike[0]
    return beside[0] if len(beside) == 1 and "method" not in description and path.name == "scorecard.json" else None


def _row_entry(row: Mapping[str, Any], scorecard: Mapping[str, Any] | None) -> Entry:
    card = {key: row[key] for key in _KEPT if row.get(key) is not None}
    if row.get("error"):
        card["outcome"] = {"kind": "failed", "message": str(row["error"])}
    name = "-".join(str(row[key]) for key in ("method", "ipc") if row.get(key) is not None)
    return Entry(name=name or "unnamed", card=card, scorecard=scorecard)


def collect(paths: Sequence[Path], read_arrays: ReadArrays | None = None) -> list[Entry]:
    """Return entries for everything in ``paths``: folders are searched, files are taken as they are.

    A scorecard belongs to the set that it names under ``file``, or whose stem it shares (``petals.scorecard.json``), or
    whose method, size and seed it states; ``scorecard.json`` belongs to the only set in its folder.

    Args:
        read_arrays: decodes sets; without it their inputs are not shown.

    Raises:
        PotstillError: a path is missing, a file is damaged or of another kind, or a folder holds no results.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    given = set(paths)
    sets = [
        _Set(path, *read_set(path, read_arrays), snapshots=load_snapshots(path))
        for path in files
        if path.suffix == ".safetensors" and (path in given or not _foreign(path))
    ]
    loose: list[Entry] = []
    rows: list[tuple[Path, Mapping[str, Any]]] = []
    for path in files:
        if path.suffix == ".safetensors":
            continue
        value = read_json(path, "write it again")
        if is_study(value):
            if (owner := _owner(sets, path, value)) is not None:
                owner.study = value
            else:
                loose.append(Entry(name=_stem(path), card=dict(value.get("set") or {}), study=value))
            continue
        if is_audit(value):
            if (owner := _owner(sets, path, value)) is not None:
                owner.audit = value
            else:
                loose.append(Entry(name=_stem(path), card={}, audit=value))
            continue
        if not _is_scorecard(value):
            rows += [(path, row) for row in _rows(path, value)]
            continue
        _check_fractions(path, value)
        if (owner := _owner(sets, path, value)) is not None:
            owner.scorecards.append(value)
        else:
            card = {key: value[key] for key in _KEPT if value.get(key) is not None and key != "cost"}
            loose.append(Entry(name=_stem(path), card=card, scorecard=value))
    for path, row in rows:
        scorecard, owner = row["scorecard"], _owner(sets, path, row)
        if owner is None:
            loose.append(_row_entry(row, scorecard))
        elif scorecard is not None:
            # compare writes each scorecard beside its set as well; the row knows more, so it takes that one's place.
            others = [s for s in owner.scorecards if _score_entry(s) != _score_entry(scorecard)]
            owner.scorecards = [*others, scorecard]
    return [*(entry for found in sets for entry in found.entries()), *loose]
