"""Output file of a run: its set, and what may happen to a file that is there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.outputs import REPLACE_HINT, check_output
from potstill._util.run_record import check_record_output
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.load import load
from potstill.dataset_file.replacing import SUFFIX, describe_conflict
from potstill.errors import PotstillError

__all__ = ["SetOutput"]


@dataclass(frozen=True, kw_only=True)
class SetOutput:
    """The file that a run writes its set to."""

    path: Path
    force: bool = False
    """Replace any file that is there."""
    resume: bool = False
    """Return the set of the same run if it is there."""

    def check(self, reads: Iterable[object]) -> None:
        """Check, before the run, that the file may be written.

        Raises:
            PotstillError: the file is one that is read, has another suffix, or cannot be written.
        """
        reads = list(reads)
        check_output(self.path, suffixes=SUFFIX, reads=reads, force=True)
        check_record_output(self.path, reads, force=True)

    def load_existing(self, metadata: Mapping[str, Any], warn: Callable[[str], None]) -> Distilled | None:
        """Return the set of the same run, where it is there and ``resume`` is set; ``None``: run.

        Args:
            metadata: of the run, as its set will have them.
            warn: called with a line about a damaged set.

        Raises:
            PotstillError: another file is there, and ``force`` is not set.
        """
        if not self.force:
            check_record_output(self.path, (), force=False, run=metadata.get("run_digest"))
        if not self.path.exists():
            return None
        conflict = describe_conflict(self.path, metadata)
        if conflict and not self.force:
            raise PotstillError(f"{self.path}: {conflict}; {REPLACE_HINT}")
        if conflict or not self.resume:
            return None
        try:
            return load(self.path)
        except PotstillError as error:
            warn(f"{error}; it is made again")
            return None

    def write(self, distilled: Distilled) -> None:
        """Write the set; conflicts were checked before the run."""
        distilled.save(self.path, force=True)
