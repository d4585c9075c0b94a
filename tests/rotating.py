"""A third of some slow cases for every change, another one each day: the day of the commit, so that it comes again."""

import datetime
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["commit_day", "describe_third", "rotating", "third"]

ROOT = Path(__file__).resolve().parents[1]


def commit_day() -> datetime.date:
    """Return the day on which the checked-out commit was made, or today where there is no repository."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        done = subprocess.run(
            [git, "-C", str(ROOT), "log", "-1", "--format=%cs"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return datetime.date.fromisoformat(done.stdout.strip())
    return datetime.date.today()


def third(names: Sequence[str], day: datetime.date) -> list[str]:
    """Return every third name, beginning with the first, second or third by the day."""
    return list(names[day.toordinal() % 3 :: 3])


def rotating(names: Sequence[str]) -> list[object]:
    """All names as parameters, marked slow but for the third of the day."""
    kept = third(names, commit_day())
    return [pytest.param(name, marks=() if name in kept else pytest.mark.slow) for name in names]


def describe_third(what: str, names: Sequence[str]) -> str:
    """Return a line that says which third is run, and by which day."""
    day = commit_day()
    return f"{what}: third {day.toordinal() % 3 + 1} of 3, by the commit's day {day}: {', '.join(third(names, day))}"
