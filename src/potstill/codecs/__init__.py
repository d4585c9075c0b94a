"""How values are written: bits, scale and offset, packing. A `Store` writes, the codecs of the file read."""

from potstill.codecs.container import nbytes, read
from potstill.codecs.exact import Exact, Float, classes_stored, ints_stored, rows_stored
from potstill.codecs.names import store, store_name
from potstill.codecs.size_estimate import bits_each, decided_by_shape, index_bytes, label_bytes, largest, values_bytes
from potstill.codecs.uniform import Uniform

__all__ = [
    "Exact",
    "Float",
    "Uniform",
    "bits_each",
    "classes_stored",
    "decided_by_shape",
    "index_bytes",
    "ints_stored",
    "label_bytes",
    "largest",
    "nbytes",
    "read",
    "rows_stored",
    "store",
    "store_name",
    "values_bytes",
]
