"""Examples in docstrings of ``potstill.uses`` print what they say; public names have a test of their own."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import potstill
import potstill.uses

ROOT = Path(potstill.uses.__path__[0])
MODULES = sorted(
    ".".join(("potstill.uses", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch, "potstill": potstill})
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_examples() -> None:
    assert "potstill.uses.deletion.update" in MODULES
