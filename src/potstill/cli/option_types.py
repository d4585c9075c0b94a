"""Option values that tyro does not know by itself: durations, comma lists, image sizes."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NewType, TypeVar

from tyro.constructors import PrimitiveConstructorSpec

from potstill._util.formatting import parse_duration, parse_size

__all__ = [
    "ByteCounts", "Bytes", "Integers", "Names", "Numbers", "Seconds", "Size", "Specs", "parse_byte_counts",
    "parse_image_size", "parse_integers", "parse_names", "parse_numbers", "parse_specs",
]  # fmt: skip


T = TypeVar("T")


def _distinct(text: str, parts: Sequence[str], parse: Callable[[str], T | None], what: str) -> tuple[T, ...]:
    """Return the parts as values, or refuse the text if one is no such value or comes twice."""
    values = [value for part in parts if (value := parse(part.strip())) is not None]
    if len(values) < len(parts) or len(set(values)) < len(values):
        raise ValueError(f"different {what} with commas between them are needed, not {text!r}")
    return tuple(values)


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in ``dm,dc``.

    Raises:
        ValueError: a name is empty or comes twice.
    """
    return _distinct(text, text.split(","), lambda part: part or None, "names (random,dm)")


def parse_integers(text: str) -> tuple[int, ...]:
    """Return the whole numbers above 0 in ``1,10,50``.

    Raises:
        ValueError: a part is no such number or comes twice.
    """

    def parse(part: str) -> int | None:
        return int(part) if re.fullmatch(r"[1-9]\d*", part) else None

    return _distinct(text, text.split(","), parse, "whole numbers above 0 (1,10)")


def parse_numbers(text: str) -> tuple[float, ...]:
    """Return the positive numbers in ``0.1,0.5,inf``.

    Raises:
        ValueError: a part is no such number or comes twice.
    """

    def parse(part: str) -> float | None:
        try:
            return number if (number := float(part)) > 0 else None
        except ValueError:
            return None

    return _distinct(text, text.split(","), parse, "numbers above 0 (0.1,0.5)")


def parse_specs(text: str) -> tuple[str, ...]:
    """Return the parts in ``tiles:factor=2,pixels``, whose settings have commas, too: ``a:b=1,c=2,d`` is two.

    Raises:
        ValueError: a part is empty or comes twice.
    """
    specs: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if specs and ":" in specs[-1] and re.fullmatch(r"\w+=[^:]*", part):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return _distinct(text, specs, lambda part: part or None, "names (pixels,tiles)")


def parse_byte_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of bytes in ``20kB,100kB``.

    Raises:
        ValueError: a part is no size above 0 or comes twice.
    """

    def parse(part: str) -> int | None:
        return size if (size := parse_size(part)) > 0 else None

    return _distinct(text, text.split(","), parse, "sizes above 0 (20kB,1MB)")


def parse_image_size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``32`` or ``32x48``.

    Raises:
        ValueError: ``text`` is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise ValueError(f"a picture size such as 32 or 32x48 (height x width) is needed, not {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _spec(parse: Any, kind: type, metavar: str, text: Any) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda args: parse(args[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [text(value)],
    )


def _comma_list(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


# New types, so that a bare tuple or float elsewhere keeps tyro's own reading.
_Seconds = NewType("_Seconds", float)
_Bytes = NewType("_Bytes", int)
Seconds = Annotated[_Seconds, _spec(parse_duration, float, "10m", lambda value: f"{value:g}s")]
Names = Annotated[tuple[str, ...], _spec(parse_names, tuple, "A,B,C", ",".join)]
Integers = Annotated[tuple[int, ...], _spec(parse_integers, tuple, "1,10", _comma_list)]
Numbers = Annotated[
    tuple[float, ...], _spec(parse_numbers, tuple, "0.1,0.5", lambda values: ",".join(f"{v:g}" for v in values))
]
Specs = Annotated[tuple[str, ...], _spec(parse_specs, tuple, "A,B", ",".join)]
ByteCounts = Annotated[tuple[int, ...], _spec(parse_byte_counts, tuple, "20kB,100kB", _comma_list)]
Size = Annotated[tuple[int, int], _spec(parse_image_size, tuple, "HxW", lambda value: f"{value[0]}x{value[1]}")]
Bytes = Annotated[_Bytes, _spec(parse_size, int, "20kB", str)]
