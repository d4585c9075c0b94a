"""Related samples lie on one side of a drawn split, and of what is held out to choose on, in every form of data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import encoded, put
from test_data_streamed import shard

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import SourceView, holdout, load
from potstill.data.groups import encode_groups, get_groups, join_groups, source_key, stratify_groups
from potstill.data.splits import stratify
from potstill.errors import PotstillError
from potstill.pretraining import training_part

UNITS, FRAMES = 8, 5


def colour(kind: int, unit: int, frame: int) -> tuple[int, int, int]:
    return (60 * kind, 20 * unit, 3 * frame)


def animated(root: Path, part: str = "", units: range = range(UNITS)) -> Path:
    """CLASS/UNIT/FRAME.png, as the frames of an animation lie."""
    for k, kind in enumerate(("elf", "orc")):
        for unit in units:
            for frame in range(FRAMES):
                put(root / part / kind / f"{kind}{unit}" / f"{frame}.png", encoded(colour(k, unit, frame)))
    return root


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [{"a": rng.normal(), "b": rng.normal(), "patient": f"p{k}{u}", "label": "xy"[k]}
         for k in range(2) for u in range(UNITS) for _ in range(FRAMES)]
    )  # fmt: skip


def pictures() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    frame = rows()
    x = np.random.default_rng(1).integers(0, 255, (len(frame), 6, 6), dtype=np.uint8)
    return x, (frame.label == "y").to_numpy().astype(int), frame.patient.to_numpy().astype(str)


def in_memory(tmp: Path) -> Splits:
    return load(animated(tmp), group="parent")


def by_expression(tmp: Path) -> Splits:
    return (
        load(animated(tmp), group=r"/(elf|orc)\d+/", split_seed=0) if False else load(animated(tmp), group=r"/(\w+)/")
    )


def streamed(tmp: Path) -> Splits:
    return load(animated(tmp), group="parent", stream=True)


def csv(tmp: Path) -> Splits:
    rows().to_csv(tmp / "x.csv", index=False)
    return load(tmp / "x.csv", group="patient")


def frame(tmp: Path) -> Splits:
    return load(rows(), group="patient")


def regression(tmp: Path) -> Splits:
    return load(rows().drop(columns="label"), label="a", group="patient", task="regression")


def npz(tmp: Path) -> Splits:
    x, y, groups = pictures()
    np.savez(tmp / "x.npz", x=x, y=y, groups=groups)
    return load(tmp / "x.npz", group="groups")


def array(tmp: Path) -> Splits:
    x, y, groups = pictures()
    return load((x, y), group=groups)


def parquet_of_pictures(tmp: Path, stream: bool = False) -> Splits:
    frame = rows()
    cells = [encoded((i, 255 - i, 7)) for i in range(len(frame))]
    pq.write_table(pa.table({"image": cells, "label": frame.label, "patient": frame.patient}), tmp / "x.parquet")
    return load(tmp / "x.parquet", group="patient", stream=stream)


def streamed_parquet(tmp: Path) -> Splits:
    return parquet_of_pictures(tmp, True)


def shards(tmp: Path, stream: bool = False) -> Splits:
    files = []
    for i, patient in enumerate(rows().patient):
        files += [(f"{patient}-{i}.png", encoded((i, 255 - i, 7))), (f"{patient}-{i}.cls", patient[1].encode())]
    return load(str(shard(tmp / "x.tar", files)), group=r"^p\d+", stream=stream)


def streamed_shards(tmp: Path) -> Splits:
    return shards(tmp, True)


def source(tmp: Path) -> Splits:
    x, y, groups = pictures()
    whole = load((x, y), group=groups, test_fraction=0).train
    return load(whole)


FORMS = [in_memory, by_expression, streamed, csv, frame, regression, npz, array, parquet_of_pictures, streamed_parquet,
         shards, streamed_shards, source]  # fmt: skip


def sides(splits: Splits) -> list[torch.Tensor]:
    assert splits.test is not None
    found = [get_groups(part) for part in (splits.train, splits.test)]
    assert found[0] is not None
    assert found[1] is not None
    return [found[0], found[1]]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_a_drawn_split_keeps_groups_whole(form: Callable[[Path], Splits], tmp_path: Path) -> None:
    splits = form(tmp_path)
    train, test = sides(splits)
    assert not set(train.tolist()) & set(test.tolist())
    assert len(torch.cat([train, test]).unique()) == 2 * UNITS
    assert (len(train), len(test)) in {(60, 20), (65, 15)}  # whole groups of five, of a fifth of 80
    assert len(splits.train.labels.unique()) == len(splits.test.labels.unique())  # type: ignore[union-attr]
    assert any("whole groups, near 20%" in note for note in splits.notes)
    assert splits.train.fetch(torch.arange(3)).columns["group"].tolist() == train[:3].tolist()
    kept, held = holdout(splits.train, 0.25, 7)
    parts = [get_groups(part) for part in (kept, held)]
    assert not set(parts[0].tolist()) & set(parts[1].tolist())  # type: ignore[union-attr]
    looked = SourceView.of(splits.train, splits.train.normalization).subset(torch.arange(0, 40, 3))
    assert get_groups(looked).tolist() == train[::3][: len(looked)].tolist()  # type: ignore[union-attr]
    seen = set(training_part(splits.train, 0.25).tolist())
    assert {g for i, g in enumerate(train.tolist()) if i in seen}.isdisjoint(
        {g for i, g in enumerate(train.tolist()) if i not in seen}
    )


def test_streamed_or_not_the_split_is_the_same(tmp_path: Path) -> None:
    for many, few in ((in_memory, streamed), (parquet_of_pictures, streamed_parquet), (shards, streamed_shards)):
        a, b = many(tmp_path / many.__name__ if many is in_memory else tmp_path), None
        b = few(tmp_path / many.__name__ if many is in_memory else tmp_path)
        assert [g.tolist() for g in sides(a)] == [g.tolist() for g in sides(b)]
        assert torch.equal(a.test.labels, b.test.labels)  # type: ignore[union-attr]


def test_the_same_seed_draws_the_same_groups_and_another_other_ones() -> None:
    x, y, groups = pictures()
    drawn = [load((x, y), group=groups, seed=seed).test.content_hash for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert drawn[0] == drawn[1] != drawn[2]
    numbered = load((x, y), group=np.unique(groups, return_inverse=True)[1])
    assert numbered.test.content_hash == drawn[0]  # type: ignore[union-attr]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=8, max_size=80), st.integers(0, 5),
    st.sampled_from([0.1, 0.2, 0.5]),
)  # fmt: skip
def test_groups_stay_whole_classes_stay_trained_and_fractions_hold(
    samples: list[tuple[int, int]], seed: int, fraction: float
) -> None:
    labels, groups = torch.tensor([y for y, _ in samples]), torch.tensor([g for _, g in samples])
    kept, held = stratify_groups(labels, groups, fraction, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(samples)))
    assert not set(groups[kept].tolist()) & set(groups[held].tolist())
    assert set(labels[kept].tolist()) == set(labels.tolist())
    one_class = torch.zeros_like(labels)
    held = stratify_groups(one_class, groups, fraction, seed)[1]
    largest = int(torch.bincount(groups).max())
    if len(groups.unique()) > 1:
        assert abs(len(held) - max(1, round(fraction * len(samples)))) <= largest


def test_classes_in_one_group_each_cannot_be_split(tmp_path: Path) -> None:
    x, y, _ = pictures()
    with pytest.raises(
        PotstillError, match="no test split can be drawn that keeps 2 groups whole, because each class "
    ):
        load((x, y), group=y)
    for kind in ("ant", "bee"):
        for i in range(4):
            put(tmp_path / kind / f"{i}.png", encoded((i, 0, len(kind))))
    with pytest.raises(PotstillError, match="each class lies in one group; give smaller groups"):
        load(tmp_path, group="parent")
    groups = np.where(y == 0, 0, np.arange(len(y)))  # one class has but one group, the other many
    splits = load((x, y), group=groups)
    assert "arrays: 1 of 2 classes have no group to spare and no test samples" in splits.notes


def test_where_one_group_of_each_class_is_left_samples_are_held_out_and_it_is_said() -> None:
    x, y, _ = pictures()
    splits = load((x, y), group=2 * y + np.arange(len(y)) % 2, test_fraction=0.4)
    assert any("each class has one group left in training" in note for note in splits.notes)
    labels, groups = splits.train.labels, get_groups(splits.train)
    assert stratify(labels, 0.2, 0)[1].tolist() == stratify(labels, 0.2, 0, groups)[1].tolist() != []


def test_groups_across_a_split_that_was_given_are_counted(tmp_path: Path) -> None:
    animated(animated(tmp_path, "train", range(6)), "test", range(5, 8))
    for stream in (False, True):
        splits = load(tmp_path, group="parent", stream=stream)
        assert (
            f"{tmp_path.name}: 10 of 30 test samples are of groups that are in training, too (2 groups); scores on "
            "them flatter"
        ) in splits.notes
    x, y, groups = pictures()
    given_parts = load((x[:60], y[:60], x[60:], y[60:]), group=groups.astype("U1"))
    assert any("20 of 20 test samples are of groups that are in training" in note for note in given_parts.notes)
    table = rows()
    pair = load((table[::2], table[1::2]), group="patient")
    assert any("40 of 40 test samples" in note for note in pair.notes)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4], who=groups, who_test=groups[:4])
    assert any("4 of 4 test samples" in note for note in load(tmp_path / "x.npz", group="who").notes)


def test_a_column_of_groups_is_no_input_and_follows_rows_that_are_dropped() -> None:
    table = rows()
    table.loc[[3, 50], "a"] = np.nan
    splits = load(table, group="patient", missing="drop", test_fraction=0)
    assert splits.train.input.columns == ("a", "b")
    assert "frame: column 'patient' says the groups and is no input" in splits.notes
    expected = encode_groups(table.drop([3, 50]).patient.tolist())[0]
    assert get_groups(splits.train).tolist() == expected.tolist()  # type: ignore[union-attr]


def test_copies_and_groups_together_tear_neither_apart() -> None:
    x, y, groups = pictures()
    x[5] = x[0]  # a copy links the first two patients
    for seed in range(8):
        train, test = (
            {v.numpy().tobytes() for v in part.inputs}  # type: ignore[union-attr]
            for part in (lambda s: (s.train, s.test))(load((x, y), group=groups, duplicates="together", seed=seed))
        )
        assert not train & test
        first = sides(load((x, y), group=groups, duplicates="together", seed=seed))
        assert ({0, 1} <= set(first[0].tolist())) or ({0, 1} <= set(first[1].tolist()))
    assert join_groups(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7])).tolist() == [0, 0, 0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "group", "words"),
    [
        ("folder", r"(\d+)x", r"finds no group in elf/elf0/0\.png \(80 of 80 files\); give an expression that matches"),
        ("folder", "(", "is not a regular expression"),
        ("frame", "patent", "frame: there is no column 'patent' to group by; it has a, b, patient, label"),
        ("frame", "parent", "`group=parent` is for folders of files; of a table give a column"),
        ("frame", "label", "column 'label' is the label, and cannot say the groups, too"),
        ("frame", [1, 2, 3], "3 groups but 80 samples; give one group for each sample"),
        ("arrays", "who", "arrays has no column and no files to group by"),
        ("digits", "parent", "digits has no column and no files to group by; leave `group=` out"),
        ("mapping", "who", "there is no array 'who' to group by; it has x, y"),
    ],
)
def test_groups_that_cannot_be_told_are_refused(tmp_path: Path, data: str, group: Any, words: str) -> None:
    x, y, _ = pictures()
    forms: dict[str, Any] = {"folder": tmp_path, "frame": rows(), "arrays": (x, y), "mapping": {"x": x, "y": y}}
    animated(tmp_path)
    with pytest.raises(PotstillError, match=words) as caught:
        load(forms.get(data, data), group=group)
    assert "\n" not in str(caught.value)


def test_an_empty_cell_among_groups_is_refused() -> None:
    table = rows()
    table.loc[4, "patient"] = None
    with pytest.raises(PotstillError, match="row 5, column 'patient' is empty, so its group is not known"):
        load(table, group="patient")


def test_what_is_held_out_by_groups_is_kept_under_another_name() -> None:
    x, y, groups = pictures()
    plain, grouped = load((x, y), test_fraction=0).train, load((x, y), group=groups, test_fraction=0).train
    assert plain.content_hash == grouped.content_hash == source_key(plain) == source_key(grouped, held_out=False)
    assert source_key(grouped) != source_key(plain)


def test_the_command_line_groups_and_the_card_remembers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = animated(tmp_path / "units"), tmp_path / "s.safetensors"
    words = ["distill", str(root), "--group", "parent", "--method", "random", "--ipc", "1", "--out", str(out)]
    assert main(words) == 0
    assert "whole groups, near 20% of each class) were drawn as test" in capsys.readouterr().err
    card = potstill.load(out).metadata
    assert card["reading"]["group"] == "parent"
    again = potstill.load_data(root, **card["reading"])
    assert again.train.content_hash == card["source"]["hash"]
