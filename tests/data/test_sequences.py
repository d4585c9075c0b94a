"""Sequences of bases as series of four channels: from a table, from FASTA files, and what is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import potstill
from potstill.data.sequences import encode_bases


def by_hand(text: str) -> list[list[float]]:
    rows = {"A": 0, "C": 1, "G": 2, "T": 3, "U": 3}
    columns = []
    for letter in text.upper():
        at = rows.get(letter)
        columns.append([0.25] * 4 if at is None else [float(n == at) for n in range(4)])
    return np.array(columns).T.tolist()


def motifs(n: int = 60, length: int = 30, seed: int = 0) -> pd.DataFrame:
    """Random bases; those of class ``box`` hold TATAAA at any place."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        letters = rng.choice(list("ACGT"), length)
        if i % 2:
            at = rng.integers(0, length - 6)
            letters[at : at + 6] = list("TATAAA")
        rows.append({"name": f"s{i}", "sequence": "".join(letters), "kind": ["none", "box"][i % 2]})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("text", ["ACGT", "acguN-RY", "G"])
def test_letters_are_channels(text: str) -> None:
    assert encode_bases(text).tolist() == by_hand(text)
    assert encode_bases(text, 10).tolist() == by_hand(text + "N" * (10 - len(text)))


def test_a_column_of_a_table_is_read(tmp_path: Path) -> None:
    frame = motifs()
    frame.loc[3, "sequence"] = "ACGTN"
    frame.to_csv(tmp_path / "boxes.csv", index=False)
    splits = potstill.load_data(tmp_path / "boxes.csv", kind="series", label="kind", test_fraction=0)
    assert splits.train.input.columns == ("A", "C", "G", "T")
    assert splits.train.input.shape == (4, 30)
    raw = splits.train.raw(torch.arange(len(splits.train)))
    rows = {tuple(map(tuple, one.tolist())) for one in raw}
    for text in frame["sequence"]:
        assert tuple(map(tuple, by_hand(text.ljust(30, "N")))) in rows
    assert any("read as series of four channels, A, C, G, T; those shorter than 30" in note for note in splits.notes)


def test_fasta_files_by_class(tmp_path: Path) -> None:
    frame = motifs()
    for part, some in (("train", frame[:40]), ("test", frame[40:])):
        for kind, of_kind in some.groupby("kind"):
            folder = tmp_path / part / str(kind)
            folder.mkdir(parents=True)
            text = "".join(f">{r.name}\n{r.sequence[:20]}\n{r.sequence[20:].lower()}\n" for r in of_kind.itertuples())
            (folder / "all.fasta").write_text("; a comment\n" + text)
    splits = potstill.load_data(tmp_path)
    assert (len(splits.train), splits.train.input.shape) == (40, (4, 30))
    assert splits.test is not None
    assert len(splits.test) == 20
    first = next(n for n, y in enumerate(splits.train.labels.tolist()) if y == splits.train.classes.index("none"))
    expected = next(r.sequence for r in frame.itertuples() if r.kind == "none")
    assert splits.train.raw(torch.tensor([first]))[0].tolist() == by_hand(expected)


def test_motifs_are_distilled_and_learned() -> None:
    splits = potstill.load_data(motifs(200), kind="series", label="kind")
    small = potstill.distill(splits, "k-means", ipc=20, progress=None)
    card = potstill.evaluate(
        small, splits, networks="minirocket", baselines=False, full=True, robust_scores=False, progress=None
    ).to_dict()
    assert card["full"]["mean"] > 0.7
    assert small.input.columns == ("A", "C", "G", "T")


def changed(**columns: Any) -> pd.DataFrame:
    return motifs().assign(**columns)


@pytest.mark.parametrize(("frame", "message"), [
    (changed(sequence=["ACGT"] * 59 + [""]), "there is no sequence in row 60, column 'sequence'; leave it out"),
    (changed(sequence=["ACGT"] * 59 + [None]), "there is no sequence in row 60"),
    (changed(other=["ACGTA"] * 60), "no column holds numbers"),
    (changed(sequence=["hello"] * 60), "no column holds numbers"),
])  # fmt: skip
def test_what_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.load_data(frame, kind="series", label="kind")


def test_a_letter_that_is_no_base_is_named_with_its_place(tmp_path: Path) -> None:
    frame = motifs(1200)
    frame.loc[1100, "sequence"] = "ACGTX"
    with pytest.raises(
        potstill.PotstillError, match=r"bases are A, C, G, T or U, .* but there is 'X' in row 1101, column 'sequence'"
    ):
        potstill.load_data(frame, kind="series", label="kind")
    for kind, text in (("a", ">one\nACGT\n"), ("b", "ACGT\n")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "x.fa").write_text(text)
    with pytest.raises(potstill.PotstillError, match="a title, which begins with >, must stand before line 1"):
        potstill.load_data(tmp_path)
    (tmp_path / "b" / "x.fa").write_text("")
    with pytest.raises(potstill.PotstillError, match="there are no sequences; leave the file out"):
        potstill.load_data(tmp_path)


@pytest.mark.parametrize("given", ["one.fasta", "."])
def test_sequences_without_classes_are_told_where_a_class_is_named(given: str, tmp_path: Path) -> None:
    (tmp_path / "one.fasta").write_text(">a\nACGT\n")
    with pytest.raises(potstill.PotstillError, match="in a folder named after it, CLASS/NAME") as caught:
        potstill.load_data(tmp_path / given)
    assert "\n" not in str(caught.value)


def test_channels_that_are_only_called_like_bases_are_drawn_as_curves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": n, "time": t, **dict(zip("ACGT", rng.normal(size=4), strict=True)), "kind": "ab"[n % 2]}
        for n in range(20) for t in range(8)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "currents.csv", index=False)
    motifs().to_csv(tmp_path / "boxes.csv", index=False)
    pages = []
    for file, reading in (("currents.csv", {"series": "id"}), ("boxes.csv", {"kind": "series"})):
        data = potstill.load_data(tmp_path / file, label="kind", **reading)
        small = potstill.distill(data, "random", ipc=2, progress=None).save(tmp_path / f"{file}.safetensors")
        pages.append(potstill.report(small, tmp_path / f"{file}.html").read_text(encoding="utf-8"))
    assert potstill.load(tmp_path / "boxes.csv.safetensors").input.units == "bases"
    assert "as letters" not in pages[0]
    assert "<polyline" in pages[0]
    assert "as letters" in pages[1]
