import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from potstill.core import Splits, Whitening
from potstill.data import TensorSource
from potstill.evaluation import full
from potstill.evaluation.full import FullReference
from potstill.evaluation.sets import TeacherJob, baseline, per_class_at_equal_bytes
from potstill.nn import factory
from potstill.storage import item_bytes


def _positions(source: TensorSource, x: Tensor) -> list[int]:
    """Which samples of the source these are."""
    every = source.fetch(torch.arange(len(source))).x
    assert isinstance(every, Tensor)
    return [int((every - one).flatten(1).abs().sum(1).argmin()) for one in x]


def test_counts_are_those_that_store_nearest_to_the_same_bytes() -> None:
    shape, k = (1, 28, 28), 10
    hard, soft = item_bytes(shape), item_bytes(shape, k)
    assert per_class_at_equal_bytes(10 * k * hard, shape, k, soft=False) == 10
    assert per_class_at_equal_bytes(10 * k * hard, shape, k, soft=True) == 10
    assert per_class_at_equal_bytes(10 * k * soft, shape, k, soft=False) == 10
    assert per_class_at_equal_bytes(25 * k * hard + 7, shape, k, soft=False) == 25
    assert per_class_at_equal_bytes(1, shape, k, soft=False) == 1
    # a thousand classes: a row of labels weighs more than the picture, so fewer soft samples fit
    assert per_class_at_equal_bytes(10 * 1000 * hard, shape, 1000, soft=True) == 4


def test_random_is_another_draw_for_every_student(pictures: Splits, make_set: Any) -> None:
    train = pictures.train
    assert isinstance(train, TensorSource)
    made = baseline("random", make_set(pictures, ipc=3), train, students=4, seed=5)
    draws = [tuple(_positions(train, x)) for x, _ in made.pairs]
    assert len(set(draws)) == 4
    for draw, (_, y) in zip(draws, made.pairs, strict=True):
        assert len(set(draw)) == 12
        assert y.tolist() == train.labels[list(draw)].tolist() == [c for c in range(4) for _ in range(3)]
    assert made.bytes == 12 * item_bytes((1, 8, 8))
    again = baseline("random", make_set(pictures, ipc=3), train, students=4, seed=5)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(made.pairs, again.pairs, strict=True))
    other = baseline("random", make_set(pictures, ipc=3), train, students=4, seed=6)
    assert not torch.equal(made.pairs[0][0], other.pairs[0][0])


def test_herding_is_one_choice_that_meets_the_class_means(pictures: Splits, make_set: Any) -> None:
    train = pictures.train
    assert isinstance(train, TensorSource)
    small = make_set(pictures, ipc=3)
    herded = baseline("herding", small, train, students=4, seed=5)
    assert len(herded.pairs) == 1
    assert herded.of(0) is herded.of(3)
    every = train.fetch(torch.arange(len(train))).x
    assert isinstance(every, Tensor)
    means = torch.stack([every[train.labels == c].mean(0) for c in range(4)])

    def gap(x: Tensor) -> float:
        return float((x.reshape(4, 3, 1, 8, 8).mean(1) - means).norm())

    plain = baseline("random", small, train, students=8, seed=5)
    assert gap(herded.of(0)[0]) < min(gap(x) for x, _ in plain.pairs)


def test_random_soft_has_rows_of_the_teacher_and_weighs_what_they_weigh(pictures: Splits, make_set: Any) -> None:
    train = pictures.train
    made = baseline("random-soft", make_set(pictures, ipc=3), train, 2, 5, rows=lambda x: torch.full((len(x), 4), 0.25))
    assert all(torch.equal(y, torch.full((12, 4), 0.25)) for _, y in made.pairs)
    assert made.bytes == 12 * (4 * 64 + 4 * 4)


