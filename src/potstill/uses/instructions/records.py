"""Prompts with responses from JSON lines, CSV, Parquet, frames and data sets of Hugging Face, with their rows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Int
from torch import Tensor

from potstill._util.input_limits import check_limit, limit_hint, limits
from potstill.data.error_text import reason
from potstill.data.texts import JSON_SUFFIXES, read_text_csv
from potstill.errors import PotstillError

__all__ = ["Records", "read_records"]

_PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("prompt", "completion"), ("prompt", "response"),
    ("inputs", "targets"), ("input", "output"), ("question", "answer"), ("query", "response"),
)  # fmt: skip
"""Columns of prompts and responses that are known, in order of preference."""
_CONTEXT = ("input", "context")
"""Columns that belong behind an instruction."""
_TALKS = ("messages", "conversations")
_TABLES = (".csv", ".tsv", ".parquet", *JSON_SUFFIXES)
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Records:
    """Prompts with responses, as they were read."""

    name: str
    prompts: tuple[str, ...]
    """Empty where there is a text alone."""
    responses: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    """The row that each is of, with all its columns."""
    places: tuple[int, ...]
    """Number of the row in the data, from 0."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def digest(self) -> str:
        """A hash of the texts."""
        found = hashlib.sha256(json.dumps([self.prompts, self.responses]).encode())
        return found.hexdigest()[:16]

    def texts(self) -> list[str]:
        """Return each prompt and response as one text."""
        return [f"{a}\n{b}" if a else b for a, b in zip(self.prompts, self.responses, strict=True)]

    def sizes(self) -> list[int]:
        """Return the UTF-8 bytes of each prompt and response."""
        return [
            len((a + b).encode("utf-8", "surrogatepass")) for a, b in zip(self.prompts, self.responses, strict=True)
        ]

    def subset(self, at: Int[Tensor, " m"]) -> "Records":
        """Return the records at these positions."""
        index = at.tolist()
        prompts, responses, rows, places = (
            tuple(part[i] for i in index) for part in (self.prompts, self.responses, self.rows, self.places)
        )
        return replace(self, prompts=prompts, responses=responses, rows=rows, places=places)


def read_records(data: object, *, prompt: str | None = None, response: str | None = None) -> Records:
    """Read prompts with responses.

    Args:
        data: a ``.jsonl``, ``.ndjson``, ``.json`` (a list of objects), ``.csv``, ``.tsv`` or ``.parquet`` file, a list
            of mappings, a pandas frame, an Arrow table, or a data set of the Hugging Face library ``datasets``.
        prompt: column of the prompts. Default: that of a known pair, such as ``instruction`` with ``output``; a column
            ``input`` or ``context`` is put behind an instruction. Talks (``messages``) end with the response.
        response: column of the responses, or of texts without prompts.

    Raises:
        PotstillError: the data cannot be read, or their columns are not known.
    """
    rows, name = _rows(data)
    if not rows:
        raise PotstillError(f"{name}: at least one row is required, and there is none; give other data")
    columns = list(dict.fromkeys(key for row in rows[:1000] for key in row))
    prompts, responses, said = _columns(rows, columns, name, prompt, response)
    kept = [n for n, text in enumerate(responses) if text.strip()]
    notes = [f"{name}: {said}"]
    if left := len(rows) - len(kept):
        notes.append(f"{name}: {left:,} of {len(rows):,} responses are empty and were left out")
    if not kept:
        raise PotstillError(f"{name}: every response is empty; name the column with `response=`")
    return Records(
        name=name, prompts=tuple(prompts[n] for n in kept), responses=tuple(responses[n] for n in kept),
        rows=tuple(rows[n] for n in kept), places=tuple(kept), notes=tuple(notes),
    )  # fmt: skip


def _rows(data: object) -> tuple[list[Mapping[str, Any]], str]:
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        return _read_file(path), path.name
    found = data
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a pandas frame
        found = data.to_dict("records")
    elif isinstance(data, pa.Table):
        found = data.to_pylist()
    elif hasattr(data, "column_names") and hasattr(data, "to_list"):  # a data set of Hugging Face
        found = data.to_list()
    if (
        not isinstance(found, Sequence)
        or isinstance(found, str | bytes)
        or not all(isinstance(row, Mapping) for row in found)
    ):
        raise PotstillError(
            f"prompts and responses are read from a file, a list of mappings, a frame or a data set, not from a "
            f"{type(data).__name__}; give one of these"
        )
    return [{str(key): value for key, value in row.items()} for row in found], "rows"


