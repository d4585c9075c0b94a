"""Data whose targets are no classes: numbers, the next values of a series, the other view of a pair."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from potstill import load_data
from potstill.core import Source
from potstill.core.nested import index
from potstill.data import SeriesSource, TensorSource, holdout
from potstill.data.pairs import WORDS, hash_words
from potstill.errors import PotstillError
from potstill.nn import factory
from potstill.tasks import Forecast, Regression, Retrieval
from potstill.testing import check_source

ROWS = "size,kind,price\n" + "".join(f"{i},{'ab'[i % 2]},{10 * i + 5}\n" for i in range(20))


def table(path: Path, text: str = ROWS) -> Path:
    path.write_text(text)
    return path


def series(length: int = 120, variables: int = 2) -> np.ndarray[Any, Any]:
    t = np.arange(length)[:, None]
    return np.asarray(np.sin(t / 7) * np.arange(1, variables + 1) + t / 50)


def pairs_in(folder: Path, n: int = 12) -> Path:
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    rows = []
    for i in range(n):
        name, colour = list(colours.items())[i % 3]
        Image.new("RGB", (8, 8), tuple(v * (i + 1) // n for v in colour)).save(folder / f"{i}.png")  # type: ignore[arg-type]
        rows.append({"file_name": f"{i}.png", "text": f"{name} square number {i}"})
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    return folder


# --- real targets ------------------------------------------------------------------------------------------------


def test_a_column_of_numbers_is_a_real_target(tmp_path: Path) -> None:
    splits = load_data(table(tmp_path / "houses.csv"), label="price", task="regression")
    train = splits.train
    assert isinstance(train, TensorSource)
    assert train.classes == ()
    assert isinstance(train.task, Regression)
    y = train.targets
    assert y is not None
    assert train.task == Regression(
        targets=("price",), mean=(float(y.double().mean()),), std=(float(y.double().std(correction=0)),)
    )  # of the training part alone
    x = train.raw(torch.arange(len(train)))
    assert torch.equal(10 * x[:, 0] + 5, y[:, 0])  # each row has its own target
    assert x.shape[1] == 3  # the category became two columns
    check_source(train)


def test_rows_without_a_target_are_left_out_where_missing_values_are_dealt_with(tmp_path: Path) -> None:
    path = table(tmp_path / "houses.csv", ROWS + "77,a,\n,b,50\n")
    with pytest.raises(PotstillError, match="row 21"):
        load_data(path, label="price", task="regression")
    splits = load_data(path, label="price", task="regression", missing="impute", test_fraction=0)
    assert len(splits.train) == 21
    assert any("1 rows without a target were left out" in note for note in splits.notes)
    kept = load_data(path, label="price", task="regression", missing="drop", test_fraction=0).train
    assert torch.equal(10 * kept.raw(torch.arange(20))[:, 0] + 5, kept.targets[:, 0])  # type: ignore


@pytest.mark.parametrize("label", ["kind"])
def test_a_target_of_words_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(PotstillError, match="must be a column of numbers, but 'kind' holds string"):
        load_data(table(tmp_path / "houses.csv"), label=label, task="regression")


def test_arrays_have_targets_too(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(60.0).reshape(30, 2)
    splits = load_data((x, y, x[:5], y[:5]), task="regression")
    assert splits.train.task.outputs == 2  # type: ignore
    assert torch.equal(splits.test.targets, torch.from_numpy(y[:5]).float())  # type: ignore
    np.savez(tmp_path / "a.npz", x=x, y=y)
    again = load_data(tmp_path / "a.npz", task="regression", test_fraction=0)
    assert torch.equal(again.train.targets, splits.train.targets)  # type: ignore
    with pytest.raises(PotstillError, match="finite"):
        load_data((x, y + np.inf), task="regression")


# --- series ------------------------------------------------------------------------------------------------------


def test_windows_are_cut_from_one_series() -> None:
    values = series()
    splits = load_data(values, task="forecast:window=6,horizon=3")
    train = splits.train
    assert isinstance(train, SeriesSource)
    batch = train.fetch(torch.tensor([5, 0]))
    assert batch.y is not None
    assert isinstance(batch.x, torch.Tensor)
    assert batch.x.shape == (2, 2, 6)
    window = torch.from_numpy(values[5:11].T).float()
    assert torch.equal(train.raw(torch.tensor([5]))[0], window)
    assert torch.equal(batch.y[0], torch.from_numpy(values[11:14].T.reshape(-1)).float())
    assert train.raw(torch.arange(len(train))).untyped_storage().nbytes() > train.series.untyped_storage().nbytes()
    check_source(train)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(60, 120), st.floats(0.3, 0.6))
def test_no_window_has_values_of_both_sides(window: int, horizon: int, length: int, fraction: float) -> None:
    splits = load_data(
        series(length, 1), task=Forecast(window=window, horizon=horizon), test_fraction=fraction
    )  # fmt: skip
    train, test = splits.train, splits.test
    assert isinstance(train, SeriesSource)
    assert isinstance(test, SeriesSource)
    assert int(train.starts.max()) + window + horizon <= int(test.starts.min())
    kept, held = holdout(train, 0.4, 0)
    assert int(kept.starts.max()) + window + horizon <= int(held.starts.min())
    assert set(held.starts.tolist()) <= set(train.starts.tolist())


def test_gaps_are_filled_forwards_only(tmp_path: Path) -> None:
    path = table(tmp_path / "s.csv", "day,flow\n" + "".join(f"d{i},{'' if i == 9 else i}\n" for i in range(40)))
    with pytest.raises(PotstillError, match='1 values are missing; `missing="impute"`'):
        load_data(path, task="forecast:window=3,horizon=2")
    train = load_data(path, task="forecast:window=3,horizon=2", missing="impute").train
    assert isinstance(train, SeriesSource)
    assert train.series[8:11, 0].tolist() == [8, 8, 10]


@pytest.mark.parametrize(("task", "words"), [
    ("forecast:window=100,horizon=50", "take 150 points in time, but there are 120"),
    ("forecast:window=60,horizon=20", "hold no window of 80"),
    ("forecast:window=0", "must be at least 1"),
    ("forecast:windw=3", "did you mean window"),
])  # fmt: skip
def test_a_series_that_is_too_short_is_refused(task: str, words: str) -> None:
    with pytest.raises(PotstillError, match=words):
        load_data(series(), task=task)


# --- pairs -------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_with_texts_is_pairs(tmp_path: Path) -> None:
    splits = load_data(pairs_in(tmp_path), task="retrieval", test_fraction=0.25)
    train = splits.train
    assert isinstance(train, TensorSource)
    assert isinstance(train.task, Retrieval)
    assert (len(train), len(splits.test or ())) == (9, 3)
    x = index(train.inputs, torch.tensor([4]))
    assert x["text/values"].tolist() == hash_words(train.texts[4])
    number = int(train.texts[4].split()[-1])
    assert train.names[4] == f"{number}.png"
    assert torch.equal(train.targets, torch.tensor([int(t.split()[-1]) for t in train.texts]))  # type: ignore
    check_source(train)


def test_a_tower_for_each_view_learns_what_belongs_together(tmp_path: Path) -> None:
    train = load_data(pairs_in(tmp_path, 9), task="retrieval:k=1", test_fraction=0).train
    assert isinstance(train.task, Retrieval)  # type: ignore
    task: Retrieval = train.task  # type: ignore
    network = factory("towers-w4", train.input, task.outputs)(0)
    batch = train.fetch(torch.arange(9))
    assert batch.y is not None
    moves = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        moves.zero_grad()
        task.loss(network(batch.x), batch.y).backward()
        moves.step()
    assert task.score(task.predict(network(batch.x).detach()), batch.y) > 0.8 > 3 * task.chance_score(batch.y)


def captions_in(folder: Path, n: int = 20, of_each: int = 5) -> Path:
    """The layout of Flickr8k and COCO: several captions of each picture."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows += [f"{i}.png,way {j} of saying {i},{i // 4}" for j in range(of_each)]
    (folder / "metadata.csv").write_text("file_name,text,scene\n" + "\n".join(rows) + "\n")
    return folder


def test_captions_of_one_picture_have_one_target_and_lie_on_one_side(tmp_path: Path) -> None:
    splits = load_data(captions_in(tmp_path), task="retrieval")
    train, test = splits.train, splits.test
    assert isinstance(train, TensorSource)
    assert isinstance(test, TensorSource)
    assert not set(train.names) & set(test.names)
    assert (len(train), len(test)) == (80, 20)
    for part in (train, test):
        assert part.targets is not None
        assert part.targets.tolist() == [int(name.removesuffix(".png")) for name in part.names]
    assert f"{tmp_path.name}: 100 texts of 20 pictures; those of one picture stay together" in splits.notes
    kept, held = holdout(train, 0.25, 3)  # as a learning rate is chosen
    assert isinstance(kept, TensorSource)
    assert isinstance(held, TensorSource)
    assert not set(kept.names) & set(held.names)
    assert len(held) == 20
    again = load_data(tmp_path, task="retrieval")
    assert again.train.content_hash == train.content_hash
    assert load_data(tmp_path, task="retrieval", split_seed=1).train.content_hash != train.content_hash


def test_captions_are_grouped_by_a_column_or_by_copies_too(tmp_path: Path) -> None:
    splits = load_data(captions_in(tmp_path), task="retrieval", group="scene")
    assert isinstance(splits.train, TensorSource)
    assert isinstance(splits.test, TensorSource)
    scenes = [{int(name.removesuffix(".png")) // 4 for name in part.names} for part in (splits.train, splits.test)]
    assert not scenes[0] & scenes[1]
    (tmp_path / "19.png").write_bytes((tmp_path / "0.png").read_bytes())  # one picture under two names
    copied = load_data(tmp_path, task="retrieval", test_fraction=0).train
    assert copied.targets[-1] == copied.targets[0] == 0  # type: ignore[attr-defined]


def test_captions_beside_arrays_of_pictures() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), dtype=np.uint8).repeat(3, 0)
    train = load_data((pictures, [f"text {i}" for i in range(18)]), task="retrieval", test_fraction=0).train
    assert train.targets.tolist() == [i // 3 for i in range(18)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("cell", ["", "  ", None])
def test_an_empty_caption_is_refused(tmp_path: Path, suffix: str, cell: str | None) -> None:
    rows = [{"file_name": f"{i}.png", "text": cell if i == 1 else f"number {i}"} for i in range(3)]
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    lines = [f"{row['file_name']},{row['text'] or ''}" for row in rows]
    text = "\n".join(["file_name,text", *lines] if suffix == "csv" else [json.dumps(row) for row in rows])
    (tmp_path / f"metadata.{suffix}").write_text(text)
    with pytest.raises(PotstillError, match=r"row 2 \(1\.png\) is empty in column 'text'; fill it or remove the row"):
        load_data(tmp_path, task="retrieval")


@pytest.mark.parametrize(("rows", "words"), [
    ("", "has none"),
    ("file_name,words\n0.png,x\n", "needs the columns file_name and text"),
    ("file_name,text\n../0.png,x\n", "leads out of the folder"),
    ("file_name,text\n7.png,x\n", "7.png"),
])  # fmt: skip
def test_metadata_that_cannot_be_read_are_refused(tmp_path: Path, rows: str, words: str) -> None:
    folder = pairs_in(tmp_path, 3)
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text(rows or "file_name,text\n")
    with pytest.raises(PotstillError, match=words):
        load_data(folder, task="retrieval")


@given(st.text(max_size=30))
def test_every_text_has_words(text: str) -> None:
    words = hash_words(text)
    assert words
    assert all(0 <= w < WORDS for w in words)
    assert words == hash_words(text.upper()) or text.upper().lower() != text.lower()


def test_networks_of_one_tensor_refuse_pairs(tmp_path: Path) -> None:
    train: Source = load_data(pairs_in(tmp_path), task="retrieval").train
    with pytest.raises(PotstillError, match="takes inputs of one tensor, but these have image, text; use towers"):
        factory("convnet", train.input, 4)
    with pytest.raises(PotstillError, match="towers takes pairs"):
        factory("towers", load_data("digits").train.input, 4)
