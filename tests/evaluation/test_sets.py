import json
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.core import Splits, Whitening
from potstill.data import TensorSource
from potstill.evaluation import full_data_reference
from potstill.evaluation.full_data_reference import FullReference
from potstill.evaluation.training_sets import TeacherJob
from potstill.nn import factory


def test_the_teacher_is_stopped_early_but_has_learned(pictures: Splits) -> None:
    job = TeacherJob(train=pictures.train, make=factory("convnet-d1-w8", pictures.train.input, 4), seed=1)
    teacher = job()
    assert teacher.step == 200
    again = job()
    assert all(torch.equal(p, again.params[n]) for n, p in teacher.params.items())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_data_reference, "RECIPE", {**full_data_reference.RECIPE, "steps": 40})


def _reference(splits: Splits, **changes: Any) -> FullReference:
    assert splits.test is not None
    fields: dict[str, Any] = {
        "train": splits.train, "test": splits.test, "make": factory("convnet-d1-w8", splits.train.input, 4), "seed": 0,
    }  # fmt: skip
    return FullReference(**(fields | changes))


def test_the_full_reference_learns_and_is_kept(pictures: Splits, short: None, tmp_path: Path) -> None:
    reference = _reference(pictures)
    assert reference.load_cached() is None
    result = reference()
    assert result["mean"] > 0.9
    assert (result["n"], result["ci95"], result["std"], result["diverged"]) == (1, None, None, False)
    reference.save(result)
    assert _reference(pictures).load_cached() == json.loads(json.dumps(result))
    assert [p.suffix for p in (tmp_path / "cache" / "full").iterdir()] == [".json"]


def test_what_was_kept_is_used_for_the_same_thing_only(pictures: Splits) -> None:
    reference = _reference(pictures)
    reference.save({"mean": 0.5})
    assert _reference(pictures).load_cached() == {"mean": 0.5}
    assert _reference(pictures, seed=1).load_cached() is None
    assert _reference(pictures, make=factory("convnet-d2-w8", pictures.train.input, 4)).load_cached() is None
    assert _reference(pictures, train=pictures.test).load_cached() is None
    train = pictures.train
    assert isinstance(train, TensorSource)
    d = 64
    for unit in (False, True):
        white = Whitening(torch.zeros(d), torch.eye(d), torch.eye(d), unit_norm=unit)
        whitened = TensorSource.make(
            train.inputs, train.labels, classes=train.classes, name="toy",
            normalization=type(train.normalization)(train.normalization.mean, train.normalization.std, white),
        )  # fmt: skip
        assert _reference(pictures, train=whitened).load_cached() is None
        _reference(pictures, train=whitened).save({"mean": 0.25})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": 1}', '{"result": {"mean": 2.0}}'])
def test_a_broken_cache_is_measured_again(pictures: Splits, content: str, tmp_path: Path) -> None:
    reference = _reference(pictures)
    reference.save({"mean": 0.5})
    (path,) = (tmp_path / "cache" / "full").iterdir()
    path.write_text(content)
    assert reference.load_cached() is None


def test_a_result_that_changed_in_the_cache_is_measured_again(pictures: Splits, tmp_path: Path) -> None:
    reference = _reference(pictures)
    reference.save({"mean": 0.5})
    (path,) = (tmp_path / "cache" / "full").iterdir()
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "result": {"mean": 0.625}}))
    assert reference.load_cached() is None


def test_a_cache_that_cannot_be_written_is_no_error(
    pictures: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file" / "below"))
    reference = _reference(pictures)
    reference.save({"mean": 0.5})
    assert reference.load_cached() is None
