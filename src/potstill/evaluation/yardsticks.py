"""Forecasts by ARIMA and exponential smoothing (ETS), beside which a set's learners stand: statsmodels' models.

One model of each variable is fitted to the training series, and its order chosen by held-out training windows. With its
parameters fixed, a forecast is an affine function of the window, so that one filter pass for each of its values gives
the map for all windows. Hyndman and Athanasopoulos, Forecasting: Principles and Practice, sections 8 and 9.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.optional import import_optional
from potstill.core import Source, Task
from potstill.core.nested import single_tensor
from potstill.data.series import SeriesSource
from potstill.errors import PotstillError
from potstill.evaluation.naive import forecast_scores
from potstill.functional.seasons import find_season
from potstill.tasks import Forecast, get_targets

__all__ = ["yardstick_scores"]

Array: TypeAlias = npt.NDArray[np.float64]
Forecaster: TypeAlias = Callable[[Array], Array]
"""Returns the values that follow a window (w,)."""

_ORDERS = ((1, 0, 0), (2, 0, 0), (0, 1, 1), (1, 1, 1), (2, 1, 2))
_MOST_POINTS, _MOST_SEASON, _MOST_VARIABLES = 1000, 24, 16
"""The latest points that a model is fitted to, the longest season of an ARIMA model, the most variables. Ours."""
_HELD_OUT = 0.2
_WHO = "forecasts by arima and ets"


def yardstick_scores(names: Sequence[str], task: Task, train: Source, test: Source) -> dict[str, dict[str, Any]]:
    """Return ``score``, further metrics, ``units`` and ``models`` of each forecast named: ``arima``, ``ets``.

    Raises:
        PotstillError: the task is not a forecast, it has more than 16 variables, statsmodels is not installed, or no
            model could be fitted.
    """
    if not names:
        return {}
    if not isinstance(task, Forecast) or not isinstance(train, SeriesSource):
        raise PotstillError(
            f"{', '.join(names)} forecast series, but the task is {task.name}; leave them out of `baselines=`"
        )
    if len(task.variables) > _MOST_VARIABLES:
        raise PotstillError(
            f"{', '.join(names)} are fitted to each variable, {_MOST_VARIABLES} at most, but there are "
            f"{len(task.variables)}; leave them out of `baselines=`, or take one variable with `label=`"
        )
    sm = import_optional("statsmodels.tsa.api", _WHO, "forecasts")
    targets, x = get_targets(test).cpu(), single_tensor(test.raw(torch.arange(len(test))), "a forecast").cpu()
    season = task.season or find_season(train.series.cpu()[:, : len(task.variables)], task.window, None)
    scores: dict[str, dict[str, Any]] = {}
    for name in names:
        answers, models = [], []
        for at in range(len(task.variables)):
            model, affine, shift = _fit_best(sm, name, _longest(train, at), task, season)
            models.append(model)
            answers.append(x[:, at].double() @ affine + shift)
        values = torch.stack(answers, 1).flatten(1).float()
        scores[name] = {**forecast_scores(task, values, targets), "models": models}
    return scores


def _longest(train: SeriesSource, variable: int) -> Array:
    """Return the longest stretch of the training series without a gap, the latest points of it."""
    starts = torch.unique(train.starts.cpu())
    breaks = torch.cat([torch.tensor([0]), torch.where(starts.diff() != 1)[0] + 1, torch.tensor([len(starts)])])
    run = int(breaks.diff().argmax())
    first, last = int(starts[breaks[run]]), int(starts[breaks[run + 1] - 1]) + train.task.window + train.task.horizon
    values: Array = train.series.cpu()[max(first, last - _MOST_POINTS) : last, variable].double().numpy()
    return values


def _candidates(sm: Any, name: str, season: int | None, window: int) -> Iterator[tuple[str, Callable[[Array], Any]]]:
    """Yield the name of each model and a function that makes it of values."""
    if name == "arima":
        seasons: tuple[tuple[int, int, int, int], ...] = ((0, 0, 0, 0),)
        for lag in _periods(season, min(_MOST_SEASON, window - 2)):
            seasons += ((0, 1, 1, lag), (1, 0, 0, lag))
        for order in _ORDERS:
            for seasonal in seasons:
                title = f"ARIMA{order}{seasonal[:3]}{seasonal[3]}" if seasonal[3] else f"ARIMA{order}"
                trend = "c" if order[1] + seasonal[1] == 0 else None

                def arima(y: Array, order: Any = order, seasonal: Any = seasonal, trend: Any = trend) -> Any:
                    return sm.SARIMAX(y, order=order, seasonal_order=seasonal, trend=trend)

                yield title.replace(" ", ""), arima
        return
    module = import_optional("statsmodels.tsa.statespace.exponential_smoothing", _WHO, "forecasts")
    for rises, damped in ((False, False), (True, False), (True, True)):
        for period in (None, *_periods(season, window - 3)):

            def smoothing(y: Array, rises: bool = rises, damped: bool = damped, period: int | None = period) -> Any:
                return module.ExponentialSmoothing(
                    y, trend=rises, damped_trend=damped, seasonal=period, initialization_method="concentrated"
                )

            title = f"ETS(A,{'Ad' if damped else 'A' if rises else 'N'},{f'A{period}' if period else 'N'})"
            yield title, smoothing


def _periods(season: int | None, longest: int) -> list[int]:
    """Return a season, its half and its third, which may be the true one, as far as a window holds them."""
    parts = [] if season is None else [season // n for n in (1, 2, 3) if season % n == 0]
    return [period for period in parts if 2 <= period <= longest]


def _fit_best(
    sm: Any, name: str, values: Array, task: Forecast, season: int | None
) -> tuple[str, Float[Tensor, "w h"], Float[Tensor, " h"]]:
    """Return title and affine map, from windows to forecasts, of the model with the least error on held-out windows."""
    w, h = task.window, task.horizon
    spread = float(values.std()) or 1.0
    scaled = (values - values.mean()) / spread
    cut = min(len(scaled) - 1, max(w, round((1 - _HELD_OUT) * len(scaled)) - w))
    windows = np.lib.stride_tricks.sliding_window_view(scaled[min(cut, len(scaled) - w - h) :], w + h)
    trials: list[tuple[float, str, Callable[[Array], Any]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that does not converge loses on the held-out windows
        for title, make in _candidates(sm, name, season, w):
            made = _affine(make, scaled[:cut], w, h)
            if made is None:
                continue
            error = float(np.square(windows[:, :w] @ made[0] + made[1] - windows[:, w:]).mean())
            if np.isfinite(error):
                trials.append((error, title, make))
        for _, title, make in sorted(trials, key=lambda trial: trial[0]):
            if (made := _affine(make, scaled, w, h)) is not None:
                affine, shift = (torch.from_numpy(part) for part in made)
                mean = float(values.mean())
                return title, affine, (shift * spread + mean - mean * affine.sum(0))
    raise PotstillError(
        f"{name}: no model could be fitted to the {len(values)} points of the training series; leave it out of "
        "`baselines=`"
    )


def _affine(make: Callable[[Array], Any], values: Array, w: int, h: int) -> tuple[Array, Array] | None:
    """Return matrix (w, h) and shift (h,) of a model fitted to ``values``; ``None`` where it cannot be fitted."""
    try:
        fitted = make(values).fit(disp=False)

        def ahead(window: Array) -> Array:
            return np.asarray(make(window).smooth(fitted.params).forecast(h), dtype=np.float64)

        base = np.cos(np.arange(w) ** 2)  # of zeros the initial states are not found
        middle = ahead(base)
        matrix = np.stack([ahead(base + unit) - middle for unit in np.eye(w)])
        shift = middle - base @ matrix
    except (np.linalg.LinAlgError, ValueError, IndexError):
        return None
    return (matrix, shift) if np.isfinite(matrix).all() and np.isfinite(shift).all() else None
