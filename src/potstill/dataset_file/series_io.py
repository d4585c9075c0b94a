"""Real windows of a series as the points that they cover, and the points of a set: windows overlap."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.codecs import encode_ints
from potstill.codecs.columns import Columns
from potstill.codecs.exact import Exact
from potstill.codecs.exact import Float as FloatCodec
from potstill.core import Codec, DecodeContext, Encoded, Payload, Source
from potstill.data.series import SeriesSource, windows_within
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.metadata import input_to_json, task_to_json, to_json
from potstill.dataset_file.values import Contents
from potstill.errors import PotstillError
from potstill.parametrize.series import POINTS, STARTS, Series
from potstill.tasks import Forecast

__all__ = ["decode_selected_series", "encode_selected_series", "recut_set", "selected_series", "stored_series"]


def selected_series(train: Source, index: Tensor, codec: Codec) -> tuple[Payload, Mapping[str, Any]] | None:
    """Return the payload of real windows, the points that they cover once each, and the metadata's ``decoder``;
    ``None``: the source has no windows of a series.

    ``starts`` are left out where the windows are all there are in these points, in their order.
    """
    if not isinstance(train, SeriesSource):
        return None
    points, starts = train.points_of(index)
    in_data_units = isinstance(codec, Exact | FloatCodec | Columns)
    if not in_data_units:  # codecs with one scale for all columns
        points = train.normalization.apply(points.T[None])[0].T
    payload = {POINTS: points[None].contiguous().cpu()}
    windows = len(points) - train.task.window - train.task.horizon + 1
    if not torch.equal(starts, torch.arange(windows)):
        payload[STARTS] = starts
    return payload, {"parametrization": "series", "space": "data" if in_data_units else "model", "targets": True}


def encode_selected_series(payload: Payload, codec: Codec) -> dict[str, Encoded]:
    """Encode what `selected_series` returned, by the names of its tensors."""
    return {n: codec.pack(t) if t.is_floating_point() else encode_ints(t) for n, t in payload.items()}


def decode_selected_series(
    payload: Payload, described: Mapping[str, Any], train: SeriesSource
) -> tuple[Float[Tensor, "n v w"], Float[Tensor, "n t"]]:
    """Return windows in data units and their targets from a decoded payload."""
    task, series = train.task, Series()
    context = DecodeContext(input=train.input, horizon=task.horizon, forecast_variables=len(task.variables))
    normalization = train.normalization.to("cpu")
    x, model = series.decode(payload, context), described["space"] == "model"
    y = series.decode_targets(payload, context, normalization if model else None)
    return (normalization.invert(x) if model else x).contiguous(), y.contiguous()


def stored_series(distilled: Distilled) -> Float[Tensor, "count length v"] | None:
    """Return the points that a set stores in place of its windows, in data units; ``None``: it stores windows, or
    windows that lie apart."""
    return None if STARTS in distilled.payload else _points(distilled)


def _points(distilled: Distilled) -> Float[Tensor, "count length v"] | None:
    """Return the points that a set stores, in data units; ``None``: it stores windows."""
    described = distilled.metadata.get("decoder")
    if not isinstance(described, dict) or described.get("targets") is not True:
        return None
    from potstill.parametrize.named_inputs import parse_parametrization

    decoder = parse_parametrization(described["parametrization"], distilled.input)
    if not isinstance(decoder, Series):
        return None
    points = decoder.points(distilled.payload)
    if described["space"] == "data":
        return points
    return distilled.normalization.invert(points.transpose(1, 2)).transpose(1, 2)


def recut_set(distilled: Distilled, window: int, horizon: int) -> Distilled:
    """Return a set of forecasts as windows of another length, or with another horizon, in memory and not to be saved.

    With the same window and a shorter horizon the windows stay, and their targets are cut: of learned ones these are
    the inputs that were learned. Otherwise all windows that fit into the stored stretches are taken. The bytes are
    those of the file.

    Raises:
        PotstillError: the set stores no points, its stretches are too short, or its windows hold what is known up to
            the horizon.
    """
    own = distilled.task
    assert isinstance(own, Forecast)
    if (window, horizon) == (own.window, own.horizon):
        return distilled
    if own.covariates == "known" and horizon != own.horizon:
        raise PotstillError(
            f"the set's windows hold what is known {own.horizon} points later, which is of that horizon alone; make a "
            f"set for a horizon of {horizon}"
        )
    variables, index, weights = len(own.variables), distilled.index, distilled.weights
    if window == own.window and horizon < own.horizon:
        inputs = distilled.inputs
        labels = distilled.labels.reshape(-1, variables, own.horizon)[..., :horizon].flatten(1)
    else:
        points, span = _points(distilled), own.window + own.horizon
        if points is None or weights is not None:
            holds = "weighted windows" if points is not None else "windows, and not the points of a series"
            raise PotstillError(
                f"the set stores {holds}: at most {own.horizon} values to come from windows of {own.window}, not "
                f"{horizon} from {window}; lower them"
            )
        each = points.shape[1] - span + 1
        numbers = distilled.payload.get(STARTS, torch.arange(len(points) * each)).long()
        starts, longest = windows_within(numbers // each * points.shape[1] + numbers % each, span, window + horizon)
        if not len(starts):
            raise PotstillError(
                f"a window of {window} and {horizon} values to come take {window + horizon} points in time, but the "
                f"set's longest stretch has {longest}; ask for less, or make a longer series"
            )
        cut = points.flatten(0, 1)[starts[:, None] + torch.arange(window + horizon)].transpose(1, 2)
        inputs, labels = cut[..., :window].contiguous(), cut[:, :variables, window:].flatten(1)
        index = None
    spec = distilled.input
    card = {
        **distilled.metadata,
        "task": to_json(task_to_json(replace(own, window=window, horizon=horizon))),
        "input": to_json(input_to_json(replace(spec, shape=(spec.shape[0], window)))),
        "made_for": {"window": own.window, "horizon": own.horizon},
    }
    contents = Contents(
        inputs=inputs, labels=labels, payload=distilled.payload, index=index, weights=weights,
        learned=distilled.learned,
    )  # fmt: skip
    other = Distilled(contents, card, normalization=distilled.normalization, tensors=distilled.tensors)
    other.record, other.path, other.files = distilled.record, distilled.path, distilled.files
    return other
