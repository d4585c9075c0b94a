"""What is written is on the disk, and so is its name, before anybody says that it is written; else it is said."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from potstill._util.atomic_write import write_atomic
from potstill.dataset_file import memmap_safetensors
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="which file is synced is read from /proc")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order: files and folders that are synced by name, and renames."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append(f"sync {'part' if name.endswith('.part') else name}")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        seen.append(f"rename {os.path.basename(target)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(tmp_path: Path, calls: list[str]) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    write_atomic(folder / "a.bin", b"x")
    assert calls == ["sync part", "rename a.bin", "sync here"]


def test_all_that_a_new_folder_holds_is_synced_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def fill(part: Path) -> None:
        (part / "sub").mkdir()
        (part / "a.txt").write_text("a")
        (part / "sub" / "b.txt").write_text("b")

    write_folder(home / "made", fill)
    assert sorted(calls[:4]) == ["sync a.txt", "sync b.txt", "sync part", "sync sub"]
    assert calls[4:] == ["rename made", "sync home"]


def test_a_disk_that_does_not_confirm_a_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refusing(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    with pytest.raises(PotstillError, match="is written, but the disk does not confirm it"):
        write_atomic(tmp_path / "a.bin", b"x")
    assert (tmp_path / "a.bin").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_file_systems_without_that_are_not_complained_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def unable(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", unable)
    write_atomic(tmp_path / "a.bin", b"x")


def test_what_closing_a_file_cannot_write_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills while rows are still in the buffer: the flush fails, and once more when the file is closed."""
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    planned = memmap_safetensors.plan_layout(
        {"rows": memmap_safetensors.TensorField("F32", (2, 2, 64))}, {"about": "x"}
    )
    monkeypatch.setattr(os, "posix_fallocate", lambda *of: None)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make(first: int, end: int) -> dict[str, np.ndarray]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(planned.header), limits[1]))
        return {"rows": np.ones((end - first, 64), np.float32)}

    try:
        with pytest.raises(PotstillError, match=r"could not be written \(File too large\); free space"):
            memmap_safetensors.write_in_parts(tmp_path / "a", planned, [(0, 2), (2, 4)], make)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, was)
    assert not (tmp_path / "a").exists()
    memmap_safetensors.write_in_parts(
        tmp_path / "a", planned, [(0, 2), (2, 4)], lambda a, b: {"rows": np.ones((b - a, 64), np.float32)}
    )
