"""``--method file.py:Class`` and ``--network file.py:Net``: a file of one's own on the command line."""

import json
from pathlib import Path

import pytest

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError

METHOD = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from potstill.core import Method, MethodInfo, NonNegativeInt, Selection


@dataclass(frozen=True, kw_only=True)
class Kept:
    iteration: int


@dataclass(frozen=True, kw_only=True)
class First(Method[Kept]):
    \"\"\"Keep the first samples of every class, but for some.\"\"\"

    info: ClassVar[MethodInfo] = MethodInfo(
        title="First", paper="this file", year=2026, family="selection", is_selection=True, kinds=("*",)
    )
    state_type: ClassVar[type] = Kept

    skip: NonNegativeInt = 0
    \"\"\"How many are passed over.\"\"\"

    def init(self, problem, rng):
        return Kept(iteration=0)

    def step(self, problem, state, rng):
        return Kept(iteration=1), {}

    def done(self, problem, state):
        return state.iteration > 0

    def result(self, problem, state):
        found = [own[self.skip : self.skip + n] for own, n in zip(problem.class_indices, problem.counts, strict=True)]
        return Selection(index=torch.cat(found))
"""
NETWORK = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 7), nn.ReLU(), nn.Linear(7, classes))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("first.py").write_text(METHOD)
    Path("net.py").write_text(NETWORK)
    return tmp_path


def test_a_methods_file_is_a_method_with_its_options(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "digits", "--method", "first.py:First", "--ipc", "2", "--out", "a.safetensors"]
    assert main([*words, "--skip", "3", "--quiet"]) == 0
    small, data = potstill.load("a.safetensors"), potstill.load_data("digits")
    wanted = [i for c in range(10) for i in (data.train.labels == c).nonzero().flatten()[3:5].tolist()]
    assert small.index is not None
    assert small.index.tolist() == wanted
    assert (small.metadata["method"], small.metadata["config"]) == ("First", {"skip": 3})
    assert str(place) not in json.dumps(dict(small.metadata))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["distill", "--method", "first.py:First", "--help"])
    assert "How many are passed over." in capsys.readouterr().out
    assert main([*words, "--skipp", "3"]) == 2
    assert "did you mean --skip" in capsys.readouterr().err
    assert main([*words, "--skip", "-1"]) == 2
    assert "skip must be at least 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("first.py:Frist", "unknown class or function 'Frist'; did you mean First?"),
        ("first.py:Kept", "must be a frozen dataclass that inherits from potstill.core.Method"),
        ("first.py", "FILE.py:NAME"),
        ("frist.py:First", "cannot be read"),
    ],
)
def test_what_is_no_method_is_refused_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], method: str, sentence: str
) -> None:
    assert main(["distill", "digits", "--method", method, "--ipc", "1", "--out", "a.safetensors"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    with pytest.raises(PotstillError, match=r"first|frist"):
        potstill.distill("digits", method, ipc=1)


def test_a_networks_file_is_a_network_of_every_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = ["--network", "net.py:Net"]
    assert (
        main(["distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "2", *net, "--out", "a.safetensors"]) == 0
    )
    assert "potstill evaluate a.safetensors --data digits --network net.py:Net" in capsys.readouterr().out
    short = ["--protocol", "dc", "--epochs", "1", "--seeds", "2", "--no-full", "--no-baselines", "--json"]
    assert main(["evaluate", "a.safetensors", "--data", "digits", *net, "mlp", *short]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [n.partition("@")[0] for n in card["networks"]] == ["net:Net", "mlp-w128"]
    assert main(["plan", "digits", "--method", "dm", "--ipc", "1", *net, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == card["network"]
    score = ["score", "digits", "--methods", "el2n", "--epochs", "20", "--runs", "1", *net, "--out", "s.parquet"]
    assert main([*score, "--json"]) == 0
    capsys.readouterr()
    select = ["distill", "digits", "--method", "el2n", "--scores", "s.parquet", "--ipc", "1", "--out", "b.safetensors"]
    assert main([*select, *net]) == 0
    assert potstill.load("b.safetensors").metadata["network"] == card["network"]


def test_a_comparison_takes_both(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "compare",
        "digits",
        "--methods",
        f"{place}/first.py:First",
        "--ipc",
        "1",
        "--seeds",
        "2",
        "--out",
        "board",
    ]
    words += ["--protocol", "dc", "--epochs", "1", "--network", "net.py:Net", "--json"]
    assert main(words) == 0
    board = json.loads(capsys.readouterr().out)
    assert {Path(r["file"]).name for r in board["rows"]} == {"random-ipc1.safetensors", "first-First-ipc1.safetensors"}
    assert all(r["scorecard"]["network"].startswith("net:Net@") for r in board["rows"])
    Path("net.py").write_text(NETWORK.replace("ReLU", "Tanh"))
    assert main(words) == 1  # another network of the same name: what is there is not this comparison's
    assert "own_files.net.py was" in capsys.readouterr().err  # and not only the name of the network, which holds less
