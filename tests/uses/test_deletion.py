"""Deletion and growth: exactness by hash, what is made again, resuming, membership tests, and bad input."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.core import Normalization, Splits
from potstill.data import TensorSource
from potstill.dataset_file.concat import split_joined
from potstill.errors import PotstillError
from potstill.execution import Processes, Serial
from potstill.runs import runner
from potstill.uses import deletion
from potstill.uses.continual import Learner
from potstill.uses.deletion import (
    Update,
    content_hash,
    delete_records,
    extend,
    job,
    make_again,
    make_deletable,
    membership,
    named_rows,
    numbered_rows,
)
from potstill.uses.deletion.membership import auc_within_classes
from potstill.uses.deletion.records import record_digests
from potstill.uses.deletion.update import join_records

DM: dict[str, Any] = {
    "method": "dm", "network": "convnet-w8-d1", "steps": 3, "batch_real": 8, "preset": "quick", "executor": "serial",
}  # fmt: skip
QUICK = Learner(network="convnet-w8-d1", steps=5)
FIXED = Normalization(torch.tensor([0.3]), torch.tensor([0.2]))


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of units for which an executor was chosen; processes would take longer to start than these units."""
    numbers = list[int]()

    def choose(count: int, *_: object) -> Serial:
        numbers.append(count)
        return Serial()

    monkeypatch.setattr(job, "choose_executor", choose)
    return numbers


