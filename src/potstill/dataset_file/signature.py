"""Signatures of files: a manifest with the file's hash, signed by an Ed25519 key, in ``FILE.sig.json`` beside it.

The signed bytes are `_PURPOSE` and the manifest as JSON with sorted names, without spaces, in ASCII. The manifest holds
the public key, so that it cannot be exchanged. It names no time, no place and no service: who the key belongs to is for
people to compare.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.atomic_write import os_error_text, sync_folder, write_atomic
from potstill._util.input_limits import check_limit
from potstill._util.optional import import_optional
from potstill._util.outputs import check_output, read_json_object
from potstill._util.strict_json import parse_json
from potstill.dataset_file.replacing import read_metadata_unchecked
from potstill.errors import PotstillError

__all__ = [
    "SIGNATURE_SUFFIX", "Signature", "check_signature", "create_keys", "parse_public_key", "read_private_key",
    "sign_file", "signature_path",
]  # fmt: skip

FORMAT = "potstill/signature/1"
SIGNATURE_SUFFIX = ".sig.json"
_PURPOSE = b"potstill/signature/1\n"
"""First bytes of what is signed: the signature is of nothing else that has the same JSON."""
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_LARGEST_KEY = 100_000
"""Bytes of a key file that are read."""
_HEX = re.compile(r"[0-9a-f]+")
_SIGNED_KEYS: Mapping[str, type] = {"file": str, "bytes": int, "sha256": str, "algorithm": str, "public_key": str}


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature that belongs to its file."""

    file: str
    """Name that the file had when it was signed."""
    public_key: str
    """Public key of the signer, in hexadecimal digits."""
    checked: bool
    """False where the package for it is missing: the hash alone was compared."""


def signature_path(file: Path) -> Path:
    """Return the path of a file's signature: ``FILE.sig.json``."""
    return file.with_name(file.name + SIGNATURE_SUFFIX)


def create_keys(private: Path) -> tuple[Path, str]:
    """Write a new private key, for its owner alone, and its public key beside it; files that are there stay.

    Args:
        private: path of the private key; the public one ends in ``.pub.pem``.

    Returns:
        Path and hexadecimal digits of the public key.

    Raises:
        PotstillError: one of the files is there, or cannot be written.
    """
    key = _ed25519().Ed25519PrivateKey.generate()
    coding = _serialization()
    public = private.with_name(f"{private.name.removesuffix('.pem')}.pub.pem")
    for path in (private, public):
        if os.path.lexists(path):
            raise PotstillError(f"{path}: is there already, and keys are never replaced; choose another path")
    secret = key.private_bytes(coding.Encoding.PEM, coding.PrivateFormat.PKCS8, coding.NoEncryption())
    _write_new(private, secret, 0o600)
    try:
        _write_new(
            public,
            key.public_key().public_bytes(coding.Encoding.PEM, coding.PublicFormat.SubjectPublicKeyInfo),
            0o644,
        )
    except PotstillError:
        private.unlink(missing_ok=True)
        raise
    return public, _digits(key.public_key())


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there, with these permissions from its first byte on."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be written ({os_error_text(error)}); choose another path") from error


def read_private_key(path: Path) -> Any:
    """Return the Ed25519 private key in a PEM file.

    Raises:
        PotstillError: the file has none, or one of another kind, or an encrypted one.
    """
    content = _read_key_file(path)
    hint = "make one with `potstill sign --new-key`"
    if b"PUBLIC KEY-----" in content:
        raise PotstillError(f"{path}: a private key is required to sign, but this is a public one; {hint}")
    if b"OPENSSH PRIVATE KEY-----" in content:
        raise PotstillError(f"{path}: a private key in PKCS#8 PEM is required, but this is one of OpenSSH; {hint}")
    try:
        key = _serialization().load_pem_private_key(content, password=None)
    except TypeError:
        raise PotstillError(
            f"{path}: an unencrypted private key is required, but this one has a passphrase; write one without to a "
            "private folder with openssl pkey"
        ) from None
    except (ValueError, _unsupported()) as error:
        raise PotstillError(f"{path}: holds no whole private key in PEM ({_line(error)}); {hint}") from error
    if not isinstance(key, _ed25519().Ed25519PrivateKey):
        raise PotstillError(f"{path}: an Ed25519 key is required, but this is {_kind(key)}; {hint}")
    return key


