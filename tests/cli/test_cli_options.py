"""The options of every command, frozen: scripts hold on to them, so a change here needs a changelog entry."""

import pytest

from potstill.cli.commands import COMMANDS
from potstill.cli.main import main
from potstill.cli.parsing import _leaves

COMMON = {"--json", "--quiet", "--debug", "--limit"}
READING = {
    "--missing",
    "--series",
    "--mirror",
    "--duplicates",
    "--group",
    "--check-cache",
    "--data-root",
    "--label",
    "--task",
    "--size",
    "--skip-bad",
    "--stream",
    "--split-seed",
    "--test-fraction",
}
MAKING = (
    COMMON
    | READING
    | {"DATA", "--method", "--ipc", "--items", "--bytes", "--recipe", "--effort", "--steps", "--time-limit", "--seed"}
    | {
        "--balance",
        "--network",
        "--parametrization",
        "--labels",
        "--augment",
        "--zca",
        "--store",
        "--device",
        "--executor",
        "--address",
    }
)
OPTIONS = {
    "distill": {"--force"}
    | MAKING
    | {"--out", "--resume", "--resume-anyway", "--checkpoint-every", "--scores", "--experts", "--log", "--film"}
    | {"--class-shards"},
    "plan": MAKING | {"--measure", "--details", "--on", "--students", "--experts"},
    "evaluate": {"--force"}
    | COMMON
    | READING
    | {"FILE", "--data", "--protocol", "--network", "--seeds", "--seed", "--no-baselines", "--no-full"}
    | {
        "--no-robust-scores",
        "--no-weights",
        "--quick",
        "--out",
        "--device",
        "--executor",
        "--address",
        "--stored",
        "--side-by-side",
    },
    "label": {"--force"}
    | COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--protocol",
        "--network",
        "--store-as",
        "--top-k",
        "--dtype",
        "--pool",
        "--fkd",
        "--seed",
        "--device",
        "--executor",
        "--address",
    },
    "score": {"--force"}
    | COMMON
    | READING
    | {"DATA", "--methods", "--out", "--network", "--epochs", "--runs", "--map", "--device", "--executor", "--address"},
    "compare": COMMON
    | READING
    | {
        "DATA",
        "--methods",
        "--ipc",
        "--items",
        "--balance",
        "--out",
        "--time-limit",
        "--effort",
        "--seeds",
        "--seed",
        "--protocol",
        "--network",
        "--device",
        "--executor",
        "--address",
    }
    | {"--set", "--grid", "--sets", "--bytes", "--parametrizations", "--stores", "--protocols", "--film"},
    "scaling": COMMON
    | READING
    | {"DATA", "--out", "--ipc", "--stops", "--sets", "--steps", "--batch", "--lr", "--validation", "--network"}
    | {"--seed", "--device", "--executor", "--address"},
    "study": {"--force"}
    | COMMON
    | READING
    | {"FILE", "--data", "--parts", "--plan", "--on", "--students", "--steps", "--lr", "--real", "--stops", "--groups"}
    | {"--network", "--seed", "--out", "--device", "--executor", "--address"},
    "active": {"--force"}
    | COMMON
    | READING
    | {"DATA", "--acquire", "--rounds", "--per-round", "--start", "--candidates", "--fraction", "--network", "--steps"}
    | {"--batch", "--lr", "--seeds", "--seed", "--out", "--plot", "--device"},
    "csod": {"--force"} | COMMON | {"ANNOTATIONS", "--n", "--out", "--images", "--redundancy", "--crop"},
    "report": {"--force"} | COMMON | READING | {"PATHS", "--out", "--data"},
    "view": COMMON | READING | {"FOLDER", "--port", "--data"},
    "inspect": COMMON | {"FILE"},
    "verify": COMMON | {"PATHS"},
    "cache": COMMON | {"WHAT", "--kind", "--unused", "--at-most", "--damaged"},
    "export": {"--force"} | COMMON | READING | {"FILE", "--to", "--out", "--data", "--link", "--license"},
    "import": {"--force"}
    | COMMON
    | READING
    | {"PATH", "--out", "--format", "--known", "--data", "--mean", "--std", "--zca", "--factor", "--run", "--lr"}
    | {"--method"},
    "rebuild": {"--force"} | COMMON | READING | {"FILE", "--data", "--out"},
    "methods": COMMON | {"NAMES"},
    "protocols": COMMON,
    "networks": COMMON,
    "data": COMMON,
    "parametrizations": COMMON,
    "augmentations": COMMON,
    "stores": COMMON,
    "completion": COMMON | {"SHELL"},
}


def test_the_commands_are_these():
    assert set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_a_command_are_these(name):
    leaves = _leaves(COMMANDS[name][0])
    assert {leaf.name.upper() if leaf.positional else leaf.flag for leaf in leaves} == OPTIONS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_help_names_every_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    shown = capsys.readouterr()
    assert stop.value.code == 0
    assert shown.err == ""
    assert all(option in shown.out for option in OPTIONS[name] if option.startswith("--"))


@pytest.mark.parametrize(("method", "option"), [("dm", "--batch-real"), ("dsa", "--start"), ("herding", "--features")])
def test_help_with_a_method_lists_its_own_options_with_what_they_mean(method, option, capsys):
    from potstill.api.listing import list_methods

    row = next(row for row in list_methods() if row["name"] == method)
    doc = next(o["help"] for o in row["options"] if "--" + o["name"].replace("_", "-") == option)
    with pytest.raises(SystemExit) as stop:
        main(["distill", "--method", method, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert option in shown
    assert doc.split()[0] in shown
