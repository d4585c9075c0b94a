"""Outputs that pages show, made again by running the pages.

    python -m tools.docs.outputs docs/learn/pictures.md …

A page is run from top to bottom in a folder with what pages speak of (`tools.docs.workplace`): its python
blocks, and its commands under ``<!-- run -->``. A block of text under ``<!-- output -->`` gets what the block
before it printed on stdout; under ``<!-- output 1-4,9 -->`` those lines of it, with … for what is left out.
An image under ``<!-- screenshot page.html -->`` is taken of that file of the folder, in light colours, which
needs a Chromium (POTSTILL_BROWSER, or one on PATH). tests/docs/test_page_outputs.py holds that a page shows no
output of a block that is not run.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.docs.workplace import make_workplace

__all__ = ["Block", "blocks", "cut_lines", "run_page", "take_screenshot"]

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>run|output[\d ,-]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
SCREENSHOT = re.compile(r"<!-- screenshot (?P<page>\S+) -->\n!\[[^\]]*\]\((?P<image>\S+)\)")
LEFT_OUT = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    mark: str
    """What the comment above it says: ``run``, ``output 1-4``, or nothing."""
    start: int
    end: int
    """Where the code lies in the page's text."""

    @property
    def is_run(self) -> bool:
        """Whether it is run: python always, commands where they are marked."""
        return self.language == "python" or (self.language == "bash" and self.mark == "run")

    @property
    def is_output(self) -> bool:
        """Whether it shows what the block before it printed."""
        return self.mark.startswith("output")


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    return [
        Block(m["language"], m["code"], m["mark"] or "", m.start("code"), m.end("code")) for m in BLOCK.finditer(text)
    ]


def cut_lines(printed: str, chosen: str) -> str:
    """Return the chosen lines (``"1-4,9"``, all where it is empty), with … where some are left out."""
    lines = printed.rstrip().splitlines()
    numbers = [number for part in chosen.replace(" ", "").split(",") if part for number in _range(part, len(lines))]
    shown, last = [], 0
    for number in numbers or range(1, len(lines) + 1):
        if number > last + 1:
            shown.append(LEFT_OUT)
        shown.append(lines[number - 1].rstrip())
        last = number
    return "\n".join([*shown, *[LEFT_OUT] * (last < len(lines))]) + "\n"


def _range(part: str, count: int) -> range:
    """Return the numbers of ``3``, ``3-5``, or ``3-``: to the end."""
    first, dash, last = part.partition("-")
    return range(int(first), int(last or (count if dash else first)) + 1)


def run_page(text: str) -> str:
    """Run a page in the current folder and return its text with all outputs made anew."""
    namespace: dict[str, Any] = {"__name__": "page"}
    printed, pieces, at = "", [], 0
    for block in blocks(text):
        if block.is_run:
            printed = _run_python(block.code, namespace) if block.language == "python" else _run_commands(block.code)
        elif block.is_output:
            pieces += [text[at : block.start], cut_lines(printed, block.mark.removeprefix("output"))]
            at = block.end
    return "".join([*pieces, text[at:]])


def _run_python(code: str, namespace: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "page", "exec", dont_inherit=True), namespace)
    return out.getvalue()


def _run_commands(code: str) -> str:
    """Return what the potstill commands print on stdout; progress and notes on stderr pass through."""
    out = []
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["potstill"]:
            command = [sys.executable, "-m", "potstill", *words[1:]]
            out.append(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return "".join(out)


def take_screenshot(source: Path, target: Path) -> None:
    """Write what a browser shows of an HTML file, its first 1,100 pixels at a width of 1,280, in few colours."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    found = os.environ.get("POTSTILL_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1100}, color_scheme="light")
        page.goto(source.as_uri())
        page.screenshot(path=target)
        browser.close()
    Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)


def main(pages: list[Path]) -> None:
    """Run each page in a folder of its own and write its outputs."""
    os.environ.setdefault("COLUMNS", "120")
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    for page in [page.resolve() for page in pages]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            make_workplace(Path(folder))
            text = run_page(page.read_text(encoding="utf-8"))
            page.write_text(text, encoding="utf-8")
            for found in SCREENSHOT.finditer(text):
                take_screenshot(Path(folder, found["page"]), page.parent / found["image"])


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
