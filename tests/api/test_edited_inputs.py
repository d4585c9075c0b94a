"""What a run was begun with is edited before it goes on, or before the same line is given again: it says so.

Every kind of input is edited once while the run is interrupted and once when it has finished. A run never mixes two
inputs, and never takes what other inputs made for its own.
"""

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from covering import covering
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.runs import loop as driver

PULL = '''
from dataclasses import dataclass
from typing import ClassVar

import torch
from helper import rate

from potstill.core import Method, MethodInfo, Synthetic

PULL = 0.5


@dataclass(frozen=True, kw_only=True)
class State:
    x: torch.Tensor
    iteration: int


@dataclass(frozen=True, kw_only=True)
class Pull(Method[State]):
    """Pull each input toward the mean of its class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Pull", paper="this file", year=2026, family="distribution", kinds=("*",)
    )
    state_type: ClassVar[type] = State
    iterations: int = 4
    """Steps."""

    def init(self, problem, rng):
        found = [own[: n] for own, n in zip(problem.class_indices, problem.counts, strict=True)]
        return State(x=problem.train.fetch(torch.cat(found)).x, iteration=0)

    def step(self, problem, state, rng):
        return State(x=state.x * (1 - PULL * rate()), iteration=state.iteration + 1), {}

    def done(self, problem, state):
        return state.iteration >= self.iterations

    def result(self, problem, state):
        labels = torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.counts))
        return Synthetic(payload={"inputs": state.x}, labels=labels)
'''  # fmt: skip
HELPER = "def rate():\n    return 0.5\n"
NETWORK = """
from torch import nn

WIDTH, SLOPE = 6, 0.1


class Slope(nn.Module):
    def forward(self, x):
        return nn.functional.leaky_relu(x, SLOPE)


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[0], WIDTH), Slope(), nn.Linear(WIDTH, classes))
"""
MTT = ["--method", "mtt", "--num-experts", "1", "--train-epochs", "2", "--max-start-epoch", "1", "--expert-epochs", "1"]
PULLED, DM = ["d.csv", "--method", "pull.py:Pull"], ["d.csv", "--method", "dm"]
MTT += ["--student-steps", "1", "--network", "linear"]


def _replace(name: str, old: str, new: str) -> Callable[[], None]:
    def edit() -> None:
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new, 1))

    return edit


def _add(name: str, more: str) -> Callable[[], None]:
    def edit() -> None:
        with Path(name).open("a") as file:
            file.write(more)

    return edit


def _parquet(shift: float = 0.0) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)) + shift
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "label": np.arange(40) % 2}), "d.parquet")


