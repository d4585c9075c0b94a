"""Sets as integers: what is decoded, how large it is, and that no class name becomes C."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.core import Normalization
from potstill.errors import PotstillError
from potstill.exporters.integers import c_header, pack_integers, to_integers

PLAIN = Normalization(torch.zeros(1), torch.ones(1))
NASTY = ('*/ #include "x"', 'a"; int main(void) {', "back\\", "line\nbreak", "??/", "naïve")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) is on the PATH")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def small() -> potstill.Distilled:
    return potstill.distill("digits", "herding", ipc=2, progress=None)


@pytest.mark.parametrize(("bits", "levels"), [(8, 255), (4, 15)])
@pytest.mark.parametrize("shape", [(7, 3, 5, 5), (9, 11), (6, 2, 9)])
def test_decoded_inputs_are_within_one_step_of_each_channel(bits: int, levels: int, shape: tuple[int, ...]) -> None:
    x = drawn(*shape) * 3 + 100
    made = pack_integers(x, torch.zeros(shape[0], dtype=torch.int64), PLAIN, ("a", "b"), bits)
    flat = x.reshape(shape[0], shape[1] if len(shape) > 2 else 1, -1)
    step = (flat.amax((0, 2)) - flat.amin((0, 2))) / levels
    error = (torch.from_numpy(made.decoded_inputs()).reshape(flat.shape) - flat).abs().amax((0, 2))
    assert (error <= 1.01 * step).all()
    assert (error >= step / 20).all(), "integers of so few bits cannot be this near"
    assert len(made.scale) == (shape[1] if len(shape) > 2 else 1)


def test_constant_inputs_are_exact() -> None:
    for value in (0.0, -2.5, 7.0):
        made = pack_integers(torch.full((3, 4), value), torch.tensor([0, 1, 0]), PLAIN, ("a", "b"), 4)
        assert (made.decoded_inputs() == value).all()


def test_labels_are_numbers_or_rows_of_eight_bits() -> None:
    hard = pack_integers(drawn(3, 4), torch.tensor([0, 2, 1]), PLAIN, ("a", "b", "c"))
    assert hard.decoded_labels().argmax(1).tolist() == [0, 2, 1]
    assert hard.labels.dtype == np.uint8
    rows = torch.softmax(3 * drawn(5, 3), 1)
    soft = pack_integers(drawn(5, 4), rows, PLAIN, ("a", "b", "c"))
    assert np.abs(soft.decoded_labels() - rows.numpy()).max() < 0.004
    flat = pack_integers(drawn(1, 4), torch.full((1, 900), 1 / 900), PLAIN, [str(c) for c in range(900)])
    assert flat.decoded_labels().sum() == pytest.approx(1, abs=1e-4)
    many = pack_integers(drawn(1, 4), torch.tensor([700]), PLAIN, [str(c) for c in range(900)])
    assert (many.labels.dtype, many.labels.tolist()) == (np.uint16, [700])


def test_bytes_are_those_of_the_arrays() -> None:
    y, classes = torch.zeros(5, dtype=torch.int64), ("a", "b")
    assert pack_integers(drawn(5, 1, 3, 3), y, PLAIN, classes, 8).bytes == 5 * 9 + 5 + 8
    assert pack_integers(drawn(5, 1, 3, 3), y, PLAIN, classes, 4).bytes == 23 + 5 + 8
    assert pack_integers(drawn(5, 1, 3, 3), y, PLAIN, classes, 4, weights=torch.ones(5)).bytes == 23 + 5 + 8 + 20


def test_an_npz_holds_the_same_integers(small: potstill.Distilled, tmp_path: Path) -> None:
    made = to_integers(small, 4)
    path = potstill.export(small, "npz-integers", tmp_path / "s.npz", bits=4)
    with np.load(path, allow_pickle=False) as held:
        assert (held["inputs"] == made.inputs).all()
        assert (held["labels"] == made.labels).all()
        assert (held["scale"], held["bits"].item(), held["shape"].tolist()) == (made.scale, 4, [1, 8, 8])
    x = small.model_space().flatten(1)
    assert np.abs(made.decoded_inputs() - x.numpy()).max() <= 1.01 * made.scale[0]
    potstill.export(small, "npz-integers", path)  # its own export is replaced


@needs_compiler
@pytest.mark.parametrize("bits", [8, 4])
def test_no_class_name_becomes_c(bits: int, tmp_path: Path) -> None:
    made = pack_integers(drawn(6, 3), torch.arange(6), PLAIN, NASTY, bits)
    (tmp_path / "set.h").write_text(c_header(made), encoding="ascii")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "set.h"\nint main(void) {\n'
        "  for (int k = 0; k < POTSTILL_CLASSES; k++) puts(potstill_class_names[k]);\n"
        "  (void)potstill_inputs; (void)potstill_labels; (void)potstill_scale; (void)potstill_zero;\n"
        "  (void)potstill_mean; (void)potstill_std;\n  return 0;\n}\n"
    )
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    shown = subprocess.run([str(tmp_path / "main")], capture_output=True, check=True).stdout.decode()
    assert shown.splitlines() == [name.replace("\n", " ") for name in NASTY]


def test_a_header_replaces_a_header_and_nothing_else(small: potstill.Distilled, tmp_path: Path) -> None:
    path = potstill.export(small, "c-header", tmp_path / "s.h")
    first = path.read_text()
    potstill.export(small, "c-header", path, bits=4)
    assert path.read_text() != first
    (tmp_path / "mine.h").write_text("int mine;\n")
    with pytest.raises(PotstillError, match="is there already, and is no exported set"):
        potstill.export(small, "c-header", tmp_path / "mine.h")
    assert (tmp_path / "mine.h").read_text() == "int mine;\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 2}, "has 8 or 4 bits a value, not 2"),
        ({"classes": ("a",)}, "has two classes or more, but this set has 1"),
        ({"x": torch.full((2, 3), float("nan"))}, "holds finite values, but this set has others"),
    ],
)
def test_bad_integers_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    good = {"x": drawn(2, 3), "classes": ("a", "b"), "bits": 8, **arguments}
    with pytest.raises(PotstillError, match=message) as error:
        pack_integers(good["x"], torch.tensor([0, 0]), PLAIN, good["classes"], good["bits"])
    assert "\n" not in str(error.value)


def test_sets_without_classes_or_of_several_tensors_are_refused(tmp_path: Path) -> None:
    table = potstill.load_data((drawn(40, 3), drawn(40)), task="regression")
    numbers = potstill.distill(table, "random", items=4, progress=None)
    with pytest.raises(PotstillError, match="has classes, but this set is for task regression"):
        potstill.export(numbers, "c-header", tmp_path / "s.h")
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 9, 9)).save(tmp_path / f"{i}.png")
    rows = (json.dumps({"file_name": f"{i}.png", "text": f"square {i}"}) for i in range(12))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    pairs = potstill.distill(potstill.load_data(tmp_path, task="retrieval"), "random", items=4, progress=None)
    with pytest.raises(PotstillError, match="holds inputs of one tensor of numbers, but this set holds image, text"):
        to_integers(pairs)
    white = potstill.distill("digits", "random", ipc=1, zca="frepo", progress=None)
    with pytest.raises(PotstillError, match="are whitened by a matrix"):
        to_integers(white)


def test_bits_are_of_integers_alone(small: potstill.Distilled, tmp_path: Path, capsys: Any) -> None:
    for to in ("npz", "indices"):
        with pytest.raises(PotstillError, match=f"bits are of c-header and npz-integers, but this export is to {to}"):
            potstill.export(small, to, tmp_path / "s.safetensors", bits=4)
    path = small.save(tmp_path / "set.safetensors")
    base = ["export", str(path), "--out", str(tmp_path / "s.h")]
    assert main([*base, "--to", "c-header", "--bits", "4"]) == 0
    assert "#define POTSTILL_BITS 4" in (tmp_path / "s.h").read_text()
    assert main([*base[:-1], str(tmp_path / "s.npz"), "--to", "npz", "--bits", "4"]) == 2
    assert main([*base[:-1], str(tmp_path / "s.txt"), "--to", "c-header"]) == 2
