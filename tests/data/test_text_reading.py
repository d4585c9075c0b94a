"""Texts from files as people have them: folders, CSV, Parquet, JSON lines, frames, and what is wrong with them."""

import csv
import json

import datasets
import pandas as pd
import pytest
import torch

from potstill.data import load
from potstill.errors import PotstillError
from tests.text_data import corpus


def write(path, rows, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return str(path)


def rows(more=()):
    texts, labels = corpus()
    return [
        ["id", "body", "label"],
        *([str(i), t, y] for i, (t, y) in enumerate(zip(texts, labels, strict=True))),
        *more,
    ]


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def test_a_column_of_texts_is_found_and_its_texts_are_kept(tmp_path):
    s = load(write(tmp_path / "reviews.csv", rows()), test_fraction=0)
    assert (s.train.input.kind, s.train.classes) == ("text", ("cooking", "gardening", "sailing"))
    assert list(s.train.texts) == corpus()[0]
    assert torch.equal(s.train.inputs, s.train.encoder.encode(s.train.texts))
    assert "column 'body' is read as texts; 'id' is not read" in s.notes[0]


def test_the_encoder_is_fitted_on_training_texts_alone(tmp_path):
    path = write(tmp_path / "reviews.csv", rows())
    s = load(path)
    known = {word for text in s.train.texts for word in text.split()}
    assert set(s.train.encoder.words) <= known
    assert s.train.encoder is s.test.encoder
    assert len(s.train) + len(s.test) == 120
    other = load(path, seed=1)
    assert other.train.encoder != s.train.encoder
    assert load(path).train.content_hash == s.train.content_hash != other.train.content_hash


def test_every_form_of_file_gives_the_same(tmp_path):
    texts, labels = corpus()
    frame = pd.DataFrame({"body": texts, "label": labels})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "t.csv", index=False)
    made = [load(str(tmp_path / f"t.{end}")) for end in ("parquet", "jsonl", "csv")]
    made += [
        load(frame),
        load((texts, labels)),
        load(datasets.Dataset.from_pandas(frame)),
        load((frame[["body"]], labels)),
    ]
    assert len({tuple(s.train.texts) for s in made}) == 1
    assert len({s.train.content_hash for s in made}) == 1


