"""The commands one after the other on real digits, with networks small enough for a test."""

import json
import shlex
import signal
import subprocess
import sys

import pytest
import torch

import potstill
from potstill.cli.main import main

CLI = [sys.executable, "-m", "potstill.cli.main"]
QUICK = ["--network", "convnet-d1-w8", "--batch-real", "32"]
MEASURE = ["--data", "digits", "--network", "mlp", "--seeds", "2", "--epochs", "3", "--lr", "0.05", "--steps"]


@pytest.fixture
def small(tmp_path, capsys):
    """A distilled set on disk."""
    path = tmp_path / "small.safetensors"
    assert main(["distill", "digits", "--ipc", "1", "--iterations", "3", *QUICK, "--out", str(path), "--quiet"]) == 0
    capsys.readouterr()
    return path


def test_distil_writes_the_file_says_what_is_in_it_and_what_to_do_next(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    words = ["distill", "digits", "--items", "12", "--iterations", "2", *QUICK, "--split-seed", "4", "--out", str(path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    set_ = potstill.load(path)
    assert f"{path}: 12 pictures of 1×8×8 in 10 classes, {set_.metadata['bytes']['total']:,} bytes" in out
    assert "all 2 steps of the method were made" in out
    following = shlex.split(out.splitlines()[-1].removeprefix("Measure it: "))
    wanted = f"potstill evaluate {path} --data digits --network convnet-d1-w8"  # the split is on the card
    assert following == wanted.split()
    assert set_.metadata["command"] == shlex.join(["potstill", *words])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.history.json", "a.safetensors"]  # the checkpoint is gone


def test_distil_as_json_is_the_card_and_the_path(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert main(["distill", "digits", "--method", "herding", "--ipc", "1", "--out", str(path), "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert {k: document[k] for k in ("path", "items", "method", "ipc")} == {
        "path": str(path), "items": 10, "method": "herding", "ipc": 1,
    }  # fmt: skip
    assert document["bytes"]["total"] == potstill.load(path).metadata["bytes"]["total"]
    assert "drawn as test" in shown.err  # what the loader decided is said, but not on stdout


def test_a_scorecard_is_printed_written_and_reported(small, tmp_path, capsys):
    out = tmp_path / "small.scorecard.json"
    words = ["evaluate", str(small), *MEASURE, "--no-full", "--no-robust-scores", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads(out.read_text())
    assert shown["protocol"] == "potstill"
    assert shown["n"] == 2
    assert shown["full"] is None
    assert {"random", "herding", "random-soft"} <= set(shown["baselines"])
    assert 0 <= shown["accuracy"]["mean"] <= 1
    assert (shown["file"], kept["file"]) == (str(small), "small.safetensors")
    assert kept["accuracy"] == shown["accuracy"]
    assert main([*words, "--no-baselines", "--quiet"]) == 0
    assert "this set" in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert "small" in (tmp_path / "page.html").read_text()


def test_a_further_baseline_is_named_and_an_unknown_one_refused(small, capsys, monkeypatch):
    monkeypatch.setattr("potstill.evaluation.model_baseline.STEPS", 10)
    words = ["evaluate", str(small), *MEASURE, "--quick", "--quiet", "--json"]
    assert main([*words, "--baselines", "model"]) == 0
    baselines = json.loads(capsys.readouterr().out)["baselines"]
    assert {"random", "model"} <= set(baselines)
    assert main([*words, "--baselines", "random"]) == 1
    assert "unknown baseline 'random'; known: arima, ets, model" in capsys.readouterr().err


def test_overriding_the_protocol_changes_its_fingerprint(small, capsys):
    words = ["evaluate", str(small), *MEASURE, "--no-full", "--no-baselines", "--no-robust-scores", "--json", "--quiet"]
    prints = []
    for more in ([], ["--momentum", "0.5"], []):
        assert main([*words, *more]) == 0
        prints.append(json.loads(capsys.readouterr().out)["fingerprint"])
    assert prints[0] == prints[2] != prints[1]


def test_measuring_on_another_split_says_so(small, capsys):
    words = ["evaluate", str(small), *MEASURE, "--no-full", "--no-baselines", "--no-robust-scores", "--split-seed", "1"]
    assert main(words) == 0
    assert "was not made of this training data" in capsys.readouterr().out
    assert main([*words[:-2], "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["made_of_train"] is True


def test_inspect_and_export(small, tmp_path, capsys):
    assert main(["inspect", str(small)]) == 0
    assert "dm" in capsys.readouterr().out
    assert main(["inspect", str(small), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["method"] == "dm"
    assert main(["export", str(small), "--to", "npz", "--out", str(tmp_path / "small.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 10
    assert (tmp_path / "small.npz").exists()


@pytest.mark.parametrize("command", ["inspect", "export", "evaluate"])
def test_a_file_that_is_no_set_is_refused_in_one_line(command, tmp_path, capsys):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a set")
    more = {"export": ["--to", "npz", "--out", str(tmp_path / "x.npz")], "evaluate": ["--data", "digits"]}
    assert main([command, str(path), *more.get(command, [])]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"potstill: error: {path}: ")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_goes_on_with_the_line_it_prints_and_ends_the_same(number, tmp_path, capsys):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    words = ["distill", "digits", "--ipc", "1", "--iterations", "40", "--codec", "uint8", *QUICK, "--device", "cpu"]
    words += ["--out"]
    assert main([*words, str(whole), "--quiet"]) == 0
    capsys.readouterr()

    running = subprocess.Popen([*CLI, *words, str(cut)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "step 1 of" in line:
            break
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (130, "")
    assert not cut.exists()
    last = err.splitlines()[-1]
    resume = shlex.split(last.partition("to go on: ")[2])
    assert resume == ["potstill", *words, str(cut), "--resume"]

    assert main([*resume[1:], "--quiet"]) == 0
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"{name}.{end}" for name in ("cut", "whole") for end in ("history.json", "safetensors")]
    a, b = potstill.load(whole), potstill.load(cut)
    assert torch.equal(a.inputs, b.inputs)
    assert a.metadata["cost"]["steps"] == b.metadata["cost"]["steps"] == 40


def test_compare_ranks_and_is_not_done_twice(tmp_path, capsys):
    words = ["compare", "digits", "--methods", "random,k-center", "--ipc", "1", "--seeds", "2", "--network", "mlp"]
    words += ["--out", str(tmp_path / "board"), "--quiet"]
    assert main([*words, "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in board["rows"]} == {"random", "k-center"}
    assert board == json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    written = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "board").glob("*.safetensors")}
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "k-center" in shown
    assert "potstill report" in shown
    assert written == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "board").glob("*.safetensors")}


def test_a_comparison_of_which_nothing_worked_has_failed(tmp_path, capsys):
    words = ["compare", "digits", "--methods", "random", "--ipc", "400", "--network", "convnet-d1-w8", "--out"]
    assert main([*words, str(tmp_path / "b"), "--json", "--quiet"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("potstill: error: every cell failed; the first: selection needs at least 400 samples")


def test_an_interrupted_comparison_goes_on_with_the_same_line(tmp_path):
    words = ["compare", "digits", "--methods", "dm", "--ipc", "1", "--network", "convnet-d1-w8"]
    words += ["--out", str(tmp_path / "b")]
    running = subprocess.Popen([*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "dm-ipc1: step" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-1].endswith("to go on: " + shlex.join(["potstill", *words]))
    assert (tmp_path / "b" / "dm-ipc1.safetensors.checkpoint").exists()


def test_labels_are_written_once_and_read_by_students(tmp_path, capsys):
    small, labels = str(tmp_path / "small.safetensors"), tmp_path / "small.labels.safetensors"
    assert main(["distill", "digits", "--method", "random", "--ipc", "2", "--out", small, "--quiet"]) == 0
    settings = ["--data", "digits", "--protocol", "sre2l", "--network", "convnet-d1-w8-batch", "--teacher-epochs", "1"]
    settings += ["--epochs", "3", "--quiet", "--json"]
    words = ["label", small, *settings, "--top-k", "3", "--dtype", "uint8", "--pool", "2", "--out", str(labels)]
    capsys.readouterr()
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["bytes"], said["file_bytes"]) == (20 * 2 * 10, labels.stat().st_size)
    assert (said["items"], said["epochs"]) == (20, 2)
    first = labels.read_bytes()
    assert main(["evaluate", small, *settings, "--stored", str(labels), "--seeds", "1", "--no-full"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["bytes"]["stored_labels"] == said["bytes"]
    teacher = tmp_path / "teacher.safetensors"
    asked = ["label", small, *settings, "--store-as", "auto", "--out", str(teacher)]
    assert main([*asked, "--epochs", "30"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "potstill-teacher/1"
    assert found["bytes"] == found["bytes_as"]["teacher"] < found["bytes_as"]["rows"] == 20 * 30 * 20
    assert main(["evaluate", small, *settings, "--stored", str(teacher), "--seeds", "1", "--no-full"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["stored_labels"] == found["bytes"]
    plain = [w for w in asked if w not in ("--store-as", "auto", "--json")]
    assert main([*plain, "--epochs", "30", "--top-k", "3", "--out", str(tmp_path / "rows.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "3 of 10 classes, have 3" in text  # percent of the probability, at temperature 20
    assert f"Smaller: the teacher itself, {found['bytes']:,} bytes" in text
    labels.unlink()
    assert main(words) == 0
    assert labels.read_bytes() == first
    capsys.readouterr()
    for wrong, said in (
        (["--pool", "4"], "a pool must hold 1…3 epochs"),
        (["--top-k", "11"], "11"),
        (["--out", str(tmp_path / "none" / "x.safetensors")], "does not exist"),
    ):  # teachers of a million epochs: what is wrong is found before they are trained
        assert main([*words, "--teacher-epochs", "1000000", *wrong]) == 1
        assert said in capsys.readouterr().err
    capsys.readouterr()
    assert (
        main(["label", small, "--data", "digits", "--out", str(tmp_path / "x.safetensors"), "--protocol", "dsa"]) == 1
    )
    assert "choose sre2l or rded" in capsys.readouterr().err
