"""What is wrong in the words alone is said without importing torch; the sources are read as Python would run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.cli.declared import Unreadable, read_declaration
from potstill.cli.main import main
from potstill.cli.options import option_fields
from potstill.cli.parsing import _flat_values
from potstill.core import registry

MADE = ("--out", "made.safetensors")
CASES: dict[str, tuple[list[str], int, str]] = {
    "no command": (["distil"], 2, "did you mean distill"),
    "option before": (["--json", "distill"], 2, "options stand after the command"),
    "option": (["distill", "digits", "--ipcs", "1", *MADE], 2, "has no option --ipcs; did you mean --ipc"),
    "option of a method": (["distill", "digits", "--iteration", "3", *MADE], 2, "did you mean --iterations"),
    "method": (["distill", "digits", "--method", "dmm", "--ipc", "1", *MADE], 2, "unknown method 'dmm'; did you mean"),
    "protocol": (["evaluate", "a.safetensors", "--data", "digits", "--protocol", "dcc"], 2, "unknown protocol 'dcc'"),
    "option of a protocol": (["evaluate", "a.safetensors", "--data", "digits", "--epoch", "3"], 2, "mean --epochs"),
    "network": (["distill", "digits", "--network", "convnets", "--ipc", "1", *MADE], 2, "unknown network 'convnets'"),
    "students": (["evaluate", "a.safetensors", "--data", "digits", "--network", "x"], 2, "unknown network 'x'"),
    "parametrization": (
        ["distill", "digits", "--parametrization", "tile", "--ipc", "1", *MADE], 2, "unknown parametrization 'tile'",
    ),
    "no amount": (["distill", "digits", *MADE], 2, "say once how much to keep"),
    "two amounts": (["plan", "digits", "--ipc", "1", "--bytes", "2kB"], 2, "say once how much to keep"),
    "amount": (["distill", "digits", "--ipc", "0", *MADE], 2, "--ipc must be at least 1, but it is 0"),
    "number": (["distill", "digits", "--ipc", "1", "--lr", "fast", *MADE], 2, "distill: --lr fast: must be a number"),
    "choice": (["distill", "digits", "--ipc", "1", "--init", "rael", *MADE], 2, "must be one of real, noise, k-means"),
    "bound": (["distill", "digits", "--ipc", "1", "--iterations", "-5", *MADE], 2, "must be at least 1, but it is -5"),
    "value": (["distill", "digits", "--ipc", "1", "--out"], 2, "--out needs a value; write --out FILE.safetensors"),
    "whole number": (["distill", "digits", "--ipc", "x", *MADE], 2, "distill: --ipc x: must be a whole number"),
    "required": (["evaluate"], 2, "evaluate needs FILE.safetensors and --data DATA; add them"),
    "word": (["cache", "pune"], 2, "cache pune: must be one of list, verify, prune; did you mean prune?"),
    "words": (["inspect", "a.safetensors", "b.safetensors"], 2, "b.safetensors"),
    "one of several": (["import", "a", "--mean", "0.1", "b", *MADE], 2, "--mean b: must be a number"),
    "time": (["distill", "digits", "--ipc", "1", "--time-limit", "soon", *MADE], 2, "a duration above 0"),
    "suffix": (["distill", "digits", "--ipc", "1", "--out", "made.pt"], 2, "must end in .safetensors"),
    "data": (["distill", "photos/", "--ipc", "1", *MADE], 1, "photos/: no such file or folder; check the path"),
    "name of data": (["distill", "digitz", "--ipc", "1", *MADE], 1, "unknown data set 'digitz'; did you mean digits?"),
    "set": (["evaluate", "no.safetensors", "--data", "digits"], 1, "no.safetensors: no such file"),
    "set to inspect": (["inspect", "no.safetensors"], 1, "no.safetensors: no such file"),
    "results": (["report", "nowhere", "--out", "p.html"], 1, "nowhere: no such file or folder; check the path"),
    "no results": (["report", "--out", "p.html"], 2, "give at least one folder or file of results"),
    "sizes": (["compare", "digits", "--methods", "dm", "--out", "x"], 2, "compare needs its sizes once"),
    "field of compare": (
        ["compare", "digits", "--methods", "dm", "--ipc", "1", "--out", "x", "--set", "dm.iteration=3"], 2,
        "unknown option 'iteration'; did you mean iterations",
    ),
    "methods": (["methods", "dmm"], 2, "unknown method 'dmm'"),
    "limit": (["methods", "--limit", "pixel=3"], 2, "pixel"),
    "export": (["export", "a.safetensors", "--to", "files", "--out", "x"], 2, "--to files needs the data"),
    "cache": (["cache", "prune"], 2, "prune needs what to delete"),
}  # fmt: skip
PROGRAM = """
import contextlib, io, json, sys
from potstill.cli.main import main

