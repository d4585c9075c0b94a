"""Progress on stderr: a bar on a terminal, a line every ten seconds elsewhere, with the estimated time left."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, runtime_checkable

from potstill._util.formatting import format_duration, format_estimate, format_estimate_words
from potstill._util.html import one_line
from potstill.errors import for_command_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["LONG_WORK_SECONDS", "Callback", "EtaEstimator", "ProgressReporter", "StepEvent", "collect_results"]

LINE_INTERVAL = 10.0
"""Seconds between lines where stderr is no terminal."""
LONG_WORK_SECONDS = 3600.0
"""Estimates from here on are announced first, with a hint how to shorten the work."""
MIN_ETA_SECONDS = 3.0
"""Seconds of steps after the first before an estimate is shown."""
QUIET_SECONDS = 2.0
"""Seconds before work called from Python is reported."""

Callback: TypeAlias = Callable[[str, int, int], None]
"""Called with name, done and total for every network, student or file that is finished."""
T = TypeVar("T")


def collect_results(results: Iterable[T], report: Callback, name: str, total: int) -> list[T]:
    """Return results that come one after another as a list; ``report`` is called for each."""
    collected: list[T] = []
    for result in results:
        collected.append(result)
        report(name, len(collected), total)
    return collected


@runtime_checkable
class StepEvent(Protocol):
    """Event of one step of a run, as `potstill.Progress` has it."""

    @property
    def step(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def time_limit(self) -> float | None: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


class EtaEstimator:
    """Estimate of the remaining time; the first update is a warm-up and does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def update(self, done: float, seconds: float) -> None:
        """Record the work done after a number of seconds."""
        if self._first is None or done < self._last[0]:
            self._first = (done, seconds)
        self._last = (done, seconds)

    @property
    def is_reliable(self) -> bool:
        """True after three steps that took a few seconds."""
        if self._first is None:
            return False
        return self._last[0] - self._first[0] >= 3 and self._last[1] - self._first[1] >= MIN_ETA_SECONDS

    def remaining(self, total: float) -> float | None:
        """Return the seconds until ``total`` is done; ``None`` before a second update."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        each = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        return max(0.0, each * (total - self._last[0]))


class ProgressReporter(AbstractContextManager["ProgressReporter"]):
    """Progress of one task at a time; ``quiet`` shows warnings alone, ``silent`` nothing. Text is never read as markup.

    Attributes:
        command_line: messages name options as the command line does.
    """

    def __init__(
        self, *, quiet: bool = False, silent: bool = False, min_seconds: float = 0.0, command_line: bool = False
    ) -> None:
        """Create a reporter that says nothing in a task's first ``min_seconds``."""
        self.command_line = command_line
        self._quiet, self._silent = quiet or silent, silent
        self._min_seconds = min_seconds
        self._task_name, self._steps_name, self._hint = "", "", ""
        self._started = self._last_line = 0.0
        self._printed = self._finished = False
        self._share: Callable[[], float | None] = lambda: None
        self._detail: Callable[[], str] = str
        self._eta, self._hinted = EtaEstimator(), False
        self._expected: dict[str, float] = {}
        self._bar: Bar | None = None
        self._lock, self._over = threading.RLock(), threading.Event()
        self._ticker: threading.Thread | None = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._bar is not None:
            self._bar.stop()

    # --- what is told -------------------------------------------------------------------------------------------

    def format_options(self, text: str) -> str:
        """Return ``text`` with options as the command line or Python names them."""
        return for_command_line(text) if self.command_line else text

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if self._quiet:
            return
        text = self.format_options(text)
        with self._lock:
            if self._bar is not None:
                self._bar.console.print(f"potstill: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)
            else:
                print(f"potstill: {one_line(text)}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print a highlighted line that stays, also when ``quiet``."""
        if self._silent:
            return
        with self._lock:
            loud = f"potstill: WARNING: {one_line(self.format_options(text))}"
            if self._bar is not None:
                self._bar.console.print(loud, markup=False, highlight=False, soft_wrap=True, style="bold red")
            else:
                print(f"\x1b[1;31m{loud}\x1b[0m" if sys.stderr.isatty() else loud, file=sys.stderr, flush=True)

    def begin(self, what: str, less: str = "") -> None:
        """Start a task of steps; ``less`` is the hint how to make fewer of them."""
        self._steps_name, self._hint, self._eta, self._hinted = what, self.format_options(less), EtaEstimator(), False

    def report_step(self, what: str, event: StepEvent) -> None:
        """Report a step of the task ``what``."""
        if what != self._steps_name:
            self.begin(what)
        self(event)

    def expect(self, what: str, seconds: float, description: str) -> None:
        """Announce a task: its expected seconds, and a description of its work."""
        self._expected[what] = seconds
        if seconds >= LONG_WORK_SECONDS:
            self.note(
                f"{description}: {format_estimate_words(seconds)} on this machine"
                + (f"; for less: {self._hint}" * bool(self._hint))
            )
        elif seconds >= 2 * LINE_INTERVAL:
            self.note(f"{description}: {format_estimate_words(seconds)}")

    def __call__(self, event: StepEvent) -> None:
        """Report a step of a run, by its number or by its time, whichever ends the run sooner."""
        if self._quiet:
            return
        with self._lock:
            self._eta.update(event.step, event.seconds)
            seconds_left = None if event.total is None else self._eta.remaining(event.total)
            if event.time_limit is not None:
                rest = max(0.0, event.time_limit - event.seconds)
                seconds_left = rest if seconds_left is None else min(seconds_left, rest)
            shares = [event.step / event.total] if event.total else []
            if event.time_limit is not None:
                shares.append(min(event.seconds / event.time_limit, 1.0))
            share = max(shares, default=None)
            nearer = bool(shares) and shares[0] == share  # steps that the time will not reach say nothing
            parts = [f"step {event.step:,}" + (f" of {event.total:,}" if event.total and nearer else "")]
            parts.append(
                format_duration(event.seconds)
                + (f" of {format_duration(event.time_limit)}" if event.time_limit is not None else "")
            )
            if seconds_left is not None and self._eta.is_reliable and share != 1.0:
                parts.append(f"about {format_estimate(seconds_left)} left")
            parts += [f"{name} {value:.4g}" for name, value in event.metrics.items()]
            known = self._eta.is_reliable and seconds_left is not None
            if known and not self._hinted and seconds_left is not None:
                self._hinted = True
                if seconds_left >= LONG_WORK_SECONDS:
                    self._long(event, seconds_left)
                if seconds_left > LINE_INTERVAL:
                    self._last_line = 0.0  # how long it will take is worth a line of its own
            self.show(self._steps_name, share, ", ".join(parts))

    def report_count(self, what: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` parts of a task, such as networks. It is a `Callback`."""
        if self._quiet:
            return
        now, expected = time.monotonic(), self._expected.get(what)
        if what != self._task_name:
            self._eta, first = EtaEstimator(), done
            self._counted = (now, first)
        started, first = self._counted
        self._eta.update(done, now - started)

        def seconds_left() -> float | None:
            passed = time.monotonic() - started
            if done > first and done < total:
                each = (now - started) / (done - first)
                return max(0.0, each * (total - done) - (time.monotonic() - now))
            return None if expected is None or done >= total else max(0.0, expected - passed)

        def share() -> float | None:
            if not total:
                return None
            if (rest := seconds_left()) is None:
                return done / total
            passed = time.monotonic() - started
            return max(done / total, min(0.99, passed / max(passed + rest, 1e-9)))

        def detail() -> str:
            rest = seconds_left()
            return f"{done:,} of {total:,}" + ("" if not rest or rest < 1 else f", about {format_estimate(rest)} left")

        rest = seconds_left()
        if rest is not None and rest >= LONG_WORK_SECONDS and done > first and not self._hinted:
            self._hinted = True
            self.note(
                f"{what}: {format_estimate_words(rest)} more on this machine"
                + f"; for less: {self._hint}" * bool(self._hint)
            )
        self._update(what, share, detail, done >= total)

    def show(self, what: str, share: float | None, detail: str) -> None:
        """Report a task of which ``share`` (0 to 1, if known) is done."""
        if not self._quiet:
            self._update(what, lambda: share, lambda: detail, share == 1.0)

    # --- how it is shown ----------------------------------------------------------------------------------------

    def _long(self, event: StepEvent, seconds: float) -> None:
        steps = "" if event.total is None else f" for {event.total - event.step:,} more steps"
        self.note(
            f"{self._steps_name}: {format_estimate_words(seconds)}{steps} on this machine"
            + (f"; for less: {self._hint}" if self._hint else "")
        )

    def _update(self, what: str, share: Callable[[], float | None], detail: Callable[[], str], finished: bool) -> None:
        with self._lock:
            now = time.monotonic()
            if what != self._task_name:
                self._task_name, self._started, self._printed, self._last_line = what, now, False, 0.0
            self._share, self._detail, self._finished = share, detail, finished
            if sys.stderr.isatty():
                self._draw()
            elif now - self._started >= self._min_seconds and (
                now - self._last_line >= LINE_INTERVAL or (finished and (self._printed or not self._min_seconds))
            ):
                self._line()
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()

    def _tick(self) -> None:
        """Refresh lines and bar during a long step."""
        while not self._over.wait(1.0):
            with self._lock:
                now = time.monotonic()
                if self._bar is not None:
                    self._draw()
                elif self._finished:
                    continue  # its last line stands
                elif now - self._started >= self._min_seconds and now - self._last_line >= LINE_INTERVAL:
                    self._line()

    def _line(self) -> None:
        self._last_line, self._printed = time.monotonic(), True
        self.note(f"{self._task_name}: {self._detail()}")

    def _draw(self) -> None:
        if self._bar is None:
            # Only now: it takes a tenth of a second, and most commands are done without.
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[detail]}", markup=False),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
            )
            self._task = self._bar.add_task(one_line(self._task_name), total=None, detail="")
            self._bar.start()
        share = self._share()
        self._bar.update(
            self._task, description=one_line(self._task_name), total=None if share is None else 1.0,
            completed=share or 0.0, detail=one_line(self._detail()),
        )  # fmt: skip
