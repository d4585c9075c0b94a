"""The options of every command, frozen: scripts hold on to them, so a change here needs a changelog entry."""

import re

import pytest

from potstill.cli.commands import COMMANDS, command_class
from potstill.cli.main import main
from potstill.cli.options import option_fields

COMMON = {"--json", "--quiet", "--debug", "--limit"}
READING = {
    "--missing",
    "--remove-columns",
    "--kind",
    "--representation",
    "--targets",
    "--series",
    "--horizontal-flip",
    "--duplicates",
    "--group",
    "--attribute",
    "--check-cache",
    "--data-root",
    "--label",
    "--task",
    "--size",
    "--skip-bad",
    "--stream",
    "--split-seed",
    "--test-fraction",
    "--text",
}
MAKING = (
    COMMON
    | READING
    | {"DATA", "--method", "--ipc", "--items", "--bytes", "--recipe", "--preset", "--steps", "--time-limit", "--seed"}
    | {
        "--planned-bytes",
        "--balance",
        "--network",
        "--parametrization",
        "--labels",
        "--augment",
        "--initial",
        "--generator",
        "--count-decoder",
        "--zca",
        "--real-weights",
        "--regularizer",
        "--codec",
        "--device",
        "--executor",
        "--address",
    }
)
OPTIONS = {
    "distill": {"--force"}
    | MAKING
    | {"--out", "--resume", "--checkpoint-every", "--scores", "--experts", "--log", "--snapshots"}
    | {"--class-shards", "--private"},
    "plan": MAKING | {"--profile-steps", "--details", "--cluster", "--students", "--experts", "--baselines"},
    "evaluate": {"--force"}
    | COMMON
    | READING
    | {"FILE", "--data", "--protocol", "--network", "--seeds", "--seed", "--no-baselines", "--no-full", "--baselines"}
    | {"--decoder"}
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
        "--preset",
        "--seeds",
        "--seed",
        "--protocol",
        "--network",
        "--device",
        "--executor",
        "--address",
    }
    | {"--set", "--grid", "--repeats", "--bytes", "--parametrizations", "--codecs", "--protocols", "--snapshots"}
    | {"--baselines"},
    "scaling": COMMON
    | READING
    | {
        "DATA",
        "--out",
        "--ipc",
        "--teacher-epochs",
        "--repeats",
        "--steps",
        "--batch",
        "--lr",
        "--validation",
        "--network",
    }
    | {"--seed", "--device", "--executor", "--address"},
    "use search": COMMON
    | READING
    | {
        "DATA",
        "--out",
        "--networks",
        "--candidates",
        "--widths",
        "--depths",
        "--lr",
        "--weight-decay",
        "--augment",
        "--proxy",
        "--ipc",
        "--soft-labels",
        "--distill-steps",
        "--share",
        "--updates",
        "--batch",
        "--validation",
        "--truth",
        "--train-all",
        "--train-best",
        "--full-updates",
    }
    | {"--seed", "--device", "--executor", "--address"},
    "use deletion": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--delete",
        "--delete-names",
        "--add",
        "--make",
        "--verify",
        "--membership",
        "--warm-steps",
        "--ipc",
        "--parts",
        "--codec",
        "--preset",
        "--parametrization",
        "--network",
        "--steps",
        "--seed",
        "--device",
        "--executor",
        "--address",
        "--force",
    },
    "use augmentation": COMMON
    | READING
    | {
        "DATA",
        "--augment",
        "--out",
        "--validation",
        "--seeds",
        "--network",
        "--updates",
        "--batch",
        "--lr",
        "--pull",
        "--temperature",
    }
    | {"--seed", "--device", "--executor", "--address"},
    "audit": COMMON | READING | {"FILE", "--data", "--out", "--parts", "--key", "--seed", "--device", "--force"},
    "audit privacy": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--fpr",
        "--students",
        "--updates",
        "--shadows",
        "--canaries",
        "--seed",
        "--device",
        "--force",
    },
    "audit fairness": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--students",
        "--steps",
        "--full-steps",
        "--lr",
        "--least",
        "--network",
        "--seed",
        "--device",
        "--force",
    },
    "audit screening": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--positive",
        "--specificity",
        "--out",
        "--students",
        "--steps",
        "--full-steps",
        "--lr",
        "--network",
        "--seed",
        "--device",
        "--force",
    },
    "audit robustness": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--eps",
        "--eps-l2",
        "--adversary",
        "--attack-steps",
        "--queries",
        "--autoattack",
        "--ood",
        "--samples",
        "--students",
        "--steps",
        "--full-steps",
        "--lr",
        "--network",
        "--seed",
        "--device",
        "--force",
    },
    "audit poisoning": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--samples",
        "--students",
        "--steps",
        "--trusted-steps",
        "--inversion-steps",
        "--lr",
        "--network",
        "--seed",
        "--device",
        "--force",
    },
    "audit provenance": COMMON
    | READING
    | {
        "FILE",
        "--key",
        "--data",
        "--model",
        "--network",
        "--keys",
        "--students",
        "--steps",
        "--queries",
        "--out",
        "--seed",
        "--device",
        "--force",
    },
    "mark": COMMON | {"FILE", "--key", "--out", "--strength", "--force"},
    "use control": COMMON
    | {
        "ENVIRONMENT",
        "--out",
        "--items",
        "--set",
        "--log",
        "--best",
        "--policies",
        "--generations",
        "--sets",
        "--students",
        "--episodes",
        "--population",
        "--sigma",
        "--updates",
        "--seed",
    },
    "use instructions": COMMON
    | {
        "POOL",
        "--target",
        "--out",
        "--items",
        "--bytes",
        "--test",
        "--base",
        "--way",
        "--prompt",
        "--response",
        "--group",
        "--students",
        "--words",
        "--length",
        "--width",
        "--layers",
        "--base-updates",
        "--warm-up",
        "--updates",
        "--seed",
    },
    "use transfer": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--target",
        "--out",
        "--labels",
        "--seeds",
        "--network",
        "--steps",
        "--tuning-steps",
        "--batch",
        "--lr",
        "--tuning-lr",
        "--weight-decay",
        "--augment",
        "--test-samples",
        "--seed",
        "--device",
        "--executor",
        "--address",
    },
    "use edge": COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--out",
        "--to",
        "--head",
        "--bits",
        "--updates",
        "--batch",
        "--lr",
        "--seeds",
        "--seed",
        "--quick",
    },
    "use continual": COMMON
    | READING
    | {
        "DATA",
        "--out",
        "--memories",
        "--methods",
        "--bytes",
        "--scenario",
        "--classes-per-step",
        "--step-classes",
        "--steps",
        "--orders",
        "--parametrization",
        "--codec",
        "--preset",
        "--distill-steps",
        "--network",
        "--updates",
        "--batch",
        "--lr",
    }
    | {"--seed", "--device", "--executor", "--address"},
    "use federated": COMMON
    | READING
    | {
        "DATA",
        "--out",
        "--ways",
        "--partition",
        "--alpha",
        "--clients",
        "--splits",
        "--bytes",
        "--networks",
        "--drop",
        "--parametrization",
        "--codec",
        "--preset",
        "--distill-steps",
        "--updates",
        "--batch",
        "--lr",
    }
    | {"--seed", "--device", "--executor", "--address"},
    "diagnose": {"--force"}
    | COMMON
    | READING
    | {
        "FILE",
        "--data",
        "--parts",
        "--plan",
        "--split",
        "--students",
        "--steps",
        "--lr",
        "--descriptions",
        "--real",
        "--teacher-steps",
        "--groups",
    }
    | {"--network", "--seed", "--out", "--device", "--executor", "--address"},
    "active-learning": {"--force"}
    | COMMON
    | READING
    | {"DATA", "--acquire", "--rounds", "--per-round", "--start", "--candidates", "--fraction", "--network", "--steps"}
    | {"--batch", "--lr", "--seeds", "--seed", "--out", "--plot", "--device"},
    "select-detection": {"--force"} | COMMON | {"ANNOTATIONS", "--n", "--out", "--images", "--redundancy", "--crop"},
    "report": {"--force"} | COMMON | READING | {"PATHS", "--out", "--data"},
    "serve": COMMON | READING | {"FOLDER", "--port", "--data"},
    "inspect": COMMON | {"FILE"},
    "verify": COMMON | {"PATHS", "--key"},
    "sign": COMMON | {"PATHS", "--key", "--new-key", "--force"},
    "demo": {"--force"} | COMMON | {"--data", "--out", "--device"},
    "cache": COMMON | {"WHAT", "--kind", "--unused", "--at-most", "--damaged"},
    "export": {"--force"} | COMMON | READING | {"FILE", "--to", "--out", "--data", "--link", "--license", "--bits"},
    "import": {"--force"}
    | COMMON
    | READING
    | {"PATH", "--out", "--format", "--known", "--data", "--mean", "--std", "--zca", "--factor", "--run", "--lr"}
    | {"--method"},
    "resample": {"--force"} | COMMON | {"FILE", "--ipc", "--out", "--seed"},
    "materialize": {"--force"} | COMMON | READING | {"FILE", "--data", "--out"},
    "methods": COMMON | {"NAMES"},
    "protocols": COMMON,
    "networks": COMMON,
    "data": COMMON,
    "parametrizations": COMMON,
    "augmentations": COMMON,
    "codecs": COMMON,
    "kinds": COMMON,
    "tasks": COMMON,
    "completion": COMMON | {"SHELL"},
}


