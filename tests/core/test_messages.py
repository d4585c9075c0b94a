"""Messages name an option once, as Python does; the command line prints it as its own."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import potstill
from potstill._util.progress import ProgressReporter
from potstill.cli.commands import COMMANDS, command_class
from potstill.cli.main import main
from potstill.cli.options import option_fields
from potstill.core import registry
from potstill.errors import OPTION, PotstillError, for_command_line
from potstill.evaluation import Protocol

ROOT = Path(potstill.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
NOT_OURS = ("torchrun --nproc", "ray start --head", "--force-reinstall")
"""Options of other programs."""
NOT_MESSAGES = {
    "errors.py": "what translates them",
    "native/build.py": "of the C compiler",
    "exporters/hugging_face.py": "the README of a published set, with a line for a shell",
    "api/report.py": "the command that makes the page again, word by word",
}


def texts(path: Path) -> list[tuple[int, str]]:
    """Every string of a file that is no docstring, formatted values as {}."""
    tree = ast.parse(path.read_text())
    said = {id(e.value) for e in ast.walk(tree) if isinstance(e, ast.Expr)}
    parts = {id(v) for j in ast.walk(tree) if isinstance(j, ast.JoinedStr) for v in j.values}
    found = []
    for e in ast.walk(tree):
        if id(e) in said or id(e) in parts:
            continue
        if isinstance(e, ast.Constant) and isinstance(e.value, str):
            found.append((e.lineno, e.value))
        elif isinstance(e, ast.JoinedStr):
            found.append((e.lineno, "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in e.values)))
    return found


FOLDERS = sorted(p for p in ROOT.iterdir() if p.name not in ("cli",) and (p.is_dir() or p.suffix == ".py"))


def messages(place: Path) -> list[tuple[str, int, str]]:
    """File, line and text of what may be a message in a file or a folder."""
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    named = [(str(path.relative_to(ROOT)), path) for path in files]
    return [(name, line, text) for name, path in named for line, text in texts(path)]


@pytest.mark.parametrize("place", FOLDERS, ids=lambda p: p.name)
def test_no_message_of_the_library_speaks_the_language_of_the_command_line(place: Path) -> None:
    """A whole line for a shell (``potstill materialize FILE --data DATA``) is none, and styles of pages are none."""
    wrong = [
        f"{name}:{line}: {text}" for name, line, text in messages(place)
        if FLAG.search(text) and not re.search(r"potstill [a-z]+ .*--", text) and not any(o in text for o in NOT_OURS)
        and not (name == "_util/input_limits.py" and text.startswith("--limit "))  # what reads the option of that name
        and name not in NOT_MESSAGES and not (name.startswith("reports/") and re.search(r"--[a-z]+:", text))
    ]  # fmt: skip
    assert not wrong, "name an option as `keyword=`; potstill.errors says how:\n" + "\n".join(wrong)


def options() -> set[str]:
    """Every option of the command line, of methods and of protocols."""
    found = {
        name.removeprefix("no_")
        for command in COMMANDS
        for name in (f.name for f in option_fields(command_class(command)))
    }
    for method in registry.names("methods"):
        found |= {f.name for f in dataclasses.fields(registry.get_method_class(method))}
    return found | set(inspect.signature(Protocol.change).parameters) | {"teacher_statistics", "teacher"}


@pytest.mark.parametrize("place", FOLDERS, ids=lambda p: p.name)
def test_what_a_message_names_is_an_option_of_both(place: Path) -> None:
    known = options()
    named = {(name, line, m[1]) for name, line, text in messages(place) for m in OPTION.finditer(text)}
    assert not (wrong := [one for one in sorted(named) if one[2] not in known]), wrong


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ('say which with `label="COLUMN"`', "say which with --label COLUMN"),
        ("`stream=True` for both", "--stream for both"),
        ("`full=False`", "--no-full"),
        ("`horizontal_flip=False`, not `horizontal_flip=True`", "--horizontal-flip no, not --horizontal-flip yes"),
        ("resize with `size=(H, W)`", "resize with --size HxW"),
        ('`networks=["mlp", "linear"]`', "--networks mlp,linear"),
        ("leave `test_fraction=` out", "leave --test-fraction out"),
        ("`steps=N` or `time_limit=\"30m\"`", "--steps N or --time-limit 30m"),
        ('`task="forecast:window=W,horizon=H"`', "--task forecast:window=W,horizon=H"),
        ("`potstill.limited(pixels=N)` raises it", "--limit pixels=N raises it"),
        ("x=1, `a`, `potstill.load(y=2)` and a `b` = `c`", "x=1, `a`, `potstill.load(y=2)` and a `b` = `c`"),
    ],
)  # fmt: skip
def test_the_command_line_prints_options_as_its_own(said: str, printed: str) -> None:
    assert for_command_line(said) == printed


def test_one_error_in_two_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_diabetes

    table = load_diabetes(as_frame=True).frame
    table.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(PotstillError) as raised:
        potstill.distill(
            potstill.load_data(tmp_path / "d.csv", label="target", task="regression"), "random", ipc=3, progress=None
        )
    assert "`items=3`" in str(raised.value)
    assert "--" not in str(raised.value)
    where = ["--label", "target", "--task", "regression", "--out", str(tmp_path / "s.safetensors")]
    assert main(["distill", str(tmp_path / "d.csv"), "--method", "random", "--ipc", "3", *where]) == 1
    printed = capsys.readouterr().err
    assert "with --items 3" in printed
    assert "items=" not in printed


@pytest.mark.parametrize(("line", "said"), [(True, "for less: --steps N"), (False, "for less: `steps=N`")])
def test_notes_are_in_the_language_of_who_watches(line: bool, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(quiet=False, command_line=line) as watcher:
        watcher.note("for less: `steps=N`")
    assert said in capsys.readouterr().err
