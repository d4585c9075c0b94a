"""Forecasts of another horizon, or from other windows, than a set was made for: the set and real data cut alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from potstill.core import Source, Splits
from potstill.core.registry import create
from potstill.data.series import SeriesSource
from potstill.dataset_file import Distilled
from potstill.dataset_file.series_io import recut_set
from potstill.errors import PotstillError
from potstill.evaluation.fitting import same_content
from potstill.tasks import Forecast, Task, get_task

__all__ = ["cut_for_set", "cut_for_task", "horizon_entry", "names_forecast"]


def names_forecast(card: Mapping[str, Any], task: str | Task | None) -> bool:
    """Return True where a set is of forecasts and so is the task: it is then no option of reading the data."""
    name = task.partition(":")[0] if isinstance(task, str) else getattr(task, "name", None)
    return name == "forecast" and (card.get("task") or {}).get("name") == "forecast"


def cut_for_set(splits: Splits, distilled: Distilled) -> Splits:
    """Return splits of a series in the windows and with the horizon that the set was made for, others as they are."""
    # of another task perhaps, which this machine may not have
    own = distilled.task if names_forecast(distilled.metadata, "forecast") else None
    return _recut(splits, own.window, own.horizon) if isinstance(own, Forecast) else splits


def cut_for_task(distilled: Distilled, splits: Splits, task: str | Task | None) -> tuple[Distilled, Splits]:
    """Return a set of forecasts and its data in the windows and with the horizon of ``task``, by default the data's.

    Args:
        task: ``forecast:window=24,horizon=6``, of which each setting is the set's own by default; or such a task.

    Raises:
        PotstillError: it is no forecast, names more than another window and horizon, or no window fits.
    """
    is_forecast = names_forecast(distilled.metadata, "forecast")
    if task is None and not (is_forecast and isinstance(get_task(splits.train), Forecast)):
        return distilled, splits
    own, given = distilled.task, get_task(splits.train)
    if not isinstance(own, Forecast) or not isinstance(given, Forecast):
        raise PotstillError(
            f"`task=` needs a set and data of forecasts, but these are of {own.name} and {given.name}; leave it out"
        )
    window, horizon = (given.window, given.horizon) if task is None else _parse_horizon(task, own)
    made = cut_for_set(splits, distilled).train
    small, cut = recut_set(distilled, window, horizon), _recut(splits, window, horizon)
    if small is not distilled and same_content(distilled.metadata["source"].get("hash"), made.content_hash):
        source = {**distilled.metadata["source"], "hash": cut.train.content_hash, "samples": len(cut.train)}
        small.metadata["source"] = source
    return small, cut


def horizon_entry(distilled: Distilled) -> dict[str, Any]:
    """Return the scorecard's ``forecast``: window and horizon, and those of the set where it was made for others."""
    task = distilled.task if names_forecast(distilled.metadata, "forecast") else None
    if not isinstance(task, Forecast):
        return {}
    made = distilled.metadata.get("made_for")
    entry = {"window": task.window, "horizon": task.horizon}
    return {"forecast": entry | ({} if made is None else {"made_for": dict(made)})}


def _parse_horizon(task: str | Task, of_set: Forecast) -> tuple[int, int]:
    """Return the window and the horizon that a task names, by default the set's."""
    if isinstance(task, str):
        name, _, settings = task.partition(":")
        parsed = create("tasks", task)
        named = {setting.partition("=")[0] for setting in settings.split(",") if setting}
    else:
        name, parsed, named = task.name, task, {"window", "horizon"}
    if not isinstance(parsed, Forecast):
        raise PotstillError(
            f'this set forecasts, but the task is {name}; write `task="forecast:horizon=H"`, or leave `task=` out'
        )
    for setting in sorted(named - {"window", "horizon"}):
        was, now = getattr(of_set, setting), getattr(parsed, setting)
        if now != was:
            raise PotstillError(
                f"only window and horizon may differ from the set's, but {setting} is {now}, not {was}; leave it out"
            )
    window, horizon = (getattr(parsed if n in named else of_set, n) for n in ("window", "horizon"))
    if min(window, horizon) < 1:
        raise PotstillError(f"window and horizon must be at least 1, but they are {window} and {horizon}")
    return window, horizon


def _recut(splits: Splits, window: int, horizon: int) -> Splits:
    def recut(source: Source) -> Source:
        if not isinstance(source, SeriesSource) or (source.task.window, source.task.horizon) == (window, horizon):
            return source
        return source.recut(window, horizon)

    return replace(splits, train=recut(splits.train), test=None if splits.test is None else recut(splits.test))
