"""Sets of pictures with masks from a folder to a scorecard: the command line and Python, on small pictures."""

import json

import pytest
import torch

import potstill
from potstill.augment.siamese import Siamese
from potstill.cli.main import main
from potstill.core import Splits, registry
from potstill.data.in_memory import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.model_baseline import check_model_data
from potstill.evaluation.student import StudentJob, fit
from potstill.nn import factory_for
from potstill.tasks import IGNORED, Segmentation
from tests.mask_data import squares, write_masks


def splits_of(n: int = 20) -> Splits:
    return potstill.load_data(squares(n), task="segmentation")


def stored_bytes(path: object) -> dict[str, int]:
    from safetensors.torch import load_file

    return {name: t.numel() * t.element_size() for name, t in load_file(str(path)).items()}


def test_a_folder_is_distilled_and_measured_by_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_masks(tmp_path / "fields")
    assert main(["distill", "fields", "--method", "random", "--items", "5", "--out", "small.safetensors"]) == 0
    said = capsys.readouterr()
    assert "for segmentation" in said.out
    short = ["--network", "fcn2d-d1-w8", "--seeds", "2", "--steps", "12", "--json"]
    assert main(["evaluate", "small.safetensors", "--data", "fields", *short]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["score"]["metric"] == "mIoU"
    assert card["score"]["unit"] == "fraction"
    assert card["network"] == "fcn2d-d1-w8"
    assert set(card["metrics"]) >= {"pixel_accuracy", "IoU 0"}
    assert card["baselines"]["random"]["bytes"] <= 1.05 * card["bytes"]["total"] + 1000
    other = ["--items", "2", "--out", "x.safetensors", "--network", "convnet"]
    assert main(["distill", "fields", "--method", "dm", *other]) == 1
    assert "has one answer for a whole picture" in capsys.readouterr().err


def test_masks_are_written_in_the_bits_that_the_metadata_say(tmp_path):
    splits = splits_of()
    small = potstill.distill(splits, "random", items=6, progress=None)
    assert small.labels.shape == (6, 16, 16)
    path = small.save(tmp_path / "s.safetensors")
    again = potstill.load(path)
    assert torch.equal(again.labels, small.labels)
    assert torch.equal(again.inputs, small.inputs)
    assert again.task == Segmentation(labels=("0", "1", "2"))
    x, mask = again[0]
    assert (x.shape, mask.shape) == ((3, 16, 16), (16, 16))
    sizes = stored_bytes(path)
    assert sum(n for name, n in sizes.items() if name.startswith("labels")) == small.metadata["bytes"]["labels"]
    assert sum(sizes.values()) == small.metadata["bytes"]["total"]
    assert small.metadata["bytes"]["labels"] < 6 * 16 * 16 // 8
    noise = torch.randint(0, 2, (4, 16, 16), generator=torch.Generator().manual_seed(0))
    noisy = potstill.load_data((squares(4)[0], noise.numpy()), task="segmentation", test_fraction=0)
    coded = potstill.distill(noisy, "random", items=4, progress=None)
    assert coded.metadata["bytes"]["labels"] == 4 * 16 * 16 // 8  # one bit each, where nothing can be foretold
    assert coded.metadata["codec"]["tensors"]["labels"]["bits"] == 1


def test_pixels_without_a_class_stay_so_in_files_and_in_joined_sets(tmp_path):
    x, y = squares(12)
    y[:, :3] = IGNORED
    splits = potstill.load_data((x, y), task="segmentation", test_fraction=0)
    small = potstill.distill(splits, "random", items=4, progress=None)
    more = potstill.distill(splits, "random", items=3, seed=1, progress=None)
    both = potstill.concat([small, more])
    assert torch.equal(both.labels, torch.cat([small.labels, more.labels]))
    again = potstill.load(both.save(tmp_path / "both.safetensors"))
    assert torch.equal(again.labels, both.labels)
    assert bool((again.labels[:, :3] == IGNORED).all())


def test_students_see_masks_where_their_pictures_are_under_the_default_augmentation():
    """Each class has a shade of its own, so a picture that moved without its mask would be found."""
    y = torch.from_numpy(squares(24, 24)[1]).long()
    shades = torch.tensor([0.1, 0.5, 0.9])
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Looking(Segmentation):
        __slots__ = ()

        def loss(self, output: torch.Tensor, y: torch.Tensor, /) -> torch.Tensor:
            seen.append((output.detach()[:, 0], y.clone()))
            return output.square().mean()

    class Seen(potstill.core.Network):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = torch.nn.Identity()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) * self.scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    task = Looking(labels=("0", "1", "2"))
    made = TensorSource.make(shades[y], torch.zeros(24, dtype=torch.int64), name="shades", kind="image")
    source = TensorSource(
        name="shades", input=made.input, classes=(), normalization=made.normalization, inputs=made.inputs,
        labels=made.labels, task=task, targets=y.to(torch.uint8),
    )  # fmt: skip
    moving = set(student_augmentation("dsa", source).geometric)  # type: ignore[attr-defined]
    assert moving == {"flip", "shift", "scale", "rotate"}  # nothing is left out, as masks move along
    augment = Siamese(strategy=("crop", "flip", "scale", "rotate"))
    protocol = registry.resolve("protocols", "dsa").override(epochs=15, batch=24).resolve("shades", "x", source.input)
    x = source.raw(torch.arange(24))

    class Make:
        name, device = "seen", torch.device("cpu")

        def __call__(self, seed: int, /) -> potstill.core.Network:
            return Seen()

    job = StudentJob(
        make=Make(), x=x, y=source.targets, protocol=protocol, lr=1e-9, steps=None, augment=augment, seed=1, task=task,
    )  # fmt: skip
    fit(Seen(), job)
    moved = 0
    for picture, mask in seen:
        known = mask != IGNORED
        inner = torch.zeros_like(known)
        inner[:, 2:-2, 2:-2] = True
        near = (picture - shades[mask.where(known, 0).long()]).abs() < 0.21  # half of what two shades differ by
        assert float((near | ~known)[inner].float().mean()) > 0.97  # edges are interpolated
        moved += int((mask != y[: len(mask)]).any())
    assert moved > 10


