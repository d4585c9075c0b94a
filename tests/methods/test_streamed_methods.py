"""Methods over data that are not in memory: the same sets as over data that are, each picture read once per pass."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.cli.main import main
from potstill.core import Problem, Splits
from potstill.data import StreamSource, load
from potstill.data.iterate import iterate_groups, map_samples
from potstill.data.readers import Reader
from potstill.execution import Serial
from potstill.methods.decoupled._statistics import measure_statistics
from potstill.methods.decoupled.g_vbsm import GVBSM
from potstill.methods.decoupled.rded import RDED
from potstill.pretraining import build_assets
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec

CLASSES, PER_CLASS = 3, 9


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POTSTILL_WORKERS", "2")


def picture(label: int, i: int) -> bytes:
    rng = np.random.default_rng([label, i])
    x = rng.integers(0, 120, (12, 12, 3)) + 60 * label
    file = io.BytesIO()
    Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label in range(CLASSES):
            (tmp_path / "photos" / part / f"c{label}").mkdir(parents=True)
            for i in range(PER_CLASS):
                path = tmp_path / "photos" / part / f"c{label}" / f"{i}.png"
                path.write_bytes(picture(label, i + 100 * (part == "test")))
    return tmp_path / "photos"


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Every class in every shard."""
    for s in range(3):
        with tarfile.open(tmp_path / f"s-{s}.tar", "w") as tar:
            for i in range(PER_CLASS):
                label = i % CLASSES
                files = (("png", picture(label, 10 * s + i)), ("cls", str(label).encode()))
                for extension, content in files:
                    about = tarfile.TarInfo(f"{i:03}.{extension}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))
    return str(tmp_path / "s-{0..2}.tar")


class Counting(Reader):
    """A reader that counts what is read."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.together, self.window = reader, reader.together, reader.window
        self.order: list[int] = []

    def __len__(self) -> int:
        return len(self.reader)

    def where(self, place: int, /) -> str:
        return str(self.reader.where(place))

    def read_one(self, place: int, /) -> bytes:
        return self.read([place])[0]

    def read(self, places: Any, /) -> list[bytes]:
        self.order += places
        found: list[bytes] = self.reader.read(places)
        return found

    def opened(self, place: int, /) -> Any:
        return self.reader.opened(place)


def counted(splits: Splits) -> tuple[Splits, Counting]:
    assert isinstance(splits.train, StreamSource)
    reader = Counting(splits.train.reader)
    return Splits(train=replace(splits.train, reader=reader), test=splits.test), reader


QUICK: dict[str, Any] = {"teacher_epochs": 1, "teacher_batch": 8, "network": "convnet-d1-w4-batch"}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("herding", {"features": "untrained"}),
        ("k-center", {}),
        ("random-soft", {"network": "convnet-d1-w4"}),
        ("rded", {**QUICK, "factor": 2, "samples": 5}),
        ("delt", {**QUICK, "iterations": 1}),
        ("lpld", {**QUICK, "iterations": 1}),
    ],
)
def test_the_set_is_that_of_the_data_in_memory(folder: Path, method: str, options: dict[str, Any]) -> None:
    held, read = (load(folder, stream=stream) for stream in (False, True))
    one = potstill.distill(held, method, ipc=2, steps=6, device="cpu", **options)
    two = potstill.distill(read, method, ipc=2, steps=6, device="cpu", **options)
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.labels, two.labels)
    assert two.metadata["source"]["hash"] == read.train.content_hash


def test_a_step_of_rded_reads_its_samples_once_in_the_order_of_the_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_WORKERS", "1")
    splits, reader = counted(load(folder, stream=True))
    method = RDED(**QUICK, samples=6)
    problem = ready(splits, method)
    rng = torch.Generator().manual_seed(0)
    state = method.init(problem, rng)
    for c in range(CLASSES):
        reader.order.clear()
        state, _ = method.step(problem, state, rng)
        assert len(reader.order) == len(set(reader.order)) == 6
        assert reader.order == sorted(reader.order)
        assert all(PER_CLASS * c <= place < PER_CLASS * (c + 1) for place in reader.order)


def ready(splits: Splits, method: Any) -> Problem:
    """The problem with its teachers."""
    settled = resolve_run(RunSpec(splits, method, ipc=1, device="cpu"))
    problem, made = settled.problem, settled.method
    assets, _ = build_assets(
        made.assets(problem), problem.train, problem.network, lambda name: named_augmentation(name, problem.train),
        executor=Serial(),
    )  # fmt: skip
    return replace(problem, assets=assets)


def test_statistics_of_classes_that_lie_scattered_are_taken_in_one_pass(shards: str) -> None:
    held, read = load(shards, stream=False, test_fraction=0), load(shards, stream=True, test_fraction=0)
    splits, reader = counted(read)
    method = GVBSM(**QUICK, committee="")
    problem = ready(held, method)
    method, _ = method.resolve_defaults(problem)
    (member,) = method.teachers().load(problem)
    wanted = measure_statistics(problem, member, method.build_engine(problem).match.rules, problem.class_indices)
    found = measure_statistics(
        replace(problem, train=splits.train), member, method.build_engine(problem).match.rules, problem.class_indices
    )
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    assert sorted(reader.order) == list(range(3 * PER_CLASS))


def test_groups_come_one_by_one_unless_they_are_scattered(shards: str, folder: Path) -> None:
    def passes(source: Any) -> list[list[int]]:
        groups = [torch.where(source.labels == c)[0] for c in range(CLASSES)]
        seen, numbers = torch.zeros(len(source), dtype=torch.int64), []
        for group, batch in iterate_groups(source, groups, 4):
            assert torch.equal(group, batch.y)
            numbers.append(sorted(set(group.tolist())))
            seen[: len(group)] += 1
        return numbers

    assert all(len(n) == 1 for n in passes(load(folder, stream=True).train))
    assert all(len(n) == 1 for n in passes(load(shards, stream=False, test_fraction=0).train))
    assert any(len(n) > 1 for n in passes(load(shards, stream=True, test_fraction=0).train))


def test_each_gives_rows_in_the_order_that_was_asked_for(shards: str) -> None:
    index = torch.tensor([20, 3, 11, 0])
    for stream in (False, True):
        source = load(shards, stream=stream, test_fraction=0).train
        x = source.fetch(index).x
        assert isinstance(x, Tensor)
        assert torch.equal(map_samples(source, index, 3, lambda batch: batch.x.flatten(1)), x.flatten(1))  # type: ignore[union-attr]


def test_a_set_is_measured_on_streamed_data_and_says_whether_it_was_made_of_them(folder: Path) -> None:
    held, read = load(folder, stream=False), load(folder, stream=True)
    small = potstill.distill(read, "random", ipc=2, device="cpu")
    options: dict[str, Any] = {
        "networks": ["convnet-d1-w4"], "seeds": 1, "epochs": 2, "robust_scores": False, "device": "cpu",
    }  # fmt: skip
    cards = [potstill.evaluate(small, data, full=False, **options).to_dict() for data in (read, held)]
    assert [c["data"]["made_of_train"] for c in cards] == [True, None]
    assert cards[0]["accuracy"] == cards[1]["accuracy"]
    assert cards[0]["baselines"].keys() == cards[1]["baselines"].keys()
    assert cards[0]["baselines"]["herding"]["mean"] == cards[1]["baselines"]["herding"]["mean"]


def test_the_command_line_streams_when_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.safetensors"
    status = main(["distill", str(folder), "--method", "random", "--ipc", "1", "--stream", "--out", str(out), "--json"])
    shown = capsys.readouterr()
    assert status == 0
    assert "streamed; normalised by 27 of 27 training pictures" in shown.err
    assert json.loads(shown.out)["source"]["hash"].startswith("encoded:")
    main(["distill", str(folder), "--method", "random", "--ipc", "1", "--stream", "--out", str(out)])
    assert f"--data {folder}\n" in capsys.readouterr().out  # that it is streamed, its card says
