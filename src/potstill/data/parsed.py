"""Numbers and dates written as text: a column in one format is parsed, a column in no consistent format is refused."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.errors import PotstillError

__all__ = ["ParsedColumn", "dictionary_codes", "is_missing_marker", "parse_column"]

MARKERS = frozenset(
    (
        "?", "-", "--", "---", "–", "—", ".", "..", "*", "n.a.", "n.a", "n/a", "#n/a", "na", "n.d.", "n/d", "k.a.",
        "nan", "null", "none", "nil", "missing", "unknown", "unbekannt", "\\n", "(null)", "<na>", "#null!", "#div/0!",
        "#value!", "#ref!", "#num!", "not available", "not applicable", "no data",
    )
)  # fmt: skip
"""Lower-case texts that stand for a missing number."""

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1)
_FEW = 10
"""Columns of at most this many distinct whole numbers as text count as codes, not numbers."""
_FIRST = 2000
"""Distinct texts examined to decide whether a column is numeric."""

_CURRENCY = (
    r"[$€£¥₹₽₩₺₴₫฿]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|BRL|MXN|ZAR|US\$|R\$|kr|zł)(?![a-z])"
)
_CELL = re.compile(
    rf"(?P<sign>[+\-−]?)\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[+\-−]?)(?P<body>[0-9.,'’ \u00a0\u202f]*[0-9]\.?"
    rf"|[0-9]+)(?P<power>[eE][+-]?[0-9]{{1,3}})?\s*(?P<after>%|{_CURRENCY})?"
)
_GROUPS = r"[1-9][0-9]{0,2}"


def _grouped(between: str, point: str) -> tuple[re.Pattern[str], str, str]:
    """Return the style of numbers with thousands after one of ``between``."""
    decimals = rf"(?:{re.escape(point)}[0-9]{'*' if point == '.' else '+'})?"
    return re.compile(rf"(?:[0-9]+|{_GROUPS}(?:[{between}][0-9]{{3}})+){decimals}"), between, point


_BLANKS = " \u00a0\u202f"
_STYLES: dict[str, tuple[re.Pattern[str], str, str]] = {
    "a decimal point": (re.compile(r"[0-9]*\.?[0-9]*"), "", "."),
    "a decimal comma": (re.compile(r"[0-9]*,?[0-9]+"), "", ","),
    "thousands after a comma": (
        re.compile(rf"(?:[0-9]+|{_GROUPS}(?:,[0-9]{{3}})+|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}})(?:\.[0-9]*)?"),
        ",", ".",
    ),
    "thousands after a point and a decimal comma": _grouped(".", ","),
    "thousands after a blank": _grouped(_BLANKS, "."),
    "thousands after a blank and a decimal comma": _grouped(_BLANKS, ","),
    "thousands after an apostrophe": _grouped("'’", "."),
}  # fmt: skip
"""Number styles: pattern without the sign, group separators, decimal sign."""
_TIME = (
    r"(?:(?:T|,?\s+)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:\.[0-9]+)?))?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_DATES: dict[str, re.Pattern[str]] = {
    "year, month, day": re.compile(
        rf"(?P<year>[0-9]{{4}})(?P<s>[-/.])(?P<month>[0-9]{{1,2}})(?:(?P=s)(?P<day>[0-9]{{1,2}}){_TIME})?"
    ),
    "day, month, year": re.compile(
        rf"(?P<day>[0-9]{{1,2}})(?P<s>[-/.])(?P<month>[0-9]{{1,2}})(?P=s)(?P<year>[0-9]{{4}}){_TIME}"
    ),
    "month, day, year": re.compile(
        rf"(?P<month>[0-9]{{1,2}})(?P<s>[-/])(?P<day>[0-9]{{1,2}})(?P=s)(?P<year>[0-9]{{4}}){_TIME}"
    ),
}
_SHORT = re.compile(rf"[0-9]{{1,2}}([-/.])[0-9]{{1,2}}\1[0-9]{{2}}{_TIME}")

Kind: TypeAlias = Literal["number", "date"]


@dataclass(frozen=True, slots=True, order=True)
class _Format:
    """A format of the cells of a column."""

    kind: Kind
    style: str
    unit: str = ""

    def __str__(self) -> str:
        if self.kind == "date":
            return f"dates ({self.style})"
        plain = "numbers" if self.style == "a decimal point" else f"numbers with {self.style}"
        return plain + (f" in {self.unit}" if self.unit else "")


_PLAIN = _Format("number", "a decimal point")
_SHORT_YEAR = _Format("date", "a year of two digits")
_ORDER = (*_STYLES, *_DATES, _SHORT_YEAR.style)


@dataclass(frozen=True, slots=True, eq=False)
class ParsedColumn:
    """A text column parsed as numbers or dates."""

    kind: Kind
    parts: tuple[npt.NDArray[np.float64], ...]
    """Cells (n,) of each table: numbers, or days since 1970; NaN where a value is missing."""
    note: str
    """Note on the format."""


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """A text column of one table: ``codes`` (n,) into ``words``, -1 where there is no text."""

    name: str
    codes: npt.NDArray[np.int64]
    words: list[str]

    def first(self, word: str) -> int:
        """Return the row, from 1, of the first cell that holds ``word``."""
        return int((self.codes == self.words.index(word)).argmax()) + 1


def dictionary_codes(values: Any) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return codes (n,) of a chunked Arrow text array, -1 for nulls, and the distinct texts in order of appearance."""
    encoded = pa.chunked_array([values.combine_chunks()]).dictionary_encode().chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [str(w) for w in encoded.dictionary.to_pylist()]


