"""Every message that the troubleshooting page quotes is raised by the code, for the cause that the page says."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from potstill.cli.main import main
from potstill.data import standard_datasets

PAGE = Path(__file__).resolve().parents[2] / "docs/guides/troubleshooting.md"
DISTILL = " --method dm --ipc 1 --out a.safetensors"
SMALL = "distill digits --method random --ipc 1 --out small.safetensors"
TABLE = "distill flowers.csv --label species"
COMMANDS = {
    "unknown method 'dmm'": "distill digits --method dmm --ipc 1 --out a.safetensors",
    "distill with --method dm has no option": f"distill digits --iteration 5{DISTILL}",
    "bad.yaml: no option": "distill digits --recipe bad.yaml --out a.safetensors",
    "distill: say once": "distill digits --method dm --out a.safetensors",
    "the budget must keep": "distill digits --method dm --items 5 --out a.safetensors",
    "method dm: iterations": f"distill digits --iterations 0{DISTILL}",
    "device 'cuda'": f"distill digits --device cuda{DISTILL}",
    "a log for mlflow": f"distill digits --log mlflow:x{DISTILL}",
    "--out a.txt": "distill digits --method dm --ipc 1 --out a.txt",
    "no/a.safetensors": "distill digits --method dm --ipc 1 --out no/a.safetensors",
    "small.safetensors: holds": "distill digits --method random --ipc 2 --out small.safetensors",
    "photos: is there": "export small.safetensors --to png --out photos",
    "cut.safetensors": "evaluate cut.safetensors --data digits",
    "flowers.csv: not a safetensors": "inspect flowers.csv",
    "small.safetensors: 2,627": "inspect small.safetensors --limit set_bytes=100",
    "res.pt": "import res.pt --known cifar10 --out b.safetensors",
    "unknown data set": f"distill photo{DISTILL}",
    "fashion-mnist": f"distill fashion-mnist --data-root data{DISTILL}",
    "one: there is one class folder": f"distill one{DISTILL}",
    "flat: there are 1 pictures": f"distill flat{DISTILL}",
    "broken/rose/3.png": f"distill broken{DISTILL}",
    "flowers.csv: there is no column": f"distill flowers.csv{DISTILL}",
    "gaps.csv": f"distill gaps.csv --label species{DISTILL}",
    "prices.csv: label": f"distill prices.csv --label price{DISTILL}",
    "prices.csv has no classes": f"distill prices.csv --label price --task regression{DISTILL}",
    "nan[3, 0, 0]": f"distill nan.npz{DISTILL}",
    "nolabels": f"distill nolabels.npz{DISTILL}",
    "size: training inputs": f"distill size.npz{DISTILL}",
    "method sre2l": f"{TABLE} --method sre2l --ipc 1 --out a.safetensors",
    "network convnet": f"{TABLE} --network convnet{DISTILL}",
    "palette needs": f"{TABLE} --codec palette{DISTILL}",
    "network net.py:make": f"distill digits --network net.py:make{DISTILL}",
    "the classes of dc": "distill digits --method dc --ipc 1 --class-shards 2 --out a.safetensors",
    "small.safetensors was not made": "use deletion small.safetensors --data digits --delete 1 --out a.safetensors",
    "frepo works on all": "use deletion --data digits --make frepo --ipc 1 --out a.safetensors",
    "augmentation dsa": "use augmentation flowers.csv --label species --augment dsa --out j",
    "a false-positive rate of 0.0001": "audit privacy small.safetensors --data digits --fpr 0.0001",
    "the set has 10 classes": "evaluate small.safetensors --data photos",
    "class '0' stands": "use continual digits --step-classes 0,1/0,2 --out stream",
    "fedavg:1 averages": "use federated digits --ways fedavg:1 --networks mlp-w4,mlp-w8 --clients 2 --splits 1 --out f",
    "way averages sends": "use federated digits --ways averages --bytes 20 --clients 2 --networks mlp-w4 --out g",
    "of 2 clients 0 to 1": "use federated digits --drop 2 --clients 2 --splits 1 --networks mlp-w4 --out i",
    "real_weights attribute needs": f"distill digits --real-weights attribute{DISTILL}",
    "a natural partition": "use federated digits --partition groups --out h",
    "this set was not made": "evaluate small.safetensors --data photos",
}
"""Commands by the beginning of the message that they end with."""


class Malicious:
    """An object whose unpickling runs a command."""

    def __reduce__(self):
        return os.system, ("true",)


def quoted_messages() -> list[str]:
    """Return the messages in the first column of the page's tables."""
    return re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def write_pictures(root: Path, *classes: str) -> None:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8, 3), 100 * c + i, np.uint8)).save(root / name / f"{i}.png")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with one input for each thing that may be wrong with it."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", "rose", "tulip")
    write_pictures(tmp_path / "broken", "rose", "tulip")
    (tmp_path / "broken/rose/3.png").write_bytes(b"not a picture")
    write_pictures(tmp_path / "one", "rose")
    (tmp_path / "flat").mkdir()
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat/1.png")
    rows = [f"{i / 8},{1 - i / 8},{'ab'[i % 2]}" for i in range(30)]
    (tmp_path / "flowers.csv").write_text("\n".join(["length,width,species", *rows]))
    (tmp_path / "gaps.csv").write_text("\n".join(["length,width,species", *rows[:4], ",1,a", *rows[5:]]))
    prices = [f"{i},{-i},{i * 1.5}" for i in range(30)]
    (tmp_path / "prices.csv").write_text("\n".join(["length,width,price", *prices]))
    x, y = np.linspace(0, 1, 20 * 64, dtype=np.float32).reshape(20, 8, 8), np.arange(20) % 2
    np.savez("nan.npz", x_train=np.where(np.arange(20)[:, None, None] == 3, np.nan, x), y_train=y)
    np.savez("nolabels.npz", x=x)
    np.savez("size.npz", x_train=x, y_train=y, x_test=x[:, :4], y_test=y)
    (tmp_path / "bad.yaml").write_text("method: dm\nipcs: 10\n")
    (tmp_path / "net.py").write_text("from torch import nn\n\n\ndef make():\n    return nn.Flatten()\n")
    torch.save({"data": [Malicious()]}, "res.pt")
    return tmp_path


def test_the_page_has_the_commonest_messages_once():
    messages = quoted_messages()
    assert len(messages) >= 25
    assert len(set(messages)) == len(messages)
    assert all(any(m.startswith(start) for start in COMMANDS) for m in messages)


@pytest.mark.parametrize("start", COMMANDS)
def test_a_quoted_message_is_what_the_command_says(start, workplace, monkeypatch, capsys):
    (message,) = [m for m in quoted_messages() if m.startswith(start)]
    command = COMMANDS[start].split()
    monkeypatch.setattr(standard_datasets, "PACKAGE", "no-such-package")
    monkeypatch.setattr(standard_datasets, "SYSTEM", ())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if {"small.safetensors", "cut.safetensors"} & set(command):
        assert main([*SMALL.split(), "--quiet"]) == 0
        Path("cut.safetensors").write_bytes(Path("small.safetensors").read_bytes()[:300])
    capsys.readouterr()
    try:
        status = main(command)
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    assert _without_sizes(message) in _without_sizes(capsys.readouterr().err)


def _without_sizes(message):
    """Leave out the bytes of a file, which holds versions and durations of the machine that made it."""
    return re.sub(r"\d[\d,]* bytes", "N bytes", message)