def _npz(shift: float = 0.0) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(40, 3)) + shift).astype(np.float32)
    np.savez("d.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x[:10], y_test=np.arange(10) % 2)


def _picture(path: str, shade: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


def _tar() -> None:
    with tarfile.open("d.tar", "w") as tar:
        for n in range(16):
            for ending in ("png", "cls"):
                if ending == "cls":
                    Path("cls").write_text(str(n % 2))
                tar.add(f"photos/{'ab'[n % 2]}/{n}.png" if ending == "png" else "cls", f"{n}.{ending}")


def _scores(seed: int) -> None:
    Path("s.parquet").unlink(missing_ok=True)
    potstill.score("d.csv", ["el2n"], "s.parquet", network="linear", record_epochs=3, runs=1 + seed)


def _expert(at: int) -> None:
    shutil.copy(sorted(Path("cache/trajectories").glob("*.safetensors"))[at], "expert.safetensors")


EDITS: dict[str, tuple[list[str], Callable[[], None], str]] = {
    "csv value": (DM, _replace("d.csv", "0.", "1."), "source|data was"),
    "csv label": (DM, _replace("d.csv", ",v\n", ",u\n"), "source|data was"),
    "csv row": (DM, _add("d.csv", "1,1,1,u\n"), "source|data was"),
    "parquet": (["d.parquet", "--method", "dm"], lambda: _parquet(0.1), "source|data was"),
    "npz": (["d.npz", "--method", "dm"], lambda: _npz(0.1), "source|data was"),
    "picture": (["photos", "--method", "dm"], lambda: _picture("photos/a/0.png", 201), "source|data was"),
    "picture more": (["photos", "--method", "dm"], lambda: _picture("photos/b/new.png", 9), "source|data was"),
    "picture less": (["photos", "--method", "dm"], lambda: Path("photos/b/3.png").unlink(), "source|data was"),
    "picture streamed": (
        ["photos", "--stream", "--method", "dm"], lambda: _picture("photos/a/0.png", 201), "source|data was",
    ),
    "shard": (["d.tar", "--method", "dm"], lambda: (_picture("photos/a/0.png", 201), _tar()), "source|data was"),
    "recipe": (["d.csv", "--recipe", "r.yaml"], _replace("r.yaml", "0.5", "0.75"), "lr was 0.5 and now is 0.75"),
    "own method": (PULLED, _replace("pull.py", "PULL = 0.5", "PULL = 0.25"), "pull.py was"),
    "own method's helper": (PULLED, _replace("helper.py", "0.5", "0.25"), "helper.py was"),
    "own network": ([*DM, "--network", "net.py:Net"], _replace("net.py", "0.1", "0.2"), "net.py was"),
    "scores": (["d.csv", "--method", "el2n", "--scores", "s.parquet"], lambda: _scores(1), "scores|config.runs"),
    "experts": (["d.csv", *MTT, "--experts", "expert.safetensors"], lambda: _expert(1), "experts was|other files"),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("POTSTILL_CACHE", "cache")
        rng = np.random.default_rng(0)
        rows = [f"{a:.3f},{b:.3f},{c:.3f},{'uv'[n % 2]}" for n, (a, b, c) in enumerate(rng.normal(size=(40, 3)))]
        Path("d.csv").write_text("a,b,c,label\n" + "\n".join(rows) + "\n")
        _parquet()
        _npz()
        for n in range(16):
            _picture(f"photos/{'ab'[n % 2]}/{n}.png", 12 * n)
        _tar()
        Path("r.yaml").write_text("method: dm\nlr: 0.5\niterations: 4\n")
        Path("pull.py").write_text(PULL)
        Path("helper.py").write_text(HELPER)
        Path("net.py").write_text(NETWORK)
        _scores(0)
        potstill.distill("d.csv", "mtt", ipc=1, steps=1, num_experts=2, train_epochs=2, max_start_epoch=1,
            expert_epochs=1,
                         student_steps=1, network="linear", progress=None)  # fmt: skip
        _expert(0)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("POTSTILL_CACHE", "cache")
    monkeypatch.syspath_prepend(tmp_path)  # which is undone
    _forget()
    return tmp_path / "here"


class _AfterTwo(driver._SignalFlag):
    """A signal that comes after two steps, or after as many as there are."""

    asked = 0

    @property
    def raised(self) -> bool:
        self.asked += 1
        return self.asked > 2

    @raised.setter
    def raised(self, value: bool) -> None:
        """The handler's own."""


def _forget() -> None:
    """Own files are imported once in a process; the next command is another process."""
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").name in ("pull.py", "helper.py", "net.py"):
            del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if not Path(folder, "pull.py").exists()]


def _words(kind: str) -> list[str]:
    words, _, _ = EDITS[kind]
    steps = [] if "--recipe" in words else ["--steps", "4"]
    return ["distill", *words, "--ipc", "1", "--out", "out.safetensors", *steps, "--quiet"]


ENDED = [(k, e) for k, e in product(EDITS, ["interrupted", "finished"]) if (k, e) != ("scores", "interrupted")]
"""Choosing by scores takes one step, so that nothing is there to go on with."""


@pytest.mark.parametrize(("kind", "ended"), covering(ENDED))
def test_an_edited_input_is_told(
    kind: str, ended: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = EDITS[kind][2]
    if ended == "interrupted":
        with monkeypatch.context() as patch:
            patch.setattr(driver, "_SignalFlag", _AfterTwo)
            assert main(_words(kind)) == 130
        assert Path("out.safetensors.checkpoint").is_file()
    else:
        assert main(_words(kind)) == 0
    before = {p: p.read_bytes() for p in Path().glob("out.safetensors*")}
    capsys.readouterr()
    EDITS[kind][1]()
    _forget()
    assert main([*_words(kind), "--resume"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert any(part in said for part in told.split("|")), said
    assert {p: p.read_bytes() for p in before} == before


SHOWN = ("csv value", "own method", "experts")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in SHOWN else pytest.mark.slow) for k in EDITS])
def test_unedited_it_goes_on_and_ends_as_it_would_have(
    kind: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(kind)) == 0
    whole = potstill.load("out.safetensors")
    assert main([*_words(kind), "--resume"]) == 0  # which is not done again
    assert "was there" in capsys.readouterr().out
    Path("out.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_SignalFlag", _AfterTwo)
        assert main(_words(kind)) in (0, 130)
    assert main([*_words(kind), "--resume"]) == 0
    assert torch.equal(potstill.load("out.safetensors").inputs, whole.inputs)


@pytest.mark.parametrize("left", ["set and scorecard", "scorecard alone", "checkpoint"])
def test_a_comparison_adopts_nothing_of_an_edited_method(
    left: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "d.csv", "--methods", "pull.py:Pull", "--ipc", "1", "--protocol", "dc", "--epochs", "1"]
    words += ["--seeds", "2", "--out", "board", "--quiet"]
    with monkeypatch.context() as patch:
        if left == "checkpoint":
            patch.setattr(driver, "_SignalFlag", _AfterTwo)
        assert main(words) == (130 if left == "checkpoint" else 0)
    if left == "scorecard alone":
        Path("board/pull-Pull-ipc1.safetensors").unlink()
    if left != "checkpoint":
        assert main(words) == 0  # as it is, all of it is taken over
    capsys.readouterr()
    EDITS["own method"][1]()
    _forget()
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "own_files.pull.py was" in said


def test_the_card_names_the_users_own_files(place: Path) -> None:
    assert main(_words("own method")) == 0
    card = potstill.load("out.safetensors").metadata
    assert sorted(card["own_files"]) == ["helper.py", "pull.py"]
    assert all(len(digest) == 64 for digest in card["own_files"].values())
    assert str(place) not in json.dumps(card["own_files"])
    assert "own_files" not in potstill.distill("d.csv", "random", ipc=1, progress=None).metadata


def test_an_edited_method_may_go_on_where_that_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_SignalFlag", _AfterTwo)
        assert main(_words("own method")) == 130
    EDITS["own method"][1]()
    _forget()
    assert main([*_words("own method"), "--resume", "force"]) == 0
    (other,) = potstill.load("out.safetensors").metadata["resumed_with_others"]
    assert other["step"] == 2
    assert (
        other["versions"]["own_files"]["pull.py"] != potstill.load("out.safetensors").metadata["own_files"]["pull.py"]
    )
