"""Recognise a file of Potstill and verify that it is intact. Nothing in it is run, and all of it is read."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from potstill._util.input_limits import check_limit
from potstill._util.run_record import is_record, read_history
from potstill.data import token_network
from potstill.data.decode_cache import is_intact
from potstill.dataset_file import load
from potstill.dataset_file.checkpoint import read_identity
from potstill.dataset_file.files import DIGEST, os_error_text, parse_json, read_metadata, read_tensors
from potstill.dataset_file.memmap_safetensors import verify_digest
from potstill.dataset_file.scores import read_scores
from potstill.dataset_file.selection import is_index_file, read_indices
from potstill.dataset_file.signature import SIGNATURE_SUFFIX, check_signature, parse_public_key, signature_path
from potstill.errors import PotstillError
from potstill.labels.teacher_file import open_labels
from potstill.pretraining.cache_keys import matches_key
from potstill.reports import load_snapshots

__all__ = ["Verdict", "verify", "verify_file"]

MAX_BYTES = 2**48
"""Bytes of a text that is read: a leaderboard with curves is a few MB."""
_SIGNED = ("distilled set", "selection")
"""Kinds of file in a folder that a key must have signed."""
_LIBRARY = re.compile(r".*-([0-9a-f]{64})\.so")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The kind and state of one file."""

    path: str
    kind: str
    """In words; "" where it is no file of Potstill's."""
    bytes: int
    sealed: bool
    """The file holds a hash of its own, which was verified."""
    about: str = ""
    """Contents, in a few words."""
    problem: str = ""
    """Why it is not whole, or not signed as required; "" where it is."""
    signed_by: str = ""
    """Public key of a signature beside it that was checked, in hexadecimal digits; "" where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def verify(path: str | Path, *, key: str | Path | None = None) -> list[Verdict]:
    """Return a verdict for a file, or one for each file of Potstill's in a folder and below, in the order of names.

    All bytes are read and none is run. Links in a folder are not followed, and hidden files (what is being written) are
    left out. A signature beside a file, as `potstill.sign` writes it, must be of this file.

    Args:
        path: a file or a folder.
        key: public key that must have signed the file, or each set in the folder: a PEM file, or 64 hexadecimal digits.
            Default: any key, or none. Needs the extra ``potstill[provenance]``.

    Returns:
        Verdicts with ``path``, ``kind``, ``bytes``, ``about``, ``signed_by``, and ``problem``, which is empty where a
        file is whole.

    Raises:
        PotstillError: there is nothing at ``path``, or ``key`` is no public Ed25519 key.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None, out="small.safetensors")
        >>> for verdict in potstill.verify("small.safetensors"):
        ...     print(verdict.kind, verdict.about, verdict.problem or "whole", sep=", ")
        distilled set, 10 inputs of digits by herding, whole
    """
    path, public = Path(path), None if key is None else parse_public_key(key)
    if not path.is_dir():
        if not path.exists():
            raise PotstillError(f"{path}: no such file or folder; check the path")
        return [verify_file(path, public=public, required=public is not None)]
    inside = [
        file
        for file in sorted(path.rglob("*"))
        if not file.is_symlink()
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    return [verdict for file in inside if (verdict := verify_file(file, public=public)).kind]


def verify_file(path: str | Path, *, public: str | None = None, required: bool = False, signed: bool = True) -> Verdict:
    """Return the kind of one file, and its damage.

    Args:
        path: the file.
        public: digits of the public key that must have signed a set.
        required: that key must have signed the file, whatever its kind.
        signed: look for a signature beside the file.
    """
    path = Path(path)
    verdict = Verdict(path=str(path), kind="", bytes=0, sealed=False)
    try:
        verdict = replace(verdict, bytes=path.stat().st_size)
        kind, sealed, check = _recognised(path)
        verdict = replace(verdict, kind=kind, sealed=sealed)
        if not kind:
            return replace(verdict, problem="not a file that Potstill writes")
        verdict = replace(verdict, about=check())
        return _with_signature(verdict, path, public, required) if signed else verdict
    except (PotstillError, OSError) as error:
        reason_text = os_error_text(error) if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
        return replace(verdict, kind=verdict.kind or "unreadable", problem=reason_text)


def _with_signature(verdict: Verdict, path: Path, public: str | None, required: bool) -> Verdict:
    """Return the verdict with the signer of the file, or with the problem that it has no signature."""
    signature = check_signature(path, public)
    if signature is None and public is not None and (required or verdict.kind in _SIGNED):
        return replace(verdict, problem=f"not signed: there is no {signature_path(path).name} beside it")
    return replace(verdict, signed_by=signature.public_key) if signature and signature.checked else verdict


def _recognised(path: Path) -> tuple[str, bool, Callable[[], str]]:
    """The kind of a file, whether it says its hash, and what reads all of it and says what it holds."""
    if (named := _LIBRARY.fullmatch(path.name)) is not None:
        return "compiled kernels", True, lambda: _library(path, named[1])
    if path.suffix == ".parquet":
        return "scores", True, lambda: _scores(path)  # each page has a checksum
    if path.suffix == ".json":
        return _json(path)
    if path.suffix not in (".safetensors", ".checkpoint", ".before", ".film"):
        return "", False, str
    said = read_metadata(path, MAX_BYTES)
    if "sum" in said and "content" in said:
        return "decoded pictures", True, lambda: _pictures(path)
    if "word vectors" in said:
        return "word vectors", True, lambda: _word_vectors(path)
    key = next((key for key in _KINDS if key in said), None)
    if key is None:
        return "", False, str
    kind, check = _KINDS[key]
    if key == "card" and is_index_file(path):
        kind, check = "selection", _selection
    return kind, DIGEST in said, lambda: check(path, said)


def _set(path: Path, metadata: Mapping[str, str]) -> str:
    small = load(path)
    return f"{len(small):,} inputs of {small.metadata['source'].get('name')} by {small.metadata['method']}"


def _selection(path: Path, metadata: Mapping[str, str]) -> str:
    index, card, _ = read_indices(path)
    return f"{len(index):,} samples of {card['source'].get('name')} by {card['method']}"


def _labels(path: Path, metadata: Mapping[str, str]) -> str:
    _pieces(path)
    about = open_labels(path).about
    return f"of {about.items:,} items in {len(about.classes):,} classes"


def _checkpoint(path: Path, metadata: Mapping[str, str]) -> str:
    read_tensors(path, MAX_BYTES)
    identity, _ = read_identity(path)
    return f"of {identity.get('method', 'a run')}, after step {parse_json(metadata['checkpoint'])['step']}"


def _film(path: Path, metadata: Mapping[str, str]) -> str:
    read_tensors(path, MAX_BYTES)
    film = load_snapshots(path.with_suffix(""))
    return "" if film is None else f"{len(film.steps)} stages of {len(film.labels)} {film.noun}"


def _trajectory(path: Path, metadata: Mapping[str, str]) -> str:
    _pieces(path)
    return f"{metadata.get('network')} on {metadata.get('source')}, {metadata.get('epochs')} epochs"


def _tensors(path: Path, metadata: Mapping[str, str]) -> str:
    return f"{_pieces(path)} tensors"


def _pieces(path: Path) -> int:
    """Read all of a file that may be larger than memory, against its hash; how many tensors it has."""
    return len(verify_digest(path, MAX_BYTES))


_KINDS: dict[str, tuple[str, Callable[[Path, Mapping[str, str]], str]]] = {
    "card": ("distilled set", _set),
    "labels": ("stored labels", _labels),
    "checkpoint": ("checkpoint", _checkpoint),
    "film": ("film", _film),
    "layout": ("expert trajectory", _trajectory),
    "epoch": ("trained network", _tensors),
    "n": ("record of a training", _tensors),
    DIGEST: ("tensors", _tensors),
}
"""By what its metadata say, the first that they do: what it is, and what reads all of it."""


def _library(path: Path, named: str) -> str:
    if hashlib.sha256(path.read_bytes()).hexdigest() != named:
        raise PotstillError("damaged: its content is not what its name says; delete it, and it is compiled again")
    return path.name.partition("-")[0]


def _pictures(path: Path) -> str:
    if not is_intact(path):
        raise PotstillError("damaged: its content is not what it was written with; delete it, and it is made again")
    return ""


def _word_vectors(path: Path) -> str:
    if not token_network.is_intact(path):
        raise PotstillError("damaged: its content is not what it was written with; delete it, and it is learned again")
    return ""


def _scores(path: Path) -> str:
    scores = read_scores(path)
    return f"{', '.join(scores.methods)} of {len(scores):,} samples of {scores.source}"


def _json(path: Path) -> tuple[str, bool, Callable[[], str]]:
    check_limit("json_bytes", path.stat().st_size, str(path))
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise PotstillError(f"not JSON that is whole ({str(error)[:80]}); make it again") from error
    if not isinstance(found, dict):
        return "", False, str
    if path.name.endswith(SIGNATURE_SUFFIX):
        return "signature", True, lambda: _signature(path)
    if {"what", "result"} <= found.keys():
        return "accuracy on the full data", "sha256" in found, lambda: _result(path, found)
    if is_record(found):
        return "history", True, lambda: _history(path)
    if "rows" in found and "methods" in found:
        return "leaderboard", False, lambda: f"{len(found['rows']):,} rows"
    if "accuracy" in found and "protocol" in found:
        return "scorecard", False, str
    return "", False, str


def _signature(path: Path) -> str:
    file = path.with_name(path.name.removesuffix(SIGNATURE_SUFFIX))
    if not file.is_file():
        raise PotstillError(f"{file.name}, which it is the signature of, is not beside it; get both")
    found = check_signature(file)
    assert found is not None
    return f"of {file.name} by {found.public_key[:16]}…{'' if found.checked else ', not checked'}"


def _history(path: Path) -> str:
    record = read_history(path)["record"]
    return f"{len(record.get('history', ())):,} steps of a run"


def _result(path: Path, result: Mapping[str, Any]) -> str:
    said = hashlib.sha256(json.dumps(result["result"], sort_keys=True).encode()).hexdigest()
    here = result.keys() <= {"what", "result", "sha256"} and matches_key(path.stem, result["what"])
    if not here or result.get("sha256", said) != said:
        raise PotstillError("damaged: its content is not what it was written with; delete it, and it is made again")
    return ""
