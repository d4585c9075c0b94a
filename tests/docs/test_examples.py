"""The notebooks in ``examples/`` are run as they are, in a kernel of their own, and are kept without outputs.

``make check`` runs them.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from potstill._util.import_from_file import FileReference
from potstill.core import label_mode
from potstill.testing import check_method

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SAID = {
    "pictures": r"this set +\d.*\n(?s:.)*page\.html: \d+ kB",
    "table": r"column 'magnesium' is empty(?s:.)*all rows +\S+ +\S+ +142",
    "own_method": r"(?m)^lvq\.py:LVQ +0\.\d+(?s:.)*random",
    "continual": r"no memory +0\.\d\d (?s:.)*random, 2 bits +0\.\d\d (?s:.)*k-means, 2 bits +0\.\d\d",
}
"""What a notebook prints when it is through."""
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600).execute()
nbformat.write(notebook, sys.argv[2])
"""


def read(name):
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def test_there_are_no_others():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_a_notebook_is_kept_without_outputs_and_paths(name):
    kept = read(name)
    nbformat.validate(kept)
    for cell in kept.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not re.search(r"/(home|root|Users|work|tmp)/", (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))
    before = {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"}
    made = tmp_path / f"{name}.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", RUN, EXAMPLES / made.name, made],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kept = nbformat.read(made, as_version=4)
    outputs = [output for cell in kept.cells for output in cell.get("outputs", [])]
    printed = "\n".join(o.get("text") or str(o.get("data", {}).get("text/plain", "")) for o in outputs)
    assert re.search(SAID[name], printed), printed
    assert {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"} == before


def test_a_helper_called_labels_asks_for_no_soft_labels():
    """It was taken for the field of that name, so that hard labels were said to break the contract."""
    kind = FileReference.read(f"{EXAMPLES / 'lvq.py'}:LVQ").load()
    assert label_mode(kind) == "hard"
    check_method(kind(iterations=2), steps=2, kind="table")
