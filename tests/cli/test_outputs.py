"""What a command writes is never what it reads, and nobody else's unless that is said."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from covering import covering
from PIL import Image

import potstill
from potstill._util.outputs import check_not_input
from potstill.cli.commands import COMMANDS, command_class, find_command
from potstill.cli.main import main
from potstill.errors import PotstillError

FOLDERS = (
    "compare",
    "scaling",
    "use search",
    "use continual",
    "use federated",
    "use edge",
    "use augmentation",
    "use transfer",
    "use control",
    "use instructions",
)
"""Commands that write a folder."""
CASES: dict[str, tuple[list[str], list[str]]] = {
    # name: words without --out, and what it reads, with the suffix that a file of the output would have
    "distill": (["distill", "d.csv", "--method", "random", "--ipc", "1"], ["d.csv"]),
    "distill scores": (["distill", "d.csv", "--method", "el2n", "--ipc", "1", "--scores", "s.parquet"], ["s.parquet"]),
    "distill recipe": (["distill", "d.csv", "--ipc", "1", "--recipe", "r.yaml"], ["r.yaml"]),
    "distill experts": (
        ["distill", "d.csv", "--method", "mtt", "--ipc", "1", "--experts", "x.safetensors"], ["x.safetensors"],
    ),
    "evaluate": (["evaluate", "s.safetensors", "--data", "d.csv", "--quick"], ["s.safetensors", "d.csv"]),
    "label": (["label", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "score": (["score", "d.parquet", "--methods", "el2n"], ["d.parquet"]),
    "diagnose": (["diagnose", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "active-learning": (["active-learning", "d.csv"], ["d.csv"]),
    "select-detection": (["select-detection", "boxes.json", "--n", "1"], ["boxes.json"]),
    "report": (["report", "s.safetensors"], ["s.safetensors"]),
    "export": (["export", "s.safetensors", "--to", "indices"], ["s.safetensors"]),
    "resample": (["resample", "s.safetensors", "--ipc", "2"], ["s.safetensors"]),
    "materialize": (["materialize", "i.safetensors", "--data", "d.csv"], ["i.safetensors", "d.csv"]),
    "import": (["import", "res.pt"], ["res.pt"]),
    "compare": (["compare", "d.csv", "--methods", "random", "--ipc", "1"], ["d.csv"]),
    "scaling": (["scaling", "d.csv"], ["d.csv"]),
    "use search": (["use", "search", "d.csv"], ["d.csv"]),
    "use continual": (["use", "continual", "d.csv"], ["d.csv"]),
    "use federated": (["use", "federated", "d.csv"], ["d.csv"]),
    "use deletion": (
        ["use", "deletion", "s.safetensors", "--data", "d.csv", "--delete", "1"], ["s.safetensors", "d.csv"],
    ),
    "audit": (
        ["audit", "s.safetensors", "--key", "k.pem", "--data", "d.csv"], ["s.safetensors", "d.csv", "k.pem"],
    ),
    "audit privacy": (["audit", "privacy", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "audit fairness": (["audit", "fairness", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "audit screening": (["audit", "screening", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "audit robustness": (["audit", "robustness", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "audit poisoning": (["audit", "poisoning", "s.safetensors", "--data", "d.csv"], ["s.safetensors", "d.csv"]),
    "audit provenance": (
        ["audit", "provenance", "s.safetensors", "--key", "k.pem", "--data", "d.csv"],
        ["s.safetensors", "d.csv", "k.pem"],
    ),
    "mark": (["mark", "s.safetensors", "--key", "k.pem"], ["s.safetensors", "k.pem"]),
    "use edge": (["use", "edge", "s.safetensors", "--data", "d.csv", "--to", "80%"], ["s.safetensors", "d.csv"]),
    "use transfer": (
        ["use", "transfer", "s.safetensors", "--data", "d.csv", "--target", "d.csv"], ["s.safetensors", "d.csv"],
    ),
    "use instructions": (["use", "instructions", "i.jsonl", "--target", "i.jsonl", "--items", "1"], ["i.jsonl"]),
    "use control": (["use", "control", "CartPole-v1", "--set", "s.safetensors"], ["s.safetensors"]),
    "use control log": (["use", "control", "CartPole-v1", "--log", "log.npz"], ["log.npz"]),
    "use augmentation": (["use", "augmentation", "d.csv", "--augment", "none"], ["d.csv"]),
    "use augmentation file": (["use", "augmentation", "d.csv", "--augment", "a.py:turn"], ["a.py"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that commands read."""
    place = tmp_path_factory.mktemp("made")
    before = Path.cwd()
    os.chdir(place)
    try:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(60, 3)), np.arange(60) % 2
        rows = "\n".join(f"{a:.3f},{b:.3f},{c:.3f},{'uv'[k]}" for (a, b, c), k in zip(x, y, strict=True))
        Path("d.csv").write_text(f"a,b,c,label\n{rows}\n")
        pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "label": y}), "d.parquet")
        small = potstill.distill("d.csv", "random", ipc=2, progress=None)
        small.save("s.safetensors")
        potstill.export(small, "indices", "i.safetensors")
        Path("a.py").write_text("def turn(x, y, rng):\n    return x, y\n")
        Path("r.yaml").write_text("method: random\n")
        for name in ("s.parquet", "x.safetensors", "res.pt", "k.pem"):
            Path(name).write_bytes(b"anything that nobody can guess")
        np.savez("log.npz", observations=x, actions=y, rewards=y, terminals=y)
        Path("i.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
        Path("boxes.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def _content(place: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in place.rglob("*") if p.is_file()}


WAYS: dict[str, Callable[[str], str]] = {
    "itself": lambda name: name,
    "another spelling": lambda name: f"../here/./{name}",
    "a symbolic link": lambda name: _made_link(name, os.symlink),
    "a hard link": lambda name: _made_link(name, os.link),
    "another case": lambda name: name.upper(),
}


def _made_link(name: str, make: Callable[[str, str], None]) -> str:
    make(name, f"link{Path(name).suffix}")
    return f"link{Path(name).suffix}"


PAIRS = [(case, read) for case, (_, reads) in CASES.items() for read in reads]


@pytest.mark.parametrize(("case", "way"), covering(product(PAIRS, WAYS)))
def test_no_command_writes_over_what_it_reads(
    case: tuple[str, str], way: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, read = case
    words = [*CASES[command][0], "--out", WAYS[way](read)]
    name = find_command(words)[0]
    if command_class(name).outputs and name not in FOLDERS:
        words.append("--force")
    before = _content(place)
    assert main(words) in (1, 2)  # 2: a set is not called d.csv
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is read as" in said or "the file's name must end in" in said
    assert _content(place) == before


def test_composed_and_decomposed_names_are_one_file(tmp_path: Path) -> None:
    Path(tmp_path / "caf\N{LATIN SMALL LETTER E WITH ACUTE}.safetensors").write_bytes(b"")
    with pytest.raises(PotstillError, match="is read as"):
        check_not_input(
            tmp_path / "cafe\N{COMBINING ACUTE ACCENT}.safetensors",
            [tmp_path / "caf\N{LATIN SMALL LETTER E WITH ACUTE}.safetensors"],
        )


@pytest.mark.parametrize("command", [name for name in COMMANDS if command_class(name).outputs])
def test_every_command_that_writes_a_file_asks_for_its_suffix(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffixes = command_class(command).outputs["out"]
    if command in (*FOLDERS, "demo"):
        assert suffixes == ()
        return
    words = next(words for words, _ in CASES.values() if find_command(words)[0] == command)
    assert main([*words, "--out", "out.odd", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("potstill: error: --out out.odd: the file's name must end in .") or ".json" in said
    assert said.count("\n") == 1
    assert not Path("out.odd").exists()


STRANGERS = {
    ".csv": b"a,label\n1,u\n", ".parquet": None, ".json": b'{"thesis": 1}', ".safetensors": b"weights", ".npz": None,
    ".h": b"int mine;", ".html": b"<html>mine</html>", ".svg": b"<svg/>", ".tar": b"tar", ".png": b"png",
}  # fmt: skip
EVALUATE = ["evaluate", "s.safetensors", "--data", "d.csv", "--protocol", "dc", "--epochs", "1", "--seeds", "2"]
EVALUATE += ["--no-baselines", "--no-full", "--no-robust-scores"]
FOREIGN: dict[str, tuple[list[str], str]] = {
    "distill": (["distill", "d.csv", "--method", "random", "--ipc", "1", "--out"], ".safetensors"),
    "evaluate": ([*EVALUATE, "--out"], ".json"),
    "diagnose": (["diagnose", "s.safetensors", "--data", "d.csv", "--parts", "nearest", "--out"], ".study.json"),
    "score": (["score", "d.csv", "--methods", "el2n", "--epochs", "3", "--runs", "1", "--out"], ".parquet"),
    "active-learning": (
        ["active-learning", "d.csv", "--rounds", "1", "--seeds", "1", "--steps", "2", "--out"],
        ".json",
    ),
    "report": (["report", "s.safetensors", "--out"], ".html"),
    "export c-header": (["export", "s.safetensors", "--to", "c-header", "--out"], ".h"),
    "export npz-integers": (["export", "s.safetensors", "--to", "npz-integers", "--out"], ".npz"),
    "export npz": (["export", "s.safetensors", "--to", "npz", "--out"], ".npz"),
    "export parquet": (["export", "s.safetensors", "--to", "parquet", "--out"], ".parquet"),
    "export webdataset": (["export", "s.safetensors", "--to", "webdataset", "--out"], ".tar"),
    "export indices": (["export", "s.safetensors", "--to", "indices", "--out"], ".safetensors"),
    "materialize": (["materialize", "i.safetensors", "--data", "d.csv", "--out"], ".safetensors"),
}
AGAIN = [name for name in FOREIGN if name != "export webdataset"]
"""Whose own files are known again: a tar says nothing of who wrote it."""


def _stranger(path: Path) -> bytes:
    suffix = path.suffix
    if suffix == ".parquet":
        pq.write_table(pa.table({"a": [1.0], "label": ["u"]}), path)
    elif suffix == ".npz":
        np.savez(path, x_train=np.zeros(3))
    else:
        path.write_bytes(STRANGERS[suffix] or b"")
    return path.read_bytes()


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_ours_is_replaced_only_if_that_is_said(
    case: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, suffix = FOREIGN[case]
    out = Path(f"out{suffix}")
    before = _stranger(out)
    assert main([*words, str(out), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "replace it with --force" in said
    assert said.count("\n") == 1
    assert out.read_bytes() == before
    assert main([*words, str(out), "--quiet", "--force"]) == 0
    assert out.read_bytes() != before
    if case in AGAIN:
        assert main([*words, str(out), "--quiet"]) == 0  # the same command again is no stranger


def test_a_set_of_another_run_is_a_stranger(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "d.csv", "--method", "random", "--ipc", "1", "--out", "a.safetensors", "--quiet"]
    assert main(words) == 0
    before = Path("a.safetensors").read_bytes()
    for more, told in (
        (["--method", "k-means"], "method was 'random' and now is 'k-means'"),
        (["--seed", "3"], "seed was 0 and now is 3"),
        (["--ipc", "2"], "ipc was 1 and now is 2"),
        (["--test-fraction", "0.5"], "data was"),
    ):
        for resume in ([], ["--resume"]):
            assert main([*words, *more, *resume]) == 1
            assert f"a.safetensors: holds the set of another run ({told}" in capsys.readouterr().err
    assert Path("a.safetensors").read_bytes() == before
    small = potstill.distill("d.csv", "random", ipc=2, progress=None)
    with pytest.raises(PotstillError, match="holds the set of another run"):
        small.save("a.safetensors")
    assert small.save("a.safetensors", force=True).read_bytes() != before
    small.save("a.safetensors")  # the same once more


def test_an_output_within_a_folder_of_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    for n in range(12):
        (folder / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * n, np.uint8)).save(folder / "ab"[n % 2] / f"{n}.png")
    words = ["compare", str(folder), "--methods", "random", "--ipc", "1", "--out", str(folder / "board")]
    assert main(words) == 1
    assert "would become a part of what is read there" in capsys.readouterr().err
    small = potstill.distill(folder, "random", ipc=1, progress=None)
    for to in ("files", "hf"):
        with pytest.raises(PotstillError, match="would become a part"):
            potstill.export(small, to, folder / "new", data=folder)
    small.save(folder / "small.safetensors")  # which no reader of pictures takes for one
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b", "small.history.json", "small.safetensors"]


def _over_its_own(small: potstill.Distilled) -> None:
    small.files = (str(Path("data.safetensors").absolute()),)
    small.save("data.safetensors", force=True)


OVER: dict[str, Callable[[potstill.Distilled], object]] = {
    "save": _over_its_own,
    "npz": lambda small: potstill.export(small, "npz", "link.npz", force=True),
    "score": lambda small: potstill.score(potstill.load_data("d.parquet"), ["el2n"], "d.parquet", force=True),
    "report": lambda small: potstill.report("s.safetensors", "link.html", force=True),
    "label": lambda small: potstill.label(small, "d.csv", "s.safetensors", force=True),
    "checkpoint": lambda small: potstill.distill("d.csv", "dm", ipc=1, checkpoint=Path("d.csv"), progress=None),
    "another checkpoint": lambda small: potstill.distill(
        "d.csv", "dm", ipc=1, checkpoint=Path("r.yaml"), progress=None
    ),
    "film": lambda small: potstill.distill("d.csv", "dm", ipc=1, snapshots=Path("r.yaml"), progress=None),
}


@pytest.mark.parametrize("write", OVER)
def test_the_library_keeps_what_it_reads(write: str, place: Path) -> None:
    shutil.copy("d.csv", "data.safetensors")  # whatever a file is called
    for suffix in ("npz", "html"):
        os.link("s.safetensors", f"link.{suffix}")
    small, before = potstill.load("s.safetensors"), _content(place)
    with pytest.raises(PotstillError, match=r"is read as|is there already"):
        OVER[write](small)
    assert _content(place) == before
