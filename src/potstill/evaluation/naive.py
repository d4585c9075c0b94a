"""Answers that learn nothing: naive forecasts from each window alone, the largest class; errors in real units.

Last value, seasonal, mean and drift: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, section 5.2. A
set that does not beat them is of no use, whatever it gains over random samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from potstill.core import Source, Task
from potstill.core.nested import single_tensor
from potstill.data.series import SeriesSource
from potstill.functional.seasons import find_season
from potstill.tasks import Classification, Forecast, Recommendation, get_targets
from potstill.verdicts import LARGEST, POPULAR, class_spread, class_warnings, largest_class_line

__all__ = ["forecast_scores", "naive_forecasts", "naive_lines", "naive_scores", "unit_errors"]

_BATCH = 4096


def _covered(source: SeriesSource) -> Bool[Tensor, " T"]:
    """Return a mask of the points in time that lie in a window of ``source`` or its horizon."""
    ends = torch.zeros(len(source.series) + 1, dtype=torch.int64)
    ends.index_add_(0, source.starts, torch.ones_like(source.starts))
    ends.index_add_(0, source.starts + source.task.window + source.task.horizon, -torch.ones_like(source.starts))
    return ends.cumsum(0)[:-1] > 0


def naive_forecasts(x: Float[Tensor, "n v w"], horizon: int, season: int | None) -> dict[str, Float[Tensor, "n v h"]]:
    """Return the next ``horizon`` values by name, each computed from a window alone, in its units.

    ``last value`` repeats it; ``seasonal (S)`` repeats the last season of S ≤ w values; ``mean`` is that of the window;
    ``drift`` continues the line from the first value to the last.
    """
    last, ahead = x[..., -1:], torch.arange(1, horizon + 1, dtype=x.dtype, device=x.device)
    found = {"last value": last.expand(-1, -1, horizon)}
    if season is not None and season <= x.shape[-1]:
        places = x.shape[-1] - season + torch.arange(horizon, device=x.device) % season
        found[f"seasonal ({season})"] = x[..., places]
    found["mean"] = x.mean(-1, keepdim=True).expand(-1, -1, horizon)
    if x.shape[-1] > 1:
        found["drift"] = last + (last - x[..., :1]) / (x.shape[-1] - 1) * ahead
    return found


def naive_scores(task: Task, train: Source, test: Source) -> dict[str, dict[str, Any]]:
    """Return ``score`` of each answer to the test split that learns nothing; empty for tasks that have none.

    For classes: ``largest class``, the accuracy of always answering the largest one of the training data. For
    forecasts: each naive forecast, with the further metrics and ``units``. For recommendations: ``popular items``,
    those that most training users met and the user did not.
    """
    if isinstance(task, Recommendation):
        return _popular_items(task, train, test)
    if isinstance(task, Classification):
        largest = int(torch.bincount(train.labels.cpu(), minlength=task.k).argmax())
        score = float((test.labels == largest).double().mean())
        return {LARGEST: {"score": score, "class": str(train.classes[largest])}}
    if not isinstance(task, Forecast):
        return {}
    season = task.season or None
    if season is None and isinstance(train, SeriesSource):
        season = find_season(train.series.cpu()[:, : len(task.variables)], task.window, _covered(train))
    parts: dict[str, list[Tensor]] = {}
    for at in torch.split(torch.arange(len(test)), _BATCH):
        windows = single_tensor(test.raw(at), "a naive forecast")[:, : len(task.variables) or None]
        for name, values in naive_forecasts(windows, task.horizon, season).items():
            parts.setdefault(name, []).append(values.flatten(1).cpu())
    targets = get_targets(test).cpu()
    return {name: forecast_scores(task, torch.cat(values), targets) for name, values in parts.items()}


def forecast_scores(task: Forecast, answers: Float[Tensor, "n t"], targets: Float[Tensor, "n t"]) -> dict[str, Any]:
    """Return the JSON of one forecast: ``score``, the further metrics by name, and ``units``."""
    return {
        "score": task.score(answers, targets), **task.further_scores(answers, targets),
        "units": unit_errors(task, [answers], targets),
    }  # fmt: skip


def _popular_items(task: Recommendation, train: Source, test: Source) -> dict[str, dict[str, Any]]:
    """Return the scores of recommending the items that most training users met."""
    interactions, users = getattr(test, "interactions", None), getattr(test, "places", None)
    if interactions is None or users is None:
        return {}
    parts = torch.split(torch.arange(len(train)), _BATCH)
    popular = torch.stack([single_tensor(train.raw(at), POPULAR).double().sum(0).cpu() for at in parts]).sum(0)
    answers = torch.cat([
        task.answers(popular.expand(len(at), -1), interactions.met(at), interactions.held_out(at))
        for at in torch.split(users, _BATCH)
    ])  # fmt: skip
    further = task.further_scores(answers, users, None)
    return {POPULAR: {"score": task.score(answers, users), "metrics": further}}


def unit_errors(task: Task, answers: Sequence[Tensor | None], targets: Tensor) -> dict[str, dict[str, float]]:
    """Return ``rmse`` and ``mae`` of each variable in its own units, the mean over students; empty for other tasks.

    Args:
        answers: of each student (n, v·horizon); ``None`` (diverged) is skipped.
        targets: (n, v·horizon).
    """
    held = [a for a in answers if a is not None]
    if not isinstance(task, Forecast) or not held:
        return {}
    y = targets.double().cpu().reshape(len(targets), len(task.variables), task.horizon)
    errors = [a.double().cpu().reshape(y.shape) - y for a in held]
    rmse = torch.stack([e.square().mean((0, 2)).sqrt() for e in errors]).mean(0).tolist()
    mae = torch.stack([e.abs().mean((0, 2)) for e in errors]).mean(0).tolist()
    return {name: {"rmse": r, "mae": m} for name, r, m in zip(task.variables, rmse, mae, strict=True)}


def _class_lines(content: Mapping[str, Any]) -> list[str]:
    """Return the lines about classes: the rate of the largest, a wide spread, and warnings."""
    lines = [line for line in (largest_class_line(content),) if line]
    if spread := class_spread(content):
        lines.append(f"class by class: {spread}")
    return lines + [f"warning: {warning}" for warning in class_warnings(content)]


def _further_lines(content: Mapping[str, Any], best: str) -> list[str]:
    """Return a line for each further metric of a forecast, beside random windows and the best naive forecast."""
    lines = []
    for name, said in (content.get("metrics") or {}).items():
        beside = [f"{best} {content['naive'][best][name]:.4g}"]
        if random := (content["baselines"].get("random", {}).get("metrics") or {}).get(name):
            beside.insert(0, f"random {random['mean']:.4g}")
        lines.append(f"{name.upper()} ({said['unit']}): {said['mean']:.4g} ({', '.join(beside)})")
    return lines


def horizon_lines(content: Mapping[str, Any]) -> list[str]:
    """Return the line on the horizon where a set was made for another; none otherwise."""
    entry: Mapping[str, Any] = content.get("forecast") or {}
    made_for = entry.get("made_for")
    if not isinstance(made_for, Mapping):
        return []
    return [
        f"measured for {entry['horizon']} values to come from windows of {entry['window']}; the set was made for "
        f"{made_for['horizon']} from windows of {made_for['window']}"
    ]


def naive_lines(content: Mapping[str, Any], shown: Any) -> list[str]:
    """Return the scorecard's printed lines about answers that learn nothing, classes, and errors in real units.

    Args:
        content: the scorecard's JSON.
        shown: formats a score.
    """
    naive: Mapping[str, Any] = content.get("naive") or {}
    if not naive:
        return []
    if LARGEST in naive:
        return _class_lines(content)
    own = float(content["score"]["mean"])
    if POPULAR in naive:
        score = float(naive[POPULAR]["score"])
        lines = [f"the {POPULAR}, which learn nothing: {shown(score)}"]
        if score >= own:
            lines.append(f"warning: recommending the {POPULAR} is as good as what this set trains: {shown(score)} "
                         f"against {shown(own)}")  # fmt: skip
        return lines
    lines = horizon_lines(content)
    lines += ["forecasts that learn nothing: " + ", ".join(f"{n} {shown(of['score'])}" for n, of in naive.items())]
    yardsticks: Mapping[str, Any] = content.get("yardsticks") or {}
    if yardsticks:
        named = (
            f"{name} {shown(of['score'])} ({'; '.join(sorted(set(of['models'])))})" for name, of in yardsticks.items()
        )
        lines.append(f"fitted to the whole training series: {', '.join(named)}")
    best = min(naive, key=lambda name: float(naive[name]["score"]))
    if float(naive[best]["score"]) < own:
        lines.append(f"warning: {best} is a better forecast than this set trains: {shown(naive[best]['score'])} "
                     f"against {shown(own)}")  # fmt: skip
    lines += _further_lines(content, best)
    units: Mapping[str, Any] = content.get("units") or {}
    random = content["baselines"].get("random", {}).get("units") or {}
    for name, errors in list(units.items())[:6]:
        beside = [f"random {random[name]['rmse']:.4g}"] if name in random else []
        beside.append(f"{best} {naive[best]['units'][name]['rmse']:.4g}")
        lines.append(
            f"{name}, in its own units: off by {errors['rmse']:.4g} (root of the mean square; {', '.join(beside)}), "
            f"{errors['mae']:.4g} on average"
        )
    if len(units) > 6:
        lines.append(f"… and {len(units) - 6} more variables (under units in the scorecard)")
    return lines