def parse_public_key(key: str | Path) -> str:
    """Return the hexadecimal digits of a public key.

    Args:
        key: a PEM file, or the digits themselves.

    Raises:
        PotstillError: it is neither, or a key of another kind or length.
    """
    text, path = str(key).strip().lower(), Path(key)
    if not os.path.lexists(path) and _HEX.fullmatch(text):
        if len(text) != 2 * _KEY_BYTES:
            raise PotstillError(
                f"a public key in hexadecimal has {2 * _KEY_BYTES} digits, but `key=` has {len(text)}; copy all of it, "
                "or give the file"
            )
        return text
    content = _read_key_file(path)
    hint = "give the signer's .pub.pem"
    if b"PRIVATE KEY-----" in content:
        raise PotstillError(f"{path}: a public key is required, but this is a private one; {hint}")
    try:
        public = _serialization().load_pem_public_key(content)
    except (ValueError, _unsupported()) as error:
        raise PotstillError(f"{path}: holds no whole public key in PEM ({_line(error)}); {hint}") from error
    if not isinstance(public, _ed25519().Ed25519PublicKey):
        raise PotstillError(f"{path}: an Ed25519 key is required, but this is {_kind(public)}; {hint}")
    return _digits(public)


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY)
    except FileNotFoundError:
        raise PotstillError(f"{path}: no such key; check the path") from None
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error


def _kind(key: Any) -> str:
    """Return the kind and length of a key of another algorithm, in words."""
    name = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    bits = getattr(key, "key_size", None)
    return f"one of {name}{'' if bits is None else f' with {bits:,} bits'}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def sign_file(file: Path, private: Path, *, force: bool = False) -> tuple[Path, str]:
    """Write the signature of a file beside it.

    Args:
        file: the file; its bytes are not changed.
        private: PEM file of an Ed25519 key.
        force: replace any file at the signature's path; by default only a signature by the same key.

    Returns:
        Path of the signature, and the public key's digits.

    Raises:
        PotstillError: the key or the file cannot be read, or the signature cannot be written.
    """
    key = read_private_key(private)
    public = _digits(key.public_key())
    out = check_output(
        signature_path(file), reads=[file, private], force=force, found=lambda at: _other_signature(at, public),
        in_data=True,
    )  # fmt: skip
    size, digest = _hash(file)
    manifest = {"file": file.name, "bytes": size, "sha256": digest, "algorithm": "Ed25519", "public_key": public}
    if identity := _identity(file):
        manifest["set"] = identity
    document = {"format": FORMAT, "manifest": manifest, "signature": key.sign(_signed_bytes(manifest)).hex()}
    write_atomic(out, (json.dumps(document, indent=1) + "\n").encode())
    return out, public


def _other_signature(path: Path, public: str) -> str:
    """Say what is at ``path`` instead of a signature by this key."""
    held = read_json_object(path)
    if held.get("format") != FORMAT or not isinstance(manifest := held.get("manifest"), dict):
        return "is there already, and is no signature"
    return "" if manifest.get("public_key") == public else "holds a signature by another key"


def _identity(file: Path) -> dict[str, Any]:
    """Return what a set's metadata say of its origin; empty: the file is no set."""
    metadata = read_metadata_unchecked(file) if file.suffix == ".safetensors" else None
    if metadata is None:
        return {}
    source, classes = metadata.get("source"), metadata.get("classes")
    names = ("format", "method", "seed", "ipc", "run_digest")
    return {
        **{name: metadata[name] for name in names if isinstance(metadata.get(name), str | int)},
        **({"classes": len(classes)} if isinstance(classes, list) else {}),
        "source": {
            name: source[name]
            for name in ("name", "samples", "hash")
            if isinstance(source, dict) and isinstance(source.get(name), str | int)
        },
    }