def test_a_small_class_gives_all_it_has_and_the_bytes_say_so(pictures: Splits, make_set: Any) -> None:
    train = pictures.train
    assert isinstance(train, TensorSource)
    keep = torch.cat([torch.where(train.labels == c)[0][: 2 if c == 1 else 9] for c in range(4)])
    made = baseline("random", make_set(pictures, ipc=3), train.subset(keep), students=1, seed=0)
    assert torch.bincount(made.of(0)[1]).tolist() == [3, 2, 3, 3]
    assert made.bytes == 11 * item_bytes((1, 8, 8))


def test_the_teacher_is_stopped_early_but_has_learned(pictures: Splits) -> None:
    job = TeacherJob(train=pictures.train, make=factory("convnet-d1-w8", pictures.train.input, 4), seed=1)
    teacher = job()
    assert teacher.step == 200
    again = job()
    assert all(torch.equal(p, again.params[n]) for n, p in teacher.params.items())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "RECIPE", {**full.RECIPE, "steps": 40})


def _reference(splits: Splits, **changes: Any) -> FullReference:
    assert splits.test is not None
    fields: dict[str, Any] = {
        "train": splits.train, "test": splits.test, "make": factory("convnet-d1-w8", splits.train.input, 4), "seed": 0,
    }  # fmt: skip
    return FullReference(**(fields | changes))


def test_the_full_reference_learns_and_is_kept(pictures: Splits, short: None, tmp_path: Path) -> None:
    reference = _reference(pictures)
    assert reference.kept() is None
    result = reference()
    assert result["mean"] > 0.9
    assert (result["n"], result["ci95"], result["std"], result["diverged"]) == (1, None, None, False)
    assert result["bytes"] == len(pictures.train) * item_bytes((1, 8, 8))
    reference.keep(result)
    assert _reference(pictures).kept() == json.loads(json.dumps(result))
    assert [p.suffix for p in (tmp_path / "cache" / "full").iterdir()] == [".json"]


def test_what_was_kept_is_used_for_the_same_thing_only(pictures: Splits) -> None:
    reference = _reference(pictures)
    reference.keep({"mean": 0.5})
    assert _reference(pictures).kept() == {"mean": 0.5}
    assert _reference(pictures, seed=1).kept() is None
    assert _reference(pictures, make=factory("convnet-d2-w8", pictures.train.input, 4)).kept() is None
    assert _reference(pictures, train=pictures.test).kept() is None
    train = pictures.train
    assert isinstance(train, TensorSource)
    d = 64
    for unit in (False, True):
        white = Whitening(torch.zeros(d), torch.eye(d), torch.eye(d), unit=unit)
        whitened = TensorSource.make(
            train.inputs, train.labels, classes=train.classes, name="toy",
            normalization=type(train.normalization)(train.normalization.mean, train.normalization.std, white),
        )  # fmt: skip
        assert _reference(pictures, train=whitened).kept() is None
        _reference(pictures, train=whitened).keep({"mean": 0.25})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": 1}', '{"result": {"mean": 2.0}}'])
def test_a_broken_cache_is_measured_again(pictures: Splits, content: str, tmp_path: Path) -> None:
    reference = _reference(pictures)
    reference.keep({"mean": 0.5})
    (path,) = (tmp_path / "cache" / "full").iterdir()
    path.write_text(content)
    assert reference.kept() is None


def test_a_result_that_changed_in_the_cache_is_measured_again(pictures: Splits, tmp_path: Path) -> None:
    reference = _reference(pictures)
    reference.keep({"mean": 0.5})
    (path,) = (tmp_path / "cache" / "full").iterdir()
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "result": {"mean": 0.625}}))
    assert reference.kept() is None
    del kept["sha256"]  # as earlier versions wrote it
    path.write_text(json.dumps(kept))
    assert reference.kept() == {"mean": 0.5}


def test_a_cache_that_cannot_be_written_is_no_error(
    pictures: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file" / "below"))
    reference = _reference(pictures)
    reference.keep({"mean": 0.5})
    assert reference.kept() is None
