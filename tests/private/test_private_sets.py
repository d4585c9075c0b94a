"""Private sets: what the file says, what is refused, how a run is resumed, and an audit with the noise switched off."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.audit.privacy import audit_epsilon, audit_privacy, maker_of
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import concat, describe, inspect
from potstill.errors import PotstillError
from potstill.private import distil as distil_module
from potstill.private import door as door_module
from potstill.private import release as release_module
from potstill.private.accounting import Query
from potstill.private.denoise import denoised_means
from potstill.private.distil import release_path
from potstill.private.options import PrivateOptions
from potstill.private.public import public_facts
from potstill.private.release import draw_release, plan_queries, read_release, write_release
from potstill.testing import toy_source

PUBLIC = {"classes": ["c0", "c1", "c2", "c3"], "shape": [1, 8, 8]}
WEAK: dict[str, Any] = {"epsilon": 2.0, "delta": 1e-4, "cells": 2, "steps": 4, "public": PUBLIC}
"""Choices of a private set of toy pictures."""


def pictures(per_class: int = 50) -> Splits:
    source = toy_source("image", per_class=per_class)
    return Splits(train=source, test=None)


def made(data: Any = None, **changes: Any) -> potstill.Distilled:
    own = {"ipc": 3, "steps": 2, "progress": None, "private": WEAK} | changes
    return potstill.distill(pictures() if data is None else data, **own)


@pytest.fixture(scope="module")
def small() -> potstill.Distilled:
    return made()


def fixed_noise(monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    """Draw all noise from a seed, so that runs can be compared."""
    rng = torch.Generator().manual_seed(seed)
    monkeypatch.setattr(
        door_module, "gaussian_noise", lambda shape, generator=None: torch.randn(shape, generator=rng).double()
    )


def test_the_file_says_what_is_claimed_and_nothing_exact_of_the_data(small: potstill.Distilled, tmp_path: Path):
    privacy = small.metadata["privacy"]
    assert (privacy["epsilon"], privacy["delta"], privacy["formal"]) == (2.0, 1e-4, True)
    assert 0.99 * 2 < privacy["accounted_epsilon"] <= 2
    assert privacy["neighbours"] == "add or remove one record"
    assert "floating point" in privacy["mechanism"]
    assert {q["name"] for q in privacy["queries"]} == {"cells", "pictures", "features", "labeller mean", "labeller"}
    assert {entry["how"] for entry in privacy["covers"]} == {"inside ε", "public", "not done"}
    assert privacy["public"]["classes"] == PUBLIC["classes"]
    assert "hash" not in small.metadata["source"]
    assert "peak_memory" not in small.metadata["cost"]
    small.save(tmp_path / "s.safetensors")
    text = json.dumps(potstill.load(tmp_path / "s.safetensors").to_dict())
    assert pictures().train.content_hash not in text
    assert small.normalization.mean.tolist() == [0.5]  # a constant, not a fit


def test_the_number_of_samples_is_the_noisy_one(monkeypatch: pytest.MonkeyPatch):
    counts = set()
    for seed in range(2):
        fixed_noise(monkeypatch, seed)
        counts.add(made(steps=0).metadata["source"]["samples"])
    assert len(counts) > 1


def test_noise_differs_between_runs_of_one_seed_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch):
    assert not torch.equal(made().inputs, made().inputs)
    sets = []
    for _ in range(2):
        fixed_noise(monkeypatch)
        sets.append(made())
    assert torch.equal(sets[0].inputs, sets[1].inputs)
    assert torch.equal(sets[0].labels, sets[1].labels)


def without_noise(monkeypatch: pytest.MonkeyPatch, options: PrivateOptions) -> tuple[Query, ...]:
    """Return the planned releases with hardly any noise; what they claim stays as it is."""
    monkeypatch.setattr(release_module, "composed_epsilon", lambda queries, delta: options.epsilon)
    return tuple(replace(query, noise=1e-6) for query in plan_queries(options))


def test_without_noise_the_released_means_are_those_of_the_classes(monkeypatch: pytest.MonkeyPatch):
    train = pictures().train
    assert isinstance(train, TensorSource)
    options = PrivateOptions(epsilon=1.0, delta=1e-4, cells=1, steps=10, public=PUBLIC)
    records = public_facts(train, options.public)
    release = draw_release(records, options, 0, without_noise(monkeypatch, options))
    x = train.raw(torch.arange(len(train)))
    for c, mean in enumerate(denoised_means(release, records.facts)[:, 0]):
        assert float((mean - x[train.labels == c].mean(0)).abs().max()) < 0.002
    assert release.records == len(train)
    labeller = release.labeller(records.facts, 0)
    assert labeller is not None
    assert float((labeller.logits(x).argmax(1) == train.labels).double().mean()) > 0.9


def test_hard_labels_without_a_share_for_the_labeller():
    small = made(private=WEAK | {"labeller": 0})
    assert not small.has_soft_labels
    assert small.labels.tolist() == [c for c in range(4) for _ in range(3)]
    assert "labeller" not in {q["name"] for q in small.metadata["privacy"]["queries"]}


def test_more_items_than_cells_are_mixes_and_items_may_be_given_in_all():
    assert len(made(ipc=None, items=13)) == 13


REFUSED = [
    ({"method": "frepo"}, "frepo reads real data at every step"),
    ({"ipc": None, "bytes": "4kB"}, "takes no bytes"),
    ({"codec": "auto"}, "bits are tried on real data"),
    ({"time_limit": "10m"}, "takes no time limit"),
    ({"real_weights": "density"}, "takes no real_weights"),
    ({"zca": "kip"}, "takes no zca"),
    ({"networks": ["n"]}, "takes no networks"),
    ({"experts": ["e"]}, "takes no experts"),
    ({"labels": "soft"}, "takes no labels"),
    ({"class_shards": 2}, "takes no class_shards"),
    ({"iterations": 5}, "takes no options"),
    ({"balance": "natural", "ipc": None, "items": 9}, "takes no balance"),
    ({"device": "cuda"}, "made on the CPU"),
    ({"snapshots": "film"}, "takes no snapshots"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_whatever_reads_the_data_otherwise_is_refused_before_they_are_read(changes: dict[str, Any], message: str):
    class Unread:
        def __getattr__(self, name: str) -> object:
            raise AssertionError("the data were touched")

    with pytest.raises(PotstillError, match=message) as error:
        made(Unread(), **changes)
    assert "\n" not in str(error.value)


def test_an_earlier_set_is_no_start(small: potstill.Distilled):
    with pytest.raises(PotstillError, match="takes no initial"):
        made(initial=small)


@pytest.mark.parametrize(
    ("public", "message"),
    [
        ({}, "class names of toy are in the file, so they must be public"),
        ({"classes": PUBLIC["classes"]}, "shape of pictures must be public"),
        ({"classes": ["c0", "c1", "c2"], "shape": [1, 8, 8]}, "class 'c3' of toy is not among the public classes"),
        (PUBLIC | {"shape": [1, 9, 9]}, "public shape is 1×9×9"),
        (PUBLIC | {"mean": 0.5}, "public has no 'mean'"),
        ({"classes": "c0", "shape": [1, 8, 8]}, "list of at least two"),
    ],
)
def test_facts_that_the_file_needs_are_declared(public: dict[str, Any], message: str):
    with pytest.raises(PotstillError, match=message):
        made(private=WEAK | {"public": public})


def test_delta_is_below_one_over_the_number_of_records():
    with pytest.raises(PotstillError, match=r"1/200 = 0\.005, but it is 0.005"):
        made(private=WEAK | {"delta": 0.005})


def test_a_declared_class_without_records_is_a_class_of_the_set():
    small = made(private=WEAK | {"public": PUBLIC | {"classes": ["none", *PUBLIC["classes"]]}})
    assert small.classes == ("none", "c0", "c1", "c2", "c3")
    assert len(small) == 15


def test_only_distill_makes_private_sets():
    with pytest.raises(PotstillError, match=r"only `potstill\.distill` makes private sets"):
        potstill.plan(pictures(), "dm", ipc=1, private=WEAK)


# --- tables ----------------------------------------------------------------------------------------------------------

COLUMNS = {"size": [0, 10], "colour": ["blue", "green", "red"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    rng = torch.Generator().manual_seed(0)
    rows = ["size,colour,label"]
    for i in range(400):
        size = 2 + 6 * (i % 2) + float(torch.randn((), generator=rng))
        rows.append(f"{size:.3f},{('red', 'blue')[i % 2]},{('small', 'large')[i % 2]}")
    path.write_text("\n".join(rows) + "\n")
    return path


def of_table(table: Path, columns: Any = COLUMNS, **options: Any) -> potstill.Distilled:
    public = {"classes": ["small", "large"], "columns": columns}
    private = {"epsilon": 8.0, "delta": 1e-4, "cells": 2, "steps": 10, "public": public} | options
    splits = potstill.load_data(table, label="label")
    return potstill.distill(splits, ipc=4, private=private, steps=5, progress=None)


def test_rows_have_declared_columns_within_their_ranges(table: Path):
    small = of_table(table)
    assert small.input.columns == ("size", "colour=blue", "colour=green", "colour=red")
    x = small.inputs
    assert isinstance(x, torch.Tensor)
    assert float(x[:, 0].min()) >= 0
    assert float(x[:, 0].max()) <= 10
    assert float(x[:, 1:].min()) >= 0
    assert float(x[:, 1:].max()) <= 1
    assert small.classes == ("small", "large")
    first, second = (x[small.hard_labels == c] for c in range(2))
    assert float(first[:, 0].mean()) < 4 < float(second[:, 0].mean())  # the classes' means are 2 and 8
    assert float(first[:, 3].mean()) > 0.5 > float(second[:, 3].mean())  # small ones are red
    assert small.metadata["privacy"]["public"]["columns"] == {k: list(v) for k, v in COLUMNS.items()}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "ranges and categories of rows.csv must be public"),
        ({"size": [0, 10]}, "column 'colour' is not declared public"),
        (COLUMNS | {"weight": [0, 1]}, "has no column 'weight'"),
        (COLUMNS | {"size": [10, 0]}, "needs a range"),
        (COLUMNS | {"colour": ["red", "green"]}, "undeclared category 'blue'"),
        (COLUMNS | {"colour": [0, 1]}, "is a category, but is declared otherwise"),
    ],
)
def test_undeclared_columns_are_refused(table: Path, columns: dict[str, Any], message: str):
    with pytest.raises(PotstillError, match=message):
        of_table(table, columns)


def test_values_that_are_filled_from_the_data_are_refused(table: Path, tmp_path: Path):
    path = tmp_path / "holes.csv"
    path.write_text(table.read_text().replace("\n2.", "\n,red,small\n2.", 1))
    with pytest.raises(PotstillError, match="filled from the data"):
        potstill.distill(
            potstill.load_data(path, label="label", missing="impute"), ipc=2, progress=None,
            private=WEAK | {"public": {"classes": ["small", "large"], "columns": COLUMNS}},
        )  # fmt: skip


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_draws_no_noise_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fixed_noise(monkeypatch)
    whole = made(steps=6)
    fixed_noise(monkeypatch)
    at = tmp_path / "s.safetensors.checkpoint"

    def stop(progress: potstill.Progress) -> None:
        if progress.step == 3:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "s.safetensors"
    with pytest.raises(potstill.Interrupted):
        made(steps=6, checkpoint=at, out=out, progress=stop)
    assert release_path(at).exists()
    assert out.exists() is False
    with pytest.raises(PotstillError, match="would spend ε again"):
        made(steps=6, checkpoint=at, out=out)

    def fail(*_: object) -> None:
        raise AssertionError("noise was drawn twice")

    monkeypatch.setattr(door_module, "gaussian_noise", fail)
    resumed = made(steps=6, checkpoint=at, out=out, resume=True)
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.labels, whole.labels)
    assert not release_path(at).exists()


def test_a_run_that_ends_before_its_first_checkpoint_keeps_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    at, out = tmp_path / "s.safetensors.checkpoint", tmp_path / "s.safetensors"
    fixed_noise(monkeypatch)
    first = made(checkpoint=at)  # without an output, the release stays
    assert release_path(at).exists()
    assert not at.exists()
    fixed_noise(monkeypatch, 1)
    assert torch.equal(made(checkpoint=at, out=out, resume=True).inputs, first.inputs)


def test_the_same_command_spends_its_epsilon_once(tmp_path: Path):
    out = tmp_path / "s.safetensors"
    first = made(out=out)
    with pytest.raises(PotstillError, match="would spend ε again"):
        made(out=out)
    assert torch.equal(made(out=out, resume=True).inputs, first.inputs)
    with pytest.raises(PotstillError, match="set of another run"):
        made(out=out, resume=True, seed=1)
    assert not torch.equal(made(out=out, force=True).inputs, first.inputs)


def test_a_release_is_read_back_for_its_own_choices_alone(tmp_path: Path):
    train = pictures().train
    assert isinstance(train, TensorSource)
    options = PrivateOptions(epsilon=8.0, delta=1e-4, cells=1, steps=1, public=PUBLIC)
    release = draw_release(public_facts(train, PUBLIC), options, 0, plan_queries(options))
    path = tmp_path / "r.release"
    write_release(path, release)
    again = read_release(path, release.request)
    assert again.digest == release.digest
    assert again.queries == release.queries
    with pytest.raises(PotstillError, match="release for other choices"):
        read_release(path, "another")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PotstillError):
        read_release(path, release.request)
    assert b"seed" not in path.read_bytes()


# --- the claim in other places ---------------------------------------------------------------------------------------


def test_a_set_cannot_be_remade_without_its_epsilon(small: potstill.Distilled):
    with pytest.raises(PotstillError, match="to make it again spends its ε again"):
        maker_of(small)


def test_joined_sets_have_no_claim(small: potstill.Distilled):
    assert "privacy" not in concat([small, small]).metadata
    assert "no formal privacy" in describe(inspect(concat([small, small])))


def test_inspect_shows_the_claim(small: potstill.Distilled):
    text = describe(inspect(small))
    assert "ε = 2, δ = 0.0001 (add or remove one record; Gaussian, in floating point)" in text
    assert re.search(r"inside ε: starts, cells, moments, class counts, labels", text)
    assert "no hash" in text


def test_an_audit_shows_the_claim(small: potstill.Distilled):
    source = pictures(60).train
    assert isinstance(source, TensorSource)
    held = source.subset(torch.arange(0, len(source), 2))
    found = audit_privacy(small, Splits(train=source.subset(torch.arange(1, len(source), 2)), test=held), students=1)
    assert "The file claims ε = 2, which was not tested." in found.sentence


def records_with_canaries(n: int = 240) -> TensorSource:
    """Pictures of noise, so that each record can be told from all others."""
    rng = torch.Generator().manual_seed(0)
    x = 255 * torch.rand(n, 1, 8, 8, generator=rng).round()
    return TensorSource.make(x.to(torch.uint8), [f"c{i % 2}" for i in range(n)], name="rows")


@pytest.mark.parametrize("noise", [True, False])
def test_the_audit_refutes_the_claim_only_of_a_run_without_noise(noise: bool, monkeypatch: pytest.MonkeyPatch):
    """The planted fault: hardly any noise, and as many cells as records, so that the set shows records themselves."""
    if not noise:
        monkeypatch.setattr(distil_module, "plan_queries", lambda options: without_noise(monkeypatch, options))
    public = {"classes": ["c0", "c1"], "shape": [1, 8, 8]}
    private = {"epsilon": 0.5, "delta": 1e-4, "cells": 200, "steps": 1, "labeller": 0, "public": public}

    def make(source: TensorSource, seed: int) -> potstill.Distilled:
        return potstill.distill(
            Splits(train=source, test=None), ipc=200, private=private, seed=seed, steps=0, progress=None
        )

    bound = audit_epsilon(
        make, Splits(train=records_with_canaries(), test=None), epsilon=0.5, delta=1e-4, canaries=200,
        attacks=("distance",),
    )  # fmt: skip
    assert bound.refutes is not noise


def test_the_command_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    facts, out = tmp_path / "facts.json", tmp_path / "s.safetensors"
    facts.write_text(json.dumps({"classes": ["small", "large"], "columns": COLUMNS}))
    line = ["distill", str(table), "--label", "label", "--ipc", "2", "--out", str(out), "--json"]
    private = f"epsilon=2,delta=1e-4,steps=4,public={facts}"
    assert main([*line, "--private", private]) == 0
    assert json.loads(capsys.readouterr().out)["privacy"]["epsilon"] == 2.0
    assert not release_path(Path(f"{out}.checkpoint")).exists()
    assert main([*line, "--private", private]) == 1
    assert "would spend ε again" in capsys.readouterr().err
    assert main([*line, "--private", "epsilon=0,delta=1e-4", "--force"]) == 1
    error = capsys.readouterr().err.strip()
    assert "epsilon must be above 0" in error
    assert "\n" not in error


def test_a_foreign_claim_is_shown_only_where_it_is_valid(small: potstill.Distilled):
    for wrong in ({"epsilon": -1, "delta": 0}, {"epsilon": "1", "delta": 0}, {"epsilon": 10**400, "delta": 0}, [1]):
        card = inspect(small)
        card["metadata"]["privacy"] = wrong
        assert "no formal privacy" in describe(card)
    assert replace(PrivateOptions(epsilon=1.0, delta=1e-5), cells=3).cells == 3


def test_the_page_and_cards_show_the_claim(small: potstill.Distilled, tmp_path: Path):
    small.save(tmp_path / "s.safetensors")
    page = potstill.report(tmp_path / "s.safetensors", tmp_path / "s.html").read_text()
    assert "ε = 2, δ = 0.0001 (add or remove one record" in page
    assert "Privacy, not done" in page
    folder = potstill.export(small, "hf", tmp_path / "hub")
    assert "It is differentially private with ε = 2" in (folder / "README.md").read_text()
    other = potstill.distill("digits", "random", ipc=1, progress=None)
    folder = potstill.export(other, "hf", tmp_path / "other")
    assert "It promises no privacy" in (folder / "README.md").read_text()
