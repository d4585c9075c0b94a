"""Decoders in the metadata of a set, and the shared assets (such as a generator) that they decode by.

An asset is a safetensors file of its own, cached once under the hash of its tensors however many sets decode by it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import Asset, Payload
from potstill.dataset_file.files import read_tensors, write_tensors
from potstill.errors import PotstillError

__all__ = [
    "DecoderSource", "MissingDecoder", "assets_to_json", "cache_decoder", "decoder_assets", "decoder_cache_path",
    "decoder_parts", "hash_tensors", "load_decoders", "reader_tensors",
]  # fmt: skip

DecoderSource: TypeAlias = str | Path | Mapping[str, str | Path | Payload]
"""Assets given by the caller: one file, or files and tensors by asset name."""

_HASH = re.compile("[0-9a-f]{64}")
_ENCODER = "encoder/"
"""Prefix of an asset's tensors that only the start of a run needs: no reader has them, and no size counts them."""


class MissingDecoder(PotstillError):
    """The asset that a set decodes by is not on this machine."""


def decoder_parts(described: Any, n: int) -> list[tuple[str, Mapping[str, Any], int]]:
    """Return the decoders of a set: one, or one for each of the sets that were joined (`concat`).

    Args:
        described: the metadata's ``decoder``.
        n: items of the set.

    Returns:
        For each: prefix of its payload names, its description, and how many items decode by it.

    Raises:
        PotstillError: the description is invalid, or counts other items.
    """
    parts = described.get("parts") if isinstance(described, dict) else None
    if parts is None:
        parts, prefixes, counts = [described], [""], [n]
    else:
        parts = parts if isinstance(parts, list) else []
        prefixes = [f"{i}/" for i in range(len(parts))]
        counts = [part.get("items", 0) if isinstance(part, dict) else 0 for part in parts]
    if not parts or not all(isinstance(p, dict) and isinstance(p.get("parametrization"), str) for p in parts):
        raise PotstillError("its metadata name no decoder for its payload; get the file again")
    if not all(type(count) is int and count > 0 for count in counts) or sum(counts) != n:
        raise PotstillError(f"the parts of its decoder must have {n} items in all, not {counts!s:.60}; get it again")
    return list(zip(prefixes, parts, counts, strict=True))


def decoder_assets(described: Any) -> list[Any]:
    """Return the assets that a metadata's ``decoder`` names, those of its parts included; not validated."""
    if not isinstance(described, dict):
        return []
    parts = described.get("parts")
    nested = [asset for part in parts for asset in decoder_assets(part)] if isinstance(parts, list) else []
    assets = described.get("assets")
    return nested + (assets if isinstance(assets, list) else [assets] if assets else [])


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors by name, in the order of names, with their types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def assets_to_json(assets: Sequence[tuple[Asset, Payload]]) -> dict[str, Any]:
    """Return ``assets`` and ``bytes`` of the metadata's ``decoder``."""
    assets = [(asset, reader_tensors(tensors)) for asset, tensors in assets]
    return {
        "assets": [{"name": a.name, "recipe": dict(a.recipe), "hash": hash_tensors(tensors)} for a, tensors in assets],
        "bytes": sum(_nbytes(tensors) for _, tensors in assets),
    }


def reader_tensors(tensors: Payload) -> Payload:
    """Return the tensors of an asset that a reader decodes by: all but those named ``encoder/…``."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_ENCODER)}


def _nbytes(tensors: Payload) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def decoder_cache_path(hash: str) -> Path:
    """Return the path of an asset in the cache."""
    return cache_dir() / "decoders" / f"{hash}.safetensors"


def cache_decoder(tensors: Payload) -> Path:
    """Write an asset to the cache, unless it is there, and return its path.

    Raises:
        PotstillError: it cannot be written.
    """
    tensors = reader_tensors(tensors)
    path = decoder_cache_path(hash_tensors(tensors))
    if not path.exists():
        try:
            make_cache_folder(path.parent)
        except OSError as error:
            raise PotstillError(f"{path.parent}: cannot be made ({error.strerror})") from error
        write_tensors(path, tensors, {})
    return path


def load_decoders(described: Mapping[str, Any], source: DecoderSource | None, max_bytes: int) -> dict[str, Payload]:
    """Return the assets of one decoder by name, from ``source`` or else from the cache.

    Raises:
        MissingDecoder: an asset is not on this machine.
        PotstillError: an asset has another hash than the metadata say, or the metadata are invalid.
    """
    entries = described.get("assets", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PotstillError("its metadata lack valid 'decoder.assets'; get the file again")
    names = [entry.get("name") for entry in entries]
    for name, entry in zip(names, entries, strict=True):
        is_hash = isinstance(entry.get("hash"), str) and _HASH.fullmatch(entry["hash"])
        if not isinstance(name, str) or names.count(name) > 1 or not is_hash:
            raise PotstillError("its 'decoder.assets' need each a name and a hash; get the file again")
    if isinstance(source, str | Path):
        if len(names) != 1:
            raise PotstillError(f"it decodes by {len(names)} assets, but one file is given; give them by name")
        source = {names[0]: source}
    if odd := sorted(set(source or {}) - set(names)):
        raise PotstillError(f"it decodes by {names or 'no assets'}, but {odd[0][:80]!r} is given; leave it out")
    assets = {entry["name"]: _load_asset(entry, (source or {}).get(entry["name"]), max_bytes) for entry in entries}
    if entries and described.get("bytes") != (total := sum(map(_nbytes, assets.values()))):
        raise PotstillError(f"its 'decoder.bytes' must be {total:,}, as its assets take; get the file again")
    return assets


def _load_asset(entry: Mapping[str, Any], source: str | Path | Payload | None, max_bytes: int) -> Payload:
    name, expected = entry["name"][:80], entry["hash"]
    path = decoder_cache_path(expected) if source is None else source
    if source is None and not decoder_cache_path(expected).exists():
        raise MissingDecoder(
            f"it decodes by the asset {name!r} of hash {expected}, which is not here; put its file at "
            f"{decoder_cache_path(expected)}, or give it with load(path, decoder=FILE)"
        )
    tensors = reader_tensors(read_tensors(Path(path), max_bytes)[0] if isinstance(path, str | Path) else path)
    if (actual := hash_tensors(tensors)) != expected:
        where = path if isinstance(path, str | Path) else "the given asset"
        raise PotstillError(
            f"it decodes by the asset {name!r} of hash {expected}, but {where} has {actual}; get that one"
        )
    return tensors
