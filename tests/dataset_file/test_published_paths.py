"""Folders of somebody's machine are no part of a published set."""

from pathlib import Path

import pytest
import torch

import potstill
from potstill.exporters import to_hf
from potstill.exporters.paths import file_names_only, without_folders


@pytest.mark.parametrize(
    ("command", "short"),
    [
        ("potstill distill /home/me/scans --out /tmp/a.safetensors", "potstill distill scans --out a.safetensors"),
        ("potstill distill ~/x/y.csv --log tensorboard:/home/me/logs", "potstill distill y.csv --log tensorboard:logs"),
        ("potstill plan '/a b/my x.csv' --network=../n/net.py:Net", "potstill plan 'my x.csv' --network=net.py:Net"),
        ("potstill distill 'C:\\Users\\me\\x.npz'", "potstill distill x.npz"),
        ("potstill plan hub:uoft-cs/cifar10 --recipe a/edc", "potstill plan hub:uoft-cs/cifar10 --recipe a/edc"),
        ("potstill distill https://host/a/b.npz", "potstill distill https://host/a/b.npz"),
        ("potstill distill data/train --ipc 1", "potstill distill data/train --ipc 1"),
        ("potstill 'open", None),
    ],
)  # fmt: skip
def test_a_command_keeps_file_names_only(command: str, short: str | None) -> None:
    assert file_names_only(command) == short


def test_a_published_set_has_its_values_and_no_folders(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    small.metadata["command"] = "potstill distill /home/me/digits --ipc 1"
    small.record = {"source": {"notes": ["mnist: read from /home/me/mnist", "of 1/2 of them"]}}
    assert without_folders(small).notes == ("mnist: read from mnist", "of 1/2 of them")
    published = potstill.load(to_hf(small, tmp_path / "hf") / "distilled.safetensors")
    assert published.metadata["command"] == "potstill distill digits --ipc 1"
    assert torch.equal(published.inputs, small.inputs)
    assert b"/home/me" not in b"".join(path.read_bytes() for path in (tmp_path / "hf").rglob("*") if path.is_file())
    assert small.metadata["command"].endswith("/home/me/digits --ipc 1")
