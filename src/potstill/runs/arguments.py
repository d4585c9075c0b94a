"""Parse the arguments that public functions share: size budget, time limit, preset, callbacks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

from potstill._util.formatting import parse_size, to_seconds
from potstill._util.progress import QUIET_SECONDS, Callback, ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.core import Budget, Method, Preset
from potstill.errors import PotstillError, unknown_name
from potstill.runs.loop import Progress

__all__ = [
    "FURTHER_BASELINES", "CountCallback", "StepCallback", "advise_shorter_run", "count_callback", "parse_baselines",
    "parse_duration", "parse_preset", "parse_size_budget", "parse_time_limit", "progress_context",
]  # fmt: skip

FURTHER_BASELINES = ("model", "arima", "ets")
"""Baselines that are measured where they are named."""

StepCallback: TypeAlias = Callable[[Progress], None] | Literal["auto"] | None
"""A function called after every step; ``auto``: a progress bar or lines on stderr; ``None``: silent."""

CountCallback: TypeAlias = ProgressReporter | Callback | Literal["auto"] | None
"""A function ``callback(name, done, total)``; ``auto``: a progress bar or lines on stderr; ``None``: silent."""


def parse_size_budget(
    ipc: int | None = None, items: int | None = None, bytes: int | str | None = None, *, balance: str | None = None
) -> Budget:
    """Return the size budget, which is given once: as ``ipc``, ``items`` or ``bytes``.

    Raises:
        PotstillError: it is given twice or not at all, it is no number, or below 1; or there is no such balance.
    """
    if balance is not None and balance not in ("natural", "equal"):
        raise unknown_name("balance", balance, ("natural", "equal"))
    if balance == "natural" and ipc is not None:
        raise PotstillError(
            "ipc is as many items of each class, but balance natural asks for items in proportion to the classes' "
            "samples; say how much with items or bytes"
        )
    amounts: list[tuple[Any, Any]] = [("ipc", ipc), ("items", items), ("bytes", bytes)]
    amounts = [(unit, amount) for unit, amount in amounts if amount is not None]
    if len(amounts) != 1:
        raise PotstillError("say how much to keep, once: ipc (items per class), items (in all) or bytes (such as 20kB)")
    unit, amount = amounts[0]
    if isinstance(amount, str) and unit == "bytes":
        try:
            amount = parse_size(amount)
        except ValueError as error:
            raise PotstillError(f"bytes: {error}") from error
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise PotstillError(f"{unit} must be a whole number, not {amount!r}")
    if amount < 1:
        least = {"ipc": "1 item per class", "items": "1 item", "bytes": "1 byte"}[unit]
        raise PotstillError(f"{unit} must be at least {least}, but it is {amount}")
    return Budget(unit=unit, amount=amount, balance=balance)  # type: ignore[arg-type]  # checked above


def parse_time_limit(time_limit: str | float | TimeLimit | None) -> TimeLimit | None:
    """Return a time limit that starts now, unless it runs already; it may be text: ``10m``.

    Raises:
        PotstillError: it is no duration.
    """
    if time_limit is None or isinstance(time_limit, TimeLimit):
        return time_limit
    return TimeLimit(parse_duration(time_limit, "time_limit"))


def parse_duration(value: str | float, name: str) -> float:
    """Return the seconds of a duration, which may be text: ``10m``. ``name`` is the argument's, for the message.

    Raises:
        PotstillError: it is none.
    """
    try:
        return to_seconds(value)
    except ValueError as error:
        raise PotstillError(f"{name}: {error}") from error


def parse_preset(preset: str | None, method: str | Method[Any], steps: int | None = None) -> Preset | None:
    """Return the preset. Default: ``quick``, but ``published`` where the steps are given; ``None`` for a method that is
    a value, which has all of its fields. A time limit cuts a run and changes nothing else in it.

    Raises:
        PotstillError: there is no such preset, or the method is a value.
    """
    if preset is not None and preset not in get_args(Preset):
        raise unknown_name("preset", preset, get_args(Preset))
    if not isinstance(method, str):
        if preset is not None:
            raise PotstillError(
                f"preset {preset} sets fields of a method that is named, but {type(method).__name__}(…) has all of its "
                "fields; leave preset out or give the name"
            )
        return None
    if preset is None:
        return "quick" if steps is None else "published"
    return preset  # type: ignore[return-value]  # checked above


def advise_shorter_run(preset: Preset | None, method: Method[Any], prepares: bool) -> str:
    """Return the arguments that ask for less than a forecast, as a phrase.

    Args:
        prepares: it is the forecast of what comes before the first step.
    """
    advice = []
    if preset in ("good", "published") and type(method).presets:
        advice.append('`preset="quick"`')
    if prepares:
        names = (
            "pretrained_networks", "pretrain_epochs", "num_teachers", "teacher_epochs", "num_experts", "train_epochs",
            "record_epochs", "runs",
        )  # fmt: skip
        advice += [f"fewer `{name}=`" for name in names if getattr(method, name, 0) > 1]
    else:
        advice += ["`steps=N`", '`time_limit="30m"`']
    return " or ".join([", ".join(advice[:-1]), advice[-1]] if len(advice) > 1 else advice)


def count_callback(progress: CountCallback, reporter: ProgressReporter) -> Callback:
    """Return the function that is called with counts: the caller's own, or the reporter's."""
    is_own = callable(progress) and not isinstance(progress, ProgressReporter)
    return progress if is_own else reporter.report_count  # type: ignore[return-value]


@contextmanager
def progress_context(progress: object) -> Iterator[ProgressReporter]:
    """Yield the reporter for a ``progress`` argument: itself, one on stderr for ``auto``, else a silent one.

    Raises:
        PotstillError: ``progress`` is no function, reporter, ``auto`` or ``None``.
    """
    if isinstance(progress, ProgressReporter):
        yield progress
        return
    if progress is not None and progress != "auto" and not callable(progress):
        raise PotstillError(f"progress must be a function, 'auto' or None, not {progress!r}")
    with ProgressReporter(quiet=progress != "auto", min_seconds=QUIET_SECONDS) as reporter:
        yield reporter


def parse_baselines(baselines: bool | Sequence[str] | str) -> tuple[str, ...]:
    """Return the names of further baselines.

    Raises:
        PotstillError: a name is unknown.
    """
    if isinstance(baselines, bool):
        return ()
    names = tuple(baselines.split(",")) if isinstance(baselines, str) else tuple(baselines)
    for name in names:
        if name not in FURTHER_BASELINES:
            raise unknown_name("baseline", str(name), FURTHER_BASELINES)
    return names
