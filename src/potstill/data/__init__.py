"""Where real data comes from: names, folders, files, the Hub, arrays → ``Splits`` of sources, in memory or streamed."""

from potstill.data.in_memory import TensorSource, fit_normalization
from potstill.data.load import KNOWN, load
from potstill.data.series import SeriesSource
from potstill.data.splits import holdout, stratify
from potstill.data.streamed import StreamSource
from potstill.data.subset import Viewed
from potstill.data.table_encoding import on_card

__all__ = [
    "KNOWN",
    "SeriesSource",
    "StreamSource",
    "TensorSource",
    "Viewed",
    "fit_normalization",
    "holdout",
    "load",
    "on_card",
    "stratify",
]  # fmt: skip
