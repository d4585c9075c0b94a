"""Rules that the import linter cannot express: a method imports no other method, only the engine and private files."""

import ast
from pathlib import Path

import pytest

import potstill.methods

ROOT = Path(potstill.methods.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" and p.parent.name != "engine")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.endswith("methods"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        assert not (isinstance(node, ast.ImportFrom) and node.level), (
            f"{path.name}: relative imports hide what they name"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_method_stands_alone(path):
    ours = [name for name in imported(path) if name.startswith("potstill.methods.")]
    ours = [name for name in ours if not name.startswith("potstill.methods.engine")]
    assert all(name.rsplit(".", 1)[-1].startswith("_") for name in ours), ours


def test_there_are_methods_to_look_at():
    assert len([p for p in FILES if not p.name.startswith("_")]) >= 8
