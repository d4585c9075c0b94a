"""``potstill report`` and ``potstill serve``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.checks import check_exists
from potstill.cli.command import Answer, DataCommand, ForceOption, Misuse, Parsed, optional
from potstill.cli.reading import folder_metadata, load_data

__all__ = ["Report", "Serve"]


@dataclass(frozen=True, kw_only=True)
class Report(ForceOption, DataCommand):
    """Make one page, readable offline, of scorecards, leaderboards and distilled sets.

    For the folder of a comparison it shows accuracy against bytes and time, a leaderboard that sorts and filters, and
    images side by side.
    """

    paths: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR|FILE ...", help_behavior_hint="(at least one)")]
    """Folders to look through, or single files."""
    out: Annotated[Path, arg(metavar="page.html")]
    """The page to write."""
    data: Annotated[str | None, optional("DATA")] = None
    """For a comparison: its real data, to show the nearest real image beside each distilled one."""

    examples: ClassVar[tuple[str, ...]] = ("potstill report results/ --out page.html",)
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".html", ".htm")}

    def check(self) -> None:
        if not self.paths:
            raise Misuse("report: give at least one folder or file of results")
        check_exists(self.paths)

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output, describe_foreign_page
        from potstill.api.report import report

        if self.out.exists():
            check_output(self.out, force=self.force, found=describe_foreign_page)
        data = None
        if self.data is not None:
            data = load_data(parsed, self.data, progress, folder_metadata(self.paths[0]))
        page = report(self.paths, self.out, data=data, force=self.force)
        return Answer({"path": str(page)}, str(page))


@dataclass(frozen=True, kw_only=True)
class Serve(DataCommand):
    """Serve the page of a comparison on this machine while it runs; the page reloads itself as cells are done.

    Only this machine reaches it (127.0.0.1), and nothing but the page is served. Ctrl-C ends it.
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """The folder of the comparison."""
    port: Annotated[int, arg(metavar="N")] = 8620
    """Port of http://127.0.0.1:N/; 0 takes any free one."""
    data: Annotated[str | None, optional("DATA")] = None
    """Its real data, to show the nearest real image beside each distilled one."""

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.serve import serve

        data = None if self.data is None else load_data(parsed, self.data, progress, folder_metadata(self.folder))

        def on_ready(url: str) -> None:
            progress.note(f"{url} shows {self.folder} until Ctrl-C")

        serve(self.folder, port=self.port, data=data, command=parsed.line, ready=on_ready)
        return Answer({"folder": str(self.folder)}, "Stopped.")
