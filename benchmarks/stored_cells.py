"""Measured values of a benchmark, each a file, from which an interrupted run goes on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import potstill

__all__ = ["Cells"]


class Cells:
    """Measured values and sets by name, each a file of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, suffix: str) -> Path:
        """Return the file of a value."""
        return self.folder / f"{''.join(c if c.isalnum() else '_' for c in name)}{suffix}"

    def get(self, name: str, measure: Callable[[], Any], *, timed: bool = False) -> Any:
        """Return a value from its file, or measure it; with ``timed``, a mapping with its processor ``seconds``."""
        path = self.path(name, ".json")
        if not path.exists():
            started = time.process_time()
            value = measure()
            if timed:
                value = {**value, "seconds": round(time.process_time() - started, 2)}
            path.write_text(json.dumps(value))
            print(name, json.dumps(value)[:300], flush=True)
        return json.loads(path.read_text())

    def distilled(self, name: str, make: Callable[[], potstill.Distilled]) -> potstill.Distilled:
        """Return a set from its file, or make it."""
        path = self.path(name, ".safetensors")
        if not path.exists():
            make().save(path)
        return potstill.load(path)
