"""Numbers of a run go to the loggers that are asked for, and a logger that fails costs no set."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.runs.loggers import parse_loggers

SETTINGS: dict[str, Any] = {"ipc": 1, "seed": 3, "steps": 4, "network": "mlp", "progress": None, "codec": "float32"}


class Kept:
    """A logger of one's own: no base class."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.settings: Mapping[str, Any] = {}
        self.steps: dict[int, Mapping[str, float]] = {}
        self.results: list[Mapping[str, Any] | None] = []
        self._breaks_at = breaks_at

    def start(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def record(self, step: int, values: Mapping[str, float]) -> None:
        if step == self._breaks_at:
            raise ConnectionError("no route to host\nsecond line")
        self.steps[step] = values

    def finish(self, result: Mapping[str, Any] | None) -> None:
        self.results.append(result)


def events(folder: Path) -> Any:
    """What the event files of ``folder`` hold, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_a_value_is_told_settings_steps_and_result() -> None:
    kept, seen = Kept(), []
    small = potstill.distill("digits", "dm", log=kept, **{**SETTINGS, "progress": seen.append})
    assert kept.settings["method"] == "dm"
    assert (kept.settings["seed"], kept.settings["items"], kept.settings["config.network"]) == (3, 10, "mlp")
    assert list(kept.steps) == [1, 2, 3, 4]
    assert [values["loss"] for values in kept.steps.values()] == [step.metrics["loss"] for step in seen]
    assert kept.results == [
        {"items": 10, "bytes": small.metadata["bytes"]["total"], "seconds": small.metadata["cost"]["seconds"],
         "outcome": "steps reached"}
    ]  # fmt: skip


def test_a_log_changes_no_bit_of_the_set() -> None:
    with_log = potstill.distill("digits", "dm", log=Kept(), **SETTINGS)
    assert with_log.inputs.equal(potstill.distill("digits", "dm", **SETTINGS).inputs)


def test_many_steps_are_thinned_and_the_last_is_told() -> None:
    from potstill.runs.loggers import POINTS, logging_context
    from potstill.runs.loop import Progress

    kept = Kept()
    total = 3 * POINTS + 1
    with logging_context(kept, dict, print) as (told, ended):
        assert told is not None
        for step in range(1, total + 1):
            told(Progress(step=step, total=total, seconds=1.0, time_limit=None, metrics={"loss": float(step)}))
        ended({"items": 1})
    assert len(kept.steps) == POINTS + 1
    assert max(kept.steps) == total


def test_a_run_that_is_broken_off_says_so() -> None:
    kept = Kept()

    def stop(seen: Any) -> None:
        if seen.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        potstill.distill("digits", "dm", log=kept, **{**SETTINGS, "progress": stop})
    assert list(kept.steps) == [1]
    assert kept.results == [None]


def test_a_logger_that_fails_is_left_out_and_the_set_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Kept(), Kept(breaks_at=2)
    small = potstill.distill("digits", "dm", log=[bad, good], **SETTINGS)
    assert len(small) == 10
    assert (list(bad.steps), list(good.steps)) == ([1], [1, 2, 3, 4])
    said = capsys.readouterr().err
    assert said.count("the log of Kept ends here: no route to host") == 1
    assert "second line" not in said


def test_tensorboard_reads_the_curve_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    words = ["distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "4", "--network", "mlp", "--quiet"]
    assert main([*words, "--out", str(out), "--log", f"tensorboard:{tmp_path / 'runs'}"]) == 0
    held = events(tmp_path / "runs")
    curve = held.Scalars("distill/loss")
    assert [point.step for point in curve] == [1, 2, 3, 4]
    assert all(point.value > 0 for point in curve)
    small = potstill.load(out)
    assert held.Scalars("result/items")[0].value == 10
    assert held.Scalars("result/bytes")[0].value == small.metadata["bytes"]["total"]
    settings = held.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| method | dm |" in settings
    assert "| config.network | mlp |" in settings


def test_wandb_is_called_as_it_wants_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    logs: list[tuple[dict[str, float], int]] = []
    run = SimpleNamespace(log=lambda values, step: logs.append((values, step)), summary={}, exit_code=None)
    run.finish = lambda exit_code: setattr(run, "exit_code", exit_code)
    begun: dict[str, Any] = {}
    fake = ModuleType("wandb")
    vars(fake)["init"] = lambda **given: begun.update(given) or run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    potstill.distill("digits", "dm", log="wandb:mine", **SETTINGS)
    assert (begun["project"], begun["config"]["method"]) == ("mine", "dm")
    assert [step for _, step in logs] == [1, 2, 3, 4]
    assert set(logs[0][0]) >= {"distill/loss", "distill/seconds"}
    assert (run.summary["items"], run.exit_code) == (10, 0)


@pytest.mark.slow
def test_wandb_itself_keeps_the_run_on_this_machine(tmp_path: Path) -> None:
    # A process of its own: wandb leaves a service running until its process ends.
    words = ["distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "4", "--network", "mlp", "--json"]
    words += ["--codec", "float32", "--log", "wandb:mine", "--out", str(tmp_path / "small.safetensors")]
    # Nothing is sent in this mode; without a key of its own wandb would ask for one otherwise.
    where = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "potstill", *words], env={**os.environ, **where}, capture_output=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"] == "dm", "nothing else on stdout"
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert content.count(b"distill/loss") >= 4, "each step"
    for said in (b"config.network", b"mlp", b"steps reached", b"mine"):
        assert said in content


def test_mlflow_is_called_as_it_wants_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, str] = {}
    points: list[tuple[str, float, int]] = []
    ended: list[str] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            assert name == "mine"
            return "7"

        def create_run(self, experiment_id: str) -> Any:
            assert experiment_id == "7"
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_param(self, run: str, key: str, value: str) -> None:
            params[key] = value

        def log_metric(self, run: str, key: str, value: float, step: int = 0) -> None:
            points.append((key, value, step))

        def set_tag(self, run: str, key: str, value: str) -> None:
            params[key] = value

        def set_terminated(self, run: str, status: str) -> None:
            ended.append(status)

    fake = ModuleType("mlflow")
    vars(fake)["MlflowClient"] = Client
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    potstill.distill("digits", "dm", log="mlflow:mine", **SETTINGS)
    assert (params["method"], params["seed"], params["result.outcome"]) == ("dm", "3", "steps reached")
    assert [step for key, _, step in points if key == "distill/loss"] == [1, 2, 3, 4]
    assert ("result/items", 10.0, 0) in points
    assert ended == ["FINISHED"]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("tensorbord:x", "unknown logger 'tensorbord'"),
        ("wandb:mine", r"needs the package wandb; pip install 'potstill\[wandb\]'"),
    ],
)
def test_what_cannot_be_logged_to_is_refused_before_any_work(
    log: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    seen: list[Any] = []
    with pytest.raises(PotstillError, match=said):
        potstill.distill("digits", "dm", log=log, **{**SETTINGS, "progress": seen.append})
    assert not seen


def test_what_is_no_logger_is_said() -> None:
    with pytest.raises(PotstillError, match="a logger has start, record and finish, but a int was given"):
        parse_loggers(3)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PotstillError, match="the log of tensorboard cannot be begun"):
        potstill.distill("digits", "dm", log=f"tensorboard:{tmp_path / 'file' / 'runs'}", **SETTINGS)


def test_auto_has_no_single_run_to_log() -> None:
    with pytest.raises(PotstillError, match="but log was given"):
        potstill.distill("digits", "auto", ipc=1, time_limit="10s", log="tensorboard", progress=None)
