"""Real windows of a series as the points that they cover, and the points of a set: windows overlap."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.codecs import encode_ints
from potstill.codecs.columns import Columns
from potstill.codecs.exact import Exact
from potstill.codecs.exact import Float as FloatCodec
from potstill.core import Codec, DecodeContext, Encoded, Payload, Source
from potstill.data.series import SeriesSource
from potstill.dataset_file.dataset import Distilled
from potstill.parametrize.series import POINTS, STARTS, Series

__all__ = ["decode_selected_series", "encode_selected_series", "selected_series", "stored_series"]


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
    described = distilled.metadata.get("decoder")
    if not isinstance(described, dict) or described.get("targets") is not True or STARTS in distilled.payload:
        return None
    from potstill.parametrize.named_inputs import parse_parametrization

    decoder = parse_parametrization(described["parametrization"], distilled.input)
    if not isinstance(decoder, Series):
        return None
    points = decoder.points(distilled.payload)
    if described["space"] == "data":
        return points
    return distilled.normalization.invert(points.transpose(1, 2)).transpose(1, 2)
