"""Where things are kept that would take long to make again."""

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """``$POTSTILL_CACHE``, or the user's cache folder."""
    given = os.environ.get("POTSTILL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill"
