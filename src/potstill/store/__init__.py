"""How values are written: bits, scale and offset, packing. A `Store` writes, the codecs of the file read."""

from potstill.store.named import store, store_name
from potstill.store.packed import nbytes, read
from potstill.store.plain import Exact, Float, classes_stored, ints_stored, rows_stored
from potstill.store.sizes import bits_each, decided_by_shape, index_bytes, label_bytes, largest, values_bytes
from potstill.store.uniform import Uniform

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
