"""What the public verbs are asked, put into one form: how much to keep, for how long, how hard to try, who watches."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

from potstill._util.formatting import parse_size, to_seconds
from potstill._util.progress import QUIET_SECONDS, ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.core import Budget, Method, Preset
from potstill.errors import PotstillError, unknown_name
from potstill.runs.loop import Progress

__all__ = [
    "CountCallback",
    "StepCallback",
    "advise_shorter_run",
    "parse_amount_and_time",
    "parse_duration",
    "parse_preset",
    "parse_size_budget",
    "parse_time_limit",
    "progress_context",
    "renamed",
]

StepCallback: TypeAlias = Callable[[Progress], None] | Literal["auto"] | None
"""Who is told of every step: a function; ``auto``, a bar or lines on stderr; ``None``, nobody."""


CountCallback: TypeAlias = ProgressReporter | Callable[[str, int, int], None] | Literal["auto"] | None
"""Who is told of everything that is made one by one: what, how many are there, how many there will be."""


def parse_size_budget(
    ipc: int | None = None, items: int | None = None, bytes: int | str | None = None, budget: Budget | None = None,
    balance: str | None = None,
) -> Budget:  # fmt: skip
    """How much to keep, said once, and how it is shared out between classes.

    Raises:
        PotstillError: it is said twice or not at all, it is no amount, or less than 1; or there is no such balance.
    """
    if balance is not None and balance not in ("natural", "equal"):
        raise unknown_name("balance", balance, ("natural", "equal"))
    if balance == "natural" and ipc is not None:
        raise PotstillError(
            "ipc is as many items of each class, but balance natural asks for items in proportion to the classes' "
            "samples; say how much with items or bytes"
        )
    given: list[tuple[Any, Any]] = [("ipc", ipc), ("items", items), ("bytes", bytes)]
    said = [(unit, amount) for unit, amount in given if amount is not None]
    if len(said) + (budget is not None) != 1:
        raise PotstillError("say how much to keep, once: ipc (items per class), items (in all) or bytes (such as 20kB)")
    if budget is not None:
        return budget
    unit, amount = said[0]
    if isinstance(amount, str) and unit == "bytes":
        try:
            amount = parse_size(amount)
        except ValueError as error:
            raise PotstillError(f"bytes: {error}") from error
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise PotstillError(f"{unit} must be a whole number, not {amount!r}")
    if amount < 1:
        what = {"ipc": "1 item per class", "items": "1 item", "bytes": "1 byte"}[unit]
        raise PotstillError(f"{unit} must be at least {what}, but it is {amount}")
    return Budget(unit=unit, amount=amount, balance=balance)  # type: ignore[arg-type]  # checked above


def parse_amount_and_time(
    ipc: int | None, items: int | None, bytes: int | str | None, time_limit: str | float | TimeLimit | None,
    balance: str | None = None,
) -> tuple[Budget, TimeLimit | None]:  # fmt: skip
    """How much to keep, and for how long, from now on where the limit does not run already.

    Raises:
        PotstillError: as `kept` and `parse_time_limit` raise it.
    """
    return parse_size_budget(ipc, items, bytes, balance=balance), parse_time_limit(time_limit)


def parse_time_limit(time_limit: str | float | TimeLimit | None) -> TimeLimit | None:
    """Return a time limit, which may be text: ``10m``.

    Raises:
        PotstillError: it is no duration.
    """
    if time_limit is None or isinstance(time_limit, TimeLimit):
        return time_limit
    return TimeLimit(parse_duration(time_limit, "time_limit"))


def parse_duration(value: str | float, name: str) -> float:
    """Return the seconds of a duration, which may be text: ``10m``. ``name`` is what the message calls it.

    Raises:
        PotstillError: it is none.
    """
    try:
        return to_seconds(value)
    except ValueError as error:
        raise PotstillError(f"{name}: {error}") from error


def renamed(options: dict[str, Any], names: Mapping[str, str], **new: Any) -> list[Any]:
    """The values of ``new``, those of the old names in ``options`` in their place; the old ones are taken out.

    Args:
        options: what a function was given beside its own arguments.
        names: old name → new name.
        new: what the function was given by the new names; ``None`` where nothing was.

    Raises:
        PotstillError: both names of one thing were given.
    """
    for old, name in names.items():
        if old not in options:
            continue
        value = options.pop(old)
        warnings.warn(f"{old} is now called {name}; {old} will go", DeprecationWarning, stacklevel=4)
        if new[name] is not None and value is not None:
            raise PotstillError(f"{name} and {old} are one thing; give {name} alone")
        new[name] = value if new[name] is None else new[name]
    return list(new.values())


def parse_preset(effort: str | None, method: str | Method[Any], steps: int | None = None) -> Preset | None:
    """How hard to try. Where nobody says: ``quick``; ``published`` where the steps are given; ``None`` for a method
    that is a value, which says all of it. A time limit cuts a run and changes nothing else in it.

    Raises:
        PotstillError: there is no such effort, or the method is a value.
    """
    if effort is not None and effort not in get_args(Preset):
        raise unknown_name("effort", effort, get_args(Preset))
    if not isinstance(method, str):
        if effort is not None:
            raise PotstillError(
                f"effort {effort} sets fields of a method that is named, but {type(method).__name__}(…) has all of its "
                "fields; leave effort out or give the name"
            )
        return None
    if effort is None:
        return "quick" if steps is None else "published"
    found: Preset = effort  # type: ignore[assignment]  # checked above
    return found


def advise_shorter_run(effort: Preset | None, method: Method[Any], prepares: bool) -> str:
    """How to ask for less than what a forecast says."""
    asks = []
    if effort in ("good", "published") and type(method).presets:
        asks.append('`effort="quick"`')
    if prepares:
        names = ("networks_trained", "epochs_trained", "epochs_recorded", "runs")
        fields = [n for n in names if getattr(method, n, 0) > 1]
        asks += [f"fewer `{n}=`" for n in fields]
    else:
        asks += ["`steps=N`", '`time_limit="30m"`']
    return " or ".join([", ".join(asks[:-1]), asks[-1]] if len(asks) > 1 else asks)


@contextmanager
def progress_context(progress: object) -> Iterator[ProgressReporter]:
    """The watcher for what ``progress`` says: one that is given, one of our own for ``auto``, else one that is silent.

    Raises:
        PotstillError: ``progress`` is none of what it may be.
    """
    if isinstance(progress, ProgressReporter):
        yield progress
        return
    if progress is not None and progress != "auto" and not callable(progress):
        raise PotstillError(f"progress must be a function, 'auto' or None, not {progress!r}")
    with ProgressReporter(quiet=progress != "auto", min_seconds=QUIET_SECONDS) as own:
        yield own
