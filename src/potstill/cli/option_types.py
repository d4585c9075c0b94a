"""Option values that tyro does not know by itself: durations, comma lists, image sizes."""

import re
from typing import Annotated, Any, NewType

from tyro.constructors import PrimitiveConstructorSpec

from potstill._util.formatting import parse_duration, parse_size

__all__ = [
    "ByteCounts", "Bytes", "Integers", "Names", "Seconds", "Size", "Specs", "parse_byte_counts", "parse_image_size",
    "parse_integers", "parse_names", "parse_specs",
]  # fmt: skip


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in ``dm,dc``.

    Raises:
        ValueError: a name is empty or comes twice.
    """
    values = tuple(part.strip() for part in text.split(","))
    if "" in values or len(set(values)) < len(values):
        raise ValueError(f"different names with commas between them are needed, such as random,dm, not {text!r}")
    return values


def parse_integers(text: str) -> tuple[int, ...]:
    """Return the whole numbers above 0 in ``1,10,50``.

    Raises:
        ValueError: a part is no such number or comes twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(set(parts)) < len(parts) or not all(re.fullmatch(r"[1-9]\d*", part) for part in parts):
        raise ValueError(
            f"different whole numbers above 0 with commas between them are needed, such as 1,10, not {text!r}"
        )
    return tuple(int(part) for part in parts)


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
    if "" in specs or len(set(specs)) < len(specs):
        raise ValueError(f"different names with commas between them are needed, such as pixels,tiles, not {text!r}")
    return tuple(specs)


def parse_byte_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of bytes in ``20kB,100kB``.

    Raises:
        ValueError: a part is no size above 0 or comes twice.
    """
    sizes = tuple(parse_size(part) for part in text.split(","))
    if len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise ValueError(f"different sizes above 0 with commas between them are needed, such as 20kB,1MB, not {text!r}")
    return sizes


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
Specs = Annotated[tuple[str, ...], _spec(parse_specs, tuple, "A,B", ",".join)]
ByteCounts = Annotated[
    tuple[int, ...], _spec(parse_byte_counts, tuple, "20kB,100kB", lambda value: ",".join(map(str, value)))
]
Size = Annotated[tuple[int, int], _spec(parse_image_size, tuple, "HxW", lambda value: f"{value[0]}x{value[1]}")]
Bytes = Annotated[_Bytes, _spec(parse_size, int, "20kB", str)]
