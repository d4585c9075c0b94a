"""Import packages that an extra brings, with one line that says which where they are missing."""

import importlib
from typing import Any

from potstill.errors import PotstillError

__all__ = ["import_optional"]


def import_optional(module: str, purpose: str, extra: str) -> Any:
    """Return the imported module.

    Args:
        module: dotted name, such as ``huggingface_hub``.
        purpose: subject of the error, such as ``data of the Hugging Face Hub``.
        extra: the extra of Potstill that brings the package.

    Raises:
        PotstillError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there, and lacks a dependency of its own
        raise PotstillError(
            f"{purpose}: needs the package {package}, which is not installed; pip install 'potstill[{extra}]'"
        ) from None
