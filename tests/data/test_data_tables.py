"""CSV, Parquet, .npz and Hugging Face data sets, written and read back for real."""

from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from picture_files import encoded
from PIL import Image

from potstill.data import hub, load
from potstill.errors import PotstillError

CSV = "length,wide,colour,n,label\n" + "".join(
    f"{i / 2},{i % 2 == 0},{'red' if i % 3 else 'blue'},{i},{'cat' if i % 2 else 'dog'}\n" for i in range(20)
)


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def test_csv(tmp_path):
    s = load(text(tmp_path / "pets.csv", CSV), test_fraction=0)
    x = s.train.raw(torch.arange(20))
    assert s.train.name == "pets.csv"
    assert s.train.classes == ("cat", "dog")
    assert (s.train.input.kind, s.train.input.shape, s.train.input.units) == ("table", (5,), "column values")
    assert x[:, 0].tolist() == [i / 2 for i in range(20)]
    assert x[:4, 1].tolist() == [1, 0, 1, 0]
    assert x[:4, 2:4].tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert "pets.csv: column 'colour' became 2 columns of 0 and 1" in s.notes
    split = load(str(tmp_path / "pets.csv"))
    assert len(split.test) == 4
    z = split.train.fetch(torch.arange(16)).x
    assert torch.allclose(z.mean(0), torch.zeros(5), atol=1e-5)


def test_another_label_column_and_semicolons_and_row_numbers(tmp_path):
    rows = ";a;kind\n" + "".join(f"{i};{i * 1.5};{i % 2 + 1}\n" for i in range(10))
    s = load(text(tmp_path / "x.csv", "\ufeff" + rows), label="kind", test_fraction=0)
    assert s.train.classes == ("1", "2")
    assert s.train.input.shape == (1,)
    assert len(s.notes) == 2
    tabs = load(text(tmp_path / "x.tsv", rows.replace(";", "\t")), label="kind", test_fraction=0)
    assert tabs.train.content_hash == s.train.content_hash


@pytest.mark.parametrize(
    ("content", "label", "message"),
    [
        (
            "a,Labels\n1,x\n2,y\n",
            None,
            r"x\.csv: there is no column 'label'; did you mean 'Labels'\? Say which with `label=",
        ),
        ("a,b\n1,x\n2,y\n", None, r"there is no column 'label'; the columns are: a, b\. Say which with `label="),
        ("AGE,pay\n1,x\n2,y\n", None, r"there is no column 'label'; the columns are: AGE, pay\. Say which"),
        ("size,spcies\n1,x\n2,y\n", "species", "no column 'species'; did you mean 'spcies'"),
        ("a,label\n1,x\n,y\n", None, "row 2, column 'a' is empty; fill it or remove the row"),
        ("a,label\n1,x\nnan,y\n", None, "row 2, column 'a' is empty"),
        ("a,label\n1,x\ninf,y\n", None, "row 2, column 'a' is inf"),
        ("a,label\n1,x\n1e99,y\n", None, "row 2, column 'a' is 1e.99"),
        ("a,label\nu,x\n,y\n", None, "row 2, column 'a' is empty"),
        ("a,label\n,x\n,y\n", None, "row 1, column 'a' is empty"),
        ("a,label\n1,1\n2,\n", None, "row 2, column 'label' has no label"),
        ("a,label\n1,0.5\n2,0.25\n", None, "label 0 is 0.5, a real number"),
        ("a,label\n12:30:01,x\n12:30:02,y\n", None, r"column 'a' holds time32.*; turn it into numbers or texts"),
        ("label\nx\ny\n", None, "there is no column beside 'label'"),
        ("a,label\n", None, "there are no rows"),
        ("", None, "not a CSV file with a header line"),
        ("a,label\n1,x\n2,y,3\n", None, "not a CSV file with a header line"),
        ("a,label\n" + "".join(f"name{i},{i % 2}\n" for i in range(101)), None, "'a' holds 101 different texts, which"),
        ("a,label\n1,x\n2,x\n", None, "there is one class, 'x'"),
    ],
)
def test_csv_errors(tmp_path, content, label, message):
    refuse(text(tmp_path / "x.csv", content), message, label=label)


