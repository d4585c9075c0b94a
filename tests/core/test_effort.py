"""How hard a method tries: stated fields for each preset, what is given wins, and a limit that covers preparation."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import potstill
from potstill.api.listing import list_methods
from potstill.core import Splits
from potstill.core.registry import make_method, names, resolve
from potstill.errors import PotstillError
from potstill.methods.distribution.dm import DM
from potstill.testing import toy_source

ROOT = Path(__file__).resolve().parents[2]
DATA = Splits(train=toy_source("image"), test=None)
SMALL: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "batch_real": 4, "progress": None}
CHANGED = ["batch_real", "iterations", "network", "steps_per_network"]
RECIPES = {path: yaml.safe_load(path.read_text())["method"] for path in sorted(Path(ROOT, "recipes").glob("*.yaml"))}
"""Methods by recipe."""
FIRST = {method: path for path, method in reversed(RECIPES.items())}


@pytest.mark.parametrize("name", names("methods"))
@pytest.mark.parametrize("preset", ["quick", "good"])
def test_a_preset_sets_fields_that_the_method_has_to_values_that_it_takes(name: str, preset: Any) -> None:
    kind = resolve("methods", name)
    _, made = make_method(name, {}, preset)
    assert {n: getattr(made, n) for n in kind.presets.get(preset, {})} == dict(kind.presets.get(preset, {}))
    assert make_method(name, {}, "published")[1] == kind()
    assert kind.presets.keys() <= {"quick", "good"}


@pytest.mark.parametrize("row", list_methods(), ids=lambda row: row["name"])
def test_what_a_preset_sets_is_listed_beside_what_is_published(row: dict[str, Any]) -> None:
    kind = resolve("methods", row["name"])
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    for preset, fields in row["presets"].items():
        assert fields == {n: kind.presets.get(preset, {}).get(n, defaults[n]) for n in fields}


def test_a_method_by_name_is_quick_and_its_fields_decide_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DM, "presets", {"quick": {"iterations": 3, "steps_per_network": 2}, "good": {"iterations": 5}})
    quick = potstill.distill(DATA, "dm", **SMALL)
    assert quick.metadata["cost"]["steps"] == 3
    changed = ["batch_real", "network"]
    assert quick.metadata["preset"] == {
        "name": "quick", "fields": {"iterations": 3, "steps_per_network": 2}, "changed": changed
    }  # fmt: skip
    same = potstill.distill(DATA, "dm", preset="published", iterations=3, steps_per_network=2, **SMALL)
    assert torch.equal(quick.inputs, same.inputs)
    assert same.metadata["preset"] == {"name": "published", "fields": {}, "changed": CHANGED}
    good = potstill.distill(DATA, "dm", preset="good", steps_per_network=3, **SMALL)
    assert (good.metadata["cost"]["steps"], good.metadata["config"]["steps_per_network"]) == (5, 3)


def test_what_is_given_wins_and_is_not_said_to_be_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DM, "presets", {"quick": {"iterations": 3, "steps_per_network": 2}})
    made = potstill.distill(DATA, "dm", iterations=4, **SMALL)
    assert made.metadata["cost"]["steps"] == 4
    assert made.metadata["preset"] == {"name": "quick", "fields": {"steps_per_network": 2}, "changed": CHANGED[:3]}


def test_a_run_that_is_told_its_steps_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DM, "presets", {"quick": {"iterations": 3}})
    for ends in ({"steps": 4}, {"time_limit": "1h", "steps": 4}):
        made = potstill.distill(DATA, "dm", **ends, **SMALL)
        assert (made.metadata["config"]["iterations"], made.metadata["cost"]["steps"]) == (20_000, 4)


def test_a_time_limit_cuts_a_run_and_changes_nothing_else_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DM, "presets", {"quick": {"iterations": 3}})
    made, limited = (potstill.distill(DATA, "dm", **limit, **SMALL) for limit in ({}, {"time_limit": "1h"}))
    assert torch.equal(made.inputs, limited.inputs)
    assert (limited.metadata["preset"]["name"], limited.metadata["cost"]["steps"]) == ("quick", 3)


def test_a_method_as_a_value_is_run_as_it_is() -> None:
    some = DM(iterations=2, batch_real=4)
    made = potstill.distill(DATA, some, ipc=1, network="convnet-d1-w4", progress=None)
    assert (made.metadata["cost"]["steps"], made.metadata["preset"]) == (2, None)
    with pytest.raises(PotstillError, match="leave preset out or give the name"):
        potstill.distill(DATA, some, ipc=1, preset="quick")
    with pytest.raises(PotstillError, match="unknown preset 'quik'; did you mean quick"):
        potstill.distill(DATA, "dm", ipc=1, preset="quik")


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p not in FIRST.values())) for p in RECIPES]
)
def test_a_recipe_is_run_with_what_it_says_and_the_published_rest(path: Path) -> None:
    from potstill.cli.parsing import parse

    parsed = parse("distill", ["mnist-5k", "--recipe", str(path), "--out", "a.safetensors"])
    assert parsed.preset == "published"
    kind = resolve("methods", parsed.command.method)  # type: ignore[attr-defined]
    assert make_method(parsed.command.method, parsed.options, "published")[1] == kind(**parsed.options)  # type: ignore[attr-defined]


# --- a time limit ----------------------------------------------------------------------------------------------------


def test_preparation_that_does_not_fit_into_the_time_limit_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    with pytest.raises(PotstillError) as error:
        potstill.distill(
            DATA, "dance", preset="published", time_limit=0.5, pretrained_networks=3, pretrain_epochs=100_000, **SMALL
        )
    said = str(error.value)
    assert "training 3 networks for 100,000 epochs" in said
    assert "more than the time limit of 0 s" in said
    assert '`preset="quick"`, fewer `pretrained_networks=` or fewer `pretrain_epochs=`' in said
    assert not list(tmp_path.rglob("*.safetensors"))


def test_preparation_counts_and_what_it_made_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast is made to be wrong: the networks take longer than the whole time limit."""
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    monkeypatch.setattr("potstill.runs.runner.estimate_time", lambda *a: ())
    with pytest.raises(PotstillError, match="the rest of the limit of 0 s; they are stored"):
        potstill.distill(DATA, "dance", time_limit=1e-6, pretrained_networks=1, pretrain_epochs=1, **SMALL)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("old", ["budget", "time_budget"])
def test_a_time_limit_has_one_name(old: str) -> None:
    with pytest.raises(PotstillError, match=f"unknown option {old!r}"):
        potstill.distill(DATA, "dm", **{old: 1e-9}, **SMALL)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "say how much to keep, once"),
        ({"ipc": 1, "items": 4}, "say how much to keep, once"),
        ({"ipc": 0}, "ipc must be at least 1 item per class, but it is 0"),
        ({"items": True}, "items must be a whole number, not True"),
        ({"bytes": "20 parsecs"}, "bytes: a size such as"),
        ({"ipc": 1, "time_limit": "soon"}, "time_limit: a duration above 0 such as 90s"),
    ],
)
def test_amounts_that_are_none_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        potstill.distill(DATA, "random", **asked)


def test_bytes_may_be_text() -> None:
    one = potstill.distill(DATA, "random", bytes="2kB", progress=None)
    assert one.metadata["bytes"]["total"] <= 2_000
    assert torch.equal(one.inputs, potstill.distill(DATA, "random", bytes=2_000, progress=None).inputs)
