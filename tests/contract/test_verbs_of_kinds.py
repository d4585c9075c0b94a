"""Every verb of the command line works on every kind of input, from a file as people have it.

The cheap verbs are run for every file; of the others a few pairs are run each time, in which is every verb and every
file of small networks, and the rest is slow.
"""

import json
import os
import re
import signal
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core import registry
from potstill.core.nested import named_tensors
from potstill.dataset_file import Distilled
from potstill.kinds import get_kind
from potstill.tasks import get_task
from tests.covering import covering
from tests.files_of_kinds import CASES

NO_FILES = {"waves", "texts"}
"""Kinds that no reader of this package makes: of other packages, and of imported texts alone."""
SECOND = {
    "pictures": "linear-model",
    "rows with classes": "neighbours",
    "rows with a value": "forest",
    "rows with two values": "forest",
    "rows of survival": "cox",
    "a series": "dlinear",
    "series with classes": "minirocket",
    "sequences": "minirocket",
    "texts": "linear-model",
    "nodes": "gcn:hidden=8,steps=20",
    "graphs": "graph-forest",
    "users": "item-ridge",
    "sounds": "linear-model",
    "pairs": "towers-w8",
}
"""A learner of another family than the kind's network."""
TABLES = {"parquet", "npz", "hf", "webdataset"}
MADE_FORMS = {
    "pictures": {"png", "c-header", "npz-integers"},
    "rows with classes": {"csv", "c-header", "npz-integers"},
    "rows with a value": {"csv"},
    "rows with two values": {"csv"},
    "rows of survival": {"csv"},
    "a series": set[str](),
    "series with classes": {"csv", "c-header", "npz-integers"},
    "sequences": {"csv", "c-header", "npz-integers"},
    "texts": {"c-header", "npz-integers"},
    "nodes": {"graphslim", "c-header", "npz-integers"},
    "graphs": {"c-header", "npz-integers"},
    "users": {"csv"},
    "sounds": {"png", "wav", "c-header", "npz-integers"},
    "pairs": {"png"},
}
"""Forms of an export of made items, beside `TABLES`, that any set has."""
ORIGINALS = {"pictures": {"files", "hf"}, "sounds": {"files"}} | {
    name: {"hf"} for name, case in CASES.items() if case.kind in ("table", "text")
}
"""Forms that take the chosen samples out of the data."""
ENDINGS = {"npz-integers": ".npz", "c-header": ".h", "npz": ".npz", "parquet": ".parquet", "csv": ".csv",
           "jsonl": ".jsonl"}  # fmt: skip


