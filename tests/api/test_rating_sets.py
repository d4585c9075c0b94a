"""Sets of users from a file to a page: the command line and Python, on small interactions."""

import csv
import json

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError
from tests.ratings_data import write_shop


def test_a_set_of_users_is_made_measured_shown_and_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path / "shop.csv")
    make = ["shop.csv", "--kind", "ratings", "--method", "distill-cf", "--items", "6"]
    assert main(["distill", *make, "--steps", "200", "--out", "small.safetensors"]) == 0
    said = capsys.readouterr()
    assert "60 users, 36 items" in said.err
    assert "6 users of 36 for recommendation" in said.out
    assert main(["evaluate", "small.safetensors", "--data", "shop.csv", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["network"] == "ntk-autoencoder"
    assert card["score"]["metric"] == "nDCG@10"
    assert card["score"]["mean"] > card["naive"]["popular items"]["score"]
    assert card["full"]["mean"] > card["naive"]["popular items"]["score"] + 0.1
    assert 0 < card["metrics"]["coverage"]["mean"] <= 1
    assert card["baselines"]["random"]["bytes"] <= card["bytes"]["total"]
    assert main(["report", "small.safetensors", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "6 of 6 users" in page
    assert "Thing &lt;" in page
    assert "<0>" not in page
    assert main(["export", "small.safetensors", "--to", "csv", "--out", "small.csv"]) == 0
    small = potstill.load("small.safetensors")
    pairs = list(csv.DictReader((tmp_path / "small.csv").read_text(encoding="utf-8").splitlines()))
    assert len(pairs) == int(small.inputs.sum())
    columns = small.input.columns
    assert all(small.inputs[int(p["user"]) - 1, columns.index(p["item"])] == 1 for p in pairs)
    assert pairs[0]["title"] == f"Thing <{pairs[0]['item'].removeprefix('i')}>"
    capsys.readouterr()
    assert main(["plan", *make]) == 0
    assert "60 users of 36" in capsys.readouterr().out


def test_lists_of_users_are_coded_by_what_they_hold(tmp_path):
    splits = potstill.load_data(write_shop(tmp_path / "shop.csv"), kind="ratings")
    small = potstill.distill(splits, "distill-cf", bytes=150, steps=20, progress=None)
    assert small.metadata["bytes"]["total"] <= 150
    again = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert torch.equal(again.inputs, small.inputs)
    packed = -(-small.inputs.numel() // 8)
    assert small.metadata["bytes"]["inputs"] < packed
    real = potstill.distill(splits, "distill-cf", items=3, steps=5, parametrization="pixels", progress=None)
    assert len(real.inputs.unique()) > 2
    with pytest.raises(PotstillError, match="multi-hot makes zeros and ones, which codec exact writes"):
        potstill.distill(splits, "distill-cf", items=3, codec="uint4", progress=None)


def test_the_most_active_users_are_real_ones(tmp_path):
    splits = potstill.load_data(write_shop(tmp_path / "shop.csv"), task="recommendation:rating=3")
    small = potstill.distill(splits, "most-active", items=4, progress=None)
    lengths = splits.train.inputs.sum(1)
    assert torch.equal(small.inputs, splits.train.inputs[small.index])
    assert sorted(lengths[small.index].tolist()) == sorted(lengths.tolist())[-4:]


def test_auto_holds_fake_users_against_real_ones(tmp_path):
    splits = potstill.load_data(write_shop(tmp_path / "shop.csv"), kind="ratings")
    options = {"candidates": ["random", "distill-cf@20"], "student_steps": 100, "confirm": 2}
    small = potstill.distill(splits, "auto", bytes=90, progress=None, **options)
    assert small.metadata["bytes"]["total"] <= 90
    assert "nDCG@10" in str(small.choice)
