"""Files that cannot be read: the first stops a loader, or all are left out and listed."""

from pathlib import Path

from potstill.errors import PotstillError

__all__ = ["DamagedFiles"]


class DamagedFiles:
    """Damaged files of a folder and why each cannot be read.

    Args:
        noun: what the files are, such as ``sounds``.
        skip_bad: leave them out instead of stopping at the first.
    """

    def __init__(self, noun: str, *, skip_bad: bool) -> None:
        self._noun, self._skip = noun, skip_bad
        self._reasons: dict[Path | str, str] = {}

    def add(self, path: Path | str, error: Exception) -> None:
        """Add a file, or the name of one inside another.

        Raises:
            PotstillError: files are not to be left out.
        """
        if not self._skip:
            raise PotstillError(f"{path}: {error}; `skip_bad=True` leaves such files out") from None
        self._reasons[path] = str(error)

    def none_left(self, name: str, total: int) -> PotstillError:
        """Return the error of a folder none of whose ``total`` files can be read."""
        path, why = next(iter(self._reasons.items()))
        return PotstillError(f"{name}: none of {total:,} {self._noun} can be read, the first is {path}: {why}")

    def notes(self, name: str) -> list[str]:
        """Return a note on the files that were left out, the first three by path, if there are any."""
        if not self._reasons:
            return []
        shown = "; ".join(f"{path}: {why}" for path, why in list(self._reasons.items())[:3])
        more = "; …" if len(self._reasons) > 3 else ""
        return [f"{name}: {len(self._reasons):,} damaged {self._noun} left out ({shown}{more})"]
