"""Completion scripts know what the parser knows, and shells read them."""

import shutil
import subprocess

import pytest

from potstill.cli.commands import COMMANDS
from potstill.cli.commands.completion import completion_script, completion_table
from potstill.cli.main import main
from potstill.cli.parsing import parse
from potstill.core.registry import names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (found / f"potstill.{shell}").write_text(completion_script(shell) + "\n")
    return found


def bash(folder, *words):
    program = (
        'source potstill.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _potstill; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_every_command_and_method_is_there():
    found = completion_table()
    assert found.keys() >= set(COMMANDS)
    assert {key.removeprefix("--method ") for key in found if key.startswith("--method ")} == set(names("methods"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dm", "mtt", "sre2l", "herding"])
def test_an_option_that_is_completed_is_parsed(method):
    """A switch alone, as every other needs a value of its own kind."""
    for option in completion_table()[f"--method {method}"]:
        if not option.value:
            parse("distill", ["digits", "--out", "a.safetensors", "--method", method, option.flag])
    assert "--iterations" in [o.flag for o in completion_table()["--method dm"]]


@pytest.mark.parametrize(
    ("words", "there", "not_there"),
    [
        (["di"], {"distill"}, {"evaluate"}),
        (["distill", "dig"], {"digits"}, {"mnist"}),
        (["distill", "digits", "--method", "m"], {"mtt", "m3d"}, {"dm"}),
        (["distill", "digits", "--method", "idc", "--"], {"--out", "--batch-real"}, {"--pixel-quantile"}),
        (["distill", "digits", "--method", "herding", "--"], {"--features"}, {"--batch-real"}),
        (["distill", "digits", "--method", "=", "dat"], {"datm", "datadam"}, {"dm"}),
        (["distill", "digits", "--preset", ""], {"quick", "good", "published"}, {"dm"}),
        (["audit", "pr"], {"privacy", "provenance"}, {"fairness"}),
        (["audit", "small.safetensors", "--"], {"--parts", "--key"}, {"--eps"}),
        (["audit", "robustness", "small.safetensors", "--"], {"--eps", "--adversary"}, {"--parts"}),
        (["compare", "digits", "--methods", "random,k-"], {"random,k-means", "random,k-center"}, {"k-means"}),
        (["evaluate", "a.safetensors", "--device", "c"], {"cpu", "cuda"}, {"auto"}),
        (["evaluate", "a.safetensors", "--data", "potstill.b"], {"potstill.bash"}, {"potstill.fish"}),
        (["completion", ""], {"bash", "zsh", "fish"}, {"digits"}),
    ],
)
def test_bash_completes(words, there, not_there, folder):
    found = set(bash(folder, "potstill", *words))
    assert there <= found
    assert not not_there & found


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(("line", "first"), [("potstill di", "distill"), ("potstill distill --method mt", "mtt")])
def test_fish_completes(line, first, folder):
    words = ["fish", "-c", f"source potstill.fish; complete -C '{line}'"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split()[0] == first


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_reads_its_script(folder):
    words = ["zsh", "-fc", "autoload -U compinit; compinit -D; source ./potstill.zsh; print $_comps[potstill]"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("_potstill", "")


def test_the_command_prints_the_script(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("-F _potstill potstill")
