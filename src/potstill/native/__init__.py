"""Kernels in C, compiled on first use, for operations that are slow in torch.

Without a C compiler, on other processors or with ``POTSTILL_NATIVE=0`` torch's operations are used, whose values differ
by rounding only.
"""

from potstill.native.build import available, computing, has_kernel, loaded_kernels, run, versions

__all__ = ["available", "computing", "has_kernel", "loaded_kernels", "run", "versions"]
