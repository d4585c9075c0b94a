"""Rows of a folder of `potstill compare`, from its leaderboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError
from potstill.reports.entry import Entry
from potstill.reports.numbers import Estimate, format_count, read_json, to_estimate, to_number
from potstill.tasks.metric import Metric
from potstill.verdicts import MODEL, BoardVerdict, judge_leaderboard

__all__ = ["Board", "Row", "read_board"]

Read = Callable[[Path], Entry]
"""Reads a distilled set for display."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one size, with one codec, under one protocol.

    ``seconds`` is the time of making one set, ``bytes`` the stored size. ``spent`` and ``measuring`` are the seconds of
    making and of measuring all of its sets. ``best`` and ``not_told_apart`` (from the best) are within its size and
    protocol.
    """

    id: str
    method: str
    unit: str
    amount: float
    protocol: str
    variant: str = ""
    scorecard: Mapping[str, Any] = field(default_factory=dict)
    score: Estimate | None = None
    over: str = "students"
    difference: Estimate | None = None
    p: float | None = None
    bytes: float | None = None
    items: float | None = None
    codec: str | None = None
    seconds: float | None = None
    spent: float | None = None
    measuring: float | None = None
    rank: int | None = None
    best: bool = False
    not_told_apart: bool = False
    error: str = ""
    entry: Entry | None = None
    file: str = ""
    problem: str = ""
    network: str = ""
    """Description of a model of the same bytes; empty for a set."""

    @property
    def metric(self) -> Metric:
        return Metric.from_scorecard(self.scorecard or None)

    @property
    def is_model(self) -> bool:
        """True for a network of the same bytes, which is no set."""
        return self.method == MODEL

    @property
    def full(self) -> Estimate | None:
        """Score on all real data, measured alike."""
        return to_estimate(self.scorecard.get("full"))

    @property
    def label(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def size(self) -> str:
        """The budget in words: ``5 per class``."""
        unit = {"ipc": "per class", "items": "in all", "bytes": "bytes"}.get(self.unit, self.unit)
        return f"{format_count(self.amount)} {unit}"

    @property
    def group(self) -> tuple[str, str, float]:
        """Key that must be equal before two rows are ranked."""
        return self.protocol, self.unit, self.amount

    @property
    def flags(self) -> str:
        return " ".join(word for word in ("optimistic", "quick") if self.scorecard.get(word) is True)


@dataclass(frozen=True, kw_only=True)
class Board:
    """All rows of a folder, the tests, and the progress of the run.

    ``findings`` holds one sentence for each size and protocol, in their order; ``test`` describes the test.
    """

    source: str
    rows: Sequence[Row]
    findings: Sequence[tuple[tuple[str, str, float], str]]
    test: str
    fair: str = ""
    done: int | None = None
    total: int | None = None
    making: Sequence[str] = ()
    models: Sequence[Row] = ()
    """Networks of the same bytes, which are no sets."""
    verdict: BoardVerdict = field(default_factory=lambda: judge_leaderboard({}))

    @property
    def measured(self) -> list[Row]:
        return [row for row in self.rows if row.score is not None]

    @property
    def by_size(self) -> list[Row]:
        """Rows by size, best first within each."""
        return sorted(self.rows, key=lambda row: (row.unit, row.amount, row.rank or 99))

    def sets_by_size(self, is_shown: Callable[[Row], bool]) -> dict[str, list[Row]]:
        """Return the first shown row of each set, by size."""
        first: dict[str, Row] = {}
        for row in filter(is_shown, self.by_size):
            first.setdefault(row.file, row)
        rows_by_size: dict[str, list[Row]] = {}
        for row in first.values():
            rows_by_size.setdefault(row.size, []).append(row)
        return rows_by_size


def read_board(folder: Path, read: Read) -> Board:
    """Return the rows of the ``leaderboard.json`` in ``folder``; none while the first cell is being made.

    Args:
        read: reads a set; a row whose set cannot be read says why.

    Raises:
        PotstillError: the leaderboard is damaged, or nothing of a comparison is there.
    """
    making = sorted(p.name.split(".safetensors.")[0] for p in folder.glob("*.safetensors.checkpoint"))
    path = folder / "leaderboard.json"
    if not path.is_file() and not making:
        raise PotstillError(f"{folder}: holds no leaderboard.json; give the folder of a comparison")
    held = _mapping(read_json(path, "run potstill compare again")) if path.is_file() else {"rows": []}
    if not isinstance(held.get("rows"), list) or not all(isinstance(row, dict) for row in held["rows"]):
        raise PotstillError(f"{path}: a leaderboard with rows is needed; run potstill compare again")
    rows = [_with_set(_row(row), folder, read) for row in held["rows"]]
    verdicts = held.get("verdicts")
    verdicts = [v for v in verdicts if isinstance(v, dict)] if isinstance(verdicts, list) else []
    models = held["models"] if isinstance(held.get("models"), list) else []
    real = {row.id: row.entry.gallery.real for row in rows if row.entry is not None and row.entry.gallery is not None}
    done, total = to_number(held.get("done")), to_number(held.get("total"))
    return Board(
        source=str(held.get("source") or folder.name), rows=rows,
        findings=[(_group(v), str(v.get("text") or "")) for v in verdicts], test=str(held.get("test") or ""),
        fair=str(held.get("fair") or ""), done=None if done is None else int(done),
        total=None if total is None else int(total), making=making,
        models=[_model_row(model) for model in models if isinstance(model, dict)],
        verdict=judge_leaderboard({"source": folder.name, **held}, real),
    )  # fmt: skip


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _group(value: Mapping[str, Any]) -> tuple[str, str, float]:
    return str(value.get("protocol") or ""), str(value.get("unit") or "ipc"), to_number(value.get("amount")) or 0.0


def _row(row: Mapping[str, Any]) -> Row:
    card, gap = _mapping(row.get("scorecard")), _mapping(row.get("difference"))
    protocol, unit, amount = _group(row)
    asked = [str(row[key]) for key in ("parametrization", "requested_codec") if row.get(key) is not None]
    rank = to_number(row.get("rank"))
    return Row(
        id=str(row.get("id") or ""),
        method=str(row.get("method") or ""),
        unit=unit,
        amount=amount,
        protocol=protocol,
        variant=", ".join(asked),
        scorecard=card,
        score=to_estimate(row.get("score"), card.get("n")),
        over=str(_mapping(row.get("score")).get("over") or "students"),
        difference=to_estimate(gap),
        p=next((x for x in (to_number(gap.get("p_holm")), to_number(gap.get("p"))) if x is not None), None),
        bytes=to_number(row.get("bytes")),
        items=to_number(row.get("items")),
        codec=str(row.get("codec") or "") or None,
        seconds=to_number(row.get("seconds")),
        spent=_sum(row, "seconds"),
        measuring=_sum(row, "evaluate_seconds"),
        rank=None if rank is None else int(rank),
        best=row.get("best") is True,
        not_told_apart=row.get("not_told_apart") is True,
        error=str(row.get("error") or ""),
        file=Path(str(row.get("file") or "")).name,
    )


def _model_row(model: Mapping[str, Any]) -> Row:
    """Return the row of a network, whose score stands for a scorecard."""
    return replace(
        _row({**model, "method": MODEL}), scorecard={"score": _mapping(model.get("score"))},
        network=str(model.get("network") or ""), spent=None, measuring=None,
    )  # fmt: skip


def _sum(row: Mapping[str, Any], key: str) -> float | None:
    """Sum over a row's sets, as far as known."""
    cells = row.get("cells")
    held = [_mapping(cell).get(key) for cell in cells] if isinstance(cells, list) else [row.get(key)]
    found = [x for x in map(to_number, held) if x is not None]
    return sum(found) if found else None


def _with_set(row: Row, folder: Path, read: Read) -> Row:
    """Return the row with its set, or with the reason why that cannot be read."""
    path = folder / row.file
    if not row.file or not path.is_file():
        return row
    try:
        return replace(row, entry=replace(read(path), scorecard=row.scorecard or None))
    except PotstillError as error:
        return replace(row, problem=str(error))
