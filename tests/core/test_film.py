"""A film of a run: few pictures at few steps, of the same bits, through interruptions."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import read_tensors, write_tensors
from potstill.errors import PotstillError
from potstill.reports import load_snapshots
from potstill.rng import generator
from potstill.runs.loop import Interrupted
from potstill.runs.resolve import resolve_run
from potstill.runs.snapshots import MOST, SnapshotRecorder, select_inputs
from potstill.runs.spec import RunSpec

SETTINGS: dict[str, Any] = {"ipc": 4, "seed": 3, "network": "mlp", "progress": None, "codec": "float32"}


def test_the_stages_are_of_the_run_and_change_no_bit(tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    small = potstill.distill("digits", "dm", steps=6, snapshots=f"{out}.film", **SETTINGS)
    film = load_snapshots(out)
    assert film is not None
    assert film.steps == (0, 1, 2, 4, 6)
    assert film.labels.tolist() == [c for c in range(10) for _ in range(3)]
    assert all(x.shape == (30, 1, 8, 8) for x in film.stages)
    kept = torch.cat([torch.as_tensor(small.inputs)[small.labels == c][:3] for c in range(10)])
    levels = (kept.clamp(0, 1) * 255).round().to(torch.uint8)
    assert (levels.int() - torch.from_numpy(film.stages[-1]).int()).abs().max() <= 1
    assert (film.stages[0] != film.stages[-1]).any()
    assert small.inputs.equal(potstill.distill("digits", "dm", steps=6, **SETTINGS).inputs)


def test_an_interrupted_run_goes_on_with_its_film(tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "small.safetensors", tmp_path / "run.checkpoint"
    given = {**SETTINGS, "steps": 12, "snapshots": f"{out}.film", "checkpoint": checkpoint, "batch_real": 8}
    whole = potstill.distill("digits", "dm", **given)
    film = load_snapshots(out)
    assert film is not None

    def stop(seen: Any) -> None:
        if seen.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        potstill.distill("digits", "dm", **{**given, "progress": stop})
    early = load_snapshots(out)
    assert early is not None
    assert early.steps == (0, 1, 2, 4)
    again = potstill.distill("digits", "dm", resume=True, **given)
    assert again.inputs.equal(whole.inputs)
    second = load_snapshots(out)
    assert second is not None
    assert second.steps == film.steps == (0, 1, 2, 4, 8, 12)
    assert all((a == b).all() for a, b in zip(second.stages, film.stages, strict=True))


def test_a_long_run_keeps_no_more(tmp_path: Path) -> None:
    settled = resolve_run(RunSpec("digits", "dm", ipc=4, network="mlp", device="cpu"))
    state = settled.method.init(settled.problem, generator(0, "film"))
    out = tmp_path / "small.safetensors"
    film = SnapshotRecorder(
        Path(f"{out}.film"), settled.method, settled.problem, {"a": 1}, resume=False, warn=pytest.fail
    )
    for step in range(20_001):
        film(step, state)
    film.last(20_000, state)
    held = load_snapshots(out)
    assert held is not None
    assert held.steps == (0, 256, 512, 1024, 2048, 4096, 8192, 16384, 20000)
    assert len(held.steps) == MOST
    another = SnapshotRecorder(
        Path(f"{out}.film"), settled.method, settled.problem, {"a": 2}, resume=True, warn=pytest.fail
    )
    another(1, state)
    held = load_snapshots(out)
    assert held is not None
    assert held.steps == (1,), "what another run has left is not gone on with"


@pytest.mark.parametrize("method", ["frepo", "frequency"])
def test_what_is_stored_may_be_no_picture(tmp_path: Path, method: str) -> None:
    out = tmp_path / "small.safetensors"
    more: dict[str, Any] = {"parametrization": "frequency"} if method == "frequency" else {}
    name = "dm" if method == "frequency" else method
    potstill.distill("digits", name, snapshots=f"{out}.film", steps=3, **{**SETTINGS, "ipc": 2}, **more)
    film = load_snapshots(out)
    assert film is not None
    assert film.steps == (0, 1, 2, 3)
    assert film.stages[0].shape == ({"frepo": 20, "frequency": 30}[method], 1, 8, 8)


def test_pictures_stand_with_the_class_that_they_are_made_for(tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    asked: dict[str, Any] = {**SETTINGS, "ipc": 2, "network": "convnet-d2-w16-batch", "teacher_epochs": 1}
    small = potstill.distill("digits", "sre2l", preset="quick", steps=2, snapshots=f"{out}.film", **asked)
    assert small.has_soft_labels
    film = load_snapshots(out)
    assert film is not None
    assert film.labels.tolist() == [c for c in range(10) for _ in range(2)], "whatever a teacher takes them for"


def test_what_has_no_changing_pictures_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="random chooses real samples"):
        potstill.distill("digits", "random", ipc=1, snapshots=tmp_path / "f", progress=None)
    for kind, shape in (("waves", (2, 4)), ("series", (1, 2, 4))):
        strange = TensorSource.make(torch.rand(8, *shape).numpy(), [0, 1] * 4, name="strange", kind=kind)
        with pytest.raises(PotstillError, match=f"but strange is {kind} data of shape .*; leave snapshots out"):
            potstill.distill(Splits(train=strange, test=None), "dm", ipc=1, snapshots=tmp_path / "f", progress=None)
    with pytest.raises(PotstillError, match="but snapshots was given"):
        potstill.distill("digits", "auto", ipc=1, time_limit="10s", snapshots=tmp_path / "f", progress=None)
    assert not (tmp_path / "f").exists()


def test_a_film_that_cannot_be_written_costs_no_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = potstill.distill("digits", "dm", steps=4, snapshots=tmp_path / "none" / "f", **SETTINGS)
    assert len(small) == 40
    assert capsys.readouterr().err.count("no snapshots of the pictures") == 1


def test_pictures_are_few_however_many_there_are() -> None:
    many = torch.arange(100).repeat_interleave(50)
    assert len(select_inputs(many, 3 * 32 * 32)) == 36
    assert select_inputs(many, 3 * 64 * 64).tolist() == [50 * c for c in range(10)]
    assert select_inputs(many, 10**9).tolist() == [0]
    assert select_inputs(torch.zeros(50, dtype=torch.int64), 64).tolist() == list(range(12))


def test_the_commands_keep_one_and_a_set_without_has_none_of_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.safetensors"
    words = ["distill", "digits", "--ipc", "1", "--steps", "2", "--network", "mlp", "--quiet", "--out", str(out)]
    assert main([*words, "--snapshots"]) == 0
    assert load_snapshots(out) is not None
    assert main(["verify", f"{out}.film"]) == 0
    assert "film, 3 stages of 10 pictures" in capsys.readouterr().out
    assert main(["report", str(out), "--out", str(tmp_path / "p.html")]) == 0
    assert "How they came to be" in (tmp_path / "p.html").read_text()
    assert main(words) == 0
    assert not Path(f"{out}.film").exists()


@pytest.mark.parametrize("harm", ["cut", "code", "steps", "labels", "dtype", "endless"])
def test_a_damaged_film_is_one_line(tmp_path: Path, harm: str) -> None:
    out = tmp_path / "small.safetensors"
    file = Path(f"{out}.film")
    potstill.distill("digits", "dm", steps=2, snapshots=file, **SETTINGS)
    tensors, metadata = read_tensors(file, 2**20)
    said = json.loads(metadata["film"])
    if harm == "steps":
        said["steps"] = [2, 1, 0]
    if harm == "labels":
        tensors["labels"] = tensors["labels"] + 100
    if harm == "dtype":
        tensors["stage/1"] = tensors["stage/1"].float()
    if harm == "endless":
        rows = {name: x.flatten(1).float() for name, x in tensors.items() if x.ndim == 4}
        rows["stage/0"][0, 0] = torch.inf
        tensors |= rows
    write_tensors(file, tensors, {"film": json.dumps(said) if harm != "code" else "[1"})
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(PotstillError, match="no snapshots of a set, or damaged") as refused:
        load_snapshots(out)
    assert "\n" not in str(refused.value)


def test_rows_of_a_table_are_kept_in_its_units_with_its_columns(tmp_path: Path) -> None:
    rows = "".join(f"{1000 + 10 * (n % 2) + n % 7},{n % 5 - 3 * (n % 2)},{n / 50},{'ab'[n % 2]}\n" for n in range(60))
    (tmp_path / "t.csv").write_text("weight,<i>height</i>,age,class\n" + rows)
    data = potstill.load_data(str(tmp_path / "t.csv"), label="class")
    out = tmp_path / "small.safetensors"
    given: dict[str, Any] = {"ipc": 5, "seed": 0, "progress": None, "codec": "float32", "steps": 5}
    small = potstill.distill(data, "dm", snapshots=f"{out}.film", **given)
    assert small.inputs.equal(potstill.distill(data, "dm", **given).inputs), "no bit changes"
    film = load_snapshots(out)
    assert film is not None
    assert (film.noun, film.columns, film.steps) == ("rows", ("weight", "<i>height</i>", "age"), (0, 1, 2, 4, 5))
    assert film.classes == ("a", "b")
    assert film.labels.tolist() == [0, 0, 0, 1, 1, 1]
    kept = torch.cat([torch.as_tensor(small.inputs)[small.labels == c][:3] for c in range(2)])
    torch.testing.assert_close(torch.from_numpy(film.stages[-1]), kept, rtol=1e-5, atol=1e-4)
    assert (film.stages[0] != film.stages[-1]).any()
    assert 990 < film.stages[0][:, 0].min() < film.stages[0][:, 0].max() < 1030, "the data's own units"


def test_windows_of_a_series_are_kept(tmp_path: Path) -> None:
    turns = torch.arange(300) / 7
    (tmp_path / "s.csv").write_text("hot,cold\n" + "".join(f"{50 + 9 * t.sin():.4f},{t.cos():.4f}\n" for t in turns))
    out = tmp_path / "small.safetensors"
    data = potstill.load_data(str(tmp_path / "s.csv"), task="forecast:window=16,horizon=4")
    small = potstill.distill(
        data, "dm", items=4, steps=2, snapshots=f"{out}.film", progress=None, codec="float32", network="mlp"
    )
    film = load_snapshots(out)
    assert film is not None
    assert (film.noun, film.columns, film.classes) == ("windows", ("hot", "cold"), ())
    assert film.stages[0].shape == (4, 2, 16)
    torch.testing.assert_close(torch.from_numpy(film.stages[-1]), torch.as_tensor(small.inputs), rtol=1e-5, atol=1e-4)
