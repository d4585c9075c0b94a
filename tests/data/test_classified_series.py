"""Series with a class each are read from tables, folders, files of the archives and arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.data.series_files import archive_pair
from tests.series_data import classified

TS = """# a comment
@problemName small
@timeStamps false
@missing {missing}
@univariate false
@equalLength true
@classLabel true walk run
@data
1,2,3:4,5,6:walk
{row}:run
7,8,9:1,1,2:walk
0,0,1:2,2,2:run
"""


def raw(splits: Splits) -> torch.Tensor:
    """Return the training series in data units."""
    return splits.train.raw(torch.arange(len(splits.train)))


def write_ts(folder: Path, row: str = "3,2,1:6,5,4", name: str = "Small", missing: str = "false") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for part in ("TRAIN", "TEST"):
        (folder / f"{name}_{part}.ts").write_text(TS.format(row=row, missing=missing))
    return folder / f"{name}_TRAIN.ts"


def long_table(length: int = 8) -> pd.DataFrame:
    """Return a table in long form, rows in no order, of 12 series of 2 subjects with 2 classes."""
    rows = [
        {
            "id": f"s{n}", "t": t, "ax": np.sin(t * (1 + n % 2)) + n, "ay": float(t * t % 5), "who": n % 4,
            "label": "ab"[n % 2],
        }
        for n in range(12) for t in range(length)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def test_a_file_of_the_archive_is_read_with_its_test_part(tmp_path: Path) -> None:
    path = write_ts(tmp_path / "Small")
    for data in (path, str(path), path.parent):
        splits = potstill.load_data(data)
        assert splits.train.input.kind == "signal"
        assert splits.train.input.shape == (2, 3)
        assert splits.train.classes == ("walk", "run")  # in the order of the file
        assert splits.train.labels.tolist() == [0, 1, 0, 1]
        assert raw(splits)[0].tolist() == [[1, 2, 3], [4, 5, 6]]
        assert splits.test is not None
        assert len(splits.test) == 4


def test_arff_and_plain_rows_hold_the_same(tmp_path: Path) -> None:
    values = np.arange(24).reshape(8, 3) + 0.5
    plain = "".join(f"{n % 2 + 1}.0000\t" + "\t".join(map(str, v)) + "\n" for n, v in enumerate(values))
    (tmp_path / "A_TRAIN.tsv").write_text(plain)
    text = "@relation a\n@attribute x numeric\n@data\n"
    text += "".join(",".join(map(str, v)) + f",{n % 2 + 1}\n" for n, v in enumerate(values))
    (tmp_path / "a.arff").write_text(text)
    tsv, arff = (potstill.load_data(tmp_path / n, test_fraction=0) for n in ("A_TRAIN.tsv", "a.arff"))
    assert torch.equal(raw(tsv), raw(arff))
    assert torch.equal(raw(tsv), torch.tensor(values[:, None], dtype=torch.float32))
    assert tsv.train.classes == ("1", "2")
    (tmp_path / "two.arff").write_text("@data\n'1,2\\n3,4',up\n'5,6\\n7,8',\"down\"\n")
    two = potstill.load_data(tmp_path / "two.arff", test_fraction=0)
    assert raw(two).tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert two.train.classes == ("down", "up")


def test_a_folder_with_several_sets_is_read_by_its_name(tmp_path: Path) -> None:
    write_ts(tmp_path / "Small")
    write_ts(tmp_path / "Small", name="Small_eq")
    pair = archive_pair(tmp_path / "Small")
    assert pair is not None
    assert pair[0].name == "Small_TRAIN.ts"
    write_ts(tmp_path / "x", name="Other")
    write_ts(tmp_path / "x")
    with pytest.raises(
        potstill.PotstillError, match=r"holds 2 sets of series \(Other, Small, …\); give the file of one"
    ):
        potstill.load_data(tmp_path / "x")


def test_a_long_table_is_sorted_by_series_and_time(tmp_path: Path) -> None:
    table = long_table()
    table.to_csv(tmp_path / "long.csv", index=False)
    table.to_parquet(tmp_path / "long.parquet", index=False)
    in_order = table.sort_values(["id", "t"], kind="stable")
    by_hand = {name: rows[["ax", "ay"]].to_numpy().T for name, rows in in_order.groupby("id")}
    for data in (table, tmp_path / "long.csv", tmp_path / "long.parquet"):
        splits = potstill.load_data(data, series="id", label="label", group="who", test_fraction=0.5)
        train = splits.train
        assert train.input.columns == ("ax", "ay")
        assert splits.test is not None
        for source in (train, splits.test):
            for n, name in enumerate(source.names):
                stored = source.raw(torch.tensor([n]))[0]
                assert torch.allclose(stored, torch.tensor(by_hand[name], dtype=torch.float32))
                assert source.classes[int(source.labels[n])] == "ab"[int(name[1:]) % 2]
        subjects = [{int(name[1:]) % 4 for name in source.names} for source in (train, splits.test)]
        assert not subjects[0] & subjects[1]  # a subject is on one side
        assert any("column 't' is the time" in note for note in splits.notes)
        assert not any("window" in note or "forecast" in note for note in splits.notes)


def test_a_wide_table_has_a_series_in_each_row(tmp_path: Path) -> None:
    x, y = classified(channels=1, length=6)
    table = pd.DataFrame(x[:, 0], columns=[f"t{i}" for i in range(6)]).assign(label=y)
    splits = potstill.load_data(table, kind="series", test_fraction=0)
    assert torch.equal(raw(splits), torch.tensor(x, dtype=torch.float32))


def test_a_folder_of_tables_by_class(tmp_path: Path) -> None:
    for part, each in (("train", 3), ("test", 1)):
        for name in ("sit", "walk"):
            (tmp_path / part / name).mkdir(parents=True)
            for n in range(each):
                rows = "".join(f"{t},{t * n},{len(name)}.5\n" for t in range(5))
                (tmp_path / part / name / f"{n}.csv").write_text("time,x,y\n" + rows)
    splits = potstill.load_data(tmp_path)
    assert splits.train.input.shape == (2, 5)
    assert splits.train.input.columns == ("x", "y")
    assert (len(splits.train), len(splits.test or ())) == (6, 2)
    assert raw(splits)[5].tolist() == [[0, 2, 4, 6, 8], [4.5] * 5]
    (tmp_path / "train" / "sit" / "0.csv").write_text("time,x,z\n0,1,2\n")
    with pytest.raises(potstill.PotstillError, match=r"its columns are x, y, but those of the first file x, z"):
        potstill.load_data(tmp_path)


def test_a_folder_of_tables_without_a_head(tmp_path: Path) -> None:
    for n, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.csv").write_text(f"{n},1.5\n{i},-2e0\n")
    assert raw(potstill.load_data(tmp_path, test_fraction=0))[3].tolist() == [[1, 1], [1.5, -2]]


def test_arrays_of_equal_and_of_several_lengths(tmp_path: Path) -> None:
    x, y = classified()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    for data in ((x, y), {"x": x, "y": y}, tmp_path / "a.npz", (list(x), y), (torch.tensor(x), y)):
        assert torch.equal(raw(potstill.load_data(data, kind="series", test_fraction=0)), torch.tensor(x).float())
    with_test = potstill.load_data((x, y, x[::2], y[::2]), kind="series")
    assert len(with_test.test or ()) == 18
    flat = potstill.load_data((x[:, 0], y), kind="series", test_fraction=0)
    assert flat.train.input.shape == (1, 32)
    ragged = [s[:, : 20 + n % 5] for n, s in enumerate(x)]
    with pytest.raises(potstill.PotstillError, match="must have one length, but they have 20 to 24 points"):
        potstill.load_data((ragged, y), kind="series")
    padded = potstill.load_data((ragged, y), kind="series", representation="pad", test_fraction=0)
    assert padded.train.input.shape == (2, 24)
    assert raw(padded)[0, 0].tolist() == pytest.approx([*x[0, 0, :20], *[x[0, 0, 19]] * 4])
    assert (
        "series of 20 to 24 points are filled with their last value, or cut at the end, to 24 points" in padded.notes[0]
    )
    short = potstill.load_data((ragged, y), kind="series", representation="pad:length=21", test_fraction=0)
    assert raw(short)[4, 1].tolist() == pytest.approx(x[4, 1, :21].tolist())


def test_a_resampled_line_is_a_line() -> None:
    lines = [np.linspace(0, 1, n) for n in (5, 9, 17, 33)]
    splits = potstill.load_data(
        (lines, [0, 1, 0, 1]), kind="series", representation="resample:length=11", test_fraction=0
    )
    assert torch.allclose(raw(splits), torch.linspace(0, 1, 11).expand(4, 1, 11), atol=1e-6)
    median = potstill.load_data((lines, [0, 1, 0, 1]), kind="series", representation="resample", test_fraction=0)
    assert median.train.input.shape == (1, 13)


def test_series_are_scaled_by_channel_or_each_by_itself() -> None:
    x, y = classified()
    x = x * np.array([1.0, 1000.0])[:, None] + np.arange(len(x))[:, None, None]
    by_channel = potstill.load_data((x, y), kind="series", test_fraction=0).train.fetch(torch.arange(36)).x
    assert isinstance(by_channel, torch.Tensor)
    assert torch.allclose(by_channel.mean((0, 2)), torch.zeros(2), atol=1e-4)
    assert torch.allclose(by_channel.std((0, 2), correction=0), torch.ones(2), atol=1e-4)
    each = raw(potstill.load_data((x, y), kind="series", representation="plain:scale=series", test_fraction=0))
    assert torch.allclose(each.mean(2), torch.zeros(36, 2), atol=1e-4)
    assert torch.allclose(each.std(2, correction=0), torch.ones(36, 2), atol=1e-4)
    still = np.concatenate([x, np.full((2, 2, 32), 7.0)])
    flat = potstill.load_data((still, [*y, 0, 1]), kind="series", representation="plain:scale=series", test_fraction=0)
    assert raw(flat)[-1].abs().max() == 0


def test_missing_values_are_refused_drawn_over_or_left_out(tmp_path: Path) -> None:
    path = write_ts(tmp_path / "Small", row="?,2,4:6,?,4", missing="true")
    with pytest.raises(potstill.PotstillError, match=r"2 values are missing in 1 of 4 series \(the first: series 2\)"):
        potstill.load_data(path)
    filled = potstill.load_data(path, missing="impute")
    assert raw(filled)[1].tolist() == [[2, 2, 4], [6, 5, 4]]
    assert any("2 missing values in 1 series were filled on lines" in note for note in filled.notes)
    assert len(potstill.load_data(path, missing="drop").train) == 3
    x, y = classified(length=10)
    x[3, :, 7:] = np.nan  # missing to the end: a shorter series
    with pytest.raises(potstill.PotstillError, match="they have 7 to 10 points"):
        potstill.load_data((x, y), kind="series")
    cut = potstill.load_data((x, y), kind="series", representation="pad", test_fraction=0)
    assert "1 series end in missing values, which are cut off: 3 points in all" in cut.notes[0]
    x[1, :, 2:] = np.nan
    cut = potstill.load_data((x, y), kind="series", representation="resample", test_fraction=0)
    assert (
        "2 series end in missing values, which are cut off: 11 points in all, of one series at most 8" in cut.notes[0]
    )
    assert not any("cut off" in note for note in filled.notes)
    x[3, 0, :] = np.nan
    with pytest.raises(potstill.PotstillError, match="series 4 has no value in channel 1"):
        potstill.load_data((x, y), kind="series", representation="pad", missing="impute")


@pytest.mark.parametrize(("text", "message"), [
    ("@data\n1,2:a\nx,2:b\n", "line 3: 'x' is not a number"),
    ("@data\n1,2:1:a\n", "line 2: the channels of a series must have one length, but they have 2, 1"),
    ("@data\n1,2\n", "line 2 has no class after a colon"),
    ("@data\n", "no series after the line @data"),
    ("1,2:a\n", "no line @data"),
    ("@classLabel false\n@data\n1,2\n", "have no classes"),
])  # fmt: skip
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "b.ts").write_text(text)
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.load_data(tmp_path / "b.ts")


def changed(**columns: Any) -> pd.DataFrame:
    return long_table().assign(**columns)


@pytest.mark.parametrize(("data", "options", "message"), [
    (changed(label=["a", "b"] * 48), {"series": "id"}, r"a series has one class, but 's\d+' has '.' and '.' in column"),
    (long_table(), {"series": "nobody"}, "nobody"),
    (long_table(), {"series": "id", "group": "nobody"}, "nobody"),
    (long_table()[["id", "label"]], {"series": "id"}, "no column holds the values of a channel"),
    ((np.zeros((4, 3)), [0, 1, 0, 1]), {"kind": "series", "label": "y"}, "arrays of series has no columns"),
    ((np.zeros((4, 3, 2, 2)), [0, 1, 0, 1]), {"kind": "series"}, r"series are \(n, channels, length\)"),
    ((np.zeros((4, 3)), [0, 1]), {"kind": "series"}, "4 series but 2 labels"),
    ((np.full((4, 3), np.inf), [0, 1, 0, 1]), {"kind": "series"}, "inf"),
    (([np.zeros((2, 3)), np.zeros((3, 3))], [0, 1]), {"kind": "series"}, "series 2 has 3 channels, the first one 2"),
    ((np.zeros((4, 3)), [0, 1, 0, 1]), {"kind": "series", "representation": "wavelet"}, "pad"),
    ((np.zeros((4, 3)), [0, 1, 0, 1]), {"kind": "series", "representation": "plain:length=2"}, "leaves series as long"),
    ((np.zeros((4, 3)), [0, 1, 0, 1]), {"kind": "series", "representation": "pad:scale=no"}, "scale of series"),
    ((np.zeros((4, 3)), [0, 1, 0, 1]), {"kind": "series", "size": 8}, "leave it out"),
    ("nowhere", {"kind": "series"}, "no such file or folder"),
])  # fmt: skip
def test_what_is_refused(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(potstill.PotstillError, match=message):
        potstill.load_data(data, **options)
