"""``potstill verify`` and ``potstill cache``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill._util.formatting import about
from potstill._util.progress import Watcher
from potstill.cli.commands import Cache, Verify
from potstill.cli.parsing import Parsed
from potstill.cli.runners.parts import Answer
from potstill.cli.text import columns, plural

if TYPE_CHECKING:
    from potstill.api.verify import Verdict

__all__ = ["run_cache", "run_verify"]


def run_verify(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.verify import verify

    command = parsed.command
    assert isinstance(command, Verify)
    return _told([verdict for path in command.paths for verdict in verify(path)])


def run_cache(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.cache_dir import cache_folder
    from potstill.api.cache import kept, prune, verify_cache

    command = parsed.command
    assert isinstance(command, Cache)
    asked = {"kind": command.kind, "unused": command.unused, "at-most": command.at_most, "damaged": command.damaged}
    given = [name for name, value in asked.items() if value]
    if command.what == "verify":
        return _told(verify_cache())
    if command.what == "prune":
        everything = given == ["kind"]
        files, freed = prune(
            kind=command.kind, unused_days=command.unused, at_most=0 if everything else command.at_most,
            damaged=command.damaged,
        )  # fmt: skip
        return Answer({"files": files, "bytes": freed}, f"deleted {plural(files, 'file')}, {freed:,} bytes")
    rows = kept()
    table = [(row.kind, f"{row.files:,}", f"{row.bytes:,}", f"{about(row.used * 86_400)} ago") for row in rows]
    text = columns(("kind", "files", "bytes", "last used"), table) if rows else "nothing is kept"
    value = {"folder": str(cache_folder()), "kinds": [row.to_dict() for row in rows]}
    return Answer(value, f"{cache_folder()}: {sum(row.bytes for row in rows):,} bytes\n{text}")


def _told(verdicts: "Sequence[Verdict]") -> Answer:
    """What each file is; a failure where one is not whole."""
    broken = [v for v in verdicts if v.problem]
    lines = [
        f"{'NOT WHOLE' if v.problem else 'whole':<9}  {v.path}: {v.kind or 'unknown'}"
        + f"{'' if not v.about else f', {v.about}'}{'' if v.sealed or v.problem else ' (it says no hash)'}"
        + (f": {v.problem}" if v.problem else "")
        for v in verdicts
    ]
    failure = None
    if broken:
        failure = f"{len(broken)} of {plural(len(verdicts), 'file')} not whole, such as {broken[0].path}"
    return Answer([v.to_dict() for v in verdicts], "\n".join(lines) or "no files of Potstill", failure)
