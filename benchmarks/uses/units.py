"""Units of a benchmark: named pieces of work, each a file, which several processes take from one folder."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.file_lock import OutputBusyError, exclusive_output
from potstill.uses.cell_files import read_json, write_json

__all__ = ["Unit", "UnitFolder"]

POLL = 0.5
"""Seconds between looks at units that others are at."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of work."""

    name: str
    compute: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()
    """Names of units that must be there first."""


@dataclass(frozen=True, kw_only=True)
class UnitFolder:
    """Files of units. The same work in another process goes on with what is there."""

    folder: Path
    settings: Mapping[str, Any]
    """Settings that decide the contents of all units."""

    def path(self, name: str) -> Path:
        return self.folder / ("".join(c if c.isalnum() or c in "-." else "_" for c in name) + ".json")

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a unit's result, or ``None`` where there is none yet."""
        content = read_json(self.path(name), self.settings, "benchmark")
        return None if content is None else {k: v for k, v in content.items() if k != "settings"}

    def work(self, units: Sequence[Unit], stop_after: float | None = None) -> list[str]:
        """Compute units that no other process has or is at, in order, until none is left to take.

        A unit whose computation fails is reported and left out, and so is what needs it.

        Args:
            units: all units of the benchmark.
            stop_after: seconds after which no further unit is begun.

        Returns:
            Names of units that failed here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        started, failed = time.monotonic(), list[str]()
        while True:
            advanced, blocked = False, False
            for unit in units:
                if unit.name in failed or self.path(unit.name).exists():
                    continue
                if set(unit.needs) & set(failed):
                    failed.append(unit.name)
                    continue
                if not all(self.path(name).exists() for name in unit.needs):
                    blocked = True
                    continue
                if stop_after is not None and time.monotonic() - started > stop_after:
                    return failed
                advanced |= self._attempt(unit, failed)
            if not advanced and not blocked:
                return failed
            if not advanced:
                if stop_after is not None and time.monotonic() - started > stop_after:
                    return failed
                time.sleep(POLL)

    def _attempt(self, unit: Unit, failed: list[str]) -> bool:
        """Compute a unit if no other process is at it, and return True if it was."""
        path = self.path(unit.name)
        try:
            with exclusive_output(path):
                if path.exists():
                    return True
                try:
                    begun = time.monotonic()
                    result = unit.compute()
                except Exception:  # the other units go on
                    traceback.print_exc()
                    print(f"failed: {unit.name}", file=sys.stderr, flush=True)
                    failed.append(unit.name)
                    return True
                write_json(path, {"settings": self.settings, **result})
                print(f"{unit.name}: {time.monotonic() - begun:.1f} s", flush=True)
        except OutputBusyError:
            return False
        return True