def test_a_folder_by_class_in_several_encodings(tmp_path):
    texts, labels = corpus(8)
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{i:02}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "cooking" / "98.txt").write_bytes("crème brûlée with sugar".encode("cp1252"))
    (tmp_path / "cooking" / "99.txt").write_text("soup in sixteen bits", encoding="utf-16")
    (tmp_path / "sailing" / "97.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "sailing" / "._97.txt").write_text("left by another system", encoding="utf-8")
    (tmp_path / "sailing" / "96.txt").write_text("wind " * 5000, encoding="utf-8")
    s = load(str(tmp_path), test_fraction=0)
    assert len(s.train) == 27
    assert {"crème brûlée with sugar", "soup in sixteen bits"} <= set(s.train.texts)
    assert s.train.names[0] == "cooking/00.txt"
    said = " ".join(s.notes)
    assert "1 as cp1252, 1 as utf-16" in said
    assert "skipped as hidden or the system's own: hidden texts" in said
    assert "1 of 28 texts are empty and were left out" in said
    assert "1 texts have more than 20,000 characters" in said
    refuse(str(tmp_path), "the folders name the classes", text="body")


def test_a_folder_with_a_test_part(tmp_path):
    texts, labels = corpus(6)
    for part in ("train", "test"):
        for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
            (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / part / label / f"{i}.txt").write_text(f"{part} {text}", encoding="utf-8")
    s = load(str(tmp_path))
    assert len(s.train) == len(s.test) == 18
    assert all(text.startswith("test") for text in s.test.texts)


def test_line_breaks_and_other_encodings_where_the_column_is_named(tmp_path):
    texts, labels = corpus(4)
    lines = [["body", "label"], *([f'{t}\nsecond line, "quoted"', y] for t, y in zip(texts, labels, strict=True))]
    broken = write(tmp_path / "lines.csv", lines)
    refuse(broken, 'say their column with `text="COLUMN"`')
    s = load(broken, text="body", test_fraction=0)
    assert s.train.texts[0].endswith('\nsecond line, "quoted"')
    lines = [["body", "label"], *([f"{t} café", y] for t, y in zip(texts, labels, strict=True))]
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        s = load(write(tmp_path / f"{encoding}.csv", lines, encoding), text="body", test_fraction=0)
        assert s.train.texts[0].endswith("café")


def test_empty_texts_and_labels_that_say_there_is_none(tmp_path):
    more = [
        ["", "  ", "cooking"],
        ["", "", "sailing"],
        ["", "wind in the old sail", "n.a."],
        ["", "rose and tulip", "N/A"],
    ]
    path = write(tmp_path / "t.csv", rows(more))
    s = load(path, test_fraction=0)
    assert s.train.classes == ("N/A", "cooking", "gardening", "n.a.", "sailing")
    assert any("2 of 124 texts are empty" in note for note in s.notes)
    assert any("2 of 122 samples have labels such as 'n.a.'" in note for note in s.notes)
    s = load(path, missing="drop", test_fraction=0)
    assert (len(s.train), len(s.train.classes)) == (120, 3)
    refuse(path, "cannot be imputed", missing="impute")


@pytest.mark.parametrize("representation", ["latent", "hashed:size=16"])
def test_texts_without_words_are_said(tmp_path, representation):
    texts, labels = corpus(6)
    data = ([*texts, "😀 🎉", "中文文本没有空格"], [*labels, "cooking", "sailing"], texts[:3], labels[:3])
    splits = load(data, representation=representation)
    count = 1 if representation.startswith("hashed") else 2  # a word that no other text has is in no vocabulary
    assert [note for note in splits.notes if "vectors are zeros" in note] == [
        f"texts: {count} of 20 training texts have no word that the representation knows; their vectors are zeros"
    ]
    with pytest.raises(PotstillError, match="words of two letters or more"):
        load((["😀 🎉", "🎉"] * 10, ["a", "b"] * 10), representation=representation)


def test_rows_without_a_label(tmp_path):
    path = write(tmp_path / "t.csv", rows([["", "wind in the old sail", ""]]))
    refuse(path, "row 121, column 'label' has no label")
    assert len(load(path, missing="drop", test_fraction=0).train) == 120


def test_two_columns_of_texts_are_ambiguous(tmp_path):
    texts, labels = corpus()
    lines = [["title", "body", "label"], *([t, f"{t} again", y] for t, y in zip(texts, labels, strict=True))]
    path = write(tmp_path / "t.csv", lines)
    refuse(path, "columns 'title' and 'body' hold texts; say which")
    assert load(path, text="body", test_fraction=0).train.texts[0].endswith("again")
    refuse(path, "the text column 'bdy' is not there", text="bdy")
    refuse(path, "the text column 'label' is the label", text="label")


def test_tables_stay_tables(tmp_path):
    lines = [
        ["colour", "when", "n", "label"],
        *([["red", "blue"][i % 2], f"{i % 28 + 1} Jan 2020", i, "ab"[i % 2]] for i in range(60)),
    ]
    path = write(tmp_path / "t.csv", lines)
    assert load(path).train.input.kind == "table"
    refuse(path, "holds no texts with classes; leave `encode=` out|hold texts", encode=len)
    texts = write(tmp_path / "u.csv", rows())
    refuse(texts, "120 different texts, which looks like free text", kind="table")
    refuse(
        write(tmp_path / "n.csv", [["n", "label"], *([i, "ab"[i % 2]] for i in range(9))]),
        "holds int64, not texts",
        text="n",
    )
    refuse("digits", "holds no texts", representation="hashed")


def test_copies_across_a_split_are_noticed_and_kept_together(tmp_path):
    texts, labels = corpus(20)
    copies = [["", t.upper() + "  ", y] for t, y in zip(texts, labels, strict=True)]
    path = write(
        tmp_path / "t.csv",
        [["id", "body", "label"], *(["", t, y] for t, y in zip(texts, labels, strict=True)), *copies],
    )
    s = load(path)
    assert any("60 of 120 texts are copies of an earlier one" in note for note in s.notes)
    assert any("test samples are exact copies of training samples" in note for note in s.notes)
    s = load(path, duplicates="together")
    train, test = ({" ".join(t.lower().split()) for t in part.texts} for part in (s.train, s.test))
    assert not train & test
    assert not any("exact copies" in note for note in s.notes)


def test_groups_and_a_representation_of_ones_own(tmp_path):
    lines = [["who", "body", "label"], *([f"p{i // 6}", t, y] for i, (_, t, y) in enumerate(rows()[1:]))]
    path = write(tmp_path / "t.csv", lines)
    s = load(path, group="who", text="body")
    assert not set(s.train.groups.tolist()) & set(s.test.groups.tolist())
    s = load(path, text="body", encode=lambda texts: torch.tensor([[len(t), 1.0] for t in texts]))
    assert s.train.inputs.shape[1] == 2
    assert "encode" not in s.reading
    refuse(path, "leave one out", text="body", encode=len, representation="hashed")


def test_options_stand_in_the_reading(tmp_path):
    s = load(write(tmp_path / "t.csv", rows()), text="body", representation="hashed:size=32")
    assert s.reading == {"text": "body", "representation": "hashed:size=32"}
    assert s.train.inputs.shape[1] == 32


def test_json_lines_of_numbers_are_a_table(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"a": i, "b": i / 2, "label": "xy"[i % 2]}) + "\n" for i in range(20)))
    assert load(str(path)).train.input.shape == (2,)
    path.write_text("[1, 2")
    refuse(str(path), "not a file with a JSON object on each line")
