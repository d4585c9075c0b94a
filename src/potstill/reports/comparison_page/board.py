"""Rows of a folder of `potstill compare`: from its leaderboard, or from scorecards while there is none yet."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError
from potstill.reports.entry import Entry
from potstill.reports.numbers import (
    Estimate,
    format_count,
    format_difference,
    format_score,
    significant,
    to_estimate,
    to_number,
)
from potstill.tasks.metric import Metric

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

    @property
    def metric(self) -> Metric:
        return Metric.from_scorecard(self.scorecard or None)

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
    """Return the rows of ``folder``: of its ``leaderboard.json``, or of the scorecards written so far.

    Args:
        read: reads a set; a row whose set cannot be read says why.

    Raises:
        PotstillError: the leaderboard is damaged, or nothing of a comparison is there.
    """
    making = sorted(p.name.split(".safetensors.")[0] for p in folder.glob("*.safetensors.checkpoint"))
    path = folder / "leaderboard.json"
    held = _json(path) if path.is_file() else {}
    whole = held.get("rows")
    if path.is_file() and not (isinstance(whole, list) and all(isinstance(row, dict) for row in whole)):
        raise PotstillError(f"{path}: a leaderboard with rows is needed; run potstill compare again")
    rows = [_row(row, held) for row in whole] if isinstance(whole, list) else _loose(folder)
    if not rows and not making:
        raise PotstillError(f"{folder}: holds no leaderboard.json and no scorecards; give the folder of a comparison")
    rows = [_with_set(row, folder, read) for row in rows]
    tested = held.get("verdicts")
    if isinstance(tested, list):
        said = [(_group(v), str(v.get("text") or "")) for v in tested if isinstance(v, dict)]
        how = str(held.get("test") or "")
    else:
        rows, said = _ranked(rows)
        how = (
            "Not told apart: the 95% interval of the difference from the best includes zero (students of one set, not "
            "corrected for the number of methods)."
        )
    entry = next((row.entry for row in rows if row.entry is not None), None)
    done, total = to_number(held.get("done")), to_number(held.get("total"))
    return Board(
        source=str(held.get("source") or (entry.source if entry else "") or folder.name),
        rows=rows,
        findings=said,
        test=how,
        fair=str(held.get("fair") or ""),
        done=None if done is None else int(done),
        total=None if total is None else int(total),
        making=making,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: not valid JSON ({str(error)[:100]}); run potstill compare again") from error
    return found if isinstance(found, dict) else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _group(value: Mapping[str, Any]) -> tuple[str, str, float]:
    return str(value.get("protocol") or ""), str(value.get("unit") or "ipc"), to_number(value.get("amount")) or 0.0


def _row(row: Mapping[str, Any], leaderboard: Mapping[str, Any]) -> Row:
    card = _mapping(row.get("scorecard"))
    settings = _mapping(card.get("settings"))
    unit = str(row.get("unit") or next((u for u in ("bytes", "items", "ipc") if u in settings), "ipc"))
    amount = next(
        (x for x in map(to_number, (row.get("amount"), settings.get(unit), row.get("ipc"))) if x is not None), 0
    )
    method = str(row.get("method") or "")
    score = row.get("score") or card.get("score") or card.get("accuracy")
    gap = _mapping(row.get("difference"))
    asked = [str(row[key]) for key in ("parametrization", "requested_codec") if row.get(key) is not None]
    protocol = str(row.get("protocol") or leaderboard.get("protocol") or card.get("protocol") or "")
    paid = [to_number(x) for x in (row.get("seconds"), _mapping(card.get("making")).get("seconds"))]
    return Row(
        id=str(row.get("id") or "-".join((method, f"{unit}{amount:g}", *asked)) + f"@{protocol}"),
        method=method,
        unit=unit,
        amount=amount,
        protocol=protocol,
        variant=", ".join(asked),
        scorecard=card,
        score=to_estimate(score, card.get("n")),
        over=str(_mapping(score).get("over") or "students"),
        difference=to_estimate(gap),
        p=next((x for x in (to_number(gap.get("p_holm")), to_number(gap.get("p"))) if x is not None), None),
        bytes=_first(row.get("bytes"), _mapping(card.get("bytes")).get("total")),
        items=_first(row.get("items"), _mapping(card.get("set")).get("items")),
        codec=str(row.get("codec") or _mapping(card.get("set")).get("codec") or "") or None,
        seconds=next((x for x in paid if x is not None), None),
        spent=_sum(row, "seconds"),
        measuring=_sum(row, "evaluate_seconds"),
        rank=None if to_number(row.get("rank")) is None else int(row["rank"]),
        best=row.get("best") is True,
        not_told_apart=row.get("not_told_apart") is True,
        error=str(row.get("error") or ""),
        file=Path(str(row.get("file") or card.get("file") or "")).name,
    )


def _sum(row: Mapping[str, Any], key: str) -> float | None:
    """Sum over a row's sets, as far as known."""
    cells = row.get("cells")
    held = [_mapping(cell).get(key) for cell in cells] if isinstance(cells, list) else [row.get(key)]
    found = [x for x in map(to_number, held) if x is not None]
    return sum(found) if found else None


