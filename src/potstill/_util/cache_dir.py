"""Location of the cache."""

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Return ``$POTSTILL_CACHE``, or ``potstill`` in the user's cache folder."""
    given = os.environ.get("POTSTILL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill"