def _signed_bytes(manifest: Mapping[str, Any]) -> bytes:
    return _PURPOSE + json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _hash(file: Path) -> tuple[int, str]:
    try:
        with file.open("rb") as content:
            return os.fstat(content.fileno()).st_size, hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise PotstillError(f"{file}: cannot be read ({os_error_text(error)}); check the path") from error


def check_signature(file: Path, public: str | None = None) -> Signature | None:
    """Check the signature beside a file; ``None``: there is none.

    Args:
        file: the signed file.
        public: digits of the public key that must have signed it; ``None``: any.

    Raises:
        PotstillError: the signature is damaged, by another key, or of another file.
    """
    path = signature_path(file)
    if not os.path.lexists(path):
        return None
    manifest, signature = _read_signature(path)
    signer, checked = manifest["public_key"], public is not None or importlib.util.find_spec("cryptography") is not None
    if checked:
        key = _ed25519().Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer))
        invalid = import_optional("cryptography.exceptions", "a signature", "provenance").InvalidSignature
        try:
            key.verify(signature, _signed_bytes(manifest))
        except invalid:
            raise PotstillError(
                f"{path}: damaged or forged: its signature is not of its content; get it from the signer again"
            ) from None
    if public not in (None, signer):
        raise PotstillError(f"{path}: signed by key {signer[:16]}…, but {public[:16]}… is required; ask the signer")
    size, digest = _hash(file)
    if (size, digest) != (manifest["bytes"], manifest["sha256"]):
        raise PotstillError(
            f"{path}: the signature of another file or an earlier one: sha256 {manifest['sha256'][:16]}… instead of "
            f"{digest[:16]}…; get file and signature again"
        )
    return Signature(file=manifest["file"], public_key=signer, checked=checked)


def _read_signature(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the manifest and the signature in a file."""
    reason = ""
    try:
        check_limit("json_bytes", path.stat().st_size, str(path))
        held = parse_json(path.read_bytes())
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error
    except ValueError as error:
        held, reason = None, f"not JSON that is whole, {_line(error)}"
    if isinstance(held, dict) and held.get("format") != FORMAT:
        reason = f"its format is {str(held.get('format'))[:40]!r}, not {FORMAT}"
    manifest, signature = (held.get("manifest"), held.get("signature")) if isinstance(held, dict) else (None, None)
    if not reason and isinstance(manifest, dict):
        absent = [name for name, kind in _SIGNED_KEYS.items() if type(manifest.get(name)) is not kind]
        reason = f"its manifest lacks a valid {absent[0]!r}" if absent else _wrong_length(manifest, signature)
    elif not reason:
        reason = "it holds no manifest"
    if reason:
        raise PotstillError(f"{path}: no whole signature ({reason}); get it from the signer again")
    assert isinstance(manifest, dict)
    return manifest, bytes.fromhex(str(signature))


def _wrong_length(manifest: Mapping[str, Any], signature: object) -> str:
    """Say which number of a signature has not its length; empty: all have."""
    numbers = {
        "public_key": (manifest["public_key"], _KEY_BYTES), "sha256": (manifest["sha256"], 32),
        "signature": (signature, _SIGNATURE_BYTES),
    }  # fmt: skip
    for name, (value, size) in numbers.items():
        if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) != 2 * size:
            return f"its {name} must have {2 * size} hexadecimal digits"
    return "" if manifest["algorithm"] == "Ed25519" else f"its algorithm is {manifest['algorithm'][:40]!r}, not Ed25519"


def _digits(public: Any) -> str:
    coding = _serialization()
    raw: bytes = public.public_bytes(coding.Encoding.Raw, coding.PublicFormat.Raw)
    return raw.hex()


def _ed25519() -> Any:
    return import_optional("cryptography.hazmat.primitives.asymmetric.ed25519", "a signature", "provenance")


def _serialization() -> Any:
    return import_optional("cryptography.hazmat.primitives.serialization", "a signature", "provenance")


def _unsupported() -> type[Exception]:
    exceptions = import_optional("cryptography.exceptions", "a signature", "provenance")
    unsupported: type[Exception] = exceptions.UnsupportedAlgorithm
    return unsupported
