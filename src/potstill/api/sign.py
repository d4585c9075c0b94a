"""``potstill.sign``: sign a file by an Ed25519 key, and make keys."""

from pathlib import Path

from potstill.api.verify import verify_file
from potstill.dataset_file.signature import create_keys, sign_file
from potstill.errors import PotstillError

__all__ = ["new_key", "sign"]


def sign(path: str | Path, key: str | Path, *, force: bool = False) -> Path:
    """Sign a file of Potstill's: write its hash, size and origin, signed, into ``FILE.sig.json`` beside it.

    The file itself is not changed. Needs the extra ``potstill[provenance]``.

    Args:
        path: a set, or any other file that `potstill.verify` knows.
        key: PEM file of an Ed25519 private key, as `potstill.api.sign.new_key` makes it.
        force: replace any file at the signature's path; by default only a signature by the same key.

    Returns:
        Path of the signature.

    Raises:
        PotstillError: the file is not whole, the key is of another kind, or the signature cannot be written.

    Examples:
        >>> from potstill.api.sign import new_key
        >>> public = new_key("signer.pem")
        >>> _ = potstill.distill("digits", "herding", ipc=1, progress=None).save("small.safetensors")
        >>> potstill.sign("small.safetensors", "signer.pem").name
        'small.safetensors.sig.json'
        >>> [verdict.problem for verdict in potstill.verify("small.safetensors", key=public)]
        ['']
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise PotstillError(f"{path}: one file to sign is required, but this is {'a folder' * path.is_dir() or 'none'}")
    verdict = verify_file(path, signed=False)
    if verdict.problem:
        raise PotstillError(f"{path}: only a whole file of Potstill's is signed, but: {verdict.problem}")
    return sign_file(path, Path(key), force=force)[0]


def new_key(path: str | Path) -> Path:
    """Write a new Ed25519 private key, readable by its owner alone, and its public key beside it.

    Args:
        path: path of the private key, ``NAME.pem``; nothing that is there is replaced.

    Returns:
        Path of the public key, ``NAME.pub.pem``.

    Raises:
        PotstillError: a file is there already or cannot be written, or the package for it is missing.

    Examples:
        >>> from potstill.api.sign import new_key
        >>> str(new_key("mine.pem"))
        'mine.pub.pem'
    """
    return create_keys(Path(path))[0]
