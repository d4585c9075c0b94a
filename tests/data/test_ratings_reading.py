"""Reading interactions: names of columns, the three parts of each user's items, and input that is refused."""

import pandas as pd
import pytest
import torch

import potstill
from potstill.errors import PotstillError
from tests.ratings_data import shop_rows, write_shop


def frame(*rows, columns=("user", "item")):
    return pd.DataFrame(list(rows), columns=list(columns))


def many(users=4, items=14):
    return [(f"u{u}", f"i{(u + i) % (items + 2)}") for u in range(users) for i in range(items)]


def test_the_latest_items_are_tested_and_those_before_choose(tmp_path):
    splits = potstill.load_data(write_shop(tmp_path / "shop.csv"), kind="ratings")
    by_user: dict[str, list[tuple[int, str]]] = {}
    for user, item, _, time, _ in shop_rows():
        by_user.setdefault(user, []).append((time, item))
    names = splits.train.input.columns
    interactions = splits.test.interactions
    for at, user in enumerate(splits.train.names):
        items = [item for _, item in sorted(by_user[user])]
        assert len(items) == 12
        tested = {names[i] for i in interactions.held_out(torch.tensor([at]))[0].nonzero().flatten()}
        chosen = {names[i] for i in splits.train.interactions.held_out(torch.tensor([at]))[0].nonzero().flatten()}
        assert tested == set(items[-2:])  # 20 % of 12, rounded
        assert chosen == {items[-3]}  # 10 %
        assert {names[i] for i in splits.train.inputs[at].nonzero().flatten()} == set(items[:-3])
        assert {names[i] for i in splits.test.inputs[at].nonzero().flatten()} == set(items[:-2])
    assert splits.train.names[:3] == ("u0", "u1", "u10")
    assert splits.train.task.titles[0] == f"Thing <{names[0].removeprefix('i')}>"
    assert "60 users, 36 items, 720 interactions" in splits.notes[0]


def test_without_times_items_are_drawn_by_the_seed(tmp_path):
    path = write_shop(tmp_path / "shop.csv", ("user", "item", "rating"))
    first, again, other = (potstill.load_data(path, kind="ratings", split_seed=s) for s in (0, 0, 1))
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert first.test.content_hash == again.test.content_hash != other.test.content_hash
    assert not torch.equal(first.test.inputs, other.test.inputs)
    drawn = potstill.load_data(write_shop(tmp_path / "timed.csv"), task="recommendation:order=random")
    assert torch.equal(drawn.train.inputs, first.train.inputs)


def test_parts_of_a_user_are_disjoint_and_each_has_one():
    rows = [*many(), *((f"few{u}", f"i{i}") for u in range(3) for i in range(u, u + 5))]
    splits = potstill.load_data(frame(*rows), kind="ratings", test_fraction=0.9)
    found = splits.test.interactions
    for lists in (found.train, found.validation, found.test):
        assert int(lists.lengths.min()) >= 1
    everybody = torch.arange(len(splits.train))
    parts = [lists.rows(everybody, found.count) for lists in (found.train, found.validation, found.test)]
    assert not any(bool((a & b).any()) for a, b in ((parts[0], parts[1]), (parts[0], parts[2]), (parts[1], parts[2])))
    assert sum(int(part.sum()) for part in parts) == len(rows)
    assert potstill.load_data(frame(*rows), kind="ratings", test_fraction=0).test is None


@pytest.mark.parametrize("columns", [("user_id:token", "item_id:token"), ("UserId", "movieId"), ("Customer", "ISBN")])
def test_names_of_columns(columns):
    splits = potstill.load_data(frame(*many(), columns=columns), kind="ratings")
    assert splits.train.input.kind == "ratings"
    assert splits.train.input.shape == (16,)


def test_parquet_and_the_column_that_label_names(tmp_path):
    frame(*many(), columns=("user", "what")).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(PotstillError, match="needs a column called 'item', but has 'user', 'what'; rename"):
        potstill.load_data(tmp_path / "a.parquet", kind="ratings")
    assert potstill.load_data(tmp_path / "a.parquet", kind="ratings", label="what").train.input.shape == (16,)


def test_repeats_count_once_and_ratings_below_the_least_do_not_count():
    rows = [(*pair, 5) for pair in many()]
    splits = potstill.load_data(frame(*rows, *rows[:7], columns=("user", "item", "rating")), kind="ratings")
    assert any("7 interactions stood there again and count once" in note for note in splits.notes)
    low = frame(*rows, ("u0", "unloved", 1), columns=("user", "item", "rating"))
    assert potstill.load_data(low, kind="ratings").train.input.shape == (17,)
    kept = potstill.load_data(low, task="recommendation:rating=3")
    assert kept.train.input.shape == (16,)
    assert any("1 ratings below 3 do not count as met" in note for note in kept.notes)


def test_users_with_few_items_are_left_out():
    splits = potstill.load_data(frame(*many(), ("late", "i1"), ("late", "i2")), kind="ratings")
    assert "late" not in splits.train.names
    assert any("1 users with fewer than 5 interactions were left out" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([*many(), ("u0", None)], ("user", "item"), "row 57 has no item in column 'item'; fill it or remove the row"),
        ([*many(), (" ", "i1")], ("user", "item"), "row 57 has no user in column 'user'"),
        ([(f"u{u}", "one") for u in range(9)], ("user", "item"), "a user needs 5 interactions, but the most that one"),
        ([(f"u{u}", f"i{i}") for u in range(9) for i in range(7)], ("user", "item"), "there are 7 in all; give data"),
        ([], ("user", "item"), "there are no interactions"),
        ([(*p, "good") for p in many()], ("user", "item", "rating"), "row 1: rating 'good' in column 'rating' must"),
        ([(*p, float("nan")) for p in many()], ("user", "item", "rating"), "row 1 has no finite rating"),
        ([(*p, "soon") for p in many()], ("user", "item", "timestamp"), "row 1: time 'soon' in column 'timestamp'"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_in_one_line(rows, columns, message):
    with pytest.raises(PotstillError) as error:
        potstill.load_data(frame(*rows, columns=columns), kind="ratings")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "recommendation:order=age"}, "order must be auto, time or random, not 'age'"),
        ({"task": "recommendation:least=2"}, "least must be at least 3"),
        ({"task": "recommendation:validation=0.0"}, "validation must lie between 0 and 1"),
        ({"task": "recommendation:order=time"}, "order=time needs a column of times"),
        ({"task": "recommendation:rating=3"}, "needs a column called 'rating'"),
        ({"kind": "ratings", "missing": "drop"}, "interactions are read without `missing=`; leave it out"),
        ({"kind": "ratings", "label": "thing"}, "column"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options, message):
    with pytest.raises(PotstillError, match=message.replace("(", r"\(")):
        potstill.load_data(frame(*many()), **options)


def test_data_that_are_no_table_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("user,item")
    with pytest.raises(PotstillError, match="interactions are read from a csv, parquet or jsonl file"):
        potstill.load_data(tmp_path / "a.txt", kind="ratings")
    with pytest.raises(PotstillError, match="no such file"):
        potstill.load_data(tmp_path / "no.csv", kind="ratings")
    with pytest.raises(PotstillError, match="not from a dict"):
        potstill.load_data({"user": [1]}, kind="ratings")