@pytest.mark.parametrize("name", ["herding", "k-center", "dc", "dm", "rat-bptt"])
def test_methods_keep_the_masks_of_real_pictures(name: str) -> None:
    splits = splits_of()
    small = potstill.distill(
        splits, name, items=3, steps=1, network="fcn2d-d1-w4", progress=None, preset="quick"
    ) if name in ("dc", "dm", "rat-bptt") else potstill.distill(splits, name, items=3, progress=None)  # fmt: skip
    real = {tuple(mask.flatten().tolist()) for mask in splits.train.targets}
    assert {tuple(mask.flatten().tolist()) for mask in small.labels} <= real
    assert len(small) == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("k-median", {}, "k-median does classification, but arrays is segmentation"),
        ("mtt", {}, "mtt does classification"),
        ("rat-bptt", {"labels": "learned"}, "makes labels of its own, but those of arrays are of pixels"),
        ("dm", {"network": "convnet"}, "convnet has one answer for a whole picture"),
        ("dm", {"init_from": "noise"}, "noise has no segmentation targets"),
    ],
)
def test_what_needs_a_class_for_each_picture_refuses_in_one_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(PotstillError, match=message) as raised:
        potstill.distill(splits_of(), name, items=3, steps=1, progress=None, **options)
    assert "\n" not in str(raised.value)
    with pytest.raises(PotstillError, match="no items per class"):
        potstill.distill(splits_of(), "random", ipc=3, progress=None)


def test_bytes_buy_pictures_with_their_masks() -> None:
    splits = splits_of(40)
    small = potstill.distill(splits, "random", bytes=3000, codec="uint4", progress=None)
    total = small.metadata["bytes"]["total"] - small.metadata["bytes"].get("index", 0)
    assert 2000 < total <= 3000
    assert len(small) >= 6


def test_default_networks_follow_the_masks() -> None:
    splits = splits_of(8)
    assert factory_for("unet", splits.train).name == "unet-d2-w16"
    small = potstill.distill(splits, "dm", items=2, steps=1, progress=None)
    assert any(note.startswith("network unet: convnet, which dm has by default") for note in small.notes)


def test_the_page_shows_pictures_beside_masks_and_the_export_is_read_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = squares(12)
    y[0, 0] = IGNORED
    names = ["field", "<b>road</b>", "tree"]
    splits = potstill.load_data({"x": x, "y": y, "classes": names}, task="segmentation", test_fraction=0)
    small = potstill.distill(splits, "balanced-masks", items=12, progress=None)
    small.save("small.safetensors")
    assert main(["report", "small.safetensors", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('alt="mask of picture') == 12
    assert "12 of 12 pictures, each beside its mask" in page
    assert "&lt;b&gt;road&lt;/b&gt;" in page
    assert "<b>road" not in page
    assert "white: pixels without a class" in page
    assert main(["export", "small.safetensors", "--to", "png", "--out", "folder"]) == 0
    again = potstill.load_data("folder", test_fraction=0)
    assert isinstance(again.train, TensorSource)
    assert torch.equal(again.train.targets.long(), small.labels)
    assert torch.equal(again.train.raw(torch.arange(12)), small.inputs)
    assert again.train.task == Segmentation(labels=tuple(names))
    assert main(["export", "small.safetensors", "--to", "npz", "--out", "a.npz"]) == 0
    arrays = potstill.load_data("a.npz", task="segmentation", test_fraction=0)
    assert torch.equal(arrays.train.targets.long(), small.labels)
    for to, name in (("parquet", "a.parquet"), ("webdataset", "shards")):
        assert main(["export", "small.safetensors", "--to", to, "--out", name]) == 0
    assert main(["inspect", "small.safetensors"]) == 0
    capsys.readouterr()


def test_a_plan_and_a_comparison_know_masks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_masks(tmp_path / "fields")
    assert main(["plan", "fields", "--method", "random", "--items", "3"]) == 0
    assert "16 pictures of 3×16×16" in capsys.readouterr().out
    short = ["--methods", "random,balanced-masks", "--items", "3", "--seeds", "1", "--repeats", "1", "--steps", "5"]
    assert main(["compare", "fields", *short, "--network", "fcn2d-d1-w4", "--out", "both"]) == 0
    assert "mIoU" in (tmp_path / "both" / "leaderboard.json").read_text(encoding="utf-8")
    assert main(["report", "both", "--out", "page.html"]) == 0
    assert "mIoU" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_network_of_the_same_bytes_is_refused_for_masks() -> None:
    with pytest.raises(PotstillError, match="with classes or numbers, but these are pictures of task segmentation"):
        check_model_data(splits_of(8).train)