def is_missing_marker(text: str) -> bool:
    """Return True if a text is blank or stands for a missing value."""
    bare = text.strip()
    return not bare or bare.casefold() in MARKERS


def parse_column(
    tables: Sequence[tuple[str, Any]], column: str, *, fill: bool, numbers: bool = False
) -> ParsedColumn | None:
    """Parse a text column if most of its texts are numbers or dates; return ``None`` for words and codes.

    All tables are read in one format. Whole numbers with zeros before them are codes, and so are up to ten different
    whole numbers without anything else beside them: a file of types that calls them texts means it.

    Args:
        tables: of each its name for messages, and the column as a chunked Arrow array of texts.
        column: its name.
        fill: whether missing values are dealt with: what stands for one ("?", "n.a.") is one; else it is refused.
        numbers: whether the column is one of numbers in another table, so that these are no codes.

    Raises:
        PotstillError: a few cells are no numbers, the cells are in several formats, or the format cannot be told.
    """
    parts = [_Texts(name, *dictionary_codes(values)) for name, values in tables]
    words = list(dict.fromkeys(w for part in parts for w in part.words if not is_missing_marker(w)))
    some = {w: _readings(w.strip()) for w in words[:_FIRST]}
    like = [w for w, found in some.items() if found]
    if 2 * len(like) <= len(some) or any(re.fullmatch(r"[+-]?0[0-9]+", w.strip()) for w in words):
        return None
    marked = any(w.strip() and is_missing_marker(w) for part in parts for w in part.words)
    is_integral = all(re.fullmatch(r"[+-]?[0-9]+", w.strip()) for w in words)
    if is_integral and len(words) <= _FEW and not marked and not numbers:
        return None
    shared = set.intersection(*(set(found) for found in some.values() if found)) or _most_common_format(some, parts)
    values = {w: {f: v for f, v in some[w].items() if f in shared} for w in some}
    for word in words[_FIRST:]:
        found = _readings(word.strip(), shared)
        values[word] = found
        shared = shared & set(found) or shared
    strange = [w for w in words if not shared & set(values[w])]
    if strange:
        if (
            len(like) <= _FEW
            and _rows(strange, parts) > 0.05 * _rows(words, parts)
            and not any(_readings(w.strip()) for w in strange)
        ):  # 2, 4, more: categories
            return None
        raise _refusal(parts, column, strange, min(shared, key=lambda way: _ORDER.index(way.style)), fill)
    chosen_format = _choose_format(parts, column, words, values, shared)
    if not fill:
        _refuse_markers(parts, column)
    parsed_values = {w: values[w][chosen_format] for w in words}
    cells = []
    for part in parts:
        of_words = np.array(
            [*(parsed_values.get(w, np.nan) for w in part.words), np.nan]
        )  # the last one is what -1 points at
        cells.append(of_words[part.codes])
    return ParsedColumn(chosen_format.kind, tuple(cells), _format_note(parts, column, chosen_format, parsed_values))


def _rows(words: Iterable[str], parts: Sequence[_Texts]) -> int:
    chosen = set(words)
    return sum(
        int(np.isin(part.codes, [i for i, w in enumerate(part.words) if w in chosen]).sum()) for part in parts
    )  # fmt: skip


def _most_common_format(some: dict[str, dict[_Format, float]], parts: Sequence[_Texts]) -> set[_Format]:
    """Return the format that most cells are in."""
    counts: dict[str, int] = {}
    for part in parts:
        for word, n in zip(part.words, np.bincount(part.codes + 1, minlength=len(part.words) + 1)[1:], strict=True):
            counts[word] = counts.get(word, 0) + int(n)
    total: dict[_Format, int] = {}
    for word, found in some.items():
        for way in found:
            total[way] = total.get(way, 0) + counts[word]
    return {max(total, key=lambda way: (total[way], -_ORDER.index(way.style), way.unit))}


def _where_of(parts: Sequence[_Texts], column: str, word: str) -> str:
    return _where(next(p for p in parts if word in p.words), column, word)


def _where(part: _Texts, column: str, word: str) -> str:
    return f"{part.name}: row {part.first(word)}, column {column!r} is {word.strip()[:40]!r}"


def _refusal(
    parts: Sequence[_Texts], column: str, strange: Sequence[str], way: _Format, fill: bool
) -> PotstillError:  # fmt: skip
    strange_words = set(strange)
    part, word = next((p, w) for p in parts for w in p.words if w in strange_words)
    other = next(iter(_readings(word.strip())), None)
    found = f"reads as {other}" if other is not None else f"is {'no date' if way.kind == 'date' else 'no number'}"
    empty = "leave it empty" if fill else 'leave it empty and say `missing="impute"` or `missing="drop"`'
    return PotstillError(
        f"{_where(part, column, word)}, which {found}, and most of its cells are {way}; correct it, or {empty}; if "
        "they are names, put a letter before each"
    )