def test_parquet_table(tmp_path):
    table = pa.table({"a": np.arange(10.0), "b": pa.array(["u", "v"] * 5).dictionary_encode(), "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "t.parquet")
    s = load(tmp_path / "t.parquet", test_fraction=0)
    assert s.train.input.shape == (3,)
    assert s.train.raw(torch.tensor([3])).tolist() == [[3, 0, 1]]
    big = pa.array([2**60, 3], pa.int64())
    money = pa.array([Decimal("1.5"), Decimal("2.25")])
    pq.write_table(pa.table({"big": big, "money": money, "label": ["a", "b"]}), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet", test_fraction=0).train.inputs.tolist() == [[2.0**60, 1.5], [3, 2.25]]
    (tmp_path / "t.parquet").write_bytes(b"junk")
    refuse(tmp_path / "t.parquet", "not a Parquet file")


FEATURES = datasets.Features(
    {"image": datasets.Image(), "id": datasets.Value("string"), "label": datasets.ClassLabel(names=["night", "day"])}
)


def pictures(n=10, size=(8, 6)):
    rows = [
        {"image": {"bytes": encoded((20 * i, 0, 9), size), "path": None}, "id": "x", "label": i % 2} for i in range(n)
    ]
    return datasets.Dataset.from_list(rows, features=FEATURES)


def test_parquet_pictures_with_and_without_hugging_face_notes(tmp_path):
    table = pictures().with_format("arrow")[:]
    pq.write_table(table, tmp_path / "a.parquet")
    named = load(tmp_path / "a.parquet", test_fraction=0)
    assert named.train.classes == ("night", "day")
    assert named.train.input.shape == (3, 6, 8)
    assert named.train.inputs[:, 0, 0, 0].tolist() == [20 * i for i in range(10)]
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet", test_fraction=0).train.classes == ("0", "1")
    raw = pa.table({"png": [encoded((i, 0, 9)) for i in range(4)], "label": ["u", "v"] * 2})
    pq.write_table(raw, tmp_path / "c.parquet")
    assert load(tmp_path / "c.parquet", test_fraction=0).train.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_parquet_picture_errors(tmp_path):
    def write(cells, **more):
        pq.write_table(pa.table({"image": cells, "label": ["u", "v"]} | more), tmp_path / "x.parquet")

    good = encoded((1, 2, 3))
    write([good, good[:50]])
    refuse(tmp_path / "x.parquet", r"x\.parquet: row 2: not an image \(truncated after 50 bytes\); `skip_bad=True`")
    write([good, None])
    refuse(tmp_path / "x.parquet", "row 2 has no picture in column 'image'")
    write([good, good], second=[good, good])
    assert load(tmp_path / "x.parquet", test_fraction=0).train.input.shape == (3, 6, 8)
    pq.write_table(pa.table({"p": [good], "q": [good], "label": ["u"]}), tmp_path / "x.parquet")
    refuse(tmp_path / "x.parquet", r"several columns hold pictures \(p, q\)")
    write([{"bytes": None, "path": "a.png"}, {"bytes": None, "path": "b.png"}])
    (tmp_path / "a.png").write_bytes(good)
    refuse(tmp_path / "x.parquet", "row 2: no such file; `skip_bad=True`")
    (tmp_path / "b.png").write_bytes(good)
    assert len(load(tmp_path / "x.parquet", test_fraction=0).train) == 2


def test_hugging_face_objects():
    whole = pictures(20)
    both = load(datasets.DatasetDict(train=whole, validation=pictures(4), extra=pictures(2)))
    assert (len(both.train), len(both.test)) == (20, 4)
    assert both.train.classes == ("night", "day")
    assert both.notes[:2] == (
        f"{both.train.name}: there is no test split, so validation is the test split",
        f"{both.train.name}: not read: the splits extra",
    )
    chosen = load(whole.select([3, 2, 7, 6]), test_fraction=0)
    assert chosen.train.inputs[:, 0, 0, 0].tolist() == [60, 40, 140, 120]
    assert chosen.train.labels.tolist() == [1, 0, 1, 0]
    made = datasets.Dataset.from_dict({"image": [Image.new("L", (5, 5), v) for v in (1, 2, 3, 4)], "y": list("abab")})
    assert load(made, label="y", test_fraction=0).train.input.shape == (1, 5, 5)
    table = datasets.Dataset.from_dict({"a": [0.5, 1.5], "label": [0, 1]})
    assert load(table, test_fraction=0).train.input.kind == "table"


def test_hugging_face_errors():
    refuse(pictures().to_iterable_dataset(), "is streamed")
    refuse(datasets.DatasetDict(a=pictures(), b=pictures()), "has the splits a, b, but no train")
    refuse(pictures().remove_columns("label"), "no column 'label'; the columns are: image, id")
    unlabelled = pictures().map(lambda row: {"label": -1}, features=FEATURES)
    refuse(unlabelled, "label -1 is not in 0 … 1")
    refuse(datasets.DatasetDict(train=pictures(), test=pictures().remove_columns("id")), "lacks the column 'id'")


def test_a_single_class_label_column_is_found():
    assert load(pictures().rename_column("label", "sky"), test_fraction=0).train.classes == ("night", "day")


def test_save_to_disk(tmp_path):
    datasets.DatasetDict(train=pictures(), test=pictures(4)).save_to_disk(tmp_path / "sky")
    s = load(str(tmp_path / "sky"))
    assert (s.train.name, len(s.train), len(s.test)) == ("sky", 10, 4)
    pictures().save_to_disk(tmp_path / "one")
    assert len(load(tmp_path / "one").train) == 8
    (tmp_path / "one/data-00000-of-00001.arrow").unlink()
    refuse(tmp_path / "one", "one: not a whole save_to_disk folder")


def test_the_hub_without_a_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refuse(
        "hub:nobody/nothing", "^hub:nobody/nothing: the Hub cannot be reached and no copy is cached; check the network$"
    )
    refuse("hub:", "hub: needs a name")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    refuse("hub:nobody/nothing", "the Hub cannot be reached")


def test_what_the_hub_answers_is_used_or_told(monkeypatch):
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: True)
    asked = []

    def answer(name, config):
        asked.append((name, config))
        return pictures()

    monkeypatch.setattr(datasets, "load_dataset", answer)
    assert load("hub:some/sky:small").train.name == "some/sky"
    load("hub:sky")
    assert asked == [("some/sky", "small"), ("sky", None)]

    def fail(name, config):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'sky' doesn't exist on the Hub.\nMore.")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    refuse("hub:sky", r"^hub:sky: cannot be loaded \(Dataset 'sky' doesn't exist on the Hub\); check the name")


def test_npz(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (12, 7, 5, 3), dtype=np.uint8), np.array(list("abc") * 4)
    np.savez(tmp_path / "four.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    s = load(tmp_path / "four.npz")
    assert (s.train.name, s.train.classes, s.train.input.shape) == ("four", ("a", "b", "c"), (3, 7, 5))
    assert torch.equal(s.test.inputs, s.train.inputs[:6])
    np.savez_compressed(tmp_path / "two.npz", x=x, y=np.arange(12) % 3, classes=["p", "q", "r"])
    assert load(tmp_path / "two.npz").train.classes == ("p", "q", "r")
    np.savez(
        tmp_path / "med.npz", train_images=x, train_labels=np.arange(12)[:, None] % 2, test_images=x, test_labels=y
    )
    refuse(tmp_path / "med.npz", "give both the same way")


def test_npz_errors(tmp_path):
    path = tmp_path / "x.npz"
    x = np.zeros((4, 3))
    np.savez(path, x=x, labels=[0, 1, 0, 1])
    refuse(path, r"x: needs the arrays x_train, y_train, x_test and y_test \(or x and y\); it has x, labels")
    np.savez(path, x=x, y=np.array(["a", "b", None, "c"], dtype=object))
    refuse(path, "not an .npz file of plain arrays; save string labels as a string array, not as objects")
    path.write_bytes(b"PK\x03\x04 cut")
    refuse(path, "not an .npz file of plain arrays; save it anew")
    path.write_bytes(b"")
    refuse(path, "not an .npz file of plain arrays")
    with path.open("wb") as file:
        np.save(file, x)
    refuse(path, "holds one array")
    x[2, 1] = np.nan
    np.savez(path, x=x, y=[0, 1, 0, 1])
    refuse(path, r"x\[2, 1\] is nan")
