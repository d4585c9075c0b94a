"""``potstill verify`` and ``potstill cache``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Flag, Misuse, Parsed, optional
from potstill.cli.option_types import Bytes
from potstill.cli.text import Table, plural

if TYPE_CHECKING:
    from potstill.api.verify import Verdict

__all__ = ["Cache", "Verify"]


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Check that files are complete: read all of each, compare it with its hash, and run nothing in it.

    Of a folder: every file of Potstill in it and below. Exit status 1 where one is damaged. A signature beside a file,
    as `potstill sign` writes it, must be of this file; with --key, and by this key.
    """

    paths: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR|FILE ...", help_behavior_hint="(at least one)")]
    """Files, or folders to look through."""
    key: Annotated[str | None, optional("PUBLIC.pem")] = None
    """Public key that must have signed the files, and the sets in the folders: a PEM file, or 64 hexadecimal digits."""

    examples: ClassVar[tuple[str, ...]] = ("potstill verify small.safetensors --key owner.pub.pem",)

    def check(self) -> None:
        if not self.paths:
            raise Misuse("verify: at least one file or folder is required")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.verify import verify

        return _verdicts([verdict for path in self.paths for verdict in verify(path, key=self.key)], self.key)


@dataclass(frozen=True, kw_only=True)
class Cache(Command):
    """List, verify or prune the cache in $POTSTILL_CACHE: networks, trajectories, decoded files and so on.

    Only files that Potstill wrote there are deleted, none that a running process uses. A later run makes again what it
    lacks.
    """

    what: Annotated[
        Positional[Literal["list", "verify", "prune"]], arg(metavar="list|verify|prune", help_behavior_hint="")
    ] = "list"
    """Action."""
    kind: Annotated[str | None, optional("KIND")] = None
    """prune: only this kind, as list names it."""
    unused: Annotated[int | None, optional("DAYS")] = None
    """prune: files that were not used for this many days."""
    at_most: Annotated[Bytes | None, optional("5GB")] = None
    """prune: until no more is left, least recently used first."""
    damaged: Flag = False
    """prune: damaged files."""

    def _filters(self) -> list[str]:
        values = {"kind": self.kind, "unused": self.unused, "at-most": self.at_most, "damaged": self.damaged}
        return [name for name, value in values.items() if value]

    def check(self) -> None:
        filters = self._filters()
        if self.what != "prune" and filters:
            raise Misuse(f"cache: --{filters[0]} is of prune; leave it out")
        if self.what == "prune" and not filters:
            raise Misuse("cache: prune needs what to delete: --unused DAYS, --at-most 5GB, --damaged, or --kind KIND")

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.cache_dir import cache_dir
        from potstill.api.cache import list_cache, prune, verify_cache

        if self.what == "verify":
            return _verdicts(verify_cache())
        if self.what == "prune":
            everything = self._filters() == ["kind"]
            files, freed = prune(
                kind=self.kind, unused_days=self.unused, at_most=0 if everything else self.at_most,
                damaged=self.damaged,
            )  # fmt: skip
            return Answer({"files": files, "bytes": freed}, f"deleted {plural(files, 'file')}, {freed:,} bytes")
        rows = list_cache()
        table = [
            (row.kind, f"{row.files:,}", f"{row.bytes:,}", f"{format_estimate_words(row.used * 86_400)} ago")
            for row in rows
        ]
        text = Table(("kind", "files", "bytes", "last used"), table) if rows else "nothing is cached"
        value = {"folder": str(cache_dir()), "kinds": [row.to_dict() for row in rows]}
        return Answer(value, [f"{cache_dir()}: {sum(row.bytes for row in rows):,} bytes", text])


def _verdicts(verdicts: "Sequence[Verdict]", key: str | None = None) -> Answer:
    """Return one line a file, and a failure where one is damaged."""
    compared = ", which nobody compared: give --key" if key is None else ""
    broken = [v for v in verdicts if v.problem]
    lines = [
        f"{'NOT WHOLE' if v.problem else 'whole':<9}  {v.path}: {v.kind or 'unknown'}"
        + f"{'' if not v.about else f', {v.about}'}{'' if v.sealed or v.problem else ' (it says no hash)'}"
        + (f", signed by {v.signed_by[:16]}…{compared}" if v.signed_by else "")
        + (f": {v.problem}" if v.problem else "")
        for v in verdicts
    ]
    failure = None
    if broken:
        failure = f"{len(broken)} of {plural(len(verdicts), 'file')} not whole, such as {broken[0].path}"
    return Answer([v.to_dict() for v in verdicts], "\n".join(lines) or "no files of Potstill", failure)
