"""``potstill sign``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.checks import check_exists
from potstill.cli.command import Answer, Command, ForceOption, Misuse, Parsed, optional

__all__ = ["Sign"]


@dataclass(frozen=True, kw_only=True)
class Sign(ForceOption, Command):
    """Sign files by an Ed25519 key: hash, size and origin of each go, signed, into FILE.sig.json beside it.

    `potstill verify FILE --key PUBLIC.pem` checks them, on any machine and without a service. Publish the public key
    where others know that it is yours.
    """

    paths: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE ...", help_behavior_hint="")] = ()
    """Sets, or other files of Potstill."""
    key: Annotated[Path | None, optional("PRIVATE.pem")] = None
    """Private key to sign with: Ed25519, in PEM, without a passphrase."""
    new_key: Annotated[Path | None, optional("PRIVATE.pem")] = None
    """Make a key first: the private one for you alone, and the public one beside it, as .pub.pem. None is replaced."""

    examples: ClassVar[tuple[str, ...]] = (
        "potstill sign --new-key owner.pem",
        "potstill sign small.safetensors --key owner.pem",
    )

    def check(self) -> None:
        if self.key is not None and self.new_key is not None:
            raise Misuse("sign: --key and --new-key exclude each other; leave one of them out")
        if self.new_key is None and (self.key is None or not self.paths):
            absent = "--key PRIVATE.pem" if self.key is None else "at least one file"
            raise Misuse(f"sign: {absent} is required; `potstill sign --new-key PRIVATE.pem` makes a key")
        check_exists(self.paths)

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.sign import new_key, sign
        from potstill.dataset_file.signature import parse_public_key

        made = None if self.new_key is None else new_key(self.new_key)
        key = self.new_key or self.key
        assert key is not None
        signatures = [sign(path, key, force=self.force) for path in self.paths]
        digits = None if made is None else parse_public_key(made)
        lines = [] if made is None else [f"{key}: a new private key; keep it for yourself", f"{made}: {digits}"]
        lines += [f"{path}: signature of {file}" for file, path in zip(self.paths, signatures, strict=True)]
        value = {
            "private_key": None if made is None else str(key), "public_key": None if made is None else str(made),
            "digits": digits, "signatures": [str(path) for path in signatures],
        }  # fmt: skip
        return Answer(value, "\n".join(lines))