def _first(*values: object) -> float | None:
    return next((x for x in map(to_number, values) if x is not None), None)


def _loose(folder: Path) -> list[Row]:
    """Return rows of scorecards without a leaderboard: the first set of each."""
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob("*.scorecard.json")):
        try:
            card = _json(path)
        except PotstillError:
            continue  # it is being written
        settings = _mapping(card.get("settings"))
        if not settings.get("method") or to_number(settings.get("set")):
            continue
        stem = path.name.removesuffix(".scorecard.json")
        row = {
            **settings,
            "scorecard": card,
            "file": card.get("file") or f"{stem}.safetensors",
            "requested_codec": settings.get("codec"),
            "codec": None,
            "seconds": None,
            "id": stem,
        }
        rows[stem] = _row(row, {})
    return list(rows.values())


def _with_set(row: Row, folder: Path, read: Read) -> Row:
    """Return the row with its set, completed from the set's metadata."""
    path = folder / row.file
    if not row.file or not path.is_file():
        return row
    try:
        entry = replace(read(path), scorecard=row.scorecard or None)
    except PotstillError as error:
        return replace(row, problem=str(error))
    seconds = row.seconds if row.seconds is not None else to_number(entry.card_section("cost").get("seconds"))
    return replace(row, entry=entry, seconds=seconds, bytes=row.bytes if row.bytes is not None else entry.bytes)


def _ranked(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[tuple[str, str, float], str]]]:
    """Rank rows of scorecards without a leaderboard, and return a finding for each group."""
    out: list[Row] = []
    findings: list[tuple[tuple[str, str, float], str]] = []
    for group in sorted({row.group for row in rows}):
        members = [row for row in rows if row.group == group]
        scored = sorted(
            (row for row in members if row.score is not None),
            key=lambda row: -row.metric.sign * (row.score.mean if row.score else 0.0),
        )
        if scored:
            best, metric = scored[0], scored[0].metric
            alikes = [not significant(_score_of(best) - _score_of(row), metric) for row in scored]
            out += [
                replace(row, rank=k + 1, best=k == 0, not_told_apart=alike)
                for k, (row, alike) in enumerate(zip(scored, alikes, strict=True))
            ]
            findings.append((group, _finding(scored, alikes)))
        out += [row for row in members if row.score is None]
    return out, findings


def _score_of(row: Row) -> Estimate:
    return row.score or Estimate(mean=0.0)


def _finding(scored: Sequence[Row], not_told_apart: Sequence[bool]) -> str:
    best, metric = scored[0], scored[0].metric
    text = f"Best mean: {best.label}, {format_score(_score_of(best).mean, metric)}."
    rivals = [row.label for row, alike in zip(scored[1:], not_told_apart[1:], strict=True) if alike]
    if rivals:
        text += f" Not told apart from it: {', '.join(rivals)}."
    random = next((row for row in scored if row.method == "random"), None)
    if random is not None and random is not best:
        gap = best.difference or _score_of(best) - _score_of(random)
        what = f"{format_difference(gap.mean, metric)} {metric.difference_unit}"
        text += f" Against random: {what}." if significant(gap, metric) > 0 else f" Not shown to beat random: {what}."
    elif random is best:
        text += " No method beat random samples here."
    return text
