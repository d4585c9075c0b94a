"""Published folders, made here as the published code makes them, come back picture by picture; others run nothing."""

import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from label_samples import import_flat
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from potstill.cli.main import main
from potstill.dataset_file import load
from potstill.errors import PotstillError
from potstill.labels.fkd import sampler_order
from potstill.labels.label_file import LabelFile, hash_inputs
from potstill.rng import generator

N, B, EPOCHS, SIDE, SIZE = 22, 8, 3, (10, 8), (7, 6)
CLASSES = tuple(f"n{c}" for c in range(9))
KNOWN: dict[str, Any] = {"classes": CLASSES, "items": N, "picture": SIDE, "size": SIZE}


def pictures(side: tuple[int, int] = SIDE) -> Tensor:
    return torch.randn(N, 3, *side, generator=generator(0, "pictures"))


def produce(
    folder: Path, x: Tensor, mix: str, index: bool = False, shuffled: bool = False, size: tuple[int, int] = SIZE,
    classes: int = len(CLASSES),
) -> list[tuple[int, Tensor, Tensor, Tensor]]:  # fmt: skip
    """The producer's algorithm (relabel/generate_soft_label.py, utils_fkd.py), with plain tensors for PIL pictures.

    Returns:
        For every batch its epoch, its items, the mixed views and the logits.
    """
    rng, draw = np.random.default_rng(1), generator(2)
    teacher = torch.randn(x.shape[1] * size[0] * size[1], classes, generator=draw)
    seeded = torch.Generator()
    seeded.manual_seed(42)
    sampler = BatchSampler(RandomSampler(range(len(x)), generator=seeded), B, drop_last=False)  # type: ignore[arg-type]
    made = []
    h, w = x.shape[2:]
    for epoch in range(EPOCHS):
        (folder / f"epoch_{epoch}").mkdir(parents=True)
        for b, items in enumerate(sampler):
            views, coords, flips = [], [], []
            for i in items:
                tall, wide = int(rng.integers(3, h + 1)), int(rng.integers(3, w + 1))
                top, left = int(rng.integers(0, h - tall + 1)), int(rng.integers(0, w - wide + 1))
                coords.append(torch.FloatTensor((top / h, left / w, tall / h, wide / w)))
                part = x[i : i + 1, :, top : top + tall, left : left + wide]
                view = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
                flips.append(bool(rng.random() < 0.5))
                views.append(view.flip(2) if flips[-1] else view)
            images, m = torch.stack(views), len(items)
            config: list[Any] = [torch.stack(coords), torch.tensor(flips), None, None, None]
            if mix != "none":
                perm, lam = torch.randperm(m, generator=draw), rng.beta(1.0, 1.0)
                config[2:4] = perm, lam
            if mix == "cutmix":
                cut = np.sqrt(1.0 - lam)
                high, broad = int(size[0] * cut), int(size[1] * cut)
                y, z = rng.integers(size[0]), rng.integers(size[1])
                x1, x2 = (np.clip(y + s * (high // 2), 0, size[0]) for s in (-1, 1))
                y1, y2 = (np.clip(z + s * (broad // 2), 0, size[1]) for s in (-1, 1))
                images[:, :, x1:x2, y1:y2] = images[perm, :, x1:x2, y1:y2]
                config[4] = [x1, y1, x2, y2]
            elif mix == "mixup":
                lam = np.float64(lam)
                config[3] = lam
                images = float(lam) * images + (1 - float(lam)) * images[perm]
            logits = images.flatten(1) @ teacher
            config.append(logits.half())
            if index:
                config.append(torch.tensor(items))
                config.append(torch.ones(m, 2, 2).int() if shuffled else torch.zeros(m, 2, 2).int())
            torch.save(config, folder / f"epoch_{epoch}" / f"batch_{b}.tar")
            made.append((epoch, torch.tensor(items), images, logits))
    return made


@pytest.mark.parametrize(("mix", "index"), [("cutmix", False), ("mixup", False), ("none", False), ("cutmix", True)])
def test_a_folder_comes_back_view_by_view(tmp_path: Path, mix: str, index: bool) -> None:
    side = (10, 10) if index else SIDE
    x = pictures(side)
    made = produce(tmp_path / "FKD", x, mix, index)
    known = KNOWN | {"picture": side, "inputs_hash": hash_inputs(x)}
    store = import_flat(tmp_path / "FKD", tmp_path / "labels", **known)
    store.check(CLASSES, hash_inputs(x))
    assert store.about.epochs == EPOCHS
    for epoch, items, images, logits in made:
        seen, rows = store.batch_of(x, epoch, items, 20.0)
        torch.testing.assert_close(seen, images, rtol=0, atol=2e-5)
        torch.testing.assert_close(rows, (logits / 20).softmax(1), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(store.logits(epoch, items), logits, rtol=0, atol=0.1)
        one = torch.tensor([int(items[-1])])  # and no batch matters
        assert torch.equal(store.view(x, epoch, one)[0], seen[-1])
    recorded = {"none": 9, "mixup": 17, "cutmix": 21}[mix]
    per_label = 2 * len(CLASSES) + 2 + recorded
    assert store.nbytes == EPOCHS * N * per_label
    assert sorted(os.listdir(tmp_path)) == ["FKD", "labels"]


def test_the_command_reads_published_labels_of_a_set_and_students_train_on_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, labels = str(tmp_path / "small.safetensors"), str(tmp_path / "labels.safetensors")
    assert main(["distill", "digits", "--method", "random", "--ipc", "2", "--out", small, "--quiet"]) == 0
    x = load(small).model_space()
    assert isinstance(x, Tensor)
    made = produce(tmp_path / "FKD", x, "cutmix", size=(8, 8), classes=10)
    settings = [small, "--data", "digits", "--network", "convnet-d1-w4", "--epochs", "3", "--quiet", "--json"]
    words = ["label", *settings, "--fkd", str(tmp_path / "FKD"), "--out", labels]
    capsys.readouterr()
    assert main([*words, "--pool", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["items"], said["epochs"], said["path"]) == (20, 2, labels)
    epoch, items, _, logits = made[1]
    found = LabelFile(Path(labels)).decode(epoch, items, 20.0)
    torch.testing.assert_close(found, (logits / 20).softmax(1), rtol=1e-2, atol=1e-3)
    asked = ["evaluate", *settings, "--protocol", "sre2l", "--stored", labels, "--seeds", "1", "--no-baselines"]
    assert main([*asked, "--no-full"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["stored_labels"] == said["bytes"]
    assert main([*words, "--store-as", "teacher"]) == 1
    assert "published labels are rows of pictures" in capsys.readouterr().err
    (tmp_path / "FKD" / "epoch_1" / "batch_0.tar").unlink()
    assert main([*words, "--out", str(tmp_path / "other.safetensors")]) == 1
    assert "get it again" in capsys.readouterr().err


def test_published_labels_are_made_smaller_on_the_way(tmp_path: Path) -> None:
    x = pictures()
    made = produce(tmp_path / "FKD", x, "cutmix")
    known = KNOWN | {"inputs_hash": hash_inputs(x), "epochs": 2, "top_k": 3, "dtype": "uint8", "level": False}
    store = import_flat(tmp_path / "FKD", tmp_path / "labels", **known)
    epoch, items, _, logits = made[4]
    true, top = (logits / 20).softmax(1), logits.topk(3, dim=1).indices
    found = store.decode(epoch, items, 20.0)
    torch.testing.assert_close(found.gather(1, top), true.gather(1, top), rtol=2e-2, atol=1e-3)


def test_the_order_is_that_of_torchs_sampler() -> None:
    seeded = torch.Generator()
    seeded.manual_seed(42)
    sampler = RandomSampler(range(N), generator=seeded)  # type: ignore[arg-type]
    for order in sampler_order(N, 4):
        assert order.tolist() == list(sampler)


class Run:
    """What a hostile pickle would have run."""

    def __init__(self, what: Any, *args: Any) -> None:
        self.what, self.args = what, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what, self.args


@pytest.mark.parametrize(
    "hostile",
    [
        Run(os.system, "echo run > ran"),
        Run(eval, "1"),
        Run(np.frombuffer, b"12345678"),
        np.zeros(3),
        np.array(None, dtype=object)[()],
        [np.datetime64("2020-01-01")],
        {1, 2},
        "text",
        [torch.zeros(1)] * 6,
    ],
)
def test_other_objects_are_refused_and_nothing_is_run(
    tmp_path: Path, hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FKD" / "epoch_0").mkdir(parents=True)
    torch.save(hostile, tmp_path / "FKD" / "epoch_0" / "batch_0.tar")
    with pytest.raises(PotstillError) as refused:
        import_flat("FKD", "labels", **KNOWN, inputs_hash="")
    assert "\n" not in str(refused.value)
    assert "not a batch of FKD labels" in str(refused.value)
    assert os.listdir(tmp_path) == ["FKD"]


def edited(path: Path, place: int, value: Any) -> None:
    config = torch.load(path, weights_only=False)
    config[place] = value
    torch.save(config, path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, torch.zeros(7, 4), "are required"),
        (0, torch.full((8, 4), 0.123), "whole pixels"),
        (0, torch.tensor([[0.5, 0.0, 1.0, 1.0]]).repeat(8, 1), "outside pictures"),
        (1, torch.zeros(8, 1), "are required"),
        (2, torch.full((8,), 8), "are required"),
        (2, torch.zeros(8), "are required"),
        (2, None, "mixed otherwise"),
        (3, 1.5, "are required"),
        (3, "0.5", "are required"),
        (4, [0, 0, 99, 2], "outside views"),
        (4, [0, 0, "1", 2], "are required"),
        (4, None, "mixed otherwise"),
        (5, torch.zeros(8, 8), "are required"),
        (5, torch.zeros(1).expand(2**40, 9), "are required"),
        (5, torch.full((8, 9), float("nan")), "finite"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, place: int, value: Any, said: str) -> None:
    produce(tmp_path / "FKD", pictures(), "cutmix")
    edited(tmp_path / "FKD" / "epoch_0" / "batch_1.tar", place, value)
    with pytest.raises(PotstillError, match=said):
        import_flat(tmp_path / "FKD", tmp_path / "labels", **KNOWN, inputs_hash="")
    assert not (tmp_path / "labels").exists()


def test_folders_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    x = pictures((10, 10))
    produce(tmp_path / "FKD", x, "cutmix", index=True)
    square = KNOWN | {"picture": (10, 10), "inputs_hash": ""}

    def refused(said: str, folder: str = "FKD", **changed: Any) -> None:
        with pytest.raises(PotstillError, match=said):
            import_flat(tmp_path / folder, tmp_path / "labels", **(square | changed))

    refused("epoch_0, epoch_1, … are required", "missing")
    refused("5 folders", epochs=5)
    refused("give items=22", items=21)
    refused("only known for square pictures", picture=(10, 20))
    refused(r"\[coords, flip", classes=CLASSES[1:])
    second = tmp_path / "FKD" / "epoch_1" / "batch_1.tar"
    second.rename(second.with_name("batch_7.tar"))
    refused("batch_1.tar: no such file")
    second.with_name("batch_7.tar").rename(second)
    edited(second, 6, torch.arange(8))
    refused("labelled once")
    produce(tmp_path / "shuffled", x, "cutmix", index=True, shuffled=True)
    refused("shuffled patches", "shuffled")
    (tmp_path / "empty" / "epoch_0").mkdir(parents=True)
    refused("there are none", "empty")
    bomb = tmp_path / "bomb" / "epoch_0" / "batch_0.tar"
    bomb.parent.mkdir(parents=True)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    refused("more than it weighs", "bomb")
    bomb.write_bytes(pickle.dumps(Run(os.system, "echo run > ran"), 2))
    refused("nothing of it was run", "bomb")


def test_damaged_recorded_views_are_refused(tmp_path: Path) -> None:
    x = pictures()
    produce(tmp_path / "FKD", x, "cutmix")
    import_flat(tmp_path / "FKD", tmp_path / "labels", **KNOWN, inputs_hash=hash_inputs(x))
    content = (tmp_path / "labels").read_bytes()
    length = 8 + struct.unpack("<Q", content[:8])[0]
    bare = re.sub(rb'"sha256":"\w{64}"', b'"nothing":"' + b"x" * 63 + b'"', content[:length])
    content = bare + content[length:]  # what holds without the hash
    assert len(bare) == length
    rest = len(content) - length
    for start in range(0, rest, rest // 40):
        # overwrite a stretch with the largest values
        damaged = bytearray(content)
        damaged[length + start : length + start + 64] = b"\xff\x7f" * 32
        (tmp_path / "damaged").write_bytes(damaged[: len(content)])
        store = LabelFile(tmp_path / "damaged")
        for epoch in range(EPOCHS):
            try:
                seen, rows = store.batch_of(x, epoch, torch.arange(N))
            except PotstillError as error:
                if "get the file again" not in str(error):
                    pytest.fail(str(error))
                continue
            assert seen.shape == (N, 3, *SIZE)
            assert bool(torch.isfinite(rows).all())
    with pytest.raises(PotstillError, match=r"pictures of \(10, 8\)"):
        LabelFile(tmp_path / "labels").view(torch.zeros(N, 3, 8, 10), 0, torch.arange(3))
