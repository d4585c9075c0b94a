"""What installed packages add by entry points, and that it changes neither this suite nor the documentation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine on which a package is installed that adds a method."""
    (tmp_path / "fresh_method.py").write_text(
        "from dataclasses import dataclass\n"
        "from potstill.core import NonNegativeInt\n"
        "from potstill.methods import DM\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Fresh(DM):\n"
        '    """Not one of ours."""\n\n'
        "    iterations: NonNegativeInt = 300\n"
    )
    about = tmp_path / "fresh_method-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fresh-method\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[potstill.methods]\nfresh = fresh_method:Fresh\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return {n: v for n, v in os.environ.items() if n != "POTSTILL_OUTSIDE"} | {"PYTHONPATH": path}


def run(program: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_outside_method_is_one_of_all_and_none_of_ours(installed: dict[str, str]) -> None:
    found = run(
        "from potstill.core.registry import names, resolve\n"
        "print(names('methods')[-1], resolve('methods', 'fresh').__name__, 'fresh' in names('methods', outside=False))",
        installed,
    )
    assert found == "fresh Fresh False"
    none = run(
        "from potstill.core.registry import names; print('fresh' in names('methods'))",
        installed | {"POTSTILL_OUTSIDE": "0"},
    )
    assert none == "False"


@pytest.mark.slow
def test_the_tables_of_the_documentation_are_current_beside_it(installed: dict[str, str]) -> None:
    program = "from pathlib import Path; from tools import docs as tables; print(tables.main(Path(%r), check=True))"
    assert run(program % str(ROOT), installed) == "0"


def test_the_suite_does_not_see_it(installed: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider",
         "-o", "addopts=", "tests/methods/test_parts.py"],
        env=installed, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "[dm" in done.stdout
    assert "fresh" not in done.stdout


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        ({"networks": "neighbours"}, "networks under the taken name 'neighbours'"),
        ({"networks": "mlp"}, "networks under the taken name 'mlp'"),
        ({"learners": "mlp"}, "learners under the taken name 'mlp'"),
        ({"learners": "both", "networks": "both"}, "{group} under the taken name 'both'"),
    ],
)
def test_networks_and_learners_share_their_names(tmp_path: Path, entries: dict[str, str], taken: str) -> None:
    """One name stands for students of both: a network called like a learner would never be trained, without a word."""
    about = tmp_path / "clash-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: clash\nVersion: 1.0\n")
    lines = [f"[potstill.{group}]\n{name} = clash:Net\n" for group, name in entries.items()]
    (about / "entry_points.txt").write_text("".join(lines))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {n: v for n, v in os.environ.items() if n != "POTSTILL_OUTSIDE"} | {"PYTHONPATH": path}
    for group in ("networks", "learners"):
        program = (
            "from potstill.core.registry import targets; from potstill.errors import PotstillError\n"
            f"try: print(sorted(targets({group!r})))\n"
            "except PotstillError as error: print(error)"
        )
        said = f"an installed package registers {taken.format(group=group)}; rename its entry point"
        assert run(program, environment) == said
