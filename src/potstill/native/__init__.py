"""Kernels in C, compiled when they are first wanted, for what torch has no fast operation.

They are an extra: without a C compiler, on other processors or with ``POTSTILL_NATIVE=0`` torch's own operations are
taken, whose values differ by rounding alone.
"""

from potstill.native.build import available, computing, loaded_kernels, run, versions

__all__ = ["available", "computing", "loaded_kernels", "run", "versions"]
