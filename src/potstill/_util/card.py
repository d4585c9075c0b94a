"""Metadata in the header of a file: JSON for people under ``card``, and the rest compressed under ``details``.

Together they are the whole metadata: no value is in both. ``details`` is JSON, deflated with the dictionary of
`potstill._util.card_words` and written in base 85. A header without ``details`` has everything in ``card``.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from potstill._util.card_words import card_words
from potstill._util.input_limits import check_limit, limits
from potstill._util.strict_json import parse_json

__all__ = [
    "CARD",
    "DETAILS",
    "FORMAT",
    "INDEX_FORMAT",
    "card_to_header",
    "file_size_note",
    "metadata_text",
    "names_bytes",
    "parse_card",
    "shared_decoder_bytes",
    "size_without_encoder",
]

CARD, DETAILS = "card", "details"
FORMAT, INDEX_FORMAT = "potstill/3", "potstill-selection/3"
"""Formats of a set, and of the indices of a selection alone."""
_READABLE = (
    ("format",), ("method",), ("source", "name"), ("input", "kind"), ("input", "shape"), ("codec", "name"),
    ("versions", "potstill"), ("seed",), ("classes",), ("decoder",), ("normalization", "mean"),
    ("normalization", "std"), ("task", "name"), ("ipc",), ("bytes", "total"), ("codec", "tensors"), ("config",),
)  # fmt: skip
"""Values for a reader without Potstill, the most useful first."""
_ROOM, _SHARE = 170, 30
"""Characters of ``card``, and bytes of the set for one more: what does not fit is compressed."""
_OVERHEAD, _HEADER = 1.05, 1024
"""Largest size of a file, as a share of the set's bytes, and bytes besides."""
_FEW_NAMES = 512
"""Bytes of names below which a file's metadata do not state them."""
_RAW = -15
"""Deflate without a header of its own: the file has a hash."""


def size_without_encoder(sizes: Mapping[str, Any]) -> Any:
    """Return the total bytes of a set without its encoder of texts, which real texts need, too."""
    total, encoder = sizes.get("total"), sizes.get("encoder", 0)
    if isinstance(total, int | float) and isinstance(encoder, int | float):
        return total - encoder
    return total


def shared_decoder_bytes(metadata: Mapping[str, Any]) -> int:
    """Return the bytes of the assets that a set decodes by and that its file lacks, such as a generator; each once."""
    decoder, sizes = metadata.get("decoder"), dict[str, int]()
    parts = decoder.get("parts") if isinstance(decoder, Mapping) else None
    for described in (*(parts if isinstance(parts, list) else [decoder]), metadata.get("codec")):
        size = described.get("bytes") if isinstance(described, Mapping) and described.get("assets") else None
        if isinstance(described, Mapping) and isinstance(size, int) and size > 0:
            sizes[json.dumps(described["assets"], sort_keys=True, default=str)] = size
    return sum(sizes.values())


def names_bytes(metadata: Mapping[str, Any]) -> int:
    """Return the bytes that names take in the header of a file: classes, columns with their categories, titles of
    items, words of the task; 0 where they are few.

    Real samples need them, too: they are no part of the total, and count against no budget.
    """
    names: list[object] = []
    _collect_names([metadata.get(key) for key in ("classes", "input", "task", "source")], names)
    size = len(_deflate(_to_text(names)))
    return size if size >= _FEW_NAMES else 0


def _collect_names(value: object, names: list[object]) -> None:
    """Append the lists of texts inside a JSON value, and the names and categories of its columns."""
    if isinstance(value, Mapping):
        _collect_names([inner for key, inner in value.items() if key != "notes"], names)
        names += [value["name"]] if isinstance(value.get("name"), str) else []
    elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        names.append(value)
    elif isinstance(value, list):
        for one in value:
            _collect_names(one, names)


def file_size_note(sizes: Mapping[str, Any], size: int) -> str:
    """Return the size of a file in words where it is more than 5 % and 1 kB over the bytes of the set; else nothing.

    Names of columns, categories and items, the scale of each column and how the set was made stand in the header. A
    file of real samples has them, too, so that comparisons count neither.

    Args:
        sizes: the metadata's ``bytes``.
        size: bytes of the file.
    """
    if size <= _OVERHEAD * sizes["total"] + _HEADER:
        return ""
    names = sizes.get("names")
    if isinstance(names, int) and names > 0:
        return f"{size:,} bytes on disk, {names:,} of them names, which real samples need, too"
    return f"{size:,} bytes on disk, with names and settings in its header"


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Return the metadata as text: equal metadata, equal text.

    Raises:
        PotstillError: the text is too long to be read back.
    """
    text = _to_text(metadata)
    check_limit("card_bytes", len(text), "the metadata, with config and extra")
    return text


def _to_text(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if re.search(r"[\ud800-\udfff]", text):  # file names that are not UTF-8: escapes can hold them
        text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text


def card_to_header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata as texts of a safetensors header: equal metadata, equal texts.

    Raises:
        PotstillError: they are too long to be read back.
    """
    rest = json.loads(metadata_text(metadata))
    readable: dict[str, Any] = {}
    room = _ROOM + metadata["bytes"]["total"] // _SHARE
    for path in _READABLE:
        inner = rest
        for key in path[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or inner.get(path[-1]) in (None, [], {}):
            continue
        cost = _header_cost("".join(path[:-1]), {path[-1]: inner[path[-1]]})
        if cost > room:
            continue
        room -= cost
        target = readable
        for key in path[:-1]:
            target = target.setdefault(key, {})
        target[path[-1]] = inner.pop(path[-1])
    return {CARD: _to_text(readable), DETAILS: _deflate(_to_text(rest)).decode()}


def _deflate(text: str) -> bytes:
    """Return text as the header has it under ``details``."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9, zdict=card_words())
    return base64.b85encode(deflate.compress(text.encode()) + deflate.flush())


def _header_cost(outer: str, value: Any) -> int:
    """Return the characters that a value takes in the header, where each quote is escaped."""
    text = outer + _to_text(value)
    return len(text) + text.count('"')


def parse_card(header: Mapping[str, str]) -> Any:
    """Return the metadata, not validated; ``None``: there are none.

    Raises:
        ValueError: they are not JSON, or ``details`` are damaged.
        PotstillError: they are longer than the limit ``card_bytes``.
    """
    if (text := header.get(CARD)) is None:
        return None
    check_limit("card_bytes", len(text), "its metadata")
    card = parse_json(text)
    if (packed := header.get(DETAILS)) is None or not isinstance(card, dict):
        return card
    return _join(card, parse_json(_inflate(packed)))


def _inflate(packed: str) -> bytes:
    most = limits().card_bytes
    check_limit("card_bytes", len(packed), "its metadata")
    inflate = zlib.decompressobj(_RAW, zdict=card_words())
    try:
        content = inflate.decompress(base64.b85decode(packed), most + 1)
    except zlib.error as error:
        raise ValueError(f"details cannot be decompressed: {error}") from error
    check_limit("card_bytes", len(content), "its metadata")
    if not inflate.eof or inflate.unused_data:
        raise ValueError("details are cut off, or longer than they say")
    return content


def _join(readable: dict[str, Any], rest: Any) -> dict[str, Any]:
    """Return both, one inside the other.

    Raises:
        ValueError: a value is in both.
    """
    if not isinstance(rest, dict):
        raise ValueError("details must be an object")
    joined = {**readable, **rest}
    for key in readable.keys() & rest.keys():
        if not isinstance(readable[key], dict):
            raise ValueError(f"{key[:40]!r} must be in card or in details, not in both")
        joined[key] = _join(readable[key], rest[key])
    return joined
