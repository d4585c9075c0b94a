"""Networks of the user's own: what is taken, what is refused in one line, and what is done with them."""

import functools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import own_nets
import pytest
import torch
import torch.nn.functional as F
from own_nets import Dropping, Embedding, Normed, Plain, Rows
from torch import Tensor, nn

import potstill
from potstill._util.import_from_file import FileReference
from potstill.core import InputSpec, Splits
from potstill.data import holdout
from potstill.errors import PotstillError
from potstill.execution import Processes, Serial, choose_executor
from potstill.nn import factory, is_stackable, parse_network
from potstill.testing import check_network, toy_source
from tests.build_set import build_set

GREY = InputSpec(kind="image", shape=(1, 8, 8))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def make(network: Any, spec: InputSpec = GREY) -> Any:
    return factory(parse_network(network), spec, 4)


@pytest.fixture
def pictures() -> Splits:
    train, test = holdout(toy_source("image", per_class=30), 0.4, 3)
    return Splits(train=train, test=test)


@pytest.mark.parametrize(
    "network", [Plain, Rows, Normed, Dropping, Embedding, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4))]
)
def test_a_plain_network_keeps_the_contract(network: Any) -> None:
    check_network(make(network), GREY.shape, 4)


def test_what_it_is_called_with_is_what_it_takes() -> None:
    assert make(Plain)(0)(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    wide = make(Plain, InputSpec(kind="image", shape=(3, 5, 9)))
    assert wide(0).net.conv.in_channels == 3
    assert make(functools.partial(Plain, shape=(1, 8, 8)))(0).net.fc.out_features == 4
    row = make(Rows, InputSpec(kind="table", shape=(6,)))(3)
    assert row.net.first.in_features == 6
    check_network(make(Rows, InputSpec(kind="table", shape=(6,))), (6,), 4)


def test_features_are_the_input_of_the_linear_layer_that_runs_last_or_what_embed_says() -> None:
    x = torch.randn(3, 1, 8, 8)
    plain, rows, own = (make(n)(1).eval() for n in (Plain, Rows, Embedding))
    torch.testing.assert_close(plain.embed(x), F.relu(plain.net.conv(x)).mean((2, 3)))
    torch.testing.assert_close(rows.embed(x), torch.tanh(rows.net.first(x.flatten(1))))
    assert rows.classifier is rows.net.last
    torch.testing.assert_close(own.embed(x), own.net.embed(x).flatten(1))
    assert own.embed(x).shape == (3, 6)


def test_the_seed_decides_its_weights_and_its_dropout_and_nothing_else_does() -> None:
    before, x = torch.get_rng_state(), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    a, b = make(Dropping)(5), make(Dropping)(5)
    first, second = a(x), b(x)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, second)
    assert not torch.equal(a(x.flip(0) * 2), first)
    with torch.no_grad():
        next(reversed(list(a.parameters()))).add_(1)
    assert float((a(x) - 1 - first).detach().abs().max()) > 1e-3  # another step, other units are dropped
    assert torch.equal(a.eval()(x), a.eval()(x))


def test_the_name_says_which_network_it_is() -> None:
    def narrow(width: int) -> Any:
        return lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 4))

    class Other(Plain):
        def forward(self, x: Tensor) -> Tensor:  # the same parameters
            return self.fc(torch.tanh(self.conv(x)).mean((2, 3)))

    names = [make(n).name for n in (Plain, Other, Normed, narrow(3), narrow(5))]
    assert names[0].startswith("own_nets:Plain@")
    assert len({n.rpartition("@")[2] for n in names}) == 5
    assert make(Plain).name == names[0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x.flatten(1))


class Loud(nn.Sequential):
    def __init__(self, *more: nn.Module, start: float | None = None) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 4), *more)
        if start is not None:
            with torch.no_grad():
                self[1].weight.fill_(start)


class Unseeded(Loud):
    count = 0

    def __init__(self) -> None:
        Unseeded.count += 1
        super().__init__(start=Unseeded.count / 7)


class Frozen(Loud):
    def __init__(self) -> None:
        super().__init__()
        self[1].bias.requires_grad_(False)


class Unused(Loud):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(2))


class Writing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.sub_(0.5).flatten(1))


class Couple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc(x.flatten(1)), x


def needs(width: int) -> nn.Module:
    return nn.Linear(64, width)


