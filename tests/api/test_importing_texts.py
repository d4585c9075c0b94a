"""Texts as DiLM's repository releases them: kept as they are, learned from by a network of one's own, nothing run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core.nested import OFFSETS, VALUES
from potstill.data.pairs import WORDS
from potstill.errors import PotstillError

GOOD = ('a warm and funny film, "sweet" to the end', "a moving, funny story", "sweet and funny — très bien", "warm")
BAD = ("a dull, lifeless mess", "flat and dull to the end", "a lifeless bore\twith noise", "flat\nand noisy")


def write(folder: Path, *, first: str = "sentence", sets: int = 3) -> Path:
    """Files as ``dataset.to_json`` of the datasets library writes them: one object a line, slashes as they are."""
    (folder / "dataset").mkdir(parents=True)
    for n in [*range(sets), 10]:
        rows = [{first: text, "labels": label} for label, texts in enumerate((BAD, GOOD)) for text in texts]
        rows[0][first] = f"{BAD[0]} {n}"
        text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
        (folder / "dataset" / f"dataset_{n}.json").write_text(text, encoding="utf-8")
    return folder


def test_the_last_set_of_a_folder_is_read_and_its_texts_come_back(tmp_path: Path) -> None:
    run = write(tmp_path / "dpc_4.gpt2")
    for path in (run, run / "dataset", run / "dataset" / "dataset_10.json"):
        small = potstill.import_set(path)
        assert small.captions == (f"{BAD[0]} 10", *BAD[1:], *GOOD)
        assert small.labels.tolist() == [0] * 4 + [1] * 4
        assert (small.metadata["method"], small.metadata["imported"]["form"]) == ("dilm", "dilm")
    kept = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert kept.captions == small.captions
    assert kept.inputs["sentence" + VALUES].equal(small.inputs["sentence" + VALUES])
    assert potstill.import_set(run, run=1).captions[0].endswith(" 1")
    assert len(small.metadata["imported"]["sha256"]["dataset_10.json"]) == 64


def test_a_network_of_words_learns_from_it(tmp_path: Path) -> None:
    small = potstill.import_set(write(tmp_path / "run"))
    x = small.model_space()
    torch.manual_seed(0)
    net = torch.nn.EmbeddingBag(WORDS, 2)
    optimiser = torch.optim.SGD(net.parameters(), lr=5.0)

    def answers() -> torch.Tensor:
        made: torch.Tensor = net(x["sentence" + VALUES], x["sentence" + OFFSETS])
        return made

    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(answers(), small.labels).backward()
        optimiser.step()
    assert answers().argmax(1).equal(small.labels)
    unseen = potstill.data.pairs.hash_words("funny and warm, sweet")
    assert int(net(torch.tensor(unseen), torch.tensor([0])).argmax()) == 1


def write_data(path: Path) -> Path:
    lines = [
        f"{text} {n}\t{name}" for n in range(12) for name, some in (("bad", BAD[:3]), ("good", GOOD)) for text in some
    ]
    rows = [line.replace("\t", " ", line.count("\t") - 1).split("\t") for line in lines]
    path.write_text("".join(json.dumps({"sentence": a.strip(), "label": b}) + "\n" for a, b in rows), encoding="utf-8")
    return path


def test_with_its_data_a_set_of_texts_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(write_data(tmp_path / "films.jsonl")), tmp_path / "dilm.safetensors"
    run = write(tmp_path / "run")
    assert main(["import", str(run), "--data", data, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"potstill evaluate {out} --data {data}" in printed
    assert "in label order: 0 as bad, 1 as good" in printed  # the file has numbers alone, and data sort their names
    small, train = potstill.load(out), potstill.load_data(data).train
    assert small.classes == ("bad", "good")
    assert any("0 as bad, 1 as good" in note for note in small.notes)
    assert small.captions == (f"{BAD[0]} 10", *BAD[1:], *GOOD)
    assert small.inputs.equal(train.encoder.encode(small.captions))  # type: ignore[attr-defined]
    assert not any(name.startswith("inputs") for name in small.tensors)  # texts are stored, and a reader encodes them
    card = potstill.evaluate(small, data, networks="linear-model", seeds=1, baselines=False, full=False, progress=None)
    assert card.to_dict()["score"]["mean"] > 0.9


def test_data_that_do_not_suit_a_set_of_texts_are_one_line(tmp_path: Path) -> None:
    run, data = write(tmp_path / "run"), str(write_data(tmp_path / "films.jsonl"))
    with pytest.raises(PotstillError, match="must be texts with classes, but digits are image"):
        potstill.import_set(run, data="digits")
    for rows, said in (
        ([{"a": "x", "b": "y", "labels": 0}], "data of one text each"),
        ([{"a": "x", "labels": 2}], "count up to 2, but films.jsonl has 2"),
    ):
        file = tmp_path / "dataset_0.json"
        file.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(PotstillError, match=said):
            potstill.import_set(file, data=data)


def test_two_fields_are_two_lines(tmp_path: Path) -> None:
    file = tmp_path / "dataset_0.json"
    rows = [{"premise": "It rains.", "hypothesis": "It is wet.", "labels": 0}]
    rows.append({"premise": "a", "hypothesis": "b", "labels": 2})
    file.write_text("\n".join(map(json.dumps, rows)))
    small = potstill.import_set(file, method="mine")
    assert small.captions == ("It rains.\nIt is wet.", "a\nb")
    assert small.classes == ("0", "1", "2")
    assert [name for name, _ in small.input.parts] == ["premise", "hypothesis"]
    assert small.metadata["method"] == "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "lines such as"),
        ("[1]\n", "lines such as"),
        ('{"labels":0}\n', "lines such as"),
        ('{"a/b":"x","labels":0}\n', "lines such as"),
        ('{"a":"x","labels":0}\n{"b":"x","labels":0}\n', "line 2 has not the fields"),
        ('{"a":1,"labels":0}\n', "is not text"),
        ('{"a":"x","labels":true}\n', "needs a class"),
        ('{"a":"x","labels":-1}\n', "needs a class"),
        ('{"a":"x","labels":99999999999}\n', "needs a class"),
        ('{"a":"x","labels":0}\n{"a":', "a JSON object on each line"),
        ("[" * 100_000, "a JSON object on each line"),
        (b"\xff\xfe", "a JSON object on each line"),
    ],
)
def test_what_is_no_set_of_texts_is_one_line(
    tmp_path: Path, content: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dataset_0.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PotstillError, match=said):
        potstill.import_set(file)
    assert main(["import", str(file), "--out", str(tmp_path / "o.safetensors")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o.safetensors").exists()


def test_what_belongs_to_pictures_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "run", sets=1)
    with pytest.raises(PotstillError, match="known belongs to pictures"):
        potstill.import_set(run, known="cifar10")
    with pytest.raises(PotstillError, match="run 7 is requested"):
        potstill.import_set(run, run=7)


def test_the_command_and_what_reads_its_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dilm.safetensors"
    assert main(["import", str(write(tmp_path / "run")), "--run", "0", "--out", str(out)]) == 0
    assert "captions" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 0
    assert "8 inputs of sentence (texts)" in capsys.readouterr().out
    assert main(["report", str(out), "--out", str(tmp_path / "p.html")]) == 0
    assert main(["verify", str(out)]) == 0


def write_named(path: Path, *, label: str = "label", names: tuple[str, str] = ("bad", "good")) -> Path:
    """Texts of another program: a class by its name, under another key."""
    rows = [{"text": text, label: name} for name, texts in zip(names, (BAD, GOOD), strict=True) for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("label", ["label", "labels"])
def test_classes_may_be_names(tmp_path: Path, label: str) -> None:
    small = potstill.import_set(write_named(tmp_path / "made.jsonl", label=label), method="condenselm")
    assert small.classes == ("bad", "good")
    assert small.labels.tolist() == [0] * 4 + [1] * 4
    assert small.metadata["method"] == "condenselm"


def test_names_of_classes_are_those_of_the_data(tmp_path: Path) -> None:
    """Data whose classes stand in another order than the file's names."""
    data = potstill.load_data(
        ([f"{text} {n}" for n in range(12) for text in (*GOOD, *BAD)], (["zbad"] * 4 + ["good"] * 4) * 12)
    )
    path = write_named(tmp_path / "made.jsonl", names=("zbad", "good"))
    small = potstill.import_set(path, data=data, form="dilm")
    assert small.classes == data.train.classes == ("good", "zbad")
    assert small.labels.tolist() == [1] * 4 + [0] * 4
    assert not any("by number" in note for note in small.notes)
    wrong = write_named(tmp_path / "wrong.jsonl", names=("bad", "good"))
    with pytest.raises(PotstillError, match="class 'bad' is not among those of the data"):
        potstill.import_set(wrong, data=data, form="dilm")
