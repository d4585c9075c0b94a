"""Where a run's set will be written, and what may happen to what is there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.outputs import REPLACE_HINT, check_output
from potstill.dataset_file.dataset import Distilled, load
from potstill.dataset_file.replacing import SUFFIX, describe_conflict
from potstill.errors import PotstillError

__all__ = ["SetOutput"]


@dataclass(frozen=True, kw_only=True)
class SetOutput:
    """The file of a set that is yet to be made."""

    path: Path
    force: bool = False
    """Replace what is there, whatever it is."""
    resume: bool = False
    """A set of the same run that is there is the answer, and nothing is done."""

    def check(self, reads: Iterable[object]) -> None:
        """
        Raises:
            PotstillError: the file is one that is read, has another suffix, or cannot be written.
        """
        check_output(self.path, suffixes=SUFFIX, reads=reads, force=True)

    def load_existing(self, card: Mapping[str, Any], warn: Callable[[str], None]) -> Distilled | None:
        """Return the set of the run on ``card``, where it is there and asked for; ``None``: it is to be made.

        Args:
            card: what the card will say of the run.
            warn: told of one that is there, but damaged.

        Raises:
            PotstillError: something else is there, and was not said to be replaced.
        """
        if not self.path.exists():
            return None
        other = describe_conflict(self.path, card)
        if other and not self.force:
            raise PotstillError(f"{self.path}: {other}; {REPLACE_HINT}")
        if other or not self.resume:
            return None
        try:
            return load(self.path)
        except PotstillError as error:
            warn(f"{error}; it is made again")
            return None

    def write(self, small: Distilled) -> None:
        """Write the set; what lies there has been looked at before the run."""
        small.save(self.path, force=True)