class Made(NamedTuple):
    """A file of a kind, and two sets of it: chosen samples, and made ones."""

    name: str
    folder: Path
    data: str
    options: tuple[str, ...]
    chosen: Distilled
    made: Distilled

    @property
    def size(self) -> tuple[str, str]:
        return ("--ipc", "2") if self.made.classes else ("--items", "6")

    def run(self, verb: str, *words: str, reads: bool = True) -> int:
        return main([verb, *([self.data, *self.options] if reads else ()), *words, "--quiet"])


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The sets that were made before, by the name of the file."""
    return {}


@pytest.fixture
def of(
    request: pytest.FixtureRequest, sets: dict[str, Made], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Made:  # fmt: skip
    """Both sets of a file, made by the command line once."""
    name: str = request.param
    if name not in sets:
        folder = tmp_path_factory.mktemp("kind")
        case = CASES[name]
        data = str(case.write(folder))
        splits = potstill.load_data(data, **case.keywords)
        size = ["--ipc", "2"] if splits.train.classes else ["--items", "6"]
        words = [data, *case.options, *size, "--quiet"]
        chosen, made = str(folder / "chosen.safetensors"), str(folder / "made.safetensors")
        assert main(["distill", *words, "--method", "random", "--out", chosen]) == 0
        assert main(["distill", *words, *MAKE, "--steps", "4", "--out", made]) == 0
        sets[name] = Made(name, folder, data, case.options, potstill.load(chosen), potstill.load(made))
    monkeypatch.chdir(sets[name].folder)
    return sets[name]


SHORT = ["--steps", "10", "--least-epochs", "1", "--lr", "0.03"]
NO_CLOCK = ["--candidates", "random", "dm@2", "--students", "1", "--confirm", "2", "--student-steps", "10"]
MAKE = ["--method", "dm", "--codec", "uint8"]
every_file = pytest.mark.parametrize("of", CASES, indirect=True)


def test_every_kind_has_a_file() -> None:
    assert {case.kind for case in CASES.values()} == set(registry.names("kinds", outside=False)) - NO_FILES
    assert set(MADE_FORMS) == set(CASES)


@every_file
def test_sets_are_of_the_kind_and_come_back_in_python(of: Made) -> None:
    case = CASES[of.name]
    splits = potstill.load_data(of.data, **case.keywords)
    assert splits.train.input.kind == case.kind
    for small in (of.chosen, of.made):
        assert small.input.kind == case.kind
        assert small.metadata["task"]["name"] == get_task(splits.train).name
        again = potstill.load(small.save(of.folder / "again.safetensors", force=True))
        assert same_bits(again, small)
        assert [found.problem for found in potstill.verify(of.folder / "again.safetensors")] == [""]
    taken = splits.train.raw(torch.as_tensor(of.chosen.index))
    for name, tensor in named_tensors(of.chosen.inputs).items():
        torch.testing.assert_close(tensor, named_tensors(taken)[name])


@every_file
def test_a_plan_is_made_and_names_the_items(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert of.run("plan", *of.size, *MAKE, "--profile-steps", "0", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["inputs"] == len(of.made)
    assert plan["bytes"]["total"] >= of.made.metadata["bytes"]["total"]
    assert of.run("plan", *of.size, *MAKE, "--profile-steps", "0") == 0
    assert f"{len(of.made)} {get_kind(CASES[of.name].kind).noun}" in capsys.readouterr().out


@every_file
@pytest.mark.parametrize("method", ["random", "dm"])
def test_a_budget_in_bytes_is_kept(of: Made, method: str) -> None:
    packed = sum(tensor.numel() for tensor in named_tensors(of.made.inputs).values()) + of.made.labels.numel() * 4
    budget = charged(of.chosen) + 8 if method == "random" else packed + 60
    words = ["--method", method, "--bytes", str(budget), *(["--codec", "uint8"] if method == "dm" else [])]
    assert of.run("distill", *words, "--preset", "quick", "--steps", "2", "--out", f"{method}-bytes.safetensors") == 0
    assert 0 < charged(potstill.load(of.folder / f"{method}-bytes.safetensors")) <= budget


@every_file
def test_an_interrupted_run_ends_in_the_same_bits(of: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from potstill.runs import loop

    finish = loop.Progress

    def stop(**given: Any) -> Any:
        if given["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return finish(**given)

    words = [*of.size, *MAKE, "--steps", "4", "--out", "resumed.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Progress", stop)
        assert of.run("distill", *words) == 130
    assert not (of.folder / "resumed.safetensors").exists()
    assert of.run("distill", *words, "--resume") == 0
    assert same_bits(potstill.load(of.folder / "resumed.safetensors"), of.made)


@every_file
def test_a_selection_comes_back_from_its_indices(of: Made) -> None:
    assert of.run("export", "chosen.safetensors", "--to", "indices", "--out", "i.safetensors", reads=False) == 0
    for words in ((), of.options):  # as the set was made, and as said again
        out = f"back{len(words)}.safetensors"
        assert main(["materialize", "i.safetensors", "--data", of.data, *words, "--out", out, "--quiet"]) == 0
        assert same_bits(potstill.load(of.folder / out), of.chosen)


@every_file
def test_exports_are_written_or_refused_in_one_line(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("png", "npz", "parquet", "csv", "jsonl", "webdataset", "wav", "graphslim", "hf", "c-header",
                 "npz-integers"):  # fmt: skip
        out = f"made-{form}{ENDINGS.get(form, '')}"
        status = of.run("export", "made.safetensors", "--to", form, "--out", out, reads=False)
        check(status == 0, form in TABLES | MADE_FORMS[of.name], Path(out), capsys)
    for form in ("files", "hf"):
        out = f"chosen-{form}"
        status = main(["export", "chosen.safetensors", "--to", form, "--data", of.data, "--out", out, "--quiet"])
        check(status == 0, form in ORIGINALS.get(of.name, set()), Path(out), capsys)


def check(worked: bool, expected: bool, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = capsys.readouterr().err
    assert worked is expected, (out, said)
    assert out.exists() is expected
    if not expected:
        assert said.startswith("potstill: error: ")
        assert said.count("\n") == 1
        assert "stream" not in said


@every_file
def test_inspect_and_the_page_show_the_items(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    noun = get_kind(CASES[of.name].kind).noun
    for file in ("chosen", "made"):
        assert main(["inspect", f"{file}.safetensors"]) == 0
        assert f"{len(of.made)} inputs" in capsys.readouterr().out
        assert of.run("report", f"{file}.safetensors", "--out", f"{file}.html", reads=False) == 0
        page = (of.folder / f"{file}.html").read_text(encoding="utf-8")
        assert noun in page
        for pattern in SHOWN.get(of.name, ()):
            assert re.search(pattern, page), pattern


SHOWN = {
    "rows with classes": (r"<bdi>202[0-2]-\d\d-\d\d</bdi></td>", r"<bdi>(round|square|long)</bdi></td>"),
    "rows of survival": (r"days \(target\)", r"died \(target\)", r"<bdi>(north|south)</bdi></td>"),
    "rows with two values": (r"price \(target\)", r"rent \(target\)", r"<bdi>(round|square|long)</bdi></td>"),
    "sequences": (r"<code>[ACGTacgtn]{20}</code>",),
    "a series": (r"window 1: load −?[\d.]+ to [\d.]+, price [\d.]+ to [\d.]+", r"<bdi>load</bdi>"),
    "series with classes": (r"wave: channel 1 −[\d.]+ to",),
    "users": (r"Thing &lt;\d+&gt;",),
    "graphs": (r"6 of 6 graphs, by class",),
    "pairs": (r"6 of 6 pairs",),
    "sounds": (r"<audio",),
}
"""Patterns on the page of a set: items as a person would look at them."""


def evaluate_with_two_learners(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    first = "ntk-autoencoder" if of.name == "users" else of.made.metadata["network"]
    networks = ["--network", first, SECOND[of.name]]
    words = ["made.safetensors", "--data", of.data, "--quick", "--seeds", "2", *networks, *SHORT, "--json"]
    assert of.run("evaluate", *words, reads=False) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["baselines"]["random"]["bytes"] <= card["bytes"]["total"]
    assert len(card["networks"]) == 2


def compare_two_methods(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *of.size,
        "--methods",
        "random,dm",
        "--set",
        "dm.iterations=2",
        "--codecs",
        "uint8",
        "--seeds",
        "2",
        *SHORT,
    ]
    assert of.run("compare", *words, "--out", "compared", "--json") == 0
    board = json.loads(capsys.readouterr().out)
    assert [row["error"] for row in board["rows"] if row.get("error")] == []
    assert of.run("report", "compared", "--out", "compared.html", reads=False) == 0
    assert "Leaderboard" in (of.folder / "compared.html").read_text(encoding="utf-8")


def choose_automatically(of: Made, capsys: pytest.CaptureFixture[str]) -> None:
    budget = str(charged(of.chosen) * 5 // 4)
    words = ["--method", "auto", "--bytes", budget, *NO_CLOCK, "--out", "auto.safetensors"]
    assert of.run("distill", *words) == 0
    small = potstill.load(of.folder / "auto.safetensors")
    assert small.choice is not None
    assert charged(small) <= int(budget)
    assert of.run("report", "auto.safetensors", "--out", "auto.html", reads=False) == 0
    if small.choice["answer"] == "real" and small.choice["difference"] is not None:
        words = ["--quick", "--seeds", "2", "--no-baselines", *SHORT]
        assert of.run("evaluate", "auto.safetensors", "--data", of.data, *words, reads=False) == 0
        assert "no way to distil" not in capsys.readouterr().out


VERBS = {
    "evaluate": evaluate_with_two_learners, "compare": compare_two_methods, "auto": choose_automatically,
}  # fmt: skip


SLOW = ("pictures", "graphs", "sounds", "pairs")
"""Files whose networks take seconds for a few steps."""
PAIRS = [
    *covering(product([name for name in CASES if name not in SLOW], VERBS)),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in product(SLOW, VERBS)),
]


@pytest.mark.parametrize(("of", "verb"), PAIRS, indirect=["of"])
def test_every_verb_works_on_every_kind(of: Made, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    VERBS[verb](of, capsys)


def charged(small: Distilled) -> int:
    """Return the bytes of a set that a budget counts."""
    sizes = small.metadata["bytes"]
    return int(sizes["total"] - sizes.get("encoder", 0))


def same_bits(a: Distilled, b: Distilled) -> bool:
    pairs = zip(named_tensors(a.inputs).items(), named_tensors(b.inputs).items(), strict=True)
    return torch.equal(a.labels, b.labels) and all(n == m and torch.equal(x, y) for (n, x), (m, y) in pairs)
