"""Exit status, what goes to stdout and what to stderr, with the library's verbs replaced where that is enough."""

import json
import os
import subprocess
import sys
import warnings

import pytest

import potstill
from potstill._util.file_lock import exclusive_output
from potstill._util.formatting import option_name
from potstill.api import distill as api
from potstill.cli.main import main
from potstill.errors import PotstillError, PotstillWarning
from potstill.runs import load_data as loading
from potstill.runs.loop import Interrupted, Progress

DISTILL = ["distill", "digits", "--ipc", "1", "--method", "dm"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "small.safetensors"


def replaced(monkeypatch, verb):
    monkeypatch.setattr(api, "distill", verb)


def run(*words):
    return subprocess.run([sys.executable, "-m", "potstill.cli.main", *words], capture_output=True, text=True)


def test_failure_is_one_line_on_stderr_and_status_1(monkeypatch, capsys, out):
    def fail(*args, **options):
        print("noise from below")
        raise PotstillError("photos/cat/17.jpg: not an image\n(truncated)\x1b[31m")

    replaced(monkeypatch, fail)
    assert main([*DISTILL, "--out", str(out), "--quiet"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "noise from below\npotstill: error: photos/cat/17.jpg: not an image (truncated)\\x1b[31m\n"


def test_debug_shows_where(monkeypatch, capsys, out):
    def fail(*args, **options):
        raise PotstillError("no")

    replaced(monkeypatch, fail)
    assert main([*DISTILL, "--out", str(out), "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("potstill: error: no\n")


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys, out):
    def stop(*args, checkpoint, **options):
        checkpoint.write_bytes(b"")
        raise Interrupted(checkpoint, 12)

    replaced(monkeypatch, stop)
    out = out.with_name("my set.safetensors")
    assert main([*DISTILL, "--out", str(out), "--quiet"]) == 130
    shown = capsys.readouterr()
    assert shown.out == ""
    line = f"potstill distill digits --ipc 1 --method dm --out '{out}' --quiet --resume"
    assert shown.err == f"potstill: interrupted after step 12; to go on: {line}\n"


def test_a_run_cut_off_before_a_checkpoint_is_started_again(monkeypatch, capsys, out):
    def stop(*args, **options):
        raise KeyboardInterrupt

    replaced(monkeypatch, stop)
    assert main([*DISTILL, "--out", str(out)]) == 130
    assert capsys.readouterr().err.endswith(f"to go on: potstill distill digits --ipc 1 --method dm --out {out}\n")


def test_every_option_reaches_the_library(monkeypatch, out):
    seen = {}

    def record(data, method, **options):
        seen.update(options, method=method, data=data)
        raise PotstillError("enough")

    replaced(monkeypatch, record)
    words = (
        "--time-limit 2m --seed 3 --steps 4 --network mlp --zca mtt --device cpu --checkpoint-every 5s --lr 2 --resume"
    )
    out.with_name(out.name + ".checkpoint").write_bytes(b"")
    assert main(["distill", "digits", "--items", "30", "--out", str(out), *words.split(), "--split-seed", "9"]) == 1
    assert seen["items"] == 30
    assert seen["data"].train.name == "digits"
    wanted = {
        "preset": "published", "seed": 3, "steps": 4, "network": "mlp", "zca": "mtt",
        "device": "cpu",
        "checkpoint_every": 5.0, "lr": 2.0, "resume": True, "method": "dm", "augment": None, "parametrization": None,
        "labels": None,
    }  # fmt: skip
    assert {name: seen[name] for name in wanted} == wanted
    assert seen["time_limit"].seconds == 120.0
    assert str(seen["checkpoint"]) == f"{out}.checkpoint"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: potstill COMMAND"),
        (["distil"], "no command 'distil'; did you mean distill"),
        (["--json", "methods"], "options stand after the command"),
        (["distill", "digits", "--out", "a.safetensors"], "say once how much to keep"),
        ([*DISTILL, "--items", "3", "--out", "a.safetensors"], "say once how much to keep"),
        (["distill", "digits", "--ipc", "0", "--out", "a.safetensors"], "--ipc must be at least 1"),
        ([*DISTILL, "--out", "a.npz"], "must end in .safetensors"),
        ([*DISTILL, "--steps", "-3", "--out", "a.safetensors"], "--steps must be at least 1, but it is -3"),
        (["plan", "digits", "--ipc", "1", "--steps", "0"], "--steps must be at least 1, but it is 0"),
        (["evaluate", "a", "--data", "digits", "--seeds", "0"], "evaluate: --seeds must be at least 1, but it is 0"),
        (["label", "a", "--data", "digits", "--out", "b", "--pool", "-1"], "--pool must be at least 1, but it is -1"),
        (["report", "--out", "page.html"], "at least one folder or file"),
        (["methods", "--bogus"], "methods has no option --bogus"),
    ],
)
def test_misuse_is_status_2(words, said, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


def test_an_output_that_cannot_be_written_is_found_before_anything_is_read(monkeypatch, capsys, tmp_path):
    def never(*args, **options):
        raise AssertionError("the data were read first")

    monkeypatch.setattr(loading, "load_data", never)
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "none" / "a.safetensors", tmp_path / "file" / "a.safetensors"):
        assert main([*DISTILL, "--out", str(target)]) == 1
        assert str(target) in capsys.readouterr().err
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert main([*DISTILL, "--out", str(folder)]) == 1
    assert "it is a folder" in capsys.readouterr().err


def test_progress_is_lines_where_stderr_is_no_terminal_and_none_when_quiet(monkeypatch, capsys, out):
    def steps(*args, progress, **options):
        for step in (1, 2, 3):
            progress(Progress(step=step, total=3, seconds=step, time_limit=None, metrics={"loss": 0.5 / step}))
        raise PotstillError("enough")

    replaced(monkeypatch, steps)
    main([*DISTILL, "--out", str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert "potstill: dm: step 1 of 3, 1 s, loss 0.5" in lines
    assert "potstill: dm: step 3 of 3, 3 s, loss 0.1667" in lines
    assert not any("step 2" in line for line in lines)  # one line now and then, not one for each step
    main([*DISTILL, "--out", str(out), "--quiet"])
    assert capsys.readouterr().err == "potstill: error: enough\n"


@pytest.mark.parametrize(
    "name", ["methods", "networks", "data", "parametrizations", "augmentations", "protocols", "codecs"]
)
def test_listings_are_one_json_document_or_a_table(name, capsys):
    assert main([name, "--json"]) == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert shown.err == ""
    assert rows
    assert all(row["name"] for row in rows)
    assert main([name]) == 0
    table = capsys.readouterr().out
    assert all(row["name"] in table for row in rows)


def test_a_listing_shows_settings_as_pairs_of_name_and_default(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")  # nothing is cut
    for name in ("methods", "networks", "data", "parametrizations", "augmentations", "protocols"):
        assert main([name]) == 0
        table = capsys.readouterr().out
        assert not set("{}[]") & set(table.replace("{000..099}", "").replace("potstill[samples]", "")), name
        if name == "parametrizations":
            assert "factor=2, mode=single, most=128, shrink=nearest" in table


@pytest.mark.parametrize(
    "words",
    [
        ["--steps-per-network", "0"],
        ["--method", "idc", "--cutmix", "2"],
        ["--method", "random-soft", "--temperature", "0"],
        ["--method", "rded", "--temperature", "-1"],
    ],
)
def test_a_setting_out_of_its_bounds_is_one_line_that_names_it(words, capsys, out):
    assert main([*DISTILL, "--out", str(out), "--quiet", "--steps", "1", *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert f": {words[-2][2:].replace('-', '_')} must be " in shown.err
    assert not out.exists()


def test_methods_say_what_the_contract_asks(capsys):
    main(["methods", "--json"])
    rows = json.loads(capsys.readouterr().out)
    asked = {"name", "family", "paper", "title", "year", "options", "use_when", "avoid_when", "related"}
    assert all(asked <= set(row) for row in rows)
    assert {"random", "herding", "k-center", "dc", "dsa", "dm"} <= {row["name"] for row in rows}


def test_a_method_by_name_shows_every_option_with_its_default_and_what_it_is(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["methods", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "sre2l")
    assert main(["methods", "sre2l"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[1:])) <= 60
    flowing = " ".join(shown.split())
    assert f"{row['use_when']} {row['avoid_when']} Related: {', '.join(row['related'])}." in flowing
    for option in row["options"]:
        flag = option_name(option["name"])
        default = {"": '""', None: "auto: by the data"}.get(option["default"], option["default"])
        spelled = f"no-{flag}" if option["default"] is True else flag
        values = {
            preset: fields[option["name"]] for preset, fields in row["presets"].items() if option["name"] in fields
        }
        by_preset = [f"{preset} {'auto' if value is None else value}" for preset, value in values.items()]
        assert f"--{spelled} ({', '.join(by_preset) or f'default: {default}'})" in flowing
        assert f"\n  --{spelled} " in shown
        assert (option["name"] == "iterations") <= bool(by_preset)
        assert option["help"]
        assert option["help"] in " ".join(shown.split())
    assert main(["methods", "random", "dm", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["random", "dm"]
    assert main(["methods", "random"]) == 0
    assert "It has no options." in capsys.readouterr().out
    assert main(["methods", "sre2"]) == 2
    assert "did you mean sre2l" in capsys.readouterr().err


def test_version_and_help_need_no_torch():
    code = (
        "import sys; from potstill.cli.main import main; main(['--version']); main(['--help']);\n"
        "try: main(['evaluate', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("potstill ")


def test_an_error_that_nobody_foresaw_is_one_line_too(tmp_path):
    words = [*DISTILL, "--out", str(tmp_path / "a.safetensors"), "--quiet"]
    code = (
        "import sys\nfrom potstill.api import distill as api\nfrom potstill.cli import main as cli\n"
        "def broken(*a, **k): raise RuntimeError('out of\\nluck')\n"
        "api.distill = broken\n"
        f"sys.argv = ['potstill', *{words!r}]\n"
        "cli.entry()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "potstill: error: unexpected RuntimeError: out of luck; --debug shows where\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    line = f"{sys.executable} -m potstill.cli.main methods --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == "[0\n"
    assert done.stderr == ""


def test_a_run_that_diverged_keeps_its_last_finite_state_and_has_failed(out, capsys):
    words = [*DISTILL, "--lr", "1e38", "--iterations", "9", "--network", "convnet-d1-w8", "--batch-real", "8"]
    assert main([*words, "--out", str(out), "--json"]) == 1
    shown = capsys.readouterr()
    card = json.loads(shown.out)
    assert card["outcome"]["kind"] == "not finite"
    assert shown.err.splitlines()[-1].startswith(f"potstill: error: dm diverged: step {card['outcome']['step'] + 1}: ")
    assert bool(potstill.load(out).inputs.isfinite().all())
    assert sorted(p.name for p in out.parent.iterdir()) == ["small.history.json", out.name]


@pytest.mark.parametrize("content", ["[" * 50_000, "method: 2024-13-45", "ipc: {a: 1}", "{" * 9])
def test_a_recipe_that_is_none_is_one_line(tmp_path, capsys, content):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(content)
    assert main(["distill", "digits", "--recipe", str(recipe), "--out", str(tmp_path / "a.safetensors")]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith(f"potstill: error: {recipe}: ")
    assert err.count("\n") == 1


def test_a_second_command_on_one_output_is_refused_while_the_first_runs(monkeypatch, capsys, out):
    def never(*args, **options):
        raise AssertionError("the data were read")

    monkeypatch.setattr(loading, "load_data", never)
    given = out.with_name("given.safetensors")
    given.touch()  # inputs must be there
    with exclusive_output(out):
        for words in (
            DISTILL,
            ["label", str(given), "--data", "digits"],
            ["materialize", str(given), "--data", "digits"],
        ):
            assert main([*words, "--out", str(out)]) == 1
            said = f"potstill: error: {out}: another run (process {os.getpid()}) is writing it; "
            assert capsys.readouterr().err.startswith(said)
    assert list(out.parent.iterdir()) == [given]


def test_a_warning_of_ours_is_a_note(monkeypatch, capsys, out):
    def warn(*args, **options):
        warnings.warn("the cache is full", PotstillWarning, stacklevel=2)
        raise PotstillError("enough")

    replaced(monkeypatch, warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*DISTILL, "--out", str(out)]) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == ["potstill: the cache is full", "potstill: error: enough"]
