"""A command begins at once: what it does not need is not imported. Modules are looked at, never the clock.

Torch itself imports ``torch._dynamo`` when an optimiser of its own is made (``evaluate``, trained networks) or a pass
is walked through (``plan``), and sympy for a gradient.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import contextlib, io, json, sys
from potstill.cli.main import main
found = {}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        assert main(words) == 0, words
    found[" ".join(words)] = sorted({"torch", "numpy"} & sys.modules.keys()) + [
        m for m in ("torch._dynamo", "torch._inductor", "sklearn", "pandas", "datasets", "mlxtend", "yaml", "ot",
        "scipy.stats", "scipy.io", "scipy.ndimage", "scipy.spatial", "scipy.linalg", "matplotlib", "huggingface_hub")
        if m in sys.modules
    ]
print(json.dumps(found))
"""


def after(tmp_path: Path, commands: list[list[str]]) -> dict[str, list[str]]:
    """Of the heavy modules those that are there after each command, all of them in one process."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    environment = os.environ | {"POTSTILL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_help_needs_neither_torch_nor_numpy(tmp_path: Path) -> None:
    found = after(tmp_path, [["--help"], ["--version"], ["distill", "--help"], ["evaluate", "--help"]])
    assert set(map(tuple, found.values())) == {()}


def test_listings_and_runs_import_torch_and_nothing_heavy_beside_it(tmp_path: Path) -> None:
    distil = ["distill", "digits", "--ipc", "1", "--quiet"]
    found = after(
        tmp_path,
        [
            ["methods"], ["networks"], ["protocols", "--json"], ["data"],
            [*distil, "--method", "dm", "--steps", "1", "--out", "small.safetensors"],
            [*distil, "--method", "k-center", "--out", "k.safetensors"],
            ["inspect", "small.safetensors"], ["export", "small.safetensors", "--to", "npz", "--out", "small.npz"],
            ["report", "small.safetensors", "--out", "page.html"],
        ],
    )  # fmt: skip
    assert len(found) == 9
    assert set(map(tuple, found.values())) == {("numpy", "torch")}, found
