"""Run the program of the site's home page and store what it prints.

    OMP_NUM_THREADS=1 python benchmarks/home.py

``results/home.json`` has the text, the seconds of one core and the machine; ``python -m tools.docs`` puts the text on
the page.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the first Python block of docs/index.md."""
    page = (ROOT / "docs" / "index.md").read_text("utf-8")
    begun = sum(os.times()[:4])  # of this process and of those that it starts
    code = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code[1], "docs/index.md", "exec"), {"__name__": "home"})
    done = {"code": code[1], "text": said.getvalue(), "seconds": round(sum(os.times()[:4]) - begun, 1), **machine()}
    (ROOT / "results" / "home.json").write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    print(said.getvalue())


if __name__ == "__main__":
    main()