def pictures(classes: int = 4, per_class: int = 30, seed: int = 0, groups: int = 0, first: int = 0) -> TensorSource:
    """Return pictures of 8 × 8 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(per_class)
    x = torch.randint(0, 80, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y + first] += 150
    names = [str(c + first) for c in range(classes)]
    source = TensorSource.make(x, [names[c] for c in y.tolist()], classes=names, name="rows", normalization=FIXED)
    return replace(source, groups=torch.arange(len(y)) // classes % groups) if groups else source


def as_data(train: TensorSource) -> Splits:
    return Splits(train=train, test=None)


def left_of(train: TensorSource, rows: list[int]) -> Splits:
    """Return the data without these rows."""
    return as_data(train.subset(torch.tensor([i for i in range(len(train)) if i not in rows])))


def make(train: TensorSource, **options: Any) -> Update:
    return make_deletable(as_data(train), **{**DM, "ipc": 2, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parts": 2, "codec": "uint4"},
        {"parametrization": "tiles:factor=2", "codec": "float32"},
        {"method": "m3d", "parametrization": "pixels"},
        {"method": "herding"},
        {"method": "random", "parts": 2},
        {"method": "k-means", "codec": "float32"},
    ],
    ids=["dm", "parts", "tiles", "m3d", "herding", "random", "k-means"],
)
def test_a_set_after_deletion_has_the_bits_of_one_that_never_saw_the_records(options: dict[str, Any]) -> None:
    train, rows = pictures(), [1, 2, 5, 9, 41]
    settings = {"method": "dm", **options}
    if settings["method"] not in ("dm", "m3d"):
        made = make_deletable(as_data(train), ipc=2, **settings)
        anew = make_deletable(left_of(train, rows), ipc=2, **settings)
    else:
        made, anew = make(train, **settings), make(left_of(train, rows).train, **settings)  # type: ignore[arg-type]
    after = delete_records(made.distilled, as_data(train), rows)
    assert after.hash == anew.hash
    assert make_again(after).hash == anew.hash
    assert all(torch.equal(a, anew.distilled.tensors[name]) for name, a in after.distilled.tensors.items())
    assert after.exact


def test_what_the_deleted_records_were_leaves_no_trace_in_the_items() -> None:
    train, rows = pictures(), [1, 2, 5]
    x = train.inputs.clone()  # type: ignore[union-attr]
    x[rows] = torch.randint(0, 255, (3, 1, 8, 8), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    others = replace(train, inputs=x)
    one, two = (delete_records(make(data).distilled, as_data(data), rows) for data in (train, others))
    assert make(train).hash != make(others).hash
    assert one.hash == two.hash


def test_classes_without_a_deleted_record_are_taken_over_bit_by_bit() -> None:
    train = pictures()
    made = make(train)
    after = delete_records(made.distilled, as_data(train), [0, 4, 8])
    assert after.classes == ("0",)
    assert [unit.key for unit in after.remade] == [("0", 0)]
    for old, new in zip(split_joined(made.distilled), split_joined(after.distilled), strict=True):
        same = all(torch.equal(t, new.tensors[name]) for name, t in old.tensors.items())
        assert same is (old.classes != ("0",))


def test_units_by_themselves_are_the_items_of_the_joint_run() -> None:
    train = pictures()
    joint = potstill.distill(as_data(train), **DM, ipc=2, codec="float32", progress=None)
    apart = make(train, codec="float32").distilled
    assert torch.allclose(joint.inputs, apart.inputs, atol=1e-5)
    assert torch.equal(joint.labels, apart.labels)


def test_deletions_one_after_the_other_end_where_one_does() -> None:
    train = pictures()
    made = make(train)
    first = delete_records(made.distilled, as_data(train), [0, 1])
    second = delete_records(first.distilled, left_of(train, [0, 1]), [0, 3])  # rows 2 and 5 of all
    assert second.hash == delete_records(made.distilled, as_data(train), [0, 1, 2, 5]).hash
    assert [d["records"] for d in second.distilled.metadata["deletion"]["deletions"]] == [2, 2]


def test_records_of_one_group_are_in_one_part() -> None:
    train = pictures(groups=40, per_class=120)
    made = make_deletable(as_data(train), "herding", parts=5, ipc=5)
    assert train.groups is not None
    rows = (train.groups == 3).nonzero().flatten()
    after = delete_records(made.distilled, as_data(train), rows)
    assert len({unit.part for unit in after.remade}) == 1
    assert len(after.remade) == 4
    assert len(after.units) == 20
    # groups are numbered anew where data are read again without one of them
    again = replace(after.records, groups=torch.unique(after.records.groups, return_inverse=True)[1])
    assert make_deletable(as_data(again), "herding", ipc=5, parts=5).hash == after.hash


def test_a_group_that_loses_some_records_may_move_and_the_set_stays_exact() -> None:
    train = pictures(groups=30, per_class=90)
    made = make_deletable(as_data(train), "herding", parts=3, ipc=3)
    keys = record_digests(train, 0)
    assert train.groups is not None
    least = [min((train.groups == g).nonzero().flatten().tolist(), key=lambda i: keys[i][:8]) for g in range(10)]
    after = delete_records(made.distilled, as_data(train), least)
    assert after.hash == make_deletable(left_of(train, least), "herding", parts=3, ipc=3).hash


def test_a_real_set_by_keys_changes_only_where_a_deleted_record_is_in_it() -> None:
    train = pictures()
    made = make_deletable(as_data(train), "random", ipc=2)
    inside = [int(row) for unit in made.units for row in unit.rows]
    outside = [row for row in range(len(train)) if row not in inside]
    same = delete_records(made.distilled, as_data(train), outside[:40])
    assert not same.remade
    assert same.hash == made.hash
    other = delete_records(made.distilled, as_data(train), inside[:1])
    assert len(other.remade) == 1
    stored = {row.numpy().tobytes() for row in other.distilled.inputs}
    assert not {train.raw(torch.tensor(inside[:1]))[0].numpy().tobytes()} & stored


def test_the_metadata_say_how_many_were_deleted_and_not_which(tmp_path: Path) -> None:
    train = replace(pictures(), names=tuple(f"person{i}.png" for i in range(120)))
    made = make(train)
    rows = named_rows(train, ["person17.png"])
    after = delete_records(made.distilled, as_data(train), rows, out=tmp_path / "new.safetensors")
    card = json.dumps(after.distilled.to_dict())
    assert "person17" not in card
    assert made.distilled.metadata["deletion"]["units"][1][2] not in card  # the hash of the class with the record
    (entry,) = after.distilled.metadata["deletion"]["deletions"]
    assert entry["records"] == 1
    assert re.fullmatch("[0-9a-f]{64}", entry["hash"])
    stored = potstill.load(tmp_path / "new.safetensors")
    assert content_hash(stored) == after.hash
    assert len(stored) == 8
    assert sorted(p.name for p in tmp_path.iterdir() if "history" not in p.name) == ["new.safetensors"]


def test_an_interrupted_update_goes_on_from_its_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, runs, loop = tmp_path / "set.safetensors", list[int](), runner.run_loop

    def counted(*args: Any, **options: Any) -> Any:
        runs.append(1)
        return loop(*args, **options)

    def stop(name: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_loop", counted)
    with pytest.raises(KeyboardInterrupt):
        make(pictures(), out=out, progress=stop)
    assert not out.exists()
    mine = out.with_name("set.safetensors.units") / "mine.txt"
    mine.write_text("of the user")
    resumed = make(pictures(), out=out)
    assert len(runs) == 4
    assert out.exists()
    assert [p.name for p in mine.parent.iterdir()] == ["mine.txt"]
    assert resumed.hash == make(pictures()).hash


def test_other_processes_give_the_same_bits(tmp_path: Path) -> None:
    train, rows = pictures(), [1, 2, 5]
    with Processes(2) as pool:
        there = make(train, out=tmp_path / "there.safetensors", executor=pool)
        after = delete_records(there.distilled, as_data(train), rows, executor=pool)
        warm = extend(there.distilled, as_data(train), as_data(pictures(seed=1)), warm_steps=2, executor=pool)
        assert make_again(after, executor=pool).hash == after.hash
    here = make(train, out=tmp_path / "here.safetensors")
    assert there.hash == here.hash
    assert after.hash == delete_records(here.distilled, as_data(train), rows, executor="serial").hash
    again = extend(here.distilled, as_data(train), as_data(pictures(seed=1)), warm_steps=2, executor="serial")
    assert warm.hash == again.hash
    assert not (tmp_path / "there.safetensors.units").exists()


def test_an_executor_is_chosen_for_distilled_units_and_selections_stay_here(chosen: list[int]) -> None:
    make_deletable(as_data(pictures()), "herding", ipc=1)
    assert chosen == []
    make(pictures(), executor=None)
    assert chosen == [4]


def test_each_unit_has_one_thread_so_that_bits_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, loop = list[int](), runner.run_loop

    def counted(*args: Any, **options: Any) -> Any:
        threads.append(torch.get_num_threads())
        return loop(*args, **options)

    monkeypatch.setattr(runner, "run_loop", counted)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        made = make_deletable(as_data(pictures(classes=2)), **{**DM, "ipc": 1, "executor": None})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(made.units) == len(threads) == 2
    assert set(threads) == {1}


def test_new_classes_are_made_alone_and_give_the_bits_of_a_set_made_anew() -> None:
    train, more = pictures(), pictures(classes=2, first=4)
    made = make(train)
    wider = extend(made.distilled, as_data(train), as_data(more))
    assert wider.classes == ("4", "5")
    assert wider.distilled.classes == ("0", "1", "2", "3", "4", "5")
    assert wider.hash == make_again(wider).hash
    back = delete_records(wider.distilled, as_data(wider.records), [0])
    assert back.classes == ("0",)


def test_new_records_go_on_from_old_items_and_say_that_they_are_not_exact() -> None:
    train, more = pictures(), pictures(classes=1, seed=5, per_class=20)
    made = make(train)
    warm = extend(made.distilled, as_data(train), as_data(more), warm_steps=1)
    anew = extend(made.distilled, as_data(train), as_data(more))
    assert warm.classes == anew.classes == ("0",)
    assert (warm.exact, anew.exact) == (False, True)
    assert warm.hash != anew.hash
    both = as_data(warm.records)
    after = delete_records(warm.distilled, both, [1])  # of class 1, but class 0 is made anew, too
    assert after.classes == ("0", "1")
    assert after.exact
    assert after.hash == make_again(after).hash
    later = extend(warm.distilled, both, as_data(pictures(classes=1, first=2, seed=9)), warm_steps=1)
    assert later.classes == ("2",)
    assert later.distilled.metadata["deletion"]["warm"] == [["0", 0], ["2", 0]]


def test_pictures_without_constants_get_a_normalization_of_no_record() -> None:
    made = make_deletable("digits", "herding", ipc=1)
    assert made.distilled.normalization.mean.tolist() == [0.5]
    given = make_deletable("digits", "herding", ipc=1, normalization=FIXED)
    assert given.distilled.normalization.mean.tolist() == pytest.approx([0.3])


BAD_MAKE: list[tuple[dict[str, Any], str]] = [
    ({"method": "frepo"}, "frepo works on all classes at once"),
    ({"method": "el2n"}, "el2n works on all classes at once, or by a network that is trained on all records"),
    ({"method": "herding", "features": "trained"}, "needs networks?, which are trained on all records"),
    ({"labels": "learned"}, "labels 'learned' depend on all classes at once"),
    ({"parts": 3}, "must be a multiple of the parts, not 2"),
    ({"ipc": 0}, "must be a multiple of the parts, not 0"),
    ({"ipc": 40, "parts": 2}, "part 1 of 2 of class '0' has 1. records for 20 items; make a set with fewer items"),
    ({"codec": "uint99"}, "bits must be from 1 to 16, not 99"),
]


@pytest.mark.parametrize(("options", "message"), BAD_MAKE, ids=[str(next(iter(o.items()))) for o, _ in BAD_MAKE])
def test_sets_that_cannot_be_exact_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    settings = {**({} if options.get("method") else DM), "ipc": 2, **options}
    with pytest.raises(PotstillError, match=message) as error:
        make_deletable(as_data(pictures()), **settings)
    assert "\n" not in str(error.value)


def test_a_normalization_that_is_fitted_on_the_records_is_refused() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    splits = potstill.load_data((x, np.arange(40) % 2), test_fraction=0)
    with pytest.raises(PotstillError, match="is fitted on all of its records"):
        make_deletable(splits, "herding", ipc=1)
    fixed = Normalization(torch.zeros(5), torch.ones(5))
    made = make_deletable(splits, "herding", ipc=1, normalization=fixed)
    after = delete_records(made.distilled, splits, [0])
    assert len(after.remade) == 1
    with pytest.raises(PotstillError, match="a mean and a standard deviation for each of 5 channels"):
        make_deletable(splits, "herding", ipc=1, normalization=FIXED)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("120", "has rows 0 to 119, but row 120 is named"),
        ([-1], "but row -1 is named"),
        ("3,3", "row 3 is named twice"),
        ("1-4,2", "row 2 is named twice"),
        ("3,9-4", "the rows 9-4 end before they begin; write 4-9"),
        ("cat.png", "but 'cat.png' is neither"),
        ("", "needs one record at least"),
        ("0-119", "no record of class '0' is left"),
        (list(range(0, 120, 4)), "no record of class '0' is left, and a set without a class is another set"),
        (list(range(0, 116, 4)), "class '0' has 1 records for 2 items"),
    ],
)
def test_bad_records_are_refused_in_one_line(records: Any, message: str) -> None:
    train = pictures()
    small = make_deletable(as_data(train), "herding", ipc=2).distilled
    with pytest.raises(PotstillError, match=message) as error:
        delete_records(small, as_data(train), records)
    assert "\n" not in str(error.value)


def test_records_are_named_by_rows_files_and_patterns(tmp_path: Path) -> None:
    train = replace(pictures(), names=tuple(f"{'ab'[i % 2]}/{i}.png" for i in range(120)))
    (tmp_path / "rows.txt").write_text("3\n7-9, 20\n")
    assert numbered_rows(train, str(tmp_path / "rows.txt")).tolist() == [3, 7, 8, 9, 20]
    assert named_rows(train, "a/4.png,b/1.png").tolist() == [1, 4]
    assert named_rows(train, "b/*").tolist() == list(range(1, 120, 2))
    with pytest.raises(PotstillError, match=re.escape("no record of the training split of rows has the name 'b/4")):
        named_rows(train, "b/4.png")
    with pytest.raises(PotstillError, match=re.escape("'b/1.png' is named twice")):
        named_rows(train, "b/1.png,b/*")
    with pytest.raises(PotstillError, match="have no names"):
        named_rows(pictures(), "b/4.png")


def test_other_data_and_other_sets_are_refused() -> None:
    train = pictures()
    small = make_deletable(as_data(train), "herding", ipc=2).distilled
    with pytest.raises(PotstillError, match="was not made of rows as it is here: the records of class '0' differ"):
        delete_records(small, as_data(pictures(seed=3)), [0])
    with pytest.raises(PotstillError, match="the records of class '4' differ"):
        delete_records(small, as_data(join_records(train, pictures(classes=1, first=4))), [0])
    other = TensorSource.make(torch.zeros(8, 6, 6, dtype=torch.uint8), [0, 1] * 4, name="d")
    with pytest.raises(PotstillError, match=re.escape("has inputs of shape (1, 8, 8), but those of d are (1, 6, 6)")):
        delete_records(small, as_data(other), [0])
    with pytest.raises(PotstillError, match="new records are image \\(1, 6, 6\\) data"):
        extend(small, as_data(train), as_data(other))
    with pytest.raises(PotstillError, match="warm_steps must be at least 1, not 0"):
        extend(small, as_data(train), as_data(pictures(seed=4)), warm_steps=0)
    plain = potstill.distill(as_data(train), "herding", ipc=2, progress=None)
    with pytest.raises(PotstillError, match="only a set that was joined from others has parts"):
        split_joined(plain)
    with pytest.raises(PotstillError, match="was not made for deletion"):
        delete_records(plain, as_data(train), [0])


def test_classes_in_another_order_are_the_same_data() -> None:
    train = pictures()
    small = make_deletable(as_data(train), "herding", ipc=2).distilled
    turned = replace(train, classes=train.classes[::-1], labels=3 - train.labels)
    assert delete_records(small, as_data(turned), [0]).hash == delete_records(small, as_data(train), [0]).hash


def test_auc_counts_pairs_within_classes() -> None:
    values = torch.tensor([0.0, 0.0, 5.0, 5.0]), torch.tensor([1.0, 0.0, 9.0, 5.0])
    classes = torch.tensor([0, 0, 1, 1])
    score = auc_within_classes(*values, classes, classes, torch.Generator().manual_seed(0))
    assert score.auc == pytest.approx(0.75)  # between classes, 5 above 1 would count against it
    assert score.verdict == "no power"
    rng = torch.Generator().manual_seed(1)
    same = torch.randn(400, generator=rng), torch.randn(400, generator=rng)
    zeros = torch.zeros(400, dtype=torch.int64)
    assert auc_within_classes(*same, zeros, zeros, rng).verdict == "at chance"
    lower = auc_within_classes(same[0] - 1, same[1], zeros, zeros, rng)
    assert lower.verdict == "distinguished"
    assert lower.ci95[0] < lower.auc < lower.ci95[1]
    assert auc_within_classes(same[0] + 1, same[1], zeros, zeros, rng).verdict == "below chance"


def test_membership_is_told_before_a_deletion_and_not_after() -> None:
    train, held_out = pictures(per_class=200), pictures(per_class=200, seed=8)
    made = make_deletable(as_data(train), "random", ipc=30)
    rows = torch.cat([unit.rows for unit in made.units])
    after = delete_records(made.distilled, as_data(train), rows)
    before_score, after_score = (
        membership(small, train.subset(rows), held_out, students=1, learner=QUICK)
        for small in (made.distilled, after.distilled)
    )
    assert before_score["distance"].auc == 1
    assert before_score["distance"].verdict == "distinguished"
    assert after_score["distance"].verdict == "at chance"
    assert set(after_score) == {"distance", "loss"}
    with pytest.raises(PotstillError, match="deleted and held-out records of one class"):
        membership(made.distilled, train.subset(rows), pictures(classes=1, first=5), learner=QUICK)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of three persons in two classes, with a test part."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            for person in range(3):
                (root / part / name / f"person{person}").mkdir(parents=True)
                for i in range(4):
                    picture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(picture).save(root / part / name / f"person{person}" / f"{i}.png")
    return root


def test_the_command_makes_deletes_and_verifies(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deletion, "membership", partial(membership, students=1, learner=QUICK))
    base = ["use", "deletion", "--quiet", "--data", str(photos)]
    assert main([*base, "--make", "herding", "--ipc", "2", "--out", "a.safetensors"]) == 0
    assert "a.safetensors: 4 items" in capsys.readouterr().out
    change = [*base, "a.safetensors", "--delete-names", "train/cat/person1/*", "--out", "b.safetensors", "--verify"]
    assert main([*change, "--membership", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["classes"] == ["cat"]
    assert shown["verify"]["equal"] is True
    assert shown["membership"]["after"]["distance"]["verdict"] == "no power"
    assert main(change) == 0
    text = capsys.readouterr().out
    assert "4 records deleted. 1 of 2 units made, of class cat" in text
    assert "equal, bit by bit" in text
    assert main([*base, "a.safetensors", "--add", str(photos), "--out", "c.safetensors"]) == 0
    assert "2 of 2 units made" in capsys.readouterr().out


def test_groups_with_names_stay_in_their_part(photos: Path) -> None:
    splits = potstill.load_data(photos, group=r"person\d")
    made = make_deletable(splits, "herding", ipc=2, parts=2, seed=2)
    assert made.distilled.metadata["deletion"]["recipe"]["group"] == r"person\d"
    for person in range(3):  # also where a person keeps one record, whichever it is
        for files in ("[012].png", "[123].png"):
            rows = named_rows(splits.train, f"*/person{person}/{files}")  # type: ignore[arg-type]
            after = delete_records(made.distilled, splits, rows)
            assert len(after.remade) == 2
            assert len({unit.part for unit in after.remade}) == 1
    no_groups = as_data(replace(splits.train, groups=None, names=()))  # type: ignore[type-var]
    numbered = make_deletable(as_data(replace(splits.train, names=())), "herding", ipc=2, parts=2, seed=2)  # type: ignore[type-var]
    with pytest.raises(PotstillError, match="keep groups together, but photos0 has none here"):
        delete_records(numbered.distilled, no_groups, [0])


@pytest.fixture(scope="module")
def sets(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set for deletion and one that was made in one run."""
    folder, splits = tmp_path_factory.mktemp("sets"), potstill.load_data(photos)
    make_deletable(splits, "herding", ipc=1, out=folder / "a.safetensors")
    potstill.distill(splits, "herding", ipc=1, progress=None, out=folder / "d.safetensors")
    return folder


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["a.safetensors", "--delete", "999"], 1, "but row 999 is named"),
        (["a.safetensors", "--delete-names", "nobody.png"], 1, "has the name 'nobody.png'"),
        (["d.safetensors", "--delete", "1"], 1, "was not made for deletion"),
        (["missing.safetensors", "--delete", "1"], 1, "missing.safetensors"),
        (["a.safetensors"], 2, "say one thing to do"),
        (["a.safetensors", "--delete", "1", "--add", "x"], 2, "not --delete and --add"),
        (["--delete", "1"], 2, "name the set to change"),
        (["a.safetensors", "--make", "dm", "--ipc", "1"], 2, "no set is read"),
        (["--make", "dm"], 2, "--make needs the items per class"),
        (["--make", "frepo", "--ipc", "1"], 1, "works on all classes at once"),
        (["a.safetensors", "--delete", "1", "--ipc", "2"], 2, "--ipc is part of the set's recipe"),
        (["a.safetensors", "--delete", "1", "--warm-steps", "2"], 2, "--warm-steps is for units with new records"),
        (["a.safetensors", "--add", "x", "--membership"], 2, "--membership tests deleted records"),
        (["a.safetensors", "--delete", "1", "--executor", "threads"], 2, "unknown executor 'threads'"),
        (["a.safetensors", "--delete", "1", "--address", "auto"], 2, "add --executor ray"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: list[str], status: int, message: str, photos: Path, sets: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(sets)
    assert main(["use", "deletion", *words, "--data", str(photos), "--out", "b.safetensors", "--quiet"]) == status
    error = capsys.readouterr().err
    assert message in error
    assert not Path("b.safetensors").exists()


def test_nothing_is_overwritten(photos: Path, tmp_path: Path) -> None:
    splits = potstill.load_data(photos)
    out = tmp_path / "a.safetensors"
    make_deletable(splits, "herding", ipc=1, out=out)
    before = out.read_bytes()
    with pytest.raises(PotstillError, match="would be written over"):
        delete_records(out, splits, [0], out=out, force=True)
    make_deletable(splits, "random", ipc=1, out=tmp_path / "r.safetensors")
    with pytest.raises(PotstillError, match="holds the set of another run"):
        delete_records(out, splits, [0], out=tmp_path / "r.safetensors")
    assert out.read_bytes() == before
    table = tmp_path / "t.csv"
    table.write_text("a,b,label\n" + "".join(f"{i},{i * i},{'uv'[i % 2]}\n" for i in range(20)))
    with pytest.raises(PotstillError, match=r"columns of .* are encoded by a fit on all of its records"):
        make_deletable(str(table), "herding", ipc=1)
