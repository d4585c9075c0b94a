"""Output of the home page's program, from results/home.json (benchmarks/home.py)."""

import json
import re
from pathlib import Path

__all__ = ["home"]

SHOWN = re.compile(r"^(?: +accuracy|this set|random |herding|random-items |over (?:random|herding):|[A-Z])")
"""Lines for a first look: scores, differences, the sentence at the end."""


def home(root: Path) -> str:
    """Return what the program prints, shortened."""
    stored = json.loads((root / "results" / "home.json").read_text("utf-8"))
    lines = ["…", *(line for line in stored["text"].splitlines()[1:] if SHOWN.match(line))]
    text = "\n".join(lines)
    took = f"{stored['seconds']:.0f} seconds on one core ({stored['processor']}, torch {stored['torch'].split('+')[0]})"
    return f"```text\n{text}\n```\n\n{took}. `benchmarks/home.py` prints it again."