KEPT = Loud()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (KEPT, "class or function that makes it again for every student"),
        (3, "class or function that makes it again for every student"),
        (lambda: 3, "must make a torch.nn.Module, but it made a int"),
        (lambda: KEPT, "made again at every call"),
        (needs, r"needs width to be made.*lambda: needs\(width=…\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "must give 4 logits for each input.*gives 10"),
        (lambda: nn.Linear(63, 4), "cannot take inputs of shape 1×8×8"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softmax(1)), "drop the softmax"),
        (lambda: nn.Linear(0 // 0, 4), "cannot be made"),
        (nn.Flatten, "has no parameters"),
        (Twice, r"one parameter under two names, a.weight and b.weight"),
        (Unseeded, "starts otherwise each time from the same seed"),
        (Frozen, "not trained, as 1.bias"),
        (Unused, "parameter spare has no part in the logits"),
        (Writing, "writes into its inputs"),
        (Couple, "must give one tensor of logits, but it gives a tuple"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(network: Any, sentence: str) -> None:
    with pytest.raises(PotstillError, match=sentence) as refused:
        make(network)
    assert "\n" not in str(refused.value)


def test_without_a_linear_layer_there_is_an_accuracy_but_no_features() -> None:
    net = make(lambda: nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()))(0)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    for act in (lambda: net.embed(torch.zeros(2, 1, 8, 8)), lambda: net.classifier):
        with pytest.raises(PotstillError, match=r"nn\.Linear"):
            act()


def test_side_by_side_where_that_gives_what_each_gives_alone() -> None:
    assert is_stackable(make(Plain))
    assert is_stackable(make(Normed))
    assert not is_stackable(make(Dropping))  # every student has its own draws


# --- what is done with them -------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "iterations": 2, "batch_real": 6, "pretrained_networks": 1, "num_teachers": 1, "pretrain_epochs": 1,
    "teacher_epochs": 1, "num_experts": 1, "train_epochs": 1,
    "record_epochs": 2, "runs": 1,
    "samples": 4, "crops": 2, "outer": 1, "inner": 1, "epoch": 1, "teacher_steps": 2, "pretrain_batch": 16,
    "teacher_batch": 16, "batch": 6,
}  # fmt: skip


def distil(pictures: Splits, method: str, network: Any) -> Any:
    from dataclasses import fields

    from potstill.core.registry import resolve

    own = {f.name for f in fields(resolve("methods", method))}
    options = {n: v for n, v in SMALL.items() if n in own}
    return potstill.distill(pictures, method, ipc=2, steps=2, network=network, **options)


@pytest.mark.parametrize(
    "method", ["random", "herding", "grad-match", "el2n", "dc", "dsa", "dm", "ncfm", "sre2l", "rded"]
)
def test_every_family_of_methods_takes_them(pictures: Splits, method: str) -> None:
    small = distil(pictures, method, Normed)
    assert small.metadata["network"].startswith("own_nets:Normed@")
    assert torch.isfinite(small.inputs).all()
    assert torch.equal(small.inputs, distil(pictures, method, Normed).inputs)


@pytest.mark.parametrize(("method", "network"), [("dsa", Dropping), ("dm", Dropping), ("dm", Embedding)])
def test_dropout_and_own_features_are_distilled_with(pictures: Splits, method: str, network: Any) -> None:
    before = torch.get_rng_state()
    small = distil(pictures, method, network)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(small.inputs, distil(pictures, method, network).inputs)


def test_methods_say_what_a_network_lacks(pictures: Splits) -> None:
    with pytest.raises(PotstillError, match=r"BatchNorm layers, but network own_nets:Plain@.* has none"):
        distil(pictures, "sre2l", Plain)
    with pytest.raises(PotstillError, match="has no method activations"):
        distil(pictures, "cafe", Plain)
    with pytest.raises(PotstillError, match=r"logits must be an nn\.Linear of the features"):
        distil(pictures, "grad-match", Embedding)


def test_a_set_is_measured_on_them_and_the_scorecard_says_which(pictures: Splits) -> None:
    small = distil(pictures, "random", Plain)
    settings: dict[str, Any] = {"protocol": "dc", "epochs": 3, "seeds": 2, "full": False, "robust_scores": False}
    score = potstill.evaluate(small, pictures, networks=[Plain, "convnet-d1-w4", Dropping], **settings)
    names = list(score.content["networks"])
    assert [n.partition("@")[0] for n in names] == ["own_nets:Plain", "convnet-d1-w4-instance-avg", "own_nets:Dropping"]
    again = potstill.evaluate(small, pictures, networks=[Plain, "convnet-d1-w4", Dropping], **settings)
    assert again.content["networks"] == score.content["networks"]
    beside = potstill.evaluate(small, pictures, networks=Plain, side_by_side=2, baselines=False, **settings)
    assert beside.content["cost"]["side_by_side"] == 2


def test_what_suits_pictures_only_gives_way_on_a_table_and_that_is_said_unless_it_was_asked_for() -> None:
    table = Splits(train=toy_source("table"), test=None)
    small = potstill.distill(table, "dm", ipc=1, steps=1)
    assert small.metadata["network"] == "mlp-w128"
    assert "network mlp: convnet, which dm has by default, takes pictures" in str(small.notes)
    with pytest.raises(PotstillError, match="network convnet takes pictures"):
        potstill.distill(table, "dm", ipc=1, steps=1, network="convnet")
    own = potstill.distill(table, "dm", ipc=1, steps=1, network=Rows)
    assert own.metadata["network"].startswith("own_nets:Rows@")
    assert own.notes == ()


def test_a_set_made_with_a_network_of_ones_own_asks_which_to_train(pictures: Splits) -> None:
    small = distil(pictures, "random", Plain)
    with pytest.raises(PotstillError, match=r"its maker's own, own_nets:Plain@\w+; say which network"):
        potstill.evaluate(small, pictures, protocol="dc", epochs=1, seeds=1)


# --- file.py:Net ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(
        Path(own_nets.__file__).read_text() + "\nwith open(__file__ + '.ran', 'a') as ran:\n    ran.write('x')\n"
    )
    return path