def test_the_commands_are_these():
    assert set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_a_command_are_these(name):
    fields = option_fields(command_class(name))
    assert {field.name.upper() if field.is_positional else field.flag for field in fields} == OPTIONS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_help_names_every_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    shown = capsys.readouterr()
    assert stop.value.code == 0
    assert shown.err == ""
    assert all(option in shown.out for option in OPTIONS[name] if option.startswith("--"))


@pytest.mark.parametrize(("method", "option"), [("dm", "--batch-real"), ("dsa", "--init"), ("herding", "--features")])
def test_help_with_a_method_lists_its_own_options_with_what_they_mean(method, option, capsys):
    from potstill.api.listing import list_methods

    row = next(row for row in list_methods() if row["name"] == method)
    names = {o["name"].removesuffix("_from").replace("_", "-"): o["help"] for o in row["options"]}
    doc = names[option.removeprefix("--")]
    with pytest.raises(SystemExit) as stop:
        main(["distill", "--method", method, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert option in shown
    assert doc.split()[0] in shown


@pytest.mark.parametrize("name", ["dm", "mtt", "datm", "sre2l", "herding"])
def test_options_of_a_listing_are_options_of_distill(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 0
    text = capsys.readouterr().out
    assert "None" not in text
    listed = set(re.findall(r"^  (--[\w-]+)", text, re.M)) - {"--preset"}
    with pytest.raises(SystemExit):
        main(["distill", "--method", name, "--help"])
    assert listed <= set(re.findall(r"--[\w-]+", capsys.readouterr().out))
