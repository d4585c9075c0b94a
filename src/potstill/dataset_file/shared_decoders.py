"""What sets decode by that is in no set's file, such as a generator: an asset, found by the hash of its tensors.

It is a safetensors file of its own, kept once under that hash however many sets decode by it. Nothing in it is run.
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
    "DecoderSource",
    "MissingDecoder",
    "assets_to_json",
    "cache_decoder",
    "decoder_cache_path",
    "hash_tensors",
    "load_decoders",
]

DecoderSource: TypeAlias = str | Path | Mapping[str, str | Path | Payload]
"""What a set decodes by: a file, or by the asset's name files and tensors."""

_HASH = re.compile("[0-9a-f]{64}")


class MissingDecoder(PotstillError):
    """What a set decodes by is not on this machine."""


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """Of tensors by name: SHA-256, of each in the order of names, with its type and shape."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def assets_to_json(needed: Sequence[tuple[Asset, Payload]]) -> dict[str, Any]:
    """What a card's ``decoder`` says of assets and what they opened to."""
    return {
        "assets": [{"name": a.name, "recipe": dict(a.recipe), "hash": hash_tensors(tensors)} for a, tensors in needed],
        "bytes": sum(map(_bytes, (tensors for _, tensors in needed))),
    }


def _bytes(tensors: Payload) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def decoder_cache_path(hash: str) -> Path:
    """Where the cache has it."""
    return cache_dir() / "decoders" / f"{hash}.safetensors"


def cache_decoder(tensors: Payload) -> Path:
    """Keep it in the cache, where it is not there yet.

    Raises:
        PotstillError: it cannot be written.
    """
    path = decoder_cache_path(hash_tensors(tensors))
    if not path.exists():
        try:
            make_cache_folder(path.parent)
        except OSError as error:
            raise PotstillError(f"{path.parent}: cannot be made ({error.strerror})") from error
        write_tensors(path, tensors, {})
    return path


def load_decoders(said: Mapping[str, Any], given: DecoderSource | None, max_bytes: int) -> dict[str, Payload]:
    """What a card's ``decoder`` names, by name: of what is given, or else of the cache.

    Raises:
        Without: one is not there.
        PotstillError: one is another than the card says, or the card is wrong.
    """
    wanted = said.get("assets", [])
    if not isinstance(wanted, list) or not all(isinstance(entry, dict) for entry in wanted):
        raise PotstillError("its card lacks valid 'decoder.assets'; get the file again")
    names = [entry.get("name") for entry in wanted]
    for name, entry in zip(names, wanted, strict=True):
        if not isinstance(name, str) or names.count(name) > 1 or not _is_hash(entry.get("hash")):
            raise PotstillError("its card's 'decoder.assets' need each a name and a hash; get the file again")
    if isinstance(given, str | Path):
        if len(names) != 1:
            raise PotstillError(f"it decodes by {len(names)} assets, but one file is given; give them by name")
        given = {names[0]: given}
    if odd := sorted(set(given or {}) - set(names)):
        raise PotstillError(f"it decodes by {names or 'no assets'}, but {odd[0][:80]!r} is given; leave it out")
    made = {entry["name"]: _open(entry, (given or {}).get(entry["name"]), max_bytes) for entry in wanted}
    if wanted and said.get("bytes") != (held := sum(map(_bytes, made.values()))):
        raise PotstillError(f"its card's 'decoder.bytes' must be {held:,}, as its assets take; get the file again")
    return made


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _open(entry: Mapping[str, Any], given: str | Path | Payload | None, max_bytes: int) -> Payload:
    name, wanted = entry["name"][:80], entry["hash"]
    path = decoder_cache_path(wanted) if given is None else given
    if given is None and not decoder_cache_path(wanted).exists():
        raise MissingDecoder(
            f"it decodes by the asset {name!r} of hash {wanted}, which is not here; put its file at "
            f"{decoder_cache_path(wanted)}, or give it with load(path, decoder=FILE)"
        )
    tensors = read_tensors(Path(path), max_bytes)[0] if isinstance(path, str | Path) else path
    if (found := hash_tensors(tensors)) != wanted:
        where = path if isinstance(path, str | Path) else "what is given"
        raise PotstillError(f"it decodes by the asset {name!r} of hash {wanted}, but {where} has {found}; get that one")
    return tensors
