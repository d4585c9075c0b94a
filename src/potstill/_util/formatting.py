"""Parsing and formatting of durations and sizes."""

import re

__all__ = [
    "OPTION_NAMES",
    "class_name",
    "describe_codec",
    "format_duration",
    "format_estimate",
    "format_estimate_words",
    "format_size",
    "option_name",
    "parse_duration",
    "parse_size",
    "to_seconds",
]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_SECONDS, _MOST_BYTES = 100 * 365.25 * 86400, 2**60
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip


OPTION_NAMES = {"init_from": "init"}
"""Options of other names than their fields: a method has a method ``init``, so that its field is ``init_from``."""


def option_name(field: str) -> str:
    """Return the option of a field on the command line, without the leading hyphens: ``init`` of ``init_from``."""
    return OPTION_NAMES.get(field, field).replace("_", "-")


def class_name(value: object) -> str:
    """Return the name of a value's class as a word: ``quantization-aware``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(value).__name__).lower()


def parse_duration(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``10m``, ``1.5h`` or ``1h30m``.

    Raises:
        ValueError: it is no duration above 0, or longer than a hundred years.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    if parts and "".join(n + u for n, u in parts) == text:
        seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
    else:
        seconds = 0.0
    if seconds <= 0:
        raise ValueError(f"a duration above 0 such as 90s, 10m, 2h or 1h30m is needed, not {_shown(text)}")
    if seconds > _MOST_SECONDS:
        raise ValueError(f"a duration of at most a hundred years is needed, not {_shown(text)}")
    return seconds


def to_seconds(value: str | float) -> float:
    """Return a duration, given as text or as seconds, in seconds.

    Raises:
        ValueError: it is no duration.
    """
    return parse_duration(value) if isinstance(value, str) else float(value)


def parse_size(text: str) -> int:
    """Return the bytes of ``20000``, ``20kB``, ``1.5 MB`` (powers of 1,000), ``20KiB`` or ``2MiB`` (powers of
    1,024).

    Raises:
        ValueError: it is no size, or beyond 2^60 bytes.
    """
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError(f"a size such as 20000, 20kB, 1.5MB or 2MiB is needed, not {_shown(text)}")
    factor = _BYTES[match[2].lower()]
    if abs(float(match[1])) * factor > _MOST_BYTES:  # and an integer of thousands of digits is not read as one
        raise ValueError(f"a size of at most 2^60 bytes is needed, not {_shown(text)}")
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def _shown(text: str) -> str:
    """Return ``text`` quoted, cut after 40 characters."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r} and so on"


def format_duration(seconds: float) -> str:
    """Return ``7 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_estimate(seconds: float) -> str:
    """Return a rounded estimate: ``20 s``, ``1.5 min``, ``24 min``, ``1.5 h``, ``13 h``, ``3 days``."""
    if seconds < 55:
        return f"{max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)} s"
    minutes = seconds / 60
    if minutes < 4.75:
        return f"{round(2 * minutes) / 2:g} min"
    if minutes < 55:
        return f"{round(minutes)} min"
    hours = seconds / 3600
    if hours < 10:
        return f"{hours:.1f} h".replace(".0 h", " h")
    return f"{round(hours)} h" if hours < 72 else f"{round(hours / 24)} days"


def format_estimate_words(seconds: float) -> str:
    """Return an estimate in words: ``about 4 minutes``, ``about 13 hours``, ``less than a second``."""
    if seconds < 1:
        return "less than a second"
    number, unit = format_estimate(seconds).split(" ")
    word = {"s": "second", "min": "minute", "h": "hour", "days": "day"}[unit]
    return f"about {number} {word}" + ("" if number == "1" else "s")


def format_size(count: int) -> str:
    """Return ``314 bytes``, ``31 kB``, ``1.2 GB`` (powers of 1,000)."""
    if count < 1000:
        return f"{count} bytes"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor * 0.9995:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    raise AssertionError(count)


def describe_codec(spelled: str | None, per_class: int | None = None) -> str:
    """Return a codec in words: ``8 per class, 4 bits, half size`` for ``half:bits=4``."""
    if spelled is None:
        return "" if per_class is None else f"{per_class:,} per class"
    name, _, rest = spelled.partition(":")
    given = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    if (match := re.fullmatch(r"(uint|float)(\d{1,2})", name)) is not None:
        said = f"{match[2]}-bit floats" if match[1] == "float" else f"{match[2]} bit{'' if match[2] == '1' else 's'}"
    elif name == "exact":
        said = "as they are"
    elif name == "half":
        bits, factor = given.get("bits", "4"), given.get("factor", "2")
        part = "half size" if factor == "2" else f"1/{factor} of the size"
        said = f"{bits} bit{'' if bits == '1' else 's'}, {part}"
    elif name == "mosaic":
        kinds = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "webp-lossless": "lossless WebP", "avif": "AVIF"}
        said = f"one {kinds.get(given.get('kind', 'png'), given.get('kind'))} of all"
    else:
        said = spelled
    return said if per_class is None else f"{per_class:,} per class, {said}"
