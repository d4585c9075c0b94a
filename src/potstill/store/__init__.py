"""How values are written: bits, scale and offset, packing. A `Store` writes, the codecs of the file read."""

from potstill.store.named import store, store_name
from potstill.store.packed import nbytes, read
from potstill.store.plain import classes_stored, ints_stored, rows_stored

__all__ = ["classes_stored", "ints_stored", "nbytes", "read", "rows_stored", "store", "store_name"]