for name, words in json.loads(sys.argv[1]).items():
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(words)
        except SystemExit as error:
            status = error.code
    print(json.dumps([name, status, err.getvalue(), sorted({"torch", "numpy", "pyarrow"} & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit status, stderr and slow imports of each case, in one process: what one imports is seen by the next."""
    here = tmp_path_factory.mktemp("misuse")
    (here / "a.safetensors").write_bytes(b"")
    words = json.dumps({name: case[0] for name, case in CASES.items()})
    done = subprocess.run([sys.executable, "-c", PROGRAM, words], cwd=here, capture_output=True, text=True, check=True)
    rows = map(json.loads, done.stdout.splitlines())
    return {name: (status, err, slow) for name, status, err, slow in rows}


@pytest.mark.parametrize("case", CASES)
def test_misuse_is_said_without_torch(told: dict[str, tuple[int, str, list[str]]], case: str) -> None:
    _, status, said = CASES[case]
    found, err, slow = told[case]
    assert (found, slow) == (status, [])
    assert "".join(said.split()) in "".join(err.split())


@pytest.mark.parametrize("name", registry.names("methods", outside=False))
def test_fields_of_methods_are_read_from_their_source(name: str) -> None:
    kind, found = registry.resolve("methods", name), read_declaration(registry.targets("methods")[name])
    assert [(f.name, f.hint, f.default, f.docstring) for f in option_fields(found)] == [
        (f.name, f.hint, f.default, f.docstring) for f in option_fields(kind)
    ]
    assert getattr(found, "presets", kind.presets) == kind.presets


@pytest.mark.parametrize("name", registry.names("protocols", outside=False))
def test_values_of_protocols_are_read_from_their_source(name: str) -> None:
    found = _flat_values(read_declaration(registry.targets("protocols")[name]))
    wanted = registry.resolve("protocols", name).flat_fields()
    del found["cases"], wanted["cases"]
    assert found == wanted


@pytest.mark.parametrize("target", ["torch:nn", "potstill.nothing:X", "potstill.core:nothing", "potstill.rng:derive"])
def test_what_cannot_be_read_says_so(target: str) -> None:
    with pytest.raises(Unreadable):
        read_declaration(target)


def test_constants_values_and_classes_are_told_apart() -> None:
    assert read_declaration("potstill.data.load:_FILES")[0] == ".npz"
    assert read_declaration("potstill.methods.distribution.dm:DM").__name__ == "DM"
    assert read_declaration("potstill.evaluation.protocols:DC").name == "dc"


@pytest.mark.parametrize("data", ["photos/", "./a.csv", "a.csv", "digitz", "~nobody-here/x", "a\\b"])
def test_data_that_are_not_there_are_refused_alike_before_and_while_they_are_loaded(data: str, tmp_path: Path) -> None:
    """The check that needs no torch must not refuse anything in its own words."""
    from potstill.cli.checks import check_command
    from potstill.cli.parsing import parse
    from potstill.data import load
    from potstill.errors import PotstillError

    with pytest.raises(PotstillError) as late:
        load(data)
    parsed = parse("plan", [data, "--ipc", "1"])
    if data.startswith("~"):
        return  # whose home that is, is found where it is opened
    with pytest.raises(PotstillError) as early:
        check_command(parsed.command)
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(("second", "hint"), [("dm", "say --method dm"), ("more", "follows 'digits'")])
def test_a_second_word_is_told_its_option(second, hint, capsys):
    assert main(["distill", "digits", second, "--ipc", "1", "--out", "a.safetensors"]) == 2
    shown = capsys.readouterr().err
    assert hint in shown
    assert shown.count("\n") == 1
