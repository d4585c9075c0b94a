"""What a person sees on stderr while something runs: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from potstill.cli.text import clock, one_line

__all__ = ["Watcher"]

LINE_EVERY = 10.0
"""Seconds between lines where stderr is not a terminal."""


class Watcher(AbstractContextManager["Watcher"]):
    """Shows one thing at a time; ``quiet`` shows nothing. Text goes out as it is, never as markup."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._what = ""
        self._last_line = float("-inf")
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[detail]}", markup=False),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
            )
            self._task = self._bar.add_task("", total=None, detail="", visible=False)

    def __enter__(self) -> "Watcher":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """One line that stays."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(f"potstill: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"potstill: {one_line(text)}", file=sys.stderr, flush=True)

    def show(self, what: str, share: float | None, detail: str) -> None:
        """``what`` is going on and ``share`` (0 to 1) of it is done, as far as is known."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=what,
                total=None if share is None else 1.0,
                completed=share or 0.0,
                detail=detail,
                visible=True,
            )
            return
        now = time.monotonic()
        if what != self._what or now - self._last_line >= LINE_EVERY or share == 1.0:
            self._what, self._last_line = what, now
            self.note(f"{what}: {detail}")

    def step(
        self,
        what: str,
        *,
        step: int,
        total: int | None,
        seconds: float,
        budget: float | None,
        metrics: dict[str, float],
    ) -> None:
        """A step of a run: how far it is, by its steps or by its time, whichever ends it sooner."""
        shares = [step / total] if total else []
        if budget is not None:
            shares.append(min(seconds / budget, 1.0))
        parts = [f"step {step:,}" + (f" of {total:,}" if total else "")]
        parts.append(clock(seconds) + (f" of {clock(budget)}" if budget is not None else ""))
        parts += [f"{name} {value:.4g}" for name, value in metrics.items()]
        self.show(what, max(shares, default=None), ", ".join(parts))
