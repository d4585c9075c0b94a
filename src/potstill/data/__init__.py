"""Readers of real data: names, folders, files, the Hub and arrays become ``Splits`` of sources, in memory or
streamed.
"""

from potstill.data.in_memory import TensorSource, fit_normalization
from potstill.data.load import KNOWN, load
from potstill.data.series import SeriesSource
from potstill.data.splits import holdout, stratify
from potstill.data.streamed import StreamSource
from potstill.data.subset import SourceView
from potstill.data.table_encoding import column_metadata

__all__ = [
    "KNOWN", "SeriesSource", "SourceView", "StreamSource", "TensorSource", "column_metadata", "fit_normalization",
    "holdout", "load", "stratify",
]  # fmt: skip
