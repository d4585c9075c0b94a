"""`distill` takes every field of the three run values as a keyword, with the same default, and hands each on."""

import dataclasses
import importlib
import inspect
from typing import Any

import pytest

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.testing import toy_source

module = importlib.import_module("potstill.api.distill")
FIELDS = {f.name: f for kind in (RunSpec, RunLimits, RunIO) for f in dataclasses.fields(kind)}
KEYWORDS = inspect.signature(module.distill).parameters


def test_keywords_are_the_fields_with_their_defaults():
    assert set(KEYWORDS) == set(FIELDS)
    defaults = {n: f.default for n, f in FIELDS.items() if n not in ("data", "options")}
    # which method a call without one means depends on its other arguments: tests/api/test_auto.py
    assert {n: KEYWORDS[n].default for n in defaults} == defaults | {"method": None}
    assert KEYWORDS["options"].kind is inspect.Parameter.VAR_KEYWORD


def test_each_keyword_reaches_its_field(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {
        "method": "dc", "ipc": 2, "items": 3, "bytes": 4, "planned_bytes": 40, "balance": "equal", "preset": "good",
        "seed": 5, "steps": 6,
        "time_limit": 7.0, "network": "mlp", "parametrization": "tiles", "labels": "soft", "augment": "dsa",
        "real_weights": "attribute", "regularizer": "curvature",
        "zca": "mtt", "codec": "uint8", "device": "cpu", "checkpoint": "c", "resume": True, "checkpoint_every": 8.0,
        "progress": None, "preparing": print, "command": "potstill", "scores": "s", "executor": "serial",
        "networks": ["n"], "experts": ["e"], "initial": "i", "log": "tensorboard:l", "snapshots": "f",
        "class_shards": 9, "private": "epsilon=1", "out": "o", "force": True,
        "generator": "g", "count_decoder": True,
    }  # fmt: skip
    assert set(given) == set(FIELDS) - {"data", "options"}
    taken: dict[str, Any] = {}

    def take(kind: type[Any]) -> Any:
        def keep(**fields: Any) -> object:
            taken.update(fields)
            return kind

        return keep

    for kind in (RunSpec, RunLimits, RunIO):
        monkeypatch.setattr(module, kind.__name__, take(kind))

    def stop(*values: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        module.distill("digits", lr=3, **given)
    assert {n: taken[n] for n in given} == given
    assert (taken["data"], taken["options"]) == ("digits", {"lr": 3})


def test_class_names_that_are_not_unique_are_refused_in_one_line() -> None:
    twice = dataclasses.replace(toy_source(classes=3), classes=("crane", "dog", "crane"))
    with pytest.raises(PotstillError, match=r"class names must differ.*'crane' stands twice"):
        potstill.distill(Splits(train=twice, test=None), "random", ipc=1, progress=None)
