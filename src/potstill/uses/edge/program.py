"""The C trainer with a set's header: written to a folder, and compiled and run where there is a compiler."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.exporters.integers import IntegerSet, c_header
from potstill.uses.edge.learner import Head

__all__ = [
    "compile_trainer",
    "header_settings",
    "measure_program",
    "run_trainer",
    "sample_bytes",
    "write_program",
]

_FLAGS = ("-O2", "-std=c99")
MAX_TEST = 1000
"""Test samples that are written beside the program."""
_SECONDS = 600


def header_settings(head: Head) -> dict[str, str]:
    """Return a head's settings as macros of the header."""
    return {
        "HIDDEN": str(head.hidden), "UPDATES": str(head.updates), "BATCH": str(head.batch),
        "LR": f"{np.float32(head.lr):.9g}f" if head.lr != int(head.lr) else f"{head.lr:.1f}f",
    }  # fmt: skip


def sample_bytes(source: Source, most: int | None = None) -> bytes:
    """Return test samples as the program reads them: a class (uint16) and the values in data units (float32) of each.

    Args:
        most: the number of samples, evenly spaced; ``None``: all.
    """
    n = len(source)
    index = torch.arange(n) if most is None or most >= n else torch.linspace(0, n - 1, most).long()
    values = single_tensor(source.raw(index), "a test sample").flatten(1).cpu().float().numpy()
    records = np.zeros(len(index), dtype=[("label", "<u2"), ("values", "<f4", (values.shape[1],))])
    records["label"], records["values"] = source.labels[index].cpu().numpy(), values
    return records.tobytes()


def write_program(integers: IntegerSet, head: Head, test: Source, folder: Path) -> None:
    """Write ``set.h``, ``train.c`` and up to 1,000 samples as ``test.bin``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "set.h", c_header(integers, header_settings(head)).encode("ascii"))
    write_atomic(folder / "train.c", (resources.files(__package__) / "train.c").read_bytes())
    write_atomic(folder / "test.bin", sample_bytes(test, MAX_TEST))


def compile_trainer(folder: Path, out: Path) -> Path | None:
    """Compile ``train.c`` of a folder, and return the program; ``None``: there is no C compiler.

    Raises:
        PotstillError: the compiler refuses it.
    """
    if (compiler := shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")) is None:
        return None
    program = out / "train"
    command = [compiler, *_FLAGS, str(folder / "train.c"), f"-I{folder}", "-lm", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        why = " ".join(done.stderr.split())[:200]
        raise PotstillError(f"{folder / 'train.c'}: the C compiler refuses it ({why}); put another on the PATH")
    return program


def run_trainer(program: Path, test: Path, seed: int, weights: Path | None = None) -> Mapping[str, float]:
    """Run the program, and return the numbers that it prints, by name.

    Raises:
        PotstillError: it fails.
    """
    command = [str(program), str(test), str(seed), *([] if weights is None else [str(weights)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise PotstillError(f"the trainer in C failed: {' '.join(done.stderr.split())[:200]}; compile it again")
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def measure_program(folder: Path, test: Source, seeds: list[int], accuracies: list[float]) -> dict[str, Any]:
    """Compile the program of a folder, run it with the seeds of the NumPy learner, and compare.

    Args:
        folder: of `write_program`.
        test: all test samples.
        seeds: of the runs.
        accuracies: of the NumPy learner, one for each seed.

    Returns:
        Accuracies, the largest ``gap``, ``seconds`` of training (the least) and bytes of ``buffers``; or a ``reason``.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if (program := compile_trainer(folder, place)) is None:
            return {"reason": "no C compiler (cc, gcc or clang) is on the PATH"}
        (place / "all.bin").write_bytes(sample_bytes(test))
        runs = [run_trainer(program, place / "all.bin", seed) for seed in seeds]
    accuracies_in_c = [run["accuracy"] for run in runs]
    return {
        "accuracies": accuracies_in_c, "gap": max(abs(a - b) for a, b in zip(accuracies_in_c, accuracies, strict=True)),
        "seconds": min(run["seconds"] for run in runs), "buffers": int(runs[0]["buffers"]),
    }  # fmt: skip