def _refuse_markers(parts: Sequence[_Texts], column: str) -> None:
    for part in parts:
        if (word := next((w for w in part.words if w.strip() and is_missing_marker(w)), None)) is not None:
            raise PotstillError(
                f"{_where(part, column, word)}, and its other cells are numbers or dates; correct it, or say what is "
                'to be done with missing values: `missing="impute"` or `missing="drop"`'
            )


def _choose_format(
    parts: Sequence[_Texts], column: str, words: Sequence[str], values: dict[str, dict[_Format, float]],
    shared: set[_Format],
) -> _Format:  # fmt: skip
    """Choose the intended format."""
    first, *others = sorted(shared, key=lambda way: _ORDER.index(way.style))
    if first == _SHORT_YEAR:
        raise PotstillError(
            f"{_where_of(parts, column, words[0])}, a date whose year has two digits; write all four, as 2024-01-31"
        )
    if first.style == _PLAIN.style and first.unit in ("", "%"):  # a point alone is decimal, as in any program
        return first
    for word in words:
        for other in others:
            one, two = values[word][first], values[word][other]
            if one == two:
                continue
            if first.kind == "date":
                doubt, cure = f"{first.style}, or {other.style}", f"{_date(one)} or {_date(two)}"
            else:
                doubt, cure = "thousands, or a decimal sign", f"{one:.15g} or {two:.15g}"
            raise PotstillError(
                f"{_where_of(parts, column, word)}: {doubt}? No cell of the column tells; write {cure}, and so on"
            )
    return first


def _format_note(parts: Sequence[_Texts], column: str, way: _Format, values: dict[str, float]) -> str:
    example = next((w for w in values if not re.fullmatch(r"[+-]?[0-9]+", w.strip())), next(iter(values)))
    value = _date(values[example]) if way.kind == "date" else f"{values[example]:.15g}"
    text = (
        f"{parts[0].name}: column {column!r} holds texts, read as {way}: {example.strip()[:40]!r} is {value}"
    )  # fmt: skip
    marks = {w.strip(): None for part in parts for w in part.words if is_missing_marker(w) and w.strip()}
    if not marks:
        return text
    count = _rows([w for part in parts for w in part.words if is_missing_marker(w) and w.strip()], parts)
    listed = ", ".join(map(repr, list(marks)[:3]))
    many = f"{count:,} cells that say {listed} count" if count > 1 else f"1 cell that says {listed} counts"
    return f"{text}; {many} as missing"


def _date(days: float) -> str:
    return (_EPOCH + timedelta(seconds=round(days * _DAY))).isoformat().removesuffix("T00:00:00")


def _readings(text: str, allowed: set[_Format] | None = None) -> dict[_Format, float]:
    """Return the value of a text in each format that it matches."""
    readings = _dates(text)
    if not readings and (cell := _CELL.fullmatch(text)) is not None:
        readings = _numbers(cell)
    return readings if allowed is None else {way: v for way, v in readings.items() if way in allowed}


def _numbers(cell: re.Match[str]) -> dict[_Format, float]:
    signs = cell["sign"] + cell["inner"]
    units = [u for u in (cell["before"], cell["after"]) if u]
    if len(signs) > 1 or len(units) > 1:
        return {}
    body, power = cell["body"].strip(), cell["power"] or ""
    factor = -1.0 if signs in ("-", "−") else 1.0
    readings = {}
    for style, (pattern, between, point) in _STYLES.items():
        if pattern.fullmatch(body) is None:
            continue
        plain = body
        for sign in between:
            plain = plain.replace(sign, "")
        plain = plain.replace(point, ".")
        readings[_Format("number", style, units[0] if units else "")] = factor * float(plain + power)
    return readings


def _dates(text: str) -> dict[_Format, float]:
    readings: dict[_Format, float] = {}
    if not text[:1].isdigit() or not any(c in text for c in "-/."):
        return readings
    for style, pattern in _DATES.items():
        match = pattern.fullmatch(text)
        if match is not None and (days := _days(match)) is not None:
            readings[_Format("date", style)] = days
    if not readings and _SHORT.fullmatch(text) is not None:
        readings[_SHORT_YEAR] = 0.0
    return readings


def _days(match: re.Match[str]) -> float | None:
    """Return days since 1970, in UTC if a zone is given."""
    at = match.groupdict()
    hour = int(at["hour"] or 0)
    if half := at["half"]:
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    seconds = float(at["second"] or 0)
    try:
        day = datetime(int(at["year"]), int(at["month"]), int(at["day"] or 1), hour, int(at["minute"] or 0))
    except ValueError:
        return None
    shift = 0.0
    if (zone := at["zone"]) and zone not in ("Z", "UTC"):
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        shift = (-1 if zone[0] == "-" else 1) * (3600 * hours + 60 * minutes)
    return ((day - _EPOCH).total_seconds() + seconds - shift) / _DAY