def _read_file(path: Path) -> list[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if suffix not in (*_TABLES, ".json"):
        raise PotstillError(f"{path}: a file of {', '.join((*_TABLES, '.json'))} is required; save it as one of these")
    try:
        if suffix in (".csv", ".tsv"):
            return list(read_text_csv(path).to_pylist())
        if suffix == ".parquet":
            return list(pyarrow.parquet.read_table(path).to_pylist())
        check_limit("cell_bytes", path.stat().st_size, str(path))
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise PotstillError(f"{path}: cannot be read ({reason(error)}); check the path and save it as UTF-8") from None
    if suffix == ".json":
        listed = _parse(text, path, 0)
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise PotstillError(f"{path}: a JSON list of objects is required; save it with one object on each line")
        return listed
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _parse(line, path, number)
        if not isinstance(row, dict):
            raise PotstillError(f"{path}: line {number} must hold a JSON object, not {line.strip()[:40]!r}; mend it")
        rows.append(row)
    return rows


def _parse(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {number} is" if number else "is"
        raise PotstillError(f"{path}: {where} no JSON ({reason(error)}); mend it") from None


def _columns(
    rows: Sequence[Mapping[str, Any]], columns: list[str], name: str, prompt: str | None, response: str | None
) -> tuple[list[str], list[str], str]:
    """Return prompts, responses, and a sentence about where they are from."""
    for asked, option in ((prompt, "prompt"), (response, "response")):
        if asked is not None and asked not in columns:
            raise PotstillError(f"{name}: has no column {asked!r} for `{option}=`; name one of {_listed(columns)}")
    if response is not None:
        of = f"prompts from {prompt!r}, responses from {response!r}" if prompt else f"texts from {response!r}"
        return [_text(row, prompt, name) if prompt else "" for row in rows], _texts(rows, response, name), of
    if prompt is not None:
        raise PotstillError(f"{name}: a column of responses must be named beside that of prompts; add `response=`")
    for talk in _TALKS:
        if talk in columns:
            both = [_talk(row.get(talk), talk, name, n) for n, row in enumerate(rows, 1)]
            return [a for a, _ in both], [b for _, b in both], f"the last answer of each of {talk!r} is its response"
    for first, second in _PAIRS:
        if first in columns and second in columns:
            behind = (
                [c for c in _CONTEXT if c in columns and c not in (first, second)] if first == "instruction" else []
            )
            parts = [_texts(rows, column, name) for column in (first, *behind)]
            prompts = ["\n".join(part for part in each if part.strip()) for each in zip(*parts, strict=True)]
            of = " and ".join(map(repr, (first, *behind)))
            return prompts, _texts(rows, second, name), f"prompts from {of}, responses from {second!r}"
    if "text" in columns:
        return [""] * len(rows), _texts(rows, "text", name), "texts from 'text', without prompts"
    raise PotstillError(
        f"{name}: prompts and responses must be named, as no pair of its columns is known ({_listed(columns)}); add "
        "`prompt=` and `response=`"
    )


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(repr(c[:40]) for c in columns[:_SHOWN]) + more


def _texts(rows: Sequence[Mapping[str, Any]], column: str, name: str) -> list[str]:
    return [_text(row, column, name) for row in rows]


def _text(row: Mapping[str, Any], column: str | None, name: str) -> str:
    value = row.get(column or "")
    if value is None or value != value:  # a missing cell of a frame is not equal to itself
        return ""
    if not isinstance(value, str | int | float):
        raise PotstillError(
            f"{name}: column {column!r} must hold texts, and one cell is a {type(value).__name__}; name another"
        )
    if len(text := str(value)) > limits().cell_bytes:
        raise PotstillError(f"{name}: a text of {len(text):,} characters is too long; {limit_hint('cell_bytes')}")
    return text


def _talk(value: object, column: str, name: str, number: int) -> tuple[str, str]:
    """Return the turns before the last answer, and that answer."""
    turns = []
    for turn in value if isinstance(value, Sequence) and not isinstance(value, str) else []:
        told = turn if isinstance(turn, Mapping) else {}
        who, said = told.get("role", told.get("from")), told.get("content", told.get("value"))
        if not isinstance(who, str) or not isinstance(said, str):
            raise PotstillError(f"{name}: row {number} of {column!r} has a turn without a role and a content; mend it")
        turns.append((who, said))
    answers = [n for n, (who, _) in enumerate(turns) if who in ("assistant", "gpt", "model")]
    if not answers:
        return "", ""
    last = answers[-1]
    return "\n".join(said for _, said in turns[:last]), turns[last][1]