def test_a_file_is_run_once_and_its_class_is_a_network(file: Path, pictures: Splits) -> None:
    made = make(f"{file}:Plain")
    assert made.name.partition("@")[0] == "net:Plain"
    check_network(made, GREY.shape, 4)
    small = distil(pictures, "dm", f"{file}:Plain")
    assert str(file.parent) not in json.dumps(dict(small.metadata))
    assert (file.parent / "net.py.ran").read_text() == "x"


def test_other_processes_run_the_file_or_import_the_module_and_what_they_cannot_have_stays_here(file: Path) -> None:
    here, there = make(f"{file}:Plain"), make(Plain)
    with Processes(2) as pool:
        for one in (here, there):
            found = list(pool.map(_first, [(one, 3), (one, 4)]))
            assert torch.equal(found[0], _first((one, 3)))
    local = make(lambda: Plain((1, 8, 8), 4))
    assert isinstance(choose_executor(8, "cpu", local), Serial)
    assert pickle.loads(pickle.dumps(here)) == here
    file.write_text(file.read_text() + "\n# another\n")
    with pytest.raises(PotstillError, match="changed after the run began"):
        FileReference(here.definition.source.path, "Plain", "0" * 64).load()


def _first(job: tuple[Any, int]) -> Tensor:
    return next(job[0](job[1]).parameters()).detach()


@pytest.mark.parametrize(
    ("spelled", "text", "sentence"),
    [
        ("none.py:Net", None, "none.py: a file of Python is needed, but it cannot be read"),
        ("net.py", "", "say which class or function of the file to use: FILE.py:NAME"),
        ("net.py:Nett", "class Net: pass", "unknown class or function 'Nett'; did you mean Net?"),
        ("net.py:Net", "x = 1\ny = nothing\n", "net.py:2: NameError: name 'nothing' is not defined"),
        ("net.py:Net", "def f(:\n", "net.py:1: SyntaxError"),
        (
            "net.py:Net",
            "import torch\nNet = torch.nn.Linear(2, 2)\n",
            "class or function that makes it again for every student",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str, text: str | None, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("net.py").write_text(text)
    with pytest.raises(PotstillError, match=sentence) as refused:
        parse_network(spelled)
    assert "\n" not in str(refused.value)


def test_what_a_card_names_is_never_run(file: Path, pictures: Splits, tmp_path: Path) -> None:
    small = distil(pictures, "random", Plain)
    for name in (f"{file}:Plain", "json:loads", "own_nets:Plain"):
        card = json.loads(json.dumps(dict(small.metadata)))
        forged = build_set(
            small.inputs, small.labels, payload={}, index=small.index, method=f"{file}:Plain", config=card["config"],
            seed=0, ipc=2, classes=small.classes, input=small.input, normalization=small.normalization,
            training=card["training"], source=card["source"], outcome=card["outcome"], cost=card["cost"],
            extra={"network": name, "history": [], "command": None},
        )  # fmt: skip
        forged.save(tmp_path / "forged.safetensors", force=True)
        potstill.inspect(tmp_path / "forged.safetensors")
        with pytest.raises(PotstillError, match="its maker's own"):
            potstill.evaluate(tmp_path / "forged.safetensors", pictures, protocol="dc", epochs=1, seeds=1)
    assert not (file.parent / "net.py.ran").exists()
    with pytest.raises(PotstillError, match="unknown network"):
        factory(f"{file}:Plain", GREY, 4)


def test_an_installed_package_adds_networks(tmp_path: Path) -> None:
    about = tmp_path / "nets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[potstill.networks]\nplain = own_nets:Plain\n")
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from potstill.core import InputSpec\n"
        "from potstill.nn import catalogue, factory\n"
        "print(factory('plain', InputSpec(kind='image', shape=(1, 8, 8)), 4).name.partition('@')[0],"
        " [e.paper for e in catalogue() if e.name == 'plain'])"
    )
    import os

    environment = {n: v for n, v in os.environ.items() if n != "POTSTILL_OUTSIDE"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(Path(own_nets.__file__).parent)], env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "own_nets:Plain ['own_nets']", done.stderr
