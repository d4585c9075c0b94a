"""A set as a Hugging Face data set: read and trained on by a process that has no Potstill, and its card."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from test_artefact import make

import potstill
from potstill.cli.main import main
from potstill.core import InputSpec, Normalization
from potstill.dataset_file import load
from potstill.errors import PotstillError
from potstill.exporters import push_to_hub, to_hf
from tests.build_set import build_set

BLOCKED = "import sys\nsys.modules['potstill'] = None\n"


def rows_of(folder: Path, tmp_path: Path) -> Any:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def program(folder: Path) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return str(found)


def run(folder: Path, code: str, tmp_path: Path) -> str:
    """What the program prints, beside its folder, where importing Potstill fails."""
    env = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], cwd=folder.parent, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_on_the_card_trains_without_potstill(tmp_path: Path) -> None:
    splits = potstill.load_data("digits")
    potstill.distill(splits, "herding", ipc=10, seed=1).save(tmp_path / "set.safetensors")
    folder = tmp_path / "hf"
    assert main(["export", str(tmp_path / "set.safetensors"), "--to", "hf", "--out", str(folder), "--quiet"]) == 0
    assert splits.test is not None
    everything = torch.arange(len(splits.test))
    torch.save([splits.test.raw(everything), splits.test.labels], tmp_path / "test.pt")
    code = program(folder)
    body = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(body) == 10
    code += (
        f"x, y = torch.load({str(tmp_path / 'test.pt')!r})\n"
        "right = (model(prepare(x)).argmax(1) == y).float().mean()\n"
        "print(float(right))\n"
    )
    assert float(run(folder, code, tmp_path)) > 0.8  # a tenth of that by chance


def test_rows_are_the_decoded_set_and_columns_say_what_they_are(tmp_path: Path) -> None:
    small = make(n=6, shape=(3, 5, 4), soft=True, low=-0.2)
    rows = rows_of(to_hf(small, tmp_path / "hf"), tmp_path)
    assert rows.features["label"].names == list(small.classes)
    assert rows.features["image"] == datasets.Image()
    torch_rows = rows.with_format("torch")[:]
    assert torch.equal(torch_rows["input"], small.inputs)
    assert torch.equal(torch_rows["soft_label"], small.labels)
    assert torch.equal(torch_rows["label"], small.hard_labels)
    assert rows[0]["image"].size == (4, 5)
    assert torch.equal(load(tmp_path / "hf" / "distilled.safetensors").inputs, small.inputs)


@pytest.mark.slow
def test_prepare_is_the_whitening_of_the_set(tmp_path: Path) -> None:
    small = make(n=6, shape=(1, 4, 4), whitening=True)
    folder = to_hf(small, tmp_path / "hf")
    run(folder, program(folder) + f"torch.save(x, {str(tmp_path / 'x.pt')!r})\n", tmp_path)
    assert torch.allclose(torch.load(tmp_path / "x.pt"), small.model_space(), atol=1e-5)


@pytest.mark.slow
def test_a_table_has_a_column_for_each_value_and_trains(tmp_path: Path) -> None:
    source = potstill.load_data("digits").train
    x = source.raw(torch.arange(60)).flatten(1)[:, 20:30]
    mean, std = x.mean(0), x.std(0) + 0.1
    small = build_set(
        x, source.labels[:60], method="random", config={}, seed=0, ipc=6, classes=source.classes,
        input=InputSpec(kind="table", shape=(10,), columns=(*(f"c{n}" for n in range(9)), "label")),
        normalization=Normalization(mean, std), training={}, source={"name": "t", "samples": 60, "hash": "ff"},
        outcome={"kind": "finished", "message": "done", "step": 0}, cost={}, weights=torch.arange(60.0),
    )  # fmt: skip
    folder = potstill.export(small, "hf", tmp_path / "hf")
    assert {"c0", "label_value", "label", "weight"} < set(rows_of(folder, tmp_path).column_names)
    run(folder, program(folder) + f"torch.save(x, {str(tmp_path / 'x.pt')!r})\n", tmp_path)
    assert torch.allclose(torch.load(tmp_path / "x.pt"), small.model_space(), atol=1e-5)


def test_the_header_is_what_the_hub_sorts_by_and_names_cannot_be_markup(tmp_path: Path) -> None:
    hostile = make(classes=("a|b", "<script>alert(1)</script>", "`\n# [x](y) \x1b[31m\u202e\udcff"))
    hostile.metadata["source"]["name"] = "---\nlicense: mit\n# <b>me</b>"
    folder = to_hf(hostile, tmp_path / "hf", license="cc-by-4.0")
    _, header, page = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["license"] == "cc-by-4.0"
    assert said["task_categories"] == ["image-classification"]
    assert {"dataset-distillation", "synthetic"} < set(said["tags"])
    assert "<" not in page.replace("```", "")
    assert page.count("\n# ") == 1
    assert "\x1b" not in page
    assert rows_of(folder, tmp_path).features["label"].names[1] == "<script>alert(1)</script>"


def test_a_selection_says_that_its_rows_are_real(tmp_path: Path) -> None:
    page = (to_hf(make(index=True), tmp_path / "hf") / "README.md").read_text()
    assert "coreset" in page
    assert "6 real samples, chosen from toy" in page
    assert "No licence is stated" in page


def test_a_path_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PotstillError, match="is there already"):
        to_hf(make(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


class Hub:
    """Keeps what it is asked to do."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, int] = {}
        self.refuses = refuses

    def create_repo(self, repo: str, **said: Any) -> str:
        self.asked.append((repo, said))
        return f"https://hub.example/datasets/{repo}"

    def upload_folder(self, *, folder_path: str, **said: Any) -> None:
        if self.refuses:
            raise OSError("no\nroute to host")
        self.asked.append((said["repo_id"], said))
        self.page = Path(folder_path, "README.md").read_text()
        self.files = {
            p.relative_to(folder_path).as_posix(): p.stat().st_size for p in Path(folder_path).rglob("*") if p.is_file()
        }


def test_pushing_uploads_the_folder_to_a_private_data_set() -> None:
    hub = Hub()
    assert push_to_hub(make(), "me/toy", api=hub) == "https://hub.example/datasets/me/toy"
    assert hub.asked[0] == ("me/toy", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert hub.asked[1][1]["repo_type"] == "dataset"
    assert {"README.md", "distilled.safetensors", "data/train-00000-of-00001.parquet"} <= set(hub.files)
    assert all(hub.files.values())
    assert 'load_dataset("me/toy", split="train")' in hub.page


def test_pushing_fails_in_one_line_and_a_public_set_needs_a_licence() -> None:
    with pytest.raises(PotstillError, match=r"^me/toy: not published \(OSError: no route to host\)"):
        push_to_hub(make(), "me/toy", api=Hub(refuses=True))
    hub = Hub()
    with pytest.raises(PotstillError, match="needs a licence"):
        push_to_hub(make(), "me/toy", private=False, api=hub)
    assert not hub.asked
