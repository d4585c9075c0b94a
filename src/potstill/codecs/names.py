"""Codecs by name: ``float32``, ``float16``, ``exact``, ``uint1`` … ``uint16``, and others that are registered."""

import dataclasses
import re

from potstill.codecs.exact import Exact, Float
from potstill.codecs.uniform import Uniform
from potstill.core import Codec
from potstill.core.registry import create, targets
from potstill.errors import PotstillError, unknown_name

_BY_BITS = ("float", "uniform")
"""Registered names that are spelled with their bits."""

__all__ = ["codec_of_part", "format_codec", "parse_codec"]


def codec_of_part(kind: str, codec: Codec) -> Codec:
    """Return the codec of a part of inputs with names: vectors of texts take 4 bits where it is for pictures alone."""
    return codec if kind != "text" or isinstance(codec, Exact | Float | Uniform) else Uniform(bits=4)


def parse_codec(spelled: str) -> Codec:
    """Return the codec of a name with its settings: ``uint4``, ``uint2:aware=true``, ``float16``, ``exact``.

    Raises:
        PotstillError: no such codec or setting, or a value out of its bounds.
    """
    name, colon, settings = spelled.partition(":")
    if (match := re.fullmatch(r"(uint|float)(\d{1,2})", name)) is not None:
        name = "uniform" if match[1] == "uint" else "float"
        settings = f"bits={int(match[2])}" + (f",{settings}" if colon else "")
        spelled = f"{name}:{settings}"
    if name not in (known := targets("codecs")):
        spelt = ("float16", "float32", "uint1", "uint2", "uint4", "uint8", *(n for n in known if n not in _BY_BITS))
        raise unknown_name("codec", name, spelt)
    made = create("codecs", spelled)
    if not isinstance(made, Codec):
        raise PotstillError(f"{spelled} is registered as a codec, but has no pack(x); see docs/extend/kind-of-data.md")
    return made


def format_codec(codec: Codec) -> str:
    """Return the name of a codec, with settings that are not defaults."""
    kind = type(codec)
    names = {attribute: name for name, attribute in targets("codecs").items()}
    name = names.get(f"{kind.__module__}:{kind.__qualname__}", kind.__name__)
    given = {
        f.name: getattr(codec, f.name)
        for f in dataclasses.fields(codec)  # type: ignore[arg-type]
        if getattr(codec, f.name) != f.default
    }
    if name in ("uniform", "float"):
        bits = getattr(codec, "bits")  # noqa: B009
        given.pop("bits", None)
        name = f"{'uint' if name == 'uniform' else 'float'}{bits}"
    return name + (":" + ",".join(f"{n}={v}" for n, v in given.items()) if given else "")
