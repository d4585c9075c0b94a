"""Sets of pictures with boxes from a file to a scorecard: the command line and Python, on small pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data.in_memory import TensorSource
from potstill.dataset_file.payload_io import pop_targets
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.model_baseline import check_model_data
from potstill.tasks import ObjectDetection, get_targets, list_targets, split_targets
from tests.box_data import NAMES, rectangles, write_coco


def splits_of(n: int = 20) -> Splits:
    return potstill.load_data(rectangles(n), task=ObjectDetection(labels=NAMES))


def rows_of(y: torch.Tensor) -> list[list[list[float]]]:
    return [rows.tolist() for rows in list_targets(y)]


def test_a_coco_file_is_distilled_and_measured_by_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "shapes")
    assert main(["distill", "shapes", "--method", "random", "--items", "5", "--out", "small.safetensors"]) == 0
    assert "for detection" in capsys.readouterr().out
    named = ["--task", "detection", "--data", "shapes/instances.json", "--network", "centernet-d1-w8"]
    assert (
        main(["evaluate", "small.safetensors", *named, "--seeds", "2", "--steps", "30", "--lr", "0.03", "--json"]) == 0
    )
    card = json.loads(capsys.readouterr().out)
    assert card["score"]["metric"] == "AP50"
    assert card["score"]["unit"] == "fraction"
    assert card["network"] == "centernet-d1-w8"
    assert set(card["metrics"]) >= {"AP", "AP50 bright"}
    assert card["baselines"]["random"]["bytes"] <= 1.05 * card["bytes"]["total"] + 1000
    other = ["--items", "2", "--out", "x.safetensors", "--network", "convnet"]
    assert main(["distill", "shapes", "--method", "dm", *other]) == 1
    assert "boxes need one for each place" in capsys.readouterr().err
    assert main(["inspect", "small.safetensors"]) == 0
    assert "in all, " in capsys.readouterr().out


def test_a_second_network_learns_the_same_boxes() -> None:
    """Students of two networks find the rectangles far better than one box around each picture."""
    splits = splits_of(60)
    small = potstill.distill(splits, "random", items=30, progress=None)
    scores = [
        potstill.evaluate(
            small, splits, networks=name, seeds=1, steps=100, lr=0.03, baselines=False, full=False, progress=None
        ).score
        for name in ("centernet-d1-w8", "unet-d1-w4")
    ]
    assert min(scores) > 0.3


def test_boxes_are_values_and_offsets_in_the_file_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    small = potstill.distill(splits_of(), "random", items=6, progress=None)
    path = small.save(tmp_path / "s.safetensors")
    again = potstill.load(path)
    assert torch.equal(again.labels, small.labels)
    assert again.task == ObjectDetection(labels=NAMES, size=(24, 24))
    stored = load_file(str(path))
    assert stored["labels/values"].shape == (sum(map(len, rows_of(small.labels))), 5)
    sizes = {name: t.numel() * t.element_size() for name, t in stored.items()}
    assert sum(n for name, n in sizes.items() if name.startswith("labels")) == small.metadata["bytes"]["labels"]
    assert sum(sizes.values()) == small.metadata["bytes"]["total"]
    for row, what in (
        ([0.0, 0, 25, 5, 0], "within 24 × 24"), ([5.0, 0, 5, 5, 0], "left < right"), ([0.0, 0, 5, 5, 2], "0 … 1, but"),
        ([float("nan")] * 5, "not numbers"), ([torch.finfo(torch.float32).min] * 5, "not numbers"),
    ):  # fmt: skip
        values, offsets = split_targets(small.labels)
        values[1] = torch.tensor(row)
        with pytest.raises(PotstillError, match=what) as raised:
            pop_targets({"labels/values": values, "labels/offsets": offsets}, small.task)
        assert "\n" not in str(raised.value)
    values, offsets = split_targets(small.labels)
    for wrong in (values[:, :4], values[:, 0]):
        with pytest.raises(PotstillError, match=r"rows \(n, most, 5\)"):
            pop_targets({"labels/values": wrong, "labels/offsets": offsets}, small.task)


def test_sets_are_joined_and_bytes_buy_pictures_with_their_boxes(tmp_path: Path) -> None:
    splits = splits_of(40)
    small = potstill.distill(splits, "random", bytes=6000, codec="uint4", progress=None)
    assert 3000 < small.metadata["bytes"]["total"] - small.metadata["bytes"].get("index", 0) <= 6000
    more = potstill.distill(splits, "random", items=3, seed=1, progress=None)
    one = potstill.distill(splits, "random", items=2, seed=2, progress=None)
    both = potstill.concat([more, one])
    assert rows_of(both.labels) == rows_of(more.labels) + rows_of(one.labels)
    again = potstill.load(both.save(tmp_path / "both.safetensors"))
    assert torch.equal(again.labels, both.labels)


def test_students_move_boxes_and_methods_leave_movements_out() -> None:
    splits = splits_of()
    assert set(student_augmentation("dsa", splits.train).geometric) >= {"flip", "scale"}  # type: ignore[attr-defined]
    small = potstill.distill(splits, "dm", items=2, steps=1, progress=None)
    assert any("augmentation dsa without" in note for note in small.notes)
    assert any(note.startswith("network centernet: convnet, which dm has by default") for note in small.notes)


@pytest.mark.parametrize("name", ["herding", "k-center", "dc", "dm"])
def test_methods_keep_the_boxes_of_real_pictures(name: str) -> None:
    splits = splits_of()
    options: dict[str, Any] = {}
    if name in ("dc", "dm"):
        options = {"steps": 1, "network": "centernet-d1-w4", "preset": "quick"}
    small = potstill.distill(splits, name, items=3, progress=None, **options)
    real = rows_of(get_targets(splits.train))
    assert len(small) == 3
    assert all(rows in real for rows in rows_of(small.labels))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("k-median", {}, "k-median does classification, but arrays is detection"),
        ("rat-bptt", {"labels": "learned"}, "makes labels of its own, but the number of targets"),
        ("dm", {"init_from": "noise"}, "noise has no detection targets"),
    ],
)
def test_what_needs_a_class_for_each_picture_refuses_in_one_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(PotstillError, match=message) as raised:
        potstill.distill(splits_of(), name, items=3, steps=1, progress=None, **options)
    assert "\n" not in str(raised.value)


def test_exports_to_coco_and_yolo_are_read_again_with_equal_boxes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, rows = rectangles(9)
    rows[3] = rows[3][:0]
    splits = potstill.load_data((x, rows), task=ObjectDetection(labels=("a: b", "<b>dark</b>")), test_fraction=0)
    small = potstill.distill(splits, "random", items=9, progress=None)
    small.save("small.safetensors")
    for to in ("coco", "yolo"):
        assert main(["export", "small.safetensors", "--to", to, "--out", to]) == 0
        again = potstill.load_data(to, test_fraction=0)
        assert isinstance(again.train, TensorSource)
        assert again.train.task == splits.train.task
        for found, real in zip(list_targets(get_targets(again.train)), list_targets(small.labels), strict=True):
            torch.testing.assert_close(found, real, atol=0 if to == "coco" else 1e-5, rtol=0)
        assert torch.equal(again.train.raw(torch.arange(9)), small.inputs)
    assert main(["export", "small.safetensors", "--to", "png", "--out", "f"]) == 1
    assert "take --to coco or --to yolo" in capsys.readouterr().err.replace("=", " ")
    for to, name in (("parquet", "a.parquet"), ("npz", "a.npz"), ("webdataset", "shards")):
        assert main(["export", "small.safetensors", "--to", to, "--out", name]) == 0
    classed = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="pictures with boxes, but this set has none"):
        potstill.export(classed, "coco", "c")


def test_the_page_draws_boxes_with_escaped_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = potstill.load_data(rectangles(8), task=ObjectDetection(labels=("bright", "<b>dark")), test_fraction=0)
    small = potstill.distill(splits, "random", items=8, progress=None)
    small.save("small.safetensors")
    assert main(["report", "small.safetensors", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<rect x="') == sum(map(len, rows_of(small.labels)))
    assert "8 of 8 pictures with their boxes" in page
    assert "&lt;b&gt;dark" in page
    assert "<b>dark" not in page


def test_a_plan_knows_boxes_and_a_network_of_the_same_bytes_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "shapes")
    assert main(["plan", "shapes", "--method", "random", "--items", "3"]) == 0
    assert "16 pictures of 3×24×24" in capsys.readouterr().out
    with pytest.raises(PotstillError, match="but these are pictures of task detection"):
        check_model_data(splits_of(8).train)
